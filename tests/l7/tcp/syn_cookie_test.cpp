#include "l7/tcp/syn_cookie.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "l4/base/random.h"

namespace weir::tcp {
namespace {

using std::chrono::seconds;

constexpr Duration kUnit = seconds{64};
constexpr Instant kStart{kUnit * 1000};
constexpr Seq kIrs{0x12345678};

SynCookie cookies() { return SynCookie{{1, 2}, {3, 4}}; }

FlowKey key_v4(std::uint16_t remote_port = 40000) {
  return FlowKey{{wire::IpAddress::v4(192, 0, 2, 1), wire::Port{443}},
                 {wire::IpAddress::v4(198, 51, 100, 1), wire::Port{remote_port}}};
}

FlowKey key_v6() {
  return FlowKey{{*wire::IpAddress::parse("2001:db8::1"), wire::Port{443}},
                 {*wire::IpAddress::parse("2001:db8:1::1"), wire::Port{40000}}};
}

FlowKey random_key(Random& random) {
  FlowKey key = random.chance(0.5) ? key_v4() : key_v6();
  key.remote_port = static_cast<std::uint16_t>(random.next());
  for (std::size_t i = 12; i < 16; ++i)
    key.remote_address.bytes[i] = static_cast<std::uint8_t>(random.next());
  return key;
}

PeerOptions random_options(Random& random) {
  PeerOptions peer;
  peer.mss = static_cast<std::uint16_t>(88 + random.below(9500));
  if (random.chance(0.7)) peer.window_scale = static_cast<std::uint8_t>(random.below(15));
  peer.sack_permitted = random.chance(0.7);
  peer.timestamps = random.chance(0.5);
  peer.ecn = random.chance(0.5);
  return peer;
}

PeerOptions with_mss(std::uint16_t mss) { return {.mss = mss}; }

// ---- what comes back is what was offered --------------------------------------------------------

TEST(SynCookie, WhatWasOfferedComesBack) {
  Random random{1};
  SynCookie cookie = cookies();
  for (int i = 0; i < 5'000; ++i) {
    const FlowKey key = random_key(random);
    const Seq irs{static_cast<std::uint32_t>(random.next())};
    const PeerOptions peer = random_options(random);
    const Instant made = kStart + Duration{static_cast<std::int64_t>(random.next() >> 8)};
    const auto clock = static_cast<std::uint32_t>(random.next());
    const Seq iss = cookie.make(key, irs, peer, made);
    std::optional<std::uint32_t> echoed;
    if (peer.timestamps) echoed = SynCookie::stamp(clock, peer);

    const auto found = cookie.check(key, irs, iss, made + seconds{random.below(65)}, echoed);
    ASSERT_TRUE(found.has_value()) << "round " << i;
    ASSERT_EQ(*found, SynCookie::remembered(peer, key.remote_address.family())) << "round " << i;
    ASSERT_LE(found->mss, peer.mss);
    ASSERT_EQ(found->timestamps, peer.timestamps);
    if (!peer.timestamps) continue;
    ASSERT_EQ(found->window_scale, peer.window_scale);
    ASSERT_EQ(found->sack_permitted, peer.sack_permitted);
    ASSERT_EQ(found->ecn, peer.ecn);
  }
}

TEST(SynCookie, WithoutTimeStampsOnlyTheMssIsRemembered) {
  const PeerOptions all{
      .mss = 1460, .window_scale = 7, .sack_permitted = true, .timestamps = false, .ecn = true};
  EXPECT_EQ(SynCookie::remembered(all, wire::Family::kIpv4), with_mss(1460));
}

TEST(SynCookie, AScaleBeyondTheLimitIsReadAsTheLimitAndNotAsNone) {
  PeerOptions peer{.mss = 1460, .timestamps = true};
  for (const std::uint8_t scale : {14, 15, 16, 255}) {
    peer.window_scale = scale;
    EXPECT_EQ(SynCookie::remembered(peer, wire::Family::kIpv4).window_scale, 14);
  }
}

TEST(SynCookie, TheMssIsTheLargestOfTheTableThatIsNotAboveThePeers) {
  struct Case {
    wire::Family family;
    std::uint16_t offered;
    std::uint16_t kept;
  };
  constexpr auto kV4 = wire::Family::kIpv4;
  constexpr auto kV6 = wire::Family::kIpv6;
  for (const Case& c : std::vector<Case>{
           {kV4, 88, 88},     {kV4, 535, 88},    {kV4, 536, 536},    {kV4, 1219, 536},
           {kV4, 1220, 1220}, {kV4, 1380, 1360}, {kV4, 1400, 1400},  {kV4, 1452, 1440},
           {kV4, 1459, 1440}, {kV4, 1460, 1460}, {kV4, 8959, 1460},  {kV4, 8960, 8960},
           {kV4, 8961, 8960}, {kV6, 1220, 1220}, {kV4, 65535, 8960}, {kV6, 1219, 536},
           {kV6, 1432, 1420}, {kV6, 1440, 1440}, {kV6, 8940, 8940},  {kV6, 88, 88},
       })
    EXPECT_EQ(SynCookie::remembered(with_mss(c.offered), c.family).mss, c.kept) << c.offered;
}

// ---- time ---------------------------------------------------------------------------------------

TEST(SynCookie, IsGoodInItsUnitOfTimeAndTheNext) {
  for (const std::uint32_t unit : {1U, 30U, 31U, 32U, 1000U, 0x7ffffffU}) {
    const Instant begin{kUnit * std::int64_t{unit}};
    for (const Duration late : {Duration{0}, kUnit - Duration{1}}) {
      SynCookie cookie = cookies();
      const Seq iss = cookie.make(key_v4(), kIrs, with_mss(1460), begin + late);
      const auto good_at = [&](Instant now) {
        return cookie.check(key_v4(), kIrs, iss, now, std::nullopt).has_value();
      };
      EXPECT_TRUE(good_at(begin + late));
      EXPECT_TRUE(good_at(begin + kUnit));
      EXPECT_TRUE(good_at(begin + 2 * kUnit - Duration{1}));
      EXPECT_FALSE(good_at(begin + 2 * kUnit));
    }
  }
}

TEST(SynCookie, DoesNotComeBackToLifeWhenItsFiveBitsDo) {
  SynCookie cookie = cookies();
  const Seq iss = cookie.make(key_v4(), kIrs, with_mss(1460), kStart);
  const Instant later = kStart + 32 * kUnit;
  (void)cookie.make(key_v4(1), kIrs, with_mss(1460), later);  // cookies are in use again
  EXPECT_FALSE(cookie.check(key_v4(), kIrs, iss, later, std::nullopt).has_value());
}

TEST(SynCookie, NothingIsBelievedWhileNoCookieIsOut) {
  SynCookie issuer = cookies();
  SynCookie idle = cookies();  // the same secrets
  const Seq iss = issuer.make(key_v4(), kIrs, with_mss(1460), kStart);
  EXPECT_FALSE(idle.check(key_v4(), kIrs, iss, kStart, std::nullopt).has_value());
  // One for somebody else, two units ago: too long.
  (void)idle.make(key_v4(1), kIrs, with_mss(1460), kStart - 2 * kUnit);
  EXPECT_FALSE(idle.check(key_v4(), kIrs, iss, kStart, std::nullopt).has_value());
  (void)idle.make(key_v4(1), kIrs, with_mss(1460), kStart - kUnit);
  EXPECT_TRUE(idle.check(key_v4(), kIrs, iss, kStart, std::nullopt).has_value());
}

// ---- time stamps --------------------------------------------------------------------------------

TEST(SynCookie, AStampIsTheLatestNotAfterTheClockThatEndsInTheOptions) {
  Random random{2};
  for (int i = 0; i < 10'000; ++i) {
    // Near zero too, where the clock wraps.
    const std::uint32_t clock =
        random.chance(0.5) ? static_cast<std::uint32_t>(random.next()) : random.below(70);
    const PeerOptions peer = random_options(random);
    const std::uint32_t stamp = SynCookie::stamp(clock, peer);
    ASSERT_LT(clock - stamp, 64U) << clock;  // so not later, and the only one of its 64
    const PeerOptions decoded = SynCookie::decode(stamp);
    ASSERT_EQ(decoded.window_scale, peer.window_scale);
    ASSERT_EQ(decoded.sack_permitted, peer.sack_permitted);
    ASSERT_EQ(decoded.ecn, peer.ecn);
    ASSERT_TRUE(decoded.timestamps);
  }
}

TEST(SynCookie, AnAckWithOtherTimeStampsThanAgreedIsNoCookie) {
  SynCookie cookie = cookies();
  PeerOptions peer{.mss = 1460, .window_scale = 7, .sack_permitted = true};
  const Seq plain = cookie.make(key_v4(), kIrs, peer, kStart);
  peer.timestamps = true;
  const Seq stamped = cookie.make(key_v4(), kIrs, peer, kStart);
  const std::uint32_t stamp = SynCookie::stamp(1000, peer);
  const auto good = [&](Seq iss, std::optional<std::uint32_t> echoed) {
    return cookie.check(key_v4(), kIrs, iss, kStart, echoed).has_value();
  };
  EXPECT_TRUE(good(plain, std::nullopt));
  EXPECT_TRUE(good(stamped, stamp));
  EXPECT_FALSE(good(stamped, std::nullopt));
  for (std::uint32_t bits = 0; bits < 64; ++bits) {
    EXPECT_FALSE(good(plain, bits)) << bits;
    EXPECT_EQ(good(stamped, (stamp & ~63U) | bits), bits == (stamp & 63)) << bits;
  }
}

// ---- forgery ------------------------------------------------------------------------------------

TEST(SynCookie, EveryBitOfCookieSequenceNumberAndKeyCounts) {
  SynCookie cookie = cookies();
  for (const FlowKey& key : {key_v4(), key_v6()}) {
    const Seq iss = cookie.make(key, kIrs, with_mss(1440), kStart);
    ASSERT_TRUE(cookie.check(key, kIrs, iss, kStart, std::nullopt).has_value());
    for (unsigned bit = 0; bit < 32; ++bit) {
      const Seq other_iss{iss.value() ^ (1U << bit)};
      const Seq other_irs{kIrs.value() ^ (1U << bit)};
      EXPECT_FALSE(cookie.check(key, kIrs, other_iss, kStart, std::nullopt).has_value()) << bit;
      EXPECT_FALSE(cookie.check(key, other_irs, iss, kStart, std::nullopt).has_value()) << bit;
    }
    for (std::size_t bit = 0; bit < 8 * sizeof(FlowKey); ++bit) {
      FlowKey other = key;
      std::as_writable_bytes(std::span{&other, 1})[bit / 8] ^= std::byte{1} << (bit % 8);
      EXPECT_FALSE(cookie.check(other, kIrs, iss, kStart, std::nullopt).has_value()) << bit;
    }
  }
}

TEST(SynCookie, EachSecretCounts) {
  SynCookie cookie = cookies();
  const Seq iss = cookie.make(key_v4(), kIrs, with_mss(1460), kStart);
  using Secret = SynCookie::Secret;
  for (const auto& [mac, cover] : std::vector<std::pair<Secret, Secret>>{
           {{1, 3}, {3, 4}}, {{2, 2}, {3, 4}}, {{1, 2}, {3, 5}}, {{1, 2}, {4, 4}}}) {
    SynCookie other{mac, cover};
    const Seq others = other.make(key_v4(), kIrs, with_mss(1460), kStart);
    EXPECT_NE(others, iss);
    EXPECT_FALSE(other.check(key_v4(), kIrs, iss, kStart, std::nullopt).has_value());
  }
}

TEST(SynCookie, RandomSegmentsAreNoCookies) {
  // A guess hits one of 16 good numbers of 2^32: 0.001 hits are expected, with this seed none.
  Random random{3};
  SynCookie cookie = cookies();
  (void)cookie.make(key_v4(), kIrs, with_mss(1460), kStart);
  FlowKey key = key_v4();
  int hits = 0;
  for (int i = 0; i < 250'000; ++i) {
    const std::uint64_t drawn = random.next();
    key.remote_port = static_cast<std::uint16_t>(random.next());
    const Seq iss{static_cast<std::uint32_t>(drawn)};
    const Seq irs{static_cast<std::uint32_t>(drawn >> 32)};
    std::optional<std::uint32_t> echoed;
    if ((i & 1) != 0) echoed = static_cast<std::uint32_t>(i);
    hits += cookie.check(key, irs, iss, kStart, echoed).has_value() ? 1 : 0;
  }
  EXPECT_EQ(hits, 0);
}

TEST(SynCookie, ACookieForOnePairOfPortsDoesNotHelpWithOthers) {
  SynCookie cookie = cookies();
  const Seq own = cookie.make(key_v4(0), kIrs, with_mss(1460), kStart);
  int hits = 0;
  for (unsigned port = 1; port < 65536; ++port) {
    const FlowKey other = key_v4(static_cast<std::uint16_t>(port));
    hits += cookie.check(other, kIrs, own, kStart, std::nullopt).has_value() ? 1 : 0;
  }
  EXPECT_EQ(hits, 0);
}

TEST(SynCookie, TheUpperBitsDoNotShowTimeAndMss) {
  // All these cookies have one counter and one MSS; what is seen of them must be spread evenly, by
  // the ports and by the peer's sequence number.
  constexpr std::uint32_t kDraws = 256 * 64;
  SynCookie cookie = cookies();
  std::array<int, 256> by_port{};
  std::array<int, 256> by_sequence{};
  for (std::uint32_t i = 0; i < kDraws; ++i) {
    const FlowKey key = key_v4(static_cast<std::uint16_t>(i));
    ++by_port[cookie.make(key, kIrs, with_mss(1460), kStart).value() >> 24];
    ++by_sequence[cookie.make(key_v4(), kIrs + i, with_mss(1460), kStart).value() >> 24];
  }
  // 64 are expected in each, with a deviation of 8: five of them in either direction.
  for (const auto& seen : {by_port, by_sequence}) {
    EXPECT_GT(*std::ranges::min_element(seen), 64 - 40);
    EXPECT_LT(*std::ranges::max_element(seen), 64 + 40);
  }
}

}  // namespace
}  // namespace weir::tcp
