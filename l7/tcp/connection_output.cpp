#include <algorithm>
#include <utility>

#include "l4/base/assert.h"
#include "l7/tcp/connection.h"
#include "l7/tcp/handshake.h"
#include "l7/tcp/stamp.h"

namespace weir::tcp {
namespace {

using wire::TcpHeader;

// When no packet buffer is to be had, nothing arrives that would cause another try.
constexpr Duration kRetryWithoutBuffer = std::chrono::milliseconds{1};

// Pacing spares a queue on a long path; on a short one its timers would cost more than they spare.
constexpr Duration kPacedRttMin = std::chrono::milliseconds{1};
constexpr Duration kPaceBurst = std::chrono::milliseconds{1};
constexpr std::uint32_t kInitialSegments = 10;

// A send buffer in flight consists of so large pieces on average, or waits for the ACKs.
constexpr std::size_t kBytesPerSegmentMin = 256;

// With the window shrunk because memory is short, or one chunk is left for each, a connection still
// moves.
constexpr std::uint32_t kWindowWhenShort = 2 * Chunk::kBytes;
constexpr std::uint32_t kWindowWhenRationed = Chunk::kBytes;

}  // namespace

struct Connection::Plan {
  enum class What : std::uint8_t { kNothing, kAgain, kNew };
  What what = What::kNothing;
  std::uint32_t length = 0;      ///< of new text
  bool fin = false;              ///< behind it
  bool path_probe = false;       ///< larger than send_mss_
  bool limited = false;          ///< nothing, or less, because of the congestion window
  SentSegment* again = nullptr;  ///< what is to be repeated
};

bool Connection::emit(Context& context, unsigned segments_max) {
  wants_output_ = false;
  retry_deadline_ = kNever;
  if (state_ == ConnectionState::kClosed) return false;
  if (state_ == ConnectionState::kSynSent || state_ == ConnectionState::kSynReceived) {
    if (syn_due_) emit_syn(context);
    return false;
  }

  // Others may have taken the memory in the meantime; a window that stays closed is no news.
  if (std::exchange(window_due_, false) && next_edge(context.options) > rcv_edge_) ack_now_ = true;
  const Seq before = snd_nxt_;
  bool buffers = true;
  bool paced = false;
  Plan plan = plan_segment(context);
  for (unsigned sent = 0; plan.what != Plan::What::kNothing && sent < segments_max; ++sent) {
    paced = must_wait_for_pace(context);
    if (paced) break;
    buffers = send_planned(context, plan);
    if (!buffers) break;
    plan = plan_segment(context);
  }
  if (plan.limited) limited_end_ = snd_nxt_;
  if (ack_now_ && buffers) buffers = send_ack(context);
  if (!buffers) retry_deadline_ = context.now + kRetryWithoutBuffer;
  if (paced) retry_deadline_ = std::min(retry_deadline_, next_departure_);
  set_retransmission_timer(context);
  if (snd_nxt_ != before) set_probe_timer(context);
  if (stalled_since_ == kNever && !send_queue_.empty() &&
      (is_window_closed() || send_queue_.is_pool_nearly_empty() || sent_.is_pool_nearly_empty())) {
    stalled_since_ = context.now;
    stalled_from_ = snd_una_;
  }
  wants_output_ = plan.what != Plan::What::kNothing && buffers && !paced;
  return wants_output_;
}

Connection::Plan Connection::plan_segment(const Context& context) {
  // After a time-out that may be spurious, new data tells more than a repetition (RFC 5682).
  if (forward_step_ != 2 && sent_.bytes_lost() > 0) return plan_repeat();
  const Plan plan = plan_new(context);
  // Once it is out, its ACK is waited for.
  if (forward_step_ == 2 && repair_point_ && snd_nxt_ > *repair_point_) return plan;
  if (plan.what == Plan::What::kNothing && sent_.bytes_lost() > 0) return plan_repeat();
  return plan;
}

Connection::Plan Connection::plan_repeat() {
  SentSegment* const lost = sent_.first_lost();
  const std::uint32_t length = std::min(lost->length, payload_max());
  const std::uint32_t flight = in_flight();
  Plan plan;
  // The first byte of all may always be sent: it is the probe of a window that has shrunk.
  const bool in_window = lost->start == snd_una_ || lost->start + length <= snd_una_ + snd_wnd_;
  // After a time-out the first one leaves whatever may still be under way besides.
  const bool is_retried = repair_ == Repair::kTimeout && lost->start == snd_una_;
  plan.limited = flight > 0 && flight + length > congestion_.window() && !is_retried;
  if (!in_window || plan.limited) return plan;
  plan.what = Plan::What::kAgain;
  plan.again = lost;
  return plan;
}

Connection::Plan Connection::plan_new(const Context& context) {
  const std::size_t segments_max = context.options.send_buffer_bytes / kBytesPerSegmentMin + 2;
  const std::uint32_t filled = outstanding();
  const auto queued = static_cast<std::uint32_t>(send_queue_.size());
  const bool fin_waits = fin_queued_ && !fin_acknowledged_ && filled <= queued;
  const std::uint32_t unsent = queued - std::min(filled, queued);
  if (unsent == 0 && !fin_waits) return {};
  // Small segments of one connection must not take all records from the others.
  if (sent_.segments() >= segments_max) return {};
  Plan plan{.what = Plan::What::kNew};
  if (unsent == 0) {
    // A FIN alone needs room in the peer's window only: congestion control counts data.
    plan.fin = true;
    if (snd_wnd_ <= filled) plan.what = Plan::What::kNothing;
    return plan;
  }
  const std::uint32_t flight = in_flight();
  const std::uint32_t window = congestion_.window() - std::min(congestion_.window(), flight);
  const std::uint32_t room = snd_wnd_ - std::min(snd_wnd_, filled);
  if (const std::uint32_t probe = path_probe_length(context.now);
      probe != 0 && probe <= std::min({unsent, room, window})) {
    plan.length = probe;
    plan.path_probe = true;
    return plan;
  }
  plan.length = std::min({unsent, payload_max(), window, room});
  plan.limited = window < std::min({unsent, payload_max(), room});
  // Sender's silly window avoidance (RFC 9293, section 3.8.6.2.1): a full segment, the last one
  // (which Nagle's algorithm holds back while others are under way), or half of what the peer has
  // ever offered. A congestion window is never worth cutting a segment for.
  const bool last = plan.length == unsent &&
                    !(nagle_ && !fin_queued_ && filled > 0 && plan.length < payload_max());
  const bool worth =
      last || plan.length == payload_max() || (plan.length >= snd_wnd_max_ / 2 && !plan.limited);
  if (plan.length == 0 || !worth) plan.what = Plan::What::kNothing;
  plan.fin = plan.length == unsent && fin_waits && room > plan.length;
  return plan;
}

bool Connection::send_planned(Context& context, const Plan& plan) {
  if (plan.what == Plan::What::kAgain) return send_again(context, *plan.again);
  if (!send_new(context, plan.length, plan.fin)) return false;
  if (plan.path_probe) on_path_probe_sent(*sent_.last(), plan.length);
  return true;
}

std::uint32_t Connection::payload_max() const {
  // The MSS counts options (RFC 6691): time stamps, and SACK blocks beside them.
  std::size_t options = stamping_ ? kTimestampsBytes : 0;
  const std::size_t blocks = reassembly_.ranges() + (duplicate_ ? 1 : 0);
  if (sack_permitted_) options += sack_bytes(std::min(blocks, sack_blocks_max(stamping_)));
  return send_mss_ - static_cast<std::uint32_t>(options);
}

bool Connection::must_wait_for_pace(const Context& context) const {
  return is_paced(context.options) && next_departure_ > context.now && !(snd_nxt_ < burst_end_);
}

bool Connection::is_paced(const StackOptions& options) const {
  return options.pacing && rtt_.smoothed() >= kPacedRttMin;
}

/// Spreads a window over its round trip. What was not used in the last millisecond may leave at
/// once, since timers are no finer and a burst of that size fills no queue; after a pause, so may
/// an initial window (RFC 6928).
void Connection::pace(Context& context, std::uint32_t length) {
  if (!is_paced(context.options)) return;
  const std::uint64_t rate =
      std::max<std::uint64_t>(congestion_.pacing_rate_bytes_per_s(rtt_.smoothed()), send_mss_);
  const auto time_of = [rate](std::uint64_t bytes) {
    return Duration{static_cast<std::int64_t>(bytes * 1'000'000'000 / rate)};
  };
  next_departure_ = std::max(next_departure_, context.now - kPaceBurst) + time_of(length);
}

bool Connection::send_new(Context& context, std::uint32_t length, bool fin) {
  if (sent_.empty()) burst_end_ = snd_nxt_ + kInitialSegments * send_mss_;
  if (sent_.empty() && rtt_.measured()) {
    // Since the last sending for the restart after a pause (RFC 5681, section 4.1), and since the
    // last arrival, which has emptied the network, for CUBIC's clock.
    const Duration silent = context.now - last_sent_at_;
    const Duration empty = context.now - std::max(last_sent_at_, last_received_at_);
    congestion_.on_idle(silent > rtt_.timeout() ? silent : empty, rtt_.timeout());
  }
  SentSegment* const record = sent_.push(snd_nxt_, length + (fin ? 1U : 0U), context.now);
  if (record == nullptr) {
    ++context.counters.dropped_no_memory;
    return false;
  }
  if (!send_data(context, snd_nxt_, length, fin)) {
    sent_.drop_last();
    return false;
  }
  record->repeated = snd_nxt_ < snd_max_;  // a window probe carried its first byte
  snd_nxt_ = record->end();
  snd_max_ = later_of(snd_max_, snd_nxt_);
  if (repair_ == Repair::kRecovery) prr_.on_sent(record->length);
  pace(context, length);
  return true;
}

bool Connection::send_again(Context& context, SentSegment& segment) {
  path_probe_failed(segment, context.now);
  const bool with_fin = fin_queued_ && !fin_acknowledged_ && segment.end() == fin_seq() + 1;
  const std::uint32_t text = segment.length - (with_fin ? 1U : 0U);
  const std::uint32_t length = std::min(text, payload_max());
  if (length < text && !sent_.split(segment, length)) {
    ++context.counters.dropped_no_memory;
    return false;
  }
  if (!send_data(context, segment.start, length, with_fin && length == text)) return false;
  ++context.counters.retransmitted_segments;
  if (repair_ != Repair::kNone && !std::exchange(has_repeat_stamp_, true))
    repeat_stamp_ = stamp(context.now);
  ++repeats_;
  ++repeats_unexplained_;
  prr_.on_sent(segment.length);
  sent_.sent_again(segment, context.now);
  // The first one's time-out starts anew, or it would fire for the sending before.
  if (&segment == sent_.first()) retransmission_deadline_ = context.now + rtt_.timeout();
  pace(context, length);
  return true;
}

/// Builds and hands over one segment of text; what it means for the scoreboard is the caller's.
bool Connection::send_data(Context& context, Seq seq, std::uint32_t length, bool fin) {
  port::Packet packet = context.output.allocate();
  if (!packet) {
    ++context.counters.dropped_no_memory;
    return false;
  }
  const std::size_t offset = snd_una_.distance_to(seq);
  const bool is_new = seq == snd_max_;
  std::uint8_t flags = TcpHeader::kAck;
  if (length > 0 && offset + length == send_queue_.size()) flags |= TcpHeader::kPsh;
  if (fin) flags |= TcpHeader::kFin;
  if (is_new && length > 0 && std::exchange(ecn_reduced_, false)) flags |= TcpHeader::kCwr;
  const std::span<std::byte> room = build_segment(packet, header(context, seq, flags), length);
  // A FIN that is repeated alone lies behind the queue; there is nothing to copy then.
  if (length > 0) send_queue_.read(offset, room);

  ++context.counters.segments_sent;
  if (seq + length > snd_max_)
    context.counters.bytes_sent += later_of(seq, snd_max_).distance_to(seq + length);
  if (fin) note_fin_sent(context);
  last_sent_at_ = context.now;
  if (progress_deadline_ == kNever) progress_deadline_ = context.now + context.options.user_timeout;
  acknowledged_now();
  // Repetitions and probes are not marked as capable (RFC 3168, section 6.1.5 and 6.1.6).
  const net::Ecn ecn =
      ecn_ && is_new && length > 0 && !persisting_ ? net::Ecn::kCapable0 : net::Ecn::kNotCapable;
  context.output.send(std::move(packet), key_.local_address, key_.remote_address, ecn, context.now);
  return true;
}

void Connection::note_fin_sent(Context& context) {
  const Duration bound = state_ == ConnectionState::kLastAck ? context.options.last_ack_timeout
                                                             : context.options.fin_timeout;
  state_deadline_ = std::min(state_deadline_, context.now + bound);
}

void Connection::emit_syn(Context& context) {
  SegmentHeader syn;
  syn.seq = iss_;
  syn.flags = TcpHeader::kSyn;
  const bool answer = state_ == ConnectionState::kSynReceived;
  if (answer) {
    syn.flags |= TcpHeader::kAck;
    syn.ack = rcv_nxt_;
  }
  syn.window = syn_window(context.options);
  if (answer) rcv_edge_ = later_of(rcv_edge_, rcv_nxt_ + syn.window);
  syn.options.mss = static_cast<std::uint16_t>(receive_mss_);
  // An answer confirms only what the peer has offered (RFC 7323, section 1.3; RFC 2018, section 2).
  if (!answer || sack_permitted_) syn.options.sack_permitted = true;
  if (!answer || scaling_) syn.options.window_scale = receive_shift_;
  if (stamping_ || (!answer && context.options.timestamps))
    syn.options.timestamps = Timestamps{stamp(context.now), answer ? stamp_recent_ : 0};
  // RFC 3168, section 6.1.1; a repeated SYN does not ask again, for it may be what got it lost
  // (section 6.1.1.1).
  if (answer && ecn_) syn.flags |= TcpHeader::kEce;
  if (!answer && context.options.ecn_active && syn_retransmissions_ == 0)
    syn.flags |= TcpHeader::kEce | TcpHeader::kCwr;
  if (!send_control_segment(context, key_, syn)) {
    retry_deadline_ = context.now + kRetryWithoutBuffer;
    return;
  }
  syn_due_ = false;
  if (syn_retransmissions_ == 0) {
    last_sent_at_ = context.now;
  } else {
    ++context.counters.retransmitted_segments;
  }
  retransmission_deadline_ = context.now + rtt_.timeout();
}

bool Connection::send_ack(Context& context) {
  const bool sent =
      send_control_segment(context, key_, header(context, control_seq(), TcpHeader::kAck));
  if (sent) acknowledged_now();
  return sent;
}

void Connection::send_reset(Context& context) {
  SegmentHeader reset;
  reset.seq = control_seq();
  if (stamping_) reset.options.timestamps = Timestamps{stamp(context.now), stamp_recent_};
  reset.ack = rcv_nxt_;
  reset.flags = TcpHeader::kRst | TcpHeader::kAck;
  send_control_segment(context, key_, reset);
}

SegmentHeader Connection::header(Context& context, Seq seq, std::uint8_t flags) {
  SegmentHeader result;
  result.source_port = key_.local_port;
  result.destination_port = key_.remote_port;
  result.seq = seq;
  result.ack = rcv_nxt_;
  result.flags = flags;
  result.window = announce_window(context.options);
  if (ecn_echo_) result.flags |= TcpHeader::kEce;
  if (stamping_) result.options.timestamps = Timestamps{stamp(context.now), stamp_recent_};
  if (sack_permitted_) put_sacks(result.options);
  last_ack_sent_ = rcv_nxt_;
  return result;
}

/// A duplicate is reported once, first (RFC 2883, section 4); then what lies beyond a gap.
void Connection::put_sacks(SegmentOptions& options) {
  if (!duplicate_ && reassembly_.empty()) return;
  const std::size_t most = sack_blocks_max(stamping_);
  std::size_t count = 0;
  if (duplicate_) options.sack[count++] = *duplicate_;
  duplicate_.reset();
  count += reassembly_.sack_blocks(std::span{options.sack}.first(most).subspan(count));
  options.sack_count = count;
}

std::optional<TimeWaitStamps> Connection::last_stamps(Instant now) const {
  if (!stamping_) return std::nullopt;
  return TimeWaitStamps{.received = stamp_recent_, .sent = stamp(now)};
}

std::uint32_t Connection::stamp(Instant at) const { return stamp_at(stamp_offset, at); }

Seq Connection::control_seq() const {
  // Segments without length must lie in the peer's window to be heard: not beyond it when a probe
  // was refused or the window has shrunk.
  return later_of(snd_una_, earlier_of(snd_max_, snd_una_ + snd_wnd_));
}

std::uint32_t Connection::receive_space(const StackOptions& options) const {
  std::uint32_t limit = options.receive_buffer_bytes;
  if (receive_queue_.is_short()) {
    const bool rationed = receive_queue_.is_rationed();
    limit = std::min(limit,
                     std::max(rationed ? kWindowWhenRationed : kWindowWhenShort, 2 * receive_mss_));
  }
  if (receive_queue_.is_starved()) limit = 0;  // see announce_window()
  limit = std::min(limit, std::uint32_t{UINT16_MAX} << receive_shift_);
  const auto used = static_cast<std::uint32_t>(receive_queue_.size());
  return limit > used ? limit - used : 0;
}

/// The edge moves forward in steps worth a segment (RFC 9293, section 3.8.6.2.2) and never back
/// (section 3.8.6), even when memory has become short since: what was promised is accepted as far
/// as the pool allows.
Seq Connection::next_edge(const StackOptions& options) const {
  const Seq edge = rcv_nxt_ + receive_space(options);
  const std::uint32_t step = std::min(options.receive_buffer_bytes / 2, receive_mss_);
  return edge > rcv_edge_ && rcv_edge_.distance_to(edge) >= step ? edge : rcv_edge_;
}

std::uint16_t Connection::announce_window(const StackOptions& options) {
  rcv_edge_ = next_edge(options);
  // A window that is closed for want of memory, with nothing to read, is opened by nobody's
  // reading: the stack has to say.
  if (receive_queue_.empty() && receive_queue_.is_starved()) window_held_ = true;
  // Rounded down, so the peer may see the edge move back by less than one unit of the scale
  // (RFC 7323, section 2.4); rounding up would let a sender of single bytes overrun the buffer.
  const std::uint32_t window = rcv_nxt_.distance_to(rcv_edge_) >> receive_shift_;
  return static_cast<std::uint16_t>(std::min<std::uint32_t>(window, UINT16_MAX));
}

void Connection::acknowledged_now() {
  ack_now_ = false;
  unacknowledged_ = 0;
  if (quick_acks_ > 0) --quick_acks_;
  ack_deadline_ = kNever;
}

}  // namespace weir::tcp
