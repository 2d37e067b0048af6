#include "l7/proxy/core.h"

#include <fmt/format.h>

#include <algorithm>

#include "l4/base/bytes.h"
#include "l7/proxy/balancer.h"
#include "l7/proxy/user_data.h"

namespace weir::proxy {
namespace {

/// Half of what the TCP stack takes, so that clients cannot keep requests from reaching endpoints.
constexpr std::uint32_t kClientsMax = 32768;
/// Generations beside the current one. Beyond that, connections of the oldest are closed after
/// their next response, so that a configuration that is applied every second does not pile up.
constexpr std::size_t kRetiringMax = 16;
constexpr std::uint32_t kRequestsPerConnection = 10'000;
constexpr std::uint32_t kAttemptsMax = 3;
/// One connection's share of a turn; the rest waits for the next one.
constexpr int kStepsPerTurn = 16;

constexpr Duration kHandshakeTimeout = std::chrono::seconds{5};
constexpr Duration kBodyIdleTimeout = std::chrono::seconds{30};
constexpr Duration kResponseTimeout = std::chrono::seconds{30};
/// A tunnel that is silent for so long is given up; its protocol's pings keep it alive.
constexpr Duration kTunnelIdleTimeout = std::chrono::hours{1};
constexpr Duration kDrainTimeout = std::chrono::seconds{30};
constexpr Duration kLingerTimeout = std::chrono::seconds{2};

Duration milliseconds(std::uint32_t count) { return std::chrono::milliseconds{count}; }

http::HeadLimits head_limits(const control::GatewayLimits& limits) {
  // A head must fit one buffer beside what is read with it.
  constexpr std::uint32_t kHeaderBytesMax = kBufferBytes / 2;
  return {.header_bytes = std::min(limits.header_bytes, kHeaderBytesMax)};
}

http::Status status_of(Reason reason) {
  switch (reason) {
    case Reason::kOk:
      return http::Status::kOk;
    case Reason::kRedirect:
      return http::Status::kMovedPermanently;
    case Reason::kBadRequest:
    case Reason::kClientReset:
      return http::Status::kBadRequest;
    case Reason::kHeaderTimeout:
    case Reason::kClientTimeout:
      return http::Status::kRequestTimeout;
    case Reason::kHeaderTooLarge:
      return http::Status::kHeaderFieldsTooLarge;
    case Reason::kBodyTooLarge:
      return http::Status::kContentTooLarge;
    case Reason::kNoRoute:
      return http::Status::kNotFound;
    case Reason::kMisdirected:
      return http::Status::kMisdirectedRequest;
    case Reason::kNoEndpoint:
    case Reason::kConnectFailed:
      return http::Status::kServiceUnavailable;
    case Reason::kUpstreamReset:
    case Reason::kUpstreamProtocol:
    case Reason::kUpstreamTls:
      return http::Status::kBadGateway;
    case Reason::kUpstreamTimeout:
    case Reason::kRequestTimeout:
      return http::Status::kGatewayTimeout;
    case Reason::kNotSupported:
      return http::Status::kNotImplemented;
  }
  return http::Status::kInternalServerError;
}

/// Why a head that breaks a rule was refused, for the log and the counters.
Reason reason_of(http::Status refusal) {
  if (refusal == http::Status::kUriTooLong || refusal == http::Status::kHeaderFieldsTooLarge)
    return Reason::kHeaderTooLarge;
  const bool unsupported = refusal == http::Status::kNotImplemented ||
                           refusal == http::Status::kVersionNotSupported ||
                           refusal == http::Status::kExpectationFailed;
  return unsupported ? Reason::kNotSupported : Reason::kBadRequest;
}

/// How long an exchange may stand still.
Duration idle_timeout(const Exchange& exchange) {
  if (!exchange.tunnel()) return kBodyIdleTimeout;
  const bool half_closed = exchange.request_complete() || exchange.response_complete();
  return half_closed ? kDrainTimeout : kTunnelIdleTimeout;
}

/// Whose fault it is that an exchange does not get on.
Reason timeout_reason(ClientConnection& client, Instant now) {
  const Exchange& exchange = client.exchange;
  if (now >= exchange.request_deadline) return Reason::kRequestTimeout;
  const bool does_not_read = !client.channel.output().empty();
  const bool does_not_send = !exchange.request_complete() && client.channel.input().empty();
  return does_not_read || does_not_send ? Reason::kClientTimeout : Reason::kUpstreamTimeout;
}

/// Why a request must come over another connection (RFC 9110, section 15.5.20), or nothing: the
/// certificate of this one does not speak for the host, or the host's listener wants something else
/// of its clients than the one that this client has shaken hands with.
std::string_view misdirection(const ClientConnection& client) {
  const tls::Session* session = client.channel.session();
  if (session == nullptr) return {};
  const std::string_view host = client.uri.host();
  if (!host.empty() && !session->covers(host)) return "the certificate is for other names";
  if (session->client_validation() != client.exchange.listener->client_validation)
    return "the host asks for client certificates in another way";
  return {};
}

}  // namespace

Core::Core(tcp::Stack& stack, Random random, Instant start)
    : stack_{stack},
      random_{random},
      timers_{start},
      upstreams_{stack, buffers_, timers_},
      clients_{kClientsMax} {}

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
  // Counts of services that are still there go on.
  std::vector<ServiceCounters> services;
  for (const ServiceEntry& entry : generation->snapshot().services) {
    const auto before = std::find_if(services_.begin(), services_.end(),
                                     [&](const auto& old) { return old.name == entry.name; });
    services.push_back({entry.name, before == services_.end() ? 0 : before->requests});
  }
  services_ = std::move(services);
  current_ = std::move(generation);
  if (ticket_keys_.count > 0) current_->use_ticket_keys(&ticket_keys_);
}

