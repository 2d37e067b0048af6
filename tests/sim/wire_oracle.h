#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "l4/base/clock.h"
#include "l7/tcp/seq.h"
#include "tests/support/frame_view.h"
#include "tests/support/sim_link.h"

namespace weir::testing {

/// Watches every segment between two hosts and says when one breaks a rule of TCP, knowing nothing
/// of the stacks but what they put on the wire:
///
/// - nothing but SYN and RST before the handshake, nothing but RST and SYN after a RST;
/// - no text beyond the right edge that the peer has announced and that has arrived, but for a
///   probe of one number (RFC 9293, section 3.8.6.1);
/// - one place for FIN, and no text behind it;
/// - no acknowledgment of what was never sent;
/// - no more in flight than an initial window (RFC 6928) and twice what was acknowledged so far
///   (RFC 3465), a segment for each duplicate ACK (limited transmit, RFC 3042, and fast recovery,
///   RFC 5681), and what the peer is known to have beyond a gap (RFC 6675); where the window itself
///   is known, check_congestion() compares with that;
/// - an ACK alone has a cause: something that arrived, or a reader who made room; what has none is
///   let through at a trickle, for keep-alive and challenge ACKs;
/// - whoever waits for an ACK asks for it: check_liveness().
class WireOracle {
 public:
  /// A segment is put on the wire; `arrives` whole, or not.
  void on_sent(Side from, const TcpFrame& frame, bool arrives, Instant now);
  /// A segment whose checksums are right reaches a port.
  void on_delivered(Side to, const TcpFrame& frame, Instant now);
  /// A reader has taken bytes out of the receive buffer and may have to announce a window.
  void on_read(Side side, std::uint16_t local_port, std::uint16_t remote_port);
  /// A reader has left nothing in the receive buffer, and everything that this causes was sent: by
  /// now the peer must have been told of at least `room` (RFC 9293, section 3.8.6.2.2). Without
  /// it, a window that was closed stays so until a probe finds out.
  void check_window_told(Side side, std::uint16_t local_port, std::uint16_t remote_port,
                         std::uint32_t room);
  /// To be called behind on_sent() with the congestion window as the stack itself says. Looks only
  /// at new text while everything arrives in order: in recovery the wire does not show what the
  /// sender believes to be in flight.
  void check_congestion(Side side, std::uint16_t local_port, std::uint16_t remote_port,
                        std::uint64_t window);

  /// To be called while the stack has bytes that are not acknowledged: it must not be silent for
  /// longer than its longest time-out (RFC 6298, section 2.5), whatever it has heard.
  void check_liveness(Side side, std::uint16_t local_port, std::uint16_t remote_port, Instant now);
  /// One past the highest number that a side has sent on a connection that it has opened.
  [[nodiscard]] std::optional<tcp::Seq> sent_end(Side side, std::uint16_t local_port,
                                                 std::uint16_t remote_port);

  /// What the losses may have cost, in first time-outs: one for each, and twice as many each time
  /// when the same segment, or its ACK, is lost again; at most `most` for one. A time-out that has
  /// doubled stays so for the next segment if the ACK was no sample of the round trip (Karn; RFC
  /// 6298, sections 3 and 5).
  [[nodiscard]] double time_outs(double most) const;
  /// Somebody has sent a SYN twice, and begins with a time-out of 3 s (RFC 6298, section 5.7).
  [[nodiscard]] bool syn_was_repeated() const { return syn_was_repeated_; }

  /// What was broken first, or empty.
  [[nodiscard]] const std::string& violation() const { return violation_; }

 private:
  /// One direction of one connection: what its sender has said and heard.
  struct Half {
    std::optional<tcp::Seq> initial;
    std::optional<std::uint8_t> scale;
    tcp::Seq sent_end;             ///< one past the highest number ever sent
    std::optional<tcp::Seq> fin;   ///< its number
    bool reset = false;            ///< has sent RST
    std::optional<tcp::Seq> told;  ///< the furthest edge that it has announced itself
    tcp::Seq told_ack;             ///< and what it has acknowledged
    std::optional<tcp::Seq> edge;  ///< the furthest that has been announced to it
    std::optional<tcp::Seq> acknowledged;
    std::uint32_t last_seq = 0;  ///< of the last segment
    std::uint32_t last_ack = 0;
    unsigned losses_in_a_row = 0;                   ///< of that segment, and those that last
    unsigned lasting_losses = 0;                    ///< after which there was no sample yet
    std::uint64_t duplicates = 0;                   ///< ACKs that moved nothing
    std::map<std::uint64_t, std::uint64_t> sacked;  ///< by distance from its SYN, start to end
    bool in_order = true;              ///< the peer has not told of a gap since it last moved on
    std::optional<tcp::Seq> repaired;  ///< one past what had been sent at the last repetition
    std::optional<tcp::Seq> repeated;  ///< one past the furthest number that was sent twice
    bool sent_new_text = false;        ///< the last segment did
    std::uint32_t text_max = 0;        ///< longest text of a segment
    std::uint64_t causes = 0;          ///< ACKs that may be sent
    double trickle = kTrickleMax;      ///< and those without a cause
    Instant trickle_at{};
    Instant quiet_since{};  ///< the last segment that it has sent or heard
  };
  struct Flow {
    std::array<Half, 2> halves;  // by Side
    bool mixed = false;          // two incarnations of one pair of ports overlap: not checked
  };

  static constexpr double kTrickleMax = 20;
  static constexpr double kTricklePerSecond = 8;

  Flow& flow(Side side, std::uint16_t local_port, std::uint16_t remote_port);
  void check_order(Half& half, const tcp::SegmentView& segment);
  void check_text(Half& half, const tcp::SegmentView& segment);
  /// The right edge of the window that a segment of `from` to `to` announces.
  static tcp::Seq edge_of(const tcp::SegmentView& segment, const Half& from, const Half& to);
  static void take_sacks(Half& half, const tcp::SegmentView& segment);
  static void note_sample(Half& half, const Half& peer, const tcp::SegmentView& segment);
  void count_loss(Half& half, const Half& peer, const tcp::SegmentView& segment, bool arrives);
  void check_ack_cause(Half& half, const tcp::SegmentView& segment, Instant now);
  void violate(Side side, const tcp::SegmentView& segment, std::string_view what);

  Side side_ = Side::kA;  // of the segment that is being looked at, for violate()
  std::map<std::pair<std::uint16_t, std::uint16_t>, Flow> flows_;  // by ports of A and B
  /// By how many losses of the same exchange there were before: 2 to that power each.
  std::array<std::uint64_t, 16> losses_{};
  bool syn_was_repeated_ = false;
  std::string violation_;
};

}  // namespace weir::testing
