// What is wrong with a packet matters to its owner alone: for a VIP it is dropped with the reason,
// for the host it is passed untouched. All of these come in such pairs.

#include <netinet/in.h>

#include "tests/bpf/verdict_case.h"

namespace weir::testing {
namespace {

constexpr std::size_t kIpv4 = kEthernetBytes + 20;  // where what an IPv4 header carries begins
constexpr std::size_t kIpv6 = kEthernetBytes + 40;

const wire::Endpoint kDns = at(kVip, 53);
const wire::Endpoint kDns6 = at(kVip6, 53);

void add_ipv4(VerdictCases& cases) {
  const auto malformed = [&cases](std::string_view name, const PacketBuilder& packet) {
    cases.add_pair(name, packet, WEIR_DROP_MALFORMED);
  };
  const auto truncated = [&cases](std::string_view name, const PacketBuilder& packet) {
    cases.add_pair(name, packet, WEIR_DROP_TRUNCATED);
  };
  malformed("AnIpv4HeaderLengthOfZero", tcp(kFrom, kTo).header_words(0));
  malformed("AnIpv4HeaderLengthBelowFive", tcp(kFrom, kTo).header_words(4));
  malformed("VersionZeroUnderTheTypeOfIpv4", tcp(kFrom, kTo).version(0));
  malformed("VersionFiveUnderTheTypeOfIpv4", tcp(kFrom, kTo).version(5));
  malformed("VersionSixUnderTheTypeOfIpv4", tcp(kFrom, kTo).version(6));
  malformed("ATotalLengthOfZero", tcp(kFrom, kTo).total_length(0));
  malformed("ATotalLengthBelowTheHeader", tcp(kFrom, kTo).total_length(19));
  malformed("ATotalLengthBelowTheOptions", tcp(kFrom, kTo).ip_options(5).total_length(39));
  malformed("AHeaderLongerThanTheDatagram", tcp(kFrom, kTo).header_words(15));
  truncated("ATotalLengthOneBeyondTheFrame", tcp(kFrom, kTo).total_length(41));
  truncated("TheHighestTotalLength", tcp(kFrom, kTo).total_length(65535));
  truncated("AnIpv4HeaderAlone", tcp(kFrom, kTo).truncate_to(kIpv4));
  truncated("OptionsBeyondTheFrame", tcp(kFrom, kTo).ip_options(10).truncate_to(kIpv4 + 39));
  truncated("AFrameThatEndsInsideOptions", tcp(kFrom, kTo).ip_options(3).truncate_to(kIpv4 + 1));
}

void add_transport_ipv4(VerdictCases& cases) {
  const auto malformed = [&cases](std::string_view name, const PacketBuilder& packet) {
    cases.add_pair(name, packet, WEIR_DROP_MALFORMED);
  };
  const auto truncated = [&cases](std::string_view name, const PacketBuilder& packet) {
    cases.add_pair(name, packet, WEIR_DROP_TRUNCATED);
  };
  truncated("AFrameThatEndsBeforeTcpPorts", tcp(kFrom, kTo).truncate_to(kIpv4 + 3));
  truncated("AFrameThatEndsInsideTcp", tcp(kFrom, kTo).truncate_to(kIpv4 + 19));
  truncated("ADatagramWithoutTcp", tcp(kFrom, kTo).total_length(20));
  truncated("ADatagramOneByteTooShortForTcp", tcp(kFrom, kTo).total_length(39));
  truncated("ADatagramTooShortForTcpBehindOptions",
            tcp(kFrom, kTo).ip_options(2).total_length(28 + 19));
  truncated("ATcpHeaderOneWordBeyondTheDatagram", tcp(kFrom, kTo).data_offset(6));
  truncated("TheLongestTcpHeaderBeyondTheDatagram",
            tcp(kFrom, kTo).payload(text(39)).data_offset(15));
  malformed("ATcpOffsetOfZero", tcp(kFrom, kTo).data_offset(0));
  malformed("ATcpOffsetBelowFive", tcp(kFrom, kTo).data_offset(4));
  truncated("AFrameThatEndsInsideUdp", udp(kFrom, kDns).truncate_to(kIpv4 + 7));
  truncated("ADatagramWithoutUdp", udp(kFrom, kDns).total_length(20));
  truncated("ADatagramOneByteTooShortForUdp", udp(kFrom, kDns).total_length(27));
  truncated("AUdpLengthOneBeyondTheDatagram", udp(kFrom, kDns).payload("query").udp_length(14));
  truncated("TheHighestUdpLength", udp(kFrom, kDns).payload("query").udp_length(65535));
  malformed("AUdpLengthOfZero", udp(kFrom, kDns).payload("query").udp_length(0));
  malformed("AUdpLengthBelowEight", udp(kFrom, kDns).payload("query").udp_length(7));
  // RFC 1858, section 3: a first fragment so small that what matters of TCP is in the second.
  truncated("ATinyFirstFragment", tcp(kFrom, kTo).more_fragments().total_length(28));
  truncated("ATinyFirstFragmentOfUdp", udp(kFrom, kDns).more_fragments().total_length(24));
}

void add_ipv6(VerdictCases& cases) {
  const auto malformed = [&cases](std::string_view name, const PacketBuilder& packet) {
    cases.add_pair(name, packet, WEIR_DROP_MALFORMED);
  };
  const auto truncated = [&cases](std::string_view name, const PacketBuilder& packet) {
    cases.add_pair(name, packet, WEIR_DROP_TRUNCATED);
  };
  malformed("VersionZeroUnderTheTypeOfIpv6", tcp(kFrom6, kTo6).version(0));
  malformed("VersionFourUnderTheTypeOfIpv6", tcp(kFrom6, kTo6).version(4));
  malformed("VersionFifteenUnderTheTypeOfIpv6", tcp(kFrom6, kTo6).version(15));
  truncated("AnIpv6HeaderAlone", tcp(kFrom6, kTo6).truncate_to(kIpv6));
  truncated("APayloadLengthOneBeyondTheFrame", tcp(kFrom6, kTo6).total_length(21));
  truncated("TheHighestPayloadLength", tcp(kFrom6, kTo6).total_length(65535));
  truncated("APayloadLengthOfZero", tcp(kFrom6, kTo6).total_length(0));
  truncated("AJumbogram", tcp(kFrom6, kTo6)
                              .extension(IPPROTO_HOPOPTS, 0)
                              .octet(kIpv6 + 2, 0xc2)
                              .octet(kIpv6 + 3, 4)
                              .total_length(0));
  truncated("AFrameThatEndsInsideIpv6Tcp", tcp(kFrom6, kTo6).truncate_to(kIpv6 + 10));
  truncated("AFrameThatEndsInsideIpv6Udp", udp(kFrom6, kDns6).truncate_to(kIpv6 + 4));
  truncated("APayloadTooShortForTcp", tcp(kFrom6, kTo6).total_length(19));
  truncated("APayloadTooShortForUdp", udp(kFrom6, kDns6).total_length(7));
  truncated("AnIpv6TcpHeaderBeyondThePayload", tcp(kFrom6, kTo6).data_offset(6));
  malformed("AnIpv6TcpOffsetBelowFive", tcp(kFrom6, kTo6).data_offset(4));
  malformed("AnIpv6TcpOffsetOfZero", tcp(kFrom6, kTo6).data_offset(0));
  truncated("AnIpv6UdpLengthBeyondThePayload", udp(kFrom6, kDns6).udp_length(9));
  malformed("AnIpv6UdpLengthBelowEight", udp(kFrom6, kDns6).udp_length(7));
  malformed("AnIpv6UdpLengthOfZero", udp(kFrom6, kDns6).udp_length(0));
  truncated("ATinyFirstIpv6Fragment", tcp(kFrom6, kTo6).more_fragments().total_length(8 + 19));
  truncated("ATinyFirstIpv6FragmentOfUdp", udp(kFrom6, kDns6).more_fragments().total_length(8 + 7));
}

PacketBuilder with_extensions(int count) {
  PacketBuilder packet = tcp(kFrom6, kTo6);
  for (int i = 0; i < count; ++i)
    packet.extension(IPPROTO_DSTOPTS, 0);
  return packet;
}

void add_extensions(VerdictCases& cases) {
  const auto malformed = [&cases](std::string_view name, const PacketBuilder& packet) {
    cases.add_pair(name, packet, WEIR_DROP_MALFORMED);
  };
  const auto truncated = [&cases](std::string_view name, const PacketBuilder& packet) {
    cases.add_pair(name, packet, WEIR_DROP_TRUNCATED);
  };
  malformed("AFifthExtensionHeader", with_extensions(5));
  malformed("ATwelfthExtensionHeader", with_extensions(12));
  malformed("AFragmentHeaderBehindFourOthers", with_extensions(4).fragment_header());
  truncated("AnExtensionHeaderThatIsNotThere",
            ip_packet(kClient6, kVip6, IPPROTO_HOPOPTS).total_length(0));
  truncated("AnExtensionHeaderOfSevenBytes",
            ip_packet(kClient6, kVip6, IPPROTO_HOPOPTS).payload(text(7)));
  truncated("AnExtensionHeaderBeyondThePayload", with_extensions(1).octet(kIpv6 + 1, 3));
  truncated("TheHighestExtensionLength", with_extensions(1).octet(kIpv6 + 1, 255));
  truncated("ASecondExtensionHeaderBeyondThePayload", with_extensions(2).octet(kIpv6 + 9, 200));
  truncated("AFourthExtensionHeaderBeyondThePayload", with_extensions(4).octet(kIpv6 + 25, 200));
  truncated("AFrameThatEndsInsideAnExtensionHeader", with_extensions(2).truncate_to(kIpv6 + 12));
  truncated("AFrameThatEndsBetweenExtensionHeaders", with_extensions(2).truncate_to(kIpv6 + 8));
  truncated("APayloadThatEndsBehindAnExtensionHeader", with_extensions(1).total_length(8));
  truncated("APayloadThatEndsInsideAFragmentHeader",
            tcp(kFrom6, kTo6).fragment_header().total_length(7));
  truncated("APayloadThatEndsBehindAFragmentHeader",
            tcp(kFrom6, kTo6).fragment_header().total_length(8));
}

/// Behind tags and inside the frames of other networks, the same is found.
void add_tagged(VerdictCases& cases) {
  cases.add_pair("ATruncatedPacketBehindATag", tcp(kFrom, kTo).tag(kTagQ, 5).truncate_to(kIpv4 + 4),
                 WEIR_DROP_TRUNCATED);
  cases.add_pair("AMalformedPacketBehindTwoTags",
                 tcp(kFrom6, kTo6).tag(kTagAd, 5).tag(kTagQ, 6).data_offset(2),
                 WEIR_DROP_MALFORMED);
  cases.add_pair("APaddedFrameWhoseDatagramIsTooShort",
                 tcp(kFrom, kTo).total_length(30).padding(50), WEIR_DROP_TRUNCATED);
}

}  // namespace

std::vector<VerdictCase> malformed_cases() {
  VerdictCases cases{World::kStandard};
  add_ipv4(cases);
  add_transport_ipv4(cases);
  add_ipv6(cases);
  add_extensions(cases);
  add_tagged(cases);
  return cases.list();
}

}  // namespace weir::testing
