#include "l4/control/vip_health.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace weir::control {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Instant kStart{seconds{1000}};

wire::IpAddress address(std::uint8_t last) { return wire::IpAddress::v4(10, 0, 2, last); }

Vip vip_of(std::initializer_list<std::uint8_t> backends) {
  Vip vip;
  vip.address = wire::IpAddress::v4(203, 0, 113, 1);
  vip.ports = PortRange::only(wire::Port{80});
  HealthCheck check;
  check.rise = 1;
  check.fall = 1;
  check.grace_ms = 10'000;
  vip.health = check;
  for (const std::uint8_t last : backends)
    vip.backends.push_back({.name = {}, .address = address(last), .port = {}});
  return vip;
}

Presence serving(const wire::IpAddress&) { return Presence::kServing; }
Presence absent(const wire::IpAddress&) { return Presence::kAbsent; }

VipHealth health_of(const Vip& vip, const VipHealth::PresenceOf& presence = serving) {
  VipHealth health;
  health.set_wish(vip, presence, kStart);
  return health;
}

void report(VipHealth& health, std::uint8_t last, bool is_success, Instant now) {
  health.on_result(address(last), {is_success, "", {}}, now);
}

/// "1:active*1 2:draining*1": last byte, state and weight of what is in the effective VIP.
std::string text_of(const Vip& vip) {
  std::string text;
  for (const Backend& backend : vip.backends) {
    text += fmt::format("{}{}:{}*{}", text.empty() ? "" : " ", backend.address.bytes[15],
                        control::text_of(backend.state), backend.weight);
  }
  return text;
}

TEST(VipHealth, ADaemonThatRestartsStopsNoTraffic) {
  const VipHealth health = health_of(vip_of({1, 2}));
  EXPECT_EQ(health.effective(kStart), vip_of({1, 2}));
}

TEST(VipHealth, ANewBackendTakesNoTrafficBeforeItHasShownThatItWorks) {
  VipHealth health = health_of(vip_of({1}));
  health.set_wish(vip_of({1, 2}), absent, kStart);
  EXPECT_EQ(text_of(health.effective(kStart)), "1:active*1 2:draining*1");
  report(health, 2, true, kStart);
  EXPECT_EQ(text_of(health.effective(kStart)), "1:active*1 2:active*1");
}

TEST(VipHealth, ACheckThatIsNewStopsNoTraffic) {
  Vip unchecked = vip_of({1, 2});
  unchecked.health.reset();
  VipHealth health = health_of(unchecked);
  health.set_wish(vip_of({1, 2}), serving, kStart);
  EXPECT_EQ(text_of(health.effective(kStart)), "1:active*1 2:active*1");
  report(health, 1, false, kStart);
  health.set_wish(unchecked, serving, kStart);
  EXPECT_EQ(health.effective(kStart), unchecked) << "without a check nothing is known";
}

TEST(VipHealth, ABackendThatIsDownLeavesAtOnceAndItsFlowsAfterTheGrace) {
  VipHealth health = health_of(vip_of({1, 2}));
  report(health, 1, false, kStart);
  EXPECT_EQ(text_of(health.effective(kStart)), "1:draining*1 2:active*1");
  EXPECT_EQ(health.next_event(kStart), kStart + seconds{10});
  EXPECT_EQ(text_of(health.effective(kStart + seconds{10})), "2:active*1");
  report(health, 1, true, kStart + seconds{20});
  EXPECT_EQ(text_of(health.effective(kStart + seconds{20})), "1:active*1 2:active*1");
}

TEST(VipHealth, TheTableKeepsItsSizeHoweverManyAreDown) {
  Vip vip = vip_of({});
  vip.health->grace_ms = 0;
  for (std::uint8_t last = 1; last <= 100; ++last)
    vip.backends.push_back({.name = {}, .address = address(last), .port = {}});
  VipHealth health = health_of(vip);
  for (std::uint8_t last = 2; last <= 100; ++last)
    report(health, last, false, kStart);
  const Vip effective = health.effective(kStart);
  EXPECT_EQ(effective.backends.size(), 1U);
  EXPECT_EQ(effective.slots(), vip.slots());
}

TEST(VipHealth, WhatPeopleWantIsNeverChanged) {
  VipHealth health = health_of(vip_of({1, 2}));
  report(health, 1, false, kStart);
  EXPECT_EQ(health.wish(), vip_of({1, 2}));
}

