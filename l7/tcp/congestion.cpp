#include "l7/tcp/congestion.h"

#include <algorithm>
#include <cmath>

#include "l4/base/assert.h"

namespace weir::tcp {
namespace {

using std::chrono::microseconds;

// RFC 9438: C in segments per second cubed (section 5.1), beta (section 4.6), and from it alpha
// (section 4.3).
constexpr double kC = 0.4;
constexpr std::uint64_t kBetaTenths = 7;
constexpr double kAlpha = 3.0 * (10 - kBetaTenths) / (10 + kBetaTenths);

// Growth is counted in these parts of a byte: an ACK of one segment may be worth less than a byte.
constexpr std::uint64_t kPartsOfByte = 65536;

// RFC 9406, section 4.3.
constexpr std::uint32_t kMinRttThresholdUs = 4'000;
constexpr std::uint32_t kMaxRttThresholdUs = 16'000;
constexpr std::uint32_t kMinRttDivisor = 8;
constexpr std::uint8_t kRttSamples = 8;
constexpr std::uint32_t kCssGrowthDivisor = 4;
constexpr std::uint8_t kCssRounds = 5;

// L, the most segments that one ACK adds in slow start. RFC 9406, section 4.3, wants 8 without
// pacing and no limit with it: we pace, but not on short paths, so the smaller. Later slow starts:
// RFC 3465, section 2.3; after a time-out one ACK may cover what had arrived long before, so one.
constexpr std::uint32_t kSegmentsPerAckHyStart = 8;
constexpr std::uint32_t kSegmentsPerAck = 2;
constexpr std::uint32_t kSegmentsPerAckAfterTimeout = 1;

constexpr std::uint32_t kInfinity = UINT32_MAX;

// In whole microseconds, which 32 bits hold for more than an hour; what is longer is that long.
constexpr std::uint32_t to_us(Duration duration) {
  return static_cast<std::uint32_t>(std::clamp<std::int64_t>(
      std::chrono::floor<microseconds>(duration).count(), 0, kInfinity - 1));
}

constexpr std::uint32_t bounded_window(std::uint64_t window) {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(window, CongestionControl::kWindowMax));
}

}  // namespace

// --- start, segment size ---------------------------------------------------------------------

void CongestionControl::start(CongestionAlgorithm algorithm, std::uint32_t mss,
                              unsigned syn_retransmissions) {
  WEIR_ASSERT(mss > 0 && mss <= UINT16_MAX);  // the option has 16 bits, the connection a minimum
  *this = CongestionControl{};
  algorithm_ = algorithm;
  mss_ = mss;
  window_ = syn_retransmissions > 1 ? mss : initial_window();  // RFC 6928, section 2
  hystart_ = HyStart::kSlowStart;
}

std::uint32_t CongestionControl::initial_window() const {
  // RFC 6928, section 2.
  return std::min(10 * mss_, std::max(2 * mss_, std::uint32_t{14600}));
}

void CongestionControl::set_mss(std::uint32_t mss) {
  WEIR_ASSERT(mss > 0 && mss <= UINT16_MAX);  // as above
  if (mss == mss_) return;
  // As many segments as before, or a path that takes only small ones gets a burst of them (RFC
  // 5681, section 3.1). A larger segment leaves the bytes as they are.
  if (mss < mss_ && !in_recovery_)
    window_ = static_cast<std::uint32_t>(std::uint64_t{window_} * mss / mss_);
  mss_ = mss;
  window_ = std::max(window_, mss);
  threshold_ = std::max(threshold_, 2 * mss);
  end_epoch();  // K was for the old window, in old segments
}

// --- growth ----------------------------------------------------------------------------------

void CongestionControl::on_ack(const Ack& ack) {
  // The caller moves the window in recovery; after a mark nothing grows for a round trip (RFC 3168,
  // section 6.1.2).
  if (in_recovery_) return;
  if (in_slow_start()) {
    if (ack.window_limited) grow_in_slow_start(ack.acked);
    if (hystart_ != HyStart::kOff) observe_round_trip(ack);
    return;
  }
  after_timeout_ = false;
  switch (algorithm_) {
    case CongestionAlgorithm::kCubic:
      grow_as_cubic(ack);
      break;
    case CongestionAlgorithm::kNewReno:
      if (ack.window_limited) grow_as_newreno(ack.acked);
      break;
  }
}

