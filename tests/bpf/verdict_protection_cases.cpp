// Lists of sources and rates. A rate of one a second lets one packet by, and holds the next.

#include <netinet/in.h>

#include "tests/bpf/verdict_worlds.h"

namespace weir::testing {
namespace {

wire::Endpoint from(const wire::IpAddress& address) { return at(address, 40000); }

/// To the protected service, of the family of the source.
PacketBuilder tcp_of(ProtectedId id, const wire::IpAddress& source) {
  return tcp(from(source), protected_port(id, source.is_v4())).syn();
}
PacketBuilder udp_of(ProtectedId id, const wire::IpAddress& source) {
  return udp(from(source), protected_port(id, source.is_v4()));
}

void add_block_list(VerdictCases& cases) {
  const auto blocked = [&cases](std::string_view name, ProtectedId id,
                                const PacketBuilder& packet) {
    cases.add(name, packet, WEIR_DROP_BLOCKED, id, 0, 0);
  };
  const auto allowed = [&cases](std::string_view name, ProtectedId id, const PacketBuilder& packet,
                                weir_verdict verdict = WEIR_TX_IPIP) {
    cases.add(name, packet, verdict, id, id);
  };
  blocked("ABlockedSource", kBlockList, tcp_of(kBlockList, kBlocked));
  blocked("ASourceOfABlockedIpv6Prefix", kBlockList, tcp_of(kBlockList, kBlocked6));
  blocked("ABlockedSourceInTheMiddleOfAConnection", kBlockList,
          tcp(from(kBlocked), protected_port(kBlockList)));
  blocked("ABlockedSourcesFirstFragment", kBlockList,
          tcp(from(kBlocked), protected_port(kBlockList)).more_fragments());
  blocked("ABlockedSourceBehindATag", kBlockList, tcp_of(kBlockList, kBlocked).tag(kTagQ, 5));
  blocked("ABlockedSourceWithAHopLimitOfOneIsNotAnswered", kBlockList,
          tcp_of(kBlockList, kBlocked).time_to_live(1));
  blocked("ABlockedSourceInModeL2", kProtectedL2, tcp_of(kProtectedL2, kBlocked));
  blocked("ABlockedSourceInModeGue", kProtectedGue, tcp_of(kProtectedGue, kBlocked));
  blocked("TheBlockListGoesBeforeTheVipsThatAllows", kBothLists, tcp_of(kBothLists, kBlocked));
  blocked("TheBlockListGoesBeforeTheVipsThatAllowsIpv6", kBothLists, tcp_of(kBothLists, kBlocked6));
  blocked("AnErrorIsJudgedByTheClientThatItIsAbout", kBlockList,
          icmp_error(kRouter, kVip, 3, 4, tcp(protected_port(kBlockList), from(kBlocked))));
  allowed("ASourceThatIsNotBlocked", kBlockList, tcp_of(kBlockList, kClient));
  allowed("AnIpv6SourceThatIsNotBlocked", kBlockList, tcp_of(kBlockList, kClient6));
  allowed("ABlockedSourceWhereNobodyIsAsked", kDenyList,
          tcp(from(v4(192, 0, 2, 66)), protected_port(kDenyList)));
  allowed("ASourceThatIsNotBlockedInModeL2", kProtectedL2, tcp_of(kProtectedL2, kClient),
          WEIR_TX_L2);
  allowed("ASourceThatIsNotBlockedInModeGue", kProtectedGue, tcp_of(kProtectedGue, kClient),
          WEIR_TX_GUE);
  cases.add("AMalformedPacketOfABlockedSourceIsMalformed",
            tcp_of(kBlockList, kBlocked).data_offset(4), WEIR_DROP_MALFORMED);
  cases.add("ABlockedSourceIsToldOfNoUnknownPort", tcp(from(kBlocked), at(kVip, 9999)),
            WEIR_DROP_BLOCKED);
}

void add_source_lists(VerdictCases& cases) {
  const auto denied = [&cases](std::string_view name, ProtectedId id, const PacketBuilder& packet) {
    cases.add(name, packet, WEIR_DROP_SOURCE, id, 0, 0);
  };
  const auto allowed = [&cases](std::string_view name, ProtectedId id,
                                const PacketBuilder& packet) {
    cases.add(name, packet, WEIR_TX_IPIP, id, id);
  };
  denied("ASourceOfADeniedPrefix", kDenyList, tcp_of(kDenyList, kDenied));
  denied("ASourceOfADeniedIpv6Prefix", kDenyList, tcp_of(kDenyList, kDenied6));
  denied("ASourceThatIsNotAllowed", kAllowList, tcp_of(kAllowList, kStranger));
  denied("AnIpv6SourceThatIsNotAllowed", kAllowList, tcp_of(kAllowList, kStranger6));
  denied("ADeniedSourcesRst", kDenyList, tcp(from(kDenied), protected_port(kDenyList)).rst());
  allowed("AnAllowedAddressInsideADeniedPrefix", kDenyList, tcp_of(kDenyList, kClient));
  allowed("AnAllowedAddressInsideADeniedIpv6Prefix", kDenyList, tcp_of(kDenyList, kClient6));
  allowed("ASourceThatNoPrefixCovers", kDenyList, tcp_of(kDenyList, kStranger));
  allowed("AnIpv6SourceThatNoPrefixCovers", kDenyList, tcp_of(kDenyList, kStranger6));
  allowed("TheOneSourceThatIsAllowed", kAllowList, tcp_of(kAllowList, kClient));
  allowed("TheOneIpv6SourceThatIsAllowed", kAllowList, tcp_of(kAllowList, kClient6));
  allowed("AListThatIsMissingAllows", kListMissing, tcp_of(kListMissing, kStranger));
  allowed("ASourceOfBothListsThatNeitherHas", kBothLists, tcp_of(kBothLists, kClient));
}

/// Cases of packets that a rate lets pass, and that it holds.
struct Rates {
  VerdictCases& cases;

