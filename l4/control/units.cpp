#include "l4/control/units.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include "l4/control/model.h"

namespace weir::control {
namespace {

constexpr std::uint64_t kKi = std::uint64_t{1} << 10;
constexpr std::uint64_t kMi = std::uint64_t{1} << 20;
constexpr std::uint64_t kGi = std::uint64_t{1} << 30;

// In rising order: in_units() takes the last that divides.
constexpr std::array<Unit, 4> kByteUnits{{{"B", 1}, {"Ki", kKi}, {"Mi", kMi}, {"Gi", kGi}}};
constexpr std::array<Unit, 4> kTimeUnits{{{"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}}};
constexpr std::array<Unit, 5> kCountUnits{
    {{"", 1}, {"k", 1000}, {"Ki", kKi}, {"M", 1'000'000}, {"Mi", kMi}}};
constexpr std::array<Unit, 5> kRateUnits{
    {{"/s", 1}, {"k/s", 1000}, {"Ki/s", kKi}, {"M/s", 1'000'000}, {"Mi/s", kMi}}};

}  // namespace

std::span<const Unit> byte_units() { return kByteUnits; }
std::span<const Unit> time_units() { return kTimeUnits; }
std::span<const Unit> count_units() { return kCountUnits; }
std::span<const Unit> rate_units() { return kRateUnits; }

std::optional<std::uint64_t> decimal(std::string_view text) {
  if (text.empty() || (text.size() > 1 && text.front() == '0')) return std::nullopt;
  std::uint64_t value = 0;
  const char* last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  if (error != std::errc{} || end != last) return std::nullopt;
  return value;
}

std::optional<std::uint64_t> with_unit(std::string_view text, std::span<const Unit> units) {
  const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const std::optional<std::uint64_t> count = decimal(text.substr(0, digits));
  if (!count) return std::nullopt;
  if (*count == 0 && digits == text.size()) return 0;
  for (const Unit& unit : units) {
    if (text.substr(digits) != unit.suffix) continue;
    if (*count > std::numeric_limits<std::uint64_t>::max() / unit.factor) return std::nullopt;
    return *count * unit.factor;
  }
  return std::nullopt;
}

std::string in_units(std::uint64_t value, std::span<const Unit> units) {
  if (value == 0) return "0";
  std::string text;
  for (const Unit& unit : units) {
    if (value % unit.factor == 0) text = fmt::format("{}{}", value / unit.factor, unit.suffix);
  }
  return text;
}

std::optional<std::uint32_t> parse_share(std::string_view text) {
  constexpr std::uint32_t kPercent = kShareWhole / 100;
  constexpr std::size_t kDigitsMax = 3;
  if (!text.ends_with('%')) return std::nullopt;
  text.remove_suffix(1);
  const std::size_t point = std::min(text.find('.'), text.size());
  const std::optional<std::uint64_t> whole = decimal(text.substr(0, point));
  if (!whole || *whole > 100) return std::nullopt;
  std::uint64_t share = *whole * kPercent;
  if (point < text.size()) {
    const std::string_view digits = text.substr(point + 1);
    if (digits.empty() || digits.size() > kDigitsMax || !std::ranges::all_of(digits, is_digit))
      return std::nullopt;
    std::uint64_t unit = kPercent;
    for (const char digit : digits) {
      unit /= 10;
      share += unit * static_cast<std::uint64_t>(digit - '0');
    }
  }
  return share <= kShareWhole ? std::optional{static_cast<std::uint32_t>(share)} : std::nullopt;
}

std::string share_text(std::uint32_t share) {
  constexpr std::uint32_t kPercent = kShareWhole / 100;
  std::string text = fmt::format("{}.{:03}", share / kPercent, share % kPercent);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.ends_with('.')) text.pop_back();
  return text + "%";
}

Result<std::uint32_t> parse_rate(std::string_view text) {
  const std::optional<std::uint64_t> rate = with_unit(text, kRateUnits);
  if (rate && *rate >= 1 && *rate <= kRateMax) return static_cast<std::uint32_t>(*rate);
  return Error{ErrorCode::kInvalid,
               fmt::format("'{}' is not a rate from 1/s to {}, such as 200/s or 10k/s", text,
                           in_units(kRateMax, kRateUnits))};
}

Result<std::uint32_t> parse_affinity_timeout(std::string_view text) {
  const std::optional<std::uint64_t> time_ms = with_unit(text, kTimeUnits);
  if (time_ms && *time_ms >= 1000 && *time_ms % 1000 == 0 &&
      *time_ms / 1000 <= kAffinityTimeoutMaxS)
    return static_cast<std::uint32_t>(*time_ms / 1000);
  return Error{ErrorCode::kInvalid,
               fmt::format("'{}' is not a time in whole seconds from 1s to {}, such as 3h", text,
                           in_units(std::uint64_t{kAffinityTimeoutMaxS} * 1000, kTimeUnits))};
}

}  // namespace weir::control
