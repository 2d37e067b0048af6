#include "l7/proxy/exchanges.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "l4/base/bytes.h"
#include "l7/proxy/balancer.h"
#include "l7/proxy/grpc.h"
#include "l7/proxy/user_data.h"

namespace weir::proxy {
namespace {

constexpr std::uint32_t kAttemptsMax = 3;
constexpr Duration kBodyIdleTimeout = std::chrono::seconds{30};
constexpr Duration kResponseTimeout = std::chrono::seconds{30};
/// A tunnel or a call that is silent for so long is given up; its protocol's pings keep it alive.
constexpr Duration kTunnelIdleTimeout = std::chrono::hours{1};
/// One whose one direction has ended, likewise.
constexpr Duration kHalfClosedTimeout = std::chrono::seconds{30};

Duration milliseconds(std::uint32_t count) { return std::chrono::milliseconds{count}; }

http::Status status_of(Reason reason) {
  switch (reason) {
    case Reason::kOk:
    case Reason::kFixed:
      return http::Status::kOk;
    case Reason::kRedirect:
      return http::Status::kMovedPermanently;
    case Reason::kBadRequest:
    case Reason::kClientReset:
      return http::Status::kBadRequest;
    case Reason::kHeaderTimeout:
    case Reason::kBodyTooSlow:
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
  if (exchange.is_grpc()) return kTunnelIdleTimeout;
  if (!exchange.tunnel()) return kBodyIdleTimeout;
  const bool half_closed = exchange.request_complete() || exchange.response_complete();
  return half_closed ? kHalfClosedTimeout : kTunnelIdleTimeout;
}

/// Whose fault it is that an exchange does not get on.
Reason timeout_reason(const Exchange& exchange, Instant now) {
  if (now >= exchange.request_deadline) return Reason::kRequestTimeout;
  const bool does_not_read = exchange.client().has_unsent();
  const bool does_not_send = !exchange.request_complete() && exchange.client().input_empty();
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

}  // namespace

Exchanges::Exchanges(tcp::Stack& stack, BufferPool& buffers, TimerWheel& timers, http::H2Shared& h2,
                     Random random)
    : random_{random}, timers_{timers}, upstreams_{stack, buffers, timers, h2} {}

void Exchanges::install(const Snapshot& snapshot) {
  std::vector<ServiceCounters> services;
  for (const ServiceEntry& entry : snapshot.services) {
    const auto before = std::find_if(services_.begin(), services_.end(),
                                     [&](const auto& old) { return old.name == entry.name; });
    services.push_back({entry.name, before == services_.end() ? 0 : before->requests});
  }
  services_ = std::move(services);
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
    exchange.detail = refusal->reason;
    return refuse(exchange, refusal->status, reason_of(refusal->status), now);
  }
  if (const auto answered = find_route(exchange, now)) return *answered;
  exchange.body_bytes_max = exchange.listener->limits.body_bytes;
  const http::BodyFraming& body = exchange.framing().body;
  if (exchange.body_bytes_max != 0 && body.kind == http::BodyKind::kLength &&
      body.length > exchange.body_bytes_max)
    return refuse(exchange, http::Status::kContentTooLarge, Reason::kBodyTooLarge, now);
  if (exchange.rule->weight_total() == 0)
    return refuse(exchange, http::Status::kInternalServerError, Reason::kNoEndpoint, now);
  exchange.service_index = pick_service(*exchange.rule, random_);
  exchange.service = &exchange.generation->snapshot().services[exchange.service_index];
  ++services_[exchange.service_index].requests;
  if (exchange.service->endpoints.empty())
    return refuse(exchange, http::Status::kServiceUnavailable, Reason::kNoEndpoint, now);
  if (exchange.framing().upgrade && exchange.service->speaks_h2()) {
    exchange.detail = "a WebSocket to an endpoint of HTTP/2";
    return refuse(exchange, http::Status::kNotImplemented, Reason::kNotSupported, now);
  }
  set_deadlines(exchange, now);
  const tls::Session* session = exchange.facts->tls;
  exchange.prepare_request(session != nullptr ? session->client() : std::nullopt, random_);
  return start_attempt(exchange, now);
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
        return other.endpoint == facts.vip && other.tls == facts.bind->tls;
      });
  if (bind != snapshot.binds.end())
    exchange.listener = snapshot.listener_for(*bind, exchange.uri.host());
  if (exchange.listener == nullptr) {
    // Over TLS the certificate may have been for another name (RFC 9110, section 15.5.20).
    const bool tls = facts.tls != nullptr;
    return refuse(exchange, tls ? http::Status::kMisdirectedRequest : http::Status::kNotFound,
                  Reason::kNoRoute, now);
  }
  if (const std::string_view why = misdirection(exchange); !why.empty()) {
    exchange.detail = why;
    return refuse(exchange, http::Status::kMisdirectedRequest, Reason::kMisdirected, now);
  }
  if (exchange.listener->redirect_port) return redirect_to_https(exchange, now);
  const http::RequestHead& head = exchange.head();
  const auto choice = exchange.listener->router.match(
      {head.method, exchange.uri.host(), exchange.uri.path(), exchange.uri.query(), head.fields});
  if (!choice) return refuse(exchange, http::Status::kNotFound, Reason::kNoRoute, now);
  exchange.rule = &snapshot.rules[choice->rule];
  exchange.prefix_size = choice->prefix_size;
  if (exchange.rule->redirect) return redirect(exchange, now);
  if (exchange.rule->respond) return respond(exchange, now);
  return std::nullopt;
}

