#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>

#include "tests/sim/tcp_simulation.h"

namespace weir::testing {
namespace {

constexpr std::uint64_t kSeeds = 1000;

std::optional<std::uint64_t> wanted_seed() {
  const char* const text = std::getenv("WEIR_SIM_SEED");
  if (text == nullptr) return std::nullopt;
  return std::stoull(text);
}

std::string rerun(std::uint64_t seed) {
  return "rerun with: WEIR_SIM_SEED=" + std::to_string(seed) + " weir_tcp_sim_test";
}

TEST(TcpSimulation, EveryTransferOverABadLinkEndsCompleteAndLeavesNothingBehind) {
  const auto wanted = wanted_seed();
  const std::uint64_t first = wanted.value_or(1);
  const std::uint64_t last = wanted.value_or(kSeeds);
  std::uint64_t segments = 0;
  std::uint64_t retransmissions = 0;
  double virtual_seconds = 0;
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    const TcpSimulation run = simulate_tcp(seed, wanted.has_value());
    EXPECT_EQ(run.violation, "") << rerun(seed);
    segments += run.segments;
    retransmissions += run.retransmissions;
    virtual_seconds += run.virtual_seconds;
  }
  std::printf("seeds %llu to %llu: %llu segments, %llu retransmissions, %.0f virtual seconds\n",
              static_cast<unsigned long long>(first), static_cast<unsigned long long>(last),
              static_cast<unsigned long long>(segments),
              static_cast<unsigned long long>(retransmissions), virtual_seconds);
  // Seeds are fixed, and so is the number; it was 4 of 100 when this was written. Fewer, and the
  // link is not as bad as its name says.
  if (!wanted) {
    EXPECT_GT(retransmissions, segments / 40);
  }
}

TEST(TcpSimulation, TheSameSeedGivesTheSameTranscript) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const TcpSimulation first = simulate_tcp(seed);
    const TcpSimulation second = simulate_tcp(seed);
    EXPECT_EQ(first.transcript, second.transcript) << rerun(seed);
    EXPECT_NE(first.transcript, simulate_tcp(seed + 1000).transcript) << rerun(seed);
  }
}

}  // namespace
}  // namespace weir::testing
