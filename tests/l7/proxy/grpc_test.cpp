#include "l7/proxy/grpc.h"

#include <gtest/gtest.h>

namespace weir::proxy {
namespace {

using namespace std::chrono_literals;

TEST(GrpcTimeout, HasEightDigitsAtMostAndAUnit) {
  EXPECT_EQ(parse_grpc_timeout("3H"), 3h);
  EXPECT_EQ(parse_grpc_timeout("5M"), 5min);
  EXPECT_EQ(parse_grpc_timeout("7S"), 7s);
  EXPECT_EQ(parse_grpc_timeout("500m"), 500ms);
  EXPECT_EQ(parse_grpc_timeout("12345678u"), 12'345'678us);
  EXPECT_EQ(parse_grpc_timeout("0n"), 0ns);
  for (const char* text : {"", "5", "S", "123456789S", "5X", "-5S", "5S ", " 5S", "5.0S"})
    EXPECT_FALSE(parse_grpc_timeout(text)) << text;
}

TEST(GrpcTimeout, IsTenYearsAtMost) {
  for (const char* text : {"2562047H", "2562048H", "6000000H", "99999999H", "99999999M"}) {
    const auto timeout = parse_grpc_timeout(text);
    ASSERT_TRUE(timeout) << text;
    EXPECT_EQ(*timeout, Duration{24h * 3650}) << text;
  }
}

}  // namespace
}  // namespace weir::proxy
