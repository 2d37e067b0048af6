// The program on the balancer's end of an L7 worker's veth.

#include <linux/bpf.h>

#include <algorithm>

#include "tests/bpf/balancer_fixture.h"

namespace weir::testing {
namespace {

class L7Return : public ::testing::Test, protected BalancerFixture {
 protected:
  void SetUp() override { start({}, BpfProgram::kL7Return); }
};

TEST_F(L7Return, SendsEveryFrameOutOfTheDeviceUnchanged) {
  check(runner().write("weir_return_device", std::uint32_t{0}, BpfRunner::kAnyDevice));
  for (const PacketBuilder& packet :
       {tcp(at(kVip, 80), at(kClient, 40000)).syn_ack(), arp_request(kL7Own, kHost),
        neighbor_solicitation(kL7Own6, kHost6), PacketBuilder::raw(0x1234, {}).padding(46)}) {
    const auto frame = packet.bytes();
    const RunResult result = run(frame);
    EXPECT_EQ(result.action, static_cast<std::uint32_t>(XDP_REDIRECT));
    EXPECT_EQ(result.output, frame);
    EXPECT_EQ(result.moved,
              (std::map<std::string, CounterDelta>{{"redirect", {1, frame.size(), 0}}}));
  }
}

TEST_F(L7Return, HandsWhatIsAddressedToItsOwnSourceToTheOtherLane) {
  check(runner().write("weir_other_lane", BpfRunner::kAnyDevice, BpfRunner::kAnyDevice));
  auto frame = tcp(at(kVip, 80), at(kClient, 40000)).bytes();
  std::copy_n(frame.begin(), 6, frame.begin() + 6);  // destination, source
  const RunResult result = run(frame);
  EXPECT_EQ(result.action, static_cast<std::uint32_t>(XDP_REDIRECT));
  EXPECT_EQ(result.output, frame);
  EXPECT_EQ(result.moved,
            (std::map<std::string, CounterDelta>{{"other_lane", {1, frame.size(), 0}}}));
}

TEST_F(L7Return, SendsNothingToTheNetworkForWantOfAnOtherLane) {
  check(runner().write("weir_return_device", std::uint32_t{0}, BpfRunner::kAnyDevice));
  auto frame = tcp(at(kVip, 80), at(kClient, 40000)).bytes();
  std::copy_n(frame.begin(), 6, frame.begin() + 6);
  const RunResult result = run(frame);
  EXPECT_EQ(result.action, static_cast<std::uint32_t>(XDP_DROP));
  EXPECT_EQ(result.moved, (std::map<std::string, CounterDelta>{{"drop", {1, frame.size(), 0}}}));
}

TEST_F(L7Return, DropsAndCountsWhileNoDeviceIsSet) {
  const auto frame = tcp(at(kVip, 80), at(kClient, 40000)).bytes();
  const RunResult result = run(frame);
  EXPECT_EQ(result.action, static_cast<std::uint32_t>(XDP_DROP));
  EXPECT_EQ(result.moved, (std::map<std::string, CounterDelta>{{"drop", {1, frame.size(), 0}}}));
}

}  // namespace
}  // namespace weir::testing
