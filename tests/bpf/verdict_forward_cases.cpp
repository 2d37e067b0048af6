// What else is forwarded, and what stands in the way of it, in the standard world.

#include <netinet/in.h>

#include "tests/bpf/verdict_case.h"

namespace weir::testing {
namespace {

void add_tcp(VerdictCases& cases) {
  const auto sent = [&cases](std::string_view name, const PacketBuilder& packet,
                             std::uint64_t new_flows = 1) -> VerdictCase& {
    return cases.add(name, packet, WEIR_TX_IPIP, kVipIpip, kBackendV4, new_flows);
  };
  const PacketBuilder packet = tcp(kFrom, kTo);
  sent("ASynIsEncapsulated", tcp(kFrom, kTo).syn());
  sent("ASynThatIsSentAgainIsNoNewFlow", tcp(kFrom, kTo).syn(), 0).after(tcp(kFrom, kTo).syn());
  sent("AnAckIsEncapsulated", packet);
  sent("ASynAckIsEncapsulated", tcp(kFrom, kTo).syn_ack());
  sent("ASynWithDataIsEncapsulated", tcp(kFrom, kTo).syn().payload("fast open"));
  sent("ASegmentWithoutFlagsIsEncapsulated", tcp(kFrom, kTo).flags(0));
  sent("AFinOfAnUnknownFlowMakesNoFlow", tcp(kFrom, kTo).fin_ack(), 0);
  sent("ARstOfAnUnknownFlowMakesNoFlow", tcp(kFrom, kTo).rst(), 0);
  sent("ASynWithRstMakesNoFlow", tcp(kFrom, kTo).flags(0x06), 0);
  sent("ASegmentWithAllFlagsMakesNoFlow", tcp(kFrom, kTo).flags(0xff), 0);
  sent("AFinOfAKnownFlowIsEncapsulated", tcp(kFrom, kTo).fin_ack(), 0).after(packet);
  sent("ARstOfAKnownFlowIsEncapsulated", tcp(kFrom, kTo).rst(), 0).after(packet);
  sent("ASynAfterTheEndIsNoNewFlow", tcp(kFrom, kTo).syn(), 0)
      .after(packet)
      .after(tcp(kFrom, kTo).fin_ack());
  sent("AnotherPortOfTheClientIsAnotherFlow", tcp(at(kClient, 40001), kTo)).after(packet);
  sent("SourcePortZeroIsAPort", tcp(at(kClient, 0), kTo));
  sent("TcpOptionsDoNotMatter",
       tcp(kFrom, kTo).syn().tcp_options(std::vector<std::uint8_t>{2, 4, 5, 180}));
  sent("TheLongestTcpHeaderIsRead", tcp(kFrom, kTo).tcp_options(std::vector<std::uint8_t>(40, 1)));
  sent("AWrongTcpChecksumIsLeftToTheBackend",
       tcp(kFrom, kTo).octet(kEthernetBytes + 20 + 16, 0xaa));
  sent("AnUrgentSegmentIsEncapsulated", tcp(kFrom, kTo).flags(0x30));
}

void add_ipv4(VerdictCases& cases) {
  const auto sent = [&cases](std::string_view name, const PacketBuilder& packet) {
    cases.add(name, packet, WEIR_TX_IPIP, kVipIpip, kBackendV4);
  };
  sent("OneIpOptionIsSteppedOver", tcp(kFrom, kTo).ip_options(1));
  sent("TheLongestIpHeaderIsSteppedOver", tcp(kFrom, kTo).ip_options(10));
  sent("TheLongestHeadersOfBothLayersAreRead",
       tcp(kFrom, kTo).ip_options(10).tcp_options(std::vector<std::uint8_t>(40, 1)));
  sent("ADontFragmentPacketIsForwarded", tcp(kFrom, kTo).do_not_fragment());
  sent("TheReservedFlagOfIpv4IsNotLookedAt", tcp(kFrom, kTo).octet(kEthernetBytes + 6, 0x80));
  sent("AWrongIpChecksumIsLeftToTheBackend", tcp(kFrom, kTo).wrong_ip_checksum());
  sent("AnyTypeOfServiceIsForwarded", tcp(kFrom, kTo).type_of_service(0xff));
  sent("TheHighestTimeToLiveIsForwarded", tcp(kFrom, kTo).time_to_live(255));
  sent("AMinimalFrameIsForwarded", tcp(kFrom, kTo).padding(6));
  sent("ATrailerBeyondTheDatagramIsLeftBehind", tcp(kFrom, kTo).padding(200));
  sent("AFrameToTheVipsOwnAddressIsForwarded", tcp(at(kVip, 40000), kTo));
  cases.add("AnEmptyUdpDatagramIsForwarded", udp(kFrom, at(kVip, 53)), WEIR_TX_IPIP, kVipCross,
            kBackendCross);
  cases.add("ADatagramWithoutChecksumIsForwarded",
            udp(kFrom, at(kVip, 53))
                .payload("query")
                .octet(kEthernetBytes + 26, 0)
                .octet(kEthernetBytes + 27, 0),
            WEIR_TX_IPIP, kVipCross, kBackendCross);
  cases.add("ADatagramShorterThanItsPacketIsForwarded",
            udp(kFrom, at(kVip, 53)).payload("query").udp_length(8), WEIR_TX_IPIP, kVipCross,
            kBackendCross);
  cases
      .add("ASecondDatagramIsNoNewFlow", udp(kFrom, at(kVip, 53)), WEIR_TX_IPIP, kVipCross,
           kBackendCross, 0)
      .after(udp(kFrom, at(kVip, 53)).payload("query"));
}

void add_ipv6(VerdictCases& cases) {
  const auto sent = [&cases](std::string_view name, const PacketBuilder& packet,
                             std::uint64_t new_flows = 1) {
    cases.add(name, packet, WEIR_TX_IPIP, kVipIpip6, kBackendV6, new_flows);
  };
  sent("AnIpv6SynIsEncapsulated", tcp(kFrom6, kTo6).syn());
  sent("AnIpv6FinOfAnUnknownFlowMakesNoFlow", tcp(kFrom6, kTo6).fin_ack(), 0);
  sent("AnIpv6RstOfAnUnknownFlowMakesNoFlow", tcp(kFrom6, kTo6).rst(), 0);
  sent("APaddedIpv6FrameIsForwarded", tcp(kFrom6, kTo6).padding(9));
  sent("AnyTrafficClassIsForwarded", tcp(kFrom6, kTo6).type_of_service(0xff));
  sent("AFlowLabelDoesNotMatter", tcp(kFrom6, kTo6).octet(kEthernetBytes + 3, 0x77));
  sent("HopByHopOptionsAreSteppedOver", tcp(kFrom6, kTo6).extension(IPPROTO_HOPOPTS, 0));
  sent("ARoutingHeaderIsSteppedOver", tcp(kFrom6, kTo6).extension(IPPROTO_ROUTING, 2));
  sent("LongDestinationOptionsAreSteppedOver", tcp(kFrom6, kTo6).extension(IPPROTO_DSTOPTS, 30));
  sent("TheLongestExtensionHeaderIsSteppedOver",
       tcp(kFrom6, kTo6).extension(IPPROTO_DSTOPTS, 120).payload(text(300)));
  sent("ThreeExtensionHeadersAreSteppedOver", tcp(kFrom6, kTo6)
                                                  .extension(IPPROTO_HOPOPTS, 0)
                                                  .extension(IPPROTO_DSTOPTS, 1)
                                                  .extension(IPPROTO_ROUTING, 0));
  sent("FourExtensionHeadersAreSteppedOver", tcp(kFrom6, kTo6)
                                                 .extension(IPPROTO_HOPOPTS, 0)
                                                 .extension(IPPROTO_DSTOPTS, 1)
                                                 .extension(IPPROTO_ROUTING, 0)
                                                 .extension(IPPROTO_DSTOPTS, 2));
  sent("HopByHopOptionsInTheWrongPlaceAreSteppedOver",
       tcp(kFrom6, kTo6).extension(IPPROTO_DSTOPTS, 0).extension(IPPROTO_HOPOPTS, 0));
  sent("AFragmentHeaderOnAWholeDatagramIsSteppedOver", tcp(kFrom6, kTo6).fragment_header());
  sent("AFragmentHeaderIsOneOfTheFour", tcp(kFrom6, kTo6)
                                            .extension(IPPROTO_HOPOPTS, 0)
                                            .extension(IPPROTO_DSTOPTS, 0)
                                            .extension(IPPROTO_ROUTING, 0)
                                            .fragment_header());
  cases.add("AnIpv6DatagramWithoutChecksumIsForwarded",
            udp(kFrom6, at(kVip6, 53)).octet(kEthernetBytes + 46, 0).octet(kEthernetBytes + 47, 0),
            WEIR_TX_IPIP, kVipCross6, kBackendCross6);
  cases.add("AnIpv6L2VipRedirectsToAnotherDevice", tcp(kFrom6, at(kVip6, 82)), WEIR_REDIRECT_L2,
            kVipL2v6, kBackendL2Other);
}

}  // namespace

std::vector<VerdictCase> forward_cases() {
  VerdictCases cases{World::kStandard};
  add_tcp(cases);
  add_ipv4(cases);
  add_ipv6(cases);
  return cases.list();
}

std::vector<VerdictCase> dropped_cases() {
  VerdictCases cases{World::kStandard};
  cases.add("AnUnknownTcpPort", tcp(kFrom, at(kVip, 8080)).syn(), WEIR_DROP_UNKNOWN_PORT);
  cases.add("AnUnknownUdpPort", udp(kFrom, at(kVip, 5353)), WEIR_DROP_UNKNOWN_PORT);
  cases.add("AnUnknownIpv6TcpPort", tcp(kFrom6, at(kVip6, 8080)), WEIR_DROP_UNKNOWN_PORT);
  cases.add("AnUnknownIpv6UdpPort", udp(kFrom6, at(kVip6, 5353)), WEIR_DROP_UNKNOWN_PORT);
  cases.add("AUdpPortThatIsTcpOnly", udp(kFrom, kTo), WEIR_DROP_UNKNOWN_PORT);
  cases.add("ATcpPortThatIsUdpOnly", tcp(kFrom6, at(kVip6, 53)), WEIR_DROP_UNKNOWN_PORT);
  cases.add("PortZero", tcp(kFrom, at(kVip, 0)), WEIR_DROP_UNKNOWN_PORT);
  cases.add("UdpPortZero", udp(kFrom6, at(kVip6, 0)), WEIR_DROP_UNKNOWN_PORT);
  cases.add("AFirstFragmentForAnUnknownPort", tcp(kFrom, at(kVip, 8080)).more_fragments(),
            WEIR_DROP_UNKNOWN_PORT);
  cases.add("AnUnknownPortWithATag", tcp(kFrom, at(kVip, 8080)).tag(kTagQ, 5),
            WEIR_DROP_UNKNOWN_PORT);
  cases.add("AnUnknownPortWithAHopLimitOfOne", tcp(kFrom, at(kVip, 8080)).time_to_live(1),
            WEIR_DROP_UNKNOWN_PORT);
  cases.add("AnEmptySlot", tcp(kFrom, at(kVip, 90)), WEIR_DROP_NO_BACKEND, kVipEmpty, 0, 0);
  cases.add("AVipWithoutATable", tcp(kFrom, at(kVip, 91)), WEIR_DROP_NO_BACKEND, kVipNoTable, 0, 0);
  cases.add("AnL7VipWithoutL7", tcp(kFrom, at(kVipL7, 80)).syn(), WEIR_DROP_NO_BACKEND, kVipHandOff,
            0, 0);
  cases.add("AnIpv6L7VipWithoutL7", tcp(kFrom6, at(kVipL7v6, 80)), WEIR_DROP_NO_BACKEND,
            kVipHandOff6, 0, 0);
  cases.add("APingToAnL7VipWithoutL7", echo_request(kClient, kVipL7), WEIR_DROP_NO_BACKEND);
  cases.add("AnUnresolvedNextHop", tcp(kFrom, at(kVip, 92)), WEIR_DROP_NO_NEXT_HOP, kVipNoHop);
  cases.add("AnUnresolvedNextHopOfAPacketThatIsTooBig",
            tcp(kFrom, at(kVip, 92)).payload(text(1500)).do_not_fragment(), WEIR_DROP_NO_NEXT_HOP,
            kVipNoHop);
  cases.add("ADeviceThatIsNotListed", tcp(kFrom, at(kVip, 93)), WEIR_DROP_INTERNAL, kVipLost);
  cases.add("ATableShorterThanItsSize", tcp(kFrom, at(kVip, 94)), WEIR_DROP_INTERNAL, kVipBroken, 0,
            0);
  cases.add("AnUnknownMode", tcp(kFrom, at(kVip, 95)), WEIR_DROP_INTERNAL, kVipUnknownMode);
  return cases.list();
}

}  // namespace weir::testing
