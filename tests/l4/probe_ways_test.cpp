#include "l4/probe_ways.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

namespace weir::l4 {
namespace {

using control::ForwardMode;

wire::IpAddress address(std::string_view text) { return *wire::IpAddress::parse(text); }

const wire::IpAddress kVip4 = address("203.0.113.7"), kVip6 = address("2001:db8::7");
const wire::IpAddress kA = address("10.0.0.1"), kB = address("10.0.0.2"), kSix = address("fd00::1");

control::VipKey key(const wire::IpAddress& vip, std::uint16_t port = 80) {
  return {.address = vip, .ports = {wire::Port{port}, wire::Port{port}}};
}

/// Everything by device 3; kB by none.
Result<NextHop> hop_of(const wire::IpAddress& backend, ForwardMode) {
  NextHop hop;
  if (backend == kB) return hop;
  hop.ifindex = 3;
  hop.source = address(backend.is_v4() ? "10.0.0.9" : "fd00::9");
  return hop;
}

TEST(ProbeWays, AVipOfTheOtherIpVersionIsNotAskedThroughItsEncapsulation) {
  EXPECT_EQ(why_not_through(kVip4, kA, ForwardMode::kIpip), std::nullopt);
  EXPECT_EQ(why_not_through(kVip6, kSix, ForwardMode::kL2), std::nullopt);
  EXPECT_EQ(*why_not_through(kVip4, kSix, ForwardMode::kGue),
            "fd00::1 is of another IP version than the VIP 203.0.113.7: its own address is asked");
  EXPECT_EQ(*why_not_through(kVip4, kA, ForwardMode::kNat), "the mode has no encapsulation");
  ProbeWays ways;
  ways.set_wishes({{.vip = key(kVip4), .backends = {kA, kSix}},
                   {.vip = key(kVip4, 81), .mode = ForwardMode::kNat, .backends = {kA}}});
  EXPECT_NE(ways.mark_of(key(kVip4), kA), 0U);
  EXPECT_EQ(ways.mark_of(key(kVip4), kSix), 0U);
  EXPECT_EQ(ways.mark_of(key(kVip4, 81), kA), 0U);
  EXPECT_EQ(ways.mark_of(key(kVip6), kA), 0U);
}

TEST(ProbeWays, EachVipAndBackendHasAMarkOfItsOwnThatStays) {
  ProbeWays ways;
  ways.set_wishes(
      {{.vip = key(kVip4), .backends = {kA, kB}}, {.vip = key(kVip4, 81), .backends = {kA}}});
  const std::array marks{ways.mark_of(key(kVip4), kA), ways.mark_of(key(kVip4), kB),
                         ways.mark_of(key(kVip4, 81), kA)};
  EXPECT_EQ(std::ranges::min(marks), kProbeMarkFirst);
  EXPECT_EQ(std::ranges::max(marks), kProbeMarkFirst + 2);
  EXPECT_NE(marks[0], marks[1]);
  EXPECT_NE(marks[1], marks[2]);
  ways.set_wishes({{.vip = key(kVip4, 81), .mode = ForwardMode::kL2, .backends = {kA}}});
  EXPECT_EQ(ways.mark_of(key(kVip4, 81), kA), marks[2]);
  EXPECT_EQ(ways.mark_of(key(kVip4), kA), 0U);
}

TEST(ProbeWays, AFreedMarkIsNotTheNextThatIsGivenOut) {
  ProbeWays ways;
  ways.set_wishes({{.vip = key(kVip4), .backends = {kA}}});
  const std::uint32_t first = ways.mark_of(key(kVip4), kA);
  ways.set_wishes({});
  ways.set_wishes({{.vip = key(kVip4), .backends = {kA}}});
  EXPECT_EQ(ways.mark_of(key(kVip4), kA), first + 1);
}

TEST(ProbeWays, AWayLeavesAsTheVipsTrafficDoes) {
  ProbeWays ways;
  ways.set_wishes({{.vip = key(kVip4),
                    .mode = ForwardMode::kGue,
                    .gue_port = wire::Port{7000},
                    .backends = {kA}},
                   {.vip = key(kVip6), .mode = ForwardMode::kL2, .backends = {kSix}}});
  const ProbeVia four{.mark = ways.mark_of(key(kVip4), kA),
                      .vip = kVip4,
                      .mode = ForwardMode::kGue,
                      .gue_port = wire::Port{7000},
                      .egress_ifindex = 3,
                      .outer_source = address("10.0.0.9")};
  const ProbeVia six{.mark = ways.mark_of(key(kVip6), kSix),
                     .vip = kVip6,
                     .mode = ForwardMode::kL2,
                     .egress_ifindex = 3,
                     .outer_source = address("fd00::9")};
  const std::vector<ProbeVia> resolved = ways.resolve(hop_of);
  ASSERT_EQ(resolved.size(), 2U);
  EXPECT_NE(std::ranges::find(resolved, four), resolved.end());
  EXPECT_NE(std::ranges::find(resolved, six), resolved.end());
}

TEST(ProbeWays, WhatCannotBeReachedHasNoWayAndABackendIsAskedForOnce) {
  ProbeWays ways;
  ways.set_wishes(
      {{.vip = key(kVip4), .backends = {kA, kB}}, {.vip = key(kVip4, 81), .backends = {kA, kB}}});
  int asked = 0;
  const auto resolved = ways.resolve([&](const wire::IpAddress& backend, ForwardMode mode) {
    ++asked;
    if (backend == kA) return hop_of(backend, mode);
    return Result<NextHop>{Error{ErrorCode::kNotFound, "no route"}};
  });
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(resolved.size(), 2U);
}

}  // namespace
}  // namespace weir::l4
