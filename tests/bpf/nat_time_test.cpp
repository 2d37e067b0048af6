// What time makes of translated flows. The host's alone, because the kernel's clock is its own.

#include <netinet/in.h>

#include "tests/bpf/nat_fixture.h"

namespace weir::testing {
namespace {

class NatTime : public ::testing::Test, protected NatFixture {
 protected:
  void SetUp() override { start_nat_world(1); }
  void TearDown() override {}

  void set_second(std::uint64_t second) {
    runner().set_ticks((second + 1) << BpfSettings::kSecondShift);
  }
};

}  // namespace
}  // namespace weir::testing
