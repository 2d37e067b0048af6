// Lists, limits and answers over time. The host's alone, because the kernel's clock is its own.

#include <netinet/in.h>

#include "bpf/hash.h"
#include "tests/bpf/balancer_fixture.h"
#include "tests/support/host_engine.h"

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

class RateTime : public GuardTime {
 protected:
  static constexpr std::uint64_t kTick = 5000;
  static constexpr std::uint64_t kSecond = BpfSettings::kTicksPerSecond;
  static constexpr std::uint64_t kParts = WEIR_RATE_SECOND / kSecond;

  void SetUp() override {
    GuardTime::SetUp();
    runner().set_ticks(kTick);
  }
  struct Limits {
    std::uint32_t new_flows_per_source = 0;
    std::uint32_t packets_per_source = 0;
    std::uint32_t packets = 0;
  };
  void limit(const Limits& limits) {
    weir_vip vip = vip_entry(kVipIpip, WEIR_MODE_IPIP);
    vip.flags = WEIR_VIP_LIMITS;
    vip.limits.new_flows_per_source = limits.new_flows_per_source;
    vip.limits.packets_per_source = limits.packets_per_source;
    vip.limits.packets = limits.packets;
    add_vip(at(kVip, 80), IPPROTO_TCP, vip);
    check(runner().publish_map("weir_source_limits", kVipIpip, source_limits()));
  }
  void set_vip_bucket(std::uint64_t full_at_ticks) {
    const weir_buckets buckets{.packets = full_at_ticks * kParts & WEIR_RATE_TIME, .new_flows = 0};
    check(runner().write("weir_vip_limits", std::uint32_t{kVipIpip}, buckets));
  }
  /// Sources that share a set with this one.
  static std::vector<wire::IpAddress> sources_beside(const wire::IpAddress& source,
                                                     std::size_t count) {
    const auto set_of = [](const wire::IpAddress& address) {
      const weir_address key = abi(address);
      return weir_source_hash(&key, weir_flow_keys) % WEIR_SOURCE_SETS;
    };
    std::vector<wire::IpAddress> found;
    for (std::uint32_t i = 0; found.size() < count; ++i) {
      const auto octet = [i](int shift) { return static_cast<std::uint8_t>(i >> shift); };
      const wire::IpAddress other = v4(11, octet(16), octet(8), octet(0));
      if (set_of(other) == set_of(source)) found.push_back(other);
    }
    return found;
  }
  /// How many of `count` packets of one source pass.
  std::uint32_t passed_from(const wire::IpAddress& source, std::uint32_t count) {
    std::uint32_t passed = 0;
    for (std::uint32_t i = 0; i < count; ++i)
      passed += run(tcp(at(source, 40000), at(kVip, 80))).moved.contains("backend 1") ? 1 : 0;
    return passed;
  }
};

TEST_F(RateTime, ABucketHoldsOneSecondAndFillsEvenly) {
  limit({.packets = 100});
  EXPECT_EQ(passed_from(kClient, 150), 100u);
  runner().set_ticks(kTick + 9);
  EXPECT_EQ(passed_from(kClient, 5), 0u) << "one takes ten ticks";
  runner().set_ticks(kTick + 255);
  EXPECT_EQ(passed_from(kClient, 50), 25u);
  runner().set_ticks(kTick + 100 * kSecond);
  EXPECT_EQ(passed_from(kClient, 150), 100u) << "not more, however long nothing came";
}

TEST_F(RateTime, ABucketThatTwoCpusOverdrewIsNotTakenForAFullOne) {
  limit({.packets = 100});
  set_vip_bucket(kTick + kSecond + 25);  // two and a half packets more than there were
  EXPECT_EQ(passed_from(kClient, 5), 0u);
  runner().set_ticks(kTick + 34);
  EXPECT_EQ(passed_from(kClient, 5), 0u);
  runner().set_ticks(kTick + 36);
  EXPECT_EQ(passed_from(kClient, 5), 1u);
}

TEST_F(RateTime, ATimeThatTheClockHasComeRoundToMeansFull) {
  limit({.packets = 100});
  set_vip_bucket(kTick + 5 * kSecond);  // nobody can have used up five seconds' worth
  EXPECT_EQ(passed_from(kClient, 150), 100u);
}

TEST_F(RateTime, ARateOfOneIsOneASecond) {
  limit({.packets_per_source = 1});
  EXPECT_EQ(passed_from(kClient, 3), 1u);
  runner().set_ticks(kTick + kSecond - 1);
  EXPECT_EQ(passed_from(kClient, 3), 0u);
  runner().set_ticks(kTick + kSecond + 1);
  EXPECT_EQ(passed_from(kClient, 3), 1u);
}

TEST_F(RateTime, SourcesHaveTheirOwnInBothRates) {
  limit({.new_flows_per_source = 2, .packets_per_source = 100});
  for (std::uint8_t i = 1; i < 10; ++i) {
    std::uint32_t passed = 0;
    for (std::uint16_t port = 1; port <= 5; ++port)
      passed +=
          run(tcp(at(v4(198, 51, 100, i), port), at(kVip, 80)).syn()).moved.contains("backend 1");
    EXPECT_EQ(passed, 2u);
    EXPECT_EQ(passed_from(v4(198, 51, 100, i), 100), 95u) << "of 100 packets, five were SYNs";
  }
}

TEST_F(RateTime, AFloodOfNewSourcesGivesNobodyBackWhatHeUsedUp) {
  limit({.packets_per_source = 10});
  EXPECT_EQ(passed_from(kClient, 20), 10u);
  for (const wire::IpAddress& other : sources_beside(kClient, 40))
    EXPECT_EQ(passed_from(other, 1), 1u);
  EXPECT_EQ(passed_from(kClient, 20), 0u);
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
