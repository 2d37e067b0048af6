#include "l7/net/path_mtu.h"

#include <gtest/gtest.h>

#include "tests/support/alloc_guard.h"

namespace weir::net {
namespace {

using namespace std::chrono_literals;
using wire::IpAddress;

constexpr std::uint16_t kDevice = 1500;
const IpAddress kA = IpAddress::v4(198, 51, 100, 1);
const IpAddress kB = IpAddress::v4(198, 51, 100, 2);
const IpAddress kA6 = *IpAddress::parse("2001:db8::1");

IpAddress numbered(std::uint32_t n) {
  return IpAddress::v4(10, static_cast<std::uint8_t>(n >> 16), static_cast<std::uint8_t>(n >> 8),
                       static_cast<std::uint8_t>(n));
}

class PathMtuTest : public ::testing::Test {
 protected:
  ManualClock clock;
  Random random{1};
  PathMtuCache cache{random, clock.now()};
};

TEST_F(PathMtuTest, TheDevicesMtuHoldsWhereNothingIsKnown) {
  EXPECT_EQ(cache.mtu(kA, kDevice), kDevice);
  EXPECT_TRUE(cache.lower(kA, 1400, clock.now()));
  EXPECT_EQ(cache.mtu(kA, kDevice), 1400);
  EXPECT_EQ(cache.mtu(kB, kDevice), kDevice);
  EXPECT_EQ(cache.mtu(kA, 1300), 1300) << "a device may be smaller than the path";
}

TEST_F(PathMtuTest, AnMtuIsNeverRaised) {
  EXPECT_TRUE(cache.lower(kA, 1400, clock.now()));
  EXPECT_FALSE(cache.lower(kA, 1450, clock.now()));
  EXPECT_EQ(cache.mtu(kA, kDevice), 1400);
  EXPECT_TRUE(cache.lower(kA, 1300, clock.now()));
  EXPECT_EQ(cache.mtu(kA, kDevice), 1300);
}

TEST_F(PathMtuTest, NoMtuGoesBelowItsFamilysFloor) {
  EXPECT_TRUE(cache.lower(kA, 68, clock.now()));
  EXPECT_TRUE(cache.lower(kA6, 600, clock.now()));
  EXPECT_EQ(cache.mtu(kA, kDevice), 552);
  EXPECT_EQ(cache.mtu(kA6, kDevice), 1280);
}

TEST_F(PathMtuTest, AnEntryIsForgottenAfterTenMinutesWithoutNews) {
  EXPECT_TRUE(cache.lower(kA, 1400, clock.now()));
  clock.advance(5min);
  EXPECT_TRUE(cache.lower(kB, 1400, clock.now()));
  EXPECT_TRUE(cache.lower(kA, 1400, clock.now())) << "said again: it still holds";
  clock.advance(10min - 1ms);
  cache.advance(clock.now());
  EXPECT_EQ(cache.mtu(kA, kDevice), 1400);
  clock.advance(1ms);
  cache.advance(clock.now());
  EXPECT_EQ(cache.mtu(kA, kDevice), kDevice);
  EXPECT_TRUE(cache.lower(kA, 1450, clock.now())) << "what is forgotten is no bound";
  EXPECT_EQ(cache.mtu(kA, kDevice), 1450);
}

TEST_F(PathMtuTest, AnOldEntryDoesNotLiveByAYoungerOne) {
  EXPECT_TRUE(cache.lower(kA, 1400, clock.now()));
  clock.advance(9min);
  EXPECT_TRUE(cache.lower(kB, 1400, clock.now()));
  clock.advance(1min);
  cache.advance(clock.now());
  EXPECT_EQ(cache.mtu(kA, kDevice), kDevice);
  EXPECT_EQ(cache.mtu(kB, kDevice), 1400);
}

TEST_F(PathMtuTest, TheTableIsBoundedAndTheOldestOfASetMakesRoom) {
  constexpr std::uint32_t kMany = 20'000;
  std::uint32_t known = 0;
  {
    const testing::AllocationGuard guard;
    for (std::uint32_t n = 0; n < kMany; ++n) {
      clock.advance(1ms);
      EXPECT_TRUE(cache.lower(numbered(n), 1400, clock.now()));
      EXPECT_EQ(cache.mtu(numbered(n), kDevice), 1400);
    }
    for (std::uint32_t n = 0; n < kMany; ++n)
      known += cache.mtu(numbered(n), kDevice) == 1400 ? 1 : 0;
    EXPECT_EQ(guard.allocations(), 0U);
  }
  EXPECT_LE(known, PathMtuCache::kEntriesMax);
  EXPECT_GT(known, PathMtuCache::kEntriesMax * 9 / 10) << "addresses spread over the sets";
  EXPECT_EQ(cache.evicted(), kMany - known);
  std::uint32_t young = 0;
  for (std::uint32_t n = kMany - 1000; n < kMany; ++n)
    young += cache.mtu(numbered(n), kDevice) == 1400 ? 1 : 0;
  EXPECT_GT(young, 950U);
}

TEST_F(PathMtuTest, WhatIsOverMakesRoomWithoutBeingCounted) {
  for (std::uint32_t n = 0; n < 4096; ++n)
    EXPECT_TRUE(cache.lower(numbered(n), 1400, clock.now()));
  const std::uint64_t evicted = cache.evicted();
  clock.advance(10min);
  cache.advance(clock.now());
  EXPECT_TRUE(cache.lower(kA, 1400, clock.now()));
  EXPECT_EQ(cache.evicted(), evicted);
}

TEST_F(PathMtuTest, TwoSecretsPutAddressesIntoDifferentSets) {
  PathMtuCache other{random, clock.now()};
  std::uint32_t different = 0;
  for (std::uint32_t n = 0; n < 8192; ++n) {
    EXPECT_TRUE(cache.lower(numbered(n), 1400, clock.now()));
    EXPECT_TRUE(other.lower(numbered(n), 1400, clock.now()));
  }
  for (std::uint32_t n = 0; n < 8192; ++n)
    different += cache.mtu(numbered(n), kDevice) != other.mtu(numbered(n), kDevice) ? 1 : 0;
  EXPECT_GT(different, 500U) << "who is pushed out can be known from outside";
}

TEST(PathMtu, TheNextLowerMtuIsOneThatNetworksHave) {
  struct {
    std::uint32_t length;
    std::uint16_t mtu;
  } const cases[] = {{65535, 32000}, {32000, 17914}, {9000, 8166}, {4352, 2002}, {1500, 1492},
                     {1492, 1006},   {1006, 552},    {553, 552},   {552, 552},   {0, 552}};
  for (const auto& [length, mtu] : cases)
    EXPECT_EQ(next_lower_mtu(length), mtu) << length;
}

}  // namespace
}  // namespace weir::net
