#include "l7/tcp/stack.h"

#include <algorithm>
#include <array>
#include <unordered_map>
#include <utility>

#include "l4/base/timer_wheel.h"
#include "l7/tcp/connection.h"
#include "l7/tcp/flow_table.h"
#include "l7/tcp/time_wait.h"

namespace weir::tcp {
namespace {

// What one connection may send before the next has its turn, and what one flush() sends at all;
// the rest leaves with the next turn of the loop.
constexpr unsigned kFairShare = 16;
constexpr unsigned kFlushRoundsMax = 1024;

// Ports are tried in a row from a secret starting point. Used ones cluster behind it only when
// nearly all are taken, and then the oldest come first again; a longer search would stall the core.
constexpr unsigned kPortTriesMax = 1024;

// RFC 6528, section 3: the clock part of an initial sequence number ticks every 4 µs.
constexpr Duration kSequenceTick = std::chrono::microseconds{4};

// How far a reused TIME-WAIT pair's numbers start beyond the old ones: more than a window of old
// duplicates without time stamps (RFC 9293, section 3.4.3).
constexpr std::uint32_t kReuseGap = 64 * 1024;

std::array<std::uint64_t, 2> draw_secret(Random& random) { return {random.next(), random.next()}; }

}  // namespace

/// Random is used for the three secrets only. Ports and sequence numbers, which strangers see, are
/// keyed hashes: outputs of the generator itself would give its state away.
struct Stack::State {
  State(const StackOptions& wanted, net::SegmentOutput& out, Random& random, Instant start)
      : options{wanted},
        output{out},
        flow_hash{draw_secret(random)},
        sequence_hash{draw_secret(random)},
        port_hash{draw_secret(random)},
        chunks{wanted.buffer_pool_bytes},
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
  [[nodiscard]] bool in_use(const FlowKey& key, std::uint64_t hash);

  void input_unknown(const FlowKey& key, std::uint64_t hash, const SegmentView& segment);
  void input_time_wait(const FlowKey& key, std::uint64_t hash, const TimeWaitRecord& record,
                       const SegmentView& segment);
  void open_passive(const FlowKey& key, std::uint64_t hash, const SegmentView& syn, Seq initial);

  /// Calls act(connection) and draws the consequences of whatever it has changed. Every call that
  /// may change a connection goes through here.
  template <typename Act>
  void with(Connection& connection, Act&& act) {
    const bool was_half_open = connection.state() == ConnectionState::kSynReceived;
    act(connection);
    settle(connection, was_half_open);
  }
  void settle(Connection& connection, bool was_half_open);
  void enter_time_wait(Connection& connection);
  void leave_flow_table(Connection& connection);
  void arm(Connection& connection);
  void wake_starved();

