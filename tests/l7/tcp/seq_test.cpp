#include "l7/tcp/seq.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace weir::tcp {
namespace {

TEST(Seq, OrderIsCircular) {
  for (const std::uint32_t start : {0U, 1U, 0x7fffffffU, 0x80000000U, 0xfffffff0U, 0xffffffffU}) {
    for (const std::uint32_t step : {1U, 2U, 0x10000U, 0x7fffffffU}) {
      const Seq a{start};
      const Seq b = a + step;
      EXPECT_TRUE(a < b && a <= b && b > a && b >= a) << start << "+" << step;
      EXPECT_FALSE(b < a || b <= a || a > b || a >= b) << start << "+" << step;
      EXPECT_EQ(a.distance_to(b), step);
      EXPECT_EQ(b - step, a);
      EXPECT_EQ(later_of(a, b), b);
      EXPECT_EQ(earlier_of(a, b), a);
    }
    EXPECT_TRUE(Seq{start} <= Seq{start} && Seq{start} >= Seq{start});
    EXPECT_FALSE(Seq{start} < Seq{start} || Seq{start} > Seq{start});
  }
}

}  // namespace
}  // namespace weir::tcp