Exchanges::Outcome Exchanges::start_attempt(Exchange& exchange, Instant now) {
  exchange.upstream = {};
  while (exchange.attempts < kAttemptsMax) {
    ++exchange.attempts;
    exchange.endpoint =
        pick_endpoint(*exchange.generation, exchange.service_index, upstreams_, random_);
    exchange.attempt_started = exchange.last_progress = now;
    if (exchange.rule->timeouts.backend_request_ms != 0)
      exchange.attempt_deadline = now + milliseconds(exchange.rule->timeouts.backend_request_ms);
    if (!find_connection(exchange, now)) continue;
    timers_.arm(exchange.timer, std::min({exchange.request_deadline, exchange.attempt_deadline,
                                          now + kResponseTimeout}));
    return Outcome::kMoved;
  }
  return refuse(exchange, http::Status::kServiceUnavailable, Reason::kConnectFailed, now);
}

bool Exchanges::find_connection(Exchange& exchange, Instant now) {
  const ServiceEntry& service = *exchange.service;
  if (service.speaks_h2()) {
    const Result<UpstreamId> shared =
        upstreams_.share(exchange.endpoint, service, exchange.generation, exchange.id, now);
    if (!shared) return false;
    exchange.upstream = *shared;
    return true;
  }
  if (const auto idle = upstreams_.take_idle(exchange.endpoint, service, exchange.id, now)) {
    exchange.upstream = *idle;
  } else {
    const Result<UpstreamId> opened =
        upstreams_.open(exchange.endpoint, service, exchange.generation, exchange.id, now);
    if (!opened) return false;
    exchange.upstream = *opened;
  }
  UpstreamConnection* connection = upstreams_.get(exchange.upstream);
  exchange.to_h1(connection->channel, connection->parser);
  return true;
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
  UpstreamConnection* upstream = upstreams_.get(exchange.upstream);
  WEIR_ASSERT(upstream != nullptr);  // an active exchange has a connection, or it has failed
  if (exchange.tunnel()) return step_tunnel(exchange, *upstream, now);
  if (upstream->broken && !upstream->connected) {
    upstreams_.count_connect_failure();
    return attempt_failed(exchange, Reason::kConnectFailed, now);
  }
  bool moved = exchange.request_complete() ? false : exchange.client().fill();
  const bool ready = is_ready(exchange, *upstream);
  const PumpResult request = ready ? exchange.pump_request() : PumpResult{};
  moved = moved || request.moved;
  if (!upstream->is_h2) {
    moved = upstream->channel.flush() || moved;
    if (upstream->connected) moved = upstream->channel.fill() || moved;
  }
  const bool cut = upstream->channel.handshaking() && upstream->channel.input_ended();
  if (upstream->channel.failed() || cut) {
    exchange.detail = cut ? "the endpoint has closed within the TLS handshake"
                          : upstream->channel.session()->failure_reason();
    return attempt_failed(exchange, Reason::kUpstreamTls, now);
  }
  if (upstream->broken && upstream->is_h2 && upstream->session == nullptr) {
    exchange.detail = "the endpoint does not speak h2";
    return attempt_failed(exchange, Reason::kUpstreamProtocol, now);
  }
  if (is_lost(exchange, *upstream)) return attempt_failed(exchange, Reason::kConnectFailed, now);
  if (request.failure == Reason::kConnectFailed)
    return attempt_failed(exchange, request.failure, now);
  if (request.failure != Reason::kOk) return fail(exchange, request.failure, now);
  const PumpResult response = ready ? exchange.pump_response(now) : PumpResult{};
  moved = exchange.client().flush() || moved || response.moved;
  if (upstream->is_h2 && moved) upstreams_.touch(exchange.upstream);
  if (response.failure != Reason::kOk) return attempt_failed(exchange, response.failure, now);
  if (exchange.client().failed()) return fail(exchange, Reason::kClientReset, now);
  if (moved) exchange.last_progress = now;
  if (exchange.response_complete() && exchange.client().delivered()) return finish(exchange, now);
  // After a reset, what has been read before may still be waiting for the client, and it may be all
  // of the answer. Only when nothing moves any more is something missing.
  if (upstream->broken && !moved && !exchange.client().has_unsent() &&
      !exchange.response_complete())
    return attempt_failed(exchange, Reason::kUpstreamReset, now);
  return moved ? Outcome::kMoved : Outcome::kWaits;
}

