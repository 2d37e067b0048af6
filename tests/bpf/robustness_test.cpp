// Frames that nobody would send on purpose. On the host the address sanitizer watches; in the
// kernel every result is held against the host's.

#include <linux/bpf.h>
#include <netinet/in.h>

#include <random>

#include "tests/bpf/balancer_fixture.h"

namespace weir::testing {
namespace {

constexpr std::size_t kEthernet = 14;  ///< the least that the kernel's test-run takes

std::vector<PacketBuilder> samples() {
  const wire::Endpoint from = at(kClient, 40000);
  const wire::Endpoint from6 = at(kClient6, 40000);
  return {
      tcp(from, at(kVip, 80)).syn(),
      tcp(from, at(kVip, 80)).ip_options(3).payload("x"),
      udp(from, at(kVip, 53)).payload("query"),
      tcp(from6, at(kVip6, 80)).extension(IPPROTO_HOPOPTS, 1).fragment_header(),
      udp(from6, at(kVip6, 53)).payload("query"),
      tcp(from, at(kVip, 82)),
      tcp(from, at(kVipL7, 80)),
      echo_request(kClient6, kVipL7v6),
      arp_request(kHost, kL7Own),
      neighbor_solicitation(kHost6, kL7Own6),
      tcp(from, at(kVip, 80)).inside(kOuterSource, kBackend),
      tcp(from6, at(kVip6, 80)).inside(kOuterSource6, kBackend6),
  };
}

class Robustness : public ::testing::TestWithParam<BpfProgram>, protected BalancerFixture {
 protected:
  void SetUp() override {
    if (GetParam() == BpfProgram::kBalancer) {
      start_standard_world(2);
    } else {
      BpfSettings settings;
      settings.decapsulate_any_source = true;
      settings.decapsulate_any_vip = true;
      start(settings, GetParam());
    }
  }
};

TEST_P(Robustness, EveryTruncationHasAResult) {
  for (const PacketBuilder& packet : samples()) {
    auto frame = packet.bytes();
    for (; frame.size() >= kEthernet; frame.pop_back()) {
      const RunResult result = run(frame);
      ASSERT_NE(result.action, static_cast<std::uint32_t>(XDP_ABORTED)) << hexdump(frame);
    }
  }
}

TEST_P(Robustness, EveryMutationHasAResult) {
  constexpr unsigned kSeed = 20240607;
  constexpr int kRounds = 250;
  RecordProperty("seed", kSeed);
  std::mt19937 random{kSeed};
  for (const PacketBuilder& packet : samples()) {
    const auto original = packet.bytes();
    for (int round = 0; round < kRounds; ++round) {
      auto frame = original;
      // Headers only: changes of the payload say little.
      const std::size_t changes = 1 + random() % 4;
      for (std::size_t i = 0; i < changes; ++i)
        frame[12 + random() % (frame.size() - 12)] = static_cast<std::byte>(random());
      const RunResult result = run(frame);
      ASSERT_NE(result.action, static_cast<std::uint32_t>(XDP_ABORTED)) << hexdump(frame);
    }
  }
}

std::string name_of(const ::testing::TestParamInfo<BpfProgram>& info) {
  return info.param == BpfProgram::kBalancer ? "Balancer" : "Decapsulator";
}

INSTANTIATE_TEST_SUITE_P(, Robustness,
                         ::testing::Values(BpfProgram::kBalancer, BpfProgram::kDecapsulator),
                         name_of);

}  // namespace
}  // namespace weir::testing
