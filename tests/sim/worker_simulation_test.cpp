#include "tests/sim/worker_simulation.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>

namespace weir::testing {
namespace {

constexpr std::uint64_t kSeeds = 250;

std::optional<std::uint64_t> wanted_seed() {
  const char* const text = std::getenv("WEIR_SIM_SEED");
  if (text == nullptr) return std::nullopt;
  return std::stoull(text);
}

std::string rerun(std::uint64_t seed) {
  return "rerun with: WEIR_SIM_SEED=" + std::to_string(seed) + " weir_worker_sim_test";
}

TEST(WorkerSimulation, EveryRequestIsAnsweredExactlyOrVisiblyBrokenAndNothingIsLeft) {
  const auto wanted = wanted_seed();
  const std::uint64_t first = wanted.value_or(1);
  const std::uint64_t last = wanted.value_or(kSeeds);
  WorkerSimulation sum;
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    const WorkerSimulation run = simulate_worker(seed, wanted.has_value());
    EXPECT_EQ(run.violation, "") << rerun(seed);
    sum.requests += run.requests;
    sum.answered += run.answered;
    sum.refused += run.refused;
    sum.broken += run.broken;
    sum.frames += run.frames;
    sum.virtual_seconds += run.virtual_seconds;
  }
  std::printf(
      "seeds %llu to %llu: %llu requests, %llu answered, %llu refused, %llu broken, "
      "%llu frames, %.0f virtual seconds\n",
      static_cast<unsigned long long>(first), static_cast<unsigned long long>(last),
      static_cast<unsigned long long>(sum.requests), static_cast<unsigned long long>(sum.answered),
      static_cast<unsigned long long>(sum.refused), static_cast<unsigned long long>(sum.broken),
      static_cast<unsigned long long>(sum.frames), sum.virtual_seconds);
  // Oracles that everything is excused from would prove nothing.
  if (wanted) return;
  EXPECT_GT(sum.answered, sum.requests * 7 / 10);
}

TEST(WorkerSimulation, TheSameSeedGivesTheSameTranscript) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    const WorkerSimulation run = simulate_worker(seed);
    EXPECT_EQ(run.transcript, simulate_worker(seed).transcript) << rerun(seed);
    EXPECT_NE(run.transcript, simulate_worker(seed + 1000).transcript) << rerun(seed);
  }
}

}  // namespace
}  // namespace weir::testing