void Core::set_ticket_keys(const tls::TicketKeySet& keys) {
  ticket_keys_ = keys;
  if (current_) current_->use_ticket_keys(&ticket_keys_);
  for (const auto& generation : retiring_)
    generation->use_ticket_keys(&ticket_keys_);
}

void Core::set_sources(std::vector<wire::IpAddress> sources) {
  upstreams_.set_sources(std::move(sources));
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
  counters.connections = clients_.size();
  counters.buffer_refusals = buffers_.refusals();
  counters.buffers = buffers_.lent();
  counters.generations = static_cast<std::uint32_t>(retiring_.size()) + (current_ ? 1 : 0);
  return counters;
}

std::vector<ServiceCounters> Core::service_counters() const { return services_; }

// ---- events ------------------------------------------------------------------------------------

void Core::on_ready(const tcp::Readiness& ready, Instant now) {
  if (ready.accepted) {
    // A connection that broke before we looked has nobody to tell.
    if (ready.reset)
      stack_.release(ready.connection);
    else
      accept(ready.connection, now);
    return;
  }
  switch (owner_of(ready.user)) {
    case Owner::kListener:
      return;
    case Owner::kUpstream:
      on_upstream(ready, now);
      return;
    case Owner::kClient: {
      const ClientId id = handle_of<ClientConnection>(ready.user);
      ClientConnection* client = clients_.get(id);
      if (client == nullptr) return;
      if (ready.reset)
        client_lost(id, *client, now);
      else
        run(id, now);
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
  if (!current_) return refuse_connection();
  const std::vector<Bind>& binds = current_->snapshot().binds;
  const auto bind = std::find_if(binds.begin(), binds.end(),
                                 [&](const Bind& other) { return other.endpoint == local; });
  if (bind == binds.end()) return refuse_connection();
  const ClientId id = clients_.emplace(stack_, connection, buffers_, head_limits(bind->limits));
  if (!id) return refuse_connection();
  ClientConnection& client = *clients_.get(id);
  client.generation = GenerationRef{*current_};
  client.bind = &*bind;
  client.vip = local;
  client.client = stack_.remote(connection);
  client.client_text = client.client.address.text();
  client.timer.user = user_data(Owner::kClient, id);
  if (tls::ServerContext* context =
          current_->tls_context(static_cast<std::size_t>(bind - binds.begin()))) {
    Result<tls::Session> session = tls::Session::accept(*context);
    if (!session) {
      clients_.erase(id);
      return refuse_connection();
    }
    client.channel.secure(std::move(*session));
    client.state = ClientConnection::State::kHandshake;
    arm(client, now + kHandshakeTimeout);
  } else if (bind->passthrough) {
    client.state = ClientConnection::State::kHandshake;
    arm(client, now + kHandshakeTimeout);
  } else {
    await_request(client, now);
  }
  ++counters_.connections_accepted;
  stack_.set_user(connection, client.timer.user);
  run(id, now);
}

void Core::on_upstream(const tcp::Readiness& ready, Instant now) {
  const UpstreamId id = handle_of<UpstreamConnection>(ready.user);
  UpstreamConnection* upstream = upstreams_.get(id);
  if (upstream == nullptr) return;
  if (ready.connected) upstream->connected = true;
  const ClientId owner = upstream->client;
  if (!owner) {
    if (!ready.readable && !ready.closed && !ready.reset) return;
    // Idle: whatever arrives answers no request. Nearly always the endpoint closing.
    upstreams_.count_idle_close();
    upstreams_.drop(id, now);
    return;
  }
  ClientConnection* client = clients_.get(owner);
  WEIR_ASSERT(client != nullptr);  // closing a client drops its upstream connection
  if (!ready.reset) {
    run(owner, now);
    return;
  }
  upstream->broken = true;  // not to be kept, whatever its buffers still hold
  if (!upstream->connected) {
    upstreams_.count_connect_failure();
    attempt_failed(owner, *client, Reason::kConnectFailed, now);
  }
  run(owner, now);
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
  running_.swap(queued_);
  for (const ClientId id : running_) {
    ClientConnection* client = clients_.get(id);
    if (client == nullptr) continue;
    client->queued = false;
    run(id, now);
  }
  running_.clear();
  return !queued_.empty();
}

void Core::advance(Instant now) {
  timers_.advance(now, [&](Timer& timer) {
    if (owner_of(timer.user) == Owner::kClient) {
      on_client_timer(handle_of<ClientConnection>(timer.user), now);
      return;
    }
    const UpstreamId id = handle_of<UpstreamConnection>(timer.user);
    upstreams_.count_idle_close();
    upstreams_.drop(id, now);
  });
}

// ---- one client --------------------------------------------------------------------------------

bool Core::step(ClientId id, ClientConnection& client, Instant now) {
  switch (client.state) {
    case ClientConnection::State::kHandshake:
      return step_handshake(id, client, now);
    case ClientConnection::State::kRequest:
      return step_request(id, client, now);
    case ClientConnection::State::kExchange:
      return step_exchange(id, client, now);
    case ClientConnection::State::kDraining:
      return step_draining(client, now);
    case ClientConnection::State::kLingering:
      return step_lingering(id, client, now);
  }
  return false;
}

bool Core::step_handshake(ClientId id, ClientConnection& client, Instant now) {
  if (client.bind->passthrough) return step_hello(id, client, now);
  const bool moved = client.channel.fill();
  if (client.channel.failed() || client.channel.input_ended()) {
    ++counters_.tls_failures;
    drain(client, now);  // the alert, if there is one
    return true;
  }
  if (client.channel.handshaking()) return moved;
  ++counters_.tls_handshakes;
  await_request(client, now);
  return true;
}

void Core::await_request(ClientConnection& client, Instant now) {
  client.state = ClientConnection::State::kRequest;
  client.first_byte = {};
  arm(client, now + milliseconds(client.bind->limits.idle_timeout_ms));
}

bool Core::step_request(ClientId id, ClientConnection& client, Instant now) {
  Channel& channel = client.channel;
  bool moved = channel.fill();
  moved = channel.flush() || moved;
  if (channel.failed()) {
    drain(client, now);
    return true;
  }
  if (channel.input().empty()) {
    if (!channel.input_ended()) return moved;
    drain(client, now);
    return true;
  }
  if (client.first_byte == Instant{}) {
    client.first_byte = now;
    arm(client, now + milliseconds(client.bind->limits.header_timeout_ms));
  }
  // Requests that are answered here must not outrun the client's reading of the answers.
  if (channel.output().room() < kReplyRoom) return moved;
  const http::ParseResult parsed = client.parser.parse(channel.input());
  switch (parsed.outcome) {
    case http::ParseResult::Outcome::kIncomplete:
      if (!channel.input_ended()) return moved;
      drain(client, now);
      return true;
    case http::ParseResult::Outcome::kError:
      ++client.requests;
      client.uri = {};  // not that of the request before
      client.exchange.begin(GenerationRef{*current_}, client.first_byte, now);
      client.exchange.detail = parsed.refusal.reason;
      refuse(client, parsed.refusal.status, reason_of(parsed.refusal.status), now);
      return true;
    case http::ParseResult::Outcome::kComplete:
      channel.consume(parsed.consumed);
      begin_exchange(id, client, now);
      return true;
  }
  return false;
}

bool Core::step_exchange(ClientId id, ClientConnection& client, Instant now) {
  Exchange& exchange = client.exchange;
  if (exchange.tunnel()) return step_tunnel(id, client, now);
  UpstreamConnection* upstream = upstreams_.get(exchange.upstream);
  WEIR_ASSERT(upstream != nullptr);  // an active exchange has a connection, or it has failed
  bool moved = exchange.request_complete() ? false : client.channel.fill();
  // Before the endpoint has proved who it is, it is told nothing.
  const bool ready = upstream->connected && !upstream->channel.handshaking();
  const PumpResult request =
      ready ? exchange.pump_request(client.channel, *upstream) : PumpResult{};
  moved = upstream->channel.flush() || moved || request.moved;
  if (upstream->connected) moved = upstream->channel.fill() || moved;
  const bool cut = upstream->channel.handshaking() && upstream->channel.input_ended();
  if (upstream->channel.failed() || cut) {
    exchange.detail = cut ? "the endpoint has closed within the TLS handshake"
                          : upstream->channel.session()->failure_reason();
    attempt_failed(id, client, Reason::kUpstreamTls, now);
    return true;
  }
  if (request.failure != Reason::kOk) {
    fail_exchange(id, client, request.failure, now);
    return true;
  }
  // A client that sends several requests and then its FIN waits for as many answers.
  const bool said_all = client.channel.input_ended() && client.channel.input().empty();
  const bool keep_alive = may_go_on(client) && !said_all;
  const PumpResult response =
      ready ? exchange.pump_response(*upstream, client.channel, keep_alive, now) : PumpResult{};
  moved = client.channel.flush() || moved || response.moved;
  if (response.failure != Reason::kOk) {
    attempt_failed(id, client, response.failure, now);
    return true;
  }
  if (client.channel.failed()) {
    fail_exchange(id, client, Reason::kClientReset, now);
    return true;
  }
  if (moved) exchange.last_progress = now;
  if (exchange.response_complete() && client.channel.output().empty()) {
    finish_exchange(client, now);
    return true;
  }
  // After a reset, what has been read before may still be waiting for the client, and it may be all
  // of the answer. Only when nothing moves any more is something missing.
  if (upstream->broken && !moved && client.channel.output().empty()) {
    attempt_failed(id, client, Reason::kUpstreamReset, now);
    return true;
  }
  return moved;
}

bool Core::step_tunnel(ClientId id, ClientConnection& client, Instant now) {
  Exchange& exchange = client.exchange;
  UpstreamConnection* upstream = upstreams_.get(exchange.upstream);
  WEIR_ASSERT(upstream != nullptr);  // as in step_exchange()
  if (!upstream->connected) return false;
  const bool moved = exchange.pump_tunnel(client.channel, upstream->channel);
  if (moved) {
    exchange.last_progress = now;
    if (idle_timeout(exchange) == kDrainTimeout) arm(client, now + kDrainTimeout);
  }
  if (exchange.request_complete() && exchange.response_complete()) {
    upstream->ended_in_order = true;
    drop_upstream(client, now);
    record(client, now);
    exchange.end();
    close_client(id, Ending::kInOrder, now);
    return false;
  }
  const bool failed = client.channel.failed();
  if (!failed && (!upstream->broken || moved || !client.channel.output().empty())) return moved;
  fail_exchange(id, client, failed ? Reason::kClientReset : Reason::kUpstreamReset, now);
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

void Core::drain(ClientConnection& client, Instant now) {
  client.state = ClientConnection::State::kDraining;
  arm(client, now + kDrainTimeout);
}

// ---- exchanges ---------------------------------------------------------------------------------

void Core::begin_exchange(ClientId id, ClientConnection& client, Instant now) {
  ++client.requests;
  Exchange& exchange = client.exchange;
  exchange.begin(GenerationRef{*current_}, client.first_byte, now);
  client.state = ClientConnection::State::kExchange;
  if (const auto refusal = client.uri.resolve(client.parser.head())) {
    exchange.detail = refusal->reason;
    refuse(client, refusal->status, reason_of(refusal->status), now);
    return;
  }
  if (!find_route(client, now)) return;
  exchange.body_bytes_max = exchange.listener->limits.body_bytes;
  const http::BodyFraming& body = client.parser.framing().body;
  if (exchange.body_bytes_max != 0 && body.kind == http::BodyKind::kLength &&
      body.length > exchange.body_bytes_max) {
    refuse(client, http::Status::kContentTooLarge, Reason::kBodyTooLarge, now);
    return;
  }
  if (!choose_service(client, now)) return;
  if (exchange.rule->timeouts.request_ms != 0)
    exchange.request_deadline = now + milliseconds(exchange.rule->timeouts.request_ms);
  const tls::Session* session = client.channel.session();
  exchange.prepare_request(client.parser, client.uri, client.client_text, client.bind->tls,
                           session != nullptr ? session->client() : std::nullopt);
  start_attempt(id, client, now);
}

/// One of the rule's; false when there is none that could take the exchange, which has ended then.
bool Core::choose_service(ClientConnection& client, Instant now) {
  Exchange& exchange = client.exchange;
  if (exchange.rule->weight_total() == 0) {
    refuse(client, http::Status::kInternalServerError, Reason::kNoEndpoint, now);
    return false;
  }
  exchange.service_index = pick_service(*exchange.rule, random_);
  exchange.service = &exchange.generation->snapshot().services[exchange.service_index];
  ++services_[exchange.service_index].requests;
  if (exchange.service->endpoints.empty()) {
    refuse(client, http::Status::kServiceUnavailable, Reason::kNoEndpoint, now);
    return false;
  }
  return true;
}

bool Core::find_route(ClientConnection& client, Instant now) {
  Exchange& exchange = client.exchange;
  const Snapshot& snapshot = exchange.generation->snapshot();
  // A connection that began in the clear is never served by what is now an HTTPS listener, nor the
  // other way round.
  const auto bind =
      std::find_if(snapshot.binds.begin(), snapshot.binds.end(), [&](const Bind& other) {
        return other.endpoint == client.vip && other.tls == client.bind->tls && !other.passthrough;
      });
  if (bind != snapshot.binds.end())
    exchange.listener = snapshot.listener_for(*bind, client.uri.host());
  if (exchange.listener == nullptr) {
    // Over TLS the certificate may have been for another name (RFC 9110, section 15.5.20).
    const bool tls = client.channel.session() != nullptr;
    refuse(client, tls ? http::Status::kMisdirectedRequest : http::Status::kNotFound,
           Reason::kNoRoute, now);
    return false;
  }
  if (const std::string_view why = misdirection(client); !why.empty()) {
    exchange.detail = why;
    refuse(client, http::Status::kMisdirectedRequest, Reason::kMisdirected, now);
    return false;
  }
  if (exchange.listener->redirect_port) {
    redirect(client, now);
    return false;
  }
  const http::RequestHead& head = client.parser.head();
  const auto rule = exchange.listener->router.match(
      {head.method, client.uri.host(), client.uri.path(), head.fields});
  if (!rule) {
    refuse(client, http::Status::kNotFound, Reason::kNoRoute, now);
    return false;
  }
  exchange.rule = &snapshot.rules[*rule];
  return true;
}

void Core::start_attempt(ClientId id, ClientConnection& client, Instant now) {
  Exchange& exchange = client.exchange;
  exchange.upstream = {};
  while (exchange.attempts < kAttemptsMax) {
    ++exchange.attempts;
    exchange.endpoint =
        pick_endpoint(*exchange.generation, exchange.service_index, upstreams_, random_);
    exchange.attempt_started = exchange.last_progress = now;
    if (exchange.rule->timeouts.backend_request_ms != 0)
      exchange.attempt_deadline = now + milliseconds(exchange.rule->timeouts.backend_request_ms);
    const ServiceEntry& service = *exchange.service;
    // What a client encrypts is never put behind messages of ours.
    const auto idle = exchange.tunnel() ? std::nullopt
                                        : upstreams_.take_idle(exchange.endpoint, service, id, now);
    if (idle) {
      exchange.upstream = *idle;
    } else {
      Result<UpstreamId> opened =
          upstreams_.open(exchange.endpoint, service, exchange.generation, id, now);
      if (!opened) continue;
      exchange.upstream = *opened;
    }
    arm(client,
        std::min({exchange.request_deadline, exchange.attempt_deadline, now + kResponseTimeout}));
    return;
  }
  refuse(client, http::Status::kServiceUnavailable, Reason::kConnectFailed, now);
}

void Core::attempt_failed(ClientId id, ClientConnection& client, Reason reason, Instant now) {
  Exchange& exchange = client.exchange;
  UpstreamConnection* upstream = upstreams_.get(exchange.upstream);
  // A connection that never stood has told the endpoint nothing, so any request may go elsewhere.
  // One that was kept may have been closed by the endpoint just as we used it: an idempotent
  // request is made again (RFC 9112, section 9.3.1).
  const bool never_connected = reason == Reason::kConnectFailed;
  const bool stale = upstream != nullptr && upstream->reused && reason == Reason::kUpstreamReset &&
                     upstream->channel.input().empty() &&
                     is_idempotent(client.parser.head().method);
  const bool again =
      (never_connected || stale) && exchange.replayable() && exchange.attempts < kAttemptsMax;
  drop_upstream(client, now);
  if (!again) {
    fail_exchange(id, client, reason, now);
    return;
  }
  ++counters_.retries;
  exchange.restart_request();
  start_attempt(id, client, now);
}

void Core::drop_upstream(ClientConnection& client, Instant now) {
  const UpstreamId id = std::exchange(client.exchange.upstream, UpstreamId{});
  if (upstreams_.get(id) != nullptr) upstreams_.drop(id, now);
}

void Core::finish_exchange(ClientConnection& client, Instant now) {
  Exchange& exchange = client.exchange;
  UpstreamConnection* upstream = upstreams_.get(exchange.upstream);
  // Bytes behind the response answer nothing that was asked, and while it was delivered the
  // endpoint may have closed: such a connection is not kept.
  if (exchange.upstream_reusable() && !upstream->broken && upstream->channel.drained() &&
      upstream->channel.input().empty() && !upstream->channel.input_ended()) {
    upstreams_.give_back(exchange.upstream, now);
    exchange.upstream = {};
  } else {
    drop_upstream(client, now);
  }
  record(client, now);
  const bool reusable = exchange.client_reusable();
  exchange.end();
  if (!reusable) {
    drain(client, now);
    return;
  }
  client.parser.reset();
  await_request(client, now);
}

void Core::fail_exchange(ClientId id, ClientConnection& client, Reason reason, Instant now) {
  if (!client.exchange.response_started() && !client.channel.failed()) {
    refuse(client, status_of(reason), reason, now);
    return;
  }
  // A response that has begun cannot be taken back: only a broken connection tells the client.
  drop_upstream(client, now);
  client.exchange.reason = reason;
  record(client, now);
  client.exchange.end();
  close_client(id, Ending::kReset, now);
}

bool Core::may_go_on(const ClientConnection& client) const {
  const bool crowded =
      retiring_.size() > kRetiringMax && &*client.generation == retiring_.front().get();
  return client.parser.framing().keep_alive && client.requests < kRequestsPerConnection && !crowded;
}

void Core::refuse(ClientConnection& client, http::Status status, Reason reason, Instant now) {
  drop_upstream(client, now);
  client.exchange.reason = reason;
  finish_reply(client, status, {}, now);
}

void Core::redirect(ClientConnection& client, Instant now) {
  if (client.uri.host().empty() || !client.uri.path().starts_with('/')) {
    client.exchange.detail = "a request without a host or a path cannot be redirected";
    refuse(client, http::Status::kBadRequest, Reason::kBadRequest, now);
    return;
  }
  const std::uint16_t port = client.exchange.listener->redirect_port->value();
  const std::string location =
      fmt::format("https://{}{}{}", client.uri.host(), port == 443 ? "" : fmt::format(":{}", port),
                  client.uri.target());
  const std::string& method = client.parser.head().method;
  // 301 lets clients turn POST into GET; 308 does not (RFC 9110, section 15.4.9).
  const auto status = method == "GET" || method == "HEAD" ? http::Status::kMovedPermanently
                                                          : http::Status::kPermanentRedirect;
  client.exchange.reason = Reason::kRedirect;
  finish_reply(client, status, location, now);
}

/// Answers an exchange that no backend answers, and ends it.
void Core::finish_reply(ClientConnection& client, http::Status status, std::string_view location,
                        Instant now) {
  if (client.bind->passthrough) return end_passthrough(client, now);
  const Reason reason = client.exchange.reason;
  // Without a body the connection is in a known state and can go on; a bad head leaves it unknown.
  const bool keep_alive = reason != Reason::kBadRequest && reason != Reason::kHeaderTimeout &&
                          reason != Reason::kHeaderTooLarge && reason != Reason::kNotSupported &&
                          client.state == ClientConnection::State::kExchange &&
                          client.parser.framing().body.kind == http::BodyKind::kNone &&
                          may_go_on(client);
  client.exchange.status = http::number_of(status);
  reply(client, status, location, keep_alive);
  record(client, now);
  client.exchange.end();
  if (keep_alive) {
    client.parser.reset();
    await_request(client, now);
  } else {
    drain(client, now);
  }
}

void Core::reply(ClientConnection& client, http::Status status, std::string_view location,
                 bool keep_alive) {
  const std::string_view phrase = http::reason_phrase(status);
  char body[128];
  const auto end = fmt::format_to_n(body, sizeof(body), "{} {}\n", http::number_of(status), phrase);
  const std::string_view text{body, end.size};
  reply_head_.clear();
  reply_head_.status = status;
  reply_head_.reason = phrase;
  reply_head_.fields.add("Content-Type", "text/plain");
  if (!location.empty()) reply_head_.fields.add("Location", location);
  if (!keep_alive) reply_head_.fields.add("Connection", "close");
  scratch_.clear();
  http::append_response_head(scratch_, reply_head_, {http::BodyKind::kLength, text.size()});
  // In the middle of an exchange, interim heads or 100 may be waiting; a client that does not read
  // those will not read this either.
  ByteBuffer& output = client.channel.output();
  if (output.room() < scratch_.size() + text.size()) return;
  output.append(scratch_);
  if (client.parser.head().method != "HEAD") output.append(as_bytes(text));
}

// ---- endings -----------------------------------------------------------------------------------

void Core::record(const ClientConnection& client, Instant now) {
  const Exchange& exchange = client.exchange;
  const bool passthrough = client.bind->passthrough;
  ++(passthrough ? counters_.passed_through : counters_.requests);
  ++counters_.responses[static_cast<std::size_t>(exchange.status / 100) % 6];
  ++counters_.reasons[static_cast<std::size_t>(exchange.reason)];
  const tls::Session* session = client.channel.session();
  const tls::SessionInfo info = session != nullptr ? session->info() : tls::SessionInfo{};
  access_log_.record({
      .client = client.client,
      .vip = client.vip,
      .tls_version = info.version,
      .tls_cipher = info.cipher,
      .server_name = passthrough ? client.server_name : info.server_name,
      .certificate = info.certificate,
      .listener = exchange.listener != nullptr ? exchange.listener->name : std::string_view{},
      .method = client.parser.head().method,
      .host = client.uri.host(),
      .target = client.uri.target(),
      .route = exchange.rule != nullptr ? exchange.rule->route : std::string_view{},
      .rule = exchange.rule != nullptr ? exchange.rule->name : std::string_view{},
      .service = exchange.service != nullptr ? exchange.service->name : std::string_view{},
      .endpoint = exchange.attempts > 0 ? std::optional{exchange.endpoint} : std::nullopt,
      .status = exchange.status,
      .reason = exchange.reason,
      .detail = exchange.detail,
      .attempts = exchange.attempts,
      .request_bytes = exchange.request_bytes,
      .response_bytes = exchange.response_bytes,
      .duration = now - exchange.first_byte,
      .upstream_duration = exchange.upstream_duration,
  });
}

void Core::client_lost(ClientId id, ClientConnection& client, Instant now) {
  if (client.exchange.active()) {
    client.exchange.reason = Reason::kClientReset;
    drop_upstream(client, now);
    record(client, now);
    client.exchange.end();
  }
  close_client(id, Ending::kReset, now);
}

void Core::close_client(ClientId id, Ending ending, Instant now) {
  ClientConnection* client = clients_.get(id);
  WEIR_ASSERT(client != nullptr && !client->exchange.active());
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
    case ClientConnection::State::kHandshake:
      ++counters_.handshake_timeouts;
      close_client(id, Ending::kReset, now);
      return;
    case ClientConnection::State::kRequest:
      if (client->first_byte == Instant{}) {
        drain(*client, now);
      } else {
        client->uri = {};
        client->exchange.begin(GenerationRef{*current_}, client->first_byte, now);
        refuse(*client, http::Status::kRequestTimeout, Reason::kHeaderTimeout, now);
      }
      run(id, now);
      return;
    case ClientConnection::State::kExchange: {
      Exchange& exchange = client->exchange;
      const Instant idle_deadline = exchange.last_progress + idle_timeout(exchange);
      const Instant deadline =
          std::min({exchange.request_deadline, exchange.attempt_deadline, idle_deadline});
      if (now < deadline) {
        arm(*client, deadline);
        return;
      }
      fail_exchange(id, *client, timeout_reason(*client, now), now);
      run(id, now);
      return;
    }
    case ClientConnection::State::kDraining:
    case ClientConnection::State::kLingering:
      close_client(
          id,
          client->state == ClientConnection::State::kLingering ? Ending::kInOrder : Ending::kReset,
          now);
      return;
  }
}

}  // namespace weir::proxy
