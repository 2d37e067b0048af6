#include <gtest/gtest.h>

#include <vector>

#include "l7/tcp/prr.h"
#include "l7/tcp/rack.h"
#include "l7/tcp/sent_list.h"

namespace weir::tcp {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr Seq kStart{0x7ffff000};
const Instant kEpoch{std::chrono::seconds{10}};
Instant at(int ms) { return kEpoch + milliseconds{ms}; }

// ---- RACK (RFC 8985, section 6.2)
// -----------------------------------------------------------------

class RackTest : public ::testing::Test {
 protected:
  /// Segment i, of 1000 bytes, leaves at i milliseconds.
  void send(int count) {
    for (int i = 0; i < count; ++i)
      list.push(kStart + static_cast<std::uint32_t>(1000 * i), 1000, at(i));
  }
  SentSegment& segment(int number) {
    SentSegment* found = list.first();
    while (found->start != kStart + static_cast<std::uint32_t>(1000 * number))
      found = found->by_sequence.next;
    return *found;
  }
  void sack(int number, int ms, bool before_repeat = false) {
    const auto start = kStart + static_cast<std::uint32_t>(1000 * number);
    list.sack(start, start + 1000, [&](const SentSegment& arrived) {
      rack.on_delivered(arrived, at(ms), kMinRtt, before_repeat);
    });
  }
  std::vector<int> lost() {
    std::vector<int> numbers;
    for (SentSegment* s = list.first(); s != nullptr; s = s->by_sequence.next)
      if (s->state == SentSegment::State::kLost)
        numbers.push_back(static_cast<int>(kStart.distance_to(s->start) / 1000));
    return numbers;
  }

