#include "l7/proxy/core.h"

#include <algorithm>

#include "l7/http/proxy_protocol.h"
#include "l7/proxy/user_data.h"

namespace weir::proxy {
namespace {

/// Half of what the TCP stack takes, so that clients cannot keep requests from reaching endpoints.
constexpr std::uint32_t kClientsMax = 32768;
/// Generations beside the current one. Beyond that, connections of the oldest are closed after
/// their next response, so that a configuration that is applied every second does not pile up.
constexpr std::size_t kRetiringMax = 16;
/// One connection's share of a turn; the rest waits for the next one.
constexpr int kStepsPerTurn = 16;
/// Connections of HTTP/2 that one event makes run, each of which may make others run.
constexpr int kSettledAtOnce = 4096;
/// Of those who wait for a buffer, in a turn.
constexpr int kWaitingAtOnce = 64;

constexpr Duration kHandshakeTimeout = std::chrono::seconds{5};
constexpr Duration kDrainTimeout = std::chrono::seconds{30};
constexpr Duration kLingerTimeout = std::chrono::seconds{2};

Duration milliseconds(std::uint32_t count) { return std::chrono::milliseconds{count}; }

bool is_listed(const std::vector<wire::Prefix>& prefixes, const wire::IpAddress& address) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](const wire::Prefix& prefix) { return prefix.contains(address); });
}

wire::Endpoint endpoint_of(const http::ProxyEndpoint& named) {
  return {wire::IpAddress{named.address}, wire::Port{named.port}};
}

}  // namespace

Core::Core(tcp::Stack& stack, Random random, Instant start)
    : stack_{stack},
      timers_{start},
      exchanges_{stack, buffers_, timers_, h2_, changed_, random},
      random_{random.next()},
      sources_{{{random.next(), random.next()}}},
      clients_{kClientsMax} {}

Core::~Core() {
  // They refer to each other, and are destroyed one by one.
  if (current_) current_->leave_base();
  for (const auto& generation : retiring_)
    generation->leave_base();
}

// ---- configuration -----------------------------------------------------------------------------

void Core::install(std::unique_ptr<Generation> generation) {
  const std::vector<Bind>& binds = generation->snapshot().binds;
  if (current_) {
    for (const Bind& old : current_->snapshot().binds)
      if (std::none_of(binds.begin(), binds.end(),
                       [&](const Bind& bind) { return bind.endpoint == old.endpoint; }))
        stack_.stop_listening(old.endpoint);
    retiring_.push_back(std::move(current_));
  }
  for (const Bind& bind : binds)
    stack_.listen(bind.endpoint, 0);
  exchanges_.install(*generation);
  current_ = std::move(generation);
  if (ticket_keys_.count > 0) current_->use_ticket_keys(&ticket_keys_);
}

void Core::install_endpoints(std::unique_ptr<Generation> generation) {
  generation->stand_on(*current_);
  exchanges_.install(*generation);
  retiring_.push_back(std::exchange(current_, std::move(generation)));
}

void Core::set_ticket_keys(const tls::TicketKeySet& keys) {
  ticket_keys_ = keys;
  if (current_) current_->use_ticket_keys(&ticket_keys_);
  for (const auto& generation : retiring_)
    generation->use_ticket_keys(&ticket_keys_);
}

void Core::set_sources(std::vector<wire::IpAddress> sources) {
  exchanges_.upstreams().set_sources(std::move(sources));
}

std::unique_ptr<Generation> Core::take_retired() {
  const auto unused = std::find_if(retiring_.begin(), retiring_.end(),
                                   [](const auto& generation) { return generation->users() == 0; });
  if (unused == retiring_.end()) return nullptr;
  std::unique_ptr<Generation> retired = std::move(*unused);
  retiring_.erase(unused);
  return retired;
}

