// How long does it take to build one Maglev table? Expected: about 2 ms for 65,537 slots, however
// many backends share them; it is paid per VIP and change, off the packet path. And how good is it:
// `quality` has the slots that move when a backend goes, over those that have to; how far shares
// of equal backends are apart, of the mean; the largest error of a weighted share, of the table.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>

#include "l4/base/random.h"
#include "l4/control/maglev.h"

namespace weir::control {
namespace {

MemberNumber numbered(std::uint32_t number) {
  return MemberNumber{static_cast<std::uint16_t>(number)};
}

std::vector<MaglevMember> members(std::uint32_t count, std::uint32_t weight_max) {
  Random random{1};
  std::vector<MaglevMember> out;
  for (std::uint32_t i = 0; i < count; ++i) {
    out.push_back({.address = wire::IpAddress::v4(10, static_cast<std::uint8_t>(i >> 16),
                                                  static_cast<std::uint8_t>(i >> 8),
                                                  static_cast<std::uint8_t>(i)),
                   .port = wire::Port{443},
                   .weight = 1 + random.below(weight_max),
                   .number = numbered(i + 1)});
  }
  return out;
}

void build(benchmark::State& state, std::uint32_t weight_max) {
  const auto backends = members(static_cast<std::uint32_t>(state.range(1)), weight_max);
  const auto size = static_cast<std::uint32_t>(state.range(0));
  std::uint64_t round = 0;
  for (auto _ : state) {
    // Another seed each time, so that no branch predictor learns one table by heart.
    auto table = build_maglev_table(backends, size, SipKey{{++round, 2}});
    benchmark::DoNotOptimize(table.data());
  }
}

void equal_weights(benchmark::State& state) { build(state, 1); }
void random_weights(benchmark::State& state) { build(state, 10000); }

void sizes(benchmark::internal::Benchmark* benchmark) {
  benchmark->Unit(benchmark::kMillisecond);
  for (const int count : {10, 100, 1000})
    benchmark->Args({65537, count});
  benchmark->Args({1048573, 100});
}
BENCHMARK(equal_weights)->Apply(sizes);
BENCHMARK(random_weights)->Apply(sizes);

/// How many slots each member has, by number less one.
std::vector<double> shares(std::span<const MemberNumber> table, std::size_t count) {
  std::vector<double> counts(count);
  for (const MemberNumber number : table)
    ++counts[number.value() - 1U];
  return counts;
}

double disruption(std::span<const MaglevMember> backends, std::uint32_t size, const SipKey& seed) {
  const auto before = build_maglev_table(backends, size, seed);
  const auto after = build_maglev_table(backends.subspan(1), size, seed);
  double moved = 0;
  for (std::size_t slot = 0; slot < size; ++slot)
    moved += before[slot] != after[slot] ? 1 : 0;
  return moved / shares(before, backends.size())[0];
}

double weight_error(std::span<const MaglevMember> backends, std::uint32_t size,
                    const SipKey& seed) {
  const auto counts = shares(build_maglev_table(backends, size, seed), backends.size());
  double total = 0;
  for (const MaglevMember& member : backends)
    total += member.weight;
  double worst = 0;
  for (std::size_t i = 0; i < backends.size(); ++i)
    worst = std::max(worst, std::abs(counts[i] / size - backends[i].weight / total));
  return worst;
}

void quality(benchmark::State& state) {
  constexpr std::uint32_t kBackends = 100;
  constexpr std::uint32_t kSlots = 65537;
  const auto equal = members(kBackends, 1);
  const auto weighted = members(kBackends, 10000);
  double most_disruption = 0;
  double most_error = 0;
  double most_spread = 0;
  std::uint64_t round = 0;
  for (auto _ : state) {
    const SipKey seed{{++round, 2}};
    const auto counts = shares(build_maglev_table(equal, kSlots, seed), kBackends);
    const auto [least, most] = std::ranges::minmax(counts);
    most_spread = std::max(most_spread, (most - least) * kBackends / kSlots);
    most_disruption = std::max(most_disruption, disruption(equal, kSlots, seed));
    most_error = std::max(most_error, weight_error(weighted, kSlots, seed));
  }
  state.counters["disruption"] = most_disruption;
  state.counters["share_spread"] = most_spread;
  state.counters["weight_error"] = most_error;
}
BENCHMARK(quality)->Iterations(10)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace weir::control

BENCHMARK_MAIN();
