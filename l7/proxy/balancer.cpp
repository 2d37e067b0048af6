#include "l7/proxy/balancer.h"

#include <algorithm>

namespace weir::proxy {

ServiceIndex pick_service(const Rule& rule, Random& random) {
  WEIR_ASSERT(rule.weight_total() > 0);
  const std::uint32_t point = random.below(rule.weight_total());
  const auto chosen = std::upper_bound(rule.services.begin(), rule.services.end(), point,
                                       [](std::uint32_t value, const WeightedService& service) {
                                         return value < service.weight_end;
                                       });
  return chosen->service;
}

const wire::Endpoint& pick_endpoint(Generation& generation, ServiceIndex service,
                                    const UpstreamPool& pool, Random& random) {
  const ServiceEntry& entry = generation.snapshot().services[service];
  WEIR_ASSERT(!entry.endpoints.empty());
  const auto count = static_cast<std::uint32_t>(entry.endpoints.size());
  switch (entry.load_balancer) {
    case control::LoadBalancer::kRoundRobin:
      return entry.endpoints[generation.next_turn(service) % count];
    case control::LoadBalancer::kLeastRequest: {
      if (count == 1) return entry.endpoints[0];
      const std::uint32_t first = random.below(count);
      const std::uint32_t second = (first + 1 + random.below(count - 1)) % count;
      return pool.load(entry.endpoints[second]) < pool.load(entry.endpoints[first])
                 ? entry.endpoints[second]
                 : entry.endpoints[first];
    }
  }
  return entry.endpoints[0];
}

}  // namespace weir::proxy
