/// The way of an exchange to an endpoint: choosing one, waiting for room, trying again.

#include <algorithm>
#include <array>
#include <utility>

#include "l4/base/bytes.h"
#include "l7/http/proxy_protocol.h"
#include "l7/proxy/balancer.h"
#include "l7/proxy/exchanges.h"
#include "l7/proxy/outlier.h"
#include "l7/proxy/request_values.h"

namespace weir::proxy {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
/// Tries that nobody counts, since they are about a connection and not about an endpoint.
constexpr std::uint32_t kStaleTriesMax = 2;
/// How often those who wait look whether another worker's request has made room.
constexpr Duration kRoomPoll = std::chrono::milliseconds{5};
/// Retries at once that no budget forbids: 20 % of few requests would be none.
constexpr std::uint32_t kRetriesAlways = 3;

Duration milliseconds(std::uint32_t count) { return std::chrono::milliseconds{count}; }

std::uint64_t hash_of(std::string_view text, const SipKey& key) {
  return siphash(key, as_bytes(text));
}

/// What the service's policy hashes of a request; nothing where it has no such thing.
std::optional<std::uint64_t> request_hash(const Exchange& exchange) {
  const SipKey& key = exchange.generation->snapshot().hash_key;
  const control::HashKey& on = exchange.service->balancing.hash_on;
  const wire::IpAddress source = exchange.forwarded_for.value_or(exchange.facts->client.address);
  if (exchange.passes_through() && on.of != control::HashKey::Of::kSource) return std::nullopt;
  switch (on.of) {
    case control::HashKey::Of::kSource:
      return siphash(key, std::as_bytes(std::span{source.bytes}));
    case control::HashKey::Of::kPath:
      return hash_of(exchange.uri.path(), key);
    case control::HashKey::Of::kHeader: {
      const auto value = exchange.head().fields.find(on.name);
      return value ? std::optional{hash_of(*value, key)} : std::nullopt;
    }
    case control::HashKey::Of::kCookie: {
      const auto value = cookie_value(exchange.head().fields, on.name);
      return value ? std::optional{hash_of(*value, key)} : std::nullopt;
    }
    case control::HashKey::Of::kQueryParam: {
      const auto value = query_value(exchange.uri.query(), on.name);
      return value ? std::optional{hash_of(*value, key)} : std::nullopt;
    }
  }
  return std::nullopt;
}

http::ProxyEndpoint named(const wire::Endpoint& endpoint) {
  return {endpoint.address.bytes, endpoint.port.value()};
}

bool hashes(control::LoadBalancer policy) {
  return policy == control::LoadBalancer::kRingHash || policy == control::LoadBalancer::kMaglev;
}

/// What says something bad about the endpoint, rather than about the client or about us.
bool is_endpoints_fault(Reason reason) {
  return reason == Reason::kConnectFailed || reason == Reason::kUpstreamReset ||
         reason == Reason::kUpstreamProtocol || reason == Reason::kUpstreamTls ||
         reason == Reason::kUpstreamTimeout;
}

/// Of a gateway or a server that is overwhelmed or away. Other errors are about one request, and
/// whoever finds such a request would take the endpoint out for everybody.
bool is_unwell(int status) { return status == 502 || status == 503 || status == 504; }

}  // namespace

// ---- in and out --------------------------------------------------------------------------------

std::optional<Exchanges::Outcome> Exchanges::choose_service(Exchange& exchange, Instant now) {
  const Rule& rule = *exchange.rule;
  if (rule.weight_total() == 0)
    return refuse(exchange, http::Status::kInternalServerError, Reason::kNoEndpoint, now);
  std::optional<SessionTarget> session;
  if (rule.session)
    if (const auto cookie = cookie_value(exchange.head().fields, rule.session->cookie()))
      session = rule.session->find(*cookie);
  exchange.service_index = session ? session->service : pick_service(rule, random_);
  exchange.service = &exchange.generation->snapshot().services[exchange.service_index];
  if (session) exchange.sticky = session->endpoint;
  if (hashes(exchange.service->balancing.policy)) exchange.hash = request_hash(exchange);
  exchange.service->state->exchanges.fetch_add(1, kRelaxed);
  if (exchange.service->endpoints.empty()) {
    exchange.detail = "no address of its endpoints' names is known";
    return refuse(exchange, http::Status::kServiceUnavailable, Reason::kNoEndpoint, now);
  }
  return std::nullopt;
}

