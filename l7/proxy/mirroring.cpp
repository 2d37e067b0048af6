/// Requests that are also sent to somebody else. The copy is taken of what goes to the endpoint,
/// and is sent once all of it is there, as an exchange of its own that has no client: so nothing
/// that becomes of it comes back to the one that it was taken from.

#include <utility>

#include "l7/proxy/exchanges.h"

namespace weir::proxy {
namespace {

/// As often as a client's connection in one turn; what is left waits for the next event.
constexpr int kStepsAtOnce = 16;

}  // namespace

/// The head is as the endpoint will get it.
void Exchanges::take_mirror(Exchange& exchange) {
  const MirrorRule* const rule = exchange.rule->mirror.get();
  if (rule == nullptr || exchange.framing().upgrade || exchange.is_connect() ||
      upstreams_.is_draining() || !chance(rule->share))
    return;
  const http::BodyFraming& body = exchange.framing().body;
  if (body.kind == http::BodyKind::kLength && body.length > rule->body_bytes) {
    ++counters_.mirrors.too_large;
    return;
  }
  MirrorRequest* const mirror = mirrors_.take();
  if (mirror == nullptr) {
    ++counters_.mirrors.crowded;
    return;
  }
  mirror->rule = rule;
  mirror->head = exchange.head();
  mirror->head.fields.remove("Trailer");  // trailers are not kept
  mirror->body_max = rule->body_bytes;
  mirror->facts.bind = &mirrors_.nowhere();
  mirror->facts.vip = exchange.facts->vip;
  mirror->facts.client = exchange.facts->client;
  mirror->facts.destination = exchange.facts->destination;
  exchange.mirror = mirror;
}

/// Sends the copy once the request is complete, or gives it up.
void Exchanges::watch_mirror(Exchange& exchange, Instant now) {
  if (exchange.mirror == nullptr) return;
  if (exchange.mirror->is_too_large) return give_up_mirror(exchange, counters_.mirrors.too_large);
  const bool has_body = exchange.framing().body.kind != http::BodyKind::kNone;
  if (!has_body || exchange.request_complete()) send_mirror(exchange, now);
}

void Exchanges::give_up_mirror(Exchange& exchange, std::uint64_t& counter) {
  ++counter;
  mirrors_.give_back(*std::exchange(exchange.mirror, nullptr));
}

void Exchanges::send_mirror(Exchange& original, Instant now) {
  Exchange* const sender = create({});
  if (sender == nullptr) return give_up_mirror(original, counters_.mirrors.crowded);
  MirrorRequest& mirror = *std::exchange(original.mirror, nullptr);
  mirror.exchange = sender->id;
  const std::size_t size = mirror.body.bytes().size();
  const bool has_body = original.framing().body.kind != http::BodyKind::kNone;
  mirror.framing = {};
  if (has_body) mirror.framing.body = {http::BodyKind::kLength, size};
  sender->begin_mirror(mirror.leg, mirror.head, mirror.framing, mirror.facts, original, now);
  sender->rule = &mirror.rule->rule;
  ++counters_.mirrors.sent;
  set_deadlines(*sender, now);
  if (choose_service(*sender, now)) return end_mirror(*sender);
  const Outcome outcome = start_attempt(*sender, now);
  if (outcome == Outcome::kMoved)
    changed_.add(sender->id);
  else if (outcome != Outcome::kWaits)
    end_mirror(*sender);
}

void Exchanges::run_mirror(Exchange& exchange, Instant now) {
  for (int i = 0; i < kStepsAtOnce; ++i) {
    const Outcome outcome = step(exchange, now);
    if (outcome == Outcome::kMoved) continue;
    if (outcome != Outcome::kWaits) end_mirror(exchange);
    return;
  }
  changed_.add(exchange.id);
}

void Exchanges::record_mirror(const Exchange& exchange) {
  const bool is_answered = exchange.reason == Reason::kOk;
  ++(is_answered ? counters_.mirrors.answered : counters_.mirrors.failed);
}

void Exchanges::end_mirror(Exchange& exchange) {
  WEIR_ASSERT(!exchange.active());  // an outcome says so
  mirrors_.give_back(mirrors_.of(exchange.id));
  destroy(exchange);
}

void Exchanges::drop_mirrors(Instant now) {
  for (const ExchangeId id : mirrors_.under_way()) {
    Exchange& exchange = *exchanges_.get(id);
    abandon(exchange, Reason::kClientReset, now);
    end_mirror(exchange);
  }
}

}  // namespace weir::proxy
