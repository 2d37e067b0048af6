#pragma once

#include <cstdint>

#include "l4/base/clock.h"

namespace weir::proxy {

/// Whether bytes come as fast as they must, window by window: an average over a whole body would
/// let who was fast at first be slow for hours. A window in which it was us who did not take what
/// came says nothing and is not counted.
///
///   rate.start(bytes_per_s, received, now);        // with the first byte of a body, or before
///   …                                              // rate.not_ready() while the reader is full
///   if (rate.is_too_slow(received, now)) …         // whenever time has passed
///
/// The first window is the grace: nothing is wrong before deadline().
class MinimumRate {
 public:
  static constexpr Duration kWindow = std::chrono::seconds{10};

  /// 0 bytes per second: never too slow.
  void start(std::uint32_t bytes_per_s, std::uint64_t received, Instant now) {
    bytes_per_s_ = bytes_per_s;
    begin_window(received, now);
  }
  void stop() { bytes_per_s_ = 0; }
  [[nodiscard]] bool active() const { return bytes_per_s_ != 0; }

  /// The sender could not have gone on: what has been sent waits for somebody else.
  void not_ready() { excused_ = true; }

  /// When to ask next.
  [[nodiscard]] Instant deadline() const { return active() ? window_end_ : kNever; }

  /// True once a window has passed in which less has come than must have.
  [[nodiscard]] bool is_too_slow(std::uint64_t received, Instant now) {
    if (!active() || now < window_end_) return false;
    constexpr auto kWindowSeconds = std::chrono::duration_cast<std::chrono::seconds>(kWindow);
    const std::uint64_t wanted = bytes_per_s_ * static_cast<std::uint64_t>(kWindowSeconds.count());
    const bool slow = !excused_ && received - received_before_ < wanted;
    begin_window(received, now);
    return slow;
  }

 private:
  void begin_window(std::uint64_t received, Instant now) {
    received_before_ = received;
    window_end_ = now + kWindow;
    excused_ = false;
  }

  std::uint64_t bytes_per_s_ = 0;
  std::uint64_t received_before_ = 0;
  Instant window_end_{};
  bool excused_ = false;
};

}  // namespace weir::proxy
