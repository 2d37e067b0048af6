#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "l4/base/clock.h"
#include "l4/base/timer_wheel.h"
#include "l7/tcp/byte_queue.h"
#include "l7/tcp/congestion.h"
#include "l7/tcp/control_segment.h"
#include "l7/tcp/flow_key.h"
#include "l7/tcp/list.h"
#include "l7/tcp/reassembly.h"
#include "l7/tcp/recovery.h"
#include "l7/tcp/rtt.h"
#include "l7/tcp/segment.h"
#include "l7/tcp/seq.h"
#include "l7/tcp/stack.h"

namespace weir::tcp {

// The states of RFC 9293, section 3.3.2, and who moves between them.
//
//              open_active()                    open_passive()
//                   |                                 |
//                   v      SYN                        v
//               SynSent ---------------------> SynReceived
//                   | SYN,ACK                         | ACK of SYN
//                   +---------------+-----------------+
//                                   v
//                              Established
//            close_write() |                | FIN
//                          v                v
//                      FinWait1         CloseWait
//         ACK of FIN |      | FIN           | close_write()
//                    v      v               v
//              FinWait2   Closing        LastAck
//                FIN |      | ACK of FIN    | ACK of FIN
//                    v      v               v
//                    TimeWait            Closed
//
// From every state: RST, a time-out or abort() lead to Closed.
//
// transition                            function
// Closed      -> SynSent                open_active()
// Closed      -> SynReceived            open_passive()
// SynSent     -> SynReceived            input_syn_sent(): simultaneous open
// SynSent, SynReceived -> Established   establish(); straight to FinWait1 if closed by then
// Established -> FinWait1               close_write()
// CloseWait   -> LastAck                close_write()
// Established -> CloseWait              receive_fin()
// FinWait1    -> Closing, FinWait2 -> TimeWait    receive_fin()
// FinWait1    -> FinWait2, Closing -> TimeWait, LastAck -> Closed    our_fin_acknowledged()
// any         -> Closed                 fail(), finish()
//
// What holds, beyond snd_una <= snd_nxt <= snd_max and rcv_nxt <= rcv_edge:
//
// SynSent       nothing is known of the peer; iss = snd_una; the queue may hold bytes, unsent.
//               Bounded by connect_timeout.
// SynReceived   rcv_nxt, MSS and scaling are settled; the user has not heard of a passive open.
//               Bounded by the number of SYN-ACK retransmissions, or by connect_timeout.
// Established   snd_una is the sequence number of the send queue's first byte; rcv_nxt that of the
//               byte after the receive queue's last. Unacknowledged data bounded by user_timeout.
// FinWait1      our FIN is queued: its number is that of the byte after the send queue's last.
//               Sent or not; once sent, bounded by fin_timeout.
// FinWait2      our FIN is acknowledged; snd_una = snd_nxt = snd_max; the send queue is empty.
//               Bounded by fin_timeout once released; a user who holds it may go on reading.
// CloseWait     the peer's FIN lies before rcv_nxt; no more text is accepted. Unbounded like
//               Established: it is the user's turn.
// Closing       both FINs sent and received, ours not acknowledged. Bounded by fin_timeout.
// LastAck       as Closing, but the peer was first. Bounded by last_ack_timeout once sent.
// TimeWait      for a moment only: the stack replaces the connection with a TimeWaitRecord.
// Closed        no timer, not in the flow table; kept only until its user lets go. Received bytes
//               stay readable after an orderly end.
enum class ConnectionState : std::uint8_t {
  kClosed,
  kSynSent,
  kSynReceived,
  kEstablished,
  kFinWait1,
  kFinWait2,
  kCloseWait,
  kClosing,
  kLastAck,
  kTimeWait,
};

/// What is to be reported to the user; see Readiness.
struct News {
  bool accepted = false;
  bool connected = false;
  bool readable = false;
  bool writable = false;
  bool closed = false;
  bool reset = false;

  [[nodiscard]] bool any() const {
    return accepted || connected || readable || writable || closed || reset;
  }
};

/// One connection. Owns its buffers and decides what may leave; its Stack owns it, calls it, and
/// afterwards looks at state(), news(), wants_output() and next_deadline(). It never calls back.
/// Lives in a slab and does not move; the links and the timer are the stack's.
class Connection {
 public:
  Connection(const FlowKey& key, ChunkPool& pool, const StackOptions& options);

