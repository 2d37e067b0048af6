#pragma once

#include <cstdint>

#include "l4/base/clock.h"

namespace weir::tcp {

enum class CongestionAlgorithm : std::uint8_t { kCubic, kNewReno };

/// What told of congestion. A loss may turn out to be none and be undone; a mark is never an error,
/// and marks may bring the window down to one segment (RFC 9438, section 4.6).
enum class CongestionSignal : std::uint8_t { kLoss, kEcnEcho };

/// Congestion window of one connection: CUBIC (RFC 9438) or NewReno (RFC 5681, RFC 6582), with
/// HyStart++ (RFC 9406) in the first slow start. How much may be in flight is decided here; which
/// segments are lost, and how recovery spreads the reduction (PRR, RFC 6937), is the caller's.
///
///   start() ─► first slow start ◄─RTT fell─► conservative slow start ─five rounds─► avoidance
///                                RTT rose                                           ▲
///   any of these ─on_congestion()─► recovery ─leave_recovery()──────────────────────┤
///   any of these ─on_timeout(), on_idle()─► slow start ─window is at threshold──────┘
///   undo() leads back to where the last on_congestion() or on_timeout() came from.
///
/// First slow start: threshold is infinite. Slow start: window < threshold. Recovery: threshold is
/// where the window will end; on_ack() changes nothing. Avoidance: window >= threshold.
///
/// Everything is in bytes. Pure: time is an argument, and nothing is allocated. One per connection,
/// used on the connection's core only.
class CongestionControl {
 public:
  static constexpr std::uint32_t kWindowMax = std::uint32_t{1} << 30;  ///< RFC 7323, section 2.3

  struct Ack {
    std::uint32_t acked;  ///< bytes newly acknowledged
    /// The window, not the application or the peer, was what held the sender back at some time in
    /// the last round trip. If not, the window has not been tried and must not grow (RFC 9438,
    /// section 5.8; RFC 7661).
    bool window_limited;
    Duration rtt;           ///< this ACK's sample, zero if there is none
    Duration smoothed_rtt;  ///< zero if not yet measured
    Instant now;
    /// This ACK ends a round trip: SND.UNA has reached what SND.NXT was when the last one ended.
    bool round_started;
  };

  CongestionControl() = default;

  /// When the handshake is done; more than one lost SYN is a sign of congestion.
  void start(CongestionAlgorithm algorithm, std::uint32_t mss, unsigned syn_retransmissions);
  void set_mss(std::uint32_t mss);

  [[nodiscard]] std::uint32_t window() const { return window_; }
  [[nodiscard]] std::uint32_t threshold() const { return threshold_; }
  /// Equality is avoidance: RFC 5681, section 3.1, leaves the choice, and a window that has just
  /// left recovery is equal. RFC 9438, section 4.10, would have one ACK of slow start there.
  [[nodiscard]] bool in_slow_start() const { return !in_recovery_ && window_ < threshold_; }

  /// New data was acknowledged. Without effect during recovery.
  void on_ack(const Ack& ack);

  /// Loss recovery begins, or an ECN echo arrived for the first time in this round trip. Sets the
  /// threshold; the window stays until the caller moves it. `in_flight` is RFC 5681's FlightSize:
  /// sent and not yet acknowledged, with what is now thought lost.
  void on_congestion(std::uint32_t in_flight, CongestionSignal signal = CongestionSignal::kLoss);
  void set_window_in_recovery(std::uint32_t window);
  /// The window becomes the threshold. RFC 6582, section 3.2, step 3, has this as its second
  /// option, to be chosen if bursts are avoided otherwise: PRR and pacing do. Without effect when
  /// there is no recovery, as when a time-out has ended it.
  void leave_recovery();
  /// `in_flight` as above. `first`: the first in a row of time-outs for the same segment.
  void on_timeout(std::uint32_t in_flight, bool first);

  /// The last loss or time-out was none: takes its reduction back (RFC 9438, section 4.9), and ends
  /// recovery. Possible once for each.
  void undo();
  [[nodiscard]] bool can_undo() const { return undo_possible_; }

