#include "l7/tcp/congestion.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "l4/base/random.h"

namespace weir::tcp {
namespace {

using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using Algorithm = CongestionAlgorithm;

constexpr std::uint32_t kMss = 1000;
constexpr std::uint32_t kInfinite = UINT32_MAX;
constexpr Algorithm kAlgorithms[] = {Algorithm::kCubic, Algorithm::kNewReno};

CongestionControl started(Algorithm algorithm, std::uint32_t mss = kMss) {
  CongestionControl control;
  control.start(algorithm, mss, 0);
  return control;
}

/// The ACK of a sender that fills its window; no sample, so HyStart++ sees nothing.
CongestionControl::Ack ack_of(std::uint32_t bytes) {
  return {.acked = bytes,
          .window_limited = true,
          .rtt = {},
          .smoothed_rtt = milliseconds{100},
          .now = Instant{seconds{1000}},
          .round_started = false};
}

CongestionControl::Ack unused(CongestionControl::Ack ack) {
  ack.window_limited = false;
  return ack;
}

std::uint32_t growth_by(CongestionControl& control, const CongestionControl::Ack& ack) {
  const std::uint32_t before = control.window();
  control.on_ack(ack);
  EXPECT_GE(control.window(), before);
  return control.window() - before;
}

/// In its first slow start, with exactly this window.
CongestionControl grown_to(Algorithm algorithm, std::uint32_t window, std::uint32_t mss = kMss) {
  CongestionControl control = started(algorithm, mss);
  while (control.window() < window)
    control.on_ack(ack_of(std::min(8 * mss, window - control.window())));
  EXPECT_EQ(control.window(), window);
  return control;
}

void lose(CongestionControl& control) {
  control.on_congestion(control.window());
  control.set_window_in_recovery(control.threshold());
  control.leave_recovery();
}

/// A sender that always fills its window, on a path without a queue.
struct Flow {
  CongestionControl& control;
  Duration rtt;
  Instant now{seconds{1000}};