CoreCounters Core::counters() const {
  CoreCounters counters = counters_;
  static_cast<ExchangeCounters&>(counters) = exchanges_.counters();
  counters.connections = clients_.size();
  counters.exchanges = exchanges_.size();
  counters.buffer_refusals = buffers_.refusals();
  counters.buffers = buffers_.lent();
  counters.generations = static_cast<std::uint32_t>(retiring_.size()) + (current_ ? 1 : 0);
  counters.h2 = h2_.counters();
  return counters;
}

namespace {

std::vector<RequestCounters> used(const std::vector<RequestCounters>& all) {
  std::vector<RequestCounters> used;
  std::ranges::copy_if(all, std::back_inserter(used),
                       [](const RequestCounters& counters) { return counters.requests() > 0; });
  return used;
}

}  // namespace

std::vector<RequestCounters> Core::service_counters() const { return used(exchanges_.services()); }

std::vector<RequestCounters> Core::route_counters() const { return used(exchanges_.routes()); }

// ---- events ------------------------------------------------------------------------------------

void Core::on_ready(const tcp::Readiness& ready, Instant now) {
  if (ready.accepted) {
    // A connection that broke before we looked has nobody to tell.
    if (ready.reset)
      stack_.release(ready.connection);
    else
      accept(ready.connection, now);
    settle(now);
    return;
  }
  switch (owner_of(ready.user)) {
    case Owner::kListener:
    case Owner::kExchange:  // owns timers, not connections
      return;
    case Owner::kUpstream:
      exchanges_.on_upstream(ready, now);
      settle(now);
      return;
    case Owner::kClient: {
      const ClientId id = handle_of<ClientConnection>(ready.user);
      ClientConnection* client = clients_.get(id);
      if (client == nullptr) return;
      if (ready.reset)
        client_lost(id, *client, now);
      else
        run(id, now);
      settle(now);
      return;
    }
  }
}

void Core::accept(tcp::ConnectionId connection, Instant now) {
  const wire::Endpoint local = stack_.local(connection);
  const auto refuse_connection = [&] {
    ++counters_.connections_refused;
    stack_.abort(connection, now);
  };
  if (!current_ || is_draining_) return refuse_connection();
  Generation& generation = current_->base();
  const std::vector<Bind>& binds = generation.snapshot().binds;
  const auto bind = std::find_if(binds.begin(), binds.end(),
                                 [&](const Bind& other) { return other.endpoint == local; });
  if (bind == binds.end()) return refuse_connection();
  const ClientId id = clients_.emplace(stack_, connection, buffers_, head_limits(bind->limits));
  if (!id) return refuse_connection();
  ClientConnection& client = *clients_.get(id);
  client.exchange = exchanges_.create(id);
  if (client.exchange == nullptr) {
    clients_.erase(id);
    return refuse_connection();
  }
  client.generation = GenerationRef{generation};
  client.facts.bind = &*bind;
  client.facts.vip = client.facts.destination = local;
  client.facts.client = stack_.remote(connection);
  client.timer.user = user_data(Owner::kClient, id);
  stack_.set_user(connection, client.timer.user);
  if (is_listed(bind->proxies, client.facts.client.address)) {
    client.state = ClientConnection::State::kProxyHeader;
    arm(client, now + milliseconds(bind->limits.header_timeout_ms));
  } else if (!admit(id, client, now)) {
    return;
  }
  run(id, now);
}