void Exchanges::leave_service(Exchange& exchange) {
  leave_queue(exchange);
  if (exchange.service == nullptr) return;
  ServiceState& state = *exchange.service->state;
  state.exchanges.fetch_sub(1, kRelaxed);
  end_retry(exchange);
}

/// An endpoint has answered: what comes now, a tunnel of hours perhaps, is no retry any more.
void Exchanges::end_retry(Exchange& exchange) {
  if (!std::exchange(exchange.retrying, false)) return;
  exchange.service->state->retrying.fetch_sub(1, kRelaxed);
}

void Exchanges::take_endpoint(Exchange& exchange, EndpointIndex index) {
  const EndpointEntry& entry = exchange.service->endpoints[index];
  exchange.endpoint = entry.endpoint;
  exchange.endpoint_index = index;
  exchange.holds_endpoint = true;
  entry.state->exchanges.fetch_add(1, kRelaxed);
}

void Exchanges::release_endpoint(Exchange& exchange) {
  if (!std::exchange(exchange.holds_endpoint, false)) return;
  exchange.service->endpoints[exchange.endpoint_index].state->exchanges.fetch_sub(1, kRelaxed);
  wake_one(*exchange.service->state);
}

void Exchanges::drop_upstream(Exchange& exchange, Instant now) {
  const UpstreamId id = std::exchange(exchange.upstream, UpstreamId{});
  UpstreamConnection* upstream = upstreams_.get(id);
  if (upstream != nullptr) {
    exchange.release_stream();
    if (upstream->is_h2)
      upstreams_.leave(id, exchange.id, now);
    else
      upstreams_.drop(id, now);
    exchange.forget_leg();
  }
  release_endpoint(exchange);
}

// ---- one attempt -------------------------------------------------------------------------------

Exchanges::Outcome Exchanges::start_attempt(Exchange& exchange, Instant now) {
  exchange.upstream = {};
  // Who comes later does not overtake those who wait.
  if (exchange.pause != Pause::kQueue && queues_.contains(&*exchange.service->state))
    return enqueue(exchange, now);
  bool full = false;
  // Each turn either ends here or adds to those that were tried.
  for (std::size_t i = 0; i <= exchange.service->endpoints.size(); ++i) {
    const Pick pick = pick_endpoint(
        *exchange.generation, exchange.service_index,
        {.hash = exchange.hash, .sticky = exchange.sticky, .tried = exchange.tried.all()}, random_,
        now);
    if (pick.outcome == Pick::Outcome::kNoneHealthy)
      return refuse(exchange, http::Status::kServiceUnavailable, Reason::kNoHealthyEndpoint, now);
    if (pick.outcome == Pick::Outcome::kAllFull) return enqueue(exchange, now);
    const bool again = exchange.tried.contains(pick.endpoint);
    switch (find_connection(exchange, pick.endpoint, now)) {
      case Found::kYes:
        return begin_attempt(exchange, pick.endpoint, now);
      case Found::kFull:
        full = true;
        if (again) return enqueue(exchange, now);
        break;
      case Found::kNo:
        if (again)
          return refuse(exchange, http::Status::kServiceUnavailable, Reason::kConnectFailed, now);
        break;
    }
    exchange.tried.add(pick.endpoint);
  }
  if (full) return enqueue(exchange, now);
  return refuse(exchange, http::Status::kServiceUnavailable, Reason::kConnectFailed, now);
}

