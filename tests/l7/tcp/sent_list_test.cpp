#include "l7/tcp/sent_list.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <vector>

#include "l4/base/random.h"

namespace weir::tcp {
namespace {

using State = SentSegment::State;
using std::chrono::milliseconds;

constexpr Seq kStart{0xfffff000};  // numbers wrap in the middle
const Instant kEpoch{std::chrono::seconds{10}};

Instant at(int ms) { return kEpoch + milliseconds{ms}; }

class SentListTest : public ::testing::Test {
 protected:
  /// Segments of 1000 bytes, sent a millisecond apart.
  void send(int count) {
    for (int i = 0; i < count; ++i)
      ASSERT_NE(list.push(next(), 1000, at(static_cast<int>(list.segments()))), nullptr);
  }
  Seq next() { return list.empty() ? kStart : list.last()->end(); }
  std::uint32_t acknowledge(std::uint32_t offset) {
    std::uint32_t bytes = 0;
    list.acknowledge(kStart + offset, [&](const SentSegment& segment) { bytes += segment.length; });
    return bytes;
  }
  std::uint32_t sack(std::uint32_t from, std::uint32_t to) {
    std::uint32_t bytes = 0;
    list.sack(kStart + from, kStart + to,
              [&](const SentSegment& segment) { bytes += segment.length; });
    return bytes;
  }
  std::vector<std::uint32_t> order_of_sending() {
    std::vector<std::uint32_t> offsets;
    for (const SentSegment* s = list.oldest_sent(); s != nullptr; s = s->by_time.next)
      offsets.push_back(kStart.distance_to(s->start));
    return offsets;
  }

