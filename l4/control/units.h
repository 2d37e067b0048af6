#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "l4/base/result.h"

/// Numbers with units, as people write them in the file and on the command line: 32Ki, 5s, 200/s.
namespace weir::control {

struct Unit {
  std::string_view suffix;
  std::uint64_t factor;
};

std::span<const Unit> byte_units();   ///< B, Ki, Mi, Gi
std::span<const Unit> time_units();   ///< ms, s, m, h; in milliseconds
std::span<const Unit> count_units();  ///< none, k, M, Ki, Mi
std::span<const Unit> rate_units();   ///< /s, k/s, M/s, Ki/s, Mi/s

/// Whatever the locale.
constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// Decimal digits only: no sign, no leading zero that another reader might take for octal.
std::optional<std::uint64_t> decimal(std::string_view text);

/// A whole number followed by one of the units; a bare 0 needs none.
std::optional<std::uint64_t> with_unit(std::string_view text, std::span<const Unit> units);

/// The value in its largest whole unit, as a person would write it.
std::string in_units(std::uint64_t value, std::span<const Unit> units);

/// "10%", "0.5%": of kShareWhole; at most three digits behind the point.
std::optional<std::uint32_t> parse_share(std::string_view text);
std::string share_text(std::uint32_t share);

/// "200/s"; from 1/s to kRateMax.
Result<std::uint32_t> parse_rate(std::string_view text);
/// "3h" in whole seconds, from 1s to kAffinityTimeoutMaxS.
Result<std::uint32_t> parse_affinity_timeout(std::string_view text);

}  // namespace weir::control
