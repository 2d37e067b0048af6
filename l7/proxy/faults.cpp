/// Trouble that a rule makes on purpose.

#include <algorithm>
#include <utility>

#include "l7/proxy/exchanges.h"

namespace weir::proxy {

/// Nothing is drawn where the answer is known: without shares, runs are as they were.
bool Exchanges::chance(std::uint32_t share) {
  if (share == control::kShareWhole) return true;
  return share != 0 && random_.below(control::kShareWhole) < share;
}

/// Before a service is chosen, so that what is delayed burdens none. Nothing where it goes on.
std::optional<Exchanges::Outcome> Exchanges::inject_fault(Exchange& exchange, Instant now) {
  if (!exchange.rule->fault) return std::nullopt;
  const control::FaultInjection& fault = *exchange.rule->fault;
  const bool delays = chance(fault.delay_share);
  exchange.is_aborted = chance(fault.abort_share);
  if (!delays)
    return exchange.is_aborted ? std::optional{abort_by_fault(exchange, now)} : std::nullopt;
  ++counters_.delays;
  exchange.detail = "delayed by the rule's fault";
  exchange.pause = Pause::kFault;
  exchange.paused_at = now;
  exchange.resume_at = now + std::chrono::milliseconds{fault.delay_ms};
  timers_.arm(exchange.timer, std::min(exchange.resume_at, exchange.request_deadline));
  return Outcome::kWaits;
}

Exchanges::Outcome Exchanges::abort_by_fault(Exchange& exchange, Instant now) {
  return refuse(exchange, http::Status{exchange.rule->fault->abort_status}, Reason::kFault, now);
}

Exchanges::Outcome Exchanges::end_delay(Exchange& exchange, Instant now) {
  exchange.pause = Pause::kNone;
  exchange.wait_duration += now - std::exchange(exchange.paused_at, Instant{});
  exchange.last_progress = now;
  if (exchange.is_aborted) return abort_by_fault(exchange, now);
  return forward(exchange, now);
}

}  // namespace weir::proxy