  void round(unsigned acks = 20) {
    for (unsigned i = 1; i <= acks; ++i) {
      now += rtt / acks;
      control.on_ack({.acked = control.window() / acks,
                      .window_limited = true,
                      .rtt = rtt,
                      .smoothed_rtt = rtt,
                      .now = now,
                      .round_started = i == acks});
    }
  }
};

// --- start -----------------------------------------------------------------------------------

TEST(CongestionControl, TheInitialWindowIsTenSegmentsWithinTheLimitsOfRfc6928) {
  struct Case {
    std::uint32_t mss;
    std::uint32_t window;
  };
  for (const Case& c : {Case{536, 5360}, Case{1460, 14600}, Case{1461, 14600}, Case{7300, 14600},
                        Case{9000, 18000}, Case{65535, 131070}}) {
    const CongestionControl control = started(Algorithm::kCubic, c.mss);
    EXPECT_EQ(control.window(), c.window) << c.mss;
    EXPECT_EQ(control.threshold(), kInfinite);
    EXPECT_TRUE(control.in_slow_start());
    EXPECT_FALSE(control.can_undo());
  }
}

TEST(CongestionControl, AfterASecondLostSynItStartsWithOneSegment) {
  for (const unsigned lost : {0U, 1U, 2U, 6U}) {
    CongestionControl control;
    control.start(Algorithm::kCubic, kMss, lost);
    EXPECT_EQ(control.window(), lost > 1 ? kMss : 10 * kMss) << lost;
  }
}

TEST(CongestionControl, StartForgetsAnEarlierLife) {
  CongestionControl control = grown_to(Algorithm::kCubic, 100 * kMss);
  lose(control);
  control.start(Algorithm::kNewReno, kMss, 0);
  EXPECT_EQ(control.window(), 10 * kMss);
  EXPECT_EQ(control.threshold(), kInfinite);
  EXPECT_FALSE(control.can_undo());
}

// --- slow start ------------------------------------------------------------------------------

TEST(CongestionControl, SlowStartAddsWhatIsAcknowledgedUpToALimitForEachAck) {
  for (const Algorithm algorithm : kAlgorithms) {
    CongestionControl first = started(algorithm);
    EXPECT_EQ(growth_by(first, ack_of(300)), 300U);
    EXPECT_EQ(growth_by(first, ack_of(50 * kMss)), 8 * kMss);  // RFC 9406, section 4.3: L

    CongestionControl after_idle = grown_to(algorithm, 100 * kMss);
    lose(after_idle);
    after_idle.on_idle(seconds{2}, seconds{1});
    ASSERT_TRUE(after_idle.in_slow_start());
    EXPECT_EQ(growth_by(after_idle, ack_of(kMss)), kMss);
    EXPECT_EQ(growth_by(after_idle, ack_of(50 * kMss)), 2 * kMss);  // RFC 3465, section 2.2

    CongestionControl after_timeout = grown_to(algorithm, 100 * kMss);
    after_timeout.on_timeout(100 * kMss, true);
    EXPECT_EQ(growth_by(after_timeout, ack_of(50 * kMss)), kMss);  // RFC 3465, section 2.3
  }
}

TEST(CongestionControl, TheLimitOfASegmentForEachAckEndsWithTheSlowStartAfterATimeOut) {
  CongestionControl control = started(Algorithm::kNewReno);
  control.on_timeout(20 * kMss, true);
  while (control.in_slow_start())
    control.on_ack(ack_of(kMss));
  control.on_ack(ack_of(kMss));
  control.on_idle(seconds{2}, seconds{1});
  ASSERT_FALSE(control.in_slow_start());  // five segments are less than a restart would give
  for (int i = 0; i < 300; ++i)
    control.on_ack(ack_of(control.window()));
  control.on_idle(seconds{2}, seconds{1});
  ASSERT_TRUE(control.in_slow_start());
  EXPECT_EQ(growth_by(control, ack_of(50 * kMss)), 2 * kMss);
}

TEST(CongestionControl, TheLimitOfASegmentForEachAckEndsWithALoss) {
  CongestionControl control = grown_to(Algorithm::kCubic, 200 * kMss);
  control.on_timeout(200 * kMss, true);
  while (control.window() < 100 * kMss)
    control.on_ack(ack_of(kMss));
  lose(control);
  control.on_idle(seconds{2}, seconds{1});
  ASSERT_TRUE(control.in_slow_start());
  EXPECT_EQ(growth_by(control, ack_of(50 * kMss)), 2 * kMss);
}

TEST(CongestionControl, SlowStartEndsExactlyAtTheThreshold) {
  for (const Algorithm algorithm : kAlgorithms) {
    CongestionControl control = grown_to(algorithm, 101 * kMss);
    control.on_timeout(101 * kMss, true);
    const std::uint32_t threshold = control.threshold();
    ASSERT_NE(threshold % kMss, 0U);
    while (control.in_slow_start())
      control.on_ack(ack_of(2 * kMss));
    EXPECT_EQ(control.window(), threshold);
  }
}

TEST(CongestionControl, AWindowThatIsNotUsedGrowsNowhere) {
  for (const Algorithm algorithm : kAlgorithms) {
    CongestionControl slow_start = started(algorithm);
    CongestionControl avoidance = grown_to(algorithm, 50 * kMss);
    lose(avoidance);
    CongestionControl::Ack ack = unused(ack_of(10 * kMss));
    for (int i = 0; i < 1000; ++i) {
      ack.now += milliseconds{100};
      EXPECT_EQ(growth_by(slow_start, ack), 0U);
      EXPECT_EQ(growth_by(avoidance, ack), 0U);
    }
  }
}

TEST(CongestionControl, TheWindowStopsAtTheLargestThatTcpCanOffer) {
  CongestionControl control = started(Algorithm::kCubic, 65535);
  for (int i = 0; i < 3000; ++i)
    control.on_ack(ack_of(control.window()));
  EXPECT_EQ(control.window(), CongestionControl::kWindowMax);
  lose(control);
  Flow flow{control, seconds{1}};
  for (int i = 0; i < 60; ++i)
    flow.round();
  EXPECT_EQ(control.window(), CongestionControl::kWindowMax);
}

// --- HyStart++, RFC 9406 ---------------------------------------------------------------------

/// A round trip of ten ACKs, or as many as are given, with this delay.
void round_trip(CongestionControl& control, Duration rtt, unsigned acks = 10) {
  for (unsigned i = 1; i <= acks; ++i) {
    CongestionControl::Ack ack = ack_of(kMss);
    ack.rtt = rtt;
    ack.round_started = i == acks;
    control.on_ack(ack);
  }
}

/// Tells the two slow starts apart by how fast they grow.
bool conservative(CongestionControl& control) {
  const std::uint32_t growth = growth_by(control, ack_of(4 * kMss));
  EXPECT_TRUE(growth == 4 * kMss || growth == kMss) << growth;
  return growth == kMss;
}

/// In conservative slow start, at the very end of a round: one of its five is over.
CongestionControl slowed_down(Algorithm algorithm = Algorithm::kCubic) {
  CongestionControl control = started(algorithm);
  round_trip(control, milliseconds{80});
  round_trip(control, milliseconds{95});
  EXPECT_TRUE(conservative(control));
  return control;
}

TEST(HyStart, SlowStartSlowsDownWhenTheRoundTripHasRisenByAnEighthWithinItsLimits) {
  struct Case {
    Duration before;
    Duration rise;
  };
  for (const Case& c :
       {Case{microseconds{50}, milliseconds{4}}, Case{milliseconds{8}, milliseconds{4}},
        Case{milliseconds{32}, milliseconds{4}}, Case{milliseconds{80}, milliseconds{10}},
        Case{milliseconds{128}, milliseconds{16}}, Case{seconds{2}, milliseconds{16}}}) {
    CongestionControl just_below = started(Algorithm::kCubic);
    round_trip(just_below, c.before);
    round_trip(just_below, c.before + c.rise - microseconds{1});
    EXPECT_FALSE(conservative(just_below)) << c.before.count();
    CongestionControl reached = started(Algorithm::kNewReno);
    round_trip(reached, c.before);
    round_trip(reached, c.before + c.rise);
    EXPECT_TRUE(conservative(reached)) << c.before.count();
    EXPECT_EQ(reached.threshold(), kInfinite);
  }
}

TEST(HyStart, EightSamplesOfARoundAreNeeded) {
  CongestionControl seven = started(Algorithm::kCubic);
  round_trip(seven, milliseconds{80});
  round_trip(seven, milliseconds{200}, 7);
  EXPECT_FALSE(conservative(seven));
  CongestionControl eight = started(Algorithm::kCubic);
  round_trip(eight, milliseconds{80});
  round_trip(eight, milliseconds{200}, 8);
  EXPECT_TRUE(conservative(eight));
}

TEST(HyStart, AcksWithoutASampleDoNotCount) {
  CongestionControl control = started(Algorithm::kCubic);
  round_trip(control, milliseconds{80});
  round_trip(control, Duration::zero(), 100);
  round_trip(control, milliseconds{200});  // after a round of which nothing is known
  EXPECT_FALSE(conservative(control));
}

TEST(HyStart, TheSmallestSampleOfARoundCounts) {
  CongestionControl control = started(Algorithm::kCubic);
  round_trip(control, milliseconds{80});
  CongestionControl::Ack quick = ack_of(kMss);
  quick.rtt = milliseconds{85};
  control.on_ack(quick);
  round_trip(control, milliseconds{200});
  EXPECT_FALSE(conservative(control));
}

TEST(HyStart, AfterFiveRoundsTheWindowBecomesTheThreshold) {
  for (const Algorithm algorithm : kAlgorithms) {
    CongestionControl control = slowed_down(algorithm);
    for (int i = 0; i < 3; ++i)
      round_trip(control, milliseconds{95});
    EXPECT_EQ(control.threshold(), kInfinite);
    round_trip(control, milliseconds{95});
    EXPECT_EQ(control.threshold(), control.window());
    EXPECT_FALSE(control.in_slow_start());
    control.on_idle(seconds{2}, seconds{1});
    EXPECT_EQ(growth_by(control, ack_of(50 * kMss)), 2 * kMss);  // an ordinary slow start
  }
}

TEST(HyStart, ConservativeSlowStartGrowsByAQuarter) {
  CongestionControl control = slowed_down();
  EXPECT_EQ(growth_by(control, ack_of(kMss)), kMss / 4);
  EXPECT_EQ(growth_by(control, ack_of(50 * kMss)), 8 * kMss / 4);
}

TEST(HyStart, WhenTheDelayFallsAgainSlowStartGoesOn) {
  CongestionControl control = slowed_down();
  round_trip(control, milliseconds{95});
  EXPECT_TRUE(conservative(control));  // not below where it began
  round_trip(control, milliseconds{94}, 7);
  EXPECT_TRUE(conservative(control));  // too few samples
  round_trip(control, milliseconds{94}, 8);
  EXPECT_FALSE(conservative(control));
  EXPECT_EQ(control.threshold(), kInfinite);
  // The next time it begins with five rounds again.
  round_trip(control, milliseconds{120});
  EXPECT_TRUE(conservative(control));
  for (int i = 0; i < 3; ++i)
    round_trip(control, milliseconds{120});
  EXPECT_TRUE(control.in_slow_start());
  round_trip(control, milliseconds{120});
  EXPECT_FALSE(control.in_slow_start());
}

TEST(HyStart, InALongRoundTheLastSampleCountsLikeTheFirst) {
  CongestionControl control = slowed_down();
  CongestionControl::Ack ack = ack_of(kMss);
  ack.rtt = milliseconds{95};
  for (int i = 0; i < 16; ++i)
    control.on_ack(ack);
  EXPECT_TRUE(conservative(control));
  ack.rtt = milliseconds{94};
  control.on_ack(ack);
  EXPECT_FALSE(conservative(control));
}

TEST(HyStart, OnlyTheFirstSlowStartIsWatched) {
  CongestionControl control = grown_to(Algorithm::kCubic, 1000 * kMss);
  control.on_timeout(1000 * kMss, true);
  const std::uint32_t threshold = control.threshold();
  round_trip(control, milliseconds{20});
  for (int i = 0; i < 10; ++i)
    round_trip(control, milliseconds{100});
  EXPECT_EQ(control.window(), 111 * kMss);  // one segment for each ACK
  EXPECT_EQ(control.threshold(), threshold);
}

TEST(HyStart, AfterAPauseDelayIsMeasuredAnew) {
  CongestionControl control = slowed_down();
  control.on_idle(seconds{2}, seconds{1});
  EXPECT_EQ(control.window(), 10 * kMss);
  EXPECT_EQ(control.threshold(), kInfinite);
  EXPECT_FALSE(conservative(control));
  round_trip(control, milliseconds{200});
  EXPECT_FALSE(conservative(control));
}

// --- NewReno ---------------------------------------------------------------------------------

TEST(NewReno, AvoidanceAddsOneSegmentForEachWindowOfBytes) {
  CongestionControl control = grown_to(Algorithm::kNewReno, 20 * kMss);
  lose(control);
  ASSERT_EQ(control.window(), 10 * kMss);
  EXPECT_EQ(growth_by(control, ack_of(9 * kMss)), 0U);
  EXPECT_EQ(growth_by(control, ack_of(999)), 0U);
  EXPECT_EQ(growth_by(control, ack_of(1)), kMss);
  EXPECT_EQ(growth_by(control, ack_of(7 * kMss)), 0U);
  EXPECT_EQ(growth_by(control, ack_of(6 * kMss)), kMss);  // two more than were needed
  EXPECT_EQ(growth_by(control, ack_of(10 * kMss)), kMss);
  EXPECT_EQ(growth_by(control, ack_of(kInfinite)), kMss);  // however much one ACK covers
  EXPECT_EQ(growth_by(control, ack_of(kMss)), 0U);
}

TEST(NewReno, CongestionHalvesWhatWasInFlightButLeavesTwoSegments) {
  struct Case {
    std::uint32_t in_flight;
    std::uint32_t threshold;
  };
  for (const Case& c : {Case{100 * kMss, 50 * kMss}, Case{30 * kMss, 15 * kMss},
                        Case{3 * kMss, 2 * kMss}, Case{0, 2 * kMss}}) {
    CongestionControl loss = grown_to(Algorithm::kNewReno, 100 * kMss);
    loss.on_congestion(c.in_flight);
    EXPECT_EQ(loss.threshold(), c.threshold) << c.in_flight;
    CongestionControl timeout = grown_to(Algorithm::kNewReno, 100 * kMss);
    timeout.on_timeout(c.in_flight, true);
    EXPECT_EQ(timeout.threshold(), c.threshold) << c.in_flight;
  }
}

// --- recovery and time-outs ------------------------------------------------------------------

TEST(CongestionControl, InRecoveryTheWindowIsTheCallersAndAcksDoNotMoveIt) {
  for (const Algorithm algorithm : kAlgorithms) {
    CongestionControl control = grown_to(algorithm, 100 * kMss);
    control.set_window_in_recovery(kMss);  // there is none yet
    control.leave_recovery();
    EXPECT_EQ(control.window(), 100 * kMss);
    control.on_congestion(100 * kMss);
    EXPECT_EQ(control.window(), 100 * kMss);
    EXPECT_FALSE(control.in_slow_start());
    control.set_window_in_recovery(40 * kMss);
    EXPECT_EQ(growth_by(control, ack_of(10 * kMss)), 0U);
    EXPECT_EQ(control.window(), 40 * kMss);
    EXPECT_FALSE(control.in_slow_start());
    control.set_window_in_recovery(0);
    EXPECT_EQ(control.window(), kMss);
    control.set_window_in_recovery(kInfinite);
    EXPECT_EQ(control.window(), CongestionControl::kWindowMax);
    control.on_idle(seconds{10}, seconds{1});
    EXPECT_EQ(control.window(), CongestionControl::kWindowMax);
    control.leave_recovery();
    EXPECT_EQ(control.window(), control.threshold());
    EXPECT_FALSE(control.in_slow_start());
  }
}

TEST(CongestionControl, ATimeOutLeavesOneSegmentAndARowOfThemReducesOnce) {
  for (const Algorithm algorithm : kAlgorithms) {
    const std::uint32_t reduced = algorithm == Algorithm::kCubic ? 70 * kMss : 50 * kMss;
    CongestionControl control = grown_to(algorithm, 100 * kMss);
    control.on_timeout(100 * kMss, true);
    EXPECT_EQ(control.window(), kMss);
    EXPECT_EQ(control.threshold(), reduced);
    control.on_ack(ack_of(kMss));
    control.on_timeout(kMss, false);
    EXPECT_EQ(control.window(), kMss);
    EXPECT_EQ(control.threshold(), reduced);  // RFC 5681, section 3.1
    EXPECT_TRUE(control.in_slow_start());
    control.leave_recovery();  // of which the time-out was the end
    EXPECT_EQ(control.window(), kMss);
  }
}

TEST(CongestionControl, ATimeOutInRecoveryReducesFromWhereRecoveryWouldHaveEnded) {
  CongestionControl control = grown_to(Algorithm::kCubic, 100 * kMss);
  control.on_congestion(100 * kMss);
  control.set_window_in_recovery(4 * kMss);  // PRR after heavy loss
  control.on_timeout(100 * kMss, true);
  EXPECT_EQ(control.threshold(), 49 * kMss);  // RFC 5681, section 4.3: lowered twice
  control.leave_recovery();
  EXPECT_EQ(control.window(), kMss);
  EXPECT_EQ(growth_by(control, ack_of(kMss)), kMss);
}

TEST(CongestionControl, CongestionNeverEndsInALargerWindowThanItBeganWith) {
  CongestionControl control = grown_to(Algorithm::kCubic, 100 * kMss);
  control.on_timeout(100 * kMss, true);
  for (int i = 0; i < 9; ++i)
    control.on_ack(ack_of(kMss));
  control.on_congestion(100 * kMss);  // what was sent before the time-out is not yet acknowledged
  control.leave_recovery();
  EXPECT_EQ(control.window(), 7 * kMss);
}

TEST(CongestionControl, MarksBringTheWindowDownToOneSegmentAndLossesToTwo) {
  for (const Algorithm algorithm : kAlgorithms) {
    CongestionControl marked = started(algorithm);
    CongestionControl lossy = started(algorithm);
    for (int i = 0; i < 12; ++i) {
      marked.on_congestion(marked.window(), CongestionSignal::kEcnEcho);
      marked.leave_recovery();
      lose(lossy);
    }
    EXPECT_EQ(marked.window(), kMss);  // RFC 9438, section 4.6; RFC 3168, section 6.1.2
    EXPECT_EQ(marked.threshold(), 2 * kMss);
    EXPECT_EQ(lossy.window(), 2 * kMss);
    EXPECT_EQ(lossy.threshold(), 2 * kMss);
  }
}

// --- CUBIC, RFC 9438 -------------------------------------------------------------------------

/// What the window should be, in segments, t seconds after avoidance began: section 4.2 and 4.3 in
/// closed form. A sender that fills its window has it acknowledged once in a round trip, which
/// makes the Reno-friendly window a straight line, with a knee where it reaches the old window.
struct Curve {
  double start;  // cwnd_epoch
  double w_max;
  double prior;  // cwnd_prior
  double rtt;