  StackOptions options;
  net::SegmentOutput& output;
  FlowHash flow_hash;
  FlowHash sequence_hash;
  FlowHash port_hash;
  StackCounters counters;
  // The members below are in this order because connections, when they are destroyed, give back
  // chunks and leave the wheel.
  ChunkPool chunks;
  TimerWheel wheel;
  Slab<Connection> connections;
  FlowTable flows;
  TimeWaitTable time_wait;
  std::unordered_map<wire::Endpoint, UserData> listeners;
  IntrusiveList<Connection, &Connection::ready_link> ready;
  IntrusiveList<Connection, &Connection::dirty_link> dirty;
  IntrusiveList<Connection, &Connection::starved_link> starved;
  Instant now;  // of the turn that is running, for calls without a time of their own
  std::uint32_t next_port = 0;
};

// ---- connections --------------------------------------------------------------------------------

Connection* Stack::State::find(const FlowKey& key, std::uint64_t hash) {
  const auto index = flows.find(hash, [&](std::uint32_t candidate) {
    return connections.get(connections.id_at(candidate))->key() == key;
  });
  return index ? connections.get(connections.id_at(*index)) : nullptr;
}

Connection* Stack::State::create(const FlowKey& key, std::uint64_t hash) {
  const ConnectionId id = connections.emplace(key, chunks, options);
  if (!id) return nullptr;
  Connection* connection = connections.get(id);
  connection->id = id;
  connection->hash = hash;
  connection->timer.user = id.raw();
  connection->in_flow_table = true;
  flows.insert(hash, id.index);
  return connection;
}

Seq Stack::State::initial_sequence(const FlowKey& key) const {
  const auto clock = static_cast<std::uint32_t>(now.time_since_epoch() / kSequenceTick);
  return Seq{clock + static_cast<std::uint32_t>(sequence_hash(key))};
}

bool Stack::State::in_use(const FlowKey& key, std::uint64_t hash) {
  return find(key, hash) != nullptr || time_wait.find(hash, key) != nullptr;
}

void Stack::State::settle(Connection& connection, bool was_half_open) {
  if (connection.state() == ConnectionState::kTimeWait) enter_time_wait(connection);
  const bool is_half_open = connection.state() == ConnectionState::kSynReceived;
  if (is_half_open && !was_half_open) ++counters.half_open;
  if (was_half_open && !is_half_open) --counters.half_open;

  if (connection.state() == ConnectionState::kClosed) {
    leave_flow_table(connection);
    if (!connection.owned_by_user()) {
      connections.erase(connection.id);  // takes it off every list and the wheel
      return;
    }
    TimerWheel::cancel(connection.timer);
    connection.dirty_link.unlink();
    connection.starved_link.unlink();
  } else {
    if (connection.wants_output()) dirty.push(connection);
    if (connection.starved()) starved.push(connection);
    arm(connection);
  }
  if (connection.owned_by_user() && connection.news.any()) ready.push(connection);
}

void Stack::State::enter_time_wait(Connection& connection) {
  Context lent = context();
  connection.emit(lent, 1);  // the ACK of the peer's FIN
  const TimeWaitRecord record{connection.key(), connection.send_next(), connection.receive_next()};
  leave_flow_table(connection);
  if (time_wait.add(connection.hash, record, now)) ++counters.time_wait_evicted;
  connection.finish();
}

void Stack::State::leave_flow_table(Connection& connection) {
  if (!std::exchange(connection.in_flow_table, false)) return;
  flows.erase(connection.hash, connection.id.index);
}

/// One timer for all deadlines of a connection. A deadline that moves later costs nothing: the
/// timer fires early once and is armed again. So the ACK clock does not touch the wheel.
void Stack::State::arm(Connection& connection) {
  const Instant deadline = connection.next_deadline();
  if (deadline == kNever) return;
  if (connection.timer.armed() && connection.timer.deadline() <= deadline) return;
  wheel.arm(connection.timer, deadline);
}

/// Writers that the pool turned away are told once a fair part of it is free again.
void Stack::State::wake_starved() {
  while (!starved.empty() && !chunks.short_for(ChunkPool::Use::kSend)) {
    with(*starved.pop(), [](Connection& connection) { connection.end_starvation(); });
  }
}

// ---- input --------------------------------------------------------------------------------------

void Stack::State::input_unknown(const FlowKey& key, std::uint64_t hash,
                                 const SegmentView& segment) {
  if (const TimeWaitRecord* record = time_wait.find(hash, key))
    return input_time_wait(key, hash, *record, segment);
  if (segment.syn() && !segment.has_ack() && !segment.rst() && listeners.contains(key.local()))
    return open_passive(key, hash, segment, initial_sequence(key));
  Context lent = context();
  answer_with_reset(lent, key, segment);
}

/// RFC 9293, section 3.10.7.4, in TIME-WAIT. RST is ignored: believing it would end the protection
/// against old duplicates (RFC 1337).
void Stack::State::input_time_wait(const FlowKey& key, std::uint64_t hash,
                                   const TimeWaitRecord& record, const SegmentView& segment) {
  if (segment.rst()) return;
  const TimeWaitRecord old = record;  // the table changes below
  // A new connection whose numbers lie beyond the old one's (RFC 1122, section 4.2.2.13).
  if (segment.syn() && !segment.has_ack() && segment.seq > old.receive_next &&
      listeners.contains(key.local())) {
    time_wait.remove(hash, key);
    const Seq fresh = initial_sequence(key);
    const Seq after = old.send_next + kReuseGap;
    return open_passive(key, hash, segment, later_of(fresh, after));
  }
  if (segment.length() == 0) return;  // answering ACKs with ACKs would never end
  if (segment.fin()) time_wait.restart(hash, key, now);
  SegmentHeader ack;
  ack.seq = old.send_next;
  ack.ack = old.receive_next;
  ack.flags = wire::TcpHeader::kAck;
  Context lent = context();
  send_control_segment(lent, key, ack);
}

void Stack::State::open_passive(const FlowKey& key, std::uint64_t hash, const SegmentView& syn,
                                Seq initial) {
  if (counters.half_open >= options.half_open_max) {
    ++counters.dropped_backlog;
    return;
  }
  Connection* connection = create(key, hash);
  if (connection == nullptr) {
    ++counters.dropped_no_memory;
    return;
  }
  connection->user = listeners.find(key.local())->second;
  with(*connection, [&](Connection& opened) {
    // state() was Closed when with() looked, so the half-open count goes up there.
    Context lent = context();
    opened.open_passive(lent, initial, syn);
  });
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
  const unsigned range = state.options.ephemeral_last - state.options.ephemeral_first + 1U;
  FlowKey key{{local, wire::Port{0}}, remote};
  // RFC 6056, section 3.3.3: a secret offset for each destination, and a walk from there.
  const auto offset = static_cast<std::uint32_t>(state.port_hash(key) >> 32);
  for (unsigned tries = 0; tries < std::min(range, kPortTriesMax); ++tries) {
    const std::uint32_t step = (offset + state.next_port++) % range;
    key.local_port = static_cast<std::uint16_t>(state.options.ephemeral_first + step);
    const std::uint64_t hash = state.flow_hash(key);
    if (state.in_use(key, hash)) continue;
    Connection* connection = state.create(key, hash);
    if (connection == nullptr) {
      ++state.counters.dropped_no_memory;
      ++state.counters.failed_connects;
      return Error{ErrorCode::kUnavailable,
                   fmt::format("connecting to {}: all {} connections of this worker are in use",
                               remote.text(), state.options.connections_max)};
    }
    connection->user = user;
    state.with(*connection, [&](Connection& opened) {
      Context lent = state.context();
      opened.open_active(lent, state.initial_sequence(key));
    });
    return connection->id;
  }
  ++state.counters.failed_connects;
  return Error{
      ErrorCode::kUnavailable,
      fmt::format("connecting from {} to {}: no local port between {} and {} is free", local.text(),
                  remote.text(), state.options.ephemeral_first, state.options.ephemeral_last),
      "add source addresses or keep connections open longer"};
}

void Stack::input(net::Segment segment, Instant now) {
  State& state = *state_;
  state.now = now;
  ++state.counters.segments_received;
  const auto view = parse_segment(std::as_const(segment.packet).bytes());
  if (!view) {
    ++state.counters.dropped_malformed;
    return;
  }
  const FlowKey key{{segment.destination, wire::Port{view->destination_port}},
                    {segment.source, wire::Port{view->source_port}}};
  const std::uint64_t hash = state.flow_hash(key);
  Connection* connection = state.find(key, hash);
  if (connection == nullptr) return state.input_unknown(key, hash, *view);
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
  state.time_wait.expire(now);
  state.wake_starved();
}

void Stack::flush(Instant now) {
  State& state = *state_;
  state.now = now;
  for (unsigned rounds = 0; rounds < kFlushRoundsMax; ++rounds) {
    Connection* connection = state.dirty.pop();
    if (connection == nullptr) return;
    state.with(*connection, [&](Connection& writer) {
      Context lent = state.context();
      writer.emit(lent, kFairShare);  // with() puts it at the end of the list if there is more
    });
  }
}

Instant Stack::next_deadline() const {
  const State& state = *state_;
  if (!state.dirty.empty()) return state.now;
  return std::min(state.wheel.next_deadline(), state.time_wait.next_expiry());
}

std::optional<Readiness> Stack::poll() {
  Connection* connection = state_->ready.pop();
  if (connection == nullptr) return std::nullopt;
  const News news = std::exchange(connection->news, News{});
  return Readiness{.connection = connection->id,
                   .user = connection->user,
                   .accepted = news.accepted,
                   .connected = news.connected,
                   .readable = news.readable,
                   .writable = news.writable,
                   .closed = news.closed,
                   .reset = news.reset};
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
  state.with(*connection, [&](Connection& read) { read.consume(state.options, count); });
}

bool Stack::at_end(ConnectionId id) const {
  const Connection* connection = state_->get(id);
  return connection != nullptr && connection->at_end();
}

std::size_t Stack::write(ConnectionId id, std::span<const std::byte> bytes) {
  State& state = *state_;
  Connection* connection = state.get(id);
  if (connection == nullptr) return 0;
  std::size_t written = 0;
  state.with(*connection,
             [&](Connection& writer) { written = writer.write(state.options, bytes); });
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
  connection->ready_link.unlink();
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

const StackCounters& Stack::counters() const {
  state_->counters.connections = state_->connections.size();
  state_->counters.time_wait = state_->time_wait.size();
  state_->counters.buffer_chunks = static_cast<std::uint32_t>(state_->chunks.used());
  return state_->counters;
}

}  // namespace weir::tcp
