#include "l7/proxy/balancer.h"

#include <algorithm>
#include <array>
#include <map>
#include <numeric>

#include "l4/base/bytes.h"
#include "l4/control/maglev.h"

namespace weir::proxy {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
/// Of a list of turns; weights of more in sum are rounded to it.
constexpr std::uint32_t kTurnsMax = 4096;
constexpr std::uint32_t kPointsPerWeight = 100;
constexpr std::uint32_t kPointsMax = 65536;
/// Gateways that are given the same endpoints choose alike, whoever they are.
constexpr SipKey kRingKey{{0x77656972'72696e67, 0x706f696e'74733031}};

/// Endpoints as one attempt sees them.
class Candidates {
 public:
  Candidates(const ServiceEntry& service, const PickQuery& query, Instant now)
      : service_{service},
        query_{query},
        now_{now},
        is_open_{service.state->fails_open.load(kRelaxed)} {}

  [[nodiscard]] bool is_healthy(EndpointIndex index) const {
    const EndpointState& state = *service_.endpoints[index].state;
    return is_open_ || (state.is_up() && !state.is_ejected(now_));
  }
  [[nodiscard]] bool has_room(EndpointIndex index) const {
    const std::uint32_t most = service_.limits.requests_per_endpoint;
    return most == 0 || service_.endpoints[index].state->exchanges.load(kRelaxed) < most;
  }
  [[nodiscard]] bool is_usable(EndpointIndex index) const {
    return is_healthy(index) && has_room(index);
  }
  [[nodiscard]] bool was_tried(EndpointIndex index) const {
    return std::find(query_.tried.begin(), query_.tried.end(), index) != query_.tried.end();
  }
  /// One that has just come back takes the part of its turns that its share says.
  [[nodiscard]] bool takes_turn(EndpointIndex index, Random& random) const {
    if (was_tried(index) || !is_usable(index)) return false;
    const std::uint32_t share = service_.endpoints[index].state->share.load(kRelaxed);
    return share >= EndpointState::kFullShare || is_open_ ||
           random.below(EndpointState::kFullShare) < share;
  }
  [[nodiscard]] std::size_t size() const { return service_.endpoints.size(); }
  /// Lower is better. Of two that have nothing to do the first that was drawn is taken, as often as
  /// its weight says.
  [[nodiscard]] std::uint64_t load(EndpointIndex index) const {
    const EndpointEntry& entry = service_.endpoints[index];
    const std::uint64_t load = entry.state->exchanges.load(kRelaxed);
    return load * control::kWeightMax / std::max(entry.weight, 1U);
  }

  /// Any that can be used, those that were not tried first; from a random one on.
  [[nodiscard]] Pick any(Random& random) const {
    const auto count = static_cast<std::uint32_t>(service_.endpoints.size());
    const std::uint32_t start = random.below(count);
    std::optional<EndpointIndex> tried;
    bool healthy = false;
    for (std::uint32_t i = 0; i < count; ++i) {
      const EndpointIndex index = (start + i) % count;
      if (service_.endpoints[index].weight == 0 || !is_healthy(index)) continue;
      healthy = true;
      if (!has_room(index)) continue;
      if (!was_tried(index)) return {Pick::Outcome::kPicked, index};
      if (!tried) tried = index;
    }
    if (tried) return {Pick::Outcome::kPicked, *tried};
    return {healthy ? Pick::Outcome::kAllFull : Pick::Outcome::kNoneHealthy, 0};
  }

