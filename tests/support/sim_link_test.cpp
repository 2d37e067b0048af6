#include "tests/support/sim_link.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace weir::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;

class SimLinkTest : public ::testing::Test {
 protected:
  /// Sends a frame of `length` bytes whose last byte is its name.
  void send(int name, std::size_t length = 100) {
    port::Packet packet = link.pool(Side::kA).allocate(length);
    packet.append(length).back() = static_cast<std::byte>(name);
    EXPECT_EQ(link.port(Side::kA).send(std::span{&packet, 1}), 1U);
  }
  /// The names of the frames that have arrived until `offset` after the start.
  std::vector<int> received_until(Duration offset) {
    link.advance_to(start + offset);
    std::vector<int> names;
    std::array<port::Packet, 16> burst;
    while (const std::size_t count = link.port(Side::kB).receive(burst))
      for (std::size_t i = 0; i < count; ++i)
        names.push_back(std::to_integer<int>(burst[i].bytes().back()));
    return names;
  }
  LinkOptions& options() { return link.direction(Side::kA); }
  LinkCounters counters() { return link.counters(Side::kA); }

  Instant start = ManualClock{}.now();
  SimLink link{{}, start};
};

TEST_F(SimLinkTest, AFrameArrivesAfterTheDelayAndNotBefore) {
  options().delay = 10ms;
  send(1);
  EXPECT_EQ(link.next_event(), start + 10ms);
  EXPECT_THAT(received_until(10ms - 1ns), ElementsAre());
  EXPECT_THAT(received_until(10ms), ElementsAre(1));
  EXPECT_EQ(link.next_event(), kNever);
}

TEST_F(SimLinkTest, TheRateSpacesFrames) {
  options().delay = 0ms;
  options().rate_bits_per_s = 800'000;  // 100 bytes in 1 ms
  send(1);
  send(2);
  EXPECT_THAT(received_until(1ms), ElementsAre(1));
  EXPECT_THAT(received_until(2ms - 1ns), ElementsAre());
  EXPECT_THAT(received_until(2ms), ElementsAre(2));
}

TEST_F(SimLinkTest, TheQueueDropsWhatIsTooMuchAndDrainsWithTime) {
  options().delay = 0ms;
  options().rate_bits_per_s = 800'000;
  options().queue_frames_max = 2;
  for (int i = 0; i < 4; ++i)
    send(i);
  EXPECT_EQ(counters().lost_queue, 2U);
  EXPECT_THAT(received_until(2ms), ElementsAre(0, 1));
  send(5);
  EXPECT_THAT(received_until(3ms), ElementsAre(5));
}

TEST_F(SimLinkTest, FramesAreLostByNumberAndByContent) {
  options().lose_numbers = {1};
  options().lose_if = [](std::uint64_t, std::span<const std::byte> frame) {
    return frame.back() == std::byte{3};
  };
  for (int i = 0; i < 5; ++i)
    send(i);
  EXPECT_THAT(received_until(1s), ElementsAre(0, 2, 4));
  EXPECT_EQ(counters().lost_by_choice, 2U);
}

TEST_F(SimLinkTest, ADelayedFrameIsOvertakenAndADuplicateArrivesTwice) {
  options().reorder = 1;
  send(1);
  options().reorder = 0;
  options().duplicate = 1;
  send(2);
  EXPECT_THAT(received_until(1s), ElementsAre(2, 2, 1));
}

TEST_F(SimLinkTest, CorruptionFlipsOneBitBehindTheEthernetHeader) {
  options().corrupt = 1;
  std::vector<std::byte> offered;
  link.on_frame(
      [&](const CapturedFrame& frame) { offered.assign(frame.bytes.begin(), frame.bytes.end()); });
  send(1);
  link.advance_to(start + 1s);
  std::array<port::Packet, 1> burst;
  ASSERT_EQ(link.port(Side::kB).receive(burst), 1U);
  int differing_bits = 0;
  for (std::size_t i = 0; i < offered.size(); ++i) {
    const auto difference = std::to_integer<unsigned>(offered[i] ^ burst[0].bytes()[i]);
    differing_bits += std::popcount(difference);
    EXPECT_TRUE(i >= 14 || difference == 0);
  }
  EXPECT_EQ(differing_bits, 1);
}

TEST_F(SimLinkTest, TooLongPacketsAreLost) {
  send(1, 1514);
  send(2, 1515);
  EXPECT_THAT(received_until(1s), ElementsAre(1));
  EXPECT_EQ(counters().lost_mtu, 1U);
}

TEST_F(SimLinkTest, ChanceFollowsTheSeedAndNearlyTheProbability) {
  const auto lost_numbers = [](std::uint64_t seed) {
    const Instant begin = ManualClock{}.now();
    SimLink made{{.a_to_b = {}, .b_to_a = {}, .seed = seed}, begin};
    made.direction(Side::kA).loss = 0.1;
    std::vector<std::uint64_t> lost;
    made.on_frame([&](const CapturedFrame& frame) {
      if (frame.lost) lost.push_back(frame.number);
    });
    for (int i = 0; i < 1000; ++i) {
      port::Packet packet = made.port(Side::kA).allocate();
      packet.append(60);
      EXPECT_EQ(made.port(Side::kA).send(std::span{&packet, 1}), 1U);
    }
    return lost;
  };
  EXPECT_EQ(lost_numbers(42), lost_numbers(42));
  EXPECT_NE(lost_numbers(42), lost_numbers(43));
  EXPECT_NEAR(static_cast<double>(lost_numbers(42).size()), 100, 40);
}

TEST_F(SimLinkTest, ARefusedSendLeavesThePacketWithItsOwner) {
  link.refuse_sends(Side::kA, 1);
  std::array<port::Packet, 2> burst = {link.port(Side::kA).allocate(),
                                       link.port(Side::kA).allocate()};
  EXPECT_EQ(link.port(Side::kA).send(burst), 1U);
  EXPECT_FALSE(burst[0]);
  EXPECT_TRUE(burst[1]);
  EXPECT_EQ(link.port(Side::kA).counters().send_refused, 1U);
}

}  // namespace
}  // namespace weir::testing
