#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "l4/base/random.h"
#include "l7/http/message.h"

namespace weir::proxy {

/// W3C Trace Context, level 1 (Recommendation of 2021-11-23).
struct TraceContext {
  std::array<char, 32> trace_id{};  ///< lower-case hexadecimal
  bool sampled = false;

  [[nodiscard]] std::string_view id() const { return {trace_id.data(), trace_id.size()}; }
};

/// Section 3.2: the header of version 00, and of later ones what 00 knows of it. Nothing where it
/// breaks a rule.
std::optional<TraceContext> parse_traceparent(std::string_view value);

/// Goes on with the trace that a request belongs to, or begins one, and puts us into it as the
/// parent of what the endpoint does: rewrites traceparent, and drops a tracestate that belongs to
/// none (section 3.3.1.1).
TraceContext continue_trace(http::HeaderList& fields, Random& random);

}  // namespace weir::proxy