void CongestionControl::grow_in_slow_start(std::uint32_t acked) {
  std::uint32_t segments = after_timeout_ ? kSegmentsPerAckAfterTimeout : kSegmentsPerAck;
  if (hystart_ != HyStart::kOff) segments = kSegmentsPerAckHyStart;
  std::uint32_t growth = std::min(acked, segments * mss_);
  if (hystart_ == HyStart::kConservative) growth /= kCssGrowthDivisor;
  // Not beyond the threshold, where CUBIC's curve begins.
  window_ = bounded_window(std::min<std::uint64_t>(std::uint64_t{window_} + growth, threshold_));
}

void CongestionControl::grow_as_newreno(std::uint32_t acked) {
  // One segment for each window of acknowledged bytes (RFC 5681, section 3.1; RFC 3465, 2.1). No
  // more than one window counts at once, so the sum stays below two.
  credit_ += std::min(acked, window_);
  if (credit_ < window_) return;
  credit_ -= window_;
  window_ = bounded_window(std::uint64_t{window_} + mss_);
}

// --- CUBIC -----------------------------------------------------------------------------------

void CongestionControl::grow_as_cubic(const Ack& ack) {
  if (epoch_running_)
    advance_epoch(ack);
  else if (ack.window_limited)
    begin_epoch(ack.now);
  if (!ack.window_limited) return;

  const std::uint32_t acked = std::min(ack.acked, window_);
  const double share = static_cast<double>(acked) / window_;  // the only division of an ACK
  grow_reno_window(share);
  const double curve = cubic_window(t_us_);
  if (curve < reno_window_) {
    // Section 4.3. Slower than slow start whatever has happened to either window, and never back.
    window_ = bounded_window(
        std::clamp<std::uint64_t>(reno_window_, window_, std::uint64_t{window_} + acked));
    return;
  }
  // Sections 4.4 and 4.5. What they add for an ACK is meant for one segment; acknowledged bytes
  // instead make it independent of how often the peer acknowledges, as section 4.3 does.
  const double ahead = cubic_window(std::uint64_t{t_us_} + to_us(ack.smoothed_rtt));
  const double target = std::clamp(ahead, 1.0 * window_, 1.5 * window_);  // section 4.2
  const std::uint64_t parts =
      credit_ + static_cast<std::uint64_t>((target - window_) * share * kPartsOfByte);
  credit_ = static_cast<std::uint32_t>(parts % kPartsOfByte);
  window_ = bounded_window(window_ + parts / kPartsOfByte);
}

void CongestionControl::grow_reno_window(double share) {
  // Section 4.3, equation 4: alpha segments for each window, one once the old window is reached.
  const double alpha = reno_window_ >= window_prior_ ? 1 : kAlpha;
  const std::uint64_t parts =
      reno_credit_ + static_cast<std::uint64_t>(alpha * mss_ * share * kPartsOfByte);
  reno_credit_ = static_cast<std::uint32_t>(parts % kPartsOfByte);
  reno_window_ = bounded_window(reno_window_ + parts / kPartsOfByte);
}

/// W_cubic(t), section 4.2, equation 1. In double: windows have 31 bits and times 33, so nothing
/// overflows and no argument gives a NaN; in integers the cube would need scaling by hand, and a
/// cube root of our own. The root is taken once in an epoch.
double CongestionControl::cubic_window(std::uint64_t t_us) const {
  const double from_plateau_s = (static_cast<double>(t_us) - k_us_) * 1e-6;
  return window_max_ + kC * mss_ * from_plateau_s * from_plateau_s * from_plateau_s;
}

void CongestionControl::begin_epoch(Instant now) {
  // After a time-out (section 4.8) and where W_max is undefined, after HyStart++ (section 4.10),
  // the window is its own W_max. That is also how a window is treated that has outgrown W_max
  // before a pause: equation 2 would take the root of a negative number.
  if (plateau_here_ || window_max_ < window_) window_max_ = window_;
  plateau_here_ = false;
  const double k_s = std::cbrt((window_max_ - window_) / (kC * mss_));  // section 4.2, equation 2
  k_us_ = static_cast<std::uint32_t>(k_s * 1e6);  // at most 1390 s: 2^30 segments of one byte
  t_us_ = 0;
  reno_window_ = window_;  // section 4.3
  credit_ = 0;
  reno_credit_ = 0;
  last_ack_ = now;
  epoch_running_ = true;
}

