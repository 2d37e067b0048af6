// How long does it take to build one Maglev table? Expected: about 2 ms for 65,537 slots, however
// many backends share them; it is paid per VIP and change, off the packet path.

#include <benchmark/benchmark.h>

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

}  // namespace
}  // namespace weir::control

BENCHMARK_MAIN();
