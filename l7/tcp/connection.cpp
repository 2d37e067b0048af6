#include "l7/tcp/connection.h"

#include <algorithm>
#include <utility>

#include "l4/base/assert.h"

// Life, time and the user's side of a connection. What arrives is in connection_input.cpp, what
// leaves in connection_output.cpp.

namespace weir::tcp {
namespace {

// With the initial time-out of 1 s this is 63 s (RFC 9293, section 3.8.3: at least 3 minutes is
// asked of the active side only; a half-open passive connection is a cost without a customer).
constexpr std::uint8_t kSynAckRetransmissionsMax = 5;

// Probes back off like retransmissions, up to RttEstimator::kMax.
constexpr std::uint8_t kProbeBackoffMax = 12;

}  // namespace

Connection::Connection(const FlowKey& key, ChunkPool& pool, const StackOptions& options)
    : key_{key},
      receive_queue_{pool, ChunkPool::Use::kReceive},
      send_queue_{pool, ChunkPool::Use::kSend},
      rtt_{options.retransmission_timeout_min} {
  while ((options.receive_buffer_bytes >> receive_shift_) > UINT16_MAX)
    ++receive_shift_;
}

void Connection::start_send_side(Seq initial) {
  iss_ = snd_una_ = initial;
  snd_nxt_ = snd_max_ = initial + 1;
  syn_due_ = wants_output_ = true;
}

void Connection::open_active(Context& context, Seq initial) {
  state_ = ConnectionState::kSynSent;
  active_ = owned_by_user_ = true;
  start_send_side(initial);
  receive_mss_ = send_mss_ = context.output.segment_size(key_.remote_address) -
                             static_cast<std::uint32_t>(sizeof(wire::TcpHeader));
  state_deadline_ = context.now + context.options.connect_timeout;
}

void Connection::open_passive(Context& context, Seq initial, const SegmentView& syn) {
  state_ = ConnectionState::kSynReceived;
  start_send_side(initial);
  receive_mss_ = send_mss_ = context.output.segment_size(key_.remote_address) -
                             static_cast<std::uint32_t>(sizeof(wire::TcpHeader));
  learn_from_syn(syn);
}

void Connection::establish(Context& context) {
  state_ = fin_queued_ ? ConnectionState::kFinWait1 : ConnectionState::kEstablished;
  state_deadline_ = released_ ? context.now + context.options.linger_timeout : kNever;
  retransmission_deadline_ = kNever;
  syn_due_ = false;
  if (syn_retransmissions_ == 0) {
    rtt_.sample(context.now - measured_at_);
  } else {
    rtt_.syn_was_lost();
  }
  congestion_.start(send_mss_, syn_retransmissions_);
  wants_output_ = true;
  if (active_) {
    news.connected = true;
    ++context.counters.connected;
  } else {
    owned_by_user_ = true;
    news.accepted = true;
    ++context.counters.accepted;
  }
}

void Connection::fail(Failure failure) {
  failure_ = failure;
  news.reset = true;
  send_queue_.clear();
  receive_queue_.clear();
  finish();
}

void Connection::finish() {
  state_ = ConnectionState::kClosed;
  retransmission_deadline_ = ack_deadline_ = retry_deadline_ = kNever;
  state_deadline_ = progress_deadline_ = kNever;
  wants_output_ = syn_due_ = ack_now_ = starved_ = persisting_ = false;
  reassembly_.clear();
}

void Connection::abort(Context& context) {
  if (state_ != ConnectionState::kClosed && state_ != ConnectionState::kSynSent)
    send_reset(context);
  owned_by_user_ = false;
  fail(Failure::kReset);
}

// ---- time ---------------------------------------------------------------------------------------

Instant Connection::next_deadline() const {
  return std::min({retransmission_deadline_, ack_deadline_, retry_deadline_, state_deadline_,
                   progress_deadline_});
}

void Connection::on_timer(Context& context) {
  if (state_deadline_ <= context.now || progress_deadline_ <= context.now) return time_out(context);
  if (retransmission_deadline_ <= context.now) on_retransmission_timer(context);
  if (ack_deadline_ <= context.now) {
    ack_deadline_ = kNever;
    ack_now_ = wants_output_ = true;
  }
  if (retry_deadline_ <= context.now) {
    retry_deadline_ = kNever;
    wants_output_ = true;
  }
}

void Connection::time_out(Context& context) {
  switch (state_) {
    case ConnectionState::kSynSent:
    case ConnectionState::kSynReceived:  // the peer has not shown that it exists
    case ConnectionState::kFinWait2:     // it has all we had to say; a late FIN will meet a RST
      break;
    case ConnectionState::kEstablished:
    case ConnectionState::kFinWait1:
    case ConnectionState::kCloseWait:
    case ConnectionState::kClosing:
    case ConnectionState::kLastAck:
      send_reset(context);
      break;
    case ConnectionState::kTimeWait:
    case ConnectionState::kClosed:
      WEIR_ASSERT(false);  // they have no deadline, see finish()
  }
  if (active_ && (state_ == ConnectionState::kSynSent || state_ == ConnectionState::kSynReceived))
    ++context.counters.failed_connects;
  fail(Failure::kTimedOut);
}

void Connection::on_retransmission_timer(Context& context) {
  retransmission_deadline_ = kNever;
  wants_output_ = true;
  if (state_ == ConnectionState::kSynSent || state_ == ConnectionState::kSynReceived)
    return retransmit_syn(context);
  if (persisting_) return probe_window(context);

  // RFC 6298, section 5.4 to 5.6, and RFC 5681, section 3.1: everything in flight counts as lost;
  // sending starts again at snd_una with a window of one segment.
  ++context.counters.retransmission_timeouts;
  congestion_.on_timeout(in_flight(), rtt_.backoff() == 0);
  recovery_.on_timeout(snd_max_);
  rtt_.back_off();
  measuring_rtt_ = false;  // Karn
  snd_nxt_ = snd_una_;
}

void Connection::retransmit_syn(Context& context) {
  if (!active_ && syn_retransmissions_ >= kSynAckRetransmissionsMax) return time_out(context);
  ++context.counters.retransmission_timeouts;
  ++syn_retransmissions_;
  rtt_.back_off();
  syn_due_ = true;
}

void Connection::probe_window(Context& context) {
  // RFC 9293, section 3.8.6.1: what the small window allows, or else one byte that it does not.
  // snd_nxt stays: the probe is not in flight, only snd_max remembers that it may be accepted.
  const auto queued = static_cast<std::uint32_t>(send_queue_.size());
  const std::uint32_t allowed = std::max<std::uint32_t>(std::min(snd_wnd_, payload_max()), 1);
  const std::uint32_t length = std::min(allowed, queued);
  const bool fin =
      fin_queued_ && !fin_acknowledged_ && length == queued && (length < snd_wnd_ || length == 0);
  send_data(context, snd_una_, length, fin);
  if (probes_ < kProbeBackoffMax) ++probes_;
  retransmission_deadline_ =
      context.now + std::min(RttEstimator::kMax, rtt_.timeout() * (1 << probes_));
}

// ---- the user's side ----------------------------------------------------------------------------

bool Connection::accepts_text() const {
  return state_ == ConnectionState::kEstablished || state_ == ConnectionState::kFinWait1 ||
         state_ == ConnectionState::kFinWait2;
}

void Connection::consume(const StackOptions& options, std::size_t count) {
  receive_queue_.consume(std::min(count, receive_queue_.size()));
  if (!accepts_text()) return;
  const Seq edge = rcv_nxt_ + receive_space(options);
  if (edge <= rcv_edge_) return;
  // Announced from here and not from the next arrival: a peer that faces a closed window sends
  // nothing that could be answered.
  const std::uint32_t worth_telling =
      std::min(2 * receive_mss_, std::max(options.receive_buffer_bytes / 2, 1U));
  if (rcv_edge_.distance_to(edge) >= worth_telling) ack_now_ = wants_output_ = true;
}

std::size_t Connection::send_limit(const StackOptions& options) const {
  const std::size_t limit = options.send_buffer_bytes;
  return send_queue_.pool().short_for(ChunkPool::Use::kSend)
             ? std::min(limit, std::max<std::size_t>(limit / 8, Chunk::kBytes))
             : limit;
}

std::size_t Connection::writable_bytes(const StackOptions& options) const {
  if (fin_queued_ || state_ == ConnectionState::kClosed) return 0;
  const std::size_t limit = send_limit(options);
  return limit > send_queue_.size() ? limit - send_queue_.size() : 0;
}

std::size_t Connection::write(const StackOptions& options, std::span<const std::byte> bytes) {
  if (fin_queued_ || state_ == ConnectionState::kClosed) return 0;
  const std::size_t allowed = std::min(bytes.size(), writable_bytes(options));
  const std::size_t written = send_queue_.append(bytes.first(allowed));
  if (written > 0) wants_output_ = true;
  if (written < bytes.size()) {
    wants_writable_ = true;
    // With bytes in flight the next ACK looks again; with none, only the stack can.
    starved_ = written < allowed || send_limit(options) < options.send_buffer_bytes;
  }
  return written;
}

void Connection::end_starvation() {
  starved_ = false;
  if (!std::exchange(wants_writable_, false)) return;
  news.writable = true;
}

void Connection::close_write() {
  if (fin_queued_) return;
  switch (state_) {
    case ConnectionState::kSynSent:
    case ConnectionState::kSynReceived:
      break;  // establish() goes on
    case ConnectionState::kEstablished:
      state_ = ConnectionState::kFinWait1;
      break;
    case ConnectionState::kCloseWait:
      state_ = ConnectionState::kLastAck;
      break;
    case ConnectionState::kFinWait1:
    case ConnectionState::kFinWait2:
    case ConnectionState::kClosing:
    case ConnectionState::kLastAck:
    case ConnectionState::kTimeWait:
    case ConnectionState::kClosed:
      return;
  }
  fin_queued_ = wants_output_ = true;
  wants_writable_ = starved_ = false;
}

void Connection::release(const StackOptions& options, Instant now) {
  owned_by_user_ = false;
  released_ = true;
  news = News{};
  if (state_ == ConnectionState::kClosed) return;
  if (state_ == ConnectionState::kSynSent) return fail(Failure::kNone);
  // What has arrived ahead is not kept either; the peer repeats it into discard_text().
  receive_queue_.clear();
  reassembly_.clear();
  consume(options, 0);
  close_write();
  const Duration bound =
      state_ == ConnectionState::kFinWait2 ? options.fin_timeout : options.linger_timeout;
  state_deadline_ = std::min(state_deadline_, now + bound);
}

}  // namespace weir::tcp