  void open_active(Context& context, Seq initial);
  void open_passive(Context& context, Seq initial, const SegmentView& syn);

  void input(Context& context, const SegmentView& segment);
  void on_error(Context& context, const net::TransportError& error);
  /// Acts on every deadline that has passed.
  void on_timer(Context& context);

  /// Sends what may leave: the SYN, data, a due ACK; at most `segments_max` of them. True when the
  /// fair share, and nothing else, ended it.
  bool emit(Context& context, unsigned segments_max);

  // The user's side; see Stack.
  [[nodiscard]] std::span<const std::byte> peek() const { return receive_queue_.front_piece(); }
  [[nodiscard]] std::size_t readable_bytes() const { return receive_queue_.size(); }
  void consume(const StackOptions& options, std::size_t count);
  [[nodiscard]] bool at_end() const { return fin_received_ && receive_queue_.empty(); }
  std::size_t write(const StackOptions& options, std::span<const std::byte> bytes);
  [[nodiscard]] std::size_t writable_bytes(const StackOptions& options) const;
  [[nodiscard]] std::size_t unacknowledged_bytes() const { return send_queue_.size(); }
  void close_write();
  void release(const StackOptions& options, Instant now);
  void abort(Context& context);

  [[nodiscard]] const FlowKey& key() const { return key_; }
  [[nodiscard]] ConnectionState state() const { return state_; }
  [[nodiscard]] Failure failure() const { return failure_; }
  [[nodiscard]] bool owned_by_user() const { return owned_by_user_; }
  [[nodiscard]] bool wants_output() const { return wants_output_; }
  /// write() came up short because the pool did; nobody but the stack will notice its recovery.
  [[nodiscard]] bool starved() const { return starved_; }
  void end_starvation();
  [[nodiscard]] Instant next_deadline() const;
  [[nodiscard]] Seq send_next() const { return snd_max_; }
  [[nodiscard]] Seq receive_next() const { return rcv_nxt_; }
  /// The stack has taken over what TimeWait asks for.
  void finish();

  News news;
  UserData user = 0;

  // The stack's bookkeeping.
  ConnectionId id;
  std::uint64_t hash = 0;
  bool in_flow_table = false;
  Timer timer;
  ListLink ready_link;
  ListLink dirty_link;
  ListLink starved_link;

 private:
  struct Plan;  // the next data segment

  // connection.cpp
  void start_send_side(Seq initial);
  void establish(Context& context);
  void fail(Failure failure);
  void time_out(Context& context);
  void on_retransmission_timer(Context& context);
  void retransmit_syn(Context& context);
  void probe_window(Context& context);

  // connection_input.cpp
  void input_syn_sent(Context& context, const SegmentView& segment);
  void input_synchronized(Context& context, const SegmentView& segment);
  void learn_from_syn(const SegmentView& syn);
  [[nodiscard]] bool acceptable(const SegmentView& segment) const;
  void answer_unacceptable(Context& context, const SegmentView& segment);
  void input_reset(Context& context, const SegmentView& segment);
  void challenge(Context& context);
  [[nodiscard]] bool complete_handshake(Context& context, const SegmentView& segment);
  [[nodiscard]] bool input_ack(Context& context, const SegmentView& segment);
  [[nodiscard]] bool is_duplicate_ack(const SegmentView& segment) const;
  void accept_duplicate_ack(Context& context);
  void accept_new_ack(Context& context, Seq ack);
  void after_progress(Context& context, bool restart_timer);
  void our_fin_acknowledged(Context& context);
  void update_send_window(const SegmentView& segment);
  void receive_text(Context& context, const SegmentView& segment);
  void receive_in_order(Context& context, std::span<const std::byte> text);
  void receive_ahead(Context& context, Seq start, std::span<const std::byte> text);
  void discard_text(Context& context, Seq start, std::size_t count);
  void receive_fin();

