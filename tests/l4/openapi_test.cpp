#include "tests/support/openapi.h"

#include <gtest/gtest.h>

#include "l4/openapi.h"
#include "l4/routes.h"

namespace weir::l4 {
namespace {

/// What the answers look like is held against the description in tests/lab/api_test.py.
TEST(OpenApi, DescribesEveryOperationAndNoOther) {
  EXPECT_EQ(testing::described_operations(kOpenapi), testing::served_operations(operations()));
}

}  // namespace
}  // namespace weir::l4