TEST(VipHealth, OperatorsStatesHoldWhateverTheHealth) {
  Vip vip = vip_of({1, 2, 3, 4});
  vip.backends[0].state = BackendState::kDraining;
  vip.backends[1].weight = 0;
  vip.backends[2].state = BackendState::kMaintenance;
  const VipHealth health = health_of(vip);
  EXPECT_EQ(text_of(health.effective(kStart)),
            "1:draining*1 2:active*0 3:maintenance*1 4:active*1");
}

TEST(VipHealth, ADrainingBackendThatGoesDownLosesItsFlowsAfterTheGrace) {
  Vip vip = vip_of({1, 2});
  vip.backends[0].state = BackendState::kDraining;
  VipHealth health = health_of(vip);
  report(health, 1, false, kStart);
  EXPECT_EQ(text_of(health.effective(kStart)), "1:draining*1 2:active*1");
  EXPECT_EQ(text_of(health.effective(kStart + seconds{10})), "2:active*1");
}

TEST(VipHealth, MaintenanceMovesFlowsAfterTheGraceAndProbesGoOn) {
  Vip vip = vip_of({1, 2});
  VipHealth health = health_of(vip);
  vip.backends[0].state = BackendState::kMaintenance;
  health.set_wish(vip, serving, kStart);
  EXPECT_EQ(health.next_event(kStart), kStart + seconds{10});
  EXPECT_EQ(text_of(health.effective(kStart + milliseconds{9999})), "1:maintenance*1 2:active*1");
  EXPECT_EQ(text_of(health.effective(kStart + seconds{10})), "2:active*1");
  report(health, 1, false, kStart + seconds{11});
  EXPECT_EQ(health.health_of(address(1))->state(), HealthState::kDown);
  report(health, 1, true, kStart + seconds{12});
  vip.backends[0].state = BackendState::kActive;
  health.set_wish(vip, absent, kStart + seconds{13});
  EXPECT_EQ(text_of(health.effective(kStart + seconds{13})), "1:active*1 2:active*1");
}

TEST(VipHealth, MaintenanceTakesNoCheck) {
  Vip vip = vip_of({1, 2});
  vip.health.reset();
  vip.backends[0].state = BackendState::kMaintenance;
  const VipHealth health = health_of(vip);
  EXPECT_EQ(health.next_event(kStart), kStart + milliseconds{kMaintenanceGraceMs});
  EXPECT_EQ(text_of(health.effective(kStart)), "1:maintenance*1 2:active*1");
  EXPECT_EQ(text_of(health.effective(kStart + milliseconds{kMaintenanceGraceMs})), "2:active*1");
}

TEST(VipHealth, ABackendWhoseFlowsWereMovedBeforeARestartStaysAway) {
  Vip vip = vip_of({1, 2});
  vip.backends[0].state = BackendState::kMaintenance;
  const VipHealth health = health_of(
      vip, [](const wire::IpAddress& a) { return a == address(1) ? absent(a) : serving(a); });
  EXPECT_EQ(text_of(health.effective(kStart)), "2:active*1");
  EXPECT_EQ(health.next_event(kStart), kNever);
}

struct OpenCase {
  const char* name;
  std::uint32_t percent;
  std::string_view health;  // of backends 1, 2, …: '+' up, '-' down, '?' not known
  bool is_open;
};

class FailOpen : public ::testing::TestWithParam<OpenCase> {};

TEST_P(FailOpen, GoesByTheShareOfBackendsThatAreUp) {
  const OpenCase& c = GetParam();
  Vip vip = vip_of({1, 2, 3, 4, 5});
  vip.health->fail_open_percent = c.percent;
  VipHealth health = health_of(vip, absent);
  for (std::size_t i = 0; i < c.health.size(); ++i) {
    if (c.health[i] != '?')
      report(health, static_cast<std::uint8_t>(i + 1), c.health[i] == '+', kStart);
  }
  EXPECT_EQ(health.fails_open(), c.is_open);
  const Instant later = kStart + seconds{100};  // the grace is over
  if (c.is_open) {
    EXPECT_EQ(health.effective(later), vip);
  } else {
    const auto up = static_cast<std::size_t>(std::ranges::count(c.health, '+'));
    const Vip effective = health.effective(later);
    EXPECT_EQ(static_cast<std::size_t>(
                  std::ranges::count(effective.backends, BackendState::kActive, &Backend::state)),
              up);
  }
}