  [[nodiscard]] double k() const { return std::cbrt((w_max - start) / 0.4); }
  [[nodiscard]] double cubic(double t) const { return 0.4 * std::pow(t - k(), 3) + w_max; }
  [[nodiscard]] double reno(double t) const {
    const double alpha = 3 * (1 - 0.7) / (1 + 0.7);
    const double knee = std::max(0.0, (prior - start) * rtt / alpha);
    return start + std::min(t, knee) * alpha / rtt + std::max(0.0, t - knee) / rtt;
  }
  [[nodiscard]] double window(double t) const { return std::max(cubic(t), reno(t)); }
};

/// Lets the flow run for this long and holds it against the curve after each round trip.
void expect_curve(CongestionControl& control, const Curve& curve, double seconds_long,
                  const std::string& what) {
  Flow flow{control, nanoseconds{static_cast<std::int64_t>(curve.rtt * 1e9)}};
  const Instant epoch = flow.now + flow.rtt / 20;  // the first ACK
  double worst = 0;
  double worst_at = 0;
  for (double t = 0; t < seconds_long;) {
    flow.round();
    t = std::chrono::duration<double>(flow.now - epoch).count();
    const double error = control.window() * 1.0 / kMss - curve.window(t);
    if (std::abs(error) / (0.01 * curve.window(t) + 0.6) > std::abs(worst)) {
      worst = error / (0.01 * curve.window(t) + 0.6);
      worst_at = t;
    }
  }
  // One per cent and half a segment: a round trip's delay between the curve and what follows it.
  EXPECT_LE(std::abs(worst), 1) << what << " W_max " << curve.w_max << " rtt " << curve.rtt
                                << ", worst at " << worst_at << " s of K " << curve.k();
}

TEST(Cubic, TheWindowFollowsTheCurveOrRenoAfterALoss) {
  for (const std::uint32_t segments : {20U, 100U, 500U, 2000U, 10'000U}) {
    for (const double rtt : {0.001, 0.01, 0.05, 0.1, 0.3}) {
      CongestionControl control = grown_to(Algorithm::kCubic, segments * kMss);
      lose(control);
      EXPECT_EQ(control.window(), segments * kMss / 10 * 7);  // section 4.6
      const Curve curve{0.7 * segments, 1.0 * segments, 1.0 * segments, rtt};
      expect_curve(control, curve, std::min(2.2 * curve.k(), 500 * rtt), "after a loss");
    }
  }
}

TEST(Cubic, OnAShortPathItIsRenoWithAlphaUntilTheOldWindowAndThenOneSegmentForEachRoundTrip) {
  CongestionControl control = grown_to(Algorithm::kCubic, 100 * kMss);
  lose(control);
  Flow flow{control, milliseconds{1}};
  for (int i = 0; i < 34; ++i)
    flow.round();
  EXPECT_NEAR(control.window(), (70 + 34 * 9 / 17) * kMss, kMss / 10);  // section 4.3: 9/17
  while (control.window() < 100 * kMss)
    flow.round();
  const std::uint32_t before = control.window();
  for (int i = 0; i < 20; ++i)
    flow.round();
  EXPECT_NEAR(control.window() - before, 20 * kMss, kMss / 10);
}

TEST(Cubic, ALossBelowTheLastPlateauMakesTheNextPlateauLower) {
  CongestionControl control = grown_to(Algorithm::kCubic, 4000 * kMss);
  lose(control);
  lose(control);  // at 2800 segments: section 4.7, W_max = 2800 * (1 + 0.7) / 2
  EXPECT_EQ(control.window(), 1960 * kMss);
  const Curve curve{1960, 2380, 2800, 0.1};
  expect_curve(control, curve, 2.2 * curve.k(), "fast convergence");
}

TEST(Cubic, ALossAboveTheLastPlateauRemembersTheWholeWindow) {
  CongestionControl control = grown_to(Algorithm::kCubic, 1000 * kMss);
  lose(control);
  Flow flow{control, milliseconds{100}};
  while (control.window() < 1200 * kMss)
    flow.round();
  const double window = control.window() * 1.0 / kMss;
  lose(control);
  const Curve curve{0.7 * window, window, window, 0.1};
  expect_curve(control, curve, 2 * curve.k(), "convex");
}

TEST(Cubic, AfterATimeOutItProbesFromWhereSlowStartEnds) {
  CongestionControl control = grown_to(Algorithm::kCubic, 2000 * kMss);
  lose(control);
  control.on_ack(ack_of(kMss));  // on another curve
  control.on_timeout(1400 * kMss, true);
  while (control.in_slow_start())
    control.on_ack(ack_of(kMss));
  ASSERT_EQ(control.window(), 980 * kMss);
  expect_curve(control, Curve{980, 980, 1400, 0.1}, 15, "after a time-out");  // section 4.8
}

TEST(Cubic, AWindowBeyondTheOldPlateauProbesFromWhereItIsAfterAPause) {
  CongestionControl control = grown_to(Algorithm::kCubic, 500 * kMss);
  lose(control);
  Flow flow{control, milliseconds{100}};
  while (control.window() < 900 * kMss)
    flow.round();
  control.on_idle(seconds{2}, seconds{1});
  while (control.in_slow_start())
    control.on_ack(ack_of(2 * kMss));
  const double window = control.window() * 1.0 / kMss;
  ASSERT_GT(window, 600);
  expect_curve(control, Curve{window, window, 500, 0.1}, 15, "after a pause");
}

TEST(Cubic, WhichRegionItIsInIsSaidByTheCurveOfNowNotByItsTarget) {
  CongestionControl control = grown_to(Algorithm::kCubic, 20 * kMss);
  lose(control);
  CongestionControl::Ack ack = ack_of(kMss);
  ack.smoothed_rtt = seconds{1};
  // The target is 18.7 segments, but the curve still begins at 14, and Reno has just left it:
  // section 4.3. 9/17 of 1/14 of a segment.
  EXPECT_EQ(growth_by(control, ack), 37U);
}

TEST(Cubic, ManySmallAcksAddWhatFewLargeOnesDo) {
  CongestionControl few = grown_to(Algorithm::kCubic, 2000 * kMss);
  lose(few);
  CongestionControl many = few;
  Flow few_flow{few, milliseconds{100}};
  Flow many_flow{many, milliseconds{100}};
  for (int i = 0; i < 2; ++i) {
    few_flow.round(1000);
    many_flow.round(10'000);  // 140 bytes: no more than two bytes' growth each
  }
  const std::uint32_t growth = few.window() - 1400 * kMss;
  EXPECT_NEAR(many.window() - 1400 * kMss, growth, growth / 50);
}

TEST(Cubic, OneAckCountsForNoMoreThanAWindow) {
  CongestionControl control = grown_to(Algorithm::kCubic, 20 * kMss);
  lose(control);
  CongestionControl::Ack ack = ack_of(kInfinite);
  ack.smoothed_rtt = seconds{30};
  control.on_ack(ack);
  ack.now += seconds{30};
  const std::uint32_t before = control.window();
  EXPECT_EQ(growth_by(control, ack), before / 2);
}

TEST(Cubic, OnASlowPathTimeGoesByWholeRoundTrips) {
  CongestionControl control = grown_to(Algorithm::kCubic, 2000 * kMss);
  lose(control);
  const Curve curve{1400, 2000, 2000, 3};
  CongestionControl::Ack ack = ack_of(kInfinite);  // a window at once, which reaches the target
  ack.smoothed_rtt = seconds{3};
  for (int t = 0; t < 30; t += 3) {
    control.on_ack(ack);
    ack.now += seconds{3};
    // At first the curve is where it begins, and Reno ahead of it.
    EXPECT_NEAR(control.window() * 1.0 / kMss, t == 0 ? 1400.5 : curve.cubic(t + 3), 0.1) << t;
  }
}

TEST(Cubic, ALossInTheSlowStartAfterATimeOutIsALossLikeAnyOther) {
  CongestionControl control = grown_to(Algorithm::kCubic, 1000 * kMss);
  control.on_timeout(1000 * kMss, true);
  while (control.window() < 400 * kMss)
    control.on_ack(ack_of(kMss));
  lose(control);
  const Curve curve{280, 400, 400, 0.1};
  expect_curve(control, curve, 2 * curve.k(), "slow start");
}

TEST(Cubic, AfterHyStartItProbesFromWhereSlowStartEnds) {
  CongestionControl control = grown_to(Algorithm::kCubic, 500 * kMss);
  round_trip(control, milliseconds{80});
  for (int i = 0; i < 6; ++i)
    round_trip(control, milliseconds{95});
  ASSERT_FALSE(control.in_slow_start());
  const double window = control.window() * 1.0 / kMss;
  expect_curve(control, Curve{window, window, window, 0.1}, 15, "after HyStart++");  // section 4.10
}

TEST(Cubic, TheWindowNeverGrowsByMoreThanHalfInARoundTrip) {
  CongestionControl control = grown_to(Algorithm::kCubic, 20 * kMss);
  lose(control);
  Flow flow{control, seconds{30}};  // the curve is far ahead after each of them
  for (int i = 0; i < 8; ++i) {
    const std::uint32_t before = control.window();
    for (int ack = 0; ack < 10; ++ack) {
      flow.now += seconds{3};
      CongestionControl::Ack tenth = ack_of(before / 10);
      tenth.now = flow.now;
      tenth.smoothed_rtt = flow.rtt;
      control.on_ack(tenth);
    }
    // Section 4.2: the target is 1.5 times the window of the moment.
    EXPECT_LE(control.window(), before * 1.501) << i;
    EXPECT_GE(control.window(), before * 1.2) << i;
  }
}

TEST(Cubic, TimeStandsStillWhileTheWindowIsNotInUse) {
  CongestionControl steady = grown_to(Algorithm::kCubic, 2000 * kMss);
  lose(steady);
  CongestionControl limited = steady;
  CongestionControl idle = steady;
  Flow flow{steady, milliseconds{100}};
  Flow limited_flow{limited, milliseconds{100}};
  Flow idle_flow{idle, milliseconds{100}};
  for (int i = 0; i < 150; ++i) {
    flow.round();
    limited_flow.round();
    for (int j = 0; j < 50; ++j) {  // section 5.8
      limited_flow.now += milliseconds{7};
      CongestionControl::Ack ack = unused(ack_of(kMss));
      ack.now = limited_flow.now;
      limited.on_ack(ack);
    }
    idle_flow.round();
    idle_flow.now += milliseconds{190};
    idle.on_idle(milliseconds{190}, milliseconds{200});  // section 4.2
    ASSERT_EQ(limited.window(), steady.window()) << i;
    ASSERT_EQ(idle.window(), steady.window()) << i;
  }
  EXPECT_GT(steady.window(), 2000 * kMss);
}

TEST(Cubic, AClockThatJumpsMovesTheCurveByASecondAtMostAndNeverBack) {
  CongestionControl steady = grown_to(Algorithm::kCubic, 2000 * kMss);
  lose(steady);
  Flow flow{steady, milliseconds{100}};
  flow.round();
  CongestionControl waited = steady;
  CongestionControl forward = steady;
  CongestionControl back = steady;
  Flow waiting_flow{waited, flow.rtt, flow.now + seconds{1}};
  Flow forward_flow{forward, flow.rtt, flow.now + hours{500}};
  Flow back_flow{back, flow.rtt, Instant{seconds{3}}};
  for (int i = 0; i < 20; ++i) {
    flow.round();
    waiting_flow.round();
    forward_flow.round();
    back_flow.round();
  }
  EXPECT_GT(waited.window(), steady.window() + 40 * kMss);
  EXPECT_NEAR(forward.window(), waited.window(), 2 * kMss);
  EXPECT_NEAR(back.window(), steady.window(), 2 * kMss);
}

TEST(Cubic, AcksCloserThanAMicrosecondStillAddUp) {
  CongestionControl control = grown_to(Algorithm::kCubic, 1'000'000 * kMss);
  lose(control);
  Flow flow{control, milliseconds{4}};
  for (int i = 0; i < 3; ++i)
    flow.round(10'000);  // 400 ns
  const Curve curve{700'000, 1'000'000, 1'000'000, 0.004};
  EXPECT_NEAR(control.window() * 1.0 / kMss - 700'000, curve.cubic(0.012) - 700'000, 5);
}

TEST(Cubic, WithoutARoundTripTimeItGrowsAllTheSame) {
  CongestionControl control = grown_to(Algorithm::kCubic, 100 * kMss);
  lose(control);
  CongestionControl::Ack ack = ack_of(kMss);
  ack.smoothed_rtt = {};
  for (int i = 0; i < 1000; ++i) {
    ack.now += microseconds{10};
    control.on_ack(ack);
  }
  EXPECT_GT(control.window(), 75 * kMss);
  EXPECT_LT(control.window(), 85 * kMss);
}

// --- undo, RFC 9438, section 4.9 ---------------------------------------------------------------

TEST(Undo, AFalseLossIsTakenBackOnce) {
  for (const Algorithm algorithm : kAlgorithms) {
    CongestionControl control = grown_to(algorithm, 100 * kMss);
    lose(control);
    const std::uint32_t threshold = control.threshold();
    const std::uint32_t window = control.window();
    control.on_congestion(window);
    control.set_window_in_recovery(20 * kMss);
    ASSERT_TRUE(control.can_undo());
    control.undo();
    EXPECT_EQ(control.window(), window);
    EXPECT_EQ(control.threshold(), threshold);
    EXPECT_FALSE(control.can_undo());
    control.leave_recovery();  // which undo() has ended
    control.undo();
    EXPECT_EQ(control.window(), window);
    EXPECT_EQ(control.threshold(), threshold);
  }
}

TEST(Undo, ALossThatIsDeniedBeforeTheWindowHasMovedIsTakenBackToo) {
  CongestionControl control = grown_to(Algorithm::kCubic, 100 * kMss);
  control.on_congestion(100 * kMss);
  control.undo();
  EXPECT_EQ(control.window(), 100 * kMss);
  EXPECT_EQ(control.threshold(), kInfinite);
  EXPECT_TRUE(control.in_slow_start());
}

TEST(Undo, AFalseTimeOutIsTakenBackAfterTheWholeRowOfThem) {
  for (const Algorithm algorithm : kAlgorithms) {
    CongestionControl control = grown_to(algorithm, 100 * kMss);
    control.on_timeout(100 * kMss, true);
    control.on_timeout(kMss, false);
    control.on_ack(ack_of(kMss));
    control.undo();
    EXPECT_EQ(control.window(), 100 * kMss);
    EXPECT_EQ(control.threshold(), kInfinite);
    EXPECT_EQ(growth_by(control, ack_of(50 * kMss)), 8 * kMss);  // the first slow start goes on
  }
}

TEST(Undo, AFalseReductionLeavesNoTraceInTheCurve) {
  struct Case {
    std::uint32_t segments;
    Duration rtt;
  };
  for (const Case& c : {Case{2000, milliseconds{100}}, Case{100, milliseconds{1}}}) {
    CongestionControl steady = grown_to(Algorithm::kCubic, c.segments * kMss);
    lose(steady);
    Flow flow{steady, c.rtt};
    for (int i = 0; i < 30; ++i)
      flow.round();
    CongestionControl disturbed = steady;
    lose(disturbed);
    disturbed.undo();
    CongestionControl timed_out = steady;
    timed_out.on_timeout(timed_out.window(), true);
    timed_out.undo();
    CongestionControl late = steady;
    lose(late);
    CongestionControl::Ack ack = ack_of(kMss);
    ack.now = flow.now;
    late.on_ack(ack);  // begins another curve
    late.undo();
    Flow disturbed_flow{disturbed, flow.rtt, flow.now};
    Flow timed_out_flow{timed_out, flow.rtt, flow.now};
    Flow late_flow{late, flow.rtt, flow.now};
    for (int i = 0; i < 100; ++i) {
      flow.round();
      disturbed_flow.round();
      timed_out_flow.round();
      late_flow.round();
      ASSERT_NEAR(disturbed.window(), steady.window(), 2) << i;  // a fraction of a byte is lost
      ASSERT_NEAR(timed_out.window(), steady.window(), 2) << i;
      ASSERT_NEAR(late.window(), steady.window(), 2) << i;
    }
  }
}

TEST(Undo, AFalseLossInTheSlowStartAfterATimeOutLeadsBackIntoIt) {
  CongestionControl control = grown_to(Algorithm::kCubic, 2000 * kMss);
  lose(control);
  control.on_timeout(1400 * kMss, true);
  while (control.window() < 400 * kMss)
    control.on_ack(ack_of(kMss));
  control.on_congestion(400 * kMss);
  control.undo();
  EXPECT_EQ(growth_by(control, ack_of(50 * kMss)), kMss);
  while (control.in_slow_start())
    control.on_ack(ack_of(kMss));
  expect_curve(control, Curve{980, 980, 1400, 0.1}, 15, "after a time-out");
}

TEST(Undo, DelaysFromBeforeAFalseTimeOutAreNotComparedWithThoseAfterIt) {
  CongestionControl control = started(Algorithm::kCubic);
  round_trip(control, milliseconds{80});
  control.on_timeout(control.window(), true);
  control.undo();
  round_trip(control, milliseconds{200});
  EXPECT_FALSE(conservative(control));
}

TEST(Undo, WhenTheWindowHasOutgrownTheOldOneTheNewerValuesStay) {
  CongestionControl control = grown_to(Algorithm::kCubic, 100 * kMss);
  lose(control);
  Flow flow{control, milliseconds{100}};
  while (control.window() < 110 * kMss)
    flow.round();
  const std::uint32_t window = control.window();
  control.undo();
  EXPECT_EQ(control.window(), window);
  EXPECT_EQ(control.threshold(), 70 * kMss);
  EXPECT_FALSE(control.in_slow_start());
}

TEST(Undo, AMarkIsNeverTakenBack) {
  CongestionControl control = grown_to(Algorithm::kCubic, 100 * kMss);
  lose(control);
  control.on_congestion(control.window(), CongestionSignal::kEcnEcho);
  EXPECT_FALSE(control.can_undo());
  control.leave_recovery();
  control.undo();
  EXPECT_EQ(control.window(), 49 * kMss);
}

// --- pauses, segment size, pacing --------------------------------------------------------------

TEST(CongestionControl, AfterAPauseOfMoreThanATimeOutItRestartsFromTheInitialWindow) {
  for (const Algorithm algorithm : kAlgorithms) {
    CongestionControl control = grown_to(algorithm, 200 * kMss);
    lose(control);
    const std::uint32_t window = control.window();
    control.on_idle(seconds{1}, seconds{1});
    EXPECT_EQ(control.window(), window);  // RFC 5681, section 4.1: exceeding
    EXPECT_TRUE(control.can_undo());
    control.on_idle(seconds{1} + nanoseconds{1}, seconds{1});
    EXPECT_EQ(control.window(), 10 * kMss);
    EXPECT_EQ(control.threshold(), window);
    EXPECT_FALSE(control.can_undo());
    control.on_idle(Duration::max(), seconds{1});
    control.on_idle(Duration::min(), seconds{1});
    EXPECT_EQ(control.window(), 10 * kMss);
    EXPECT_EQ(control.threshold(), window);
  }
}

TEST(CongestionControl, ThreeQuartersOfAWindowThatWasInUseAreRememberedAcrossAPause) {
  CongestionControl control = grown_to(Algorithm::kNewReno, 40 * kMss);
  lose(control);
  while (control.window() < 100 * kMss)
    control.on_ack(ack_of(control.window()));
  control.on_idle(seconds{2}, seconds{1});
  EXPECT_EQ(control.threshold(), 75 * kMss);  // RFC 7661, section 4.4.3
}

TEST(CongestionControl, AWindowBelowTheInitialOneStaysInAPause) {
  CongestionControl control = started(Algorithm::kCubic);
  lose(control);
  control.on_idle(seconds{2}, seconds{1});
  EXPECT_EQ(control.window(), 7 * kMss);
  EXPECT_FALSE(control.in_slow_start());
}

TEST(CongestionControl, ASmallerSegmentKeepsTheNumberOfSegmentsAndALargerOneTheBytes) {
  CongestionControl control = started(Algorithm::kCubic, 1460);
  control.set_mss(1460);
  EXPECT_EQ(control.window(), 14600U);
  control.set_mss(536);  // RFC 5681, section 3.1
  EXPECT_EQ(control.window(), 5360U);
  control.set_mss(1460);
  EXPECT_EQ(control.window(), 5360U);
  control.set_mss(9000);
  EXPECT_EQ(control.window(), 9000U);
  control.on_timeout(9000, true);
  EXPECT_EQ(control.threshold(), 18'000U);
  control.set_mss(10'000);
  EXPECT_EQ(control.window(), 10'000U);
  EXPECT_EQ(control.threshold(), 20'000U);
}

TEST(CongestionControl, InRecoveryASmallerSegmentLeavesTheWindowToTheCaller) {
  CongestionControl control = grown_to(Algorithm::kCubic, 100 * kMss);
  control.on_congestion(100 * kMss);
  control.set_mss(500);
  EXPECT_EQ(control.window(), 100 * kMss);
}

TEST(Cubic, AfterAChangeOfSegmentSizeTheCurveStartsAnewFromTheWindow) {
  CongestionControl control = grown_to(Algorithm::kCubic, 2000 * kMss, kMss / 2);
  lose(control);
  Flow flow{control, milliseconds{100}};
  for (int i = 0; i < 30; ++i)
    flow.round();
  const double window = control.window() * 1.0 / kMss;
  control.set_mss(kMss);
  expect_curve(control, Curve{window, 2000, 2000, 0.1}, 15, "larger segments");
}

TEST(CongestionControl, ThePacingRateIsTwoWindowsInSlowStartAndOneAndAFifthLater) {
  struct Case {
    std::uint32_t window;
    Duration rtt;
    std::uint64_t slow_start;
    std::uint64_t avoidance;  // of seven tenths
  };
  const CongestionControl fresh = started(Algorithm::kCubic);
  EXPECT_EQ(fresh.pacing_rate_bytes_per_s(Duration::zero()), UINT64_MAX);
  EXPECT_EQ(fresh.pacing_rate_bytes_per_s(nanoseconds{-1}), UINT64_MAX);
  EXPECT_EQ(fresh.pacing_rate_bytes_per_s(Duration::max()), 1U);
  for (const Case& c :
       {Case{10 * kMss, seconds{1}, 20'000, 8'400},
        Case{10 * kMss, milliseconds{3}, 6'666'666, 2'800'000},
        Case{CongestionControl::kWindowMax, nanoseconds{1}, 2'147'483'648'000'000'000,
             // 0.7 * 2^30 is 751619276.8, of which the fraction is cut off
             901'943'131'200'000'000}}) {
    CongestionControl control =
        grown_to(Algorithm::kCubic, c.window, c.window > 65535 ? 65535 : kMss);
    EXPECT_EQ(control.pacing_rate_bytes_per_s(c.rtt), c.slow_start);
    control.on_congestion(control.window());
    control.set_window_in_recovery(control.threshold());
    EXPECT_EQ(control.pacing_rate_bytes_per_s(c.rtt), c.avoidance);
    control.leave_recovery();
    EXPECT_EQ(control.pacing_rate_bytes_per_s(c.rtt), c.avoidance);
  }
}

// --- whatever happens --------------------------------------------------------------------------

/// Any call with any argument, and what must hold after it.
class Chaos {
 public:
  explicit Chaos(std::uint64_t seed) : random_{seed} {
    control_.start(random_.chance(0.5) ? Algorithm::kCubic : Algorithm::kNewReno, mss_,
                   random_.below(4));
  }

  void step() {
    const std::uint32_t before = control_.window();
    const bool could_undo = control_.can_undo();
    const std::uint32_t what = random_.below(100);
    if (what < 80) {
      ack(before);
    } else if (what < 84) {
      congestion(before);
    } else if (what < 88) {
      control_.set_window_in_recovery(bytes());
    } else if (what < 91) {
      control_.leave_recovery();
    } else if (what < 93) {
      control_.on_timeout(bytes(), random_.chance(0.5));
      EXPECT_EQ(control_.window(), mss_);
    } else if (what < 95) {
      control_.undo();
      EXPECT_GE(control_.window(), before);
      EXPECT_FALSE(control_.can_undo());
      EXPECT_TRUE(could_undo || control_.window() == before);
    } else if (what < 98) {
      control_.on_idle(pause(), milliseconds{200});
      EXPECT_LE(control_.window(), before);
    } else {
      mss_ = 1 + random_.below(random_.chance(0.5) ? 65535 : 1500);
      control_.set_mss(mss_);
    }
    EXPECT_GE(control_.window(), mss_);
    EXPECT_LE(control_.window(), CongestionControl::kWindowMax);
    EXPECT_GE(control_.threshold(), 2 * mss_);
    EXPECT_GE(control_.pacing_rate_bytes_per_s(pause()), 1U);
  }

 private:
  void ack(std::uint32_t before) {
    const CongestionControl::Ack ack{.acked = bytes(),
                                     .window_limited = random_.chance(0.8),
                                     .rtt = random_.chance(0.2) ? Duration::zero() : pause(),
                                     .smoothed_rtt = pause(),
                                     .now = now_,
                                     .round_started = random_.chance(0.1)};
    now_ += pause() - (random_.chance(0.01) ? pause() : Duration::zero());
    control_.on_ack(ack);
    EXPECT_GE(control_.window(), before);
    // NewReno adds a whole segment with the last byte of a window.
    EXPECT_LE(control_.window() - before, std::max(ack.acked, mss_));
    EXPECT_TRUE(ack.window_limited || control_.window() == before);
  }

  void congestion(std::uint32_t before) {
    const auto signal = random_.chance(0.3) ? CongestionSignal::kEcnEcho : CongestionSignal::kLoss;
    control_.on_congestion(bytes(), signal);
    EXPECT_EQ(control_.window(), before);
    EXPECT_EQ(control_.can_undo(), signal == CongestionSignal::kLoss);
    EXPECT_FALSE(control_.in_slow_start());
  }

  std::uint32_t bytes() {
    return static_cast<std::uint32_t>(random_.next() >> (32 + random_.below(32)));
  }
  /// Nothing to some 300 hours.
  Duration pause() {
    return Duration{static_cast<std::int64_t>(random_.next() >> (14 + random_.below(50)))};
  }

  Random random_;
  CongestionControl control_;
  std::uint32_t mss_ = 1460;
  Instant now_{seconds{1000}};
};

TEST(CongestionControl, WhateverHappensTheWindowKeepsItsBoundsAndGrowsOnlyWhereItMay) {
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    Chaos chaos{seed};
    for (int step = 0; step < 500; ++step) {
      chaos.step();
      ASSERT_FALSE(HasFailure()) << "seed " << seed << " step " << step;
    }
  }
}

}  // namespace
}  // namespace weir::tcp
