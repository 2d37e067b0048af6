// Lists, limits and answers over time. The host's alone, because the kernel's clock is its own.

#include <netinet/in.h>

#include "tests/bpf/balancer_fixture.h"

namespace weir::testing {
namespace {

class GuardTime : public ::testing::Test, protected BalancerFixture {
 protected:
  void SetUp() override {
    start_standard_world();
    set_second(1000);
    weir_vip vip = vip_entry(kVipIpip, WEIR_MODE_IPIP);
    vip.flags = WEIR_VIP_SOURCE_LIST;
    add_vip(at(kVip, 80), IPPROTO_TCP, vip);
    check(runner().publish_map("weir_lists", kVipIpip, source_list()));
  }

  void deny_client() {
    InnerMap list = source_list();
    list.add(weir_prefix_key{128, abi(kClient)}, std::uint32_t{WEIR_LIST_DENY});
    check(runner().publish_map("weir_lists", kVipIpip, list));
  }
  std::string verdict_of(std::uint16_t port) {
    return run(tcp(at(kClient, port), at(kVip, 80))).moved.begin()->first;
  }
};

TEST_F(GuardTime, AFlowThatGoesOnIsToldOfAListThatChangedWithinASecond) {
  ASSERT_EQ(verdict_of(40000), "backend 1");
  deny_client();
  EXPECT_EQ(verdict_of(40000), "backend 1") << "it passed in this very second";
  EXPECT_EQ(verdict_of(40001), "drop_source") << "a new flow asks at once";
  set_second(1001);
  EXPECT_EQ(verdict_of(40000), "drop_source");
  EXPECT_EQ(verdict_of(40000), "drop_source") << "what is dropped leaves no stamp";
}

TEST_F(GuardTime, AFlowThatWasDeniedPassesAtOnceWhenTheListLetsIt) {
  deny_client();
  ASSERT_EQ(verdict_of(40000), "drop_source");
  check(runner().publish_map("weir_lists", kVipIpip, source_list()));
  EXPECT_EQ(verdict_of(40000), "backend 1");
}

TEST_F(GuardTime, ABucketThatTwoCpusOverdrewIsNotTakenForAFullOne) {
  constexpr std::uint64_t kTick = 5000;
  constexpr std::int64_t kOverdrawn = -250;
  runner().set_ticks(kTick);
  weir_vip vip = vip_entry(kVipIpip, WEIR_MODE_IPIP);
  vip.flags = WEIR_VIP_LIMITS;
  vip.limits.packets = 100;
  add_vip(at(kVip, 80), IPPROTO_TCP, vip);
  weir_buckets buckets{};
  buckets.packets = {.tick = kTick, .tokens = static_cast<std::uint64_t>(kOverdrawn)};
  check(runner().write("weir_vip_limits", std::uint32_t{kVipIpip}, buckets));
  runner().set_ticks(kTick + 1);
  EXPECT_EQ(verdict_of(40000), "drop_vip_rate");
  runner().set_ticks(kTick +
                     13);  // 1,300 parts since, of which the debt took 250, and one is 1,000
  EXPECT_EQ(verdict_of(40000), "backend 1");
  EXPECT_EQ(verdict_of(40001), "drop_vip_rate");
}

/// One set of eight entries.
class FloodedFlows : public ::testing::Test, protected BalancerFixture {
 protected:
  void SetUp() override {
    BpfSettings settings;
    settings.flow_sets = 1;
    start_standard_world(settings);
    weir_vip vip = vip_entry(kVipIpip, WEIR_MODE_IPIP);
    vip.affinity_s = 10800;
    vip.hash = WEIR_HASH_SOURCE;
    add_vip(at(kVip, 80), IPPROTO_TCP, vip);
  }
  std::uint64_t events(weir_flow_event event) {
    const auto count =
        runner().read<std::uint64_t>("weir_flow_counters", static_cast<std::uint32_t>(event));
    EXPECT_TRUE(count.has_value());
    return count ? *count : 0;
  }
};

TEST_F(FloodedFlows, OfAVipWithAffinityLeaveRoomForOthers) {
  for (std::uint8_t i = 0; i < 100; ++i)
    run(tcp(at(v4(198, 18, 0, i), 40000), at(kVip, 80)).syn());
  const std::uint64_t before = events(WEIR_FLOW_ADDED);
  run(tcp(at(kClient, 40000), at(kVip, 81)).syn());
  EXPECT_EQ(events(WEIR_FLOW_ADDED), before + 1);
  EXPECT_EQ(events(WEIR_FLOW_NOT_ADDED), 0u);
}

TEST_F(FloodedFlows, AreNotMadeOfWhatEndsFlows) {
  for (std::uint8_t i = 0; i < 100; ++i)
    run(tcp(at(v4(198, 18, 0, i), 40000), at(kVip, 80)).rst());
  EXPECT_EQ(events(WEIR_FLOW_ADDED), 0u);
}

class AnswerRate : public ::testing::Test, protected BalancerFixture {
 protected:
  void SetUp() override {
    BpfSettings settings;
    settings.answers_per_s = 3;
    start_standard_world(settings);
    runner().set_ticks(5000);
    add_address(kVip, WEIR_ADDRESS_VIP | WEIR_ADDRESS_ECHO | WEIR_ADDRESS_REFUSE);
  }
};

TEST_F(AnswerRate, OfMtusIsNotUsedUpByWhoKnocksOnClosedPorts) {
  const auto knock = tcp(at(kClient, 40000), at(kVip, 9999)).syn();
  for (int i = 0; i < 3; ++i)
    EXPECT_TRUE(run(knock).moved.contains("tx_refused"));
  EXPECT_TRUE(run(knock).moved.contains("drop_icmp_rate"));
  auto big = tcp(at(kClient, 40000), at(kVip, 80)).payload(std::string(1460, 'x'));
  EXPECT_TRUE(run(big.do_not_fragment()).moved.contains("tx_too_big"));
}

TEST_F(AnswerRate, IsNotForWhomTheNodesListDenies) {
  InnerMap list = source_list();
  list.add(weir_prefix_key{128, abi(kClient)}, std::uint32_t{WEIR_LIST_DENY});
  check(runner().publish_map("weir_lists", 0, list));
  EXPECT_TRUE(run(icmp(kClient, kVip, 8).payload("ping")).moved.contains("drop_blocked"));
  const auto knock = tcp(at(kClient, 40000), at(kVip, 9999)).syn();
  EXPECT_TRUE(run(knock).moved.contains("drop_blocked"));
}

}  // namespace
}  // namespace weir::testing
