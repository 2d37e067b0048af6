#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "l4/base/clock.h"
#include "l4/base/timer_wheel.h"
#include "l7/tcp/byte_queue.h"
#include "l7/tcp/congestion.h"
#include "l7/tcp/connection_info.h"
#include "l7/tcp/control_segment.h"
#include "l7/tcp/flow_key.h"
#include "l7/tcp/list.h"
#include "l7/tcp/listener.h"
#include "l7/tcp/prr.h"
#include "l7/tcp/rack.h"
#include "l7/tcp/reassembly.h"
#include "l7/tcp/rtt.h"
#include "l7/tcp/segment.h"
#include "l7/tcp/sent_list.h"
#include "l7/tcp/seq.h"
#include "l7/tcp/stack.h"
#include "l7/tcp/time_wait.h"

namespace weir::tcp {

// The states of RFC 9293, section 3.3.2, and who moves between them.
//
//              open_active()                    open_passive()
//                   |                                 |
//                   v      SYN                        v
//               SynSent ---------------------> SynReceived     (a passive open is a record of
//                   | SYN,ACK                         | ACK of SYN     the Listener until here)
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
// Closed      -> Established            open_passive(), from a Listener's record or cookie
// SynSent     -> SynReceived            input_syn_sent(): simultaneous open
// SynSent, SynReceived -> Established   establish(); straight to FinWait1 if closed by then
// Established -> FinWait1               close_write()
// CloseWait   -> LastAck                close_write()
// Established -> CloseWait              receive_fin()
// FinWait1    -> Closing, FinWait2 -> TimeWait    receive_fin()
// FinWait1    -> FinWait2, Closing -> TimeWait, LastAck -> Closed    our_fin_acknowledged()
// any         -> Closed                 fail(), finish()
//
// What holds, beyond snd_una <= snd_nxt <= snd_max and rcv_nxt <= rcv_edge: the scoreboard `sent_`
// has a record for every byte between snd_una and snd_nxt, and for our FIN.
//
// SynSent       nothing is known of the peer; iss = snd_una; the queue may hold bytes, unsent.
//               Bounded by connect_timeout.
// SynReceived   only after a simultaneous open; rcv_nxt, MSS and scaling are settled. Bounded by
//               connect_timeout.
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

// The stack's lists of connections: with news, with something to send, turned away by the pool, and
// with bytes that their peers do not let out.
struct ReadyList;
struct DirtyList;
struct StarvedList;
struct StalledList;

/// One connection. Owns its buffers and decides what may leave; its Stack owns it, calls it, and
/// afterwards looks at state(), news(), wants_output() and next_deadline(). It never calls back.
/// Lives in a slab and does not move; the links and the timer are the stack's.
class Connection : public ListLink<ReadyList>,
                   public ListLink<DirtyList>,
                   public ListLink<StarvedList>,
                   public ListLink<StalledList> {
 public:
  /// At the start of a connection and after a pause every segment is acknowledged at once, so that
  /// the sender's slow start is not held up.
  static constexpr std::uint8_t kQuickAcks = 16;

  /// What all connections of a stack share.
  struct Pools {
    ChunkPool& chunks;
    SentPool& sent;
  };

  Connection(const FlowKey& key, Pools& pools, const StackOptions& options);

  void open_active(Context& context, Seq initial);
  /// From what a Listener has brought to its third segment, which input() reads next.
  void open_passive(Context& context, const Accepted& accepted);

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
  std::size_t write(const StackOptions& options, StackCounters& counters,
                    std::span<const std::byte> bytes);
  [[nodiscard]] std::size_t writable_bytes(const StackOptions& options) const;
  [[nodiscard]] std::size_t unacknowledged_bytes() const { return send_queue_.size(); }
  void close_write();
  void release(const StackOptions& options, Instant now);
  void abort(Context& context);
  void set_nagle(bool on) { nagle_ = on; }

  [[nodiscard]] const FlowKey& key() const { return key_; }
  [[nodiscard]] ConnectionState state() const { return state_; }
  [[nodiscard]] Failure failure() const { return failure_; }
  [[nodiscard]] bool owned_by_user() const { return owned_by_user_; }
  [[nodiscard]] bool wants_output() const { return wants_output_; }
  /// write() came up short because the pool did, or a window is closed; nobody but the stack will
  /// notice the pool's recovery.
  [[nodiscard]] bool starved() const { return starved_ || window_held_; }
  /// As far as the pool has recovered: starved() says whether something is left.
  void end_starvation(const StackOptions& options);
  /// Since when bytes wait behind a window that the peer keeps closed without having taken any;
  /// kNever: none do.
  [[nodiscard]] Instant stalled_since() const { return stalled_since_; }
  /// kNever while nothing is held that came early; else since when what is missing has been waited
  /// for.
  [[nodiscard]] Instant early_since() const { return early_since_; }
  /// Lets go of what came early for the sake of others: the sender still has it (RFC 2018, section
  /// 8).
  void drop_early(Context& context);
  /// Resets a stalled connection for the sake of others.
  void evict(Context& context);
  [[nodiscard]] Instant next_deadline() const;
  [[nodiscard]] ConnectionInfo info() const;
  [[nodiscard]] Seq send_next() const { return snd_max_; }
  [[nodiscard]] Seq receive_next() const { return rcv_nxt_; }
  [[nodiscard]] std::optional<TimeWaitStamps> last_stamps(Instant now) const;
  /// The stack has taken over what TimeWait asks for.
  void finish();

  News news;
  UserData user = 0;

  /// What our time stamps are ahead of the stack's clock by; never zero time for strangers.
  std::uint32_t stamp_offset = 0;

  // The stack's bookkeeping.
  [[nodiscard]] ConnectionId id() const { return ConnectionId::from_raw(timer.user); }
  bool in_flow_table = false;
  std::uint64_t hash = 0;
  Timer timer;

 private:
  struct Plan;       // what may leave next
  struct AckReport;  // what one ACK has told

  // connection.cpp
  void start_send_side(Context& context, Seq initial);
  void establish(Context& context, std::optional<Instant> answered_at);
  /// When the SYN left that has been answered; nothing if it was repeated (Karn).
  [[nodiscard]] std::optional<Instant> syn_answered_at() const {
    return syn_retransmissions_ == 0 ? std::optional{last_sent_at_} : std::nullopt;
  }
  void fail(Failure failure);
  void time_out(Context& context);
  void retransmit_syn(Context& context);
  void probe_window(Context& context);
  void on_keepalive_timer(Context& context);

  // connection_input.cpp
  void input_syn_sent(Context& context, const SegmentView& segment);
  void input_synchronized(Context& context, const SegmentView& segment);
  void learn_from_syn(Context& context, const SegmentView& syn);
  [[nodiscard]] bool is_old_duplicate(const SegmentView& segment, Instant now) const;
  void remember_stamp(const SegmentView& segment, Instant now);
  [[nodiscard]] bool acceptable(const SegmentView& segment) const;
  void answer_unacceptable(Context& context, const SegmentView& segment);
  void input_reset(Context& context, const SegmentView& segment);
  void challenge(Context& context);
  /// At most one in 500 ms; false when none has left.
  bool send_bare_answer(Context& context);
  [[nodiscard]] bool complete_handshake(Context& context, const SegmentView& segment);
  [[nodiscard]] bool input_ack(Context& context, const SegmentView& segment);
  [[nodiscard]] bool is_text_alone(const SegmentView& segment) const;
  void our_fin_acknowledged(Context& context);
  void update_send_window(const SegmentView& segment);
  void note_congestion_marks(Context& context, const SegmentView& segment);
  void receive_text(Context& context, const SegmentView& segment);
  void receive_in_order(Context& context, std::span<const std::byte> text);
  void receive_ahead(Context& context, Seq start, std::span<const std::byte> text);
  void discard_text(Context& context, Seq start, std::size_t count);
  void receive_fin();
  void note_duplicate(Seq start, Seq end);

  // connection_ack.cpp: what is acknowledged, lost and repaired
  void accept_ack(Context& context, const SegmentView& segment);
  [[nodiscard]] AckReport take_ack(Context& context, const SegmentView& segment);
  void take_sacks(Context& context, const SegmentView& segment, AckReport& ack);
  void take_duplicate_without_sack(AckReport& ack);
  void on_delivered(Context& context, const SegmentView& segment, const SentSegment& arrived,
                    AckReport& ack);
  void measure(Context& context, const SegmentView& segment, const AckReport& ack);
  void take_congestion_echo(Context& context, const AckReport& ack);
  void take_tail_probe_answer(const AckReport& ack);
  std::uint32_t detect_losses(Context& context, const AckReport& ack);
  void detect_by_sacks();
  void detect_without_sack(const AckReport& ack);
  void begin_episode(Repair repair);
  void start_recovery(Context& context, const AckReport& ack);
  [[nodiscard]] bool is_spurious(const SegmentView& segment, const AckReport& ack);
  void undo(Context& context);
  void follow_timeout(const AckReport& ack);
  void finish_repair();
  void move_window(Context& context, const AckReport& ack, std::uint32_t newly_lost);
  void after_progress(Context& context);
  void await_missing(Instant now);
  void on_retransmission_timer(Context& context);
  void on_retransmission_timeout(Context& context);
  void on_probe_timer(Context& context);
  void send_tail_probe(Context& context);
  void set_probe_timer(Context& context);
  void set_retransmission_timer(Context& context);

  // connection_path.cpp: segment sizes the path carries (RFC 1191, 8201, 4821)
  void shrink_segments(std::uint32_t mss);
  void suspect_black_hole(Context& context);
  [[nodiscard]] std::uint32_t path_probe_length(Instant now);
  void on_path_probe_sent(SentSegment& segment, std::uint32_t length);
  void on_path_probe_delivered(Instant now);
  void on_path_probe_lost(Context& context, SentSegment& segment);
  void path_probe_failed(SentSegment& segment, Instant now);
  void end_path_pass(Instant now);

  // connection_output.cpp
  [[nodiscard]] Plan plan_segment(const Context& context);
  [[nodiscard]] Plan plan_repeat();
  [[nodiscard]] Plan plan_new(const Context& context);
  [[nodiscard]] bool send_planned(Context& context, const Plan& plan);
  [[nodiscard]] std::uint32_t payload_max() const;
  [[nodiscard]] bool must_wait_for_pace(const Context& context) const;
  [[nodiscard]] bool is_paced(const StackOptions& options) const;
  void pace(Context& context, std::uint32_t length);
  void emit_syn(Context& context);
  bool send_data(Context& context, Seq seq, std::uint32_t length, bool fin);
  bool send_new(Context& context, std::uint32_t length, bool fin);
  bool send_again(Context& context, SentSegment& segment);
  bool send_ack(Context& context);
  void send_reset(Context& context);
  [[nodiscard]] SegmentHeader header(Context& context, Seq seq, std::uint8_t flags);
  void put_sacks(SegmentOptions& options);
  [[nodiscard]] std::uint16_t announce_window(const StackOptions& options);
  [[nodiscard]] std::uint32_t receive_space(const StackOptions& options) const;
  [[nodiscard]] Seq next_edge(const StackOptions& options) const;
  void acknowledged_now();
  void note_fin_sent(Context& context);
  [[nodiscard]] Seq control_seq() const;

  [[nodiscard]] bool accepts_text() const;
  /// Or so small that it is not used.
  [[nodiscard]] bool is_window_closed() const { return persisting_ || snd_wnd_ == 0; }
  /// In the network, as far as we know (RFC 6675's pipe).
  [[nodiscard]] std::uint32_t in_flight() const;
  /// Sent and not acknowledged: what the peer's window is filled with.
  [[nodiscard]] std::uint32_t outstanding() const { return snd_una_.distance_to(snd_nxt_); }
  /// The number of our FIN, sent or to be sent; only while it is queued and not acknowledged.
  [[nodiscard]] Seq fin_seq() const {
    return snd_una_ + static_cast<std::uint32_t>(send_queue_.size());
  }
  [[nodiscard]] std::size_t send_limit(const StackOptions& options) const;
  [[nodiscard]] std::uint32_t stamp(Instant at) const;
  [[nodiscard]] bool uses_rack(const StackOptions& options) const {
    return sack_permitted_ && options.rack;
  }

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
  bool stamping_ = false;        ///< both sides send time stamps
  bool nagle_ = false;           ///< small segments wait while others are under way
  bool wants_writable_ = false;  ///< write() came up short
  bool starved_ = false;
  bool window_held_ = false;  ///< closed because memory was short
  bool window_due_ = false;   ///< a larger window is worth a segment, if there still is memory
  bool persisting_ = false;   ///< the retransmission deadline is for a window probe
  // ECN (RFC 3168, section 6.1).
  bool ecn_ = false;          ///< both sides agreed
  bool ecn_echo_ = false;     ///< a mark has come and the peer has not said CWR yet
  bool ecn_reduced_ = false;  ///< our next new segment says CWR
  bool ecn_offered_ = false;  ///< the peer's SYN asks for it, or ours did
  std::uint8_t send_shift_ = 0;
  std::uint8_t receive_shift_ = 0;
  std::uint8_t quick_acks_ = kQuickAcks;  ///< still to be sent without delay
  std::uint8_t syn_retransmissions_ = 0;
  std::uint8_t probes_ = 0;      ///< of the closed window, since it closed
  std::uint8_t keepalives_ = 0;  ///< sent without an answer

  Seq rcv_nxt_;
  Seq rcv_edge_;  ///< right edge of the window as announced; it never moves back
  Seq snd_una_;
  Seq snd_nxt_;  ///< the next new byte
  Seq snd_max_;  ///< as snd_nxt_, or beyond it by what a window probe carried
  Seq snd_wl1_;  ///< SEG.SEQ and SEG.ACK of the last window update
  Seq snd_wl2_;
  std::uint32_t snd_wnd_ = 0;
  std::uint32_t snd_wnd_max_ = 0;  ///< the largest seen: the peer's buffer, for silly windows
  std::uint32_t send_mss_ = 0;     ///< payload and options of one segment to the peer
  std::uint32_t receive_mss_ = 0;  ///< what we have announced
  std::uint32_t largest_received_ = 536;  ///< payload of the peer's largest segment
  std::uint32_t unacknowledged_ = 0;      ///< bytes received in order since our last ACK
  Instant retransmission_deadline_ = kNever;
  Instant probe_deadline_ = kNever;  ///< tail loss probe, or the end of a reordering window
  Instant ack_deadline_ = kNever;    ///< when a delayed ACK leaves at the latest
  Instant retry_deadline_ = kNever;  ///< packet buffers or pace held the last emit() back
  SentList sent_;
  ByteQueue receive_queue_;
  ByteQueue send_queue_;
  CongestionControl congestion_;
  Rack rack_;
  RttEstimator rtt_;
  MinRtt min_rtt_;
  Seq round_end_;                     ///< the ACK of this ends the running round trip
  Seq limited_end_;                   ///< up to here the congestion window was filled
  Instant last_sent_at_;              ///< of data, for restart after idle; before, of the SYN
  Instant last_received_at_;          ///< anything acceptable
  Seq burst_end_;                     ///< what begins before it leaves without pacing
  std::uint32_t path_probe_mss_ = 0;  ///< segment size that is being tried; 0: none
  Instant next_departure_;            ///< of new data, when pacing
  Seq last_ack_sent_;
  std::uint32_t stamp_recent_ = 0;  ///< TS.Recent (RFC 7323, section 4.3)
  Instant stamp_recent_at_;

  // Repair: set up by begin_episode().
  Repair repair_ = Repair::kNone;
  bool path_pass_won_ = false;     ///< this pass of the search for a size has proven a larger one
  std::uint8_t forward_step_ = 0;  ///< of F-RTO (RFC 5682); 0: not running
  bool reorder_timer_ = false;     ///< what probe_deadline_ is for
  bool tail_probe_repeats_ = false;
  bool has_repeat_stamp_ = false;
  bool may_undo_ = false;                  ///< the episode has reduced the window
  std::optional<Seq> repair_point_;        ///< SND.NXT when the episode began; kept until passed
  std::optional<Seq> tail_probe_end_;      ///< TLP.end_seq (RFC 8985, section 7.1)
  std::optional<Seq> reduced_point_;       ///< no second reduction before this is acknowledged
  Seq episode_end_;                        ///< SND.NXT when the last episode began
  std::uint32_t duplicates_ = 0;           ///< duplicate ACKs of a peer without SACK
  std::uint32_t repeats_unexplained_ = 0;  ///< sent again, and no D-SACK says that it was in vain
  std::uint32_t repeats_ = 0;
  std::uint32_t repeat_stamp_ = 0;  ///< our stamp on the episode's first repetition (RFC 3522)
  Prr prr_;

  // The path.
  std::uint32_t path_mss_top_ = 0;  ///< what it was before a black hole was found; 0: never
  std::uint32_t path_mss_max_ = 0;  ///< may be tried: larger ones are known not to arrive
  Instant path_probe_after_ = kNever;

  Instant state_deadline_ = kNever;     ///< the state must have been left by then
  Instant progress_deadline_ = kNever;  ///< snd_una must have moved by then
  Instant keepalive_deadline_ = kNever;
  Instant stalled_since_ = kNever;
  Instant early_since_ = kNever;
  Instant bare_answer_after_;  ///< no further ACK for a bare segment that is not acceptable before
  Seq iss_;
  Seq irs_;
  std::optional<Seq> peer_fin_;         ///< arrived, perhaps behind a gap
  std::optional<SackBlock> duplicate_;  ///< to be reported by D-SACK with the next ACK (RFC 2883)
  std::uint32_t discarded_ = 0;         ///< text thrown away after release()
  Seq stalled_from_;                    ///< SND.UNA at stalled_since_
  Reassembly reassembly_;
};

// 100,000 idle connections are to fit 100 MB, with what a slab and the flow table add.
static_assert(sizeof(Connection) <= 1016);

}  // namespace weir::tcp