  // connection_output.cpp
  [[nodiscard]] Plan plan_segment() const;
  [[nodiscard]] std::uint32_t payload_max() const;
  void emit_syn(Context& context);
  bool send_data(Context& context, Seq seq, std::uint32_t length, bool fin);
  void retransmit_first(Context& context);
  bool send_ack(Context& context);
  void send_reset(Context& context);
  [[nodiscard]] SegmentHeader header(Context& context, Seq seq, std::uint8_t flags);
  [[nodiscard]] std::uint16_t announce_window(const StackOptions& options);
  [[nodiscard]] std::uint32_t receive_space(const StackOptions& options) const;
  void acknowledged_now();
  void set_retransmission_timer(Context& context);
  void note_fin_sent(Context& context);
  [[nodiscard]] Seq control_seq() const;

  [[nodiscard]] bool accepts_text() const;
  [[nodiscard]] std::uint32_t in_flight() const { return snd_una_.distance_to(snd_nxt_); }
  /// The number of our FIN, sent or to be sent; only while it is queued and not acknowledged.
  [[nodiscard]] Seq fin_seq() const {
    return snd_una_ + static_cast<std::uint32_t>(send_queue_.size());
  }
  [[nodiscard]] std::size_t send_limit(const StackOptions& options) const;

  // The order is that of use: an in-order data segment touches the first four cache lines.
  FlowKey key_;
  ConnectionState state_ = ConnectionState::kClosed;
  Failure failure_ = Failure::kNone;
  bool owned_by_user_ = false;  ///< false before accept and after release()
  bool released_ = false;       ///< the user has let go: received text is discarded
  bool active_ = false;         ///< opened by connect()
  bool wants_output_ = false;   ///< emit() may have something to do
  bool syn_due_ = false;        ///< the SYN or SYN-ACK is to be sent (again)
  bool ack_now_ = false;        ///< an ACK leaves with the next emit(), with data or without
  bool fin_queued_ = false;
  bool fin_acknowledged_ = false;
  bool fin_received_ = false;  ///< and everything before it
  bool sack_permitted_ = false;
  bool scaling_ = false;         ///< both sides scale their windows
  bool wants_writable_ = false;  ///< write() came up short
  bool starved_ = false;
  bool persisting_ = false;     ///< the retransmission deadline is for a window probe
  bool measuring_rtt_ = false;  ///< measured_end_ and measured_at_ are valid
  std::uint8_t send_shift_ = 0;
  std::uint8_t receive_shift_ = 0;
  std::uint8_t segments_unacknowledged_ = 0;  ///< received in order since our last ACK
  std::uint8_t syn_retransmissions_ = 0;
  std::uint8_t probes_ = 0;  ///< of the closed window, since it closed

  Seq rcv_nxt_;
  Seq rcv_edge_;  ///< right edge of the window as announced; it never moves back
  Seq snd_una_;
  Seq snd_nxt_;  ///< the next to be sent; back at snd_una_ after a time-out
  Seq snd_max_;  ///< one past the highest ever sent
  Seq snd_wl1_;  ///< SEG.SEQ and SEG.ACK of the last window update
  Seq snd_wl2_;
  std::uint32_t snd_wnd_ = 0;
  std::uint32_t snd_wnd_max_ = 0;  ///< the largest seen: the peer's buffer, for silly windows
  std::uint32_t send_mss_ = 0;     ///< payload and options of one segment to the peer
  std::uint32_t receive_mss_ = 0;  ///< what we have announced
  Instant retransmission_deadline_ = kNever;
  Instant ack_deadline_ = kNever;    ///< when a delayed ACK leaves at the latest
  Instant retry_deadline_ = kNever;  ///< packet buffers were short in the last emit()
  ByteQueue receive_queue_;
  ByteQueue send_queue_;
  Congestion congestion_;
  Recovery recovery_;
  RttEstimator rtt_;
  Seq measured_end_;  ///< the ACK that ends the running measurement
  Instant measured_at_;
  Instant last_sent_at_;  ///< of data, for restart after idle

  Instant state_deadline_ = kNever;     ///< the state must have been left by then
  Instant progress_deadline_ = kNever;  ///< snd_una must have moved by then
  Instant challenge_after_;             ///< no further challenge ACK before
  Seq iss_;
  Seq irs_;
  std::optional<Seq> peer_fin_;  ///< arrived, perhaps behind a gap
  std::size_t discarded_ = 0;    ///< text thrown away after release()
  Reassembly reassembly_;
};

}  // namespace weir::tcp
