#include "l7/net/interface.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "l4/base/bytes.h"
#include "l4/wire/checksum.h"
#include "tests/l7/net/interface_fixture.h"

namespace weir::net {
namespace {

using namespace std::chrono_literals;
using testing::arp_reply;
using testing::arp_request;
using testing::echo_request;
using ::testing::ElementsAre;
using testing::icmp;
using ::testing::IsEmpty;
using testing::neighbor_solicitation;
using testing::Side;
using testing::tcp;
using testing::udp;
using wire::IpAddress;

constexpr std::size_t kEthernet = sizeof(wire::EthernetHeader);

wire::EthernetHeader ethernet_of(std::span<const std::byte> frame) {
  return *ByteReader{frame}.take<wire::EthernetHeader>();
}

/// The datagram of a frame that is known to be right, and its payload.
struct Sent {
  wire::EthernetHeader ethernet;
  IpDatagram ip;
  std::vector<std::byte> payload;
};
Sent decode(const std::vector<std::byte>& frame) {
  const auto packet = std::span{frame}.subspan(kEthernet);
  const bool is_v4 = ethernet_of(frame).type.host() == 0x0800;
  const IpParse parsed = is_v4 ? parse_ipv4(packet) : parse_ipv6(packet);
  const auto* ip = std::get_if<IpDatagram>(&parsed);
  if (ip == nullptr) {
    ADD_FAILURE() << "not an IP packet\n" << testing::hexdump(frame);
    return {};
  }
  const auto payload = packet.first(ip->total_length).subspan(ip->payload_offset);
  return {ethernet_of(frame), *ip, {payload.begin(), payload.end()}};
}

/// A segment as the transport would hand it over, with `payload` behind a bare header.
port::Packet bare_segment(Interface& interface, std::string_view payload = "") {
  port::Packet packet = interface.allocate();
  wire::TcpHeader header;
  header.source_port = wire::be16{80};
  header.destination_port = wire::be16{4000};
  store(packet.append(sizeof(header)), header);
  if (!payload.empty()) std::ranges::copy(as_bytes(payload), packet.append(payload.size()).begin());
  return packet;
}

/// The address that a frame tells the link about, if it is an announcement.
std::optional<IpAddress> announced_by(const std::vector<std::byte>& frame) {
  if (!ethernet_of(frame).destination.is_multicast()) return std::nullopt;
  if (ethernet_of(frame).type.host() == 0x0806) {
    const auto arp = wire::ArpMessage::parse(std::span{frame}.subspan(kEthernet));
    if (!arp || arp->sender != arp->target) return std::nullopt;
    return arp->sender;
  }
  const auto message = wire::NeighborMessage::parse(decode(frame).payload);
  if (!message || !message->overrides || message->solicited) return std::nullopt;
  return message->target;
}

std::vector<IpAddress> announced_by(const std::vector<std::vector<std::byte>>& frames) {
  std::vector<IpAddress> addresses;
  for (const auto& frame : frames)
    addresses.push_back(announced_by(frame).value_or(IpAddress{}));
  return addresses;
}

TEST_F(InterfaceTest, OwnAddressesAreAnnouncedTwiceOrThriceAndVipsNever) {
  using ::testing::UnorderedElementsAre;
  interface_.emplace(dual_stack_config(), link.port(Side::kA), Random{1}, clock.now());
  const IpAddress local = wire::link_local_address(link.port(Side::kA).capabilities().mac);
  EXPECT_THAT(announced_by(sent()), UnorderedElementsAre(kOwn, kOwn6, local));
  EXPECT_LE(interface_->next_deadline(), clock.now()) << "the spacing begins with the first turn";
  pass(0ms);
  EXPECT_EQ(interface_->next_deadline(), clock.now() + 1s);
  pass(999ms);
  EXPECT_THAT(sent(), IsEmpty());
  pass(1ms);
  EXPECT_THAT(announced_by(sent()), UnorderedElementsAre(kOwn6, local));
  pass(1s);
  EXPECT_THAT(announced_by(sent()), UnorderedElementsAre(kOwn, kOwn6, local));
  for (int i = 0; i < 10; ++i) {
    pass(1s);
    EXPECT_THAT(sent(), IsEmpty());
  }
  interface_->configure(dual_stack_config());
  EXPECT_THAT(sent(), IsEmpty()) << "nothing is new";
}

TEST_F(InterfaceTest, AnAddressThatIsTakenAwayIsNotAnnouncedAgain) {
  InterfaceConfig config = dual_stack_config();
  config.addresses.push_back({IpAddress::v4(192, 0, 2, 11), 24});
  interface_->configure(config);
  EXPECT_THAT(announced_by(sent()), ElementsAre(IpAddress::v4(192, 0, 2, 11)));
  pass(1s);
  interface_->configure(dual_stack_config());
  pass(5s);
  EXPECT_THAT(sent(), IsEmpty());
}

TEST_F(InterfaceTest, AClaimToAnOwnAddressIsAnsweredOnceInTenSeconds) {
  const auto target = std::as_bytes(std::span{kOwn6.bytes});
  struct {
    IpAddress address;
    testing::PacketBuilder claim;
  } const cases[] = {
      {kOwn, arp_reply(kOwn, kPeer)},
      {kOwn6, icmp(kPeer6, kOwn6, 136).time_to_live(255).payload({target.begin(), target.end()})}};
  for (const auto& [address, claim] : cases) {
    for (int round = 0; round < 3; ++round) {
      EXPECT_FALSE(receive(claim));
      EXPECT_THAT(announced_by(sent()), ElementsAre(address));
      EXPECT_FALSE(receive(claim));
      pass(9999ms);
      interface_->configure(dual_stack_config());  // which is no way round it
      EXPECT_FALSE(receive(claim));
      EXPECT_THAT(sent(), IsEmpty());
      pass(1ms);
    }
  }
  EXPECT_EQ(interface_->counters().address_conflicts, 18U);
  EXPECT_EQ(interface_->counters().address_defended, 6U);
}

TEST_F(InterfaceTest, AnAnnouncementOfOursThatComesBackIsNoClaim) {
  interface_.emplace(dual_stack_config(), link.port(Side::kA), Random{1}, clock.now());
  for (const auto& frame : sent())
    EXPECT_FALSE(receive(frame));
  EXPECT_EQ(interface_->counters().address_conflicts, 0U);
}

TEST_F(InterfaceTest, ArpForAVipIsNotAnswered) {
  EXPECT_FALSE(receive(arp_request(kPeer, kVip)));
  EXPECT_FALSE(receive(neighbor_solicitation(kPeer6, kVip6)));
  EXPECT_THAT(sent(), IsEmpty());
  EXPECT_EQ(interface_->counters().arp_answered, 0U);
}

TEST_F(InterfaceTest, OneThatDoesNotSpeakLearnsFromQuestionsAndLeavesTheAnswers) {
  InterfaceConfig config = dual_stack_config();
  config.speaks = false;
  interface_.emplace(config, link.port(Side::kA), Random{1}, clock.now());
  EXPECT_FALSE(receive(arp_request(kPeer, kOwn)));
  EXPECT_FALSE(receive(neighbor_solicitation(kPeer6, kOwn6)));
  EXPECT_THAT(sent(), IsEmpty());
  EXPECT_EQ(interface_->counters().questions_left, 2U);
  EXPECT_EQ(interface_->counters().arp_answered + interface_->counters().ndp_answered, 0U);
  EXPECT_EQ(interface_->counters().neighbor.resolved, 1U) << "NDP's question has no link address";
}

TEST_F(InterfaceTest, AnArpRequestIsAnsweredToTheOneWhoAsked) {
  EXPECT_FALSE(receive(arp_request(kPeer, kOwn)));
  const auto frames = sent();
  ASSERT_EQ(frames.size(), 1U);
  EXPECT_EQ(ethernet_of(frames[0]).destination, kPeerMac);
  const auto reply = wire::ArpMessage::parse(std::span{frames[0]}.subspan(kEthernet));
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->operation, wire::ArpMessage::Operation::kReply);
  EXPECT_EQ(reply->sender, kOwn);
  EXPECT_EQ(reply->sender_mac, link.port(Side::kA).capabilities().mac);
  EXPECT_EQ(reply->target, kPeer);
  EXPECT_EQ(reply->target_mac, kPeerMac);
}

TEST_F(InterfaceTest, ASearchForAFreeAddressIsAnsweredToAllNodes) {
  // A probe has no sender, and no option with its link address (RFC 4862, section 5.4.2).
  const IpAddress none = *IpAddress::parse("::");
  const auto target = std::as_bytes(std::span{kOwn6.bytes});
  EXPECT_FALSE(receive(icmp(none, wire::solicited_node_group(kOwn6), 135)
                           .time_to_live(255)
                           .payload({target.begin(), target.end()})));
  const auto frames = sent();
  ASSERT_EQ(frames.size(), 1U);
  const Sent reply = decode(frames[0]);
  EXPECT_EQ(reply.ip.destination.text(), "ff02::1");
  EXPECT_EQ(reply.ip.time_to_live, 255);
  EXPECT_FALSE(wire::NeighborMessage::parse(reply.payload)->solicited);
}

TEST_F(InterfaceTest, ASolicitationWithoutLinkAddressIsAnsweredOnceTheWayIsKnown) {
  EXPECT_FALSE(receive(neighbor_solicitation(kPeer6, kOwn6)));  // the builder adds no option
  const auto question = sent();
  ASSERT_EQ(question.size(), 1U);
  EXPECT_EQ(wire::NeighborMessage::parse(decode(question[0]).payload)->target, kPeer6);
  EXPECT_FALSE(receive(from_peer6(
      {.kind = wire::NeighborMessage::Kind::kAdvertisement, .target = kPeer6, .solicited = true})));
  const auto answer = sent();
  ASSERT_EQ(answer.size(), 1U);
  EXPECT_EQ(decode(answer[0]).ip.time_to_live, 255);
  EXPECT_EQ(wire::NeighborMessage::parse(decode(answer[0]).payload)->target, kOwn6);
}

TEST_F(InterfaceTest, AnEchoRequestToAVipComesBackFromTheVipThroughTheGateway) {
  introduce_peer();
  struct {
    IpAddress client, vip;
    std::uint8_t reply_type;
    wire::IpProtocol protocol;
  } const cases[] = {{kClient, kVip, 0, wire::IpProtocol::kIcmp},
                     {kClient6, kVip6, 129, wire::IpProtocol::kIcmpv6}};
  for (const auto& expected : cases) {
    EXPECT_FALSE(
        receive(echo_request(expected.client, expected.vip).icmp_rest(0x12340001).payload("ping")));
    const auto frames = sent();
    ASSERT_EQ(frames.size(), 1U);
    const Sent reply = decode(frames[0]);
    EXPECT_EQ(reply.ethernet.destination, kPeerMac);
    EXPECT_EQ(reply.ip.source, expected.vip);
    EXPECT_EQ(reply.ip.destination, expected.client);
    EXPECT_EQ(reply.payload[0], std::byte{expected.reply_type});
    EXPECT_EQ(as_text(std::span{reply.payload}.subspan(8)), "ping");
    // The builder computes checksums on its own: the same message must come out.
    EXPECT_EQ(frames[0], icmp(expected.vip, expected.client, expected.reply_type)
                             .icmp_rest(0x12340001)
                             .payload("ping")
                             .do_not_fragment()
                             .macs(link.port(Side::kA).capabilities().mac, kPeerMac)
                             .bytes());
  }
}

TEST_F(InterfaceTest, EchoRepliesHaveACeilingThatRecoversWithTime) {
  introduce_peer();
  for (int i = 0; i < 300; ++i)
    EXPECT_FALSE(receive(echo_request(kClient, kVip)));
  EXPECT_EQ(interface_->counters().echo_answered, 200U);
  EXPECT_EQ(interface_->counters().limited_echo, 100U);
  pass(10ms);
  for (int i = 0; i < 20; ++i)
    EXPECT_FALSE(receive(echo_request(kClient, kVip)));
  EXPECT_EQ(interface_->counters().echo_answered, 210U);
}

TEST_F(InterfaceTest, ARefusedUdpDatagramIsQuoted) {
  introduce_peer();
  const auto datagram = udp(at(kClient, 1000), at(kVip, 53)).payload("who is there?");
  EXPECT_FALSE(receive(datagram));
  const auto datagram6 = udp(at(kClient6, 1000), at(kVip6, 53)).payload("who is there?");
  EXPECT_FALSE(receive(datagram6));
  const auto frames = sent();
  ASSERT_EQ(frames.size(), 2U);
  const wire::MacAddress mac = link.port(Side::kA).capabilities().mac;
  EXPECT_EQ(frames[0], icmp(kVip, kClient, 3, 3)
                           .payload(datagram.ip_bytes())
                           .do_not_fragment()
                           .macs(mac, kPeerMac)
                           .bytes());
  EXPECT_EQ(frames[1],
            icmp(kVip6, kClient6, 1, 4).payload(datagram6.ip_bytes()).macs(mac, kPeerMac).bytes());
}

TEST_F(InterfaceTest, RefusalsHaveACeiling) {
  introduce_peer();
  for (int i = 0; i < 25; ++i)
    EXPECT_FALSE(receive(udp(at(kClient, 1), at(kVip, 53))));
  EXPECT_EQ(interface_->counters().unreachable_sent, 20U);
  EXPECT_EQ(interface_->counters().limited_unreachable, 5U);
}

TEST_F(InterfaceTest, TheDeliveredSegmentHoldsNeitherHeadersNorPadding) {
  const auto segment = receive(tcp(at(kClient, 4000), at(kVip, 80)).payload("x").padding(5));
  ASSERT_TRUE(segment);
  EXPECT_EQ(segment->source, kClient);
  EXPECT_EQ(segment->destination, kVip);
  EXPECT_EQ(segment->packet.size(), sizeof(wire::TcpHeader) + 1);
  EXPECT_EQ(segment->packet.bytes().back(), std::byte{'x'});
}

TEST_F(InterfaceTest, AnUnfinishedChecksumIsTakenOnlyWhereThatIsAllowed) {
  std::vector<std::byte> frame = tcp(at(kClient, 4000), at(kVip, 80)).payload("hello").bytes();
  const std::size_t length = frame.size() - kEthernet - sizeof(wire::Ipv4Header);
  const auto unfinished = static_cast<std::uint16_t>(
      ~wire::pseudo_header_sum(kClient, kVip, wire::IpProtocol::kTcp, length).finish());
  store(std::span{frame}.subspan(kEthernet + sizeof(wire::Ipv4Header) + 16),
        wire::be16{unfinished});
  EXPECT_FALSE(receive(frame));
  EXPECT_THAT(outcomes(interface_->counters()), ElementsAre("dropped_checksum"));

  InterfaceConfig config = dual_stack_config();
  config.accept_partial_checksums = true;
  restart(config);
  EXPECT_TRUE(receive(frame));
  frame.back() ^= std::byte{1};
  EXPECT_TRUE(receive(frame)) << "what is not summed cannot be checked";
  frame[kEthernet + sizeof(wire::Ipv4Header) + 16] ^= std::byte{1};
  EXPECT_FALSE(receive(frame)) << "any other value is still wrong";
  EXPECT_THAT(outcomes(interface_->counters()),
              ElementsAre("segments_delivered", "partial_checksums", "dropped_checksum"));
}

TEST_F(InterfaceTest, ErrorsAboutOurSegmentsReachTheTransport) {
  const auto ours = tcp(at(kVip, 80), at(kClient, 4000)).sequence(0xabcd1234).ip_bytes();
  const auto ours6 = tcp(at(kVip6, 80), at(kClient6, 4000)).sequence(7).ip_bytes();
  const IpAddress router = IpAddress::v4(198, 18, 0, 1);
  const IpAddress router6 = *IpAddress::parse("2001:db8:3::1");
  struct {
    testing::PacketBuilder packet;
    TransportError::Kind kind;
    std::uint16_t mtu;
  } const cases[] = {
      {icmp(router, kVip, 3, 1).payload(ours), TransportError::Kind::kUnreachable, 0},
      {icmp(router, kVip, 3, 4).icmp_rest(1400).payload(ours), TransportError::Kind::kPacketTooBig,
       1400},
      {icmp(router, kVip, 3, 4).icmp_rest(100).payload(ours), TransportError::Kind::kPacketTooBig,
       552},
      {icmp(router, kVip, 11).payload(ours), TransportError::Kind::kTimeExceeded, 0},
      {icmp(router6, kVip6, 1, 0).payload(ours6), TransportError::Kind::kUnreachable, 0},
      {icmp(router6, kVip6, 2).icmp_rest(1280).payload(ours6), TransportError::Kind::kPacketTooBig,
       1280},
      {icmp(router6, kVip6, 3).payload(ours6), TransportError::Kind::kTimeExceeded, 0},
  };
  for (const auto& expected : cases) {
    EXPECT_FALSE(receive(expected.packet));
    const auto error = interface_->poll_error();
    ASSERT_TRUE(error);
    EXPECT_EQ(error->kind, expected.kind);
    EXPECT_EQ(error->mtu, expected.mtu);
    const bool is_v4 = error->local.address.is_v4();
    EXPECT_EQ(error->local, at(is_v4 ? kVip : kVip6, 80));
    EXPECT_EQ(error->remote, at(is_v4 ? kClient : kClient6, 4000));
    EXPECT_EQ(error->sequence, is_v4 ? 0xabcd1234 : 7U);
    EXPECT_FALSE(interface_->poll_error());
  }
  EXPECT_THAT(outcomes(interface_->counters()), IsEmpty());
}

TEST_F(InterfaceTest, ARouterThatNamesNoMtuIsTakenToHaveTheNextSmallerOne) {
  struct {
    std::uint16_t quoted_length;
    std::uint16_t mtu;
  } const cases[] = {
      {1500, 1492}, {1492, 1006}, {1006, 552}, {552, 552},
      {40, 552},    {1520, 1492},  // it adds the header's length (RFC 1191, section 5)
      {65535, 1492}};
  for (const auto& [quoted_length, mtu] : cases) {
    const auto ours = tcp(at(kVip, 80), at(kClient, 4000)).total_length(quoted_length).ip_bytes();
    EXPECT_FALSE(receive(icmp(kPeer, kVip, 3, 4).payload(ours)));
    const auto error = interface_->poll_error();
    ASSERT_TRUE(error);
    EXPECT_EQ(error->kind, TransportError::Kind::kPacketTooBig);
    EXPECT_EQ(error->mtu, mtu) << quoted_length;
  }
}

TEST_F(InterfaceTest, AnErrorAloneDoesNotLowerThePathMtu) {
  const auto ours = tcp(at(kVip, 80), at(kClient, 4000)).ip_bytes();
  EXPECT_FALSE(receive(icmp(kPeer, kVip, 3, 4).icmp_rest(1000).payload(ours)));
  EXPECT_EQ(interface_->segment_size(kClient), 1480) << "the transport has not confirmed it";
}

TEST_F(InterfaceTest, ALoweredPathMtuHoldsForThatDestinationUntilItIsOld) {
  interface_->lower_path_mtu(kClient, 1400, clock.now());
  interface_->lower_path_mtu(kClient6, 1300, clock.now());
  EXPECT_EQ(interface_->segment_size(kClient), 1380);
  EXPECT_EQ(interface_->segment_size(kClient6), 1260);
  EXPECT_EQ(interface_->segment_size(kPeer), 1480);
  EXPECT_EQ(interface_->segment_size(kPeer6), 1460);
  EXPECT_EQ(interface_->receive_segment_size(kVip, kClient), 1480) << "the way here may be wider";
  interface_->lower_path_mtu(kPeer, 1500, clock.now());
  interface_->lower_path_mtu(kPeer, 9000, clock.now());
  EXPECT_EQ(interface_->segment_size(kPeer), 1480);
  EXPECT_EQ(interface_->counters().path_mtu_lowered, 2U) << "only what the device is too big for";
  pass(599s);
  EXPECT_EQ(interface_->segment_size(kClient), 1380);
  pass(1s);
  EXPECT_EQ(interface_->segment_size(kClient), 1480);
}

TEST_F(InterfaceTest, ASegmentThatIsTooLongForThePathStillLeaves) {
  // Its connection has not heard of the path MTU yet, and would not otherwise.
  introduce_peer();
  interface_->lower_path_mtu(kClient, 600, clock.now());
  interface_->send(bare_segment(*interface_, std::string(1460, 'x')), kVip, kClient,
                   Ecn::kNotCapable, clock.now());
  EXPECT_EQ(sent().size(), 1U);
  EXPECT_EQ(interface_->counters().dropped_too_big, 0U);
}

TEST_F(InterfaceTest, ErrorsBeyondTheQueueAreCounted) {
  const auto ours = tcp(at(kVip, 80), at(kClient, 4000)).ip_bytes();
  for (int i = 0; i < 70; ++i)
    EXPECT_FALSE(receive(icmp(kPeer, kVip, 3, 1).payload(ours)));
  EXPECT_EQ(interface_->counters().dropped_error_queue, 6U);
}

TEST_F(InterfaceTest, ASegmentWaitsForTheGatewayAndThenGoesThere) {
  interface_->send(bare_segment(*interface_, "hello"), kVip, kClient, Ecn::kNotCapable,
                   clock.now());
  const auto question = sent();
  ASSERT_EQ(question.size(), 1U);
  const auto arp = wire::ArpMessage::parse(std::span{question[0]}.subspan(kEthernet));
  ASSERT_TRUE(arp);
  EXPECT_EQ(arp->sender, kOwn) << "a VIP never asks: the answer would go to its holder";
  EXPECT_EQ(arp->target, kPeer);

  EXPECT_FALSE(receive(arp_reply(kPeer, kOwn)));
  const auto frames = sent();
  ASSERT_EQ(frames.size(), 1U);
  EXPECT_EQ(frames[0], tcp(at(kVip, 80), at(kClient, 4000))
                           .flags(0)
                           .sequence(0)
                           .acknowledgment(0)
                           .window(0)
                           .payload("hello")
                           .do_not_fragment()
                           .macs(link.port(Side::kA).capabilities().mac, kPeerMac)
                           .bytes());
}

TEST_F(InterfaceTest, NothingIsLearntFromPacketsForVips) {
  // From the network of the VIP's clients and from our own alike.
  EXPECT_TRUE(receive(tcp(at(kClient, 4000), at(kVip, 80)).syn()));
  EXPECT_TRUE(receive(tcp(at(kPeer, 4000), at(kVip, 80)).ack()));
  interface_->send(bare_segment(*interface_), kVip, kPeer, Ecn::kNotCapable, clock.now());
  const auto frames = sent();
  ASSERT_EQ(frames.size(), 1U);
  EXPECT_EQ(ethernet_of(frames[0]).type.host(), 0x0806) << "the peer's address has to be asked for";
}

TEST_F(InterfaceTest, AcknowledgementsToAnOwnAddressSpareTheQuestion) {
  introduce_peer();
  for (int i = 0; i < 20; ++i) {
    pass(10s);
    EXPECT_TRUE(receive(tcp(at(kPeer, 80), at(kOwn, 4000)).ack()));
    interface_->send(bare_segment(*interface_), kOwn, kPeer, Ecn::kNotCapable, clock.now());
    ASSERT_EQ(sent().size(), 1U) << "a question went out in round " << i;
  }
}

TEST_F(InterfaceTest, TheQuestionIsRepeatedAndThenTheSegmentGivenUp) {
  interface_->send(bare_segment(*interface_), kOwn, kPeer, Ecn::kNotCapable, clock.now());
  EXPECT_EQ(sent().size(), 1U);
  EXPECT_LE(interface_->next_deadline(), clock.now() + 1001ms);
  for (int i = 0; i < 2; ++i) {
    pass(1001ms);
    EXPECT_EQ(sent().size(), 1U);
  }
  pass(1001ms);
  EXPECT_THAT(sent(), IsEmpty());
  EXPECT_EQ(interface_->counters().neighbor.unreachable_dropped, 1U);
  EXPECT_EQ(link.pool(Side::kA).in_use(), 0U);
}

TEST_F(InterfaceTest, WhatThePortRefusesStaysInOrder) {
  introduce_peer();
  for (int i = 0; i < 100; ++i)
    interface_->send(bare_segment(*interface_, std::string(1, static_cast<char>(i))), kOwn, kPeer,
                     Ecn::kNotCapable, clock.now());
  link.refuse_sends(Side::kA, 20);  // of the first burst of 32
  EXPECT_EQ(interface_->flush(clock.now()), 88U);
  const auto frames = sent();
  ASSERT_EQ(frames.size(), 100U);
  for (std::size_t i = 0; i < frames.size(); ++i)
    EXPECT_EQ(frames[i].back(), static_cast<std::byte>(i));
}

TEST_F(InterfaceTest, TheSendQueueIsBounded) {
  introduce_peer();
  for (int i = 0; i < 1100; ++i)
    interface_->send(bare_segment(*interface_), kOwn, kPeer, Ecn::kNotCapable, clock.now());
  EXPECT_EQ(interface_->counters().dropped_send_queue, 76U);
  EXPECT_EQ(sent().size(), 1024U);
  EXPECT_EQ(link.pool(Side::kA).in_use(), 0U);
}

TEST_F(InterfaceTest, SegmentsThatCannotLeaveAreCounted) {
  interface_->send(bare_segment(*interface_), kPeer, kClient, Ecn::kNotCapable, clock.now());
  EXPECT_EQ(interface_->counters().dropped_no_source, 1U);
  InterfaceConfig config = dual_stack_config();
  config.gateway_v6.reset();
  interface_->configure(config);
  interface_->send(bare_segment(*interface_), kVip6, kClient6, Ecn::kNotCapable, clock.now());
  EXPECT_EQ(interface_->counters().dropped_no_route, 1U);
  EXPECT_EQ(interface_->segment_size(kClient), 1480);
  EXPECT_EQ(interface_->segment_size(kClient6), 1460);
  interface_->send(bare_segment(*interface_, std::string(1461, 'x')), kVip, kClient,
                   Ecn::kNotCapable, clock.now());
  EXPECT_EQ(interface_->counters().dropped_too_big, 1U);
}

TEST_F(InterfaceTest, ARemovedVipIsNoLongerOurs) {
  EXPECT_TRUE(receive(tcp(at(kClient, 4000), at(kVip, 80))));
  InterfaceConfig config = dual_stack_config();
  config.vips.clear();
  interface_->configure(config);
  EXPECT_FALSE(receive(tcp(at(kClient, 4000), at(kVip, 80))));
  EXPECT_EQ(interface_->counters().dropped_destination, 1U);
}

TEST_F(InterfaceTest, AnEmptyPoolCostsOnlyTheAnswer) {
  std::vector<port::Packet> held;
  const auto request = arp_request(kPeer, kOwn).bytes();
  port::Packet frame = link.pool(Side::kA).copy_of(request);
  while (port::Packet packet = interface_->allocate())
    held.push_back(std::move(packet));
  EXPECT_FALSE(interface_->input(std::move(frame), clock.now()));
  EXPECT_EQ(interface_->counters().dropped_no_buffer, 1U);
}

/// Two interfaces at the two ends of one link.
class TwoInterfacesTest : public ::testing::TestWithParam<std::pair<IpAddress, IpAddress>> {
 protected:
  void run(Duration time) {
    for (const Instant end = clock.now() + time; clock.now() < end; clock.advance(1ms)) {
      link.advance_to(clock.now());
      turn(a, Side::kA);
      turn(b, Side::kB);
    }
  }
  void turn(Interface& interface, Side side) {
    std::array<port::Packet, 32> burst;
    const std::size_t count = link.port(side).receive(burst);
    for (port::Packet& frame : std::span{burst}.first(count))
      if (auto segment = interface.input(std::move(frame), clock.now()))
        received[static_cast<std::size_t>(side)].push_back(std::move(*segment));
    interface.advance(clock.now());
    interface.flush(clock.now());
  }

