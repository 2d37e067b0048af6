// What the fuzzer holds against the TCP stack, on every run of the unit tests, for inputs from
// seeds.

#include "tests/fuzz/tcp_properties.h"

#include <gtest/gtest.h>

#include <vector>

#include "l4/base/random.h"
#include "tests/fuzz/tcp_liveness.h"

namespace weir::testing {
namespace {

std::vector<std::uint8_t> input_of(std::uint64_t seed) {
  Random random{seed};
  std::vector<std::uint8_t> bytes(64 + random.below(1500));
  for (std::uint8_t& byte : bytes)
    byte = static_cast<std::uint8_t>(random.below(256));
  return bytes;
}

TEST(TcpProperties, HoldForInputsFromSeeds) {
  for (std::uint64_t seed = 1; seed <= 600; ++seed)
    ASSERT_EQ(check_tcp_properties(input_of(seed)), "") << "seed " << seed;
}

TEST(TcpLiveness, WhoeverOwesAnAcknowledgmentIsAskedForItAndGivenUpAtLast) {
  for (std::uint64_t seed = 1; seed <= 1'000; ++seed)
    ASSERT_EQ(check_tcp_liveness(seed), "") << "seed " << seed;
}

}  // namespace
}  // namespace weir::testing