/// It is known whose connection it is. False when it has been closed for that.
bool Core::admit(ClientId id, ClientConnection& client, Instant now) {
  const Bind& bind = *client.facts.bind;
  const control::GatewayLimits& limits = bind.limits;
  client.ticket =
      sources_.enter(client.facts.client.address, client.facts.vip, limits.connections_per_source);
  if (!client.ticket) {
    ++counters_.connections_over_limit;
    close_client(id, Ending::kReset, now);
    return false;
  }
  client.facts.client_text = client.facts.client.address.text();
  if (limits.connection_age_ms != 0) {
    // Up to a tenth earlier, so that those that began together do not end together.
    const std::uint32_t earlier = random_.below(limits.connection_age_ms / 10 + 1);
    client.ages_at = now + milliseconds(limits.connection_age_ms - earlier);
  }
  if (bind.tls) {
    const auto index = static_cast<std::size_t>(&bind - &client.generation->snapshot().binds[0]);
    Result<tls::Session> session = tls::Session::accept(*client.generation->tls_context(index));
    if (!session) {
      ++counters_.connections_refused;
      close_client(id, Ending::kReset, now);
      return false;
    }
    client.channel.secure(std::move(*session));
    client.facts.tls = client.channel.session();
    client.state = ClientConnection::State::kHandshake;
    client.handshake_began = now;
    arm(client, now + kHandshakeTimeout);
  } else if (bind.passthrough) {
    client.state = ClientConnection::State::kHandshake;
    arm(client, now + kHandshakeTimeout);
  } else {
    await_request(client, now);
  }
  ++counters_.connections_accepted;
  return true;
}

void Core::run(ClientId id, Instant now) {
  for (int i = 0; i < kStepsPerTurn; ++i) {
    ClientConnection* client = clients_.get(id);
    if (client == nullptr || !step(id, *client, now)) return;
  }
  if (ClientConnection* client = clients_.get(id)) requeue(id, *client);
}

void Core::requeue(ClientId id, ClientConnection& client) {
  if (client.queued) return;
  client.queued = true;
  queued_.push_back(id);
}

bool Core::run_queued(Instant now) {
  exchanges_.upstreams().drop_outdated(now);
  for (int i = 0; i < kWaitingAtOnce; ++i) {
    const auto waiting = buffers_.take_waiting();
    if (!waiting) break;
    stack_.remind(*waiting);
  }
  running_.swap(queued_);
  for (const ClientId id : running_) {
    ClientConnection* client = clients_.get(id);
    if (client == nullptr) continue;
    client->queued = false;
    run(id, now);
  }
  running_.clear();
  settle(now);
  const bool is_settled = changed_.empty() && touched_.empty() && !exchanges_.upstreams().touched();
  return !queued_.empty() || !is_settled;
}

/// An endpoint has something for these exchanges, or for connections that they share. What one
/// writes may be for the other's connection, whose streams then have room for more, and so on until
/// nothing moves.
void Core::settle(Instant now) {
  for (int i = 0; i < kSettledAtOnce; ++i) {
    if (!changed_.empty()) {
      run_exchange(changed_.take(), now);
    } else if (const UpstreamId id = exchanges_.upstreams().take_touched()) {
      exchanges_.upstreams().run_shared(id, changed_, now);
    } else if (!touched_.empty()) {
      const ClientId client_id = touched_.back();
      touched_.pop_back();
      ClientConnection* client = clients_.get(client_id);
      if (client == nullptr) continue;
      client->touched = false;
      run(client_id, now);
    } else {
      return;
    }
  }
}

void Core::run_exchange(ExchangeId id, Instant now) {
  Exchange* exchange = exchanges_.get(id);
  if (exchange == nullptr || !exchange->active()) return;
  if (exchange->is_mirror()) return exchanges_.run_mirror(*exchange, now);
  const ClientId client_id = exchange->client_id;
  ClientConnection* client = clients_.get(client_id);
  WEIR_ASSERT(client != nullptr);  // closing a client ends its exchanges
  if (!exchange->is_h2()) {
    run(client_id, now);
    return;
  }
  step_stream(*client, *exchange, now);
  if (std::exchange(client->touched, true)) return;
  touched_.push_back(client_id);
}

void Core::advance(Instant now) {
  timers_.advance(now, [&](Timer& timer) {
    switch (owner_of(timer.user)) {
      case Owner::kListener:
        return;
      case Owner::kClient:
        on_client_timer(handle_of<ClientConnection>(timer.user), now);
        return;
      case Owner::kExchange:
        on_exchange_timer(handle_of<Exchange>(timer.user), now);
        return;
      case Owner::kUpstream:
        exchanges_.on_upstream_timer(handle_of<UpstreamConnection>(timer.user), now);
        return;
    }
  });
  settle(now);
}

