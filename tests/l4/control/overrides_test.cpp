#include "l4/control/overrides.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace weir::control {
namespace {

wire::IpAddress address(std::uint8_t last) { return wire::IpAddress::v4(10, 0, 2, last); }

Vip vip_of(std::uint8_t last) {
  Vip vip;
  vip.address = wire::IpAddress::v4(203, 0, 113, last);
  vip.ports = PortRange::only(wire::Port{80});
  for (const std::uint8_t backend : {1, 2})
    vip.backends.push_back({.name = {}, .address = address(backend), .port = {}});
  return vip;
}

TEST(Overrides, SayTheStateOfTheBackendThatTheyName) {
  std::vector<Vip> vips{vip_of(1), vip_of(2)};
  apply_overrides(vips, {{vip_of(2).key(), address(1), BackendState::kDraining},
                         {vip_of(2).key(), address(2), BackendState::kMaintenance},
                         {vip_of(3).key(), address(2), BackendState::kDraining},
                         {vip_of(1).key(), address(9), BackendState::kDraining}});
  EXPECT_EQ(vips[0], vip_of(1));
  EXPECT_EQ(vips[1].backends[0].state, BackendState::kDraining);
  EXPECT_EQ(vips[1].backends[1].state, BackendState::kMaintenance);
}

TEST(Overrides, ThereIsOneForABackend) {
  std::vector<BackendOverride> overrides;
  set_override(overrides, {vip_of(2).key(), address(1), BackendState::kDraining});
  set_override(overrides, {vip_of(1).key(), address(1), BackendState::kDraining});
  set_override(overrides, {vip_of(2).key(), address(1), BackendState::kMaintenance});
  ASSERT_EQ(overrides.size(), 2U);
  EXPECT_TRUE(std::ranges::is_sorted(overrides));
  EXPECT_EQ(find_override(overrides, vip_of(2).key(), address(1))->state,
            BackendState::kMaintenance);
  EXPECT_TRUE(drop_override(overrides, vip_of(2).key(), address(1)));
  EXPECT_FALSE(drop_override(overrides, vip_of(2).key(), address(1)));
  EXPECT_EQ(find_override(overrides, vip_of(2).key(), address(1)), nullptr);
}

TEST(Overrides, GoWithTheirBackend) {
  std::vector<BackendOverride> overrides{{vip_of(1).key(), address(1), BackendState::kDraining},
                                         {vip_of(1).key(), address(9), BackendState::kDraining},
                                         {vip_of(3).key(), address(1), BackendState::kDraining}};
  drop_stale_overrides(overrides, {vip_of(1), vip_of(2)});
  ASSERT_EQ(overrides.size(), 1U);
  EXPECT_EQ(overrides[0].address, address(1));
}

TEST(Overrides, AreTheSameAfterTheirJson) {
  const BackendOverride item{vip_of(1).key(), address(1), BackendState::kMaintenance};
  EXPECT_EQ(to_json(item),
            R"({"vip":"203.0.113.1:80/tcp","address":"10.0.2.1","state":"maintenance"})");
  const auto again = override_from_json(to_json(item));
  ASSERT_TRUE(again) << again.error().text();
  EXPECT_EQ(*again, item);
}

TEST(Overrides, MalformedOnesAreRefused) {
  for (const char* text :
       {"", "[]", "{}", R"({"vip": 1, "address": "10.0.2.1", "state": "draining"})",
        R"({"vip": "203.0.113.1", "address": "10.0.2.1", "state": "draining"})",
        R"({"vip": "203.0.113.1:80/tcp", "address": "b1", "state": "draining"})",
        R"({"vip": "203.0.113.1:80/tcp", "address": "10.0.2.1", "state": "gone"})",
        R"({"vip": "203.0.113.1:80/tcp", "address": "10.0.2.1"})"})
    EXPECT_FALSE(override_from_json(text)) << text;
}

}  // namespace
}  // namespace weir::control
