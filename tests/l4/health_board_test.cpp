#include "l4/health_board.h"

#include <gtest/gtest.h>

namespace weir::l4 {
namespace {

using control::BackendState;
using control::HealthCheck;
using control::ProbeTarget;
using control::Vip;
using control::VipKey;
using std::chrono::seconds;

constexpr Instant kStart{seconds{1000}};

wire::IpAddress address(std::uint8_t last) { return wire::IpAddress::v4(10, 0, 2, last); }

Vip vip_of(std::uint8_t last, std::initializer_list<std::uint8_t> backends) {
  Vip vip;
  vip.address = wire::IpAddress::v4(203, 0, 113, last);
  vip.ports = control::PortRange::only(wire::Port{80});
  vip.health.emplace();
  vip.health->rise = 1;
  vip.health->fall = 1;
  vip.health->grace_ms = 5000;
  for (const std::uint8_t backend : backends)
    vip.backends.push_back({.name = {}, .address = address(backend), .port = {}});
  return vip;
}

using Installed = std::map<VipKey, InstalledVip>;

/// The kernel has them as they are wanted.
Installed installed_of(const std::vector<Vip>& vips) {
  Installed installed;
  for (const Vip& vip : vips) {
    InstalledVip& entry = installed[vip.key()];
    entry.vip = vip;
    for (const control::Backend& backend : vip.backends)
      entry.backends.push_back(
          {.backend = backend, .id = BackendId{1}, .slots = 1, .next_hop = {}});
  }
  return installed;
}

HealthBoard board_of(const std::vector<Vip>& wishes, const Installed& installed) {
  HealthBoard board;
  board.set_wishes(wishes, installed, kStart);
  return board;
}

/// The target of a backend of a VIP.
ProbeTarget target_of(const HealthBoard& board, const Vip& vip, std::uint8_t backend) {
  for (const ProbeTarget& target : board.targets())
    if (target.vip == vip.address && target.backend == address(backend)) return target;
  ADD_FAILURE() << "there is no such target";
  return {};
}

control::ProbeResult result_of(const ProbeTarget& target, bool is_success) {
  return {.id = target.id, .is_success = is_success, .reason = "reason", .took = seconds{1}};
}

TEST(HealthBoard, VipsWithoutACheckArePassedThrough) {
  Vip plain = vip_of(1, {1, 2});
  plain.health.reset();
  const HealthBoard board = board_of({plain}, {});
  EXPECT_EQ(board.effective({plain}, kStart), (std::vector{plain}));
  EXPECT_EQ(board.find(plain.key()), nullptr);
  EXPECT_TRUE(board.targets().empty());
  EXPECT_EQ(board.next_event(), kNever);
}

TEST(HealthBoard, EveryBackendOfACheckedVipIsATarget) {
  Vip nat = vip_of(2, {1, 2});
  nat.mode = control::ForwardMode::kNat;
  nat.backends[0].port = wire::Port{8080};
  Vip icmp = vip_of(3, {1});
  icmp.health->kind = control::ProbeKind::kIcmp;
  Vip other_port = vip_of(4, {1});
  other_port.health->port = wire::Port{9000};
  const HealthBoard board = board_of({nat, icmp, other_port}, {});
  EXPECT_EQ(board.targets().size(), 4U);
  EXPECT_EQ(target_of(board, nat, 1).port, wire::Port{8080});
  EXPECT_EQ(target_of(board, nat, 2).port, wire::Port{80});
  EXPECT_EQ(target_of(board, icmp, 1).port, wire::Port{0});
  EXPECT_EQ(target_of(board, other_port, 1).port, wire::Port{9000});
  EXPECT_EQ(target_of(board, nat, 1).check, *nat.health);
}

TEST(HealthBoard, HowATargetIsReachedIsAskedFor) {
  const Vip vip = vip_of(1, {1, 2});
  const HealthBoard board = board_of({vip}, {});
  const auto targets = board.targets(
      [](const Vip&, ProbeTarget& target) { target.mark = target.backend.bytes[15]; });
  ASSERT_EQ(targets.size(), 2U);
  EXPECT_EQ(targets[0].mark, 1U);
  EXPECT_EQ(targets[1].mark, 2U);
}

TEST(HealthBoard, SeveralResultsOfAVipAreOneChange) {
  const Vip one = vip_of(1, {1, 2, 3});
  const Vip other = vip_of(2, {1});
  HealthBoard board = board_of({one, other}, installed_of({one, other}));
  EXPECT_TRUE(board.take_due(kStart).empty());
  board.take_results(
      {result_of(target_of(board, one, 1), false), result_of(target_of(board, other, 1), true),
       result_of(target_of(board, one, 2), false)},
      kStart);
  EXPECT_EQ(board.next_event(), Instant{});
  const std::vector<Vip> due = board.take_due(kStart);
  ASSERT_EQ(due.size(), 1U);
  EXPECT_EQ(due[0].key(), one.key());
  EXPECT_EQ(due[0].backends[0].state, BackendState::kDraining);
  EXPECT_EQ(due[0].backends[1].state, BackendState::kDraining);
  EXPECT_EQ(due[0].backends[2].state, BackendState::kActive);
  EXPECT_TRUE(board.take_due(kStart).empty());
  EXPECT_EQ(board.effective({one}, kStart), due);
}

TEST(HealthBoard, TimeAloneMakesAChangeWhenTheGraceIsOver) {
  const Vip vip = vip_of(1, {1, 2});
  HealthBoard board = board_of({vip}, installed_of({vip}));
  board.take_results({result_of(target_of(board, vip, 1), false)}, kStart);
  (void)board.take_due(kStart);
  EXPECT_EQ(board.next_event(), kStart + seconds{5});
  EXPECT_TRUE(board.take_due(kStart + seconds{4}).empty());
  const std::vector<Vip> due = board.take_due(kStart + seconds{5});
  ASSERT_EQ(due.size(), 1U);
  EXPECT_EQ(due[0].backends.size(), 1U);
  EXPECT_EQ(board.next_event(), kNever);
}

TEST(HealthBoard, ResultsOfTargetsThatAreGoneArePassedOver) {
  const Vip vip = vip_of(1, {1, 2});
  HealthBoard board = board_of({vip}, installed_of({vip}));
  const ProbeTarget gone = target_of(board, vip, 1);
  const ProbeTarget of_the_old_check = target_of(board, vip, 2);
  Vip next = vip_of(1, {2});
  next.health->port = wire::Port{81};
  board.set_wishes({next}, installed_of({vip}), kStart);
  board.take_results({result_of(gone, false), result_of(of_the_old_check, false)}, kStart);
  EXPECT_TRUE(board.take_due(kStart).empty());
  board.set_wishes({}, {}, kStart);
  board.take_results({result_of(target_of(board_of({next}, {}), next, 2), false)}, kStart);
  EXPECT_TRUE(board.take_due(kStart).empty());
}

TEST(HealthBoard, TargetsThatStayKeepTheirIds) {
  const Vip vip = vip_of(1, {1, 2});
  HealthBoard board = board_of({vip}, {});
  EXPECT_TRUE(board.take_targets_changed());
  EXPECT_FALSE(board.take_targets_changed());
  const std::uint64_t before = target_of(board, vip, 1).id;
  board.set_wishes({vip}, {}, kStart);
  EXPECT_FALSE(board.take_targets_changed()) << "nothing has changed";
  Vip next = vip_of(1, {1, 3});
  next.backends[0].weight = 7;
  board.set_wishes({next}, {}, kStart);
  EXPECT_TRUE(board.take_targets_changed());
  EXPECT_EQ(target_of(board, next, 1).id, before);
}

TEST(HealthBoard, WhatIsKnownOutlivesAChangeOfTheVip) {
  const Vip vip = vip_of(1, {1, 2});
  HealthBoard board = board_of({vip}, installed_of({vip}));
  board.take_results({result_of(target_of(board, vip, 1), false)}, kStart);
  Vip next = vip;
  next.name = "another";
  board.set_wishes({next}, installed_of({next}), kStart);
  EXPECT_EQ(board.effective({next}, kStart)[0].backends[0].state, BackendState::kDraining);
}

TEST(HealthBoard, AfterARestartTheKernelsStateHolds) {
  const Vip vip = vip_of(1, {1, 2, 3});
  Vip pinned = vip_of(1, {1, 2});
  pinned.backends[1].state = BackendState::kDraining;
  HealthBoard board = board_of({vip}, installed_of({pinned}));
  Vip expected = vip;
  expected.backends[1].state = BackendState::kDraining;
  expected.backends[2].state = BackendState::kDraining;
  EXPECT_EQ(board.effective({vip}, kStart), (std::vector{expected}));
}

TEST(HealthBoard, CountsWhatIsWrong) {
  Vip open = vip_of(1, {1, 2});
  open.health->fail_open_percent = 50;
  const Vip empty = vip_of(2, {1});
  const Vip fresh = vip_of(3, {1});
  Vip unchecked = vip_of(4, {1});
  unchecked.health.reset();
  HealthBoard board =
      board_of({open, empty, fresh, unchecked}, installed_of({open, empty, unchecked}));
  board.take_results(
      {result_of(target_of(board, open, 1), false), result_of(target_of(board, open, 2), false),
       result_of(target_of(board, empty, 1), false)},
      kStart);
  const HealthBoard::Summary summary = board.summary();
  EXPECT_EQ(summary.vips_checked, 3U);
  EXPECT_EQ(summary.backends_checked, 4U);
  EXPECT_EQ(summary.backends_down, 3U);
  EXPECT_EQ(summary.backends_checking, 1U);
  EXPECT_EQ(summary.vips_open, 1U);
  EXPECT_EQ(summary.vips_empty, 2U);
}

TEST(LineBudget, RefusesWhatIsTooMuchForASecondAndCountsIt) {
  LineBudget budget;
  for (std::uint32_t i = 0; i < LineBudget::kLinesPerSecond; ++i)
    EXPECT_TRUE(budget.take(kStart));
  EXPECT_FALSE(budget.take(kStart));
  EXPECT_FALSE(budget.take(kStart + std::chrono::milliseconds{999}));
  EXPECT_EQ(budget.take_refused(kStart), 0U) << "the second is not over";
  EXPECT_EQ(budget.take_refused(kStart + seconds{1}), 2U);
  EXPECT_EQ(budget.take_refused(kStart + seconds{1}), 0U);
  EXPECT_TRUE(budget.take(kStart + seconds{1}));
}

}  // namespace
}  // namespace weir::l4