Exchanges::Outcome Exchanges::begin_attempt(Exchange& exchange, EndpointIndex index, Instant now) {
  ++exchange.attempts;
  exchange.tried.add(index);
  const EndpointEntry& entry = exchange.service->endpoints[index];
  entry.state->requests.fetch_add(1, kRelaxed);
  if (exchange.paused_at != Instant{})
    exchange.wait_duration += now - std::exchange(exchange.paused_at, Instant{});
  exchange.attempt_started = exchange.last_progress = now;
  const control::RouteTimeouts& timeouts = exchange.rule->timeouts;
  exchange.attempt_deadline =
      timeouts.backend_request_ms != 0 ? now + milliseconds(timeouts.backend_request_ms) : kNever;
  exchange.connect_deadline = now + milliseconds(exchange.service->limits.connect_timeout_ms);
  const SessionTable* const session = exchange.rule->session ? &*exchange.rule->session : nullptr;
  exchange.gives_session = session != nullptr && exchange.sticky != index;
  timers_.arm(exchange.timer, deadline_of(exchange));
  return Outcome::kMoved;
}

Exchanges::Found Exchanges::find_connection(Exchange& exchange, EndpointIndex index, Instant now) {
  const ServiceEntry& service = *exchange.service;
  const EndpointEntry& entry = service.endpoints[index];
  const bool is_bare = exchange.passes_through() || exchange.is_connect();
  const bool h2 = service.speaks_h2() && !is_bare;
  std::optional<UpstreamId> found;
  if (h2)
    found = upstreams_.join(entry, service, exchange.generation, exchange.id);
  else if (service.proxy_protocol == control::ProxyProtocol::kNone && !is_bare)
    found = upstreams_.take_idle(entry, service, exchange.generation, exchange.id, now);
  // What has been announced is somebody's own, so that there is none to be found idle; and what a
  // client encrypts is never put behind messages of ours.
  if (!found) {
    if (!UpstreamPool::may_open(entry, service)) return Found::kFull;
    const Result<UpstreamId> opened =
        h2 ? upstreams_.open_shared(entry, service, exchange.generation, exchange.id, now)
           : open_connection(exchange, entry, now);
    if (!opened) return Found::kNo;
    found = *opened;
  }
  exchange.upstream = *found;
  take_endpoint(exchange, index);
  if (h2) return Found::kYes;  // its stream is opened once there is a session
  UpstreamConnection* connection = upstreams_.get(exchange.upstream);
  exchange.to_h1(connection->channel, connection->parser);
  return Found::kYes;
}

Result<UpstreamId> Exchanges::open_connection(Exchange& exchange, const EndpointEntry& endpoint,
                                              Instant now) {
  const ClientFacts& facts = *exchange.facts;
  // Trusted proxies name an address only.
  const wire::Endpoint client = exchange.forwarded_for
                                    ? wire::Endpoint{*exchange.forwarded_for, wire::Port{0}}
                                    : facts.client;
  const http::ProxyAddresses addresses{named(client), named(facts.destination)};
  announcement_.clear();
  switch (exchange.service->proxy_protocol) {
    case control::ProxyProtocol::kNone:
      break;
    case control::ProxyProtocol::kV1:
      http::append_proxy_v1(announcement_, addresses);
      break;
    case control::ProxyProtocol::kV2:
      http::append_proxy_v2(announcement_, addresses);
      break;
  }
  return upstreams_.open(endpoint, *exchange.service, exchange.generation, exchange.id, now,
                         announcement_);
}

// ---- its end -----------------------------------------------------------------------------------

// What is mirrored tells nothing about an endpoint that clients may be served by, too.

void Exchanges::count_answer(Exchange& exchange, Instant now) {
  if (exchange.is_mirror()) return;
  const EndpointEntry& entry = exchange.service->endpoints[exchange.endpoint_index];
  if (!is_unwell(exchange.status))
    count_success(*exchange.service, entry, now);
  else if (count_failure(*exchange.service, entry, now))
    ++counters_.ejections;
}

void Exchanges::count_failed_attempt(Exchange& exchange, Reason reason, Instant now) {
  if (exchange.is_mirror() || !exchange.holds_endpoint || !is_endpoints_fault(reason)) return;
  const EndpointEntry& entry = exchange.service->endpoints[exchange.endpoint_index];
  if (count_failure(*exchange.service, entry, now)) ++counters_.ejections;
}

