#include "l7/tcp/reassembly.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "l4/base/random.h"

namespace weir::tcp {
namespace {

std::vector<SackBlock> blocks_of(const Reassembly& reassembly) {
  std::array<SackBlock, Reassembly::kRangesMax> out;
  const std::size_t count = reassembly.sack_blocks(out);
  return {out.begin(), out.begin() + static_cast<std::ptrdiff_t>(count)};
}

TEST(Reassembly, AgreesWithABitForEveryByte) {
  constexpr std::uint32_t kSpan = 400;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    Random random{seed};
    const Seq base{0xffffff00 + random.below(0x200)};  // around the wrap
    Reassembly reassembly;
    std::vector<bool> model(kSpan + 1, false);
    std::uint32_t next = 0;
    for (int step = 0; step < 60 && next + 1 < kSpan; ++step) {
      const std::uint32_t start = next + 1 + random.below(kSpan - next - 1);
      const std::uint32_t end = start + 1 + random.below(std::min(20U, kSpan - start));
      const bool fits = reassembly.fits(base + start, base + end);
      ASSERT_EQ(reassembly.insert(base + start, base + end), fits);
      if (fits) std::fill(model.begin() + start, model.begin() + end, true);

      if (random.chance(0.3)) {
        next += random.below(10);
        const Seq got = reassembly.advance(base + next);
        while (model[next])
          ++next;
        ASSERT_EQ(base.distance_to(got), next) << "seed " << seed << " step " << step;
      }
      std::size_t ranges = 0;
      for (std::uint32_t i = next + 1; i <= kSpan; ++i)
        ranges += model[i] && !model[i - 1];
      ASSERT_EQ(reassembly.ranges(), ranges) << "seed " << seed << " step " << step;
      for (const SackBlock& block : blocks_of(reassembly))
        for (Seq at = block.start; at < block.end; at += 1)
          ASSERT_TRUE(model[base.distance_to(at)]);
    }
  }
}

TEST(Reassembly, ARangeTooManyIsRefusedAndNothingChanges) {
  Reassembly reassembly;
  for (std::uint32_t i = 0; i < Reassembly::kRangesMax; ++i)
    EXPECT_TRUE(reassembly.insert(Seq{100 * i}, Seq{100 * i + 10}));
  EXPECT_FALSE(reassembly.fits(Seq{5000}, Seq{5010}));
  EXPECT_FALSE(reassembly.insert(Seq{5000}, Seq{5010}));
  EXPECT_EQ(reassembly.ranges(), Reassembly::kRangesMax);
  // What joins ranges still fits.
  EXPECT_TRUE(reassembly.insert(Seq{10}, Seq{100}));
  EXPECT_EQ(reassembly.ranges(), Reassembly::kRangesMax - 1);
}

TEST(Reassembly, RangesAreReportedByHowLatelyTheyGrew) {
  Reassembly reassembly;
  reassembly.insert(Seq{100}, Seq{200});
  reassembly.insert(Seq{300}, Seq{400});
  reassembly.insert(Seq{500}, Seq{600});
  reassembly.insert(Seq{400}, Seq{450});
  EXPECT_EQ(
      blocks_of(reassembly),
      (std::vector<SackBlock>{{Seq{300}, Seq{450}}, {Seq{500}, Seq{600}}, {Seq{100}, Seq{200}}}));
}

}  // namespace
}  // namespace weir::tcp
