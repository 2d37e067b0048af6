#include "l7/proxy/upstream_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "l7/proxy/user_data.h"

namespace weir::proxy {

namespace {

/// What a connection to an endpoint must have been opened for to be of use.
class Security {
 public:
  Security(const EndpointEntry& endpoint, const ServiceEntry& service,
           const GenerationRef& generation) {
    if (!service.tls) return;
    for_ = &generation->in_base(service);
    name_ = service.tls->sni.empty() ? endpoint.hostname : service.tls->sni;
  }
  [[nodiscard]] bool fits(const UpstreamConnection& connection) const {
    return connection.secured_for == for_ && connection.secured_name == name_;
  }
  [[nodiscard]] const ServiceEntry* secured_for() const { return for_; }
  [[nodiscard]] std::string_view name() const { return name_; }

 private:
  const ServiceEntry* for_ = nullptr;
  std::string_view name_;
};

}  // namespace

UpstreamPool::UpstreamPool(tcp::Stack& stack, BufferPool& buffers, TimerWheel& timers,
                           http::H2Shared& h2)
    : stack_{stack}, buffers_{buffers}, timers_{timers}, h2_{h2} {}

std::optional<UpstreamId> UpstreamPool::take_idle(const EndpointEntry& endpoint,
                                                  const ServiceEntry& service,
                                                  const GenerationRef& generation, ExchangeId user,
                                                  Instant now) {
  const auto state = endpoints_.find(endpoint.endpoint);
  if (state == endpoints_.end()) return std::nullopt;
  std::vector<UpstreamId>& idle = state->second.idle;
  const Security security{endpoint, service, generation};
  for (std::size_t i = idle.size(); i-- > 0;) {
    const UpstreamId id = idle[i];
    UpstreamConnection* connection = connections_.get(id);
    if (connection != nullptr && !security.fits(*connection)) continue;
    idle.erase(idle.begin() + static_cast<std::ptrdiff_t>(i));  // nearly always the last
    if (connection == nullptr) continue;                        // dropped while it was idle
    // What has arrived meanwhile answers no request: most likely the endpoint is closing.
    const tcp::ConnectionId tcp = connection->channel.connection();
    if (stack_.readable_bytes(tcp) > 0 || stack_.at_end(tcp) ||
        stack_.failure(tcp) != tcp::Failure::kNone) {
      ++counters_.idle_closed;
      drop(id, now);
      continue;
    }
    TimerWheel::cancel(connection->timer);
    connection->reused = true;
    connection->user = user;
    ++counters_.reused;
    --counters_.idle;
    return id;
  }
  return std::nullopt;
}

Result<UpstreamId> UpstreamPool::open(const EndpointEntry& entry, const ServiceEntry& service,
                                      const GenerationRef& generation, ExchangeId user, Instant now,
                                      std::span<const std::byte> announcement) {
  const wire::Endpoint& endpoint = entry.endpoint;
  const auto source = std::find_if(sources_.begin(), sources_.end(), [&](const auto& address) {
    return address.family() == endpoint.address.family();
  });
  if (source == sources_.end())
    return Error{ErrorCode::kUnavailable,
                 fmt::format("connecting to {}: L7 has no address of that family", endpoint.text()),
                 "add one to node.l7.addresses"};
  Result<tcp::ConnectionId> connection = stack_.connect(*source, endpoint, 0, now);
  if (!connection) return std::move(connection).error();
  // It waits in TCP until the connection stands; only a stack without memory does not take it.
  if (!announcement.empty() && stack_.write(*connection, announcement) < announcement.size()) {
    stack_.abort(*connection, now);
    return Error{ErrorCode::kUnavailable, "no memory for a PROXY header"};
  }
  const UpstreamId id = connections_.emplace(stack_, *connection, buffers_, endpoint);
  if (!id) {
    stack_.abort(*connection, now);
    return Error{ErrorCode::kUnavailable, "all upstream connection slots are in use"};
  }
  if (const tls::ClientContext* context = generation->upstream_context(service)) {
    const Security security{entry, service, generation};
    const std::string name{security.name()};
    // Without a name it must be the address that the certificate is for.
    Result<tls::Session> session =
        tls::Session::connect(*context, name.empty() ? endpoint.address.text() : name);
    if (!session) {
      connections_.erase(id);
      stack_.abort(*connection, now);
      return std::move(session).error();
    }
    UpstreamConnection& secured = *connections_.get(id);
    secured.channel.secure(std::move(*session));
    secured.generation = GenerationRef{generation->base()};
    secured.secured_for = security.secured_for();
    secured.secured_name = name;
  }
  const tcp::UserData own = user_data(Owner::kUpstream, id);
  stack_.set_user(*connection, own);
  UpstreamConnection* opened = connections_.get(id);
  opened->user = user;
  opened->timer.user = own;
  opened->announced = !announcement.empty();
  opened->counted = entry.state;
  entry.state->connections.fetch_add(1, std::memory_order_relaxed);
  ++counters_.opened;
  ++counters_.open;
  return id;
}

void UpstreamPool::give_back(UpstreamId id, Instant now) {
  UpstreamConnection* connection = connections_.get(id);
  WEIR_ASSERT(connection != nullptr && connection->user);  // only the exchange gives it back
  Kept& state = endpoints_[connection->endpoint];
  if (state.idle.size() >= kIdlePerEndpoint)
    std::erase_if(state.idle, [&](UpstreamId other) { return connections_.get(other) == nullptr; });
  if (state.idle.size() >= kIdlePerEndpoint && !is_draining_) {
    // The oldest may be of a configuration that nobody uses any more.
    const UpstreamId oldest = state.idle.front();
    state.idle.erase(state.idle.begin());
    drop(oldest, now);
  }
  if (is_draining_ || is_outdated(*connection)) {
    drop(id, now);
    return;
  }
  connection->user = {};
  connection->parser.reset();
  state.idle.push_back(id);
  ++counters_.idle;
  timers_.arm(connection->timer, now + kIdleTime);
}

bool UpstreamPool::is_outdated(const UpstreamConnection& connection) const {
  return connection.generation && &*connection.generation != current_;
}

void UpstreamPool::use(const Generation& generation) {
  const Generation* const before = std::exchange(current_, &generation.base());
  has_outdated_ = has_outdated_ || (before != nullptr && before != current_);
}

void UpstreamPool::drop_outdated(Instant now) {
  if (!std::exchange(has_outdated_, false)) return;
  std::vector<UpstreamId> outdated;
  connections_.for_each([&](UpstreamId id, const UpstreamConnection& connection) {
    if (!connection.in_use() && is_outdated(connection)) outdated.push_back(id);
  });
  for (const UpstreamId id : outdated)
    drop(id, now);
}

void UpstreamPool::begin_drain(Instant now) {
  is_draining_ = true;
  std::vector<UpstreamId> idle;
  connections_.for_each([&](UpstreamId id, const UpstreamConnection& connection) {
    if (!connection.in_use()) idle.push_back(id);
  });
  for (const UpstreamId id : idle)
    drop(id, now);
}

void UpstreamPool::drop(UpstreamId id, Instant now) {
  UpstreamConnection* connection = connections_.get(id);
  WEIR_ASSERT(connection != nullptr);
  if (!connection->user) --counters_.idle;  // whoever shared it has left
  WEIR_ASSERT(connection->users.empty());   // who shares it leaves first
  if (connection->session && !connection->broken) say_goodbye(*connection, now);
  const tcp::ConnectionId tcp = connection->channel.connection();
  if (stack_.exists(tcp)) {
    // In the middle of an exchange a FIN would look like its orderly end.
    const bool cut = connection->user || connection->broken || !connection->connected;
    // A session that we have ended has said why: an RST would overtake it.
    const bool has_said_why = connection->session && connection->session->was_wronged();
    if (cut && !connection->ended_in_order && !has_said_why)
      stack_.abort(tcp, now);
    else
      stack_.release(tcp);
  }
  connection->counted->connections.fetch_sub(1, std::memory_order_relaxed);
  connections_.erase(id);
  --counters_.open;
}

// ---- HTTP/2 ------------------------------------------------------------------------------------

bool UpstreamPool::takes_more(const UpstreamConnection& connection) {
  if (connection.broken || connection.users.size() >= kUsersMax) return false;
  return connection.session == nullptr || connection.session->can_open();
}

bool UpstreamPool::may_open(const EndpointEntry& endpoint, const ServiceEntry& service) {
  const std::uint32_t most = service.limits.connections_per_endpoint;
  return most == 0 || endpoint.state->connections.load(std::memory_order_relaxed) < most;
}

std::optional<UpstreamId> UpstreamPool::join(const EndpointEntry& endpoint,
                                             const ServiceEntry& service,
                                             const GenerationRef& generation, ExchangeId user) {
  Kept& state = endpoints_[endpoint.endpoint];
  const Security security{endpoint, service, generation};
  std::erase_if(state.shared, [&](UpstreamId id) { return connections_.get(id) == nullptr; });
  for (const UpstreamId id : state.shared) {
    UpstreamConnection& connection = *connections_.get(id);
    if (!security.fits(connection) || !takes_more(connection)) continue;
    if (connection.users.empty()) {
      TimerWheel::cancel(connection.timer);
      --counters_.idle;
    }
    connection.reused = connection.reused || connection.session != nullptr;
    if (connection.session != nullptr) ++counters_.reused;
    connection.users.push_back(user);
    return id;
  }
  return std::nullopt;
}

Result<UpstreamId> UpstreamPool::open_shared(const EndpointEntry& endpoint,
                                             const ServiceEntry& service,
                                             const GenerationRef& generation, ExchangeId user,
                                             Instant now) {
  Result<UpstreamId> opened = open(endpoint, service, generation, user, now);
  if (!opened) return opened;
  UpstreamConnection& connection = *connections_.get(*opened);
  connection.is_h2 = true;
  connection.user = {};
  connection.users.push_back(user);
  endpoints_[endpoint.endpoint].shared.push_back(*opened);
  return opened;
}

void UpstreamPool::leave(UpstreamId id, ExchangeId user, Instant now) {
  UpstreamConnection* connection = connections_.get(id);
  WEIR_ASSERT(connection != nullptr);  // it lives while it is shared
  const std::size_t left = std::erase(connection->users, user);
  WEIR_ASSERT(left == 1);  // an exchange shares one connection, once
  touch(id);               // a reset may be waiting to leave
  if (!connection->users.empty()) return;
  ++counters_.idle;
  const bool is_over = connection->session == nullptr || connection->session->draining();
  if (connection->broken || is_over || is_draining_ || is_outdated(*connection))
    drop(id, now);
  else
    timers_.arm(connection->timer, now + kIdleTime);
}

void UpstreamPool::touch(UpstreamId id) {
  UpstreamConnection* connection = connections_.get(id);
  if (connection == nullptr || connection->touched) return;
  connection->touched = true;
  touched_.push_back(id);
}

UpstreamId UpstreamPool::take_touched() {
  while (!touched_.empty()) {
    const UpstreamId id = touched_.back();
    touched_.pop_back();
    if (UpstreamConnection* connection = connections_.get(id)) {
      connection->touched = false;
      return id;
    }
  }
  return {};
}

bool UpstreamPool::start_session(UpstreamConnection& connection, Instant now) {
  if (connection.session) return true;
  Channel& channel = connection.channel;
  if (!connection.connected || channel.handshaking() || channel.failed()) return false;
  const tls::Session* tls = channel.session();
  // Without a choice of protocol, h2 would be spoken to whom it may mean something else.
  if (tls != nullptr && tls->info().protocol != "h2") return false;
  // A stream's window each for all of them: an answer that is not taken holds no other up.
  connection.session = std::make_unique<http::H2Session>(
      http::H2Options{.role = http::H2Role::kClient,
                      .secure = tls != nullptr,
                      .limits = {.header_bytes = kResponseHeadBytesMax},
                      .streams_max = kUsersMax,
                      .session_window = kUsersMax * 64 * 1024},
      h2_, now);
  return true;
}

void UpstreamPool::fail_shared(UpstreamConnection& connection, ChangedExchanges& changed) {
  connection.broken = true;
  changed.add(connection.users);
}

void UpstreamPool::say_goodbye(UpstreamConnection& connection, Instant now) {
  Channel& channel = connection.channel;
  connection.session->terminate(http::H2Code::kNoError);
  if (channel.output().room() > http::H2Session::kPieceMax)
    channel.output().append(connection.session->output(now));
  static_cast<void>(channel.flush());  // or not: it is a courtesy
}

void UpstreamPool::run_shared(UpstreamId id, ChangedExchanges& changed, Instant now) {
  UpstreamConnection* connection = connections_.get(id);
  if (connection == nullptr || !connection->connected || connection->broken) return;
  Channel& channel = connection->channel;
  bool moved = true;
  while (moved) {  // bounded by the windows of TCP and by the room for output
    moved = channel.fill();
    const bool was_started = connection->session != nullptr;
    if (!start_session(*connection, now)) break;
    http::H2Session& session = *connection->session;
    if (!was_started) changed.add(connection->users);
    if (!channel.input().empty()) {
      session.receive(channel.input(), now);
      channel.consume(channel.input().size());
    }
    if (connection->waited_for && (session.can_open() || session.draining())) {
      connection->waited_for = false;
      changed.add(connection->users);
    }
    while (http::H2Stream* stream = session.next_ready())
      changed.add(ExchangeId::from_raw(stream->owner));
    while (channel.output().room() > http::H2Session::kPieceMax) {
      const auto piece = session.output(now);
      if (piece.empty()) break;
      channel.output().append(piece);
      moved = true;
    }
    moved = channel.flush() || moved;
  }
  const bool wrong_protocol =
      connection->session == nullptr && channel.session() != nullptr && !channel.handshaking();
  const bool over = connection->session != nullptr && connection->session->over();
  if (!channel.failed() && !channel.input_ended() && !over && !wrong_protocol) return;
  if (connection->users.empty()) {
    count_idle_close();
    drop(id, now);
    return;
  }
  fail_shared(*connection, changed);
}

UpstreamCounters UpstreamPool::counters() const { return counters_; }

}  // namespace weir::proxy