// ---- one client --------------------------------------------------------------------------------

bool Core::step(ClientId id, ClientConnection& client, Instant now) {
  switch (client.state) {
    case ClientConnection::State::kProxyHeader:
      return step_proxy_header(id, client, now);
    case ClientConnection::State::kHandshake:
      return step_handshake(id, client, now);
    case ClientConnection::State::kRequest:
      return step_request(id, client, now);
    case ClientConnection::State::kExchange:
      return step_exchange(id, client, now);
    case ClientConnection::State::kH2:
      return step_h2(id, client, now);
    case ClientConnection::State::kDraining:
      return step_draining(client, now);
    case ClientConnection::State::kLingering:
      return step_lingering(id, client, now);
  }
  return false;
}

bool Core::step_proxy_header(ClientId id, ClientConnection& client, Instant now) {
  Channel& channel = client.channel;
  const bool moved = channel.fill();
  const http::ProxyHeader header = http::read_proxy_header(channel.input());
  const bool is_incomplete = header.outcome == http::ProxyHeader::Outcome::kIncomplete;
  if (is_incomplete && !channel.input_ended()) return moved;
  if (is_incomplete && channel.input().empty()) {  // to see whether we are here
    drain(client, now);
    return true;
  }
  if (header.outcome != http::ProxyHeader::Outcome::kComplete) {
    ++counters_.proxy_header_failures;
    close_client(id, Ending::kReset, now);
    return false;
  }
  ++counters_.proxy_headers;
  channel.consume(header.consumed);
  if (header.addresses) {
    client.facts.proxy = client.facts.client;
    client.facts.client = endpoint_of(header.addresses->source);
    client.facts.destination = endpoint_of(header.addresses->destination);
  }
  return admit(id, client, now);
}

bool Core::step_handshake(ClientId id, ClientConnection& client, Instant now) {
  if (client.facts.bind->passthrough) return step_hello(id, client, now);
  const bool moved = client.channel.fill();
  if (client.channel.failed() || client.channel.input_ended()) {
    ++counters_.tls_failures;
    drain(client, now);  // the alert, if there is one
    return true;
  }
  if (client.channel.handshaking()) return moved;
  ++counters_.tls_handshakes;
  client.handshake_time = now - client.handshake_began;
  if (client.facts.tls->info().protocol == "h2")
    start_h2(client, now);
  else
    await_request(client, now);
  return true;
}

bool Core::step_draining(ClientConnection& client, Instant now) {
  const bool moved = client.channel.flush();
  if (!client.channel.drained() && !client.channel.failed()) return moved;
  if (!client.channel.close_output()) return moved;
  client.state = ClientConnection::State::kLingering;
  arm(client, now + kLingerTimeout);
  return true;
}

bool Core::step_lingering(ClientId id, ClientConnection& client, Instant now) {
  // The rest of a request that was refused, or nothing: thrown away until the client has closed.
  const tcp::ConnectionId connection = client.channel.connection();
  while (true) {
    const auto arrived = stack_.peek(connection);
    if (arrived.empty()) break;
    stack_.consume(connection, arrived.size());
  }
  if (stack_.at_end(connection)) close_client(id, Ending::kInOrder, now);
  return false;
}

void Core::begin_drain(DrainKind kind, Instant now) {
  is_draining_ = true;
  exchanges_.drop_mirrors(now);
  exchanges_.upstreams().begin_drain(now);
  std::vector<ClientId> waiting;
  clients_.for_each([&](ClientId id, ClientConnection& client) {
    const bool is_idle = kind == DrainKind::kPrompt &&
                         client.state == ClientConnection::State::kRequest &&
                         client.first_byte == Instant{} && client.channel.input().empty();
    if (is_idle) drain(client, now);
    if (client.state == ClientConnection::State::kH2) tell_to_leave(client, now);
    waiting.push_back(id);
  });
  for (const ClientId id : waiting)
    run(id, now);
  settle(now);
}