INSTANTIATE_TEST_SUITE_P(, FailOpen,
                         ::testing::Values(OpenCase{"WithoutAThresholdNever", 0, "-----", false},
                                           OpenCase{"WithAllDown", 20, "-----", true},
                                           OpenCase{"NotAtTheThreshold", 20, "+----", false},
                                           OpenCase{"BelowTheThreshold", 50, "++---", true},
                                           OpenCase{"NotWhileNothingIsKnown", 100, "?????", false},
                                           OpenCase{"OfThoseThatAreKnown", 50, "+-???", false},
                                           OpenCase{"AtAHundredPercentWithTheFirstFailure", 100,
                                                    "++++-", true}),
                         [](const auto& test) { return std::string{test.param.name}; });

TEST(VipHealth, FailOpenLeavesOperatorsStatesAlone) {
  Vip vip = vip_of({1, 2, 3});
  vip.health->fail_open_percent = 100;
  vip.backends[0].state = BackendState::kDraining;
  VipHealth health = health_of(vip);
  report(health, 1, false, kStart);
  EXPECT_FALSE(health.fails_open()) << "one that drains takes no traffic anyway";
  report(health, 2, false, kStart);
  ASSERT_TRUE(health.fails_open());
  EXPECT_EQ(text_of(health.effective(kStart)), "1:draining*1 2:active*1 3:active*1");
}

TEST(VipHealth, SlowStartScalesTheOthersUp) {
  Vip vip = vip_of({1, 2});
  vip.health->slow_start_ms = 10'000;
  vip.backends[1].weight = 3;
  VipHealth health = health_of(vip);
  report(health, 1, false, kStart);
  report(health, 1, true, kStart + seconds{1});
  const Instant up = kStart + seconds{1};
  EXPECT_EQ(text_of(health.effective(up)), "1:active*1 2:active*30");
  EXPECT_EQ(health.next_event(up), up + seconds{1});
  EXPECT_EQ(text_of(health.effective(up + seconds{4})), "1:active*5 2:active*30");
  EXPECT_EQ(text_of(health.effective(up + seconds{10})), "1:active*1 2:active*3");
  EXPECT_EQ(health.next_event(up + seconds{10}), kNever);
}

TEST(VipHealth, WeightsStayWithinWhatATableTakes) {
  Vip vip = vip_of({1, 2});
  vip.health->slow_start_ms = 10'000;
  vip.backends[1].weight = kWeightMax;
  VipHealth health = health_of(vip);
  report(health, 1, false, kStart);
  report(health, 1, true, kStart);
  EXPECT_EQ(text_of(health.effective(kStart)), "1:active*1 2:active*10000");
}

TEST(VipHealth, WhateverHappensOnlyWantedBackendsThatAreUpOrOpenTakeTraffic) {
  std::mt19937 random{20250729};  // fixed, so that a failure comes again
  for (int round = 0; round < 100; ++round) {
    Vip vip = vip_of({1, 2, 3, 4, 5, 6});
    vip.health->fail_open_percent = random() % 3 == 0 ? 40 : 0;
    vip.health->slow_start_ms = random() % 2 == 0 ? 5'000 : 0;
    VipHealth health = health_of(vip, random() % 2 == 0 ? serving : absent);
    Instant now = kStart;
    for (int step = 0; step < 200; ++step) {
      now += milliseconds{random() % 3000};
      if (random() % 10 == 0) {
        vip.backends[random() % 6].state = static_cast<BackendState>(random() % 3);
        vip.backends[random() % 6].weight = random() % 3;
        health.set_wish(vip, absent, now);
      }
      report(health, static_cast<std::uint8_t>(1 + random() % 6), random() % 2 == 0, now);
      const Vip effective = health.effective(now);
      for (const Backend& backend : effective.backends) {
        const auto wanted = std::ranges::find(vip.backends, backend.address, &Backend::address);
        ASSERT_NE(wanted, vip.backends.end());
        EXPECT_EQ(backend.weight == 0, wanted->weight == 0);
        EXPECT_LE(backend.weight, kWeightMax);
        if (backend.state != BackendState::kActive || backend.weight == 0) continue;
        EXPECT_EQ(wanted->state, BackendState::kActive);
        EXPECT_TRUE(health.fails_open() ||
                    health.health_of(backend.address)->state() == HealthState::kUp);
      }
      // Nothing changes between two events.
      const Instant next = std::min(health.next_event(now), now + seconds{60});
      EXPECT_GT(next, now);
      EXPECT_EQ(health.effective(next - Duration{1}), effective);
    }
  }
}

}  // namespace
}  // namespace weir::control
