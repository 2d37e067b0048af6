#include "l7/endpoint_health.h"

#include "l4/base/log.h"

namespace weir::l7 {

using control::BackendHealth;
using control::HealthState;

Result<void> EndpointHealth::set_services(const control::Model& model,
                                          const proxy::Snapshot& snapshot, Instant now) {
  const std::lock_guard lock{mutex_};
  std::map<std::string, Service> before = std::exchange(services_, {});
  for (std::size_t i = 0; i < model.services.size(); ++i) {
    const control::Service& wanted = model.services[i];
    const proxy::ServiceEntry& entry = snapshot.services[i];
    if (auto known = before.extract(wanted.name); !known.empty())
      services_.insert(std::move(known));
    set_service(wanted, entry, now);
  }
  return set_targets();
}

void EndpointHealth::set_service(const control::Service& wanted, const proxy::ServiceEntry& entry,
                                 Instant now) {
  if (!wanted.health) {
    services_.erase(wanted.name);
    entry.state->fails_open.store(false, std::memory_order_relaxed);
    for (const proxy::EndpointEntry& endpoint : entry.endpoints)
      endpoint.state->share.store(proxy::EndpointState::kFullShare, std::memory_order_relaxed);
    return;
  }
  const auto [found, is_new] = services_.try_emplace(wanted.name);
  Service& service = found->second;
  service.check = *wanted.health;
  service.state = entry.state;
  std::map<wire::Endpoint, Entry> before = std::exchange(service.endpoints, {});
  for (const proxy::EndpointEntry& endpoint : entry.endpoints) {
    auto known = before.extract(endpoint.endpoint);
    if (!known.empty()) {
      known.mapped().hostname = endpoint.hostname;
      service.endpoints.insert(std::move(known));
      continue;
    }
    const HealthState first = is_new ? HealthState::kUp : HealthState::kChecking;
    service.endpoints.emplace(endpoint.endpoint, Entry{++last_id_, BackendHealth{first, now},
                                                       endpoint.state, endpoint.hostname});
  }
  tell_workers(service, now);
}

Result<void> EndpointHealth::set_targets() {
  by_id_.clear();
  std::vector<control::ProbeTarget> targets;
  for (const auto& [name, service] : services_)
    for (const auto& [endpoint, entry] : service.endpoints) {
      by_id_.emplace(entry.id, std::pair{name, endpoint});
      targets.push_back({.id = entry.id,
                         .check = service.check,
                         .backend = endpoint.address,
                         .port = service.check.port.value_or(endpoint.port),
                         .vip = endpoint.address});
      // Asked for by the name that stands in the file, as whoever wrote it would.
      if (std::string& host = targets.back().check.host; host.empty()) host = entry.hostname;
    }
  if (!prober_ && targets.empty()) return {};
  if (!prober_) {
    Result<control::Prober> started = control::Prober::start();
    if (!started) return Error{started.error()}.while_doing("starting health checks");
    prober_.emplace(std::move(*started));
  }
  prober_->set_targets(std::move(targets));
  return {};
}

void EndpointHealth::tell_workers(Service& service, Instant now) {
  std::uint64_t known = 0;
  std::uint64_t up = 0;
  for (auto& [endpoint, entry] : service.endpoints) {
    const HealthState state = entry.health.state();
    if (state != HealthState::kChecking) ++known;
    if (state == HealthState::kUp) ++up;
    // Written only where it changes: workers keep their copy of the line.
    const std::uint32_t share = entry.health.share(service.check, now);
    if (entry.state->share.load(std::memory_order_relaxed) != share)
      entry.state->share.store(share, std::memory_order_relaxed);
  }
  // Where nothing is known of any, there is nothing better than to ask them all.
  const bool open = known == 0 || up * 100 < known * service.check.fail_open_percent;
  if (service.state->fails_open.load(std::memory_order_relaxed) != open)
    service.state->fails_open.store(open, std::memory_order_relaxed);
}

void EndpointHealth::advance(Instant now) {
  const std::lock_guard lock{mutex_};
  if (!prober_) return;
  for (control::ProbeResult& result : prober_->take_results()) {
    const auto target = by_id_.find(result.id);
    if (target == by_id_.end()) continue;  // its service or endpoint has gone meanwhile
    const auto& [name, endpoint] = target->second;
    Service& service = services_.at(name);
    BackendHealth& health = service.endpoints.at(endpoint).health;
    const control::ProbeOutcome outcome{result.is_success, std::move(result.reason), result.took};
    if (health.on_result(service.check, outcome, now))
      log_info("endpoint {} of service {} is {}: {}", endpoint.text(), name,
               control::text_of(health.state()),
               outcome.is_success ? "it answers" : outcome.reason);
  }
  for (auto& [name, service] : services_)
    tell_workers(service, now);
}

std::optional<EndpointHealthView> EndpointHealth::find(const std::string& service,
                                                       const wire::Endpoint& endpoint,
                                                       Instant now) const {
  const std::lock_guard lock{mutex_};
  const auto found = services_.find(service);
  if (found == services_.end()) return std::nullopt;
  const auto entry = found->second.endpoints.find(endpoint);
  if (entry == found->second.endpoints.end()) return std::nullopt;
  const BackendHealth& health = entry->second.health;
  const control::ProbeOutcome& last = health.last();
  return EndpointHealthView{health.state(), now - health.since(),
                            !health.was_asked()   ? ""
                            : last.reason.empty() ? "it answers"
                                                  : last.reason};
}

}  // namespace weir::l7
