#include "l4/control/diff.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "l4/base/random.h"

namespace weir::control {
namespace {

constexpr std::uint64_t kSeed = 20240607;

Vip vip_at(std::uint8_t last_octet) {
  Vip vip;
  vip.name = "v" + std::to_string(last_octet);
  vip.address = wire::IpAddress::v4(203, 0, 113, last_octet);
  vip.ports = PortRange::only(wire::Port{80});
  return vip;
}

/// Few keys and few values, so that sets meet often in every way.
std::vector<Vip> random_vips(Random& random) {
  std::vector<Vip> vips;
  for (std::uint8_t octet = 1; octet <= 8; ++octet) {
    if (random.chance(0.4)) continue;
    Vip vip = vip_at(octet);
    vip.mode = random.chance(0.3) ? ForwardMode::kL2 : ForwardMode::kIpip;
    vip.table_size = random.chance(0.3) ? 251 : 509;
    for (std::uint32_t i = random.below(3); i > 0; --i) {
      Backend backend;
      backend.address = wire::IpAddress::v4(10, 0, 0, static_cast<std::uint8_t>(i));
      backend.weight = random.below(2);
      vip.backends.push_back(backend);
    }
    vips.push_back(std::move(vip));
  }
  for (std::size_t i = vips.size(); i > 1; --i)
    std::swap(vips[i - 1], vips[random.below(static_cast<std::uint32_t>(i))]);
  return vips;
}

std::vector<Vip> sorted(std::vector<Vip> vips) {
  std::ranges::sort(vips, {}, &Vip::key);
  return vips;
}

TEST(Diff, AppliedToWhatThereIsGivesWhatIsWanted) {
  Random random{kSeed};
  for (int round = 0; round < 2000; ++round) {
    const std::vector<Vip> have = random_vips(random);
    const std::vector<Vip> want = random_vips(random);
    ASSERT_EQ(apply_operations(have, diff_vips(have, want)), sorted(want))
        << "seed " << kSeed << ", round " << round;
  }
}

TEST(Diff, OfEqualSetsIsEmptyWhateverTheirOrder) {
  Random random{kSeed};
  for (int round = 0; round < 200; ++round) {
    std::vector<Vip> have = random_vips(random);
    std::vector<Vip> want = sorted(have);
    EXPECT_TRUE(diff_vips(have, want).empty()) << "seed " << kSeed << ", round " << round;
  }
}

TEST(Diff, TouchesEachVipOnceRemovalsFirstAdditionsLast) {
  Random random{kSeed};
  const auto rank = [](OperationKind kind) {
    return kind == OperationKind::kRemoveVip ? 0 : kind == OperationKind::kAddVip ? 2 : 1;
  };
  for (int round = 0; round < 200; ++round) {
    const auto operations = diff_vips(random_vips(random), random_vips(random));
    std::vector<VipKey> keys;
    for (const Operation& operation : operations)
      keys.push_back(operation.key());
    std::ranges::sort(keys);
    EXPECT_EQ(std::ranges::adjacent_find(keys), keys.end()) << "seed " << kSeed;
    EXPECT_TRUE(std::ranges::is_sorted(
        operations, {}, [&](const Operation& operation) { return rank(operation.kind); }))
        << "seed " << kSeed << ", round " << round;
  }
}

TEST(Diff, RebuildsAVipOnlyWhenItsModeOrHashChanges) {
  const Vip before = vip_at(1);
  Vip heavier = before;
  heavier.backends.push_back({});
  Vip larger = before;
  larger.table_size = 251;
  Vip other_mode = before;
  other_mode.mode = ForwardMode::kL2;
  EXPECT_EQ(diff_vips({before}, {heavier})[0].kind, OperationKind::kUpdateVip);
  EXPECT_EQ(diff_vips({before}, {larger})[0].kind, OperationKind::kUpdateVip);
  EXPECT_EQ(diff_vips({before}, {other_mode})[0].kind, OperationKind::kReplaceVip);
  EXPECT_EQ(diff_vips({before}, {other_mode})[0].text(), "replace vip 203.0.113.1:80/tcp");
  Vip other_hash = before;
  other_hash.hash = HashPolicy::kSourceIp;
  EXPECT_EQ(diff_vips({before}, {other_hash})[0].kind, OperationKind::kReplaceVip);
}

TEST(Diff, UpdatesInPlaceWhatRunningFlowsSurvive) {
  const Vip before = vip_at(1);
  const auto changed = [&](auto change) {
    Vip after = before;
    change(after);
    const auto operations = diff_vips({before}, {after});
    return operations.size() == 1 && operations[0].kind == OperationKind::kUpdateVip;
  };
  EXPECT_TRUE(changed([](Vip& vip) { vip.name = "other"; }));
  EXPECT_TRUE(changed([](Vip& vip) { vip.gue_port = wire::Port{6081}; }));
  EXPECT_TRUE(changed([](Vip& vip) { vip.snat = Snat::kNever; }));
  EXPECT_TRUE(changed([](Vip& vip) { vip.when_empty = WhenEmpty::kDrop; }));
  EXPECT_TRUE(changed([](Vip& vip) { vip.affinity_timeout_s = 60; }));
  EXPECT_TRUE(changed([](Vip& vip) { vip.sources.deny = {{vip.address, 32}}; }));
  EXPECT_TRUE(changed([](Vip& vip) { vip.limits.packets = 1; }));
  EXPECT_TRUE(changed([](Vip& vip) { vip.quic.server_id_bytes = 1; }));
}

TEST(Diff, TakesAnotherPrefixOrRangeForAnotherVip) {
  const Vip single = vip_at(0);
  Vip prefix = single;
  prefix.prefix_length = 96 + 24;
  Vip range = single;
  range.ports = PortRange::any();
  for (const Vip& other : {prefix, range}) {
    const auto operations = diff_vips({single}, {other});
    ASSERT_EQ(operations.size(), 2U);
    EXPECT_EQ(operations[0].kind, OperationKind::kRemoveVip);
    EXPECT_EQ(operations[1].kind, OperationKind::kAddVip);
  }
}

TEST(NodeChanges, AreOneSentenceEach) {
  const NodeSettings before;
  EXPECT_TRUE(node_changes(before, before).empty());
  NodeSettings after;
  after.block_list = {{wire::IpAddress::v4(10, 0, 0, 0), 8}, {wire::IpAddress::v4(11, 0, 0, 0), 8}};
  after.icmp.echo = false;
  after.l4.flows_max = 0;
  after.l4.nat_flows_max = 1024;
  after.l4.snat_addresses = {wire::IpAddress::v4(192, 0, 2, 1)};
  const std::vector<std::string> expected{
      "block list: 2 prefixes more, 0 fewer", "ICMP answers: echo off, 1000 per second",
      "flow table: 0 entries instead of 262144, at the next load",
      "NAT table: 1024 records instead of 65536, at the next load",
      "source NAT: ports 10000-29999 of 192.0.2.1"};
  EXPECT_EQ(node_changes(before, after), expected);
  NodeSettings other = after;
  other.block_list = {{wire::IpAddress::v4(11, 0, 0, 0), 8}, {wire::IpAddress::v4(12, 0, 0, 0), 8}};
  EXPECT_EQ(node_changes(after, other),
            std::vector<std::string>{"block list: 1 prefixes more, 1 fewer"});
}

}  // namespace
}  // namespace weir::control