  SentPool pool{64};
  SentList list{pool};
};

TEST_F(SentListTest, WhatIsSentIsInFlightUntilItIsAcknowledged) {
  send(3);
  EXPECT_EQ(list.bytes_in_flight(), 3000U);
  EXPECT_EQ(acknowledge(2000), 2000U);
  EXPECT_EQ(list.bytes_in_flight(), 1000U);
  EXPECT_EQ(list.first()->start, kStart + 2000);
  EXPECT_EQ(pool.used(), 1U);
}

TEST_F(SentListTest, TheLastSixthOfThePoolIsForListsThatHaveNothing) {
  std::uint32_t count = 0;
  while (list.push(kStart + count, 1, Instant{}) != nullptr)
    ++count;
  EXPECT_EQ(count, 54U);
  EXPECT_FALSE(pool.is_nearly_exhausted());
  std::deque<SentList> others;
  for (int i = 0; i < 10; ++i) {
    EXPECT_NE(others.emplace_back(pool).push(kStart, 1, Instant{}), nullptr);
    EXPECT_EQ(others.back().push(kStart + 1, 1, Instant{}), nullptr);
  }
  EXPECT_TRUE(pool.is_exhausted());
  EXPECT_EQ(others.emplace_back(pool).push(kStart, 1, Instant{}), nullptr);
}

TEST_F(SentListTest, AnAckInTheMiddleOfASegmentCutsIt) {
  send(2);
  EXPECT_EQ(acknowledge(1500), 1000U);  // the cut one has not arrived as a whole
  EXPECT_EQ(list.bytes_in_flight(), 500U);
  EXPECT_EQ(list.first()->start, kStart + 1500);
}

TEST_F(SentListTest, ASackedSegmentIsDeliveredOnce) {
  send(4);
  EXPECT_EQ(sack(1000, 3000), 2000U);
  EXPECT_EQ(sack(1000, 3000), 0U);
  EXPECT_EQ(sack(1000, 4000), 1000U);
  EXPECT_EQ(list.bytes_sacked(), 3000U);
  EXPECT_EQ(list.bytes_in_flight(), 1000U);
  EXPECT_EQ(list.sacked_end(), kStart + 4000);
  EXPECT_EQ(acknowledge(4000), 1000U);
  EXPECT_EQ(pool.used(), 0U);
}

TEST_F(SentListTest, ABlockBelowTheHighestOneIsFoundToo) {
  send(6);
  sack(4000, 5000);
  EXPECT_EQ(sack(1000, 2000), 1000U);
  EXPECT_EQ(list.sacked_end(), kStart + 5000);
}

TEST_F(SentListTest, ASegmentCoveredInPartIsNotSacked) {
  send(3);
  EXPECT_EQ(sack(1500, 2500), 0U);
  EXPECT_EQ(sack(1500, 3000), 1000U);
}

TEST_F(SentListTest, LostSegmentsComeInTheOrderOfTheirNumbers) {
  send(5);
  list.mark_lost(*list.last());
  EXPECT_EQ(list.first_lost()->start, kStart + 4000);
  list.mark_lost(*list.first()->by_sequence.next);
  EXPECT_EQ(list.first_lost()->start, kStart + 1000);
  EXPECT_EQ(list.bytes_lost(), 2000U);
  list.sent_again(*list.first_lost(), at(50));
  EXPECT_EQ(list.first_lost()->start, kStart + 4000);
  list.sent_again(*list.first_lost(), at(51));
  EXPECT_EQ(list.first_lost(), nullptr);
  EXPECT_EQ(order_of_sending(), (std::vector<std::uint32_t>{0, 2000, 3000, 1000, 4000}));
}

TEST_F(SentListTest, LossesThatWereNoneGoBackToTheirPlaceInTime) {
  send(4);
  list.mark_lost(*list.first()->by_sequence.next);
  list.mark_lost(*list.first());
  list.forget_losses();
  EXPECT_EQ(list.bytes_in_flight(), 4000U);
  EXPECT_EQ(order_of_sending(), (std::vector<std::uint32_t>{0, 1000, 2000, 3000}));
}

TEST_F(SentListTest, ARepetitionThatWasNoLossEitherGoesBackToItsOwnTime) {
  send(4);
  list.mark_lost(*list.first());
  list.sent_again(*list.first(), at(50));
  list.mark_lost(*list.first());
  list.mark_lost(*list.last());
  list.forget_losses();
  EXPECT_EQ(order_of_sending(), (std::vector<std::uint32_t>{1000, 2000, 3000, 0}));
}

TEST_F(SentListTest, APeerThatRenegesHasNothing) {
  send(4);
  sack(1000, 3000);
  list.forget_sacks();
  EXPECT_EQ(list.bytes_lost(), 4000U);
  EXPECT_EQ(list.bytes_in_flight() + list.bytes_sacked(), 0U);
  EXPECT_EQ(list.first_lost()->start, kStart);
}

TEST_F(SentListTest, ACutSegmentKeepsItsStateAndItsPlace) {
  send(3);
  ASSERT_TRUE(list.split(*list.first()->by_sequence.next, 400));
  EXPECT_EQ(list.bytes_in_flight(), 3000U);
  EXPECT_EQ(order_of_sending(), (std::vector<std::uint32_t>{0, 1000, 1400, 2000}));
  ASSERT_TRUE(list.split(*list.last(), 1));
  EXPECT_EQ(list.last()->start, kStart + 2001);
}

TEST_F(SentListTest, WithoutRecordsNothingCanBeSentOrCut) {
  send(54);  // of 64; the others are for lists that have none
  EXPECT_EQ(list.push(next(), 1, at(99)), nullptr);
  EXPECT_FALSE(list.split(*list.last(), 1));
  EXPECT_EQ(list.segments(), 54U);
  // But what everything waits for can leave, whatever the path lets through by now.
  EXPECT_TRUE(list.split(*list.first(), 1));
}

/// What the list must be, written the simplest way.
struct Model {
  struct Piece {
    std::uint32_t length;
    State state;
  };
  std::map<std::uint32_t, Piece> pieces;  // by offset
  std::uint32_t sum(State state) const {
    std::uint32_t bytes = 0;
    for (const auto& [offset, piece] : pieces)
      if (piece.state == state) bytes += piece.length;
    return bytes;
  }
};

TEST_F(SentListTest, AgreesWithAMapUnderRandomOperations) {
  Random random{11};
  Model model;
  std::uint32_t una = 0;
  std::uint32_t end = 0;
  for (int step = 0; step < 20'000; ++step) {
    switch (random.below(6)) {
      case 0:
      case 1: {
        const std::uint32_t length = 1 + random.below(1000);
        if (list.push(kStart + end, length, at(step)) == nullptr) break;
        model.pieces[end] = {length, State::kInFlight};
        end += length;
        break;
      }
      case 2: {
        una += random.below(end - una + 1);
        acknowledge(una);
        while (!model.pieces.empty()) {
          const auto [offset, piece] = *model.pieces.begin();
          if (offset >= una) break;
          model.pieces.erase(offset);
          if (offset + piece.length > una)
            model.pieces[una] = {offset + piece.length - una, piece.state};
        }
        break;
      }
      case 3: {
        const std::uint32_t from = una + random.below(end - una + 1);
        const std::uint32_t to = from + random.below(end - from + 1);
        sack(from, to);
        for (auto& [offset, piece] : model.pieces)
          if (offset >= from && offset + piece.length <= to) piece.state = State::kSacked;
        break;
      }
      case 4:
        if (!model.pieces.empty()) {
          auto chosen = model.pieces.begin();
          std::advance(chosen, random.below(static_cast<std::uint32_t>(model.pieces.size())));
          SentSegment* segment = list.first();
          while (segment->start != kStart + chosen->first)
            segment = segment->by_sequence.next;
          list.mark_lost(*segment);
          if (chosen->second.state == State::kInFlight) chosen->second.state = State::kLost;
        }
        break;
      case 5:
        if (SentSegment* lost = list.first_lost()) {
          const auto first = std::ranges::find_if(
              model.pieces, [](const auto& entry) { return entry.second.state == State::kLost; });
          ASSERT_NE(first, model.pieces.end());
          ASSERT_EQ(kStart.distance_to(lost->start), first->first);
          list.sent_again(*lost, at(step));
          first->second.state = State::kInFlight;
        } else {
          ASSERT_EQ(model.sum(State::kLost), 0U);
        }
        break;
    }
    ASSERT_EQ(list.bytes_in_flight(), model.sum(State::kInFlight)) << step;
    ASSERT_EQ(list.bytes_lost(), model.sum(State::kLost)) << step;
    ASSERT_EQ(list.bytes_sacked(), model.sum(State::kSacked)) << step;
    ASSERT_EQ(list.segments(), model.pieces.size()) << step;
    ASSERT_EQ(pool.used(), model.pieces.size()) << step;
  }
}

}  // namespace
}  // namespace weir::tcp