/// Section 4.2: t does not count time in which the window was not in use. So it moves with ACKs of
/// a full window only.
void CongestionControl::advance_epoch(const Ack& ack) {
  // Negative when the pause before was shorter than we were told, or the clock went back: to_us()
  // makes that nothing, and time goes on from there.
  const auto gap = std::chrono::floor<microseconds>(ack.now - last_ack_);
  last_ack_ += gap;  // not `now`: ACKs closer than a microsecond would never add up
  if (!ack.window_limited) return;
  // A window in flight is acknowledged within a round trip. Whatever takes much longer, a machine
  // that was suspended for hours, say, has not tried the path in that time.
  const std::uint64_t longest_us =
      std::max<std::uint64_t>(2 * std::uint64_t{to_us(ack.smoothed_rtt)}, 1'000'000);
  t_us_ = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(t_us_ + std::min<std::uint64_t>(to_us(gap), longest_us), kInfinity));
}

void CongestionControl::end_epoch() {
  epoch_running_ = false;
  credit_ = 0;
  reno_credit_ = 0;
}

// --- HyStart++ (RFC 9406, section 4.2) -------------------------------------------------------

void CongestionControl::observe_round_trip(const Ack& ack) {
  if (ack.rtt > Duration::zero()) {
    round_min_us_ = std::min(round_min_us_, to_us(ack.rtt));
    if (rtt_samples_ < kRttSamples) ++rtt_samples_;
    judge_delay();
  }
  // The ACK that ends a round was sent for a segment of that round.
  if (ack.round_started) end_round();
}

void CongestionControl::judge_delay() {
  if (rtt_samples_ < kRttSamples) return;
  switch (hystart_) {
    case HyStart::kSlowStart: {
      const std::uint32_t rise_us =
          std::clamp(last_round_min_us_ / kMinRttDivisor, kMinRttThresholdUs, kMaxRttThresholdUs);
      // Never true after a round of which nothing is known: its minimum is infinite.
      if (round_min_us_ < std::uint64_t{last_round_min_us_} + rise_us) return;
      hystart_ = HyStart::kConservative;
      css_baseline_us_ = round_min_us_;
      css_rounds_ = 0;
      break;
    }
    case HyStart::kConservative:
      // The rise was jitter.
      if (round_min_us_ < css_baseline_us_) hystart_ = HyStart::kSlowStart;
      break;
    case HyStart::kOff:
      break;
  }
}

void CongestionControl::end_round() {
  last_round_min_us_ = round_min_us_;
  round_min_us_ = kInfinity;
  rtt_samples_ = 0;
  if (hystart_ != HyStart::kConservative) return;
  // The round in which it began counts, although it was not whole.
  if (++css_rounds_ < kCssRounds) return;
  hystart_ = HyStart::kOff;
  threshold_ = std::max(window_, 2 * mss_);
  // RFC 9438, section 4.10. W_max is undefined until the first congestion: begin_epoch() sees to
  // it.
  window_prior_ = window_;
}

void CongestionControl::forget_rounds() {
  last_round_min_us_ = kInfinity;
  round_min_us_ = kInfinity;
  rtt_samples_ = 0;
}

// --- congestion ------------------------------------------------------------------------------

/// Where the recovery that has begun will end.
std::uint32_t CongestionControl::recovery_target() const {
  return ends_at_one_segment_ ? mss_ : threshold_;
}

/// cwnd as the RFCs mean it: in recovery they have reduced it at once, PRR does so bit by bit.
std::uint32_t CongestionControl::window_before_event() const {
  return in_recovery_ ? recovery_target() : window_;
}

std::uint32_t CongestionControl::reduced(std::uint32_t bytes) const {
  switch (algorithm_) {
    case CongestionAlgorithm::kCubic:
      return static_cast<std::uint32_t>(bytes * kBetaTenths / 10);  // RFC 9438, section 4.6
    case CongestionAlgorithm::kNewReno:
      return bytes / 2;  // RFC 5681, equation 4
  }
  return bytes / 2;  // not reached: both algorithms are above
}

void CongestionControl::save_for_undo() {
  saved_ = Saved{.window = window_before_event(),
                 .threshold = threshold_,
                 .window_prior = window_prior_,
                 .window_max = window_max_,
                 .reno_window = reno_window_,
                 .k_us = k_us_,
                 .t_us = t_us_,
                 .hystart = hystart_,
                 .after_timeout = after_timeout_,
                 .epoch_running = epoch_running_,
                 .plateau_here = plateau_here_};
}