void Core::drain(ClientConnection& client, Instant now) {
  client.state = ClientConnection::State::kDraining;
  arm(client, now + kDrainTimeout);
}

/// Whether the connection goes on behind the request that has begun.
bool Core::may_go_on(ClientConnection& client, Instant now) {
  if (client.retired) return false;
  const std::uint32_t requests_max = client.facts.bind->limits.requests_per_connection;
  const bool is_spent = requests_max != 0 && client.requests >= requests_max;
  const bool is_old = now >= client.ages_at;
  const bool is_crowded = retiring_.size() > kRetiringMax &&
                          &*client.generation == retiring_.front().get() &&
                          &*client.generation != &current_->base();
  client.retired = is_spent || is_old || is_crowded || is_draining_;
  if (is_spent)
    ++counters_.closed_after_requests;
  else if (is_old)
    ++counters_.closed_after_age;
  return !client.retired;
}

// ---- endings -----------------------------------------------------------------------------------

void Core::client_lost(ClientId id, ClientConnection& client, Instant now) {
  if (client.exchange != nullptr && client.exchange->active())
    exchanges_.abandon(*client.exchange, Reason::kClientReset, now);
  abandon_streams(client, Reason::kClientReset, now);
  close_client(id, Ending::kReset, now);
}

void Core::close_client(ClientId id, Ending ending, Instant now) {
  ClientConnection* client = clients_.get(id);
  WEIR_ASSERT(client != nullptr && client->streams.empty());
  if (client->exchange != nullptr) {
    WEIR_ASSERT(!client->exchange->active());
    exchanges_.destroy(*client->exchange);
  }
  const tcp::ConnectionId connection = client->channel.connection();
  if (stack_.exists(connection)) {
    switch (ending) {
      case Ending::kInOrder:
        stack_.release(connection);
        break;
      case Ending::kReset:
        stack_.abort(connection, now);
        break;
    }
  }
  clients_.erase(id);
}

void Core::on_client_timer(ClientId id, Instant now) {
  ClientConnection* client = clients_.get(id);
  WEIR_ASSERT(client != nullptr);  // destroying a client takes its timer off the wheel
  switch (client->state) {
    case ClientConnection::State::kProxyHeader:
      ++counters_.proxy_header_failures;
      close_client(id, Ending::kReset, now);
      return;
    case ClientConnection::State::kHandshake:
      ++counters_.handshake_timeouts;
      close_client(id, Ending::kReset, now);
      return;
    case ClientConnection::State::kRequest:
      if (client->first_byte == Instant{})
        drain(*client, now);
      else
        refuse_late_head(id, *client, now);
      run(id, now);
      return;
    case ClientConnection::State::kExchange:
      return;  // the exchange has a timer of its own
    case ClientConnection::State::kH2:
      on_h2_timer(id, *client, now);
      return;
    case ClientConnection::State::kDraining:
      close_client(id, Ending::kReset, now);
      return;
    case ClientConnection::State::kLingering:
      close_client(id, Ending::kInOrder, now);
      return;
  }
}

void Core::on_exchange_timer(ExchangeId id, Instant now) {
  Exchange* exchange = exchanges_.get(id);
  WEIR_ASSERT(exchange != nullptr && exchange->active());  // ending one takes its timer off
  const Exchanges::Outcome outcome = exchanges_.on_timer(*exchange, now);
  if (outcome == Exchanges::Outcome::kWaits) return;
  if (outcome == Exchanges::Outcome::kMoved) {
    changed_.add(id);  // at an endpoint again
    return;
  }
  if (exchange->is_mirror()) return exchanges_.end_mirror(*exchange);
  const ClientId client_id = exchange->client_id;
  ClientConnection& client = *clients_.get(client_id);
  if (exchange->is_h2())
    end_stream(client, *exchange, outcome, now);
  else
    end_exchange(client_id, client, outcome, now);
  run(client_id, now);
}

}  // namespace weir::proxy
