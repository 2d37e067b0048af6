#pragma once

#include <algorithm>
#include <cstdint>

#include "l4/base/clock.h"

namespace weir::tcp {

/// The smallest round trip of the last ten to twenty seconds: what the path takes without a queue.
class MinRtt {
 public:
  void sample(Duration rtt, Instant now) {
    if (now - since_ > kPeriod) {
      previous_us_ = now - since_ > 2 * kPeriod ? kNone : current_us_;
      current_us_ = kNone;
      since_ = now;
    }
    const auto us = std::chrono::duration_cast<std::chrono::microseconds>(rtt).count();
    current_us_ =
        std::min(current_us_, static_cast<std::uint32_t>(std::min<std::int64_t>(us, kNone - 1)));
  }
  /// Zero before the first sample, and for less than a microsecond.
  [[nodiscard]] Duration value() const {
    const std::uint32_t least = std::min(previous_us_, current_us_);
    return std::chrono::microseconds{least == kNone ? 0 : least};
  }

 private:
  static constexpr Duration kPeriod = std::chrono::seconds{10};
  static constexpr std::uint32_t kNone = UINT32_MAX;
  std::uint32_t previous_us_ = kNone;
  std::uint32_t current_us_ = kNone;
  Instant since_{};
};

/// Round-trip estimate and retransmission time-out (RFC 6298). Which samples may be taken (Karn's
/// rule, section 3) is the caller's business.
class RttEstimator {
 public:
  static constexpr Duration kInitial = std::chrono::seconds{1};
  static constexpr Duration kAfterLostSyn = std::chrono::seconds{3};        ///< section 5.7
  static constexpr Duration kMax = std::chrono::seconds{60};                ///< section 2.5
  static constexpr Duration kGranularity = std::chrono::microseconds{100};  ///< the timer wheel's

  explicit RttEstimator(Duration timeout_min)
      : timeout_min_us_{static_cast<std::uint32_t>(
            std::chrono::duration_cast<std::chrono::microseconds>(std::min(timeout_min, kMax))
                .count())} {}

  void sample(Duration rtt) {
    if (!measured_) {
      smoothed_ = rtt;
      variation_ = rtt / 2;
      measured_ = true;
    } else {
      const Duration error = smoothed_ > rtt ? smoothed_ - rtt : rtt - smoothed_;
      variation_ += (error - variation_) / 4;
      smoothed_ += (rtt - smoothed_) / 8;
    }
    backoff_ = 0;
  }

  /// Doubles the time-out until the next sample. An ACK of retransmitted data does not end that: if
  /// the path has become slower than the time-out, no segment would ever be measured (Karn).
  void back_off() {
    if (backoff_ < kBackoffMax) ++backoff_;
  }

  /// The handshake needed a retransmission and gave no sample.
  void syn_was_lost() {
    syn_lost_ = true;
    backoff_ = 0;
  }

  /// The timer was wrong: what it waited for had only been slow.
  void undo_back_off() { backoff_ = 0; }

  [[nodiscard]] bool measured() const { return measured_; }
  [[nodiscard]] Duration smoothed() const { return smoothed_; }
  [[nodiscard]] unsigned backoff() const { return backoff_; }

  [[nodiscard]] Duration timeout() const {
    Duration base = syn_lost_ ? kAfterLostSyn : kInitial;
    if (measured_)
      base = std::max<Duration>(std::chrono::microseconds{timeout_min_us_},
                                smoothed_ + std::max(kGranularity, 4 * variation_));
    return std::min(kMax, std::min(kMax, base) * (std::int64_t{1} << backoff_));
  }

 private:
  static constexpr unsigned kBackoffMax = 12;  // 2^12 times the smallest floor exceeds kMax

  Duration smoothed_{};
  Duration variation_{};
  std::uint32_t timeout_min_us_;
  std::uint8_t backoff_ = 0;
  bool measured_ = false;
  bool syn_lost_ = false;
};

}  // namespace weir::tcp
