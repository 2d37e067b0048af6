#include "l4/next_hop.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <sys/socket.h>

#include <vector>

namespace weir::l4 {
namespace {

const wire::IpAddress kBackend = wire::IpAddress::v4(10, 0, 2, 11);
const wire::IpAddress kGateway = wire::IpAddress::v4(10, 0, 2, 1);
const wire::MacAddress kMac{{2, 0, 0, 0, 0, 7}};

/// The one message of a finished request, as the kernel would have sent it.
NetlinkMessage message_of(NetlinkRequest& request) {
  NetlinkMessage found;
  for_each_message(request.finish(1), [&](const NetlinkMessage& message) { found = message; });
  return found;
}

NetlinkRequest neighbor(std::uint16_t type, std::uint16_t state, std::uint8_t family = AF_INET) {
  ndmsg header{};
  header.ndm_family = family;
  header.ndm_ifindex = 3;
  header.ndm_state = state;
  NetlinkRequest request{type, 0};
  request.fixed(header).attribute(NDA_DST, kBackend).attribute(NDA_LLADDR, kMac);
  return request;
}

struct NeighborCase {
  const char* name;
  std::uint16_t type;
  std::uint16_t state;
  bool usable;
  bool reachable;
  bool failed;
};

class NeighborStates : public ::testing::TestWithParam<NeighborCase> {};

TEST_P(NeighborStates, AreUnderstood) {
  const NeighborCase& expected = GetParam();
  NetlinkRequest request = neighbor(expected.type, expected.state);
  const auto parsed = parse_neighbor(message_of(request));
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->first, (NeighborKey{3, kBackend}));
  EXPECT_EQ(parsed->second.usable, expected.usable);
  EXPECT_EQ(parsed->second.reachable, expected.reachable);
  EXPECT_EQ(parsed->second.failed, expected.failed);
}

INSTANTIATE_TEST_SUITE_P(
    , NeighborStates,
    ::testing::Values(
        NeighborCase{"ReachableIsUsed", RTM_NEWNEIGH, NUD_REACHABLE, true, true, false},
        NeighborCase{"StaleIsUsedButAskedFor", RTM_NEWNEIGH, NUD_STALE, true, false, false},
        NeighborCase{"ProbingIsUsed", RTM_NEWNEIGH, NUD_PROBE, true, false, false},
        NeighborCase{"PermanentIsUsed", RTM_NEWNEIGH, NUD_PERMANENT, true, true, false},
        NeighborCase{"IncompleteIsNotUsed", RTM_NEWNEIGH, NUD_INCOMPLETE, false, false, false},
        NeighborCase{"FailedIsNotUsed", RTM_NEWNEIGH, NUD_FAILED, false, false, true},
        NeighborCase{"ADeletedOneIsNotUsed", RTM_DELNEIGH, NUD_REACHABLE, false, false, false}),
    [](const auto& param_info) { return param_info.param.name; });

TEST(ParseNeighbor, ABridgesForwardingEntryIsNoNeighbor) {
  NetlinkRequest request = neighbor(RTM_NEWNEIGH, NUD_REACHABLE, AF_BRIDGE);
  EXPECT_FALSE(parse_neighbor(message_of(request)));
}

TEST(ParseRoute, GatewaySourceAndMtuAreFound) {
  rtmsg header{};
  header.rtm_family = AF_INET;
  header.rtm_type = RTN_UNICAST;
  NetlinkRequest request{RTM_NEWROUTE, 0};
  request.fixed(header)
      .attribute(RTA_OIF, std::uint32_t{3})
      .attribute(RTA_GATEWAY, kGateway)
      .attribute(RTA_PREFSRC, wire::IpAddress::v4(10, 0, 2, 5))
      .nested(RTA_METRICS,
              [](NetlinkRequest& metrics) { metrics.attribute(RTAX_MTU, std::uint32_t{1400}); });
  const auto route = parse_route(message_of(request));
  ASSERT_TRUE(route);
  EXPECT_EQ(route->ifindex, 3U);
  EXPECT_EQ(route->gateway, kGateway);
  EXPECT_EQ(route->source, wire::IpAddress::v4(10, 0, 2, 5));
  EXPECT_EQ(route->mtu, 1400U);
}

TEST(ParseRoute, AnIpv4RouteOverAnIpv6NeighborIsFound) {
  const auto gateway = wire::IpAddress::parse("fe80::1");
  ASSERT_TRUE(gateway);
  std::vector<std::byte> via(sizeof(rtvia) + 16);
  const std::uint16_t family = AF_INET6;
  std::memcpy(via.data(), &family, sizeof(family));
  std::memcpy(via.data() + sizeof(rtvia), gateway->bytes.data(), 16);
  NetlinkRequest request{RTM_NEWROUTE, 0};
  request.fixed(rtmsg{}).attribute(RTA_VIA, std::span<const std::byte>{via});
  const auto route = parse_route(message_of(request));
  ASSERT_TRUE(route);
  EXPECT_EQ(route->gateway, *gateway);
}

TEST(ParseLink, NameMacMtuAndStateAreFound) {
  ifinfomsg header{};
  header.ifi_index = 3;
  header.ifi_type = ARPHRD_ETHER;
  header.ifi_flags = 0x1 | 0x40;  // IFF_UP, IFF_RUNNING
  NetlinkRequest request{RTM_NEWLINK, 0};
  request.fixed(header)
      .attribute(IFLA_IFNAME, std::string_view{"eth0"})
      .attribute(IFLA_ADDRESS, kMac)
      .attribute(IFLA_MTU, std::uint32_t{1500});
  const auto link = parse_link(message_of(request));
  ASSERT_TRUE(link);
  EXPECT_EQ(link->first, 3U);
  EXPECT_EQ(link->second, (Link{"eth0", kMac, 1500, true, true}));
}

NetlinkRequest vlan_link(std::uint16_t id, std::uint16_t protocol, bool elsewhere = false) {
  ifinfomsg header{};
  header.ifi_index = 4;
  header.ifi_type = ARPHRD_ETHER;
  NetlinkRequest request{RTM_NEWLINK, 0};
  request.fixed(header).attribute(IFLA_LINK, std::uint32_t{3});
  if (elsewhere) request.attribute(IFLA_LINK_NETNSID, std::uint32_t{0});
  request.nested(IFLA_LINKINFO, [&](NetlinkRequest& info) {
    info.attribute(IFLA_INFO_KIND, std::string_view{"vlan"});
    info.nested(IFLA_INFO_DATA, [&](NetlinkRequest& data) {
      data.attribute(IFLA_VLAN_ID, id);
      data.attribute(IFLA_VLAN_PROTOCOL, htons(protocol));
    });
  });
  return request;
}

TEST(ParseLink, AVlanDeviceHasATagAndADeviceBelow) {
  NetlinkRequest request = vlan_link(42, ETH_P_8021Q);
  const auto link = parse_link(message_of(request));
  ASSERT_TRUE(link);
  EXPECT_EQ(link->second.vlan, (VlanTag{42, true}));
  EXPECT_EQ(link->second.parent, 3U);
  NetlinkRequest other = vlan_link(42, ETH_P_8021AD);
  EXPECT_EQ(parse_link(message_of(other))->second.vlan, (VlanTag{42, false}));
  NetlinkRequest moved = vlan_link(42, ETH_P_8021Q, true);
  EXPECT_EQ(parse_link(message_of(moved))->second.parent, 0U)
      << "an index of another network namespace";
}

const wire::MacAddress kOtherMac{{2, 0, 0, 0, 0, 8}};

Link ethernet(std::optional<VlanTag> vlan = {}, std::uint32_t parent = 0) {
  return {.name = "x",
          .mac = vlan ? kOtherMac : kMac,
          .mtu = 1500,
          .up = true,
          .ethernet = true,
          .vlan = vlan,
          .parent = parent};
}

TEST(EgressOf, AFrameForAVlanDeviceLeavesTaggedByTheDeviceBelow) {
  const std::map<std::uint32_t, Link> links{{3, ethernet()}, {4, ethernet(VlanTag{42, true}, 3)}};
  EXPECT_EQ(egress_of(links, 4), (Egress{3, kMac, 42}));
}

TEST(EgressOf, OfADeviceThatHasVlansFramesLeaveUntagged) {
  const std::map<std::uint32_t, Link> links{
      {2, ethernet()}, {3, ethernet()}, {4, ethernet(VlanTag{42, true}, 3)}};
  EXPECT_EQ(egress_of(links, 3), (Egress{3, kMac, WEIR_VLAN_NONE}));
  EXPECT_EQ(egress_of(links, 2), (Egress{2, kMac, WEIR_VLAN_KEEP})) << "tags are kept elsewhere";
}

TEST(EgressOf, WhatTheProgramCannotTagIsRefused) {
  const std::map<std::uint32_t, Link> links{{3, ethernet()},
                                            {4, ethernet(VlanTag{42, true}, 3)},
                                            {5, ethernet(VlanTag{43, true}, 4)},
                                            {6, ethernet(VlanTag{44, false}, 3)},
                                            {7, ethernet(VlanTag{45, true}, 0)}};
  EXPECT_FALSE(egress_of(links, 5)) << "a VLAN in a VLAN";
  EXPECT_FALSE(egress_of(links, 6)) << "802.1ad";
  EXPECT_FALSE(egress_of(links, 7)) << "the device below is in another network namespace";
  EXPECT_FALSE(egress_of(links, 99));
}

/// Whatever is cut off or claims too much: nothing is read beyond the end (the sanitizer watches),
/// and nothing is made up.
TEST(NetlinkMessages, CutAnywhereTheyAreRefusedOrLackAttributes) {
  NetlinkRequest request = neighbor(RTM_NEWNEIGH, NUD_REACHABLE);
  const auto whole = request.finish(1);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const std::vector<std::byte> cut{whole.begin(), whole.begin() + static_cast<long>(size)};
    int visited = 0;
    for_each_message(cut, [&](const NetlinkMessage&) { ++visited; });
    EXPECT_EQ(visited, 0) << size;
  }
  std::vector<std::byte> lying{whole.begin(), whole.end()};
  lying[sizeof(nlmsghdr) + sizeof(ndmsg)] = std::byte{0xff};  // the first attribute's length
  for_each_message(lying, [&](const NetlinkMessage& message) {
    EXPECT_FALSE(parse_neighbor(message)) << "an address from beyond the message";
  });
}

TEST(NetlinkMessages, TooShortForTheirFixedPartTheyAreRefused) {
  NetlinkRequest request{RTM_NEWROUTE, 0};
  request.fixed(std::uint32_t{0});
  const NetlinkMessage message = message_of(request);
  EXPECT_FALSE(parse_route(message));
  EXPECT_FALSE(parse_link(message));
  EXPECT_FALSE(parse_neighbor(message));
}

}  // namespace
}  // namespace weir::l4