Exchanges::Outcome Exchanges::step_tunnel(Exchange& exchange, UpstreamConnection& upstream,
                                          Instant now) {
  const PumpResult pumped = exchange.pump_tunnel();
  if (pumped.moved) {
    exchange.last_progress = now;
    if (idle_timeout(exchange) == kHalfClosedTimeout)
      timers_.arm(exchange.timer, now + kHalfClosedTimeout);
  }
  if (exchange.request_complete() && exchange.response_complete()) {
    upstream.ended_in_order = true;
    drop_upstream(exchange, now);
    exchange.set_client_reusable(false);
    end(exchange, now);
    return Outcome::kDone;
  }
  if (pumped.failure != Reason::kOk) return fail(exchange, pumped.failure, now);
  const bool failed = exchange.client().failed();
  if (!failed && (!upstream.broken || pumped.moved || exchange.client().has_unsent()))
    return pumped.moved ? Outcome::kMoved : Outcome::kWaits;
  return fail(exchange, failed ? Reason::kClientReset : Reason::kUpstreamReset, now);
}

Exchanges::Outcome Exchanges::attempt_failed(Exchange& exchange, Reason reason, Instant now) {
  UpstreamConnection* upstream = upstreams_.get(exchange.upstream);
  // A connection that never stood has told the endpoint nothing, so any request may go elsewhere;
  // so may one whose stream was refused before anything was done (RFC 9113, section 8.7). One that
  // was kept may have been closed by the endpoint just as we used it: an idempotent request is made
  // again (RFC 9112, section 9.3.1).
  const bool untouched = reason == Reason::kConnectFailed || exchange.stream_was_refused();
  const bool stale = upstream != nullptr && upstream->reused && reason == Reason::kUpstreamReset &&
                     upstream->channel.input().empty() && is_idempotent(exchange.head().method);
  const bool again =
      (untouched || stale) && exchange.replayable() && exchange.attempts < kAttemptsMax;
  drop_upstream(exchange, now);
  if (!again) return fail(exchange, reason, now);
  ++counters_.retries;
  return start_attempt(exchange, now);
}

void Exchanges::drop_upstream(Exchange& exchange, Instant now) {
  const UpstreamId id = std::exchange(exchange.upstream, UpstreamId{});
  UpstreamConnection* upstream = upstreams_.get(id);
  if (upstream == nullptr) return;
  exchange.release_stream();
  if (upstream->is_h2)
    upstreams_.leave(id, exchange.id, now);
  else
    upstreams_.drop(id, now);
  exchange.forget_leg();
}

// ---- ends --------------------------------------------------------------------------------------

Exchanges::Outcome Exchanges::finish(Exchange& exchange, Instant now) {
  UpstreamConnection* upstream = upstreams_.get(exchange.upstream);
  // Bytes behind the response answer nothing that was asked, and while it was delivered the
  // endpoint may have closed: such a connection is not kept.
  if (!upstream->is_h2 && exchange.upstream_reusable() && !upstream->broken &&
      upstream->channel.drained() && upstream->channel.input().empty() &&
      !upstream->channel.input_ended()) {
    upstreams_.give_back(exchange.upstream, now);
    exchange.upstream = {};
    exchange.forget_leg();
  } else {
    drop_upstream(exchange, now);
  }
  end(exchange, now);
  return Outcome::kDone;
}

Exchanges::Outcome Exchanges::fail(Exchange& exchange, Reason reason, Instant now) {
  if (!exchange.response_started() && !exchange.client().failed())
    return refuse(exchange, status_of(reason), reason, now);
  // A response that has begun cannot be taken back: only a break tells the client.
  abandon(exchange, reason, now);
  return Outcome::kBroken;
}

void Exchanges::abandon(Exchange& exchange, Reason reason, Instant now) {
  exchange.reason = reason;
  drop_upstream(exchange, now);
  end(exchange, now);
}

