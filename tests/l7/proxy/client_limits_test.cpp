#include <gtest/gtest.h>

#include <vector>

#include "l7/proxy/minimum_rate.h"
#include "l7/proxy/source_counts.h"

namespace weir::proxy {
namespace {

using namespace std::chrono_literals;

constexpr Instant kStart{1000s};

TEST(MinimumRate, GivesTheFirstWindowAsGrace) {
  MinimumRate rate;
  rate.start(100, 0, kStart);
  EXPECT_FALSE(rate.is_too_slow(0, kStart + 29'999ms));
  EXPECT_EQ(rate.deadline(), kStart + 30s);
  EXPECT_TRUE(rate.is_too_slow(2999, kStart + 30s));
}

TEST(MinimumRate, IsMetByAsManyBytesAsItAsksFor) {
  MinimumRate rate;
  rate.start(100, 0, kStart);
  EXPECT_FALSE(rate.is_too_slow(3000, kStart + 30s));
  EXPECT_FALSE(rate.is_too_slow(6000, kStart + 60s));
  EXPECT_TRUE(rate.is_too_slow(8999, kStart + 90s));
}

TEST(MinimumRate, WhatCameBeforeDoesNotMakeUpForLater) {
  MinimumRate rate;
  rate.start(100, 0, kStart);
  EXPECT_FALSE(rate.is_too_slow(1'000'000, kStart + 30s));
  EXPECT_TRUE(rate.is_too_slow(1'000'001, kStart + 60s));
}

TEST(MinimumRate, DoesNotCountWhatWasThereWhenItStarted) {
  MinimumRate rate;
  rate.start(100, 5000, kStart);
  EXPECT_TRUE(rate.is_too_slow(7999, kStart + 30s));
}

TEST(MinimumRate, AWindowInWhichTheReaderWasFullForAWhileDoesNotCount) {
  MinimumRate rate;
  rate.start(100, 0, kStart);
  rate.set_taking(false);
  rate.set_taking(true);
  EXPECT_FALSE(rate.is_too_slow(0, kStart + 30s));
  EXPECT_TRUE(rate.is_too_slow(0, kStart + 60s)) << "only the one window";
}

TEST(MinimumRate, AReaderThatIsFullAllTheTimeExcusesAllWindows) {
  MinimumRate rate;
  rate.start(100, 0, kStart);
  rate.set_taking(false);
  EXPECT_FALSE(rate.is_too_slow(0, kStart + 30s));
  EXPECT_FALSE(rate.is_too_slow(0, kStart + 60s));
  rate.set_taking(true);
  EXPECT_FALSE(rate.is_too_slow(0, kStart + 90s)) << "it was full within this one";
  EXPECT_TRUE(rate.is_too_slow(0, kStart + 120s));
}

TEST(MinimumRate, OfZeroIsNeverTooSlow) {
  MinimumRate rate;
  rate.start(0, 0, kStart);
  EXPECT_FALSE(rate.is_too_slow(0, kStart + 1h));
  EXPECT_EQ(rate.deadline(), kNever);
  rate.start(100, 0, kStart);
  rate.stop();
  EXPECT_FALSE(rate.is_too_slow(0, kStart + 1h));
}

TEST(MinimumRate, DoesNotOverflow) {
  MinimumRate rate;
  rate.start(UINT32_MAX, 0, kStart);
  EXPECT_TRUE(rate.is_too_slow(UINT32_MAX, kStart + 30s));
}

wire::IpAddress address(std::string_view text) { return *wire::IpAddress::parse(text); }

wire::Endpoint at(std::uint16_t port) { return {address("203.0.113.10"), wire::Port{port}}; }

TEST(SourceCounts, EachAddressHasItsOwnLimit) {
  SourceCounts counts{SipKey{{1, 2}}};
  const auto one = counts.enter(address("192.0.2.1"), at(80), 2);
  const auto two = counts.enter(address("192.0.2.1"), at(80), 2);
  EXPECT_TRUE(one && two);
  EXPECT_FALSE(counts.enter(address("192.0.2.1"), at(80), 2));
  EXPECT_TRUE(counts.enter(address("192.0.2.2"), at(80), 2));
  EXPECT_TRUE(counts.enter(address("192.0.2.1"), at(80), 0)) << "0: no limit";
  EXPECT_EQ(counts.count(address("192.0.2.1"), at(80)), 2U);
}

TEST(SourceCounts, EachListenerHasItsOwnCount) {
  SourceCounts counts{SipKey{{1, 2}}};
  const auto one = counts.enter(address("192.0.2.1"), at(80), 1);
  EXPECT_FALSE(counts.enter(address("192.0.2.1"), at(80), 1));
  EXPECT_TRUE(counts.enter(address("192.0.2.1"), at(443), 1));
}

TEST(SourceCounts, OfIpv6ANetworkOf64BitsIsOneSource) {
  SourceCounts counts{SipKey{{1, 2}}};
  const auto one = counts.enter(address("2001:db8:0:1::1"), at(80), 1);
  EXPECT_TRUE(one);
  EXPECT_FALSE(counts.enter(address("2001:db8:0:1:ffff::2"), at(80), 1));
  EXPECT_TRUE(counts.enter(address("2001:db8:0:2::1"), at(80), 1));
}

TEST(SourceCounts, ARefusedConnectionIsNotCounted) {
  SourceCounts counts{SipKey{{1, 2}}};
  auto one = counts.enter(address("192.0.2.1"), at(80), 1);
  EXPECT_FALSE(counts.enter(address("192.0.2.1"), at(80), 1));
  one = {};
  EXPECT_TRUE(counts.enter(address("192.0.2.1"), at(80), 1));
}

TEST(SourceCounts, NothingIsLeftOfASourceThatHasGone) {
  SourceCounts counts{SipKey{{1, 2}}};
  std::vector<SourceCounts::Ticket> tickets;
  for (std::uint8_t i = 0; i < 100; ++i)
    for (int k = 0; k < 3; ++k)
      tickets.push_back(counts.enter(wire::IpAddress::v4(192, 0, 2, i), at(80), 3));
  EXPECT_EQ(counts.sources(), 100U);
  tickets.clear();
  EXPECT_EQ(counts.sources(), 0U);
}

}  // namespace
}  // namespace weir::proxy
