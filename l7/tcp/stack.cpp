#include "l7/tcp/stack.h"

#include <algorithm>
#include <array>
#include <unordered_map>
#include <utility>

#include "l4/base/timer_wheel.h"
#include "l7/tcp/connection.h"
#include "l7/tcp/flow_table.h"
#include "l7/tcp/listener.h"
#include "l7/tcp/ports.h"
#include "l7/tcp/stamp.h"
#include "l7/tcp/time_wait.h"

namespace weir::tcp {
namespace {

// What one connection may send before the next has its turn, and what one flush() sends at all;
// the rest leaves with the next turn of the loop.
constexpr unsigned kFairShare = 16;
constexpr unsigned kFlushRoundsMax = 1024;
constexpr unsigned kWokenMax = 64;

// With the pool empty for this long, whoever waits for its first chunk waits for peers that do not
// read. Those give way that have taken nothing for long enough to have answered four probes of
// their window, at the least time-out: an opening that was lost on the way is known by then.
constexpr Duration kExhaustedMin = std::chrono::seconds{1};
constexpr Duration kStalledMin = std::chrono::seconds{5};
constexpr unsigned kEvictedMax = 16;
/// What came early is kept for so long, while receivers are short of memory and nothing comes that
/// was missing: senders repeat it sooner where it is only lost.
constexpr Duration kEarlyMin = std::chrono::seconds{2};
/// Those who hold such text are looked for in passing, since a list of them would cost every
/// connection its links.
constexpr std::uint32_t kSweptAtOnce = 256;
constexpr Duration kSweepPause = std::chrono::milliseconds{10};

// How many bytes of buffer go with one record of the scoreboard: with small segments in flight the
// records run out before the buffer does, and whoever sends them waits.
constexpr std::size_t kBytesPerRecord = 256;

// RFC 6528, section 3: the clock part of an initial sequence number ticks every 4 µs.
constexpr Duration kSequenceTick = std::chrono::microseconds{4};

std::array<std::uint64_t, 2> draw_secret(Random& random) { return {random.next(), random.next()}; }

}  // namespace

/// Random is used for secrets only. Ports and sequence numbers, which strangers see, are keyed
/// hashes: outputs of the generator itself would give its state away.
struct Stack::State {
  State(const StackOptions& wanted, net::SegmentOutput& out, Random& random, Instant start)
      : options{wanted},
        output{out},
        flow_hash{draw_secret(random)},
        sequence_hash{draw_secret(random)},
        port_hash{draw_secret(random)},
        stamp_hash{draw_secret(random)},
        listener{wanted, random, stamp_hash, start},
        ports{{wanted.ephemeral_first, wanted.ephemeral_last, wanted.worker, wanted.workers}},
        chunks{wanted.buffer_pool_bytes},
        sent{wanted.buffer_pool_bytes / kBytesPerRecord},
        wheel{start},
        connections{wanted.connections_max},
        flows{wanted.connections_max},
        time_wait{wanted.time_wait_max, wanted.time_wait},
        now{start} {}

  [[nodiscard]] Context context() { return {options, output, counters, now}; }

  [[nodiscard]] Connection* find(const FlowKey& key, std::uint64_t hash);
  [[nodiscard]] Connection* get(ConnectionId id) { return connections.get(id); }
  Connection* create(const FlowKey& key, std::uint64_t hash);
  [[nodiscard]] Seq initial_sequence(const FlowKey& key) const;
  [[nodiscard]] PortUse use_of(const FlowKey& key, std::uint64_t hash);

  void input_unknown(const FlowKey& key, std::uint64_t hash, const SegmentView& view,
                     net::Segment& segment);
  void input_time_wait(const FlowKey& key, std::uint64_t hash, const TimeWaitRecord& record,
                       const SegmentView& segment);
  bool accept(const Accepted& accepted, std::uint64_t hash, const SegmentView& view);
  bool accept_cookie(const FlowKey& key, std::uint64_t hash, const SegmentView& view,
                     UserData user);

