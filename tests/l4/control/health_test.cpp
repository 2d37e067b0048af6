#include "l4/control/health.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace weir::control {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr Instant kStart{seconds{1000}};

HealthCheck check_of(std::uint32_t rise, std::uint32_t fall) {
  HealthCheck check;
  check.interval_ms = 1000;
  check.rise = rise;
  check.fall = fall;
  return check;
}

/// One backend, probed once a second: '+' is a success, '-' a failure.
struct Probed {
  HealthCheck check;
  BackendHealth health;
  Instant now = kStart;

  Probed(const HealthCheck& given, HealthState begun_in) : check{given}, health{begun_in, kStart} {}

  /// The state after each result: 'c', 'u' or 'd'.
  std::string after(std::string_view results) {
    std::string states;
    for (const char result : results) {
      now += milliseconds{check.interval_ms};
      const HealthState before = health.state();
      const bool changed = health.on_result(check, {result == '+', "reason", seconds{0}}, now);
      EXPECT_EQ(changed, before != health.state());
      states += text_of(health.state()).substr(0, 1) == "u" ? 'u'
                : health.state() == HealthState::kDown      ? 'd'
                                                            : 'c';
    }
    return states;
  }
};

struct Case {
  const char* name;
  HealthState begun_in;
  std::uint32_t rise;
  std::uint32_t fall;
  std::string_view results;
  std::string_view states;
};

class HealthOf : public ::testing::TestWithParam<Case> {};

TEST_P(HealthOf, GoesThroughTheseStates) {
  const Case& c = GetParam();
  Probed probed{check_of(c.rise, c.fall), c.begun_in};
  EXPECT_EQ(probed.after(c.results), c.states);
}

constexpr auto kChecking = HealthState::kChecking;
constexpr auto kUp = HealthState::kUp;
constexpr auto kDown = HealthState::kDown;

INSTANTIATE_TEST_SUITE_P(
    , HealthOf,
    ::testing::Values(
        Case{"ANewBackendIsUpAfterRiseSuccesses", kChecking, 2, 3, "++", "cu"},
        Case{"ANewBackendIsDownAfterFallFailures", kChecking, 2, 3, "---", "ccd"},
        Case{"ANewBackendThatIsUnsureStaysUnknown", kChecking, 2, 2, "+-+-+-", "cccccc"},
        Case{"AFailureBeginsTheRowAnew", kChecking, 3, 3, "++-+++", "cccccu"},
        Case{"OneThatIsUpTakesFewerFailuresThanFall", kUp, 2, 3, "--+--+", "uuuuuu"},
        Case{"OneThatIsUpGoesDownAfterFallFailures", kUp, 2, 3, "---", "uud"},
        Case{"OneThatIsDownComesUpAfterRiseSuccesses", kDown, 2, 3, "-+-++", "ddddu"},
        Case{"WithRiseAndFallOfOneEveryResultDecides", kChecking, 1, 1, "+-+-", "udud"}),
    [](const auto& test) { return std::string{test.param.name}; });

TEST(Health, StandsByTheLastResultAndSinceWhen) {
  Probed probed{check_of(1, 2), kUp};
  EXPECT_FALSE(probed.health.was_asked());
  probed.after("-");
  EXPECT_TRUE(probed.health.was_asked());
  EXPECT_EQ(probed.health.last().reason, "reason");
  EXPECT_EQ(probed.health.streak(), 1U);
  EXPECT_EQ(probed.health.since(), kStart);
  probed.after("-");
  EXPECT_EQ(probed.health.since(), kStart + seconds{2});
}

TEST(Health, FlowsStayWithABackendThatIsDownUntilTheGraceIsOver) {
  Probed probed{check_of(1, 1), kUp};
  probed.check.grace_ms = 5000;
  probed.after("-");
  const Instant down = probed.now;
  EXPECT_TRUE(probed.health.keeps_flows(probed.check, down));
  EXPECT_EQ(probed.health.next_event(probed.check, down), down + seconds{5});
  EXPECT_TRUE(probed.health.keeps_flows(probed.check, down + milliseconds{4999}));
  EXPECT_FALSE(probed.health.keeps_flows(probed.check, down + seconds{5}));
  EXPECT_EQ(probed.health.next_event(probed.check, down + seconds{5}), kNever);
}

