// Runs the packet table: the verdict, the counters that move and no others, and what becomes of the
// frame. On the host under sanitizers, and in the kernel, held byte for byte against the host.

#include <fmt/format.h>
#include <linux/bpf.h>
#include <netinet/in.h>

#include <algorithm>
#include <set>

#include "tests/bpf/sent_frame.h"
#include "tests/bpf/verdict_worlds.h"

namespace weir::testing {

/// What gtest prints beside a test's name.
void PrintTo(const VerdictCase& verdict_case, std::ostream* out) {
  *out << label_of(verdict_case.verdict);
}

namespace {

class Verdict : public ::testing::TestWithParam<VerdictCase>, protected VerdictWorld {
 protected:
  void SetUp() override { start_world(GetParam().world); }
};

std::map<std::string, CounterDelta> expected_counters(const VerdictCase& expected,
                                                      std::uint64_t bytes) {
  std::map<std::string, CounterDelta> counters;
  counters[label_of(expected.verdict)] = {1, bytes, 0};
  if (expected.vip != 0)
    counters[fmt::format("vip {}", expected.vip)] = {1, bytes, expected.new_flows};
  if (expected.backend != 0)
    counters[fmt::format("backend {}", expected.backend)] = {1, bytes, expected.new_flows};
  return counters;
}

TEST_P(Verdict, IsReachedAndNothingElseIsCounted) {
  const VerdictCase& param = GetParam();
  for (const PacketBuilder& earlier : param.before)
    run(earlier);
  const auto frame = param.packet.bytes();
  const RunResult result = run(frame);
  EXPECT_EQ(result.action, action_of(param.verdict)) << describe(result);
  EXPECT_EQ(result.moved, expected_counters(param, frame.size())) << describe(result);
  if (!HasFailure()) expect_sent_frame(param, frame, result);
}

std::string name_of(const ::testing::TestParamInfo<VerdictCase>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Ways, Verdict, ::testing::ValuesIn(way_cases()), name_of);
INSTANTIATE_TEST_SUITE_P(Forwarded, Verdict, ::testing::ValuesIn(forward_cases()), name_of);
INSTANTIATE_TEST_SUITE_P(Tagged, Verdict, ::testing::ValuesIn(tag_cases()), name_of);
INSTANTIATE_TEST_SUITE_P(Malformed, Verdict, ::testing::ValuesIn(malformed_cases()), name_of);
INSTANTIATE_TEST_SUITE_P(Foreign, Verdict, ::testing::ValuesIn(foreign_cases()), name_of);
INSTANTIATE_TEST_SUITE_P(Fragments, Verdict, ::testing::ValuesIn(fragment_cases()), name_of);
INSTANTIATE_TEST_SUITE_P(Dropped, Verdict, ::testing::ValuesIn(dropped_cases()), name_of);
INSTANTIATE_TEST_SUITE_P(Icmp, Verdict, ::testing::ValuesIn(icmp_cases()), name_of);
INSTANTIATE_TEST_SUITE_P(Answered, Verdict, ::testing::ValuesIn(answer_cases()), name_of);
INSTANTIATE_TEST_SUITE_P(Services, Verdict, ::testing::ValuesIn(service_cases()), name_of);
INSTANTIATE_TEST_SUITE_P(Protected, Verdict, ::testing::ValuesIn(protection_cases()), name_of);
INSTANTIATE_TEST_SUITE_P(Quic, Verdict, ::testing::ValuesIn(quic_cases()), name_of);
INSTANTIATE_TEST_SUITE_P(L7, Verdict, ::testing::ValuesIn(l7_cases()), name_of);
INSTANTIATE_TEST_SUITE_P(Nat, Verdict, ::testing::ValuesIn(nat_cases()), name_of);

/// Verdicts that no packet reaches in a world that frames alone have made, and why.
const std::map<weir_verdict, std::string_view> kBeyondTheTable = {
    {WEIR_REDIRECT_NAT_REPLY,
     "every frame of a test-run comes in by the loopback device, so a reply leaves by the one that "
     "it came in by; Nat.AReplyLeavesByTheDeviceThatTheClientCameInBy writes another one into the "
     "record"},
};

TEST(VerdictTable, HasEveryVerdictThatAPacketCanReach) {
  std::set<weir_verdict> reached;
  for (const VerdictCase& one : verdict_cases())
    reached.insert(one.verdict);
  for (std::uint32_t number = 0; number < WEIR_VERDICT_COUNT; ++number) {
    const auto verdict = static_cast<weir_verdict>(number);
    const bool is_beyond = kBeyondTheTable.contains(verdict);
    EXPECT_NE(reached.contains(verdict), is_beyond)
        << label_of(verdict)
        << (is_beyond ? " is in a case: take it off the list of what no packet reaches"
                      : " is in no case: write one, or say in kBeyondTheTable why there is none");
  }
}

TEST(VerdictTable, HasEveryModeInBothFamilies) {
  std::set<std::pair<weir_verdict, bool>> reached;
  for (const VerdictCase& one : verdict_cases())
    reached.emplace(one.verdict, one.packet.is_v4());
  for (const weir_verdict verdict :
       {WEIR_TX_IPIP, WEIR_TX_GUE, WEIR_TX_L2, WEIR_TX_NAT, WEIR_TX_NAT_REPLY, WEIR_REDIRECT_L7,
        WEIR_REDIRECT_L7_LOCAL, WEIR_REDIRECT_IPIP, WEIR_REDIRECT_GUE, WEIR_REDIRECT_L2})
    for (const bool is_v4 : {true, false})
      EXPECT_TRUE(reached.contains({verdict, is_v4}))
          << label_of(verdict) << (is_v4 ? " of IPv4" : " of IPv6") << " is in no case";
}

TEST(VerdictTable, HasNoFrameTwiceInOneWorld) {
  using Story = std::pair<World, std::vector<std::vector<std::byte>>>;
  std::map<Story, std::string> seen;
  for (const VerdictCase& one : verdict_cases()) {
    Story story{one.world, {}};
    for (const PacketBuilder& earlier : one.before)
      story.second.push_back(earlier.bytes());
    story.second.push_back(one.packet.bytes());
    const auto [other, is_new] = seen.emplace(std::move(story), one.name);
    EXPECT_TRUE(is_new) << one.name << " is " << other->second << " under another name";
  }
}

class Counters : public ::testing::Test, protected BalancerFixture {
 protected:
  void SetUp() override { start_standard_world(); }
};

TEST_F(Counters, EveryRunIsCountedByExactlyOneVerdict) {
  const PacketBuilder packets[] = {
      tcp(kFrom, kTo).syn(),      tcp(kFrom6, kTo6),
      arp_request(kClient, kVip), tcp(kFrom, kTo).more_fragments(),
      tcp(kFrom, at(kHost, 1)),   echo_request(kClient, kVip),
      udp(kFrom, at(kVip, 53)),   tcp(kFrom, at(kVip, 9999)),
  };
  std::uint64_t runs = 0;
  for (int round = 0; round < 5; ++round)
    for (const PacketBuilder& packet : packets) {
      run(packet);
      ++runs;
    }
  std::uint64_t counted = 0;
  for (std::uint32_t verdict = 0; verdict < WEIR_VERDICT_COUNT; ++verdict) {
    auto counter = runner().read<weir_counter>("weir_counters", verdict);
    ASSERT_TRUE(counter.has_value()) << counter.error().text();
    counted += counter->packets;
  }
  EXPECT_EQ(counted, runs);
}

}  // namespace
}  // namespace weir::testing