void CongestionControl::on_congestion(std::uint32_t in_flight, CongestionSignal signal) {
  save_for_undo();
  undo_possible_ = signal == CongestionSignal::kLoss;
  const std::uint32_t window = window_before_event();
  // Section 4.7, fast convergence: a flow that lost its place sooner than last time leaves room.
  window_max_ =
      window < window_max_ ? static_cast<std::uint32_t>(window * (10 + kBetaTenths) / 20) : window;
  window_prior_ = window;
  // FlightSize, but no more than the window: after a time-out what was sent before it is still out,
  // and congestion must not end in a larger window than it began with.
  const std::uint32_t target = reduced(std::min(in_flight, window));
  threshold_ = std::max(target, 2 * mss_);
  ends_at_one_segment_ = signal == CongestionSignal::kEcnEcho && target < 2 * mss_;
  in_recovery_ = true;
  after_timeout_ = false;
  plateau_here_ = false;
  hystart_ = HyStart::kOff;  // RFC 9406, section 4.3: for the first slow start only
  end_epoch();
}

void CongestionControl::set_window_in_recovery(std::uint32_t window) {
  if (!in_recovery_) return;
  window_ = std::clamp(window, mss_, kWindowMax);
}

void CongestionControl::leave_recovery() {
  if (!in_recovery_) return;
  window_ = recovery_target();
  in_recovery_ = false;
}

void CongestionControl::on_timeout(std::uint32_t in_flight, bool first) {
  // Only the first of a row of time-outs says something new (RFC 5681, section 3.1).
  if (first) {
    save_for_undo();
    undo_possible_ = true;
    window_prior_ = window_before_event();
    threshold_ = std::max(reduced(std::min(in_flight, window_prior_)), 2 * mss_);
  }
  window_ = mss_;
  in_recovery_ = false;
  after_timeout_ = true;
  plateau_here_ = true;  // RFC 9438, section 4.8
  hystart_ = HyStart::kOff;
  end_epoch();
}

void CongestionControl::undo() {
  if (!undo_possible_) return;
  undo_possible_ = false;
  // The news came late and the window has outgrown what it was: the newer values stay (RFC 9438,
  // section 4.9.2).
  if (!in_recovery_ && window_ >= saved_.window) return;
  window_ = std::max({window_, saved_.window, mss_});
  threshold_ = std::max(saved_.threshold, 2 * mss_);  // the segment may have grown
  window_prior_ = saved_.window_prior;
  window_max_ = saved_.window_max;
  reno_window_ = saved_.reno_window;
  k_us_ = saved_.k_us;
  t_us_ = saved_.t_us;
  hystart_ = saved_.hystart;
  after_timeout_ = saved_.after_timeout;
  epoch_running_ = saved_.epoch_running;
  plateau_here_ = saved_.plateau_here;
  in_recovery_ = false;
  forget_rounds();  // delays around the event say nothing about the queue we make
}

// --- pauses and pacing -----------------------------------------------------------------------

void CongestionControl::on_idle(Duration idle, Duration rto) {
  if (in_recovery_) return;
  // t stands still. (An hour is as good as for ever, and cannot overflow.)
  last_ack_ += std::clamp<Duration>(idle, Duration::zero(), std::chrono::hours{1});
  if (idle <= rto) return;
  undo_possible_ = false;  // that window belongs to another time
  if (window_ <= initial_window()) return;
  // RFC 5681, section 4.1: restart from the initial window. Slow start may go as far as was in use
  // without trouble (RFC 7661, section 4.4.3).
  threshold_ = std::max(threshold_, window_ / 4 * 3);
  window_ = initial_window();
  end_epoch();
  // The queue is gone with the window that made it: look for it anew.
  if (hystart_ == HyStart::kConservative) hystart_ = HyStart::kSlowStart;
  forget_rounds();
}

std::uint64_t CongestionControl::pacing_rate_bytes_per_s(Duration smoothed_rtt) const {
  if (smoothed_rtt <= Duration::zero()) return UINT64_MAX;
  // At most 2^30 * 2 * 10^9, which is below 2^61. Never zero: callers divide by it.
  const std::uint64_t tenths = in_slow_start() ? 20 : 12;
  const std::uint64_t ahead = window_ * tenths * (1'000'000'000 / 10);
  return std::max<std::uint64_t>(ahead / static_cast<std::uint64_t>(smoothed_rtt.count()), 1);
}

}  // namespace weir::tcp
