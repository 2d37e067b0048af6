#include "l7/tcp/ports.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "l4/base/random.h"

namespace weir::tcp {
namespace {

constexpr std::uint16_t kFirst = 32768;
constexpr std::uint16_t kLast = 60999;
constexpr std::uint64_t kDestination = 0x1234'5678'9abc'def0;

constexpr auto kAllFree = [](std::uint16_t) { return PortUse::kFree; };

TEST(PortShare, HoldsEveryPortOfTheRangeForExactlyOneWorkerWhichOwnsIt) {
  struct Range {
    std::uint16_t first, last;
  };
  for (const Range range : {Range{32768, 60999}, {1, 65535}, {1024, 1024}, {65000, 65007}}) {
    for (const std::uint32_t workers : {1U, 2U, 3U, 64U}) {
      std::vector<std::uint8_t> seen(65536, 0);
      std::uint32_t total = 0;
      std::uint32_t not_owned = 0;
      for (std::uint32_t worker = 0; worker < workers; ++worker) {
        const PortShare share{range.first, range.last, worker, workers};
        total += share.size();
        for (std::uint32_t i = 0; i < share.size(); ++i) {
          if (owner_of_port(share.at(i), workers) != worker) ++not_owned;
          seen[share.at(i)] = 1;
        }
      }
      const std::string what = fmt::format("{} to {}, {}", range.first, range.last, workers);
      EXPECT_EQ(not_owned, 0U) << what;
      const std::uint32_t all = range.last - range.first + 1U;
      EXPECT_EQ(total, all) << what;
      EXPECT_EQ(std::count(seen.begin() + range.first, seen.begin() + range.last + 1, 1), all)
          << what;
    }
  }
}

TEST(PortChooser, GivesEveryPortOfItsShareOnceBeforeAnyTwice) {
  PortChooser chooser{{kFirst, kLast, 1, 3}};
  std::vector<std::uint8_t> seen(65536, 0);
  const PortShare& share = chooser.share();
  std::uint32_t wrong = 0;
  std::uint32_t repeated = 0;
  for (std::uint32_t i = 0; i < share.size(); ++i) {
    const std::uint16_t port = chooser.choose(kDestination, kAllFree).value().port;
    if (port % 3 != 1 || port < kFirst || port > kLast) ++wrong;
    if (seen[port]++ != 0) ++repeated;
  }
  EXPECT_EQ(wrong, 0U);
  EXPECT_EQ(repeated, 0U);
  EXPECT_EQ(seen[chooser.choose(kDestination, kAllFree).value().port], 1);
}

TEST(PortChooser, StartsElsewhereForEveryDestination) {
  Random random{1};
  PortChooser chooser{{kFirst, kLast, 0, 2}};
  // First ports of many destinations, spread over sixteen parts of the range.
  constexpr int kDraws = 16'000;
  std::array<int, 16> parts{};
  for (int i = 0; i < kDraws; ++i) {
    const auto chosen = chooser.choose(random.next(), kAllFree);
    ++parts[(chosen->port - kFirst) * parts.size() / (kLast - kFirst + 1)];
  }
  // Five standard deviations of a binomial distribution.
  for (const int part : parts)
    EXPECT_NEAR(part, kDraws / 16, 155);
}

TEST(PortChooser, SaysToOneDestinationNothingAboutAnother) {
  // Of another bucket; those of one bucket share a counter, as RFC 6056 has it.
  PortChooser chooser{{kFirst, kLast, 0, 1}};
  const std::uint16_t before = chooser.choose(kDestination, kAllFree)->port;
  for (int i = 0; i < 100; ++i)
    static_cast<void>(chooser.choose(kDestination + 1, kAllFree));
  EXPECT_EQ(chooser.choose(kDestination, kAllFree)->port, before + 1);
}

TEST(PortChooser, AsksOncePerChoiceOnAverageWhileAThirdIsTakenForGood) {
  PortChooser chooser{{kFirst, kLast, 0, 2}};
  // The worst case: the taken ones lie in one row, as connections do that were opened together.
  const PortShare& share = chooser.share();
  const std::uint16_t taken_below = share.at(share.size() / 3);
  std::uint64_t asks = 0;
  const std::uint32_t choices = share.size() / 3 * 2 * 4;  // four turns
  std::uint32_t failed = 0;
  for (std::uint32_t i = 0; i < choices; ++i) {
    const auto chosen = chooser.choose(kDestination, [&](std::uint16_t port) {
      ++asks;
      return port < taken_below ? PortUse::kTaken : PortUse::kFree;
    });
    if (!chosen) ++failed;
  }
  EXPECT_LE(asks, std::uint64_t{choices} * 2);
  // One search is bounded, so a row of thousands takes several; each fails visibly.
  EXPECT_LE(failed, 4U * 5U);
}

TEST(PortChooser, NeverAsksMoreThanItsLimitAndSaysWhenAllAreTaken) {
  PortChooser chooser{{kFirst, kLast, 0, 1}};
  std::uint32_t asks = 0;
  const auto taken = [&](std::uint16_t) {
    ++asks;
    return PortUse::kTaken;
  };
  EXPECT_FALSE(chooser.choose(kDestination, taken));
  EXPECT_EQ(asks, PortChooser::kAsksMax);

  PortChooser small{{kFirst, kFirst + 9, 0, 2}};
  asks = 0;
  EXPECT_FALSE(small.choose(kDestination, taken));
  EXPECT_EQ(asks, 5U);

  PortChooser none{{kFirst, kFirst, 1, 2}};  // the only port is the other worker's
  asks = 0;
  EXPECT_FALSE(none.choose(kDestination, taken));
  EXPECT_EQ(asks, 0U);
}

TEST(PortChooser, PrefersAFreePortToAReusableOneThatComesFirst) {
  PortChooser chooser{{100, 103, 0, 1}};  // as many as are asked about for a free one
  const std::uint16_t free = 103;
  for (int i = 0; i < 4; ++i) {
    const auto chosen = chooser.choose(kDestination, [&](std::uint16_t port) {
      return port == free ? PortUse::kFree : PortUse::kReusable;
    });
    EXPECT_EQ(chosen->port, free);
    EXPECT_EQ(chosen->use, PortUse::kFree);
  }
}

// What a proxy does to one upstream for minutes on end, at a tenth of its size: every connection is
// closed by us, so each port is in TIME-WAIT for a minute, and may be reused after a second of it.
TEST(PortChooser, SustainsOpensToOneUpstreamForEverOldestPortsFirst) {
  constexpr std::uint32_t kOpens = 100'000;
  constexpr std::uint32_t kOpensPerSecond = 500;
  PortChooser chooser{{kFirst, kFirst + (kLast - kFirst) / 10, 1, 2}};
  std::vector<std::uint32_t> closed(65536, 0);  // the number of the open that used it last
  std::uint64_t asks = 0;
  std::uint32_t reused = 0;
  std::uint32_t youngest = UINT32_MAX;  // age at reuse, in opens
  for (std::uint32_t i = 1; i <= kOpens; ++i) {
    const auto chosen = chooser.choose(kDestination, [&](std::uint16_t port) {
      ++asks;
      if (closed[port] == 0 || i - closed[port] > 60 * kOpensPerSecond) return PortUse::kFree;
      return i - closed[port] > kOpensPerSecond ? PortUse::kReusable : PortUse::kTaken;
    });
    ASSERT_TRUE(chosen) << "open " << i;
    if (chosen->use == PortUse::kReusable) {
      ++reused;
      youngest = std::min(youngest, i - closed[chosen->port]);
    }
    closed[chosen->port] = i;
  }
  EXPECT_GT(reused, kOpens * 9 / 10);
  // Nobody is reused before all others have been: as old as the share is large.
  EXPECT_EQ(youngest, chooser.share().size());
  EXPECT_LE(asks, std::uint64_t{kOpens} * PortChooser::kAsksForFree);
}

}  // namespace
}  // namespace weir::tcp