void Exchanges::end(Exchange& exchange, Instant now) {
  record(exchange, now);
  TimerWheel::cancel(exchange.timer);
  exchange.end();
}

Exchanges::Outcome Exchanges::on_timer(Exchange& exchange, Instant now) {
  const Instant idle_deadline = exchange.last_progress + idle_timeout(exchange);
  const Instant deadline =
      std::min({exchange.request_deadline, exchange.attempt_deadline, idle_deadline});
  if (now < deadline) {
    timers_.arm(exchange.timer, deadline);
    return Outcome::kWaits;
  }
  return fail(exchange, timeout_reason(exchange, now), now);
}

// ---- answers of our own ------------------------------------------------------------------------

Exchanges::Outcome Exchanges::refuse_head(Exchange& exchange, const http::Refusal& refusal,
                                          Instant now) {
  exchange.uri = {};  // not that of the request before
  exchange.detail = refusal.reason;
  return refuse(exchange, refusal.status, reason_of(refusal.status), now);
}

Exchanges::Outcome Exchanges::refuse_late_head(Exchange& exchange, Instant now) {
  exchange.uri = {};
  return refuse(exchange, http::Status::kRequestTimeout, Reason::kHeaderTimeout, now);
}

Exchanges::Outcome Exchanges::refuse(Exchange& exchange, http::Status status, Reason reason,
                                     Instant now) {
  drop_upstream(exchange, now);
  exchange.reason = reason;
  return reply(exchange, status, {}, now);
}

Exchanges::Outcome Exchanges::redirect_to_https(Exchange& exchange, Instant now) {
  control::Redirect redirect;
  redirect.scheme = "https";
  redirect.port = exchange.listener->redirect_port;
  const std::string& method = exchange.head().method;
  // 301 lets clients turn POST into GET; 308 does not (RFC 9110, section 15.4.9).
  redirect.status =
      http::number_of(method == "GET" || method == "HEAD" ? http::Status::kMovedPermanently
                                                          : http::Status::kPermanentRedirect);
  return send_to(exchange, redirect, nullptr, now);
}

Exchanges::Outcome Exchanges::redirect(Exchange& exchange, Instant now) {
  const Rule& rule = *exchange.rule;
  return send_to(exchange, *rule.redirect, rule.path_pattern ? &*rule.path_pattern : nullptr, now);
}

Exchanges::Outcome Exchanges::send_to(Exchange& exchange, const control::Redirect& redirect,
                                      const PathPattern* pattern, Instant now) {
  const http::RequestUri& uri = exchange.uri;
  const bool has_host = redirect.hostname || !uri.host().empty();
  if (!has_host || !uri.path().starts_with('/')) {
    exchange.detail = "a request without a host or a path cannot be redirected";
    return refuse(exchange, http::Status::kBadRequest, Reason::kBadRequest, now);
  }
  const bool was_tls = exchange.facts->bind->tls;
  const std::string_view as_came = was_tls ? "https" : "http";
  const std::string_view scheme = redirect.scheme ? std::string_view{*redirect.scheme} : as_came;
  const std::uint16_t well_known = scheme == "https" ? 443 : 80;
  // Without a port: that of the scheme if it is given, else the listener's (Gateway API).
  const std::uint16_t port = redirect.port     ? redirect.port->value()
                             : redirect.scheme ? well_known
                                               : exchange.facts->vip.port.value();
  const std::string location = fmt::format(
      "{}://{}{}{}{}", scheme, redirect.hostname ? *redirect.hostname : uri.host(),
      port == well_known ? "" : fmt::format(":{}", port),
      edited_path(redirect.path, pattern, uri.path(), exchange.prefix_size), uri.query());
  exchange.reason = Reason::kRedirect;
  return reply(exchange, http::Status{redirect.status}, location, now);
}

/// What the route says itself.
Exchanges::Outcome Exchanges::respond(Exchange& exchange, Instant now) {
  const control::FixedResponse& fixed = *exchange.rule->respond;
  exchange.reason = Reason::kFixed;
  return reply(exchange, http::Status{fixed.status}, {}, now);
}

/// Answers an exchange that no backend answers, and ends it.
Exchanges::Outcome Exchanges::reply(Exchange& exchange, http::Status status,
                                    std::string_view location, Instant now) {
  const Reason reason = exchange.reason;
  // Without a body the connection is in a known state and can go on; a bad head leaves it unknown.
  const bool is_known = reason != Reason::kBadRequest && reason != Reason::kHeaderTimeout &&
                        reason != Reason::kHeaderTooLarge && reason != Reason::kNotSupported &&
                        exchange.framing().body.kind == http::BodyKind::kNone;
  exchange.set_client_reusable(is_known && exchange.keep_alive);
  if (exchange.is_grpc())
    write_grpc_reply(exchange, status);
  else
    write_reply(exchange, status, location);
  end(exchange, now);
  return Outcome::kDone;
}

