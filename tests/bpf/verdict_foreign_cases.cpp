// What is not the balancer's: passed, and untouched.

#include <fmt/format.h>
#include <netinet/in.h>

#include "tests/bpf/verdict_worlds.h"

namespace weir::testing {
namespace {

PacketBuilder other_type(std::uint16_t ether_type) {
  return PacketBuilder::raw(ether_type, std::vector<std::byte>(46));
}

void add_other_types(VerdictCases& cases) {
  const auto passed = [&cases](std::string_view name, const PacketBuilder& packet) {
    cases.add(name, packet, WEIR_PASS_NOT_IP);
  };
  passed("Lldp", other_type(0x88cc));
  passed("PppoeDiscovery", other_type(0x8863));
  passed("PppoeAroundAPacketForAVip", tcp(kFrom, kTo).ether_type(0x8864));
  passed("MplsAroundAPacketForAVip", tcp(kFrom, kTo).ether_type(0x8847));
  passed("MacsecAroundAPacketForAVip", tcp(kFrom, kTo).ether_type(0x88e5));
  passed("ALengthOf8023InThePlaceOfAType", other_type(38));
  passed("ReverseArp", other_type(0x8035));
  passed("AuthenticationOfPorts", other_type(0x888e));
  passed("PreciseTime", other_type(0x88f7));
  passed("ATypeOfZero", tcp(kFrom, kTo).ether_type(0));
  passed("TheHighestType", tcp(kFrom, kTo).ether_type(0xffff));
  passed("TheTypeOfIpv4WithBytesExchanged", tcp(kFrom, kTo).ether_type(0x0008));
  passed("AnEthernetHeaderAlone", tcp(kFrom, kTo).truncate_to(kEthernetBytes));
  passed("OneByteOfAnIpHeader", tcp(kFrom, kTo).truncate_to(kEthernetBytes + 1));
  passed("AnIpHeaderThatLacksAByte", tcp(kFrom, kTo).truncate_to(kEthernetBytes + 19));
  passed("OneByteOfAnIpv6Header", tcp(kFrom6, kTo6).truncate_to(kEthernetBytes + 1));
  passed("AnIpv6HeaderThatLacksAByte", tcp(kFrom6, kTo6).truncate_to(kEthernetBytes + 39));
  passed("AnIpv4PacketUnderTheTypeOfIpv6", tcp(kFrom, kTo).ether_type(0x86dd).truncate_to(53));
}

void add_neighbors(VerdictCases& cases) {
  const auto host = [&cases](std::string_view name, const PacketBuilder& packet,
                             weir_verdict verdict = WEIR_PASS_NOT_IP) {
    cases.add(name, packet, verdict);
  };
  host("ArpForAVipIsTheHosts", arp_request(kClient, kVip));
  host("ArpForTheHost", arp_request(kClient, kHost));
  host("AnArpReplyForAVip", arp_reply(kClient, kVip));
  host("GratuitousArpOfAVip", arp_request(kVip, kVip));
  host("ArpForAnAddressOfL7WithoutL7", arp_request(kClient, kL7Own));
  host("ArpBehindATag", arp_request(kClient, kVip).tag(kTagQ, 5));
  host("ArpThatLacksAByte", arp_request(kClient, kVip).truncate_to(kEthernetBytes + 27));
  host("ArpOfAnotherHardware", arp_request(kClient, kVip).octet(kEthernetBytes + 1, 6));
  host("ArpForAnotherProtocol", arp_request(kClient, kVip).octet(kEthernetBytes + 2, 0x86));
  host("ArpWithLongHardwareAddresses", arp_request(kClient, kVip).octet(kEthernetBytes + 4, 8));
  host("ArpWithLongProtocolAddresses", arp_request(kClient, kVip).octet(kEthernetBytes + 5, 16));
  host("ASolicitationForAVipIsTheHosts", neighbor_solicitation(kClient6, kVip6),
       WEIR_PASS_NOT_A_VIP);
  host("ASolicitationForTheHost", neighbor_solicitation(kClient6, kHost6), WEIR_PASS_NOT_A_VIP);
  host("ASolicitationForAnAddressOfL7WithoutL7", neighbor_solicitation(kClient6, kL7Own6),
       WEIR_PASS_NOT_A_VIP);
  host("ASolicitationThatLacksAByte",
       icmp(kClient6, solicited_node_group(kVip6), 135).payload(text(15)), WEIR_PASS_NOT_A_VIP);
  host("ASolicitationBehindATag", neighbor_solicitation(kClient6, kVip6).tag(kTagQ, 5),
       WEIR_PASS_NOT_A_VIP);
  host("ASolicitationToTheVipItselfIsTheHosts", icmp(kClient6, kVip6, 135).payload(text(16)),
       WEIR_PASS_NO_PORTS);
  host("AnAdvertisementToAVipIsTheHosts", neighbor_advertisement(kClient6, kVip6),
       WEIR_PASS_NO_PORTS);
  host("ARouterSolicitationToAVip", icmp(kClient6, kVip6, 133), WEIR_PASS_NO_PORTS);
  host("ARouterAdvertisementToAVip", icmp(kClient6, kVip6, 134).payload(text(8)),
       WEIR_PASS_NO_PORTS);
  host("ANeighborRedirectToAVip", icmp(kClient6, kVip6, 137).payload(text(32)), WEIR_PASS_NO_PORTS);
}

void add_link_groups(VerdictCases& cases) {
  const wire::MacAddress peer{{0x02, 0, 0, 0, 0, 0x01}};
  const wire::MacAddress group{{0x01, 0, 0x5e, 0, 0, 0x01}};
  const auto passed = [&cases](std::string_view name, const PacketBuilder& packet) {
    cases.add(name, packet, WEIR_PASS_GROUP);
  };
  passed("AVipsPacketThatTheWholeLinkGot",
         tcp(kFrom, kTo).syn().macs(peer, wire::MacAddress::broadcast()));
  passed("AVipsPacketThatAGroupGot", tcp(kFrom, kTo).macs(peer, group));
  passed("AnIpv6VipsPacketThatAGroupGot",
         tcp(kFrom6, kTo6).macs(peer, wire::MacAddress{{0x33, 0x33, 0, 0, 0, 0x01}}));
  passed("AClosedPortsPacketThatTheWholeLinkGot",
         tcp(kFrom, at(kVip, 9999)).syn().macs(peer, wire::MacAddress::broadcast()));
  passed("AnEchoRequestThatTheWholeLinkGot",
         icmp(kClient, kVip, 8).payload("ping").macs(peer, wire::MacAddress::broadcast()));
  passed("AMalformedPacketThatTheWholeLinkGot",
         tcp(kFrom, kTo).header_words(3).macs(peer, wire::MacAddress::broadcast()));
}

void add_groups(VerdictCases& cases) {
  const auto passed = [&cases](std::string_view name, const PacketBuilder& packet) {
    cases.add(name, packet, WEIR_PASS_NOT_A_VIP);
  };
  const auto to_group = [](const wire::IpAddress& group, std::uint16_t port) {
    return udp(at(group.is_v4() ? kClient : kClient6, 40000), at(group, port));
  };
  passed("ABroadcastToTheNet", to_group(v4(255, 255, 255, 255), 67));
  passed("ABroadcastToASubnet", to_group(v4(198, 51, 100, 255), 137));
  passed("IgmpToAllHosts", ip_packet(kClient, v4(224, 0, 0, 1), IPPROTO_IGMP).payload(text(8)));
  passed("VrrpToItsGroup", ip_packet(kHost, v4(224, 0, 0, 18), 112).payload(text(20)));
  passed("MulticastDns", to_group(v4(224, 0, 0, 251), 5353));
  passed("MulticastOfAnOrganization", to_group(v4(239, 1, 2, 3), 80));
  passed("Ipv6AllNodes", icmp(kClient6, v6("ff02::1"), 134).payload(text(8)));
  passed("Ipv6AllRouters", icmp(kClient6, v6("ff02::2"), 133));
  passed("Ipv6MulticastDns", to_group(v6("ff02::fb"), 5353));
  passed("AListenerReport",
         icmp(kClient6, v6("ff02::16"), 143).extension(IPPROTO_HOPOPTS, 0).payload(text(20)));
  passed("ALinkLocalDestination", tcp(kFrom6, at(v6("fe80::1"), 80)));
  passed("LoopbackOnTheWire", tcp(kFrom, at(v4(127, 0, 0, 1), 80)));
  passed("AnUnspecifiedDestination", tcp(kFrom, at(v4(0, 0, 0, 0), 80)));
  passed("AnUnspecifiedIpv6Destination", tcp(kFrom6, at(v6("::"), 80)));
}

void add_host(VerdictCases& cases) {
  const auto passed = [&cases](std::string_view name, const PacketBuilder& packet) {
    cases.add(name, packet, WEIR_PASS_NOT_A_VIP);
  };
  passed("TcpToTheHost", tcp(kFrom, at(kHost, 80)).syn());
  passed("UdpToTheHost", udp(kFrom, at(kHost, 53)));
  passed("Ipv6TcpToTheHost", tcp(kFrom6, at(kHost6, 80)));
  passed("Ipv6UdpToTheHost", udp(kFrom6, at(kHost6, 53)));
  passed("OptionsToTheHost", tcp(kFrom, at(kHost, 80)).ip_options(2));
  passed("ExtensionHeadersToTheHost", tcp(kFrom6, at(kHost6, 80)).extension(IPPROTO_HOPOPTS, 0));
  passed("ATaggedFrameToTheHost", tcp(kFrom, at(kHost, 80)).tag(kTagQ, 5));
  passed("AUsedUpHopLimitToTheHost", tcp(kFrom, at(kHost, 80)).time_to_live(0));
  passed("AUsedUpIpv6HopLimitToTheHost", tcp(kFrom6, at(kHost6, 80)).time_to_live(1));
  passed("AJumboFrameToTheHost", tcp(kFrom, at(kHost, 80)).payload(text(3000)));
  passed("PingToTheHost", echo_request(kClient, kHost));
  passed("Ping6ToTheHost", echo_request(kClient6, kHost6));
  passed("SctpToTheHost", ip_packet(kClient, kHost, IPPROTO_SCTP).payload(text(12)));
  passed("EspToTheHost", ip_packet(kClient6, kHost6, IPPROTO_ESP).payload(text(16)));
  passed("ATunnelPacketToTheHost", tcp(kFrom, kTo).inside(kClient, kHost));
  passed("AnIpv6TunnelPacketToTheHost", tcp(kFrom6, kTo6).inside(kClient6, kHost6));
  passed("AReplyOfAVip", tcp(kTo, kFrom).syn_ack());
  passed("AnIpv6ReplyOfAVip", tcp(kTo6, kFrom6).syn_ack());
  passed("AMappedIpv4VipInAnIpv6Header", [] {
    PacketBuilder packet = tcp(kFrom6, kTo6);
    for (std::size_t i = 0; i < 16; ++i)
      packet.octet(kEthernetBytes + 24 + i, kVip.bytes[i]);
    return packet;
  }());
}

void add_protocols(VerdictCases& cases) {
  struct Protocol {
    std::string_view name;
    std::uint8_t number;
  };
  const Protocol protocols[] = {
      {"Igmp", IPPROTO_IGMP},
      {"Gre", IPPROTO_GRE},
      {"Esp", IPPROTO_ESP},
      {"AnAuthenticationHeader", IPPROTO_AH},
      {"Ospf", 89},
      {"Sctp", IPPROTO_SCTP},
      {"UdpLite", IPPROTO_UDPLITE},
      {"Dccp", IPPROTO_DCCP},
      {"ProtocolZero", 0},
      {"TheHighestProtocol", 255},
  };
  for (const auto& [name, number] : protocols)
    cases.add(fmt::format("{}ToAVip", name), ip_packet(kClient, kVip, number).payload(text(12)),
              WEIR_PASS_NO_PORTS);
  const Protocol next_headers[] = {
      {"Gre", IPPROTO_GRE},
      {"Esp", IPPROTO_ESP},
      {"AnAuthenticationHeader", IPPROTO_AH},
      {"AMobilityHeader", IPPROTO_MH},
      {"HostIdentity", 139},
      {"NoNextHeader", IPPROTO_NONE},
      {"Sctp", IPPROTO_SCTP},
      {"UdpLite", IPPROTO_UDPLITE},
      {"AnExperimentalHeader", 253},
  };
  for (const auto& [name, number] : next_headers)
    cases.add(fmt::format("{}ToAnIpv6Vip", name),
              ip_packet(kClient6, kVip6, number).payload(text(24)), WEIR_PASS_NO_PORTS);
  const auto passed = [&cases](std::string_view name, const PacketBuilder& packet) {
    cases.add(name, packet, WEIR_PASS_NO_PORTS);
  };
  passed("NoNextHeaderWithNothingBehindIt", ip_packet(kClient6, kVip6, IPPROTO_NONE));
  passed("NoNextHeaderBehindOptions",
         ip_packet(kClient6, kVip6, IPPROTO_NONE).extension(IPPROTO_DSTOPTS, 0));
  passed("EspBehindOptions",
         ip_packet(kClient6, kVip6, IPPROTO_ESP).extension(IPPROTO_HOPOPTS, 0).payload(text(16)));
  passed("ATunnelPacketToAVip", tcp(kFrom, kTo).inside(kClient, kVip));
  passed("AnIpv6TunnelPacketToAVip", tcp(kFrom6, kTo6).inside(kClient6, kVip6));
  passed("Icmpv6InsideIpv4", ip_packet(kClient, kVip, IPPROTO_ICMPV6).payload(text(24)));
  passed("IcmpInsideIpv6", ip_packet(kClient6, kVip6, IPPROTO_ICMP).payload(text(24)));
  passed("AProtocolBehindATag",
         ip_packet(kClient, kVip, IPPROTO_GRE).payload(text(12)).tag(kTagQ, 5));
}

}  // namespace

std::vector<VerdictCase> foreign_cases() {
  VerdictCases cases{World::kStandard};
  add_other_types(cases);
  add_neighbors(cases);
  add_link_groups(cases);
  add_groups(cases);
  add_host(cases);
  add_protocols(cases);
  return cases.list();
}

std::vector<VerdictCase> tag_cases() {
  VerdictCases cases{World::kVlans};
  const auto sent = [&cases](std::string_view name, VlanId id, const PacketBuilder& packet,
                             weir_verdict verdict, std::vector<std::uint16_t> tags) {
    cases.add(name, packet, verdict, id, id).sent_with_tags(std::move(tags));
  };
  const auto plain = [](VlanId id) { return tcp(kFrom, vlan_port(id)); };
  const auto tagged = [](VlanId id) { return tcp(kFrom, vlan_port(id)).tag(kTagQ, 100); };
  const auto stacked = [](VlanId id) {
    return tcp(kFrom, vlan_port(id)).tag(kTagAd, 200).tag(kTagQ, 100);
  };
  const std::vector<std::uint16_t> none, own{kTagQ, kBackendVlan};
  sent("AnUntaggedPacketGetsItsBackendsTagInIpip", kVlanIpip, plain(kVlanIpip), WEIR_TX_IPIP, own);
  sent("AnUntaggedPacketGetsItsBackendsTagInGue", kVlanGue, plain(kVlanGue), WEIR_TX_GUE, own);
  sent("AnUntaggedPacketGetsItsBackendsTagInL2", kVlanL2, plain(kVlanL2), WEIR_TX_L2, own);
  sent("ATagBecomesTheBackendsInIpip", kVlanIpip, tagged(kVlanIpip), WEIR_TX_IPIP, own);
  sent("ATagBecomesTheBackendsInGue", kVlanGue, tagged(kVlanGue), WEIR_TX_GUE, own);
  sent("ATagBecomesTheBackendsInL2", kVlanL2, tagged(kVlanL2), WEIR_TX_L2, own);
  sent("TwoTagsBecomeTheBackendsInIpip", kVlanIpip, stacked(kVlanIpip), WEIR_TX_IPIP, own);
  sent("TwoTagsBecomeTheBackendsInGue", kVlanGue, stacked(kVlanGue), WEIR_TX_GUE, own);
  sent("TwoTagsBecomeTheBackendsInL2", kVlanL2, stacked(kVlanL2), WEIR_TX_L2, own);
  sent("ATagGoesBeforeAPlainBackendInIpip", kPlainIpip, tagged(kPlainIpip), WEIR_TX_IPIP, none);
  sent("ATagGoesBeforeAPlainBackendInGue", kPlainGue, tagged(kPlainGue), WEIR_TX_GUE, none);
  sent("ATagGoesBeforeAPlainBackendInL2", kPlainL2, tagged(kPlainL2), WEIR_TX_L2, none);
  sent("TwoTagsGoBeforeAPlainBackendInL2", kPlainL2, stacked(kPlainL2), WEIR_TX_L2, none);
  sent("AnotherDevicesBackendHasItsOwnTag", kVlanOther, tagged(kVlanOther), WEIR_REDIRECT_L2, own);
  sent("TheClientsTagsStayOnItsDevice", kKeepOther, stacked(kKeepOther), WEIR_REDIRECT_L2, none);
  sent("APriorityTagIsSteppedOver", kPlainL2, plain(kPlainL2).tag(kTagQ, 0xe000), WEIR_TX_L2, none);
  sent("ALoneTagOf8021adIsSteppedOver", kPlainL2, plain(kPlainL2).tag(kTagAd, 5), WEIR_TX_L2, none);
  sent("TheHighestVlanIsSteppedOver", kPlainL2, plain(kPlainL2).tag(kTagQ, 0x0fff), WEIR_TX_L2,
       none);
  const auto not_ip = [&cases](std::string_view name, const PacketBuilder& packet) {
    cases.add(name, packet, WEIR_PASS_NOT_IP);
  };
  not_ip("ThreeTagsAreTooMany", stacked(kPlainL2).tag(kTagQ, 5));
  not_ip("ThreeTagsOf8021adAreTooMany",
         plain(kPlainL2).tag(kTagAd, 1).tag(kTagAd, 2).tag(kTagAd, 3));
  not_ip("AnOldProvidersTagIsNone", plain(kPlainL2).tag(0x9100, 5));
  not_ip("AnOldProvidersTagInsideAnotherIsNone", plain(kPlainL2).tag(kTagQ, 5).tag(0x9100, 6));
  not_ip("HalfATag", tagged(kPlainL2).truncate_to(kEthernetBytes + 2));
  not_ip("ATagAlone", tagged(kPlainL2).truncate_to(kEthernetBytes + 4));
  not_ip("HalfASecondTag", stacked(kPlainL2).truncate_to(kEthernetBytes + 6));
  not_ip("TwoTagsAlone", stacked(kPlainL2).truncate_to(kEthernetBytes + 8));
  not_ip("ATagBeforeAnotherType", plain(kPlainL2).tag(kTagQ, 5).ether_type(0x8864));
  not_ip("ATagThatSaysItAndNoneFollows", plain(kPlainL2).ether_type(kTagQ));
  not_ip("AnIpHeaderThatLacksAByteBehindATag",
         tagged(kPlainL2).truncate_to(kEthernetBytes + 4 + 19));
  return cases.list();
}

}  // namespace weir::testing
