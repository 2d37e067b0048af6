#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "l7/port/heap_pool.h"

namespace weir::port {
namespace {

TEST(HeapPoolTest, APacketHasTheRoomThatWasAskedForAndNoMore) {
  HeapPool pool{4};
  Packet packet = pool.allocate(100);
  ASSERT_TRUE(packet);
  EXPECT_EQ(packet.size(), 0U);
  EXPECT_EQ(packet.headroom(), kHeadroom);
  EXPECT_EQ(packet.tailroom(), 100U);
  packet.append(100);
  packet.prepend(kHeadroom);
  EXPECT_EQ(packet.headroom() + packet.tailroom(), 0U);
}

TEST(HeapPoolTest, TheLimitHoldsAndADestroyedPacketMakesRoom) {
  HeapPool pool{2};
  Packet first = pool.allocate(1);
  Packet second = pool.allocate(1);
  EXPECT_FALSE(pool.allocate(1));
  EXPECT_EQ(pool.in_use(), 2U);
  first.reset();
  EXPECT_TRUE(pool.allocate(1));
  EXPECT_EQ(pool.in_use(), 1U);
}

TEST(HeapPoolTest, ACopyHoldsTheSameBytes) {
  HeapPool pool{1};
  const std::array<std::byte, 3> bytes = {std::byte{1}, std::byte{2}, std::byte{3}};
  const Packet packet = pool.copy_of(bytes);
  EXPECT_THAT(packet.bytes(), ::testing::ElementsAreArray(bytes));
  EXPECT_EQ(packet.tailroom(), 0U);
}

TEST(PacketTest, MovingLeavesNothingBehindAndAssigningGivesTheOldBufferBack) {
  HeapPool pool{2};
  Packet first = pool.allocate(10);
  first.append(5);
  Packet second = pool.allocate(10);
  second = std::move(first);
  EXPECT_FALSE(first);  // NOLINT: that is the point
  EXPECT_EQ(second.size(), 5U);
  EXPECT_EQ(pool.in_use(), 1U);
}

TEST(PacketTest, TrimmingAndGrowingMoveTheEnds) {
  HeapPool pool{1};
  Packet packet = pool.allocate(10);
  packet.append(10)[4] = std::byte{42};
  packet.trim_front(4);
  EXPECT_EQ(packet.bytes().front(), std::byte{42});
  packet.truncate(2);
  EXPECT_EQ(packet.tailroom(), 4U);
  packet.prepend(4);
  EXPECT_EQ(packet.size(), 6U);
}

}  // namespace
}  // namespace weir::port
