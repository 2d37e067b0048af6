#include "l7/proxy/channel.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <vector>

#include "l4/base/bytes.h"

namespace weir::proxy {
namespace {

tcp::ConnectionId connection(std::uint32_t number) {
  return tcp::ConnectionId::from_raw((std::uint64_t{1} << 32) | number);
}

TEST(BufferPool, WhoeverIsRefusedWaitsOnceInLineUntilABufferIsBack) {
  BufferPool pool{2};
  ByteBuffer first{pool, connection(1)};
  ByteBuffer second{pool, connection(2)};
  ByteBuffer third{pool, connection(3)};
  ByteBuffer fourth{pool, connection(4)};
  first.append(as_bytes("a"));
  second.append(as_bytes("b"));
  EXPECT_TRUE(pool.exhausted());
  EXPECT_EQ(third.room(), 0U);
  EXPECT_EQ(fourth.room(), 0U);
  EXPECT_EQ(third.room(), 0U);
  EXPECT_EQ(pool.refusals(), 3U);
  EXPECT_EQ(first.room(), kBufferBytes - 1) << "who has one needs none";
  EXPECT_FALSE(pool.take_waiting()) << "there is none yet";

  first.consume(1);
  EXPECT_EQ(pool.take_waiting(), connection(3));
  EXPECT_EQ(third.room(), kBufferBytes);
  third.append(as_bytes("c"));
  EXPECT_FALSE(pool.take_waiting());
  second.clear();
  EXPECT_EQ(pool.take_waiting(), connection(4));
  EXPECT_FALSE(pool.take_waiting());
}

TEST(BufferPool, WhatABurstHasUsedHoldsNoMemoryAndIsLentAgain) {
  constexpr std::size_t kMany = 3000;
  BufferPool pool;
  const auto resident_pages = [](const std::byte* buffer) {
    std::array<unsigned char, kBufferBytes / 4096> pages{};
    EXPECT_EQ(::mincore(const_cast<std::byte*>(buffer), kBufferBytes, pages.data()), 0);
    return std::ranges::count_if(pages, [](unsigned char page) { return (page & 1) != 0; });
  };
  std::vector<std::byte*> lent;
  for (std::size_t i = 0; i < kMany; ++i) {
    lent.push_back(pool.take());
    std::memset(lent.back(), 1, kBufferBytes);
  }
  EXPECT_EQ(resident_pages(lent[0]), 16);
  for (std::byte* buffer : lent)
    pool.give_back(buffer);
  EXPECT_EQ(pool.lent(), 0U);
  EXPECT_EQ(std::ranges::count_if(lent, [&](auto* b) { return resident_pages(b) != 0; }), 1024);
  std::set<std::byte*> again;
  for (std::size_t i = 0; i < kMany; ++i)
    again.insert(pool.take());
  EXPECT_EQ(again, std::set<std::byte*>(lent.begin(), lent.end()));
}

TEST(BufferPool, NobodyIsWokenForWhatIsNoConnections) {
  BufferPool pool{0};
  ByteBuffer copy{pool, tcp::ConnectionId{}};
  EXPECT_EQ(copy.room(), 0U);
  EXPECT_FALSE(pool.take_waiting());
}

}  // namespace
}  // namespace weir::proxy