  VerdictCase& allowed(std::string_view name, ProtectedId id, const PacketBuilder& packet,
                       std::uint64_t new_flows = 1) const {
    return cases.add(name, packet, WEIR_TX_IPIP, id, id, new_flows);
  }
  VerdictCase& held(std::string_view name, ProtectedId id, const PacketBuilder& packet,
                    weir_verdict verdict) const {
    return cases.add(name, packet, verdict, id, 0, 0);
  }
};

void add_packet_rates(VerdictCases& cases) {
  const Rates rates{cases};
  const PacketBuilder packet = tcp_of(kSourcePackets, kClient);
  const PacketBuilder packet6 = tcp_of(kSourcePackets, kClient6);
  rates.allowed("TheFirstPacketOfASource", kSourcePackets, packet);
  rates.held("OnePacketOfASourceTooMany", kSourcePackets, packet, WEIR_DROP_SOURCE_RATE)
      .after(packet);
  rates.held("OnePacketOfAnIpv6SourceTooMany", kSourcePackets, packet6, WEIR_DROP_SOURCE_RATE)
      .after(packet6);
  rates
      .held("APacketInTheMiddleOfAConnectionCountsToo", kSourcePackets,
            tcp(kFrom, protected_port(kSourcePackets)), WEIR_DROP_SOURCE_RATE)
      .after(packet);
  rates
      .held("AnotherPortOfTheSourceIsTheSameSource", kSourcePackets,
            tcp(at(kClient, 40001), protected_port(kSourcePackets)), WEIR_DROP_SOURCE_RATE)
      .after(packet);
  rates.allowed("AnotherSourceHasARateOfItsOwn", kSourcePackets, tcp_of(kSourcePackets, kStranger))
      .after(packet);
  rates
      .allowed("ARateWithoutAMapHoldsNobody", kLimitWithoutMap, tcp_of(kLimitWithoutMap, kClient),
               0)
      .after(tcp_of(kLimitWithoutMap, kClient));
  rates.allowed("TheFirstPacketOfAVip", kPackets, udp_of(kPackets, kClient));
  rates.held("OnePacketOfAVipTooMany", kPackets, udp_of(kPackets, kClient), WEIR_DROP_VIP_RATE)
      .after(udp_of(kPackets, kClient));
  rates.held("AVipsRateIsOfAllSources", kPackets, udp_of(kPackets, kStranger), WEIR_DROP_VIP_RATE)
      .after(udp_of(kPackets, kClient));
  rates
      .held("AVipsRateIsOfBothItsFamilies", kPackets, udp_of(kPackets, kClient6),
            WEIR_DROP_VIP_RATE)
      .after(udp_of(kPackets, kClient));
}

void add_flow_rates(VerdictCases& cases) {
  const Rates rates{cases};
  const wire::Endpoint other_port = at(kClient, 40001), other_port6 = at(kClient6, 40001);
  const PacketBuilder syn = tcp_of(kSourceFlows, kClient);
  const PacketBuilder datagram = udp_of(kSourceFlowsUdp, kClient);
  rates
      .held("OneConnectionOfASourceTooMany", kSourceFlows,
            tcp(other_port, protected_port(kSourceFlows)).syn(), WEIR_DROP_SOURCE_RATE)
      .after(syn);
  rates
      .held("OneConnectionOfAnIpv6SourceTooMany", kSourceFlows,
            tcp(other_port6, protected_port(kSourceFlows, false)).syn(), WEIR_DROP_SOURCE_RATE)
      .after(tcp_of(kSourceFlows, kClient6));
  rates.allowed("ASynThatIsSentAgainIsNoNewConnection", kSourceFlows, syn, 0).after(syn);
  rates
      .allowed("MorePacketsOfAConnectionAreNotHeld", kSourceFlows,
               tcp(kFrom, protected_port(kSourceFlows)), 0)
      .after(syn);
  rates
      .allowed("APacketOfAConnectionThatIsNotKnownIsNotHeld", kSourceFlows,
               tcp(other_port, protected_port(kSourceFlows)))
      .after(syn);
  rates.allowed("AnotherSourceMayConnect", kSourceFlows, tcp_of(kSourceFlows, kStranger))
      .after(syn);
  rates.held("OneConnectionToAVipTooMany", kFlows, tcp_of(kFlows, kStranger), WEIR_DROP_VIP_RATE)
      .after(tcp_of(kFlows, kClient));
  rates.allowed("TheConnectionThatAVipHasGoesOn", kFlows, tcp(kFrom, protected_port(kFlows)), 0)
      .after(tcp_of(kFlows, kClient));
  rates
      .held("OneUdpFlowOfASourceTooMany", kSourceFlowsUdp,
            udp(other_port, protected_port(kSourceFlowsUdp)), WEIR_DROP_SOURCE_RATE)
      .after(datagram);
  rates.allowed("MoreDatagramsOfAFlowAreNotHeld", kSourceFlowsUdp, datagram, 0).after(datagram);
  rates.held("OneUdpFlowToAVipTooMany", kFlowsUdp, udp_of(kFlowsUdp, kStranger), WEIR_DROP_VIP_RATE)
      .after(udp_of(kFlowsUdp, kClient));
  rates
      .held("OneIpv6UdpFlowToAVipTooMany", kFlowsUdp, udp_of(kFlowsUdp, kStranger6),
            WEIR_DROP_VIP_RATE)
      .after(udp_of(kFlowsUdp, kClient6));
  rates
      .allowed("AnErrorIsNoNewFlow", kFlows,
               icmp_error(kRouter, kVip, 3, 4, tcp(protected_port(kFlows), from(kStranger))), 0)
      .after(tcp_of(kFlows, kClient));
}

}  // namespace

std::vector<VerdictCase> protection_cases() {
  VerdictCases cases{World::kProtected};
  add_block_list(cases);
  add_source_lists(cases);
  add_packet_rates(cases);
  add_flow_rates(cases);
  return cases.list();
}

}  // namespace weir::testing
