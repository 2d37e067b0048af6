// What the kernel's test-run does not accept, and so only the host engine can show.

#include <linux/bpf.h>
#include <netinet/in.h>

#include "tests/bpf/balancer_fixture.h"

namespace weir::testing {
namespace {

class ShortOrLongFrame : public ::testing::Test, protected BalancerFixture {
 protected:
  void SetUp() override { start_standard_world(); }
};

TEST_F(ShortOrLongFrame, LessThanAnEthernetHeaderIsPassed) {
  for (std::size_t size = 0; size < 14; ++size) {
    const RunResult result = run(tcp(at(kClient, 1), at(kVip, 80)).truncate_to(size));
    EXPECT_EQ(result.moved.count("pass_not_ip"), 1u) << size;
  }
}

TEST_F(ShortOrLongFrame, WhatNoIpLengthFieldCanSayIsTooBig) {
  weir_backend backend = backend_at(kBackend, kVipIpip);
  backend.egress_mtu = 65535;
  add_backend(kBackendV4, backend);
  const auto run_with = [this](std::size_t ip_bytes) {
    return run(tcp(at(kClient, 1), at(kVip, 80)).payload(std::string(ip_bytes - 40, 'x')));
  };
  EXPECT_EQ(run_with(65535 - 20).moved.count("tx_ipip"), 1u);
  EXPECT_EQ(run_with(65535 - 19).moved.count("drop_too_big"), 1u);
}

TEST(HostEngine, TheAddressSanitizerSeesAReadBeyondTheFrame) {
  // The frames of the engine end where their memory ends. That this is noticed is what all other
  // tests on the host rely on, so it is tested once, where the sanitizer is built in.
#if defined(__SANITIZE_ADDRESS__)
  const std::vector<std::byte> frame(60);
  auto copy = std::make_unique<std::byte[]>(frame.size());
  volatile std::byte* end = copy.get() + frame.size();
  EXPECT_DEATH(static_cast<void>(*end), "heap-buffer-overflow");
#else
  GTEST_SKIP() << "built without the address sanitizer";
#endif
}

}  // namespace
}  // namespace weir::testing
