#include <algorithm>
#include <utility>

#include "l4/base/assert.h"
#include "l7/tcp/connection.h"

namespace weir::tcp {
namespace {

using wire::TcpHeader;

// When no packet buffer is to be had, nothing arrives that would cause another try.
constexpr Duration kRetryWithoutBuffer = std::chrono::milliseconds{1};

// With the window shrunk because memory is short, a connection still moves.
constexpr std::uint32_t kWindowWhenShort = 2 * Chunk::kBytes;

}  // namespace

struct Connection::Plan {
  bool send = false;
  std::uint32_t length = 0;
  bool fin = false;
};

bool Connection::emit(Context& context, unsigned segments_max) {
  wants_output_ = false;
  retry_deadline_ = kNever;
  if (state_ == ConnectionState::kClosed) return false;
  if (state_ == ConnectionState::kSynSent || state_ == ConnectionState::kSynReceived) {
    if (syn_due_) emit_syn(context);
    return false;
  }
  if (in_flight() == 0 && rtt_.measured() && context.now - last_sent_at_ > rtt_.timeout())
    congestion_.on_idle();  // RFC 5681, section 4.1

  unsigned sent = 0;
  bool buffers = true;
  Plan plan = plan_segment();
  while (plan.send && sent < segments_max && buffers) {
    buffers = send_data(context, snd_nxt_, plan.length, plan.fin);
    if (!buffers) break;
    snd_nxt_ += plan.length + (plan.fin ? 1U : 0U);
    ++sent;
    plan = plan_segment();
  }
  if (ack_now_ && buffers) buffers = send_ack(context);
  if (!buffers) retry_deadline_ = context.now + kRetryWithoutBuffer;
  set_retransmission_timer(context);
  wants_output_ = plan.send && buffers;
  return wants_output_;
}

Connection::Plan Connection::plan_segment() const {
  const std::uint32_t flight = in_flight();
  const auto queued = static_cast<std::uint32_t>(send_queue_.size());
  const bool fin_waits = fin_queued_ && !fin_acknowledged_ && flight <= queued;
  const std::uint32_t unsent = queued - std::min(flight, queued);
  if (unsent == 0 && !fin_waits) return {};
  // A FIN alone needs room in the peer's window only: congestion control counts data.
  if (unsent == 0) return {.send = snd_wnd_ > flight, .length = 0, .fin = true};

  const std::uint32_t window =
      std::min(snd_wnd_, congestion_.window() + recovery_.extra_segments() * send_mss_);
  const std::uint32_t usable = window > flight ? window - flight : 0;
  const std::uint32_t length = std::min({unsent, payload_max(), usable});
  // Sender's silly window avoidance (RFC 9293, section 3.8.6.2.1) without Nagle's delay: a full
  // segment, the last one, or half of what the peer has ever offered.
  const bool last = length == unsent;
  const bool worth_sending = last || length == payload_max() || length >= snd_wnd_max_ / 2;
  if (length == 0 || !worth_sending) return {};
  return {.send = true, .length = length, .fin = last && fin_waits && usable > length};
}

std::uint32_t Connection::payload_max() const {
  // The MSS counts options (RFC 6691); SACK blocks are the only ones we put beside text.
  SegmentOptions options;
  options.sack_count = sack_permitted_ ? std::min(reassembly_.ranges(), kSackBlocksMax) : 0;
  return send_mss_ - static_cast<std::uint32_t>(options_size(options));
}

bool Connection::send_data(Context& context, Seq seq, std::uint32_t length, bool fin) {
  port::Packet packet = context.output.allocate();
  if (!packet) {
    ++context.counters.dropped_no_memory;
    return false;
  }
  const std::size_t offset = snd_una_.distance_to(seq);
  std::uint8_t flags = TcpHeader::kAck;
  if (length > 0 && offset + length == send_queue_.size()) flags |= TcpHeader::kPsh;
  if (fin) flags |= TcpHeader::kFin;
  const std::span<std::byte> room = build_segment(packet, header(context, seq, flags), length);
  // A FIN that is repeated alone lies behind the queue; there is nothing to copy then.
  if (length > 0) send_queue_.read(offset, room);

  const Seq end = seq + length + (fin ? 1U : 0U);
  ++context.counters.segments_sent;
  if (seq < snd_max_) {
    ++context.counters.retransmitted_segments;
    if (measuring_rtt_ && seq < measured_end_) measuring_rtt_ = false;  // Karn
  } else if (!measuring_rtt_) {
    measuring_rtt_ = true;
    measured_end_ = end;
    measured_at_ = context.now;
  }
  if (end > snd_max_) {
    const Seq data_end = end - (fin ? 1U : 0U);
    if (data_end > snd_max_) context.counters.bytes_sent += snd_max_.distance_to(data_end);
    snd_max_ = end;
  }
  if (fin) note_fin_sent(context);
  last_sent_at_ = context.now;
  if (progress_deadline_ == kNever) progress_deadline_ = context.now + context.options.user_timeout;
  acknowledged_now();
  context.output.send(std::move(packet), key_.local_address, key_.remote_address, context.now);
  return true;
}

void Connection::note_fin_sent(Context& context) {
  const Duration bound = state_ == ConnectionState::kLastAck ? context.options.last_ack_timeout
                                                             : context.options.fin_timeout;
  state_deadline_ = std::min(state_deadline_, context.now + bound);
}

void Connection::retransmit_first(Context& context) {
  const auto queued = static_cast<std::uint32_t>(send_queue_.size());
  const std::uint32_t length = std::min({queued, payload_max(), snd_una_.distance_to(snd_max_)});
  const bool fin = fin_queued_ && !fin_acknowledged_ && length == queued &&
                   snd_una_.distance_to(snd_max_) > length;
  static_cast<void>(send_data(context, snd_una_, length, fin));  // or the time-out repairs it
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
  // The window of a SYN is never scaled (RFC 7323, section 2.2).
  const std::uint32_t space = receive_space(context.options);
  syn.window = static_cast<std::uint16_t>(std::min<std::uint32_t>(space, UINT16_MAX));
  if (answer) rcv_edge_ = later_of(rcv_edge_, rcv_nxt_ + syn.window);
  syn.options.mss = static_cast<std::uint16_t>(receive_mss_);
  // An answer confirms only what the peer has offered (RFC 7323, section 1.3; RFC 2018, section 2).
  if (!answer || sack_permitted_) syn.options.sack_permitted = true;
  if (!answer || scaling_) syn.options.window_scale = receive_shift_;
  if (!send_control_segment(context, key_, syn)) {
    retransmission_deadline_ = context.now + kRetryWithoutBuffer;
    return;
  }
  syn_due_ = false;
  if (syn_retransmissions_ == 0) {
    measured_at_ = context.now;
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
  if (sack_permitted_ && !reassembly_.empty())
    result.options.sack_count = reassembly_.sack_blocks(result.options.sack);
  return result;
}

Seq Connection::control_seq() const {
  // Segments without length must lie in the peer's window to be heard: not at snd_nxt when that has
  // gone back after a time-out, and not beyond the window when a probe was refused.
  return later_of(snd_una_, earlier_of(snd_max_, snd_una_ + snd_wnd_));
}

std::uint32_t Connection::receive_space(const StackOptions& options) const {
  std::uint32_t limit = options.receive_buffer_bytes;
  const ChunkPool& pool = receive_queue_.pool();
  if (pool.short_for(ChunkPool::Use::kReceive)) limit = std::min(limit, kWindowWhenShort);
  if (pool.exhausted_for(ChunkPool::Use::kReceive)) limit = 0;
  limit = std::min(limit, std::uint32_t{UINT16_MAX} << receive_shift_);
  const auto used = static_cast<std::uint32_t>(receive_queue_.size());
  return limit > used ? limit - used : 0;
}

std::uint16_t Connection::announce_window(const StackOptions& options) {
  // The edge moves forward in steps worth a segment (RFC 9293, section 3.8.6.2.2) and never back
  // (section 3.8.6), even when memory has become short since: what was promised is accepted as far
  // as the pool allows.
  const Seq edge = rcv_nxt_ + receive_space(options);
  if (edge > rcv_edge_) {
    const std::uint32_t step = std::min(options.receive_buffer_bytes / 2, receive_mss_);
    if (rcv_edge_.distance_to(edge) >= step) rcv_edge_ = edge;
  }
  // Rounded down, so the peer may see the edge move back by less than one unit of the scale
  // (RFC 7323, section 2.4); rounding up would let a sender of single bytes overrun the buffer.
  const std::uint32_t window = rcv_nxt_.distance_to(rcv_edge_) >> receive_shift_;
  return static_cast<std::uint16_t>(std::min<std::uint32_t>(window, UINT16_MAX));
}

void Connection::acknowledged_now() {
  ack_now_ = false;
  segments_unacknowledged_ = 0;
  ack_deadline_ = kNever;
}

void Connection::set_retransmission_timer(Context& context) {
  const bool unsent = in_flight() < send_queue_.size() + (fin_queued_ && !fin_acknowledged_);
  if (in_flight() > 0) {
    if (persisting_ || retransmission_deadline_ == kNever)
      retransmission_deadline_ = context.now + rtt_.timeout();
    persisting_ = false;
  } else if (unsent && retry_deadline_ == kNever) {
    // Nothing in flight, no want of buffers, and still nothing may leave: the peer's window is
    // closed or silly.
    if (!persisting_) {
      retransmission_deadline_ = context.now + rtt_.timeout();
      probes_ = 0;
    }
    persisting_ = true;
  } else {
    retransmission_deadline_ = kNever;
    persisting_ = false;
  }
}

}  // namespace weir::tcp
