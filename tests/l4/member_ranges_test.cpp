#include "l4/member_ranges.h"

#include <gtest/gtest.h>

#include <vector>

#include "l4/base/random.h"

namespace weir::l4 {
namespace {

constexpr std::uint32_t kEntries = 1000;

TEST(MemberRanges, EntryZeroIsNobodys) {
  MemberRanges ranges{kEntries};
  EXPECT_FALSE(ranges.take(kEntries));
  const auto whole = ranges.take(kEntries - 1);
  ASSERT_TRUE(whole);
  EXPECT_EQ(*whole + 1, 1U);
  EXPECT_FALSE(ranges.take(1));
}

TEST(MemberRanges, WhatIsTakenIsNotTakenTwice) {
  MemberRanges ranges{kEntries};
  ASSERT_TRUE(ranges.take_at(100, 10));
  EXPECT_FALSE(ranges.take_at(105, 10));
  EXPECT_FALSE(ranges.take_at(95, 10));
  EXPECT_FALSE(ranges.take_at(990, 20)) << "beyond the end";
  EXPECT_TRUE(ranges.take_at(110, 10));
  EXPECT_TRUE(ranges.take_at(90, 10));
}

TEST(MemberRanges, NothingIsAlwaysThere) {
  MemberRanges ranges{kEntries};
  EXPECT_TRUE(ranges.take_at(0, 0));
  EXPECT_TRUE(ranges.take_at(0, 0));
  ranges.give_back(0, 0);
  EXPECT_TRUE(ranges.take(kEntries - 1));
}

TEST(MemberRanges, WhatIsGivenBackInAnyOrderGrowsTogether) {
  Random random{5};
  MemberRanges ranges{kEntries};
  struct Taken {
    std::uint32_t range;
    std::uint32_t length;
  };
  std::vector<Taken> taken;
  std::vector<bool> used(kEntries);
  for (int step = 0; step < 20'000; ++step) {
    if (taken.empty() || random.below(2) == 0) {
      const std::uint32_t length = 1 + random.below(60);
      const auto range = ranges.take(length);
      if (!range) continue;
      for (std::uint32_t i = 1; i <= length; ++i) {
        ASSERT_FALSE(used.at(*range + i)) << "step " << step;
        used[*range + i] = true;
      }
      taken.push_back({*range, length});
      continue;
    }
    std::swap(taken[random.below(static_cast<std::uint32_t>(taken.size()))], taken.back());
    const auto [range, length] = taken.back();
    taken.pop_back();
    ranges.give_back(range, length);
    for (std::uint32_t i = 1; i <= length; ++i)
      used[range + i] = false;
  }
  for (const auto& [range, length] : taken)
    ranges.give_back(range, length);
  EXPECT_TRUE(ranges.take(kEntries - 1)) << "one piece again";
}

}  // namespace
}  // namespace weir::l4