 private:
  const ServiceEntry& service_;
  const PickQuery& query_;
  Instant now_;
  bool is_open_;
};

/// `next_turn()` says whose turn it is, and from then on whose it is next.
template <typename NextTurn>
std::optional<EndpointIndex> next_in_turn(const std::vector<EndpointIndex>& turns,
                                          NextTurn&& next_turn, const Candidates& candidates,
                                          Random& random) {
  for (std::size_t i = 0; i < turns.size(); ++i) {
    const EndpointIndex index = turns[next_turn() % turns.size()];
    if (candidates.takes_turn(index, random)) return index;
  }
  return std::nullopt;
}

std::optional<EndpointIndex> random_turn(const std::vector<EndpointIndex>& turns,
                                         const Candidates& candidates, Random& random) {
  constexpr int kDraws = 4;  // then a walk: most that are drawn are down
  for (int i = 0; i < kDraws; ++i) {
    const EndpointIndex index = turns[random.below(static_cast<std::uint32_t>(turns.size()))];
    if (candidates.takes_turn(index, random)) return index;
  }
  std::uint32_t next = random.below(static_cast<std::uint32_t>(turns.size()));
  return next_in_turn(
      turns, [&] { return next++; }, candidates, random);
}

std::optional<EndpointIndex> less_loaded(const std::vector<EndpointIndex>& turns,
                                         const Candidates& candidates, Random& random) {
  const auto first = random_turn(turns, candidates, random);
  if (!first || turns.size() == 1) return first;
  auto second = random_turn(turns, candidates, random);
  if (second == first) second = random_turn(turns, candidates, random);  // once: there may be one
  if (!second) return first;
  return candidates.load(*second) < candidates.load(*first) ? second : first;
}

/// How far to go on from a hash's place before any endpoint will do: all are down, or nearly.
std::size_t steps_max(const Candidates& candidates) { return 8 * candidates.size(); }

std::optional<EndpointIndex> on_ring(const PickTables& tables, std::uint64_t hash,
                                     const Candidates& candidates) {
  const auto& ring = tables.ring;
  const auto begin = static_cast<std::size_t>(
      std::lower_bound(ring.begin(), ring.end(), std::pair{hash, EndpointIndex{0}}) - ring.begin());
  for (std::size_t i = 0; i < std::min(ring.size(), steps_max(candidates)); ++i) {
    const EndpointIndex index = ring[(begin + i) % ring.size()].second;
    if (candidates.is_usable(index) && !candidates.was_tried(index)) return index;
  }
  return std::nullopt;
}

std::optional<EndpointIndex> in_maglev(const PickTables& tables, std::uint64_t hash,
                                       const Candidates& candidates) {
  const auto& table = tables.maglev;
  for (std::size_t i = 0; i < std::min(table.size(), steps_max(candidates)); ++i) {
    const EndpointIndex index = table[(hash + i) % table.size()];
    if (candidates.is_usable(index) && !candidates.was_tried(index)) return index;
  }
  return std::nullopt;
}

std::optional<EndpointIndex> by_policy(Generation& generation, ServiceIndex service,
                                       const std::vector<EndpointIndex>& turns,
                                       const PickQuery& query, const Candidates& candidates,
                                       Random& random) {
  const ServiceEntry& entry = generation.snapshot().services[service];
  switch (entry.balancing.policy) {
    case control::LoadBalancer::kRoundRobin:
      // Who cannot take its turn loses it, or the next in the list would have both.
      return next_in_turn(
          turns, [&] { return generation.next_turn(service); }, candidates, random);
    case control::LoadBalancer::kLeastRequest:
      return less_loaded(turns, candidates, random);
    case control::LoadBalancer::kRandom:
      return random_turn(turns, candidates, random);
    case control::LoadBalancer::kRingHash:
      return query.hash ? on_ring(entry.tables, *query.hash, candidates)
                        : random_turn(turns, candidates, random);
    case control::LoadBalancer::kMaglev:
      return query.hash ? in_maglev(entry.tables, *query.hash, candidates)
                        : random_turn(turns, candidates, random);
  }
  return std::nullopt;
}

/// Endpoints of one weight, whose turns come one after the other.
struct WeightGroup {
  std::vector<EndpointIndex> members;
  std::size_t next = 0;
  std::int64_t rounds = 0;  ///< that all members have had
};

/// Those that take part, by weight; weights are divided by what they have in common.
std::map<std::int64_t, WeightGroup> group_by_weight(
    const std::vector<control::ServiceEndpoint>& endpoints, std::string_view zone) {
  std::vector<std::pair<EndpointIndex, std::int64_t>> weights;
  std::int64_t divisor = 0;
  std::int64_t total = 0;
  for (std::size_t i = 0; i < endpoints.size(); ++i) {
    const std::int64_t weight = endpoints[i].weight;
    if (weight == 0 || (!zone.empty() && endpoints[i].zone != zone)) continue;
    weights.emplace_back(static_cast<EndpointIndex>(i), weight);
    divisor = std::gcd(divisor, weight);
    total += weight;
  }
  const bool is_too_long = total / std::max<std::int64_t>(divisor, 1) > kTurnsMax;
  std::map<std::int64_t, WeightGroup> groups;
  for (const auto& [index, weight] : weights) {
    const std::int64_t rounded = std::max<std::int64_t>(1, weight * kTurnsMax / total);
    groups[is_too_long ? rounded : weight / divisor].members.push_back(index);
  }
  return groups;
}

/// Each endpoint as often as its weight says, as far apart as that allows (smooth weighted round
/// robin: who is owed most is next, of equal ones the first). Members of a group differ by a round
/// at most, so that one of each is looked at: 5000 endpoints of three weights take 40 µs.
std::vector<EndpointIndex> interleave(const std::vector<control::ServiceEndpoint>& endpoints,
                                      std::string_view zone) {
  auto groups = group_by_weight(endpoints, zone);
  std::int64_t total = 0;
  for (const auto& [weight, group] : groups)
    total += weight * static_cast<std::int64_t>(group.members.size());
  std::vector<EndpointIndex> turns;
  turns.reserve(static_cast<std::size_t>(total));
  for (std::int64_t turn = 1; turn <= total; ++turn) {
    WeightGroup* best = nullptr;
    std::int64_t most = 0;
    for (auto& [weight, group] : groups) {
      const std::int64_t owed = weight * turn - total * group.rounds;
      const bool is_first = best == nullptr || owed > most ||
                            (owed == most && group.members[group.next] < best->members[best->next]);
      if (!is_first) continue;
      best = &group;
      most = owed;
    }
    turns.push_back(best->members[best->next]);
    if (++best->next < best->members.size()) continue;
    best->next = 0;
    ++best->rounds;
  }
  return turns;
}

std::uint64_t point_of(const wire::Endpoint& endpoint, std::uint32_t number) {
  std::array<std::byte, 22> bytes{};
  std::memcpy(bytes.data(), endpoint.address.bytes.data(), 16);
  const std::uint16_t port = endpoint.port.value();
  std::memcpy(bytes.data() + 16, &port, sizeof(port));
  std::memcpy(bytes.data() + 18, &number, sizeof(number));
  return siphash(kRingKey, bytes);
}

std::vector<std::pair<std::uint64_t, EndpointIndex>> make_ring(
    const std::vector<control::ServiceEndpoint>& endpoints) {
  std::uint64_t total = 0;
  for (const control::ServiceEndpoint& endpoint : endpoints)
    total += endpoint.weight;
  const std::uint64_t points = std::min<std::uint64_t>(total * kPointsPerWeight, kPointsMax);
  std::vector<std::pair<std::uint64_t, EndpointIndex>> ring;
  for (std::size_t i = 0; i < endpoints.size(); ++i) {
    if (endpoints[i].weight == 0) continue;
    const auto own = static_cast<std::uint32_t>(
        std::max<std::uint64_t>(1, endpoints[i].weight * points / total));
    for (std::uint32_t number = 0; number < own; ++number)
      ring.emplace_back(point_of(endpoints[i].endpoint, number), static_cast<EndpointIndex>(i));
  }
  std::sort(ring.begin(), ring.end());
  return ring;
}

/// A hundred slots and more for each endpoint, as the paper advises.
std::vector<EndpointIndex> make_maglev(const std::vector<control::ServiceEndpoint>& endpoints) {
  constexpr std::array<std::uint32_t, 4> kSizes{1021, 8191, 65537, 131071};
  std::vector<control::MaglevMember> members;
  for (std::size_t i = 0; i < endpoints.size(); ++i)
    members.push_back({.address = endpoints[i].endpoint.address,
                       .port = endpoints[i].endpoint.port,
                       .weight = endpoints[i].weight,
                       .number = control::MemberNumber{static_cast<std::uint16_t>(i + 1)}});
  const auto size = std::find_if(kSizes.begin(), kSizes.end() - 1,
                                 [&](std::uint32_t s) { return s >= endpoints.size() * 100; });
  std::vector<EndpointIndex> table;
  for (const control::MemberNumber number : control::build_maglev_table(members, *size, kRingKey))
    if (number.value() != 0) table.push_back(number.value() - 1U);
  return table;
}

}  // namespace

