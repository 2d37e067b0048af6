#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "l4/base/clock.h"

namespace weir::http {

/// What a peer may not do for ever over HTTP/2, although each single frame of it is allowed. The
/// names are those of counters.
enum class H2Abuse : std::uint8_t {
  kRapidReset,    ///< streams opened and reset (CVE-2023-44487)
  kMadeReset,     ///< streams that we had to reset for their faults (CVE-2025-8671)
  kContinuation,  ///< a head in endless CONTINUATION frames (CVE-2024-28182)
  kPing,
  kSettings,
  kPriority,
  kWindowUpdate,
  kEmptyFrame,  ///< DATA without a byte that ends nothing
  kUnknownFrame,
  kTinyWindow,  ///< windows that make us send crumbs
  kHeaderList,  ///< a head that unpacks to many times what is allowed
  kMemory,      ///< more memory than one session may take, or all of them
  kQueue,       ///< answers that it provokes and does not read
};
inline constexpr std::size_t kH2AbuseCount = static_cast<std::size_t>(H2Abuse::kQueue) + 1;

constexpr std::string_view text_of(H2Abuse abuse) {
  constexpr std::array<std::string_view, kH2AbuseCount> kNames{
      "rapid_reset", "made_reset",    "continuation", "ping",          "settings",
      "priority",    "window_update", "empty_frame",  "unknown_frame", "tiny_window",
      "header_list", "memory",        "queue"};
  return kNames[static_cast<std::size_t>(abuse)];
}

/// `burst` events at once, and `per_second` of them for ever: the generic cell rate algorithm,
/// which needs one time stamp and no timer.
class RateBudget {
 public:
  RateBudget(std::uint32_t burst, std::uint32_t per_second)
      : interval_{Duration{std::chrono::seconds{1}} / per_second}, depth_{interval_ * burst} {}

  /// One more event; false when it is one too many.
  [[nodiscard]] bool spend(Instant now) {
    full_at_ = std::max(full_at_, now) + interval_;
    return full_at_ - now <= depth_;
  }
  /// What gives cause for `events` of them.
  void refund(std::uint32_t events) { full_at_ -= interval_ * events; }

 private:
  Duration interval_;
  Duration depth_;
  Instant full_at_{};  // when the whole burst is there again; in the past: it is
};

}  // namespace weir::http
