#pragma once

#include <cstdint>

namespace weir::tcp {

/// Congestion window of NewReno: slow start, congestion avoidance and the window side of fast
/// recovery (RFC 5681, RFC 6582), initial window of ten segments (RFC 6928). All in bytes.
class Congestion {
 public:
  Congestion() = default;

  /// When the handshake is done. More than one lost SYN is a sign of congestion: start with one
  /// segment (RFC 6928, section 2).
  void start(std::uint32_t mss, unsigned syn_retransmissions);
  void set_mss(std::uint32_t mss) { mss_ = mss; }

  [[nodiscard]] std::uint32_t window() const { return window_; }
  [[nodiscard]] std::uint32_t threshold() const { return threshold_; }

  /// New data acknowledged outside of recovery; `in_flight` as it was before the ACK.
  void on_ack(std::uint32_t acked, std::uint32_t in_flight);

  void enter_recovery(std::uint32_t in_flight);  ///< third duplicate ACK
  void on_duplicate_in_recovery();               ///< another segment has left the network
  void on_partial_ack(std::uint32_t acked);      ///< recovery goes on
  void leave_recovery(std::uint32_t in_flight);  ///< all that was lost has arrived
  void on_timeout(std::uint32_t in_flight, bool first);
  /// Nothing was sent for a time-out: the old window says nothing about the path any more.
  void on_idle();

 private:
  [[nodiscard]] std::uint32_t initial_window() const;
  [[nodiscard]] std::uint32_t reduced(std::uint32_t in_flight) const;

  std::uint32_t mss_ = 536;
  std::uint32_t window_ = 536;
  std::uint32_t threshold_ = UINT32_MAX;
  std::uint32_t acked_in_round_ = 0;  // bytes counted towards the next increase in avoidance
  bool after_timeout_ = false;        // slow start goes on below the threshold set by a time-out
};

}  // namespace weir::tcp
