#pragma once

#include <array>
#include <optional>
#include <string_view>

#include "l4/base/clock.h"
#include "l4/control/value_template.h"

namespace weir::proxy {

class Exchange;

/// What texts with variables are about.
struct ValueSource {
  const Exchange& exchange;
  Instant now{};
  std::optional<Duration> to_unix{};  ///< what is to be added to an instant for the time since 1970
};

/// Where values are written that are no text yet.
using ValueScratch = std::array<char, 64>;

/// The value of a part's variable, as it came: who puts it somewhere sees to it that it fits there.
/// Empty where there is no such thing. Lives as long as the exchange's head and `scratch` do.
/// Headers are those of the request as they are now.
[[nodiscard]] std::string_view value_of(const ValueSource& source,
                                        const control::TemplatePart& part, ValueScratch& scratch);

}  // namespace weir::proxy