  /// Sending begins again after `idle` in which nothing was in flight. To be called for short
  /// pauses, too: CUBIC's time stands still in them.
  void on_idle(Duration idle, Duration rto);

  /// At which rate segments may leave: faster than a window per round trip, or the window would
  /// never be full. UINT64_MAX, which is no pacing, as long as no round trip has been measured.
  [[nodiscard]] std::uint64_t pacing_rate_bytes_per_s(Duration smoothed_rtt) const;

 private:
  enum class HyStart : std::uint8_t { kOff, kSlowStart, kConservative };

  /// What a false reduction takes with it (RFC 9438, section 4.9.2).
  struct Saved {
    std::uint32_t window;
    std::uint32_t threshold;
    std::uint32_t window_prior;
    std::uint32_t window_max;
    std::uint32_t reno_window;
    std::uint32_t k_us;
    std::uint32_t t_us;
    HyStart hystart : 2;
    bool after_timeout : 1;
    bool epoch_running : 1;
    bool plateau_here : 1;
  };

  [[nodiscard]] std::uint32_t initial_window() const;
  [[nodiscard]] std::uint32_t window_before_event() const;
  [[nodiscard]] std::uint32_t recovery_target() const;
  [[nodiscard]] std::uint32_t reduced(std::uint32_t bytes) const;
  [[nodiscard]] double cubic_window(std::uint64_t t_us) const;
  void save_for_undo();
  void end_epoch();

  void grow_in_slow_start(std::uint32_t acked);
  void observe_round_trip(const Ack& ack);
  void judge_delay();
  void end_round();
  void forget_rounds();

  void grow_as_newreno(std::uint32_t acked);
  void grow_as_cubic(const Ack& ack);
  void begin_epoch(Instant now);
  void advance_epoch(const Ack& ack);
  void grow_reno_window(double share);

  // Up to where t_us_ counts. Only meaningful while an epoch is running.
  Instant last_ack_{};

  std::uint32_t mss_ = 536;
  std::uint32_t window_ = 536;
  std::uint32_t threshold_ = UINT32_MAX;
  // Growth that is no whole byte yet, in parts of one; NewReno: bytes acknowledged in this round.
  std::uint32_t credit_ = 0;

  // RFC 9438, section 4.1.2; an epoch is one stage of congestion avoidance.
  std::uint32_t window_prior_ = 0;  // cwnd_prior
  std::uint32_t window_max_ = 0;    // W_max, zero if undefined
  std::uint32_t reno_window_ = 0;   // W_est
  std::uint32_t reno_credit_ = 0;   // as credit_, for reno_window_
  std::uint32_t k_us_ = 0;          // K
  std::uint32_t t_us_ = 0;          // t: how long the epoch has run, without pauses

  // RFC 9406, section 4.2; UINT32_MAX is its infinity.
  std::uint32_t last_round_min_us_ = UINT32_MAX;
  std::uint32_t round_min_us_ = UINT32_MAX;
  std::uint32_t css_baseline_us_ = UINT32_MAX;

  Saved saved_{};

  std::uint8_t rtt_samples_ : 4 = 0;  // in this round; stays at eight
  std::uint8_t css_rounds_ : 4 = 0;   // ended since conservative slow start began
  CongestionAlgorithm algorithm_ : 1 = CongestionAlgorithm::kCubic;
  HyStart hystart_ : 2 = HyStart::kOff;
  bool in_recovery_ : 1 = false;
  bool ends_at_one_segment_ : 1 = false;  // this recovery, begun by a mark at a tiny window
  bool after_timeout_ : 1 = false;        // slow start goes on below the threshold of a time-out
  bool epoch_running_ : 1 = false;
  bool plateau_here_ : 1 = false;  // the next epoch begins at its W_max, with K = 0
  bool undo_possible_ : 1 = false;
};

static_assert(sizeof(CongestionControl) <= 96, "a connection holds one");

}  // namespace weir::tcp
