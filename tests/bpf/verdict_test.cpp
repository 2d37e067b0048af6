// One line per behaviour of the balancer: a frame, and how it ends. L7 has its own table.

#include <linux/bpf.h>
#include <netinet/in.h>

#include "tests/bpf/balancer_fixture.h"

namespace weir::testing {
namespace {

struct Case {
  std::string_view name;
  PacketBuilder packet;
  weir_verdict verdict;
  std::uint32_t vip = 0;      ///< whose counter must move; 0: none
  std::uint32_t backend = 0;  ///< likewise
  std::uint64_t new_flows = 1;
};

class Verdict : public ::testing::TestWithParam<Case>, protected BalancerFixture {
 protected:
  void SetUp() override { start_standard_world(); }
};

std::map<std::string, CounterDelta> expected_counters(const Case& expected, std::uint64_t bytes) {
  std::map<std::string, CounterDelta> counters;
  counters[label_of(expected.verdict)] = {1, bytes, 0};
  if (expected.vip != 0)
    counters[fmt::format("vip {}", expected.vip)] = {1, bytes, expected.new_flows};
  if (expected.backend != 0)
    counters[fmt::format("backend {}", expected.backend)] = {1, bytes, expected.new_flows};
  return counters;
}

TEST_P(Verdict, IsReachedAndNothingElseIsCounted) {
  const auto frame = GetParam().packet.bytes();
  const RunResult result = run(frame);
  EXPECT_EQ(result.action, action_of(GetParam().verdict)) << describe(result);
  EXPECT_EQ(result.moved, expected_counters(GetParam(), frame.size())) << describe(result);
  const bool is_sent = result.action == XDP_TX || result.action == XDP_REDIRECT;
  if (!is_sent && result.action == XDP_PASS) {
    EXPECT_EQ(result.output, frame) << "what is passed is passed untouched";
  }
}

std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  return std::string{info.param.name};
}

std::string text(std::size_t bytes) { return std::string(bytes, 'x'); }

const wire::Endpoint kFrom = at(kClient, 40000);
const wire::Endpoint kFrom6 = at(kClient6, 40000);
const wire::Endpoint kTo = at(kVip, 80);
const wire::Endpoint kTo6 = at(kVip6, 80);

INSTANTIATE_TEST_SUITE_P(
    Forwarded, Verdict,
    ::testing::Values(
        Case{"ASynIsEncapsulated", tcp(kFrom, kTo).syn(), WEIR_TX_IPIP, kVipIpip, kBackendV4},
        Case{"AnAckIsEncapsulated", tcp(kFrom, kTo), WEIR_TX_IPIP, kVipIpip, kBackendV4},
        Case{"ASynAckIsEncapsulated", tcp(kFrom, kTo).syn_ack(), WEIR_TX_IPIP, kVipIpip,
             kBackendV4},
        Case{"AFinOfAnUnknownFlowMakesNoFlow", tcp(kFrom, kTo).fin_ack(), WEIR_TX_IPIP, kVipIpip,
             kBackendV4, 0},
        Case{"ARstOfAnUnknownFlowMakesNoFlow", tcp(kFrom, kTo).rst(), WEIR_TX_IPIP, kVipIpip,
             kBackendV4, 0},
        Case{"AnIpv6SynIsEncapsulated", tcp(kFrom6, kTo6).syn(), WEIR_TX_IPIP, kVipIpip6,
             kBackendV6},
        Case{"AnIpv6AckIsEncapsulated", tcp(kFrom6, kTo6), WEIR_TX_IPIP, kVipIpip6, kBackendV6},
        Case{"UdpOverIpv4GoesToAnIpv6Backend", udp(kFrom, at(kVip, 53)).payload("query"),
             WEIR_TX_IPIP, kVipCross, kBackendCross},
        Case{"UdpOverIpv6GoesToAnIpv4Backend", udp(kFrom6, at(kVip6, 53)).payload("query"),
             WEIR_TX_IPIP, kVipCross6, kBackendCross6},
        Case{"AnEmptyUdpDatagramIsForwarded", udp(kFrom, at(kVip, 53)), WEIR_TX_IPIP, kVipCross,
             kBackendCross},
        Case{"ABackendBehindAnotherDeviceIsRedirectedTo", tcp(kFrom, at(kVip, 81)),
             WEIR_REDIRECT_IPIP, kVipOther, kBackendOther},
        Case{"AnL2VipRewritesMacs", tcp(kFrom, at(kVip, 82)), WEIR_TX_L2, kVipL2, kBackendL2},
        Case{"AnIpv6L2VipRedirectsToAnotherDevice", tcp(kFrom6, at(kVip6, 82)), WEIR_REDIRECT_L2,
             kVipL2v6, kBackendL2Other},
        Case{"IpOptionsAreSteppedOver", tcp(kFrom, kTo).ip_options(3), WEIR_TX_IPIP, kVipIpip,
             kBackendV4},
        Case{"TheLongestIpHeaderIsSteppedOver", tcp(kFrom, kTo).ip_options(10), WEIR_TX_IPIP,
             kVipIpip, kBackendV4},
        Case{"TcpOptionsDoNotMatter",
             tcp(kFrom, kTo).syn().tcp_options(std::vector<std::uint8_t>{2, 4, 5, 180}),
             WEIR_TX_IPIP, kVipIpip, kBackendV4},
        Case{"AFirstFragmentIsForwarded", tcp(kFrom, kTo).more_fragments(), WEIR_TX_IPIP, kVipIpip,
             kBackendV4},
        Case{"AFirstIpv6FragmentIsForwarded", tcp(kFrom6, kTo6).more_fragments(), WEIR_TX_IPIP,
             kVipIpip6, kBackendV6},
        Case{"ADontFragmentPacketIsForwarded", tcp(kFrom, kTo).do_not_fragment(), WEIR_TX_IPIP,
             kVipIpip, kBackendV4},
        Case{"APaddedFrameIsForwarded", tcp(kFrom, kTo).padding(6), WEIR_TX_IPIP, kVipIpip,
             kBackendV4},
        Case{"APaddedIpv6FrameIsForwarded", tcp(kFrom6, kTo6).padding(9), WEIR_TX_IPIP, kVipIpip6,
             kBackendV6},
        Case{"AWrongIpChecksumIsLeftToTheBackend", tcp(kFrom, kTo).wrong_ip_checksum(),
             WEIR_TX_IPIP, kVipIpip, kBackendV4},
        Case{"HopByHopOptionsAreSteppedOver", tcp(kFrom6, kTo6).extension(IPPROTO_HOPOPTS, 0),
             WEIR_TX_IPIP, kVipIpip6, kBackendV6},
        Case{"LongDestinationOptionsAreSteppedOver",
             tcp(kFrom6, kTo6).extension(IPPROTO_DSTOPTS, 30), WEIR_TX_IPIP, kVipIpip6, kBackendV6},
        Case{"FourExtensionHeadersAreSteppedOver",
             tcp(kFrom6, kTo6)
                 .extension(IPPROTO_HOPOPTS, 0)
                 .extension(IPPROTO_DSTOPTS, 1)
                 .extension(IPPROTO_ROUTING, 0)
                 .extension(IPPROTO_DSTOPTS, 2),
             WEIR_TX_IPIP, kVipIpip6, kBackendV6},
        Case{"AFragmentHeaderOnAWholeDatagramIsSteppedOver", tcp(kFrom6, kTo6).fragment_header(),
             WEIR_TX_IPIP, kVipIpip6, kBackendV6},
        Case{"APacketThatJustFitsIsForwarded", tcp(kFrom, kTo).payload(text(1500 - 60)),
             WEIR_TX_IPIP, kVipIpip, kBackendV4},
        Case{"AnL2PacketOfTheMtuIsForwarded", tcp(kFrom, at(kVip, 82)).payload(text(1500 - 40)),
             WEIR_TX_L2, kVipL2, kBackendL2},
        Case{"AHopLimitOfTwoIsEnough", tcp(kFrom, kTo).time_to_live(2), WEIR_TX_IPIP, kVipIpip,
             kBackendV4}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Passed, Verdict,
    ::testing::Values(
        Case{"TcpToTheHost", tcp(kFrom, at(kHost, 80)).syn(), WEIR_PASS_NOT_A_VIP},
        Case{"UdpToTheHost", udp(kFrom, at(kHost, 53)), WEIR_PASS_NOT_A_VIP},
        Case{"Ipv6TcpToTheHost", tcp(kFrom6, at(kHost6, 80)), WEIR_PASS_NOT_A_VIP},
        Case{"Ipv6UdpToTheHost", udp(kFrom6, at(kHost6, 53)), WEIR_PASS_NOT_A_VIP},
        Case{"AFirstFragmentToTheHost", udp(kFrom, at(kHost, 53)).more_fragments(),
             WEIR_PASS_NOT_A_VIP},
        Case{"ALaterFragmentToTheHost", udp(kFrom, at(kHost, 53)).fragment_offset(100),
             WEIR_PASS_NOT_A_VIP},
        Case{"AnIpv6FragmentToTheHost", udp(kFrom6, at(kHost6, 53)).more_fragments(),
             WEIR_PASS_NOT_A_VIP},
        Case{"OptionsToTheHost", tcp(kFrom, at(kHost, 80)).ip_options(2), WEIR_PASS_NOT_A_VIP},
        Case{"ExtensionHeadersToTheHost", tcp(kFrom6, at(kHost6, 80)).extension(IPPROTO_HOPOPTS, 0),
             WEIR_PASS_NOT_A_VIP},
        Case{"ATruncatedPacketToTheHost", tcp(kFrom, at(kHost, 80)).truncate_to(40),
             WEIR_PASS_NOT_A_VIP},
        Case{"AMalformedPacketToTheHost", tcp(kFrom, at(kHost, 80)).header_words(3),
             WEIR_PASS_NOT_A_VIP},
        Case{"PingToTheHost", echo_request(kClient, kHost), WEIR_PASS_NOT_A_VIP},
        Case{"Ping6ToTheHost", echo_request(kClient6, kHost6), WEIR_PASS_NOT_A_VIP},
        Case{"ArpForTheVipIsTheHosts", arp_request(kClient, kVip), WEIR_PASS_NOT_IP},
        Case{"ArpForAnAddressOfL7WithoutL7", arp_request(kClient, kL7Own), WEIR_PASS_NOT_IP},
        Case{"ASolicitationForTheVipIsTheHosts", neighbor_solicitation(kClient6, kVip6),
             WEIR_PASS_NOT_A_VIP},
        Case{"AUnicastSolicitationForTheVipIsTheHosts",
             icmp(kClient6, kVip6, 135).payload(text(16)), WEIR_PASS_NO_PORTS},
        Case{"AnUnreachableToAVip", icmp(kClient, kVip, 3, 4).payload(text(28)),
             WEIR_PASS_NO_PORTS},
        Case{"SctpToAVip", ip_packet(kClient, kVip, IPPROTO_SCTP).payload(text(12)),
             WEIR_PASS_NO_PORTS},
        Case{"GreToAnIpv6Vip", ip_packet(kClient6, kVip6, IPPROTO_GRE).payload(text(8)),
             WEIR_PASS_NO_PORTS},
        Case{"Icmpv6InsideIpv4IsNoNeighborMessage",
             ip_packet(kClient, kVip, IPPROTO_ICMPV6).payload(text(24)), WEIR_PASS_NO_PORTS},
        Case{"AnEmptyIpv6PacketWithoutNextHeader", ip_packet(kClient6, kVip6, IPPROTO_NONE),
             WEIR_PASS_NO_PORTS},
        Case{"AnEmptyIcmpv6Packet", ip_packet(kClient6, kVip6, IPPROTO_ICMPV6).total_length(0),
             WEIR_PASS_NO_PORTS},
        Case{"ATunnelPacketToTheHost", tcp(kFrom, kTo).inside(kClient, kHost), WEIR_PASS_NOT_A_VIP},
        Case{"AVlanTaggedFrame", tcp(kFrom, kTo).ether_type(0x8100), WEIR_PASS_NOT_IP},
        Case{"AnUnknownEtherType", PacketBuilder::raw(0x88cc, {}).padding(46), WEIR_PASS_NOT_IP},
        Case{"AnEthernetHeaderAlone", tcp(kFrom, kTo).truncate_to(14), WEIR_PASS_NOT_IP},
        Case{"HalfAnIpHeader", tcp(kFrom, kTo).truncate_to(14 + 19), WEIR_PASS_NOT_IP},
        Case{"HalfAnIpv6Header", tcp(kFrom6, kTo6).truncate_to(14 + 39), WEIR_PASS_NOT_IP},
        Case{"HalfAnArpMessage", arp_request(kClient, kVip).truncate_to(14 + 27),
             WEIR_PASS_NOT_IP}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Dropped, Verdict,
    ::testing::Values(
        Case{"ALaterFragment", tcp(kFrom, kTo).fragment_offset(1), WEIR_DROP_FRAGMENT},
        Case{"AFragmentOfAPing", echo_request(kClient, kVip).more_fragments(), WEIR_DROP_FRAGMENT},
        Case{"ALaterIpv6Fragment", tcp(kFrom6, kTo6).fragment_offset(1), WEIR_DROP_FRAGMENT},
        Case{"AnIpv6FragmentBehindOptions",
             udp(kFrom6, kTo6).extension(IPPROTO_DSTOPTS, 0).fragment_offset(8),
             WEIR_DROP_FRAGMENT},
        Case{"AnUnknownTcpPort", tcp(kFrom, at(kVip, 8080)).syn(), WEIR_DROP_UNKNOWN_PORT},
        Case{"AUdpPortThatIsTcpOnly", udp(kFrom, kTo), WEIR_DROP_UNKNOWN_PORT},
        Case{"ATcpPortThatIsUdpOnly", tcp(kFrom6, at(kVip6, 53)), WEIR_DROP_UNKNOWN_PORT},
        Case{"PortZero", tcp(kFrom, at(kVip, 0)), WEIR_DROP_UNKNOWN_PORT},
        Case{"ATotalLengthBeyondTheFrame", tcp(kFrom, kTo).total_length(1440), WEIR_DROP_TRUNCATED},
        Case{"AFrameCutInsideTcp", tcp(kFrom, kTo).truncate_to(14 + 20 + 19), WEIR_DROP_TRUNCATED},
        Case{"ADatagramTooShortForTcp", tcp(kFrom, kTo).total_length(39), WEIR_DROP_TRUNCATED},
        Case{"ADatagramTooShortForUdp", udp(kFrom, at(kVip, 53)).total_length(27),
             WEIR_DROP_TRUNCATED},
        Case{"ATcpHeaderLongerThanTheDatagram", tcp(kFrom, kTo).data_offset(6),
             WEIR_DROP_TRUNCATED},
        Case{"AUdpLengthBeyondTheDatagram", udp(kFrom, at(kVip, 53)).udp_length(9),
             WEIR_DROP_TRUNCATED},
        Case{"OptionsBeyondTheFrame",
             tcp(kFrom, kTo).header_words(15).total_length(60).truncate_to(14 + 59),
             WEIR_DROP_TRUNCATED},
        Case{"AnIpv6PayloadBeyondTheFrame", tcp(kFrom6, kTo6).total_length(21),
             WEIR_DROP_TRUNCATED},
        Case{"AnIpv6FrameCutInsideTcp", tcp(kFrom6, kTo6).truncate_to(14 + 40 + 10),
             WEIR_DROP_TRUNCATED},
        Case{"AnIpv6JumbogramLength", tcp(kFrom6, kTo6).total_length(0), WEIR_DROP_TRUNCATED},
        Case{"AnExtensionHeaderBeyondThePacket",
             tcp(kFrom6, kTo6).extension(IPPROTO_HOPOPTS, 3).total_length(20), WEIR_DROP_TRUNCATED},
        Case{"AnExtensionHeaderThatIsNotThere",
             ip_packet(kClient6, kVip6, IPPROTO_HOPOPTS).payload(text(7)), WEIR_DROP_TRUNCATED},
        Case{"AHeaderLengthBelowFive", tcp(kFrom, kTo).header_words(4), WEIR_DROP_MALFORMED},
        Case{"ATotalLengthBelowTheHeader", tcp(kFrom, kTo).total_length(19), WEIR_DROP_MALFORMED},
        Case{"AVersionThatIsNotFour", tcp(kFrom, kTo).version(6), WEIR_DROP_MALFORMED},
        Case{"AVersionThatIsNotSix", tcp(kFrom6, kTo6).version(4), WEIR_DROP_MALFORMED},
        Case{"ATcpOffsetBelowFive", tcp(kFrom, kTo).data_offset(4), WEIR_DROP_MALFORMED},
        Case{"AnIpv6TcpOffsetBelowFive", tcp(kFrom6, kTo6).data_offset(0), WEIR_DROP_MALFORMED},
        Case{"AUdpLengthBelowEight", udp(kFrom, at(kVip, 53)).udp_length(7), WEIR_DROP_MALFORMED},
        Case{"AUdpLengthOfZero", udp(kFrom6, at(kVip6, 53)).udp_length(0), WEIR_DROP_MALFORMED},
        Case{"FiveExtensionHeaders",
             tcp(kFrom6, kTo6)
                 .extension(IPPROTO_HOPOPTS, 0)
                 .extension(IPPROTO_DSTOPTS, 0)
                 .extension(IPPROTO_DSTOPTS, 0)
                 .extension(IPPROTO_DSTOPTS, 0)
                 .extension(IPPROTO_DSTOPTS, 0),
             WEIR_DROP_MALFORMED},
        Case{"AnEmptySlot", tcp(kFrom, at(kVip, 90)), WEIR_DROP_NO_BACKEND, kVipEmpty, 0, 0},
        Case{"AVipWithoutATable", tcp(kFrom, at(kVip, 91)), WEIR_DROP_NO_BACKEND, kVipNoTable, 0,
             0},
        Case{"AnL7VipWithoutL7", tcp(kFrom, at(kVipL7, 80)).syn(), WEIR_DROP_NO_BACKEND,
             kVipHandOff, 0, 0},
        Case{"APingToAnL7VipWithoutL7", echo_request(kClient, kVipL7), WEIR_DROP_NO_BACKEND},
        Case{"AnUnresolvedNextHop", tcp(kFrom, at(kVip, 92)), WEIR_DROP_NO_NEXT_HOP, kVipNoHop},
        Case{"ADeviceThatIsNotListed", tcp(kFrom, at(kVip, 93)), WEIR_DROP_INTERNAL, kVipLost},
        Case{"ATableShorterThanItsSize", tcp(kFrom, at(kVip, 94)), WEIR_DROP_INTERNAL, kVipBroken,
             0, 0},
        Case{"AnUnknownMode", tcp(kFrom, at(kVip, 95)), WEIR_DROP_INTERNAL, kVipUnknownMode},
        Case{"OneByteTooManyAfterEncapsulation", tcp(kFrom, kTo).payload(text(1500 - 59)),
             WEIR_DROP_TOO_BIG, kVipIpip},
        Case{"OneByteTooManyForL2", tcp(kFrom, at(kVip, 82)).payload(text(1500 - 39)),
             WEIR_DROP_TOO_BIG, kVipL2}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Answered, Verdict,
    ::testing::Values(
        Case{"AnEchoRequest", echo_request(kClient, kVip), WEIR_TX_ECHO_REPLY},
        Case{"AnIpv6EchoRequest", echo_request(kClient6, kVip6), WEIR_TX_ECHO_REPLY},
        Case{"OneByteTooManyForIpv6", tcp(kFrom6, kTo6).payload(text(1500 - 99)), WEIR_TX_TOO_BIG,
             kVipIpip6},
        Case{"OneByteTooManyWithDontFragment",
             tcp(kFrom, kTo).payload(text(1500 - 59)).do_not_fragment(), WEIR_TX_TOO_BIG, kVipIpip},
        Case{"ATimeToLiveOfOne", tcp(kFrom, kTo).time_to_live(1), WEIR_TX_TTL_EXCEEDED, kVipIpip},
        Case{"ATimeToLiveOfZero", tcp(kFrom, kTo).time_to_live(0), WEIR_TX_TTL_EXCEEDED, kVipIpip},
        Case{"AHopLimitOfOne", tcp(kFrom6, kTo6).time_to_live(1), WEIR_TX_TTL_EXCEEDED, kVipIpip6},
        Case{"ATimeToLiveOfOneForL2", tcp(kFrom, at(kVip, 82)).time_to_live(1),
             WEIR_TX_TTL_EXCEEDED, kVipL2}),
    name_of);

class Counters : public ::testing::Test, protected BalancerFixture {
 protected:
  void SetUp() override { start_standard_world(); }
};

TEST_F(Counters, EveryRunIsCountedByExactlyOneVerdict) {
  const PacketBuilder packets[] = {
      tcp(kFrom, kTo).syn(),      tcp(kFrom6, kTo6),
      arp_request(kClient, kVip), tcp(kFrom, kTo).more_fragments(),
      tcp(kFrom, at(kHost, 1)),   echo_request(kClient, kVip),
      udp(kFrom, at(kVip, 53)),   tcp(kFrom, at(kVip, 9999)),
  };
  std::uint64_t runs = 0;
  for (int round = 0; round < 5; ++round)
    for (const PacketBuilder& packet : packets) {
      run(packet);
      ++runs;
    }
  std::uint64_t counted = 0;
  for (std::uint32_t verdict = 0; verdict < WEIR_VERDICT_COUNT; ++verdict) {
    auto counter = runner().read<weir_counter>("weir_counters", verdict);
    ASSERT_TRUE(counter.has_value()) << counter.error().text();
    counted += counter->packets;
  }
  EXPECT_EQ(counted, runs);
}

TEST_F(Counters, AnIpv6PacketToAMappedIpv4VipIsNotForTheVip) {
  auto frame = tcp(kFrom6, kTo6).bytes();
  const auto mapped = std::as_bytes(std::span{kVip.bytes});
  std::copy(mapped.begin(), mapped.end(), frame.begin() + 14 + 24);
  const RunResult result = run(frame);
  EXPECT_EQ(result.moved,
            (std::map<std::string, CounterDelta>{{"pass_not_a_vip", {1, frame.size(), 0}}}));
}

}  // namespace
}  // namespace weir::testing
