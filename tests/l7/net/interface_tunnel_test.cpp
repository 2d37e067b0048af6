#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>

#include "tests/l7/net/interface_fixture.h"

namespace weir::net {
namespace {

using testing::echo_request;
using testing::icmp;
using testing::ip_packet;
using testing::PacketBuilder;
using testing::Side;
using testing::tcp;
using testing::udp;
using wire::IpAddress;

// A balancer on the link, and one that is known by its network.
const IpAddress kBalancer = IpAddress::v4(192, 0, 2, 77);
const IpAddress kBalancer6 = *IpAddress::parse("2001:db8:1::77");
const IpAddress kFarBalancer = IpAddress::v4(10, 20, 30, 40);
const IpAddress kStranger = IpAddress::v4(192, 0, 2, 78);
const IpAddress kStranger6 = *IpAddress::parse("2001:db8:1::78");

InterfaceConfig tunnel_config() {
  InterfaceConfig config = dual_stack_config();
  config.tunnel_sources = {{kBalancer, 32}, {kBalancer6, 128}, {IpAddress::v4(10, 20, 0, 0), 16}};
  return config;
}

PacketBuilder gue(const IpAddress& source, const IpAddress& destination,
                  const PacketBuilder& inner) {
  return udp(at(source, 51234), at(destination, 6080)).payload(inner.ip_bytes());
}
PacketBuilder to_vip() { return tcp(at(kClient, 4000), at(kVip, 80)); }
PacketBuilder to_vip6() { return tcp(at(kClient6, 4000), at(kVip6, 80)); }
/// As the balancer sends it.
PacketBuilder tunnelled(const PacketBuilder& inner) { return inner.inside(kBalancer, kOwn); }

struct Case {
  std::string_view name;
  PacketBuilder packet;
  std::vector<std::string> outcome;  // exactly these counters move
  friend void PrintTo(const Case& shown, std::ostream* out) { *out << shown.name; }
};

class TunnelFrame : public InterfaceTest, public ::testing::WithParamInterface<Case> {
 protected:
  TunnelFrame() { restart(tunnel_config()); }
};

TEST_P(TunnelFrame, EndsAsExpected) {
  const std::vector<std::byte> frame = GetParam().packet.bytes();
  const auto segment = receive(frame);
  EXPECT_THAT(outcomes(interface_->counters()), ::testing::ElementsAreArray(GetParam().outcome))
      << testing::hexdump(frame);
  EXPECT_EQ(segment.has_value(), interface_->counters().segments_delivered == 1);
  if (segment) {
    const bool is_v4 = segment->destination.is_v4();
    EXPECT_EQ(segment->source, is_v4 ? kClient : kClient6);
    EXPECT_EQ(segment->destination, is_v4 ? kVip : kVip6);
    EXPECT_EQ(segment->packet.size(), sizeof(wire::TcpHeader));
  }
}

std::string name_of(const ::testing::TestParamInfo<Case>& tested) {
  return std::string{tested.param.name};
}

const std::vector<std::string> kIpipDelivered{"segments_delivered", "decapsulated_ipip"};
const std::vector<std::string> kGueDelivered{"segments_delivered", "decapsulated_gue"};
constexpr std::size_t kUdpCheck = 14 + 20 + 6;   // in a frame over IPv4
constexpr std::size_t kUdpCheck6 = 14 + 40 + 6;  // and over IPv6

INSTANTIATE_TEST_SUITE_P(
    Taken, TunnelFrame,
    ::testing::Values(Case{"Ipv4InIpv4", to_vip().inside(kBalancer, kOwn), kIpipDelivered},
                      Case{"Ipv6InIpv6", to_vip6().inside(kBalancer6, kOwn6), kIpipDelivered},
                      Case{"Ipv4InIpv6", to_vip().inside(kBalancer6, kOwn6), kIpipDelivered},
                      Case{"Ipv6InIpv4", to_vip6().inside(kBalancer, kOwn), kIpipDelivered},
                      Case{"GueOfIpv4OverIpv4", gue(kBalancer, kOwn, to_vip()), kGueDelivered},
                      Case{"GueOfIpv6OverIpv6", gue(kBalancer6, kOwn6, to_vip6()), kGueDelivered},
                      Case{"GueOfIpv4OverIpv6", gue(kBalancer6, kOwn6, to_vip()), kGueDelivered},
                      Case{"GueOfIpv6OverIpv4", gue(kBalancer, kOwn, to_vip6()), kGueDelivered},
                      Case{"AnySourceOfAListedNetwork", to_vip().inside(kFarBalancer, kOwn),
                           kIpipDelivered},
                      Case{"OuterOptionsAndPadding", tunnelled(to_vip()).ip_options(2).padding(9),
                           kIpipDelivered},
                      Case{"BytesBehindTheInnerPacket", ip_packet(kBalancer, kOwn, 4).payload([] {
                             std::vector<std::byte> bytes = to_vip().ip_bytes();
                             bytes.resize(bytes.size() + 6);
                             return bytes;
                           }()),
                           kIpipDelivered},
                      Case{"ASegmentWithoutATunnel", to_vip(), {"segments_delivered"}},
                      Case{"AnEchoRequestToAVip",
                           tunnelled(echo_request(kClient, kVip)),
                           {"decapsulated_ipip", "echo_answered"}},
                      Case{"ADatagramThatNobodyTakes",
                           tunnelled(udp(at(kClient, 1), at(kVip, 53))),
                           {"decapsulated_ipip", "dropped_udp", "unreachable_sent"}}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Refused, TunnelFrame,
    ::testing::Values(
        Case{"AStrangersIpip", to_vip().inside(kStranger, kOwn), {"dropped_tunnel_source"}},
        Case{"AStrangersIpipOverIpv6",
             to_vip().inside(kStranger6, kOwn6),
             {"dropped_tunnel_source"}},
        Case{"AStrangersGue", gue(kStranger, kOwn, to_vip()), {"dropped_tunnel_source"}},
        Case{"AStrangersGueOverIpv6", gue(kStranger6, kOwn6, to_vip()), {"dropped_tunnel_source"}},
        Case{"AStrangersNonsense", ip_packet(kStranger, kOwn, 4), {"dropped_tunnel_source"}},
        Case{"ATunnelToAVip", to_vip().inside(kBalancer, kVip), {"dropped_protocol"}},
        Case{"AGueTunnelToAVip",
             gue(kBalancer, kVip, to_vip()),
             {"dropped_udp", "unreachable_sent"}},
        Case{"ATunnelToAllStations",
             tunnelled(to_vip()).macs(kPeerMac, wire::MacAddress::broadcast()),
             {"dropped_link_broadcast"}},
        Case{"ATunnelInATunnel",
             tunnelled(to_vip().inside(kBalancer, kVip)),
             {"decapsulated_ipip", "dropped_protocol"}},
        Case{"ATunnelInATunnelToAnOwnAddress",
             tunnelled(tunnelled(to_vip())),
             {"dropped_tunnel_destination"}},
        Case{"AGueTunnelInATunnel",
             tunnelled(gue(kBalancer, kVip, to_vip())),
             {"decapsulated_ipip", "dropped_udp", "unreachable_sent"}},
        Case{"AFirstOuterFragment", tunnelled(to_vip()).more_fragments(), {"dropped_fragment"}},
        Case{"ALaterOuterFragment", tunnelled(to_vip()).fragment_offset(2), {"dropped_fragment"}},
        Case{"AnOuterFragmentOverIpv6",
             to_vip().inside(kBalancer6, kOwn6).more_fragments(),
             {"dropped_fragment"}},
        Case{"AWrongOuterHeaderChecksum",
             tunnelled(to_vip()).wrong_ip_checksum(),
             {"dropped_ip_checksum"}},
        Case{"AnEmptyTunnel", ip_packet(kBalancer, kOwn, 4), {"dropped_truncated"}},
        Case{"AnInnerPacketThatIsCut", tunnelled(to_vip().total_length(41)), {"dropped_truncated"}},
        Case{"TheOtherFamilyThanAnnounced",
             ip_packet(kBalancer, kOwn, 4).payload(to_vip6().ip_bytes()),
             {"dropped_malformed_ip"}},
        Case{"AnInnerFragment", tunnelled(to_vip().more_fragments()), {"dropped_fragment"}},
        Case{"AnInnerTimeToLiveOfZero", tunnelled(to_vip().time_to_live(0)), {"dropped_ttl"}},
        Case{"AWrongInnerHeaderChecksum",
             tunnelled(to_vip().wrong_ip_checksum()),
             {"dropped_ip_checksum"}},
        Case{"AWrongInnerTcpChecksum",
             tunnelled(to_vip().payload("cut off").total_length(40)),
             {"decapsulated_ipip", "dropped_checksum"}},
        Case{"AnInnerPacketForAnOwnAddress",
             tunnelled(tcp(at(kClient, 1), at(kOwn, 2))),
             {"dropped_tunnel_destination"}},
        Case{"AnInnerPacketForSomebodyElse",
             tunnelled(tcp(at(kClient, 1), at(kPeer, 2))),
             {"dropped_tunnel_destination"}},
        Case{"AnInnerPacketForAGroup",
             tunnelled(testing::neighbor_solicitation(kPeer6, kOwn6)),
             {"dropped_tunnel_destination"}},
        Case{"AnInnerPacketFromAnOwnAddress",
             tunnelled(tcp(at(kOwn, 1), at(kVip, 80))),
             {"dropped_source"}},
        Case{
            "AnInnerPacketFromAVip", tunnelled(tcp(at(kVip, 1), at(kVip, 80))), {"dropped_source"}},
        Case{"AnInnerPacketFromALoopbackAddress",
             tunnelled(tcp(at(IpAddress::v4(127, 0, 0, 1), 1), at(kVip, 80))),
             {"dropped_source"}},
        Case{"AGueHeaderOfAnotherVariant",
             udp(at(kBalancer, 1), at(kOwn, 6080)).payload("\x80 no tunnel"),
             {"dropped_tunnel_malformed"}},
        Case{"AnInnerPacketLongerThanItsUdpDatagram",
             gue(kBalancer, kOwn, to_vip())
                 .udp_length(8 + 39)
                 .octet(kUdpCheck, 0)
                 .octet(kUdpCheck + 1, 0),
             {"dropped_truncated"}},
        Case{"AGueChecksumThatIsMissingOverIpv6",
             gue(kBalancer6, kOwn6, to_vip()).octet(kUdpCheck6, 0).octet(kUdpCheck6 + 1, 0),
             {"dropped_checksum"}},
        Case{"ACongestionMarkThatCannotBeHandedOn",
             tunnelled(to_vip()).type_of_service(3),
             {"dropped_tunnel_ecn"}},
        Case{"ANeighboursMessage",
             tunnelled(testing::neighbor_advertisement(kPeer6, kVip6)),
             {"decapsulated_ipip", "dropped_malformed_ndp"}}),
    name_of);

class TunnelTest : public InterfaceTest {
 protected:
  TunnelTest() { restart(tunnel_config()); }
};

TEST_F(TunnelTest, TunnelsAreOffUnlessSourcesAreListed) {
  interface_->configure(dual_stack_config());
  EXPECT_FALSE(receive(tunnelled(to_vip())));
  EXPECT_FALSE(receive(gue(kBalancer, kOwn, to_vip())));
  EXPECT_THAT(outcomes(interface_->counters()),
              ::testing::ElementsAre("dropped_protocol", "dropped_udp", "unreachable_sent"));
  interface_->configure(tunnel_config());
  EXPECT_TRUE(receive(tunnelled(to_vip()))) << "a new list holds from the next packet on";
}

TEST_F(TunnelTest, AStrangerHearsNothing) {
  introduce_peer();
  EXPECT_FALSE(receive(to_vip().inside(kStranger, kOwn)));
  EXPECT_FALSE(receive(gue(kStranger, kOwn, to_vip())));
  EXPECT_THAT(sent(), ::testing::IsEmpty());
}

TEST_F(TunnelTest, MarksOfTheWayHereReachTheTransport) {
  struct {
    std::uint8_t outer, inner;
    Ecn delivered;
  } const cases[] = {{0, 0, Ecn::kNotCapable}, {0, 2, Ecn::kCapable0},  {3, 2, Ecn::kCongested},
                     {3, 1, Ecn::kCongested},  {1, 2, Ecn::kCapable1},  {2, 3, Ecn::kCongested},
                     {2, 0, Ecn::kNotCapable}, {3, 3, Ecn::kCongested}, {2, 1, Ecn::kCapable1}};
  for (const auto& expected : cases) {
    for (const auto& [source, own] : {std::pair{kBalancer, kOwn}, std::pair{kBalancer6, kOwn6}}) {
      const PacketBuilder inner = to_vip().type_of_service(expected.inner);
      const auto bare = receive(inner.inside(source, own).type_of_service(expected.outer));
      ASSERT_TRUE(bare);
      EXPECT_EQ(bare->ecn, expected.delivered);
      const auto in_udp = receive(gue(source, own, inner).type_of_service(expected.outer));
      ASSERT_TRUE(in_udp);
      EXPECT_EQ(in_udp->ecn, expected.delivered);
    }
  }
}

TEST_F(TunnelTest, AnEchoReplyGoesStraightToTheClientFromTheVip) {
  introduce_peer();
  const auto mac = link.port(Side::kA).capabilities().mac;
  const PacketBuilder request = echo_request(kClient, kVip).icmp_rest(0x12340001).payload("ping");
  EXPECT_FALSE(receive(request.inside(kBalancer6, kOwn6)));
  const PacketBuilder request6 = echo_request(kClient6, kVip6).icmp_rest(1).payload("ping");
  EXPECT_FALSE(receive(gue(kBalancer, kOwn, request6)));
  const auto frames = sent();
  ASSERT_EQ(frames.size(), 2U);
  EXPECT_EQ(frames[0], icmp(kVip, kClient, 0)
                           .icmp_rest(0x12340001)
                           .payload("ping")
                           .do_not_fragment()
                           .macs(mac, kPeerMac)
                           .bytes());
  EXPECT_EQ(frames[1],
            icmp(kVip6, kClient6, 129).icmp_rest(1).payload("ping").macs(mac, kPeerMac).bytes());
}

TEST_F(TunnelTest, ARefusedDatagramIsQuotedWithoutItsTunnel) {
  introduce_peer();
  const auto datagram = udp(at(kClient, 1000), at(kVip, 53)).payload("who is there?");
  EXPECT_FALSE(receive(tunnelled(datagram)));
  const auto frames = sent();
  ASSERT_EQ(frames.size(), 1U);
  EXPECT_EQ(frames[0], icmp(kVip, kClient, 3, 3)
                           .payload(datagram.ip_bytes())
                           .do_not_fragment()
                           .macs(link.port(Side::kA).capabilities().mac, kPeerMac)
                           .bytes());
}

TEST_F(TunnelTest, AnErrorAboutAVipsSegmentReachesTheTransport) {
  const auto ours = tcp(at(kVip, 80), at(kClient, 4000)).sequence(77).ip_bytes();
  EXPECT_FALSE(receive(tunnelled(icmp(kClient, kVip, 3, 4).icmp_rest(1400).payload(ours))));
  const auto error = interface_->poll_error();
  ASSERT_TRUE(error);
  EXPECT_EQ(error->kind, TransportError::Kind::kPacketTooBig);
  EXPECT_EQ(error->mtu, 1400);
  EXPECT_EQ(error->local, at(kVip, 80));
  EXPECT_EQ(error->remote, at(kClient, 4000));
  EXPECT_EQ(error->sequence, 77U);
}

TEST_F(TunnelTest, NothingIsLearntOfNeighboursFromATunnel) {
  introduce_peer();
  const auto before = interface_->counters().neighbor;
  EXPECT_TRUE(receive(tcp(at(kPeer, 4000), at(kVip, 80)).ack().inside(kBalancer, kOwn)));
  EXPECT_TRUE(receive(to_vip().ack().inside(kBalancer, kOwn)));
  const auto after = interface_->counters().neighbor;
  EXPECT_EQ(after.resolved, before.resolved);
  EXPECT_EQ(after.solicitations_sent, before.solicitations_sent);
}

TEST_F(TunnelTest, AVipAnnouncesRoomForTheOuterHeaders) {
  struct Room {
    std::uint16_t vip, vip6, own;
  };
  struct {
    std::vector<wire::Prefix> sources;
    Room expected;
  } const cases[] = {{{}, {1480, 1460, 1480}},
                     {{{kBalancer, 32}}, {1448, 1428, 1480}},
                     {{{kBalancer6, 128}}, {1428, 1408, 1480}},
                     {{{kBalancer6, 128}, {kBalancer, 32}}, {1428, 1408, 1480}}};
  for (const auto& [sources, expected] : cases) {
    InterfaceConfig config = dual_stack_config();
    config.tunnel_sources = sources;
    interface_->configure(config);
    EXPECT_EQ(interface_->receive_segment_size(kVip, kClient), expected.vip);
    EXPECT_EQ(interface_->receive_segment_size(kVip6, kClient6), expected.vip6);
    EXPECT_EQ(interface_->receive_segment_size(kOwn, kPeer), expected.own);
    EXPECT_EQ(interface_->segment_size(kClient), 1480) << "what leaves has no tunnel";
  }
}

TEST_F(TunnelTest, TheLargestAnnouncedSegmentFitsTheDeviceInTheLargestTunnel) {
  const std::size_t text =
      interface_->receive_segment_size(kVip, kClient) - sizeof(wire::TcpHeader);
  const auto inner = to_vip().payload(std::string(text, 'x')).ip_bytes();
  std::vector<std::byte> content{std::byte{0}, std::byte{4}, std::byte{0}, std::byte{0}};
  content.insert(content.end(), inner.begin(), inner.end());
  const auto outer = udp(at(kBalancer6, 1), at(kOwn6, 6080)).payload(content);
  EXPECT_EQ(outer.ip_bytes().size(), link.port(Side::kA).capabilities().mtu);
  const auto segment = receive(outer);
  ASSERT_TRUE(segment);
  EXPECT_EQ(segment->packet.size(), text + sizeof(wire::TcpHeader));
}

}  // namespace
}  // namespace weir::net
