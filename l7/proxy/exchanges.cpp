#include "l7/proxy/exchanges.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "l4/base/bytes.h"
#include "l7/http/proxy_protocol.h"
#include "l7/http/semantics.h"
#include "l7/proxy/balancer.h"
#include "l7/proxy/forwarded.h"
#include "l7/proxy/grpc.h"
#include "l7/proxy/trace_context.h"
#include "l7/proxy/user_data.h"

namespace weir::proxy {
namespace {

/// Without anything moving, when it is not the client's body that is waited for.
constexpr Duration kIdleTimeout = std::chrono::seconds{30};
/// A tunnel, a call or an event stream that is silent for so long is given up; pings keep it alive.
constexpr Duration kQuietIdleTimeout = std::chrono::hours{1};
/// One whose one direction has ended, likewise: whoever is gone for good looks the same.
constexpr Duration kHalfClosedTimeout = std::chrono::seconds{30};

Duration milliseconds(std::uint32_t count) { return std::chrono::milliseconds{count}; }

/// How long an exchange may stand still.
Duration idle_timeout(const Exchange& exchange) {
  if (exchange.body_is_due) return milliseconds(exchange.listener->limits.body_timeout_ms);
  const bool half_closed =
      exchange.tunnel() && (exchange.request_complete() || exchange.response_complete());
  if (half_closed || exchange.only_listens) return kHalfClosedTimeout;
  if (const auto set =
          exchange.rule != nullptr ? exchange.rule->timeouts.backend_idle_ms : std::nullopt)
    return milliseconds(*set);
  return exchange.is_quiet() ? kQuietIdleTimeout : kIdleTimeout;
}

/// Whose fault it is that an exchange does not get on.
Reason timeout_reason(const Exchange& exchange, Instant now) {
  if (now >= exchange.request_deadline) return Reason::kRequestTimeout;
  if (exchange.body_is_due) return Reason::kBodyTooSlow;
  const bool does_not_read = exchange.client().has_unsent();
  const bool does_not_send = exchange.tunnel()
                                 ? !exchange.request_complete() && exchange.client().input_empty()
                                 : exchange.waits_for_body();
  return does_not_read || does_not_send ? Reason::kClientTimeout : Reason::kUpstreamTimeout;
}

/// Why a request must come over another connection (RFC 9110, section 15.5.20), or nothing: the
/// certificate of this one does not speak for the host, or the host's listener wants something else
/// of its clients than the one that this client has shaken hands with.
std::string_view misdirection(const Exchange& exchange) {
  const tls::Session* session = exchange.facts->tls;
  if (session == nullptr) return {};
  const std::string_view host = exchange.uri.host();
  if (!host.empty() && !session->covers(host)) return "the certificate is for other names";
  if (session->client_validation() != exchange.listener->client_validation)
    return "the host asks for client certificates in another way";
  return {};
}

/// Whether a connection that is shared will never take this exchange's request.
bool is_lost(const Exchange& exchange, const UpstreamConnection& upstream) {
  if (!upstream.is_h2 || upstream.session == nullptr || exchange.head_sent()) return false;
  return upstream.broken || upstream.session->draining();
}

/// Of a connection that broke under an exchange: whose end it was.
Reason why_broken(Exchange& exchange, const UpstreamConnection& upstream) {
  if (exchange.has_leg()) exchange.detail = exchange.endpoint_leg().why();
  const bool by_us = upstream.session != nullptr && upstream.session->was_wronged();
  return by_us ? Reason::kUpstreamProtocol : Reason::kUpstreamReset;
}

}  // namespace

Exchanges::Exchanges(tcp::Stack& stack, BufferPool& buffers, TimerWheel& timers, http::H2Shared& h2,
                     ChangedExchanges& changed, Random random)
    : random_{random},
      timers_{timers},
      changed_{changed},
      upstreams_{stack, buffers, timers, h2},
      mirrors_{buffers} {}

void Exchanges::install(Generation& generation) {
  const Snapshot& snapshot = generation.snapshot();
  upstreams_.use(generation);
  // Whoever made the generation has laid them out, and destroys those that they replace with it.
  TrafficCounters& next = generation.traffic();
  const auto go_on = [](std::vector<RequestCounters>& before, const auto& names,
                        std::vector<RequestCounters>& after) {
    for (RequestCounters& counters : before) {
      if (counters.requests() == 0) continue;
      if (const auto now = names.find(counters.name); now != names.end())
        std::swap(counters, after[now->second]);
    }
  };
  go_on(services_, snapshot.service_names, next.services);
  go_on(routes_, snapshot.rule_names, next.routes);
  services_.swap(next.services);
  routes_.swap(next.routes);
  current_ = &snapshot;
}

Exchange* Exchanges::create(ClientId client) {
  const ExchangeId id = exchanges_.emplace(client);
  if (!id) return nullptr;
  Exchange* const exchange = exchanges_.get(id);
  exchange->id = id;
  exchange->timer.user = user_data(Owner::kExchange, id);
  return exchange;
}

// ---- the way to an endpoint --------------------------------------------------------------------

Exchanges::Outcome Exchanges::start(Exchange& exchange, Instant now) {
  if (const auto refusal = exchange.uri.resolve(exchange.head())) {
    return refuse(exchange, *refusal, now);
  }
  if (const auto answered = find_route(exchange, now)) return *answered;
  const auto forwards = http::max_forwards(exchange.head());
  if (!forwards) return refuse(exchange, forwards.refusal(), now);
  exchange.max_forwards = *forwards;
  exchange.body_bytes_max = exchange.listener->limits.body_bytes;
  const http::BodyFraming& body = exchange.framing().body;
  if (exchange.body_bytes_max != 0 && body.kind == http::BodyKind::kLength &&
      body.length > exchange.body_bytes_max && !exchange.is_connect())
    return refuse(exchange, http::Status::kContentTooLarge, Reason::kBodyTooLarge, now);
  set_deadlines(exchange, now);
  if (const auto held = inject_fault(exchange, now)) return *held;
  return forward(exchange, now);
}

Exchanges::Outcome Exchanges::forward(Exchange& exchange, Instant now) {
  if (const auto answered = choose_service(exchange, now)) return *answered;
  if (exchange.framing().upgrade && exchange.service->speaks_h2()) {
    exchange.detail = "a WebSocket to an endpoint of HTTP/2";
    return refuse(exchange, http::Status::kNotImplemented, Reason::kNotSupported, now);
  }
  if (exchange.is_connect())
    if (const auto refused = check_connect(exchange, now)) return *refused;
  const tls::Session* session = exchange.facts->tls;
  exchange.prepare_request(session != nullptr ? session->client() : std::nullopt, random_,
                           scratch_);
  // Behind what Connection could take away.
  if (exchange.listener->trace_context)
    exchange.trace = continue_trace(exchange.head().fields, random_);
  take_mirror(exchange);
  const Outcome outcome = start_attempt(exchange, now);
  // Behind it: where both want the same endpoint, the client's request is first.
  watch_mirror(exchange, now);
  return outcome;
}

std::optional<Exchanges::Outcome> Exchanges::check_connect(Exchange& exchange, Instant now) {
  if (exchange.service->speaks_h2()) {
    exchange.detail = "CONNECT to an endpoint of HTTP/2";
    return refuse(exchange, http::Status::kNotImplemented, Reason::kNotSupported, now);
  }
  // RFC 9110, section 9.3.6: its content would have no meaning. A stream's data is the tunnel's.
  const http::BodyKind body = exchange.framing().body.kind;
  const bool is_stream = exchange.is_h2() && body == http::BodyKind::kChunked;
  if (body != http::BodyKind::kNone && !is_stream) {
    exchange.detail = "CONNECT with a body";
    return refuse(exchange, http::Status::kBadRequest, Reason::kBadRequest, now);
  }
  return std::nullopt;
}

void Exchanges::set_deadlines(Exchange& exchange, Instant now) {
  if (exchange.rule->timeouts.request_ms != 0)
    exchange.request_deadline = now + milliseconds(exchange.rule->timeouts.request_ms);
  if (!exchange.is_grpc()) return;
  // Bodies of calls are streams, and the time that the caller gives is all that it has.
  exchange.body_bytes_max = 0;
  const auto text = exchange.head().fields.find("grpc-timeout");
  const auto timeout = text ? parse_grpc_timeout(*text) : std::nullopt;
  if (timeout) exchange.request_deadline = std::min(exchange.request_deadline, now + *timeout);
}

std::optional<Exchanges::Outcome> Exchanges::find_route(Exchange& exchange, Instant now) {
  const Snapshot& snapshot = exchange.generation->snapshot();
  const ClientFacts& facts = *exchange.facts;
  // A connection that began in the clear is never served by what is now an HTTPS listener, nor the
  // other way round.
  const auto bind =
      std::find_if(snapshot.binds.begin(), snapshot.binds.end(), [&](const Bind& other) {
        return other.endpoint == facts.vip && other.tls == facts.bind->tls && !other.passthrough;
      });
  if (bind != snapshot.binds.end())
    exchange.listener = snapshot.listener_for(*bind, exchange.uri.host());
  if (exchange.listener == nullptr) {
    // Over TLS the certificate may have been for another name (RFC 9110, section 15.5.20).
    const bool tls = facts.tls != nullptr;
    return refuse(exchange, tls ? http::Status::kMisdirectedRequest : http::Status::kNotFound,
                  Reason::kNoRoute, now);
  }
  const ClientClaim claim =
      read_claim(exchange.head().fields, facts.client.address, exchange.listener->forwarded);
  if (claim.by_proxy) exchange.forwarded_for = claim.client;
  if (const std::string_view why = misdirection(exchange); !why.empty()) {
    exchange.detail = why;
    return refuse(exchange, http::Status::kMisdirectedRequest, Reason::kMisdirected, now);
  }
  if (exchange.listener->redirect_port) return redirect_to_https(exchange, now);
  const http::RequestHead& head = exchange.head();
  const auto choice = exchange.listener->router.match(
      {head.method, exchange.uri.host(), exchange.uri.path(), exchange.uri.query(), head.fields});
  if (!choice && head.method == "CONNECT") {
    exchange.detail = "CONNECT: no rule names it";
    return refuse(exchange, http::Status::kNotImplemented, Reason::kNotSupported, now);
  }
  if (!choice) return refuse(exchange, http::Status::kNotFound, Reason::kNoRoute, now);
  exchange.rule = &snapshot.rules[choice->rule];
  exchange.prefix_size = choice->prefix_size;
  name_request(exchange);
  if (exchange.rule->redirect) return redirect(exchange, now);
  if (exchange.rule->respond) return respond(exchange, now);
  return std::nullopt;
}

Instant Exchanges::deadline_of(const Exchange& exchange) {
  return std::min({exchange.request_deadline, exchange.attempt_deadline, exchange.connect_deadline,
                   exchange.last_progress + idle_timeout(exchange), exchange.body_rate.deadline()});
}

// ---- moving ------------------------------------------------------------------------------------

/// Whether the endpoint's connection can be spoken over. Before the endpoint has proved who it is,
/// it is told nothing.
bool Exchanges::is_ready(Exchange& exchange, UpstreamConnection& upstream) {
  if (!upstream.connected || upstream.channel.handshaking()) return false;
  if (!upstream.is_h2) return true;
  if (upstream.session == nullptr || is_lost(exchange, upstream)) return false;
  if (!exchange.has_leg()) exchange.to_h2(*upstream.session);
  if (exchange.endpoint_leg().head_room()) return true;
  upstream.waited_for = true;
  return false;
}

Exchanges::Outcome Exchanges::step(Exchange& exchange, Instant now) {
  if (exchange.pause != Pause::kNone) return step_pause(exchange, now);
  UpstreamConnection* upstream = upstreams_.get(exchange.upstream);
  WEIR_ASSERT(upstream != nullptr);  // an active exchange has a connection, waits, or has failed
  if (exchange.tunnel()) return step_tunnel(exchange, *upstream, now);
  if (upstream->broken && !upstream->connected) {
    upstreams_.count_connect_failure();
    return attempt_failed(exchange, Reason::kConnectFailed, now);
  }
  if (exchange.connect_deadline != kNever && upstream->connected &&
      !upstream->channel.handshaking()) {
    exchange.connect_deadline = kNever;
    exchange.connect_duration = now - exchange.attempt_started;
  }
  if (exchange.passes_through()) {
    if (!upstream->connected)
      return exchange.client().fill(kBufferBytes) ? Outcome::kMoved : Outcome::kWaits;
    exchange.begin_passthrough(now);
    end_retry(exchange);
    return Outcome::kMoved;
  }
  bool moved = exchange.request_complete() ? false : exchange.client().fill(kBufferBytes);
  const bool ready = is_ready(exchange, *upstream);
  const PumpResult request = ready ? exchange.pump_request() : PumpResult{};
  moved = moved || request.moved;
  watch_mirror(exchange, now);
  if (!upstream->is_h2) {
    moved = upstream->channel.flush() || moved;
    if (upstream->connected) moved = upstream->channel.fill(exchange.wanted()) || moved;
  }
  const bool cut =
      upstream->channel.handshaking() && (upstream->channel.input_ended() || upstream->broken);
  if (upstream->channel.failed() || cut) {
    exchange.detail = cut ? "the endpoint has closed within the TLS handshake"
                          : upstream->channel.session()->failure_reason();
    return attempt_failed(exchange, Reason::kUpstreamTls, now);
  }
  if (upstream->broken && upstream->is_h2 && upstream->session == nullptr) {
    exchange.detail = "the endpoint does not speak h2";
    return attempt_failed(exchange, Reason::kUpstreamProtocol, now);
  }
  if (is_lost(exchange, *upstream)) {
    if (exchange.has_leg()) exchange.detail = exchange.endpoint_leg().why();
    return attempt_failed(exchange, Reason::kConnectFailed, now);
  }
  if (request.failure == Reason::kConnectFailed)
    return attempt_failed(exchange, request.failure, now);
  if (request.failure != Reason::kOk) return fail(exchange, request.failure, now);
  // Asked anew each time: what others retry meanwhile is in the same budget.
  if (!exchange.response_started())
    exchange.rejects = is_idempotent(exchange.head().method) && may_try_again(exchange)
                           ? &exchange.rule->retry
                           : nullptr;
  const PumpResult response = ready ? exchange.pump_response(now, date(now)) : PumpResult{};
  moved = exchange.client().flush() || moved || response.moved;
  if (upstream->is_h2 && moved) upstreams_.touch(exchange.upstream);
  if (response.failure != Reason::kOk) return attempt_failed(exchange, response.failure, now);
  if (response.unwanted) return attempt_unwanted(exchange, now);
  if (exchange.response_started()) end_retry(exchange);
  if (exchange.client().failed()) return fail(exchange, Reason::kClientReset, now);
  if (moved) exchange.last_progress = now;
  watch_client(exchange, now);
  if (exchange.response_complete() && exchange.client().delivered()) return finish(exchange, now);
  // After a reset, what has been read before may still be waiting for the client, and it may be all
  // of the answer. Only when nothing moves any more is something missing.
  if (upstream->broken && !moved && !exchange.client().has_unsent() &&
      !exchange.response_complete())
    return attempt_failed(exchange, why_broken(exchange, *upstream), now);
  return moved ? Outcome::kMoved : Outcome::kWaits;
}

void Exchanges::watch_client(Exchange& exchange, Instant now) {
  watch_listener(exchange, now);
  watch_body(exchange, now);
}

/// A client that has ended its side of the connection may have gone for good: an event stream that
/// is silent then is given up like a tunnel of which one direction is left.
void Exchanges::watch_listener(Exchange& exchange, Instant now) {
  if (!exchange.is_quiet() || exchange.only_listens || !exchange.response_started() ||
      !exchange.client().peer_is_done())
    return;
  exchange.only_listens = true;
  exchange.last_progress = now;
  timers_.arm(exchange.timer, deadline_of(exchange));
}

/// The body of a request has its own limits until its answer has begun: an endpoint that speaks
/// before it has heard everything sets the pace of both.
void Exchanges::watch_body(Exchange& exchange, Instant now) {
  const bool is_limited =
      !exchange.is_grpc() && !exchange.request_complete() && !exchange.response_started();
  const bool was_due = exchange.body_is_due;
  exchange.body_is_due = is_limited && exchange.waits_for_body();
  if (!is_limited) {
    exchange.body_rate.stop();
    return;
  }
  exchange.body_rate.set_taking(exchange.body_is_due);
  if (!exchange.body_is_due || was_due) return;
  if (!exchange.body_rate.active())
    exchange.body_rate.start(exchange.listener->limits.body_min_rate, exchange.request_bytes, now);
  timers_.arm(exchange.timer, deadline_of(exchange));
}

Exchanges::Outcome Exchanges::step_tunnel(Exchange& exchange, UpstreamConnection& upstream,
                                          Instant now) {
  const PumpResult pumped = exchange.pump_tunnel();
  if (pumped.moved) {
    exchange.last_progress = now;
    if (idle_timeout(exchange) == kHalfClosedTimeout)
      timers_.arm(exchange.timer, now + kHalfClosedTimeout);
  }
  if (exchange.tunnel_over()) {
    count_answer(exchange, now);
    upstream.ended_in_order = true;
    drop_upstream(exchange, now);
    exchange.set_client_reusable(false);
    end(exchange, now);
    return Outcome::kDone;
  }
  if (pumped.failure != Reason::kOk) return fail(exchange, pumped.failure, now);
  if (upstream.channel.failed()) {
    exchange.detail = upstream.channel.session()->failure_reason();
    return fail(exchange, Reason::kUpstreamTls, now);
  }
  const bool failed = exchange.client().failed();
  if (!failed && (!upstream.broken || pumped.moved || exchange.client().has_unsent()))
    return pumped.moved ? Outcome::kMoved : Outcome::kWaits;
  return fail(exchange, failed ? Reason::kClientReset : why_broken(exchange, upstream), now);
}

// ---- ends --------------------------------------------------------------------------------------

Exchanges::Outcome Exchanges::finish(Exchange& exchange, Instant now) {
  UpstreamConnection* upstream = upstreams_.get(exchange.upstream);
  count_answer(exchange, now);
  // Bytes behind the response answer nothing that was asked, and while it was delivered the
  // endpoint may have closed: such a connection is not kept.
  if (!upstream->is_h2 && !upstream->announced && !must_make_room(exchange) &&
      exchange.upstream_reusable() && !upstream->broken && upstream->channel.drained() &&
      upstream->channel.input().empty() && !upstream->channel.input_ended()) {
    upstreams_.give_back(exchange.upstream, now);
    exchange.upstream = {};
    exchange.forget_leg();
    release_endpoint(exchange);
  } else {
    // Nothing is cut by closing a connection that is not kept only for whom it was announced.
    upstream->ended_in_order = upstream->announced && exchange.upstream_reusable();
    drop_upstream(exchange, now);
  }
  end(exchange, now);
  return Outcome::kDone;
}

Exchanges::Outcome Exchanges::fail(Exchange& exchange, Reason reason, Instant now) {
  if (!exchange.response_started() && !exchange.client().failed())
    return refuse(exchange, reason, now);
  // A response that has begun cannot be taken back: only a break tells the client.
  abandon(exchange, reason, now);
  return Outcome::kBroken;
}

void Exchanges::abandon(Exchange& exchange, Reason reason, Instant now) {
  exchange.reason = reason;
  drop_upstream(exchange, now);
  end(exchange, now);
}

/// Whether others wait who may open no connection while idle ones are kept.
bool Exchanges::must_make_room(const Exchange& exchange) {
  const ServiceEntry& service = *exchange.service;
  return service.state->waiting.load(std::memory_order_relaxed) > 0 &&
         !UpstreamPool::may_open(service.endpoints[exchange.endpoint_index], service);
}

void Exchanges::end(Exchange& exchange, Instant now) {
  if (exchange.paused_at != Instant{})
    exchange.wait_duration += now - std::exchange(exchange.paused_at, Instant{});
  if (exchange.mirror != nullptr) give_up_mirror(exchange, counters_.mirrors.cut);
  record(exchange, now);
  leave_service(exchange);
  TimerWheel::cancel(exchange.timer);
  exchange.end();
}

Exchanges::Outcome Exchanges::on_timer(Exchange& exchange, Instant now) {
  if (exchange.pause != Pause::kNone) return on_pause_timer(exchange, now);
  if (now >= exchange.connect_deadline) {
    upstreams_.count_connect_failure();
    exchange.detail = "no connection within the time for it";
    return attempt_failed(exchange, Reason::kConnectFailed, now);
  }
  if (exchange.body_rate.is_too_slow(exchange.request_bytes, now))
    return fail(exchange, Reason::kBodyTooSlow, now);
  const Instant deadline = deadline_of(exchange);
  if (now < deadline) {
    timers_.arm(exchange.timer, deadline);
    return Outcome::kWaits;
  }
  const Reason reason = timeout_reason(exchange, now);
  return reason == Reason::kUpstreamTimeout ? attempt_failed(exchange, reason, now)
                                            : fail(exchange, reason, now);
}

// ---- events ------------------------------------------------------------------------------------

void Exchanges::on_upstream(const tcp::Readiness& ready, Instant now) {
  const UpstreamId id = handle_of<UpstreamConnection>(ready.user);
  UpstreamConnection* upstream = upstreams_.get(id);
  if (upstream == nullptr) return;
  if (ready.connected) upstream->connected = true;
  if (ready.reset) upstream->broken = true;  // not to be kept, whatever its buffers still hold
  if (upstream->is_h2 && !ready.reset) {
    upstreams_.run_shared(id, changed_, now);
    return;
  }
  if (!upstream->in_use()) {
    if (!ready.readable && !ready.closed && !ready.reset) return;
    // Idle: whatever arrives answers no request. Nearly always the endpoint closing.
    upstreams_.count_idle_close();
    upstreams_.drop(id, now);
    return;
  }
  if (upstream->is_h2)
    changed_.add(upstream->users);
  else
    changed_.add(upstream->user);
}

void Exchanges::on_upstream_timer(UpstreamId id, Instant now) {
  upstreams_.count_idle_close();
  upstreams_.drop(id, now);
}

}  // namespace weir::proxy