/// Whether the policy, the budget and the state of the request allow one more.
bool Exchanges::may_try_again(const Exchange& exchange) const {
  const control::RetryPolicy& policy = exchange.rule->retry;
  if (exchange.retries >= policy.attempts || !exchange.replayable()) return false;
  if (exchange.retrying) return true;  // it is in the budget already
  const ServiceState& state = *exchange.service->state;
  const std::uint64_t budget =
      std::uint64_t{state.exchanges.load(kRelaxed)} * policy.budget_percent / 100;
  return state.retrying.load(kRelaxed) < std::max<std::uint64_t>(budget, kRetriesAlways);
}

Exchanges::Outcome Exchanges::attempt_failed(Exchange& exchange, Reason reason, Instant now) {
  UpstreamConnection* upstream = upstreams_.get(exchange.upstream);
  // One that was kept may have been closed by the endpoint just as we used it: an idempotent
  // request is made again (RFC 9112, section 9.3.1). That, and a stream that was refused before
  // anything was done (RFC 9113, section 8.7), says nothing about the endpoint.
  // So is one that waited for a stream of a session that its endpoint ends in good order.
  const bool refused = exchange.stream_was_refused() ||
                       (upstream != nullptr && upstream->is_h2 && upstream->session != nullptr &&
                        !exchange.head_sent() && reason == Reason::kConnectFailed);
  const bool lost_race = upstream != nullptr && !upstream->is_h2 && upstream->reused &&
                         reason == Reason::kUpstreamReset && upstream->channel.input().empty() &&
                         is_idempotent(exchange.head().method);
  const bool stale = (refused || lost_race) && exchange.stale_tries < kStaleTriesMax;
  if (!refused && !lost_race) count_failed_attempt(exchange, reason, now);
  if (stale && exchange.replayable()) {
    ++exchange.stale_tries;
    exchange.tried.clear();
    exchange.detail = {};
    if (!exchange.is_mirror()) ++counters_.retries;
    drop_upstream(exchange, now);
    return start_attempt(exchange, now);
  }
  const control::RetryPolicy& policy = exchange.rule->retry;
  // A connection that never stood, or a handshake that failed, has told the endpoint nothing: any
  // request may go elsewhere.
  // Whose certificate is wrong will have no other a moment later.
  const bool has_another = exchange.tried.all().size() < exchange.service->endpoints.size();
  const bool cut = reason == Reason::kUpstreamTls && exchange.head_sent();  // an alert, not a no
  const bool untouched =
      reason == Reason::kConnectFailed || (reason == Reason::kUpstreamTls && !cut && has_another);
  const bool idempotent = is_idempotent(exchange.head().method);
  const bool wanted =
      (untouched && policy.on_connect_failure) ||
      (idempotent && (cut || reason == Reason::kUpstreamReset) && policy.on_reset) ||
      (idempotent && reason == Reason::kUpstreamTimeout && policy.on_timeout);
  const bool again = wanted && may_try_again(exchange);
  drop_upstream(exchange, now);
  if (!again) return fail(exchange, reason, now);
  return try_again(exchange, untouched, now);
}

/// An answer that the route rather asks another endpoint for.
Exchanges::Outcome Exchanges::attempt_unwanted(Exchange& exchange, Instant now) {
  count_answer(exchange, now);
  drop_upstream(exchange, now);
  return try_again(exchange, false, now);
}

/// At once the first time that an endpoint has not even been reached; else after a random time, so
/// that those who fail together do not come back together.
Exchanges::Outcome Exchanges::try_again(Exchange& exchange, bool untouched, Instant now) {
  ++counters_.retries;
  ++exchange.retries;
  exchange.status = 0;
  exchange.detail = {};
  if (!std::exchange(exchange.retrying, true))
    exchange.service->state->retrying.fetch_add(1, kRelaxed);
  const std::uint32_t most = exchange.rule->retry.backoff_ms << (exchange.retries - 1);
  if ((untouched && exchange.retries == 1) || most == 0) return start_attempt(exchange, now);
  exchange.pause = Pause::kBackoff;
  exchange.body_rate.stop();
  exchange.body_is_due = false;
  exchange.paused_at = now;
  exchange.resume_at = now + milliseconds(1 + random_.below(most));
  timers_.arm(exchange.timer, std::min(exchange.resume_at, exchange.request_deadline));
  return Outcome::kWaits;
}

