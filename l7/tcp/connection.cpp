#include "l7/tcp/connection.h"

#include <algorithm>
#include <utility>

#include "l4/base/assert.h"
#include "l7/tcp/handshake.h"

// Life, time and the user's side of a connection. What arrives is in connection_input.cpp, what
// leaves in connection_output.cpp.

namespace weir::tcp {
namespace {

using wire::TcpHeader;

// Probes back off like retransmissions, up to RttEstimator::kMax.
constexpr std::uint8_t kProbeBackoffMax = 12;

}  // namespace

Connection::Connection(const FlowKey& key, Pools& pools, const StackOptions& options)
    : key_{key},
      sent_{pools.sent},
      receive_queue_{pools.chunks, ChunkPool::Use::kReceive},
      send_queue_{pools.chunks, ChunkPool::Use::kSend},
      rtt_{options.retransmission_timeout_min} {
  receive_shift_ = receive_shift(options);
}

void Connection::start_send_side(Context& context, Seq initial) {
  iss_ = snd_una_ = initial;
  snd_nxt_ = snd_max_ = initial + 1;
  syn_due_ = wants_output_ = true;
  send_mss_ = context.output.segment_size(key_.remote_address) -
              static_cast<std::uint32_t>(sizeof(wire::TcpHeader));
  receive_mss_ = receive_mss(context.output, key_);
}

void Connection::open_active(Context& context, Seq initial) {
  state_ = ConnectionState::kSynSent;
  active_ = owned_by_user_ = true;
  ecn_offered_ = context.options.ecn_active;
  start_send_side(context, initial);
  state_deadline_ = context.now + context.options.connect_timeout;
}

void Connection::open_passive(Context& context, const Accepted& accepted) {
  const HalfOpen& record = accepted.record;
  state_ = ConnectionState::kSynReceived;
  start_send_side(context, record.iss);
  syn_due_ = wants_output_ = false;
  irs_ = record.irs;
  rcv_nxt_ = last_ack_sent_ = record.irs + 1;
  rcv_edge_ = rcv_nxt_ + std::uint32_t{syn_window(context.options)};
  send_mss_ = std::min<std::uint32_t>(send_mss_, record.peer.mss);
  sack_permitted_ = record.peer.sack_permitted;
  scaling_ = record.peer.window_scale.has_value();
  send_shift_ = record.peer.window_scale.value_or(0);
  if (!scaling_) receive_shift_ = 0;
  stamping_ = record.peer.timestamps;
  stamp_recent_ = record.ts_recent;
  stamp_recent_at_ = context.now;
  ecn_ = record.peer.ecn;
  snd_wnd_ = snd_wnd_max_ = record.window;
  snd_wl1_ = irs_;
  snd_wl2_ = iss_;
  snd_una_ = iss_ + 1;
  syn_retransmissions_ = record.retransmissions;
  establish(context, accepted.answered_at);
}

void Connection::establish(Context& context, std::optional<Instant> answered_at) {
  state_ = fin_queued_ ? ConnectionState::kFinWait1 : ConnectionState::kEstablished;
  state_deadline_ =
      released_ ? std::min(state_deadline_, context.now + context.options.linger_timeout) : kNever;
  retransmission_deadline_ = kNever;
  syn_due_ = false;
  if (answered_at) {
    rtt_.sample(context.now - *answered_at);
    min_rtt_.sample(context.now - *answered_at, context.now);
  } else if (syn_retransmissions_ > 0) {
    rtt_.syn_was_lost();
  }
  round_end_ = limited_end_ = snd_nxt_;
  last_received_at_ = context.now;
  if (context.options.keepalive_idle > Duration{0})
    keepalive_deadline_ = context.now + context.options.keepalive_idle;
  congestion_.start(context.options.congestion, send_mss_, syn_retransmissions_);
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
  retransmission_deadline_ = probe_deadline_ = ack_deadline_ = retry_deadline_ = kNever;
  state_deadline_ = progress_deadline_ = keepalive_deadline_ = stalled_since_ = early_since_ =
      kNever;
  sent_.clear();
  wants_output_ = syn_due_ = ack_now_ = window_due_ = starved_ = persisting_ = false;
  reassembly_.clear();
}

void Connection::abort(Context& context) {
  if (state_ != ConnectionState::kClosed && state_ != ConnectionState::kSynSent)
    send_reset(context);
  owned_by_user_ = false;
  fail(Failure::kReset);
}

void Connection::evict(Context& context) {
  ++context.counters.evicted_stalled;
  time_out(context);
}

// ---- time ---------------------------------------------------------------------------------------

Instant Connection::next_deadline() const {
  // Asked after every call that touches the connection, ten times in a request and reply: a list
  // would be copied to the stack and walked there (60 instructions, as a tree 20).
  const Instant often = std::min(std::min(retransmission_deadline_, probe_deadline_),
                                 std::min(ack_deadline_, retry_deadline_));
  const Instant rare = std::min(std::min(state_deadline_, progress_deadline_), keepalive_deadline_);
  return std::min(often, rare);
}

void Connection::on_timer(Context& context) {
  // A peer that has answered the last probe of its closed window is to have the next one before it
  // is judged, and those come further and further apart.
  if (progress_deadline_ <= context.now && !released_ && is_window_closed() &&
      last_received_at_ >= last_sent_at_ && retransmission_deadline_ != kNever)
    progress_deadline_ = retransmission_deadline_ + context.options.user_timeout;
  if (state_deadline_ <= context.now || progress_deadline_ <= context.now) return time_out(context);
  if (keepalive_deadline_ <= context.now) on_keepalive_timer(context);
  if (state_ == ConnectionState::kClosed) return;
  if (probe_deadline_ <= context.now) on_probe_timer(context);  // may spare the time-out
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

void Connection::retransmit_syn(Context& context) {
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
  if (send_data(context, snd_una_, length, fin)) {
    ++context.counters.window_probes;
    snd_max_ = later_of(snd_max_, snd_una_ + length + (fin ? 1U : 0U));
  }
  if (probes_ < kProbeBackoffMax) ++probes_;
  retransmission_deadline_ =
      context.now + std::min(RttEstimator::kMax, rtt_.timeout() * (1 << probes_));
}

/// RFC 9293, section 3.8.4: a segment that has nothing new, for which the peer must say what it
/// expects. Only silence counts: whatever arrives moves the next one on.
void Connection::on_keepalive_timer(Context& context) {
  const StackOptions& options = context.options;
  keepalive_deadline_ = last_received_at_ + options.keepalive_idle;
  if (keepalive_deadline_ > context.now) return;
  keepalive_deadline_ = context.now + options.keepalive_interval;
  if (!sent_.empty() || persisting_) return;  // something waits for an answer anyway
  if (keepalives_ >= options.keepalive_probes) return time_out(context);
  SegmentHeader probe = header(context, snd_una_ - 1, TcpHeader::kAck);
  if (!send_control_segment(context, key_, probe)) return;
  acknowledged_now();
  ++keepalives_;
  ++context.counters.keepalive_probes;
}

ConnectionInfo Connection::info() const {
  const auto queued = static_cast<std::uint32_t>(send_queue_.size());
  return {.state = state_,
          .repair = repair_,
          .congestion_window = congestion_.window(),
          .slow_start_threshold = congestion_.threshold(),
          .in_flight = in_flight(),
          .send_window = snd_wnd_,
          .send_mss = send_mss_,
          .unsent = queued - std::min(queued, outstanding()),
          .bytes_written = send_queue_.position(),
          .smoothed_rtt = rtt_.smoothed(),
          .min_rtt = min_rtt_.value(),
          .retransmission_timeout = rtt_.timeout()};
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
  if (rcv_edge_.distance_to(edge) >= worth_telling) window_due_ = wants_output_ = true;
}

std::size_t Connection::send_limit(const StackOptions& options) const {
  const std::size_t limit = options.send_buffer_bytes;
  return send_queue_.is_short() ? std::min(limit, std::max<std::size_t>(limit / 8, Chunk::kBytes))
                                : limit;
}

std::size_t Connection::writable_bytes(const StackOptions& options) const {
  if (fin_queued_ || state_ == ConnectionState::kClosed) return 0;
  const std::size_t limit = send_limit(options);
  return limit > send_queue_.size() ? limit - send_queue_.size() : 0;
}

std::size_t Connection::write(const StackOptions& options, StackCounters& counters,
                              std::span<const std::byte> bytes) {
  if (fin_queued_ || state_ == ConnectionState::kClosed) return 0;
  const std::size_t allowed = std::min(bytes.size(), writable_bytes(options));
  const std::size_t written = send_queue_.append(bytes.first(allowed));
  if (written > 0) wants_output_ = true;
  if (written < bytes.size()) {
    wants_writable_ = true;
    if (written < allowed) ++counters.writes_short_of_memory;
    // With bytes queued their ACK looks again; with none, only the stack can.
    starved_ = send_queue_.empty();
  }
  return written;
}

void Connection::end_starvation(const StackOptions& options) {
  if (window_held_ && !receive_queue_.is_starved()) {
    window_held_ = false;
    consume(options, 0);
  }
  if (starved_ && !send_queue_.is_starved()) {
    starved_ = false;
    if (std::exchange(wants_writable_, false)) news.writable = true;
  }
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
  await_missing(now);
  consume(options, 0);
  close_write();
  const Duration bound =
      state_ == ConnectionState::kFinWait2 ? options.fin_timeout : options.linger_timeout;
  state_deadline_ = std::min(state_deadline_, now + bound);
}

}  // namespace weir::tcp