void Exchanges::write_reply(Exchange& exchange, http::Status status, std::string_view location) {
  exchange.status = http::number_of(status);
  const std::string_view phrase = http::reason_phrase(status);
  char body[128];
  const auto end = fmt::format_to_n(body, sizeof(body), "{} {}\n", http::number_of(status), phrase);
  const bool is_fixed = exchange.reason == Reason::kFixed;
  const std::string_view text =
      is_fixed ? std::string_view{exchange.rule->respond->body} : std::string_view{body, end.size};
  const std::string_view type =
      is_fixed ? std::string_view{exchange.rule->respond->content_type} : "text/plain";
  reply_head_.clear();
  reply_head_.status = status;
  reply_head_.reason = phrase;
  if (!type.empty()) reply_head_.fields.add("Content-Type", type);
  if (!location.empty()) reply_head_.fields.add("Location", location);
  if (exchange.rule != nullptr) edit_headers(reply_head_.fields, exchange.rule->response_headers);
  if (!exchange.client_reusable() && !exchange.is_h2())
    reply_head_.fields.add("Connection", "close");
  // In the middle of an exchange, interim heads or 100 may be waiting; a client that does not read
  // those will not read this either.
  constexpr std::size_t kHeadBytes = 512;
  Leg& client = exchange.client();
  if (client.room() < kHeadBytes + location.size() + text.size()) return;
  if (exchange.is_head_request()) {
    const fmt::format_int length{text.size()};
    reply_head_.fields.add("Content-Length", {length.data(), length.size()});
    client.send_response(reply_head_, {});
    return;
  }
  client.send_response(reply_head_, {http::BodyKind::kLength, text.size()});
  client.write(as_bytes(text));
  static_cast<void>(client.finish({}, {}));  // a length needs no end
}

/// A call's answer without a message: its status in the head, which is all there is.
void Exchanges::write_grpc_reply(Exchange& exchange, http::Status status) {
  exchange.status = http::number_of(http::Status::kOk);
  reply_head_.clear();
  reply_head_.status = http::Status::kOk;
  reply_head_.fields.add("content-type", "application/grpc");
  reply_head_.fields.add("grpc-status", grpc_status_of(status));
  // Percent-encoding leaves these letters as they are.
  reply_head_.fields.add("grpc-message", text_of(exchange.reason));
  exchange.client().send_response(reply_head_, {});
}

// ---- events ------------------------------------------------------------------------------------

void Exchanges::on_upstream(const tcp::Readiness& ready, ChangedExchanges& changed, Instant now) {
  const UpstreamId id = handle_of<UpstreamConnection>(ready.user);
  UpstreamConnection* upstream = upstreams_.get(id);
  if (upstream == nullptr) return;
  if (ready.connected) upstream->connected = true;
  if (ready.reset) upstream->broken = true;  // not to be kept, whatever its buffers still hold
  if (upstream->is_h2 && !ready.reset) {
    upstreams_.run_shared(id, changed, now);
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
    changed.add(upstream->users);
  else
    changed.add(upstream->user);
}

void Exchanges::on_upstream_timer(UpstreamId id, Instant now) {
  upstreams_.count_idle_close();
  upstreams_.drop(id, now);
}

void Exchanges::record(Exchange& exchange, Instant now) {
  ++counters_.requests;
  if (exchange.is_h2()) ++counters_.requests_h2;
  ++counters_.responses[static_cast<std::size_t>(exchange.status / 100) % 6];
  ++counters_.reasons[static_cast<std::size_t>(exchange.reason)];
  const ClientFacts& facts = *exchange.facts;
  const tls::SessionInfo info = facts.tls != nullptr ? facts.tls->info() : tls::SessionInfo{};
  access_log_.record({
      .client = facts.client,
      .vip = facts.vip,
      .tls_version = info.version,
      .tls_cipher = info.cipher,
      .server_name = info.server_name,
      .certificate = info.certificate,
      .listener = exchange.listener != nullptr ? exchange.listener->name : std::string_view{},
      .protocol = exchange.protocol(),
      .method = exchange.head().method,
      .host = exchange.uri.host(),
      .target = exchange.uri.target(),
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

}  // namespace weir::proxy