// ---- waiting -----------------------------------------------------------------------------------

Exchanges::Outcome Exchanges::enqueue(Exchange& exchange, Instant now) {
  const control::ServiceLimits& limits = exchange.service->limits;
  ServiceState& state = *exchange.service->state;
  if (exchange.pause != Pause::kQueue) {
    const bool has_place = !exchange.is_mirror();  // clients wait, copies do not
    if (!has_place || state.waiting.load(kRelaxed) >= limits.queue)
      return refuse(exchange, http::Status::kServiceUnavailable, Reason::kOverloaded, now);
    state.waiting.fetch_add(1, kRelaxed);
    queues_[&state].push_back(exchange.id);
    exchange.pause = Pause::kQueue;
    if (exchange.paused_at == Instant{}) exchange.paused_at = now;
    exchange.resume_at = now + milliseconds(limits.queue_timeout_ms);
  }
  exchange.tried.clear();
  exchange.body_rate.stop();
  exchange.body_is_due = false;
  arm_pause(exchange, now);
  return Outcome::kWaits;
}

/// Only the first of those who wait looks for room that other workers have made.
void Exchanges::arm_pause(Exchange& exchange, Instant now) {
  const bool is_first = queues_.at(&*exchange.service->state).front() == exchange.id;
  timers_.arm(exchange.timer, std::min({exchange.resume_at, exchange.request_deadline,
                                        is_first ? now + kRoomPoll : kNever}));
}

void Exchanges::leave_queue(Exchange& exchange) {
  if (std::exchange(exchange.pause, Pause::kNone) != Pause::kQueue) return;
  ServiceState& state = *exchange.service->state;
  state.waiting.fetch_sub(1, kRelaxed);
  const auto queue = queues_.find(&state);
  WEIR_ASSERT(queue != queues_.end());  // it stands in it
  std::deque<ExchangeId>& waiting = queue->second;
  if (waiting.front() == exchange.id)
    waiting.pop_front();
  else
    std::erase(waiting, exchange.id);
  if (waiting.empty())
    queues_.erase(queue);
  else
    changed_.add(waiting.front());  // whoever is next may have room, and looks for it from now on
}

void Exchanges::wake_one(const ServiceState& state) {
  if (queues_.empty()) return;
  const auto queue = queues_.find(&state);
  if (queue != queues_.end()) changed_.add(queue->second.front());
}

/// First come, first served: one that is woken by its timer waits for those before it.
Exchanges::Outcome Exchanges::step_pause(Exchange& exchange, Instant now) {
  if (exchange.client().failed()) return fail(exchange, Reason::kClientReset, now);
  if (exchange.pause != Pause::kQueue) return Outcome::kWaits;
  if (queues_.at(&*exchange.service->state).front() != exchange.id) return Outcome::kWaits;
  return resume(exchange, now);
}

Exchanges::Outcome Exchanges::resume(Exchange& exchange, Instant now) {
  const Outcome outcome = start_attempt(exchange, now);
  if (outcome == Outcome::kMoved) leave_queue(exchange);
  return outcome;
}

Exchanges::Outcome Exchanges::on_pause_timer(Exchange& exchange, Instant now) {
  if (now >= exchange.request_deadline) return fail(exchange, Reason::kRequestTimeout, now);
  if (exchange.pause == Pause::kFault) return end_delay(exchange, now);
  if (exchange.pause == Pause::kBackoff) return resume(exchange, now);
  if (now >= exchange.resume_at)
    return refuse(exchange, http::Status::kServiceUnavailable, Reason::kOverloaded, now);
  arm_pause(exchange, now);
  return step_pause(exchange, now);
}

}  // namespace weir::proxy
