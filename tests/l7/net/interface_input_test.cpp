#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <ostream>

#include "tests/l7/net/interface_fixture.h"

namespace weir::net {
namespace {

using testing::arp_reply;
using testing::arp_request;
using testing::echo_request;
using testing::icmp;
using testing::ip_packet;
using testing::neighbor_advertisement;
using testing::neighbor_solicitation;
using testing::PacketBuilder;
using testing::tcp;
using testing::udp;

struct Case {
  std::string_view name;
  PacketBuilder packet;
  std::vector<std::string> outcome;  // exactly these counters move
  friend void PrintTo(const Case& shown, std::ostream* out) { *out << shown.name; }
};

class ReceivedFrame : public InterfaceTest, public ::testing::WithParamInterface<Case> {};

TEST_P(ReceivedFrame, EndsAsExpected) {
  const std::vector<std::byte> frame = GetParam().packet.bytes();
  const auto segment = receive(frame);
  EXPECT_THAT(outcomes(interface_->counters()), ::testing::ElementsAreArray(GetParam().outcome))
      << testing::hexdump(frame);
  EXPECT_EQ(segment.has_value(), interface_->counters().segments_delivered == 1);
}

std::string name_of(const ::testing::TestParamInfo<Case>& tested) {
  return std::string{tested.param.name};
}

const wire::MacAddress kBroadcast = wire::MacAddress::broadcast();
/// The body of a neighbour message behind its first eight bytes.
std::vector<std::byte> as_target(const wire::IpAddress& address) {
  const auto bytes = std::as_bytes(std::span{address.bytes});
  return {bytes.begin(), bytes.end()};
}

/// The option of a neighbour message (1: who asks, 2: who answers) behind its target.
std::vector<std::byte> as_target(const wire::IpAddress& address, std::uint8_t option,
                                 const wire::MacAddress& mac) {
  std::vector<std::byte> body = as_target(address);
  body.insert(body.end(), {std::byte{option}, std::byte{1}});
  for (const std::uint8_t byte : mac.bytes)
    body.push_back(std::byte{byte});
  return body;
}
PacketBuilder solicitation_from(const wire::MacAddress& mac) {
  return icmp(kPeer6, kOwn6, 135).time_to_live(255).payload(as_target(kOwn6, 1, mac));
}
PacketBuilder arp_request_from(const wire::MacAddress& mac) {
  PacketBuilder request = arp_request(kPeer, kOwn);
  for (std::size_t i = 0; i < mac.bytes.size(); ++i)
    request.octet(sizeof(wire::EthernetHeader) + 8 + i, mac.bytes[i]);
  return request;
}
const wire::MacAddress kOurMac{{0x02, 0, 0, 0, 0, 0x0a}};  // side A's
const wire::IpAddress kBroadcastOfOurs = wire::IpAddress::v4(192, 0, 2, 255);

/// A segment of ours as an error quotes it, and as nobody can have received it: over IPv6 from an
/// IPv4-mapped address.
const std::vector<std::byte> kOurs = tcp(at(kVip, 80), at(kClient, 2)).ip_bytes();
const std::vector<std::byte> kOurs6 = tcp(at(kVip6, 80), at(kClient6, 2)).ip_bytes();
std::vector<std::byte> from_mapped_address() {
  std::vector<std::byte> packet = kOurs6;
  std::ranges::copy(std::as_bytes(std::span{kVip.bytes}), packet.begin() + 8);
  return packet;
}

PacketBuilder to_vip() { return tcp(at(kClient, 4000), at(kVip, 80)); }
PacketBuilder to_vip6() { return tcp(at(kClient6, 4000), at(kVip6, 80)); }
PacketBuilder from(const wire::IpAddress& source) { return tcp(at(source, 4000), at(kVip, 80)); }

INSTANTIATE_TEST_SUITE_P(
    Ipv4, ReceivedFrame,
    ::testing::Values(
        Case{"ASegmentForAVipIsDelivered", to_vip(), {"segments_delivered"}},
        Case{"ASegmentForAnOwnAddressIsDelivered",
             tcp(at(kPeer, 1), at(kOwn, 2)),
             {"segments_delivered"}},
        Case{"AnyUnicastMacIsTaken",
             to_vip().macs(kPeerMac, wire::MacAddress{{0x02, 9, 9, 9, 9, 9}}),
             {"segments_delivered"}},
        Case{"PaddingIsCutOff", to_vip().padding(6), {"segments_delivered"}},
        Case{"OptionsAreSkipped", to_vip().ip_options(3), {"segments_delivered"}},
        Case{"DontFragmentIsNoFragment", to_vip().do_not_fragment(), {"segments_delivered"}},
        Case{"ABroadcastFrameForOneHostIsDropped",
             to_vip().macs(kPeerMac, kBroadcast),
             {"dropped_link_broadcast"}},
        Case{"AFrameWithoutAWholeEthernetHeaderIsDropped",
             to_vip().truncate_to(13),
             {"dropped_truncated"}},
        Case{"AShortIpHeaderIsDropped", to_vip().truncate_to(33), {"dropped_truncated"}},
        Case{"ATotalLengthBeyondTheFrameIsDropped",
             to_vip().total_length(1000),
             {"dropped_truncated"}},
        Case{"ATotalLengthBelowTheHeaderIsDropped",
             to_vip().total_length(19),
             {"dropped_malformed_ip"}},
        Case{"AHeaderLengthOfFourWordsIsDropped",
             to_vip().header_words(4),
             {"dropped_malformed_ip"}},
        Case{"AnotherVersionIsDropped", to_vip().version(5), {"dropped_malformed_ip"}},
        Case{
            "AWrongHeaderChecksumIsDropped", to_vip().wrong_ip_checksum(), {"dropped_ip_checksum"}},
        Case{"ATimeToLiveOfZeroIsDropped", to_vip().time_to_live(0), {"dropped_ttl"}},
        Case{"AFirstFragmentIsDropped", to_vip().more_fragments(), {"dropped_fragment"}},
        Case{"ALaterFragmentIsDropped", to_vip().fragment_offset(10), {"dropped_fragment"}},
        Case{"AMulticastSourceIsDropped",
             from(wire::IpAddress::v4(224, 0, 0, 1)),
             {"dropped_source"}},
        Case{"ALoopbackSourceIsDropped",
             from(wire::IpAddress::v4(127, 0, 0, 1)),
             {"dropped_source"}},
        Case{"AnUnspecifiedSourceIsDropped",
             from(wire::IpAddress::v4(0, 0, 0, 0)),
             {"dropped_source"}},
        Case{"AReservedSourceIsDropped",
             from(wire::IpAddress::v4(240, 0, 0, 1)),
             {"dropped_source"}},
        Case{"TheBroadcastAddressOfOurNetworkAsSourceIsDropped",
             from(kBroadcastOfOurs),
             {"dropped_source"}},
        Case{"TheBroadcastAddressOfAnotherNetworkMayBeAHosts",
             from(wire::IpAddress::v4(192, 0, 3, 255)),
             {"segments_delivered"}},
        Case{"AnOwnAddressAsSourceIsDropped", from(kOwn), {"dropped_source"}},
        Case{"AVipAsSourceIsDropped", from(kVip), {"dropped_source"}},
        Case{"AnotherHostIsNotAnswered",
             tcp(at(kClient, 1), at(kPeer, 80)),
             {"dropped_destination"}},
        Case{"AShortTcpHeaderIsDropped", to_vip().total_length(39), {"dropped_truncated"}},
        Case{"AWrongTcpChecksumIsDropped",
             to_vip().payload("cut off").total_length(40),
             {"dropped_checksum"}},
        Case{"AnUnknownProtocolIsDropped",
             ip_packet(kClient, kVip, 132).payload("x"),
             {"dropped_protocol"}},
        Case{"IcmpForTheOtherFamilyIsDropped",
             ip_packet(kClient, kVip, 58).payload("xxxxxxxx"),
             {"dropped_protocol"}},
        Case{"AnUnknownEtherTypeIsDropped", to_vip().ether_type(0x88cc), {"dropped_ether_type"}}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Ipv6, ReceivedFrame,
    ::testing::Values(
        Case{"ASegmentForAVipIsDelivered", to_vip6(), {"segments_delivered"}},
        Case{"DestinationOptionsAreSkipped", to_vip6().extension(60, 0), {"segments_delivered"}},
        Case{"HopByHopOptionsAreSkipped", to_vip6().extension(0, 1), {"segments_delivered"}},
        Case{"FourExtensionHeadersAreTaken",
             to_vip6().extension(0, 0).extension(60, 0).extension(60, 0).extension(60, 0),
             {"segments_delivered"}},
        Case{
            "FiveExtensionHeadersAreTooMany",
            to_vip6().extension(60, 0).extension(60, 0).extension(60, 0).extension(60, 0).extension(
                60, 0),
            {"dropped_extension"}},
        Case{"HopByHopOptionsElsewhereAreDropped",
             to_vip6().extension(60, 0).extension(0, 0),
             {"dropped_malformed_ip"}},
        Case{
            "ARoutingHeaderOfTypeZeroIsDropped", to_vip6().extension(43, 0), {"dropped_extension"}},
        Case{"AWholeDatagramInAFragmentHeaderIsTaken",
             to_vip6().fragment_header(),
             {"segments_delivered"}},
        Case{"AFirstFragmentIsDropped", to_vip6().more_fragments(), {"dropped_fragment"}},
        Case{"ALaterFragmentIsDropped", to_vip6().fragment_offset(10), {"dropped_fragment"}},
        Case{"AShortHeaderIsDropped", to_vip6().truncate_to(53), {"dropped_truncated"}},
        Case{"APayloadLengthBeyondTheFrameIsDropped",
             to_vip6().total_length(1000),
             {"dropped_truncated"}},
        Case{"AnotherVersionIsDropped", to_vip6().version(4), {"dropped_malformed_ip"}},
        Case{"AHopLimitOfZeroIsDropped", to_vip6().time_to_live(0), {"dropped_ttl"}},
        Case{"AMulticastSourceIsDropped",
             tcp(at(*wire::IpAddress::parse("ff02::1"), 1), at(kVip6, 80)),
             {"dropped_source"}},
        Case{"AnUnspecifiedSourceIsDropped",
             tcp(at(*wire::IpAddress::parse("::"), 1), at(kVip6, 80)),
             {"dropped_source"}},
        Case{"AnotherHostIsNotAnswered",
             tcp(at(kClient6, 1), at(kPeer6, 80)),
             {"dropped_destination"}},
        Case{"APacketForAStrangersGroupIsDropped",
             neighbor_solicitation(kPeer6, *wire::IpAddress::parse("2001:db8:1::99")),
             {"dropped_destination"}}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Messages, ReceivedFrame,
    ::testing::Values(
        Case{"AnArpRequestForUsIsAnswered", arp_request(kPeer, kOwn), {"arp_answered"}},
        Case{"AnArpProbeIsAnswered",
             arp_request(wire::IpAddress::v4(0, 0, 0, 0), kOwn),
             {"arp_answered"}},
        Case{"AnArpRequestForAnOwnAddressFromThatAddressIsAConflict",
             arp_request(kOwn, kOwn),
             {"address_conflicts", "address_defended"}},
        Case{"AShortArpMessageIsDropped",
             arp_request(kPeer, kOwn).truncate_to(41),
             {"dropped_malformed_arp"}},
        Case{
            "ASolicitationForUsIsAnswered", neighbor_solicitation(kPeer6, kOwn6), {"ndp_answered"}},
        Case{"ASolicitationFromAfarIsDropped",
             neighbor_solicitation(kPeer6, kOwn6).time_to_live(64),
             {"dropped_malformed_ndp"}},
        Case{"AnAdvertisementOfOurAddressIsAConflict",
             icmp(kPeer6, kOwn6, 136).time_to_live(255).payload(as_target(kOwn6)),
             {"address_conflicts", "address_defended"}},
        Case{"ARouterAdvertisementIsIgnored",
             icmp(kPeer6, kOwn6, 134).time_to_live(255).payload("12345678"),
             {"dropped_icmp_type"}},
        Case{"AnEchoRequestIsAnswered",
             echo_request(kClient, kVip).payload("ping"),
             {"echo_answered"}},
        Case{"AnEchoReplyIsIgnored", icmp(kClient, kVip, 0), {"dropped_icmp_type"}},
        Case{"AnEchoRequestToAGroupIsIgnored",
             echo_request(kPeer6, *wire::IpAddress::parse("ff02::1")),
             {"dropped_icmp_type"}},
        Case{"AShortIcmpMessageIsDropped",
             icmp(kClient, kVip, 0).total_length(27),
             {"dropped_malformed_icmp"}},
        Case{"AWrongIcmpChecksumIsDropped",
             icmp(kClient, kVip, 0).payload("cut off").total_length(28),
             {"dropped_checksum"}},
        Case{"AWrongIcmpv6ChecksumIsDropped",
             icmp(kClient6, kVip6, 129).payload("cut off").total_length(8),
             {"dropped_checksum"}},
        Case{
            "AnErrorThatQuotesNothingIsDropped", icmp(kClient, kVip, 3, 1), {"dropped_icmp_quote"}},
        Case{"AnErrorAboutSomebodyElsesSegmentIsDropped",
             icmp(kClient, kVip, 3, 1).payload(tcp(at(kPeer, 1), at(kClient, 2)).ip_bytes()),
             {"dropped_icmp_quote"}},
        Case{"APacketTooBigBelowTheMinimumIsDropped",
             icmp(kClient6, kVip6, 2)
                 .icmp_rest(1000)
                 .payload(tcp(at(kVip6, 80), at(kClient6, 2)).ip_bytes()),
             {"dropped_malformed_icmp"}},
        Case{"AUdpDatagramIsRefused",
             udp(at(kClient, 1), at(kVip, 53)).payload("hello"),
             {"dropped_udp", "unreachable_sent"}},
        Case{"AUdpLengthBeyondTheDatagramIsDropped",
             udp(at(kClient, 1), at(kVip, 53)).payload("hello").udp_length(100),
             {"dropped_truncated"}},
        Case{"AnErrorOverIpv4AboutIpv6IsDropped",
             icmp(kClient, kVip, 3, 4).icmp_rest(1400).payload(kOurs6),
             {"dropped_icmp_quote"}},
        Case{"AnErrorOverIpv6AboutIpv4IsDropped",
             icmp(kClient6, kVip6, 2).icmp_rest(1400).payload(kOurs),
             {"dropped_icmp_quote"}},
        Case{"AnErrorAboutAMappedAddressIsDropped",
             icmp(kClient6, kVip6, 2).icmp_rest(1400).payload(from_mapped_address()),
             {"dropped_icmp_quote"}},
        Case{"AnArpRequestFromAGroupsStationIsDropped",
             arp_request_from({{0x01, 0, 0x5e, 0, 0, 1}}),
             {"dropped_malformed_arp"}},
        Case{"AnArpRequestOfAnotherHostFromOurStationIsDropped",
             arp_request_from(kOurMac),
             {"dropped_malformed_arp"}},
        Case{"AnArpRequestOfTheBroadcastAddressIsDropped",
             arp_request(kBroadcastOfOurs, kOwn),
             {"dropped_malformed_arp"}},
        Case{"AnArpRequestOfALoopbackAddressIsDropped",
             arp_request(wire::IpAddress::v4(127, 0, 0, 1), kOwn),
             {"dropped_malformed_arp"}},
        Case{"ASolicitationFromAStationIsAnswered", solicitation_from(kPeerMac), {"ndp_answered"}},
        Case{"ASolicitationFromAGroupsStationIsDropped",
             solicitation_from({{0x33, 0x33, 0, 0, 0, 1}}),
             {"dropped_malformed_ndp"}},
        Case{"ASolicitationFromNoStationIsDropped",
             solicitation_from({}),
             {"dropped_malformed_ndp"}},
        Case{"ASolicitationOfAnotherHostFromOurStationIsDropped",
             solicitation_from(kOurMac),
             {"dropped_malformed_ndp"}},
        Case{"AnAdvertisementOfAGroupsStationIsDropped",
             icmp(kPeer6, kOwn6, 136)
                 .time_to_live(255)
                 .payload(as_target(kPeer6, 2, {{0x33, 0x33, 0, 0, 0, 1}})),
             {"dropped_malformed_ndp"}},
        Case{"ASearchForAFreeAddressAmongAllNodesIsDropped",
             icmp(*wire::IpAddress::parse("::"), *wire::IpAddress::parse("ff02::1"), 135)
                 .time_to_live(255)
                 .payload(as_target(kOwn6)),
             {"dropped_malformed_ndp"}},
        Case{"AnArpReplyFromAStrangerIsNotLearnt", arp_reply(kPeer, kOwn), {}}),
    name_of);

}  // namespace
}  // namespace weir::net