  ManualClock clock;
  testing::SimLink link{{}, clock.now()};
  std::array<std::vector<Segment>, 2> received;
  Interface a{
      {.addresses = {{kOwn, 24}, {kOwn6, 64}}}, link.port(Side::kA), Random{1}, clock.now()};
  Interface b{
      {.addresses = {{kPeer, 24}, {kPeer6, 64}}}, link.port(Side::kB), Random{2}, clock.now()};
};

TEST_P(TwoInterfacesTest, FindEachOtherAndExchangeSegments) {
  const auto& [mine, theirs] = GetParam();
  run(10ms);
  a.send(bare_segment(a, "over"), mine, theirs, Ecn::kNotCapable, clock.now());
  run(10ms);
  ASSERT_EQ(received[1].size(), 1U);
  EXPECT_EQ(received[1][0].source, mine);
  EXPECT_EQ(received[1][0].packet.bytes().back(), std::byte{'r'});
  b.send(bare_segment(b, "and out"), theirs, mine, Ecn::kNotCapable, clock.now());
  run(10ms);
  ASSERT_EQ(received[0].size(), 1U);
  EXPECT_EQ(b.counters().neighbor.solicitations_sent, 1U)
      << "it knows the way from being asked, and asks only whether it still holds";
  EXPECT_EQ(b.counters().neighbor.pending_dropped, 0U);
}

TEST_P(TwoInterfacesTest, FindEachOtherAlthoughTheFirstQuestionIsLost) {
  const auto& [mine, theirs] = GetParam();
  run(4s);  // their announcements, which are answers too, are over
  link.direction(Side::kA).lose_numbers = {link.counters(Side::kA).offered};
  a.send(bare_segment(a, "over"), mine, theirs, Ecn::kNotCapable, clock.now());
  run(500ms);
  EXPECT_TRUE(received[1].empty());
  run(600ms);
  EXPECT_EQ(received[1].size(), 1U);
  EXPECT_EQ(a.counters().neighbor.solicitations_sent, 2U);
}

INSTANTIATE_TEST_SUITE_P(, TwoInterfacesTest,
                         ::testing::Values(std::pair{kOwn, kPeer}, std::pair{kOwn6, kPeer6}),
                         [](const auto& tested) {
                           return std::string{tested.param.first.is_v4() ? "Ipv4" : "Ipv6"};
                         });

}  // namespace
}  // namespace weir::net
