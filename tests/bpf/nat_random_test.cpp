// NAT and random packets: what comes out, either way, is what the packet builder makes of the other
// side's addresses and ports, with every checksum computed from scratch.

#include <netinet/in.h>

#include <random>

#include "tests/bpf/nat_fixture.h"

namespace weir::testing {
namespace {

constexpr int kFlows = 130;
constexpr int kPacketsPerFlow = 8;  // each way; 1,040 for each of the eight kinds of flow
constexpr std::size_t kPayloadMax = 1300;

using Random = std::mt19937;

std::size_t below(Random& random, std::size_t limit) { return random() % limit; }

/// A shape is drawn once and given to the packet and to what is expected of it.
Shape random_shape(Random& random, bool is_v4, std::uint8_t& hops) {
  std::vector<std::byte> payload(below(random, kPayloadMax));
  for (std::byte& byte : payload)
    byte = static_cast<std::byte>(random());
  hops = static_cast<std::uint8_t>(2 + below(random, 254));
  const std::uint32_t sequence = static_cast<std::uint32_t>(random());
  const std::size_t option_words = is_v4 ? below(random, 11) : 0;
  const bool has_extension = !is_v4 && below(random, 3) == 0;
  const auto identification = static_cast<std::uint16_t>(random());
  return [=](PacketBuilder& packet) {
    packet.payload(payload).time_to_live(hops).sequence(sequence).ip_options(option_words);
    packet.identification(identification);
    if (has_extension) packet.extension(IPPROTO_DSTOPTS, 1);
  };
}

class NatRandom : public ::testing::TestWithParam<NatFlow>, protected NatFixture {
 protected:
  void SetUp() override { start_nat_world(512); }
};

TEST_P(NatRandom, PacketsOfBothWaysHaveTheChecksumsThatAFreshOneWouldHave) {
  constexpr std::uint32_t kSeed = 20261125;
  SCOPED_TRACE(kSeed);
  Random random{kSeed};
  for (int i = 0; i < kFlows && !HasFailure(); ++i) {
    NatFlow flow = GetParam();
    // Inside the range, so that the port is kept; one apart, so that all are different.
    const auto port = wire::Port{static_cast<std::uint16_t>(kPortFirst + 7 * i)};
    flow.client.port = port;
    flow.source.port = port;
    for (int packet = 0; packet < kPacketsPerFlow; ++packet) {
      std::uint8_t hops = 0;
      const Shape there = random_shape(random, flow.vip.address.is_v4(), hops);
      expect_forward(flow, there, hops);
      const Shape back = random_shape(random, flow.vip.address.is_v4(), hops);
      expect_reply(flow, back, hops);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, NatRandom, ::testing::ValuesIn(nat_flows()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace weir::testing
