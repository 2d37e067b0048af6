#include "bench/stack_lab/ring_port.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <thread>
#include <vector>

namespace weir::bench {
namespace {

port::Packet numbered(port::PacketPort& port, std::uint32_t number) {
  port::Packet packet = port.allocate();
  if (packet) std::memcpy(packet.append(sizeof(number)).data(), &number, sizeof(number));
  return packet;
}

std::uint32_t number_of(const port::Packet& packet) {
  std::uint32_t number = 0;
  std::memcpy(&number, packet.bytes().data(), sizeof(number));
  return number;
}

/// Takes every buffer that an end can give, to count them.
std::size_t free_buffers(port::PacketPort& port) {
  std::vector<port::Packet> all;
  while (port::Packet packet = port.allocate())
    all.push_back(std::move(packet));
  return all.size();
}

TEST(RingCable, FramesArriveInOrderAndTheirBuffersComeHome) {
  constexpr std::uint32_t kBuffers = 16;
  RingCable cable{kBuffers};
  std::array<port::Packet, 4> burst;
  std::uint32_t expected = 0;
  for (std::uint32_t number = 0; number < 1000; number += 4) {
    for (std::uint32_t i = 0; i < 4; ++i)
      burst[i] = numbered(cable.left(), number + i);
    ASSERT_EQ(cable.left().send(burst), 4U);
    ASSERT_EQ(cable.right().receive(burst), 4U);
    for (port::Packet& packet : burst) {
      ASSERT_EQ(number_of(packet), expected++);
      packet.reset();
    }
  }
  EXPECT_EQ(free_buffers(cable.left()), kBuffers);
  EXPECT_EQ(free_buffers(cable.right()), kBuffers);
}

TEST(RingCable, ABufferThatIsSentBackIsItsOwnersAgain) {
  RingCable cable{4};
  std::array<port::Packet, 1> frame{numbered(cable.left(), 7)};
  ASSERT_EQ(cable.left().send(frame), 1U);
  ASSERT_EQ(cable.right().receive(frame), 1U);
  ASSERT_EQ(cable.right().send(frame), 1U);  // as an echo reply does
  ASSERT_EQ(cable.left().receive(frame), 1U);
  EXPECT_EQ(number_of(frame[0]), 7U);
  frame[0].reset();
  EXPECT_EQ(free_buffers(cable.left()), 4U);
  EXPECT_EQ(free_buffers(cable.right()), 4U);
}

TEST(RingCable, AFullRingRefusesAndTheFrameStaysTheSenders) {
  RingCable cable{4096};
  std::size_t sent = 0;
  std::array<port::Packet, 1> frame;
  while (true) {
    frame[0] = numbered(cable.left(), 1);
    if (cable.left().send(frame) == 0) break;
    ++sent;
  }
  EXPECT_EQ(sent, 2048U);
  EXPECT_TRUE(frame[0]);
  EXPECT_EQ(cable.left().counters().send_refused, 1U);
}

TEST(RingCable, TwoThreadsLoseNothing) {
  constexpr std::uint32_t kFrames = 20'000;
  RingCable cable{256};
  std::thread sender{[&] {
    std::array<port::Packet, 1> frame;
    for (std::uint32_t number = 0; number < kFrames;) {
      if (!frame[0]) frame[0] = numbered(cable.left(), number);
      if (frame[0] && cable.left().send(frame) == 1)
        ++number;
      else
        std::this_thread::yield();
    }
  }};
  std::array<port::Packet, 32> burst;
  std::uint32_t expected = 0;
  std::uint32_t wrong = 0;
  while (expected < kFrames) {
    const std::size_t count = cable.right().receive(burst);
    for (std::size_t i = 0; i < count; ++i) {
      if (number_of(burst[i]) != expected++) ++wrong;
      burst[i].reset();
    }
    if (count == 0) std::this_thread::yield();
  }
  sender.join();
  EXPECT_EQ(wrong, 0U);
  EXPECT_EQ(free_buffers(cable.left()), 256U);
}

}  // namespace
}  // namespace weir::bench
