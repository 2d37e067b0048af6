#pragma once

#include <chrono>
#include <cstdint>

namespace weir {

using Duration = std::chrono::nanoseconds;

/// Tag of the monotonic time line that protocol code is given; it never reads a clock itself.
struct MonotonicTimeline {
  using rep = Duration::rep;
  using period = Duration::period;
  using duration = Duration;
  using time_point = std::chrono::time_point<MonotonicTimeline, Duration>;
  static constexpr bool is_steady = true;
};

/// A point in monotonic time. The epoch has no meaning; only differences do.
using Instant = MonotonicTimeline::time_point;

/// Later than any deadline: "no timer is set".
inline constexpr Instant kNever = Instant::max();

/// The real monotonic clock. Called once per turn of a loop, at its top.
inline Instant monotonic_now() {
  return Instant{
      std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now().time_since_epoch())};
}

/// Seconds since 1970, for what people read; jumps where the host's clock is set.
inline std::int64_t unix_now_s() {
  return std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
}

/// A clock that tests and simulations move by hand.
class ManualClock {
 public:
  [[nodiscard]] Instant now() const { return now_; }
  void advance(Duration by) { now_ += by; }
  void advance_to(Instant to) {
    if (to > now_) now_ = to;
  }

 private:
  // Not the epoch: a zero time stamp must not look like "never happened".
  Instant now_{std::chrono::seconds{1000}};
};

}  // namespace weir