  /// Calls act(connection) and draws the consequences of whatever it has changed. Every call that
  /// may change a connection goes through here, except consume(), write() and set_nagle().
  template <typename Act>
  void with(Connection& connection, Act&& act) {
    const bool was_half_open = connection.state() == ConnectionState::kSynReceived;
    act(connection);
    settle(connection, was_half_open);
  }
  void settle(Connection& connection, bool was_half_open);
  /// settle() after what moves neither state nor deadlines nor makes news: reading and writing.
  void settle_bytes(Connection& connection);
  void enter_time_wait(Connection& connection);
  void leave_flow_table(Connection& connection);
  void arm(Connection& connection);
  void wake_starved();
  void watch_pool();
  [[nodiscard]] bool is_nearly_exhausted() const;
  [[nodiscard]] bool somebody_gets_nothing() const;
  void evict_stalled();
  [[nodiscard]] Instant next_eviction() const;
  [[nodiscard]] Instant next_sweep() const;
  void sweep_early();

  StackOptions options;
  net::SegmentOutput& output;
  FlowHash flow_hash;
  FlowHash sequence_hash;
  FlowHash port_hash;
  FlowHash stamp_hash;
  Listener listener;
  PortChooser ports;
  UnknownFlow* unknown_flow = nullptr;
  StackCounters counters;
  // The members below are in this order because connections, when they are destroyed, give back
  // chunks and leave the wheel.
  ChunkPool chunks;
  SentPool sent;
  Connection::Pools pools{chunks, sent};
  TimerWheel wheel;
  Slab<Connection> connections;
  FlowTable flows;
  TimeWaitTable time_wait;
  std::unordered_map<wire::Endpoint, UserData> listeners;
  std::uint32_t simultaneous = 0;    // connections in SYN-RECEIVED: both sides have opened
  std::uint32_t accept_waiting = 0;  // accepted, and not yet fetched
  IntrusiveList<Connection, ReadyList> ready;
  IntrusiveList<Connection, DirtyList> dirty;
  IntrusiveList<Connection, StarvedList> starved;
  IntrusiveList<Connection, StalledList> stalled;  // the longest stall first
  Instant sweep_after{};
  std::uint32_t swept_to = 0;
  Instant exhausted_since = kNever;  // somebody waits for its first chunk
  Instant now;  // of the turn that is running, for calls without a time of their own
};

// ---- connections --------------------------------------------------------------------------------

Connection* Stack::State::find(const FlowKey& key, std::uint64_t hash) {
  Connection* found = nullptr;
  const auto index = flows.find(hash, [&](std::uint32_t candidate) {
    found = connections.get(connections.id_at(candidate));
    return found->key() == key;
  });
  return index ? found : nullptr;
}

Connection* Stack::State::create(const FlowKey& key, std::uint64_t hash) {
  const ConnectionId id = connections.emplace(key, pools, options);
  if (!id) return nullptr;
  Connection* connection = connections.get(id);
  connection->hash = hash;
  connection->timer.user = id.raw();
  connection->stamp_offset = stamp_offset(stamp_hash, key);
  connection->in_flow_table = true;
  flows.insert(hash, id.index);
  return connection;
}

Seq Stack::State::initial_sequence(const FlowKey& key) const {
  const auto clock = static_cast<std::uint32_t>(now.time_since_epoch() / kSequenceTick);
  return Seq{clock + static_cast<std::uint32_t>(sequence_hash(key))};
}

PortUse Stack::State::use_of(const FlowKey& key, std::uint64_t hash) {
  if (find(key, hash) != nullptr || listener.find(hash, key) != nullptr) return PortUse::kTaken;
  const TimeWaitRecord* const record = time_wait.find(hash, key);
  if (record == nullptr) return PortUse::kFree;
  const std::uint32_t tsval = stamp_at(stamp_offset(stamp_hash, key), now);
  const bool reusable = options.timestamps && may_reuse_for_connect(*record, now, tsval);
  return reusable ? PortUse::kReusable : PortUse::kTaken;
}

void Stack::State::settle(Connection& connection, bool was_half_open) {
  if (connection.state() == ConnectionState::kTimeWait) enter_time_wait(connection);
  const bool is_half_open = connection.state() == ConnectionState::kSynReceived;
  if (is_half_open && !was_half_open) ++simultaneous;
  if (was_half_open && !is_half_open) --simultaneous;

  if (connection.state() == ConnectionState::kClosed) {
    leave_flow_table(connection);
    if (!connection.owned_by_user()) {
      connections.erase(connection.id());  // takes it off every list and the wheel
      return;
    }
    TimerWheel::cancel(connection.timer);
    connection.ListLink<DirtyList>::unlink();
    connection.ListLink<StarvedList>::unlink();
    connection.ListLink<StalledList>::unlink();
  } else {
    if (connection.stalled_since() != kNever) stalled.push(connection);
    if (connection.wants_output()) dirty.push(connection);
    if (connection.starved()) starved.push(connection);
    arm(connection);
  }
  if (connection.owned_by_user() && connection.news.any()) ready.push(connection);
}

void Stack::State::settle_bytes(Connection& connection) {
  if (connection.state() == ConnectionState::kClosed) return;
  if (connection.wants_output()) dirty.push(connection);
  if (connection.starved()) starved.push(connection);
}

void Stack::State::enter_time_wait(Connection& connection) {
  Context lent = context();
  connection.emit(lent, 1);  // the ACK of the peer's FIN
  TimeWaitRecord record;
  record.key = connection.key();
  record.send_next = connection.send_next();
  record.receive_next = connection.receive_next();
  record.stamps = connection.last_stamps(now);
  leave_flow_table(connection);
  if (time_wait.add(connection.hash, record, now)) ++counters.time_wait_evicted;
  connection.finish();
}

void Stack::State::leave_flow_table(Connection& connection) {
  if (!std::exchange(connection.in_flow_table, false)) return;
  flows.erase(connection.hash, connection.id().index);
}

/// One timer for all deadlines of a connection. A deadline that moves later costs nothing: the
/// timer fires early once and is armed again. So the ACK clock does not touch the wheel.
void Stack::State::arm(Connection& connection) {
  const Instant deadline = connection.next_deadline();
  if (deadline == kNever) return;
  if (connection.timer.armed() && connection.timer.deadline() <= deadline) return;
  wheel.arm(connection.timer, deadline);
}

/// Writers that the pool turned away, and peers whose window it closed, hear when it has room
/// again: a few at a time, so that the first do not take it all. Neither waits for the other's
/// share: a reader may be waiting for the writer's room. Who must still wait goes to the end.
void Stack::State::wake_starved() {
  for (unsigned woken = 0; woken < kWokenMax && !starved.empty(); ++woken) {
    if (chunks.exhausted_for(ChunkPool::Use::kSend, ChunkPool::Need::kFirst) &&
        chunks.exhausted_for(ChunkPool::Use::kReceive, ChunkPool::Need::kFirst))
      return;
    with(*starved.pop(), [this](Connection& woken_up) { woken_up.end_starvation(options); });
  }
}

/// Sets exhausted_since at the end of a turn. Once it is set, what is freed for one writer is not
/// the end of it: the next would have to wait as long again.
void Stack::State::watch_pool() {
  if (!is_nearly_exhausted()) {
    exhausted_since = kNever;
  } else if (exhausted_since == kNever && somebody_gets_nothing()) {
    exhausted_since = now;
  }
}

/// Of what sending takes: chunks, or records of what is under way.
bool Stack::State::is_nearly_exhausted() const {
  return chunks.nearly_exhausted_for(ChunkPool::Use::kSend) || sent.is_nearly_exhausted();
}

bool Stack::State::somebody_gets_nothing() const {
  const bool no_chunk = chunks.exhausted_for(ChunkPool::Use::kSend, ChunkPool::Need::kFirst);
  return (no_chunk && !starved.empty()) || sent.is_exhausted();
}

Instant Stack::State::next_eviction() const {
  const Connection* const oldest = stalled.front();
  if (exhausted_since == kNever || oldest == nullptr) return kNever;
  return std::max(exhausted_since + kExhaustedMin, oldest->stalled_since() + kStalledMin);
}

/// Peers that do not read hold memory that others wait for, and their users may never give them up.
void Stack::State::evict_stalled() {
  for (unsigned evicted = 0; evicted < kEvictedMax && next_eviction() <= now; ++evicted) {
    if (!is_nearly_exhausted()) return;
    with(*stalled.front(), [this](Connection& oldest) {
      Context lent = context();
      oldest.evict(lent);
    });
  }
}

Instant Stack::State::next_sweep() const {
  return chunks.short_for(ChunkPool::Use::kReceive) ? sweep_after : kNever;
}

/// Peers that never send what is missing hold memory for which others' text is refused.
void Stack::State::sweep_early() {
  if (next_sweep() > now) return;
  sweep_after = now + kSweepPause;
  for (std::uint32_t i = 0; i < kSweptAtOnce; ++i) {
    swept_to = swept_to + 1 < connections.slots() ? swept_to + 1 : 0;
    Connection* const connection = get(connections.id_at(swept_to));
    if (connection == nullptr || connection->early_since() == kNever ||
        now - connection->early_since() < kEarlyMin)
      continue;
    with(*connection, [this](Connection& holder) {
      Context lent = context();
      holder.drop_early(lent);
    });
  }
}

// ---- input --------------------------------------------------------------------------------------

/// A segment of no connection: half open, in TIME-WAIT, new, or nobody's.
void Stack::State::input_unknown(const FlowKey& key, std::uint64_t hash, const SegmentView& view,
                                 net::Segment& segment) {
  Context lent = context();
  if (HalfOpen* record = listener.find(hash, key)) {
    // A SYN that was repeated may have reached another stack the second time, so that two have
    // answered it. What acknowledges the other's answer belongs to a flow that we do not know.
    // The first SYN may also have found no place here and got a cookie.
    if (view.has_ack() && view.ack != record->iss + 1) {
      if (accept_cookie(key, hash, view, record->user)) return;
      if (unknown_flow != nullptr && unknown_flow->take(segment, now)) return;
    }
    if (const auto accepted = listener.on_segment(lent, hash, *record, view))
      accept(*accepted, hash, view);
    return;
  }
  if (const TimeWaitRecord* record = time_wait.find(hash, key))
    return input_time_wait(key, hash, *record, view);
  const auto listening = listeners.find(key.local());
  if (listening != listeners.end()) {
    if (!view.syn() && !view.has_ack() && !view.rst()) return;  // RFC 9293, section 3.10.7.2
    if (view.syn() && !view.has_ack() && !view.rst())
      return static_cast<void>(
          listener.on_syn(lent, key, hash, view, listening->second, initial_sequence(key), false));
    if (accept_cookie(key, hash, view, listening->second)) return;
  }
  if (unknown_flow != nullptr && unknown_flow->take(segment, now)) return;
  answer_with_reset(lent, key, view);
}

/// Whether the segment answers a cookie of ours; what is then to be done with it is done.
bool Stack::State::accept_cookie(const FlowKey& key, std::uint64_t hash, const SegmentView& view,
                                 UserData user) {
  const auto accepted = listener.check_cookie(context(), key, view, user);
  if (!accepted) return false;
  if (accept(*accepted, hash, view)) ++counters.cookies_accepted;
  return true;
}

/// The third segment of a handshake. Without a place for the connection it is dropped, and comes
/// again when the SYN-ACK is repeated or the peer has something to say.
bool Stack::State::accept(const Accepted& accepted, std::uint64_t hash, const SegmentView& view) {
  if (accept_waiting >= options.accept_queue_max) {
    ++counters.dropped_backlog;
    return false;
  }
  const FlowKey key = accepted.record.key;
  Connection* connection = create(key, hash);
  if (connection == nullptr) {
    ++counters.dropped_no_memory;
    return false;
  }
  connection->user = accepted.record.user;
  ++accept_waiting;
  with(*connection, [&](Connection& opened) {
    Context lent = context();
    opened.open_passive(lent, accepted);
    opened.input(lent, view);
  });
  if (listener.find(hash, key) != nullptr) listener.remove(hash, key);
  return true;
}

/// RFC 9293, section 3.10.7.4, in TIME-WAIT. RST is ignored: believing it would end the protection
/// against old duplicates (RFC 1337).
void Stack::State::input_time_wait(const FlowKey& key, std::uint64_t hash,
                                   const TimeWaitRecord& record, const SegmentView& segment) {
  if (segment.rst()) return;
  const TimeWaitRecord old = record;  // the table changes below
  Context lent = context();
  const auto listening = listeners.find(key.local());
  const auto stamps = options.timestamps ? segment.options.timestamps : std::nullopt;
  if (segment.syn() && !segment.has_ack() && listening != listeners.end() &&
      may_reuse_for_syn(old, segment.seq, stamps)) {
    // Without a place in the queue the record stays: a cookie's numbers would not lie beyond it.
    if (listener.on_syn(lent, key, hash, segment, listening->second,
                        sequence_after(old, initial_sequence(key)), true)) {
      ++counters.time_wait_reused;
      time_wait.remove(hash, key);
    }
    return;
  }
  if (segment.length() == 0) return;  // answering ACKs with ACKs would never end
  SegmentHeader ack;
  ack.seq = old.send_next;
  ack.ack = old.receive_next;
  ack.flags = wire::TcpHeader::kAck;
  std::optional<TimeWaitStamps> moved;
  if (old.stamps) {
    const std::uint32_t tsval = stamp_at(stamp_offset(stamp_hash, key), now);
    const std::uint32_t received =
        segment.options.timestamps ? segment.options.timestamps->value : old.stamps->received;
    moved = TimeWaitStamps{.received = received, .sent = tsval};
    ack.options.timestamps = Timestamps{tsval, old.stamps->received};
  }
  // Only its own FIN: another would hold the pair for as long as somebody likes.
  if (segment.fin() && segment.end() == old.receive_next) time_wait.restart(hash, key, now, moved);
  send_control_segment(lent, key, ack);
}

// ---- the public face ----------------------------------------------------------------------------

Stack::Stack(const StackOptions& options, net::SegmentOutput& output, Random random, Instant start)
    : state_{std::make_unique<State>(options, output, random, start)} {}

Stack::~Stack() = default;

void Stack::listen(const wire::Endpoint& local, UserData user) {
  state_->listeners.insert_or_assign(local, user);
}

void Stack::stop_listening(const wire::Endpoint& local) { state_->listeners.erase(local); }

Result<ConnectionId> Stack::connect(const wire::IpAddress& local, const wire::Endpoint& remote,
                                    UserData user, Instant now) {
  State& state = *state_;
  state.now = now;
  FlowKey key{{local, wire::Port{0}}, remote};
  const auto chosen = state.ports.choose(state.port_hash(key), [&](std::uint16_t port) {
    key.local_port = port;
    return state.use_of(key, state.flow_hash(key));
  });
  if (!chosen) {
    ++state.counters.failed_connects;
    return Error{
        ErrorCode::kUnavailable,
        fmt::format("connecting from {} to {}: no local port between {} and {} is free",
                    local.text(), remote.text(), state.options.ephemeral_first,
                    state.options.ephemeral_last),
        "add source addresses or endpoints, keep connections open longer, or run fewer workers"};
  }
  key.local_port = chosen->port;
  const std::uint64_t hash = state.flow_hash(key);
  Connection* connection = state.create(key, hash);
  if (connection == nullptr) {
    ++state.counters.dropped_no_memory;
    ++state.counters.failed_connects;
    return Error{ErrorCode::kUnavailable,
                 fmt::format("connecting to {}: all {} connections of this worker are in use",
                             remote.text(), state.options.connections_max)};
  }
  connection->user = user;
  Seq initial = state.initial_sequence(key);
  if (chosen->use == PortUse::kReusable) {
    initial = sequence_after(*state.time_wait.find(hash, key), initial);
    state.time_wait.remove(hash, key);
    ++state.counters.time_wait_reused;
  }
  state.with(*connection, [&](Connection& opened) {
    Context lent = state.context();
    opened.open_active(lent, initial);
  });
  return connection->id();
}

void Stack::set_unknown_flow(UnknownFlow* unknown) { state_->unknown_flow = unknown; }

void Stack::input(net::Segment segment, Instant now) {
  State& state = *state_;
  state.now = now;
  ++state.counters.segments_received;
  auto view = parse_segment(std::as_const(segment.packet).bytes());
  if (!view) {
    ++state.counters.dropped_malformed;
    return;
  }
  const FlowKey key{{segment.destination, wire::Port{view->destination_port}},
                    {segment.source, wire::Port{view->source_port}}};
  const std::uint64_t hash = state.flow_hash(key);
  Connection* connection = state.find(key, hash);
  view->ecn = segment.ecn;
  if (connection == nullptr) return state.input_unknown(key, hash, *view, segment);
  state.with(*connection, [&](Connection& found) {
    Context lent = state.context();
    found.input(lent, *view);
  });
}

void Stack::error(const net::TransportError& error, Instant now) {
  State& state = *state_;
  state.now = now;
  const FlowKey key{error.local, error.remote};
  Connection* connection = state.find(key, state.flow_hash(key));
  if (connection == nullptr) return;
  state.with(*connection, [&](Connection& found) {
    Context lent = state.context();
    found.on_error(lent, error);
  });
}

void Stack::advance(Instant now) {
  State& state = *state_;
  state.now = now;
  state.wheel.advance(now, [&](Timer& timer) {
    Connection* connection = state.get(ConnectionId::from_raw(timer.user));
    WEIR_ASSERT(connection != nullptr);  // the timer is a member of its connection
    state.with(*connection, [&](Connection& due) {
      Context lent = state.context();
      due.on_timer(lent);
    });
  });
  Context lent = state.context();
  state.listener.advance(lent);
  state.time_wait.expire(now);
  state.evict_stalled();
  state.sweep_early();
  state.wake_starved();
}

void Stack::flush(Instant now) {
  State& state = *state_;
  state.now = now;
  for (unsigned rounds = 0; rounds < kFlushRoundsMax; ++rounds) {
    Connection* connection = state.dirty.pop();
    if (connection == nullptr) break;
    state.with(*connection, [&](Connection& writer) {
      Context lent = state.context();
      writer.emit(lent, kFairShare);  // with() puts it at the end of the list if there is more
    });
  }
  state.watch_pool();
}

Instant Stack::next_deadline() const {
  const State& state = *state_;
  if (!state.dirty.empty()) return state.now;
  return std::min({state.wheel.next_deadline(), state.listener.next_deadline(),
                   state.time_wait.next_expiry(), state.next_eviction(), state.next_sweep()});
}

std::optional<Readiness> Stack::poll() {
  Connection* connection = state_->ready.pop();
  if (connection == nullptr) return std::nullopt;
  const News news = std::exchange(connection->news, News{});
  if (news.accepted) --state_->accept_waiting;
  return Readiness{.connection = connection->id(),
                   .user = connection->user,
                   .accepted = news.accepted,
                   .connected = news.connected,
                   .readable = news.readable,
                   .writable = news.writable,
                   .closed = news.closed,
                   .reset = news.reset};
}

void Stack::remind(ConnectionId id) {
  Connection* connection = state_->get(id);
  if (connection == nullptr) return;
  connection->news.readable = connection->news.writable = true;
  if (connection->owned_by_user()) state_->ready.push(*connection);
}

void Stack::set_user(ConnectionId id, UserData user) {
  if (Connection* connection = state_->get(id)) connection->user = user;
}

std::span<const std::byte> Stack::peek(ConnectionId id) const {
  const Connection* connection = state_->get(id);
  return connection == nullptr ? std::span<const std::byte>{} : connection->peek();
}

std::size_t Stack::readable_bytes(ConnectionId id) const {
  const Connection* connection = state_->get(id);
  return connection == nullptr ? 0 : connection->readable_bytes();
}

void Stack::consume(ConnectionId id, std::size_t count) {
  State& state = *state_;
  Connection* connection = state.get(id);
  if (connection == nullptr) return;
  connection->consume(state.options, count);
  state.settle_bytes(*connection);
}

bool Stack::at_end(ConnectionId id) const {
  const Connection* connection = state_->get(id);
  return connection != nullptr && connection->at_end();
}

std::size_t Stack::write(ConnectionId id, std::span<const std::byte> bytes) {
  State& state = *state_;
  Connection* connection = state.get(id);
  if (connection == nullptr) return 0;
  const std::size_t written = connection->write(state.options, state.counters, bytes);
  state.settle_bytes(*connection);
  return written;
}

std::size_t Stack::writable_bytes(ConnectionId id) const {
  const Connection* connection = state_->get(id);
  return connection == nullptr ? 0 : connection->writable_bytes(state_->options);
}

std::size_t Stack::unacknowledged_bytes(ConnectionId id) const {
  const Connection* connection = state_->get(id);
  return connection == nullptr ? 0 : connection->unacknowledged_bytes();
}

void Stack::close_write(ConnectionId id) {
  if (Connection* connection = state_->get(id))
    state_->with(*connection, [](Connection& closing) { closing.close_write(); });
}

void Stack::release(ConnectionId id) {
  State& state = *state_;
  Connection* connection = state.get(id);
  if (connection == nullptr) return;
  connection->ListLink<ReadyList>::unlink();
  state.with(*connection,
             [&](Connection& released) { released.release(state.options, state.now); });
}

void Stack::abort(ConnectionId id, Instant now) {
  State& state = *state_;
  state.now = now;
  Connection* connection = state.get(id);
  if (connection == nullptr) return;
  state.with(*connection, [&](Connection& aborted) {
    Context lent = state.context();
    aborted.abort(lent);
  });
}

bool Stack::exists(ConnectionId id) const { return state_->get(id) != nullptr; }

wire::Endpoint Stack::local(ConnectionId id) const {
  const Connection* connection = state_->get(id);
  return connection == nullptr ? wire::Endpoint{} : connection->key().local();
}

wire::Endpoint Stack::remote(ConnectionId id) const {
  const Connection* connection = state_->get(id);
  return connection == nullptr ? wire::Endpoint{} : connection->key().remote();
}

Failure Stack::failure(ConnectionId id) const {
  const Connection* connection = state_->get(id);
  return connection == nullptr ? Failure::kNone : connection->failure();
}

std::optional<ConnectionInfo> Stack::info(ConnectionId id) const {
  const Connection* connection = state_->get(id);
  if (connection == nullptr) return std::nullopt;
  return connection->info();
}

void Stack::set_nagle(ConnectionId id, bool on) {
  if (Connection* connection = state_->get(id)) connection->set_nagle(on);
}

const StackCounters& Stack::counters() const {
  state_->counters.connections = state_->connections.size() + state_->listener.half_open();
  state_->counters.half_open = state_->simultaneous + state_->listener.half_open();
  state_->counters.time_wait = state_->time_wait.size();
  state_->counters.segments_outstanding = static_cast<std::uint32_t>(state_->sent.used());
  state_->counters.buffer_chunks = static_cast<std::uint32_t>(state_->chunks.used());
  return state_->counters;
}

}  // namespace weir::tcp
