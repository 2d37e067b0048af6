#include "l4/base/siphash.h"

#include <gtest/gtest.h>

#include <array>

namespace weir {
namespace {

constexpr SipKey kKey{{0x0706050403020100, 0x0f0e0d0c0b0a0908}};

std::array<std::byte, 36> counting_bytes() {
  std::array<std::byte, 36> bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::byte>(i);
  return bytes;
}

TEST(SipHash, AgreesWithThePublishedVectors) {
  const auto bytes = counting_bytes();
  const std::span input{bytes};
  EXPECT_EQ(siphash(kKey, input.first(0)), 0x726fdb47dd0e0e31);
  EXPECT_EQ(siphash(kKey, input.first(8)), 0x93f5f5799a932462);
  EXPECT_EQ(siphash(kKey, input.first(15)), 0xa129ca6149be45e5);  // the paper's appendix A
}

TEST(SipHash, TheShortVariantHasOneAndThreeRounds) {
  const auto bytes = counting_bytes();
  EXPECT_EQ((siphash<1, 3>(kKey, {})), 0xabac0158050fc4dc);
  // Of the size of a flow key; from a second implementation, written after the paper.
  EXPECT_EQ((siphash<1, 3>(kKey, bytes)), 0x2cf508d3ada26206);
}

}  // namespace
}  // namespace weir
