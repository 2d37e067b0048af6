#include "l4/control/change_text.h"

#include <gtest/gtest.h>

#include <functional>

namespace weir::control {
namespace {

Vip dns() {
  Vip vip;
  vip.name = "dns";
  vip.address = wire::IpAddress::v4(203, 0, 113, 53);
  vip.ports = PortRange::only(wire::Port{53});
  vip.protocol = Protocol::kUdp;
  vip.backends = {{.name = "a", .address = wire::IpAddress::v4(10, 0, 2, 11), .port = {}},
                  {.name = "b", .address = wire::IpAddress::v4(10, 0, 2, 12), .port = {}}};
  return vip;
}

std::vector<std::string> lines_of(const std::vector<Vip>& before, const std::vector<Vip>& after) {
  std::vector<std::string> lines;
  for (const Operation& operation : diff_vips(before, after)) {
    for (const std::string& line : change_lines(operation))
      lines.push_back(line);
  }
  return lines;
}

TEST(ChangeText, SaysWhatComesAndGoes) {
  EXPECT_EQ(lines_of({}, {dns()}),
            std::vector<std::string>{"add vip 203.0.113.53:53/udp (ipip, 2 backends)"});
  EXPECT_EQ(lines_of({dns()}, {}), std::vector<std::string>{"remove vip 203.0.113.53:53/udp"});
  EXPECT_TRUE(lines_of({dns()}, {dns()}).empty());
}

struct Case {
  const char* name;
  std::function<void(Vip&)> change;
  std::vector<std::string> lines;  // behind "vip 203.0.113.53:53/udp: "
};

class ChangedVip : public ::testing::TestWithParam<Case> {};

TEST_P(ChangedVip, SaysWhichValueBecameWhich) {
  Vip after = dns();
  GetParam().change(after);
  std::vector<std::string> expected;
  for (const std::string& line : GetParam().lines)
    expected.push_back("vip 203.0.113.53:53/udp: " + line);
  EXPECT_EQ(lines_of({dns()}, {after}), expected);
}

INSTANTIATE_TEST_SUITE_P(
    , ChangedVip,
    ::testing::Values(
        Case{"Weight",
             [](Vip& vip) { vip.backends[0].weight = 50; },
             {"backend 10.0.2.11 weight 1 → 50"}},
        Case{"Draining",
             [](Vip& vip) { vip.backends[1].state = BackendState::kDraining; },
             {"backend 10.0.2.12 state active → draining"}},
        Case{"BackendAdded",
             [](Vip& vip) {
               vip.backends.push_back({.name = {},
                                       .address = wire::IpAddress::v4(10, 0, 2, 13),
                                       .port = {},
                                       .weight = 7});
             },
             {"backend 10.0.2.13 added, weight 7"}},
        Case{"BackendRemoved",
             [](Vip& vip) { vip.backends.pop_back(); },
             {"backend 10.0.2.12 removed"}},
        Case{"Order",
             [](Vip& vip) { std::swap(vip.backends[0], vip.backends[1]); },
             {"backends in another order"}},
        Case{"Name", [](Vip& vip) { vip.name.clear(); }, {"name dns → none"}},
        Case{"Limit", [](Vip& vip) { vip.limits.packets = 5; }, {"limits.packets 0 → 5"}},
        Case{"Sources",
             [](Vip& vip) { vip.sources.deny = {*wire::Prefix::parse("192.0.2.0/24")}; },
             {"sources.deny: 1 prefixes more, 0 fewer"}},
        Case{"Hash",
             [](Vip& vip) { vip.hash = HashPolicy::kSourceIp; },
             {"hash fiveTuple → sourceIP",
              "built anew: what is known of its flows holds no longer"}}),
    [](const auto& test) { return std::string{test.param.name}; });

}  // namespace
}  // namespace weir::control
