#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace weir::http {

/// The Date field's value (RFC 9110, section 5.6.7, IMF-fixdate) of one second, written again only
/// when asked for another one.
class DateText {
 public:
  static constexpr std::size_t kBytes = 29;  ///< "Sun, 06 Nov 1994 08:49:37 GMT"

  /// Of a time since 1970, leap seconds not counted, before the year 10000. Valid until the next
  /// call.
  [[nodiscard]] std::string_view of(std::uint64_t unix_seconds);

 private:
  std::uint64_t written_ = UINT64_MAX;
  std::array<char, kBytes> text_{};
};

}  // namespace weir::http