ServiceIndex pick_service(const Rule& rule, Random& random) {
  WEIR_ASSERT(rule.weight_total() > 0);
  const std::uint32_t point = random.below(rule.weight_total());
  const auto chosen = std::upper_bound(rule.services.begin(), rule.services.end(), point,
                                       [](std::uint32_t value, const WeightedService& service) {
                                         return value < service.weight_end;
                                       });
  return chosen->service;
}

Pick pick_endpoint(Generation& generation, ServiceIndex service, const PickQuery& query,
                   Random& random, Instant now) {
  const ServiceEntry& entry = generation.snapshot().services[service];
  const Candidates candidates{entry, query, now};
  if (query.sticky && candidates.is_usable(*query.sticky) && !candidates.was_tried(*query.sticky))
    return {Pick::Outcome::kPicked, *query.sticky};
  const auto choose = [&](const std::vector<EndpointIndex>& turns) {
    return turns.empty() ? std::nullopt
                         : by_policy(generation, service, turns, query, candidates, random);
  };
  auto chosen = choose(entry.tables.near);
  if (!chosen) chosen = choose(entry.tables.turns);
  if (chosen) return {Pick::Outcome::kPicked, *chosen};
  return candidates.any(random);
}

PickTables build_pick_tables(const control::Service& service, const std::string& zone) {
  PickTables tables;
  tables.turns = interleave(service.endpoints, {});
  // A hash that looked at zones would say something else on each node.
  const bool hashes = service.balancing.policy == control::LoadBalancer::kRingHash ||
                      service.balancing.policy == control::LoadBalancer::kMaglev;
  if (!zone.empty() && !hashes) tables.near = interleave(service.endpoints, zone);
  if (tables.near.size() == tables.turns.size()) tables.near.clear();
  if (service.balancing.policy == control::LoadBalancer::kRingHash)
    tables.ring = make_ring(service.endpoints);
  if (service.balancing.policy == control::LoadBalancer::kMaglev)
    tables.maglev = make_maglev(service.endpoints);
  return tables;
}

}  // namespace weir::proxy