  static constexpr Duration kMinRtt = milliseconds{40};
  SentPool pool{64};
  SentList list{pool};
  Rack rack;
};

TEST_F(RackTest, WhatWasSentBeforeTheDeliveredOneIsLostWhenTheWindowIsOver) {
  send(4);
  sack(2, 42);
  // Segment 0 left 2 ms before segment 2, so it may be as much late: until 40 ms after it left,
  // and the window of 10 ms.
  EXPECT_EQ(rack.detect(list, milliseconds{10}, at(42)), at(50));
  EXPECT_EQ(lost(), std::vector<int>{});
  EXPECT_EQ(rack.detect(list, milliseconds{10}, at(50)), at(51));
  EXPECT_EQ(lost(), std::vector<int>{0});
  EXPECT_EQ(rack.detect(list, milliseconds{10}, at(51)), kNever);
  EXPECT_EQ(lost(), (std::vector<int>{0, 1}));
}

TEST_F(RackTest, ALostRepetitionIsNoticed) {
  send(4);
  sack(1, 41);
  rack.detect(list, Duration{0}, at(41));
  ASSERT_EQ(lost(), std::vector<int>{0});
  list.sent_again(segment(0), at(41));
  list.push(kStart + 4000, 1000, at(42));
  sack(4, 82);
  rack.detect(list, Duration{0}, at(82));
  EXPECT_EQ(lost(), (std::vector<int>{0, 2, 3}));
}

TEST_F(RackTest, AnAckOfTheOriginalIsNotTakenForTheRepetition) {
  send(3);
  list.sent_again(segment(0), at(30));
  // 11 ms after the repetition nothing of it can have come back on a path of 40 ms.
  sack(0, 41);
  EXPECT_EQ(rack.rtt(), Duration{0});
  list.sent_again(segment(1), at(31));
  sack(1, 90, true);  // and here the time stamp says so
  EXPECT_EQ(rack.rtt(), Duration{0});
  rack.detect(list, Duration{0}, at(90));
  EXPECT_EQ(lost(), std::vector<int>{});
}

TEST_F(RackTest, WithoutReorderingTheWindowIsNothingOnceThreeSegmentsAreSacked) {
  EXPECT_EQ(rack.window(false, 2, kMinRtt, kMinRtt), milliseconds{10});
  EXPECT_EQ(rack.window(false, 3, kMinRtt, kMinRtt), Duration{0});
  EXPECT_EQ(rack.window(true, 0, kMinRtt, kMinRtt), Duration{0});
}

TEST_F(RackTest, OnceReorderingWasSeenTheWindowStays) {
  send(3);
  sack(2, 42);
  sack(0, 43);  // sent once, below what had arrived: reordering
  EXPECT_EQ(rack.window(true, 3, kMinRtt, kMinRtt), milliseconds{10});
}

TEST_F(RackTest, ARepetitionThatArrivesBelowIsNoReordering) {
  send(3);
  list.sent_again(segment(0), at(3));
  sack(2, 42);
  sack(0, 50);
  EXPECT_EQ(rack.window(true, 3, kMinRtt, kMinRtt), Duration{0});
}

TEST_F(RackTest, EachDuplicateWidensTheWindowOnceARoundTripUpToTheSmoothedOne) {
  rack.on_duplicate(kStart, kStart + 3000);
  EXPECT_EQ(rack.window(false, 0, kMinRtt, milliseconds{100}), milliseconds{20});
  rack.on_duplicate(kStart + 1000, kStart + 4000);  // the same round
  EXPECT_EQ(rack.window(false, 0, kMinRtt, milliseconds{100}), milliseconds{20});
  for (std::uint32_t round = 1; round < 20; ++round)
    rack.on_duplicate(kStart + 3000 * round, kStart + 3000 * (round + 1));
  EXPECT_EQ(rack.window(false, 0, kMinRtt, milliseconds{100}), milliseconds{100});
}

TEST_F(RackTest, SixteenRecoveriesLaterTheWindowIsNarrowAgain) {
  rack.on_duplicate(kStart, kStart + 3000);
  for (int i = 0; i < 15; ++i)
    rack.on_recovery_end();
  EXPECT_EQ(rack.window(false, 0, kMinRtt, milliseconds{100}), milliseconds{20});
  rack.on_recovery_end();
  EXPECT_EQ(rack.window(false, 0, kMinRtt, milliseconds{100}), milliseconds{10});
}

TEST_F(RackTest, OnAShortPathTheWindowHasAFloor) {
  EXPECT_EQ(rack.window(false, 0, microseconds{20}, microseconds{30}), Rack::kWindowMin);
}

TEST_F(RackTest, ATimeOutTakesTheFirstAndWhatIsOlderThanARoundTrip) {
  send(3);
  sack(1, 41);  // a round trip of 40 ms
  list.push(kStart + 3000, 1000, at(190));
  rack.mark_at_timeout(list, milliseconds{10}, at(200));
  EXPECT_EQ(lost(), (std::vector<int>{0, 2}));  // segment 3 may still arrive (section 6.3)
}

// ---- PRR (RFC 6937)
// -------------------------------------------------------------------------------

TEST(Prr, SpreadsTheReductionOverTheRecovery) {
  // Section 6 of the RFC: 100 segments in flight, one lost, threshold 50: one segment for every two
  // that are delivered, and the window ends at the threshold.
  Prr prr;
  prr.start(100'000);
  std::uint32_t in_flight = 99'000;  // one is lost
  std::uint32_t sent = 0;
  std::uint32_t window = 0;
  for (int ack = 0; ack < 98; ++ack) {
    in_flight -= 1000;
    window = prr.window({.delivered = 1000,
                         .in_flight = in_flight,
                         .threshold = 50'000,
                         .mss = 1000,
                         .safe = false});
    while (in_flight + 1000 <= window) {
      in_flight += 1000;
      ++sent;
      prr.on_sent(1000);
    }
  }
  EXPECT_NEAR(sent, 49, 1);
  EXPECT_NEAR(window, 50'000, 1000);
}

TEST(Prr, TheFirstRepetitionLeavesAtOnce) {
  Prr prr;
  prr.start(10'000);
  EXPECT_GE(prr.window(
                {.delivered = 0, .in_flight = 9000, .threshold = 5000, .mss = 1000, .safe = false}),
            10'000U);
}

TEST(Prr, BelowTheThresholdItGrowsByWhatArrivesAndOneSegmentForAGoodAck) {
  Prr prr;
  prr.start(20'000);
  prr.on_sent(1000);
  const Prr::Ack burst_loss{
      .delivered = 1000, .in_flight = 3000, .threshold = 10'000, .mss = 1000, .safe = false};
  EXPECT_EQ(prr.window(burst_loss), 4000U);
  Prr::Ack good = burst_loss;
  good.safe = true;
  EXPECT_EQ(prr.window(good), 5000U);
}

TEST(Prr, NeverGoesBeyondTheThresholdFromBelow) {
  Prr prr;
  prr.start(20'000);
  prr.on_sent(1000);
  EXPECT_EQ(
      prr.window(
          {.delivered = 15'000, .in_flight = 9000, .threshold = 10'000, .mss = 1000, .safe = true}),
      10'000U);
}

}  // namespace
}  // namespace weir::tcp
