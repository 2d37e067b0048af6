#include "l7/tcp/recovery.h"

#include <gtest/gtest.h>

#include "l7/tcp/congestion.h"
#include "l7/tcp/rtt.h"

namespace weir::tcp {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kFloor = milliseconds{200};

TEST(RttEstimator, BeforeASampleTheTimeOutIsOneSecondAndDoublesToItsLimit) {
  RttEstimator rtt{kFloor};
  EXPECT_EQ(rtt.timeout(), seconds{1});
  rtt.back_off();
  EXPECT_EQ(rtt.timeout(), seconds{2});
  for (int i = 0; i < 100; ++i)
    rtt.back_off();
  EXPECT_EQ(rtt.timeout(), seconds{60});
}

TEST(RttEstimator, TheFirstSampleGivesThreeTimesItself) {
  RttEstimator rtt{kFloor};
  rtt.sample(milliseconds{300});
  EXPECT_EQ(rtt.smoothed(), milliseconds{300});
  EXPECT_EQ(rtt.timeout(), milliseconds{900});  // 300 + 4 * 150
}

TEST(RttEstimator, LaterSamplesMoveItByTheGainsOfTheRfc) {
  RttEstimator rtt{kFloor};
  rtt.sample(milliseconds{400});
  rtt.sample(milliseconds{480});
  // RTTVAR = 3/4 * 200 + 1/4 * 80 = 170, SRTT = 7/8 * 400 + 1/8 * 480 = 410
  EXPECT_EQ(rtt.smoothed(), milliseconds{410});
  EXPECT_EQ(rtt.timeout(), milliseconds{410 + 4 * 170});
}

TEST(RttEstimator, TheFloorHoldsAndASampleEndsTheBackoff) {
  RttEstimator rtt{kFloor};
  for (int i = 0; i < 50; ++i)
    rtt.sample(milliseconds{1});
  EXPECT_EQ(rtt.timeout(), kFloor);
  rtt.back_off();
  rtt.back_off();
  EXPECT_EQ(rtt.timeout(), 4 * kFloor);
  rtt.sample(milliseconds{1});
  EXPECT_EQ(rtt.timeout(), kFloor);
}

TEST(RttEstimator, ALostSynMeansThreeSecondsUntilTheFirstSample) {
  RttEstimator rtt{kFloor};
  rtt.back_off();
  rtt.syn_was_lost();
  EXPECT_EQ(rtt.timeout(), seconds{3});
  rtt.sample(milliseconds{100});
  EXPECT_EQ(rtt.timeout(), milliseconds{300});
}

TEST(Recovery, TheThirdDuplicateRetransmitsAndOnlyANewerPointDoesSoAgain) {
  Recovery recovery;
  const Seq una{0xfffffff0};
  const Seq max = una + 10'000;
  EXPECT_EQ(recovery.on_duplicate_ack(una, max), Recovery::Action::kSendNew);
  EXPECT_EQ(recovery.extra_segments(), 1U);
  EXPECT_EQ(recovery.on_duplicate_ack(una, max), Recovery::Action::kSendNew);
  EXPECT_EQ(recovery.extra_segments(), 2U);
  EXPECT_EQ(recovery.on_duplicate_ack(una, max), Recovery::Action::kRetransmit);
  EXPECT_TRUE(recovery.active());
  EXPECT_EQ(recovery.extra_segments(), 0U);
  EXPECT_EQ(recovery.on_duplicate_ack(una, max), Recovery::Action::kSendNew);

  EXPECT_EQ(recovery.on_new_ack(una + 1000), Recovery::Progress::kFirstPartial);
  EXPECT_EQ(recovery.on_new_ack(una + 2000), Recovery::Progress::kPartial);
  EXPECT_EQ(recovery.on_new_ack(max), Recovery::Progress::kFinished);
  EXPECT_FALSE(recovery.active());

  // Exactly at the point: these may be echoes of our own retransmissions.
  for (int i = 0; i < 4; ++i)
    EXPECT_EQ(recovery.on_duplicate_ack(max, max + 5000), Recovery::Action::kNone);
  EXPECT_EQ(recovery.on_new_ack(max + 1000), Recovery::Progress::kNormal);
  recovery.on_duplicate_ack(max + 1000, max + 5000);
  recovery.on_duplicate_ack(max + 1000, max + 5000);
  EXPECT_EQ(recovery.on_duplicate_ack(max + 1000, max + 5000), Recovery::Action::kRetransmit);
}

TEST(Congestion, SlowStartDoublesAndAvoidanceAddsOneSegmentForEachWindow) {
  Congestion congestion;
  congestion.start(1000, 0);
  EXPECT_EQ(congestion.window(), 10'000U);
  for (int i = 0; i < 5; ++i)
    congestion.on_ack(2000, congestion.window());
  EXPECT_EQ(congestion.window(), 20'000U);
  congestion.enter_recovery(20'000);
  EXPECT_EQ(congestion.threshold(), 10'000U);
  EXPECT_EQ(congestion.window(), 13'000U);
  congestion.leave_recovery(20'000);
  EXPECT_EQ(congestion.window(), 10'000U);
  for (int i = 0; i < 9; ++i)
    congestion.on_ack(1000, congestion.window());
  EXPECT_EQ(congestion.window(), 10'000U);
  congestion.on_ack(1000, congestion.window());
  EXPECT_EQ(congestion.window(), 11'000U);
}

TEST(Congestion, AWindowThatIsNotUsedDoesNotGrow) {
  Congestion congestion;
  congestion.start(1000, 0);
  for (int i = 0; i < 100; ++i)
    congestion.on_ack(1000, 1000);
  EXPECT_EQ(congestion.window(), 10'000U);
}

TEST(Congestion, ARowOfTimeOutsHalvesOnlyOnce) {
  Congestion congestion;
  congestion.start(1000, 0);
  congestion.on_timeout(10'000, true);
  EXPECT_EQ(congestion.window(), 1000U);
  EXPECT_EQ(congestion.threshold(), 5000U);
  congestion.on_timeout(1000, false);
  EXPECT_EQ(congestion.threshold(), 5000U);
}

TEST(Congestion, AfterTwoLostSynsItStartsWithOneSegment) {
  Congestion once;
  once.start(1000, 1);
  EXPECT_EQ(once.window(), 10'000U);
  Congestion twice;
  twice.start(1000, 2);
  EXPECT_EQ(twice.window(), 1000U);
}

}  // namespace
}  // namespace weir::tcp
