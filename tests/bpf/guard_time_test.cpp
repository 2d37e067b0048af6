// When lists are asked. The host's alone, because the kernel's clock is its own.

#include <netinet/in.h>

#include "tests/bpf/balancer_fixture.h"

namespace weir::testing {
namespace {

class GuardTime : public ::testing::Test, protected BalancerFixture {
 protected:
  void SetUp() override {
    start_standard_world();
    set_second(1000);
    weir_vip vip = vip_entry(kVipIpip, WEIR_MODE_IPIP);
    vip.flags = WEIR_VIP_SOURCE_LIST;
    add_vip(at(kVip, 80), IPPROTO_TCP, vip);
    check(runner().publish_map("weir_lists", kVipIpip, source_list()));
  }

  void set_second(std::uint64_t second) {
    runner().set_ticks((second + 1) << BpfSettings::kSecondShift);
  }
  void deny_client() {
    InnerMap list = source_list();
    list.add(weir_prefix_key{128, abi(kClient)}, std::uint32_t{WEIR_LIST_DENY});
    check(runner().publish_map("weir_lists", kVipIpip, list));
  }
  std::string verdict_of(std::uint16_t port) {
    return run(tcp(at(kClient, port), at(kVip, 80))).moved.begin()->first;
  }
};

TEST_F(GuardTime, AFlowThatGoesOnIsToldOfAListThatChangedWithinASecond) {
  ASSERT_EQ(verdict_of(40000), "backend 1");
  deny_client();
  EXPECT_EQ(verdict_of(40000), "backend 1") << "it passed in this very second";
  EXPECT_EQ(verdict_of(40001), "drop_source") << "a new flow asks at once";
  set_second(1001);
  EXPECT_EQ(verdict_of(40000), "drop_source");
  EXPECT_EQ(verdict_of(40000), "drop_source") << "what is dropped leaves no stamp";
}

TEST_F(GuardTime, AFlowThatWasDeniedPassesAtOnceWhenTheListLetsIt) {
  deny_client();
  ASSERT_EQ(verdict_of(40000), "drop_source");
  check(runner().publish_map("weir_lists", kVipIpip, source_list()));
  EXPECT_EQ(verdict_of(40000), "backend 1");
}

}  // namespace
}  // namespace weir::testing
