#include "tests/support/openapi.h"

#include <gtest/gtest.h>

#include "l7/admin_api.h"
#include "l7/openapi.h"

namespace weir::l7 {
namespace {

TEST(OpenApi, DescribesEveryOperationAndNoOther) {
  EXPECT_EQ(testing::described_operations(kOpenapi),
            testing::served_operations(AdminApi::operations()));
}

}  // namespace
}  // namespace weir::l7