TEST(Health, WithoutGraceFlowsMoveAtOnce) {
  Probed probed{check_of(1, 1), kUp};
  probed.check.grace_ms = 0;
  probed.after("-");
  EXPECT_FALSE(probed.health.keeps_flows(probed.check, probed.now));
  EXPECT_EQ(probed.health.next_event(probed.check, probed.now), kNever);
}

TEST(Health, ABackendThatCameBackReachesItsShareInTenSteps) {
  Probed probed{check_of(1, 1), kDown};
  probed.check.slow_start_ms = 30'000;
  EXPECT_EQ(probed.health.share(probed.check, probed.now), 0U);
  probed.after("+");
  Instant now = probed.now;
  for (std::uint32_t step = 1; step < BackendHealth::kFullShare; ++step) {
    EXPECT_EQ(probed.health.share(probed.check, now), step);
    const Instant next = probed.health.next_event(probed.check, now);
    EXPECT_EQ(next, probed.now + seconds{3} * step);
    EXPECT_EQ(probed.health.share(probed.check, next - milliseconds{1}), step);
    now = next;
  }
  EXPECT_EQ(probed.health.share(probed.check, now), BackendHealth::kFullShare);
  EXPECT_EQ(probed.health.next_event(probed.check, now), kNever);
}

TEST(Health, ABackendThatTookTrafficAlreadyHasItsWholeShare) {
  Probed probed{check_of(1, 1), kUp};
  probed.check.slow_start_ms = 30'000;
  EXPECT_EQ(probed.health.share(probed.check, kStart), BackendHealth::kFullShare);
}

/// Goes down and comes up as soon as it may; how long it was down each time.
std::vector<Duration> times_down(Probed& probed, int times) {
  std::vector<Duration> downs;
  for (int i = 0; i < times; ++i) {
    probed.after("-");
    EXPECT_EQ(probed.health.state(), kDown);
    const Instant down = probed.now;
    for (int tries = 0; tries < 2000 && probed.health.state() == kDown; ++tries)
      probed.after("+");
    downs.push_back(probed.now - down);
  }
  return downs;
}

TEST(Health, WhatFlapsStaysDownTwiceAsLongWithEachFurtherTime) {
  Probed probed{check_of(1, 1), kUp};
  probed.check.flaps_max = 3;
  EXPECT_EQ(times_down(probed, 6), (std::vector<Duration>{seconds{1}, seconds{1}, seconds{2},
                                                          seconds{4}, seconds{8}, seconds{16}}));
}

TEST(Health, NothingIsHeldForLongerThanTenMinutes) {
  Probed probed{check_of(1, 1), kUp};
  probed.check.flaps_max = 1;
  const std::vector<Duration> downs = times_down(probed, 15);
  EXPECT_EQ(downs.back(), minutes{10}) << "the hold before is no pardon";
  EXPECT_EQ(*std::ranges::max_element(downs), minutes{10});
}

TEST(Health, TimesDownOfLongAgoAreForgiven) {
  Probed probed{check_of(1, 1), kUp};
  probed.check.flaps_max = 3;
  times_down(probed, 4);
  probed.now += minutes{11};
  EXPECT_EQ(times_down(probed, 2), (std::vector<Duration>{seconds{1}, seconds{1}}));
}

TEST(Health, WithoutDampeningFlapsAreNotCounted) {
  Probed probed{check_of(1, 1), kUp};
  probed.check.flaps_max = 0;
  for (const Duration down : times_down(probed, 50))
    EXPECT_EQ(down, seconds{1});
}

TEST(Health, WhateverTheResultsAreATransitionTakesItsRow) {
  std::mt19937 random{20250728};  // fixed, so that a failure comes again
  for (int round = 0; round < 200; ++round) {
    const std::uint32_t rise = 1 + random() % 4;
    const std::uint32_t fall = 1 + random() % 4;
    Probed probed{check_of(rise, fall), random() % 2 == 0 ? kUp : kChecking};
    std::string results;
    HealthState before = probed.health.state();
    for (int i = 0; i < 300; ++i) {
      results += random() % 3 == 0 ? '-' : '+';
      probed.after(results.substr(results.size() - 1));
      const HealthState after = probed.health.state();
      if (after == before) continue;
      const bool is_up = after == kUp;
      const std::string row(is_up ? rise : fall, is_up ? '+' : '-');
      EXPECT_TRUE(results.ends_with(row)) << results;
      EXPECT_NE(after, kChecking);
      EXPECT_FALSE(is_up && probed.now < probed.health.held_until());
      before = after;
    }
  }
}

}  // namespace
}  // namespace weir::control
