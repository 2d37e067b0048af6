#include "l4/next_hop.h"

#include <gtest/gtest.h>
#include <linux/if_arp.h>
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
