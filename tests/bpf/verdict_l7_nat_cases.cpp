// The modes whose packets the balancer does not encapsulate: what else they do than be ways
// (verdict_way_cases.cpp). Which worker a packet goes to is in l7_handoff_test.cpp, what the bytes
// of a translated one are in nat_test.cpp.

#include <netinet/in.h>

#include "tests/bpf/verdict_worlds.h"

namespace weir::testing {
namespace {

void add_l7_vips(VerdictCases& cases) {
  const wire::Endpoint vip = at(kVipL7, 80);
  const auto handed = [&cases](std::string_view name, const PacketBuilder& packet,
                               std::uint32_t vip_id = 0) -> VerdictCase& {
    return cases.add(name, packet, WEIR_REDIRECT_L7, vip_id, 0, 0);
  };
  handed("AnEchoReplyIsL7s", icmp(kClient, kVipL7, 0).payload("echo"));
  handed("ATimestampRequestIsL7s", icmp(kClient, kVipL7, 13).payload(text(12)));
  handed("AnErrorWithoutAQuoteIsL7s", icmp(kRouter, kVipL7, 3, 4));
  handed("AnErrorAboutAPingIsL7s",
         icmp_error(kRouter, kVipL7, 3, 1, echo_request(kVipL7, kClient)));
  handed("AnIpv6EchoReplyIsL7s", icmp(kClient6, kVipL7v6, 129).payload("echo"));
  handed("ASourceThatIsNotBlockedIsHandedOver", tcp(kFrom, at(kVipL7, 81)).syn(), kL7Blocked);
  handed("TheFirstConnectionIsHandedOver", tcp(kFrom, at(kVipL7, 82)).syn(), kL7Limited);
  handed("APacketOfAConnectionIsNotHeld", tcp(at(kClient, 40001), at(kVipL7, 82)), kL7Limited)
      .after(tcp(kFrom, at(kVipL7, 82)).syn());
  handed("ARstIsHandedOver", tcp(kFrom, vip).rst(), kVipHandOff);
  handed("AWrongIpChecksumIsL7sToFind", tcp(kFrom, vip).wrong_ip_checksum(), kVipHandOff);
  const auto blocked = tcp(at(kBlocked, 40000), at(kVipL7, 81)).syn();
  cases.add("ABlockedSourceIsDropped", blocked, WEIR_DROP_BLOCKED, kL7Blocked, 0, 0);
  cases
      .add("OneConnectionTooManyIsDropped", tcp(at(kClient, 40001), at(kVipL7, 82)).syn(),
           WEIR_DROP_VIP_RATE, kL7Limited, 0, 0)
      .after(tcp(kFrom, at(kVipL7, 82)).syn());
  cases.add("AnErrorAboutAnUnknownPortIsDropped",
            icmp_error(kRouter, kVipL7, 3, 4, tcp(at(kVipL7, 99), kFrom)), WEIR_DROP_UNKNOWN_PORT);
  cases.add("UdpToATcpPortIsDropped", udp(kFrom, vip), WEIR_DROP_UNKNOWN_PORT);
  cases.add("ALaterFragmentOfAPingIsDropped", echo_request(kClient, kVipL7).fragment_offset(3),
            WEIR_DROP_FRAGMENT);
  cases.add("ALaterFragmentWithoutItsFirstIsDropped", tcp(kFrom, vip).fragment_offset(4),
            WEIR_DROP_FRAGMENT);
  cases.add("AFragmentOfAnIpv6PingIsDropped", echo_request(kClient6, kVipL7v6).more_fragments(),
            WEIR_DROP_FRAGMENT);
  cases.add("AMalformedSegmentIsDropped", tcp(kFrom, vip).data_offset(4), WEIR_DROP_MALFORMED);
  cases.add("ATaggedPingIsLeftToTheHost", echo_request(kClient, kVipL7).tag(kTagQ, 5),
            WEIR_PASS_VIP_TAGGED);
  cases.add("ATaggedIpv6PingIsLeftToTheHost", echo_request(kClient6, kVipL7v6).tag(kTagQ, 5),
            WEIR_PASS_VIP_TAGGED);
  cases.add("SctpIsLeftToTheHost", ip_packet(kClient, kVipL7, IPPROTO_SCTP).payload(text(12)),
            WEIR_PASS_NO_PORTS);
  cases.add("ANodesOtherVipsAreForwarded", tcp(kFrom, kTo), WEIR_TX_IPIP, kVipIpip, kBackendV4);
}

/// They are L7's whatever is in them: it has a stack of its own to judge that.
void add_l7_addresses(VerdictCases& cases) {
  const auto local = [&cases](std::string_view name, const PacketBuilder& packet) {
    cases.add(name, packet, WEIR_REDIRECT_L7_LOCAL);
  };
  const wire::Endpoint own = at(kL7Own, 50000), own6 = at(kL7Own6, 50000);
  local("AReplyToL7", tcp(at(kBackend, 80), own).syn_ack());
  local("AnIpv6ReplyToL7", tcp(at(kBackend6, 80), own6).syn_ack());
  local("ATruncatedSegmentToL7", tcp(kFrom, own).truncate_to(50));
  local("AMalformedIpv4HeaderToL7", tcp(kFrom, own).header_words(4));
  local("AMalformedSegmentToL7", tcp(kFrom, own).data_offset(2));
  local("AMalformedIpv6PacketToL7", tcp(kFrom6, own6).version(5));
  local("ALaterFragmentToL7", udp(kFrom, own).fragment_offset(5));
  local("ALaterIpv6FragmentToL7", udp(kFrom6, own6).fragment_offset(5));
  local("SctpToL7", ip_packet(kClient, kL7Own, IPPROTO_SCTP).payload(text(12)));
  local("AUsedUpHopLimitToL7", tcp(kFrom, own).time_to_live(0));
  local("AnErrorToL7", icmp_error(kRouter, kL7Own, 3, 4, tcp(own, at(kBackend, 80))));
  local("AnIpv6ErrorToL7", icmp_error(kRouter6, kL7Own6, 2, 0, tcp(own6, at(kBackend6, 80))));
  local("AUnicastSolicitationToL7", icmp(kHost6, kL7Own6, 135).payload(text(16)));
  local("GratuitousArpOfL7", arp_request(kL7Own, kL7Own));
}

/// A packet of the flow, as it comes from its backend.
PacketBuilder reply(const NatFlow& flow) { return nat_packet(flow, flow.backend, flow.source); }
PacketBuilder request(const NatFlow& flow) { return nat_packet(flow, flow.client, flow.vip); }

void add_nat_replies(VerdictCases& cases) {
  for (const NatFlow& flow : nat_flows()) {
    const bool is_v4 = flow.vip.address.is_v4();
    const PacketBuilder first = request(flow);
    const auto add = [&](std::string_view name, const PacketBuilder& packet, weir_verdict verdict) {
      cases.add(std::string{name} + flow.name, packet, verdict).after(first);
    };
    add("AReplyIsTranslatedBackIn", reply(flow), WEIR_TX_NAT_REPLY);
    add("ATaggedReplyLosesTheTagsThatTheClientHasNotIn", reply(flow).tag(kTagAd, 3).tag(kTagQ, 5),
        WEIR_TX_NAT_REPLY);
    add("AReplyThatIsAFirstFragmentIsTranslatedBackIn",
        reply(flow).identification(4).more_fragments(), WEIR_TX_NAT_REPLY);
    add("AReplyWhoseHopLimitIsUsedUpIsAnsweredIn", reply(flow).time_to_live(1),
        WEIR_TX_TTL_EXCEEDED);
    add("AnErrorOnTheBackendsSideIsTranslatedBackIn",
        is_v4 ? icmp_error(kHost, flow.source.address, 11, 0,
                           nat_packet(flow, flow.source, flow.backend))
              : icmp_error(kHost6, flow.source.address, 3, 0,
                           nat_packet(flow, flow.source, flow.backend)),
        WEIR_TX_NAT_REPLY);
    add("AReplyOfAnotherPortIsPassedIn",
        PacketBuilder::transport(at(flow.backend.address, 9), flow.source, flow.protocol),
        WEIR_PASS_NOT_A_VIP);
    cases.add("AReplyToNoFlowIsPassedIn" + flow.name, reply(flow), WEIR_PASS_NOT_A_VIP);
    cases.add("AnErrorAboutNoFlowIsDroppedIn" + flow.name,
              is_v4 ? icmp_error(kRouter, kVip, 3, 4, nat_packet(flow, flow.vip, flow.client))
                    : icmp_error(kRouter6, kVip6, 2, 0, nat_packet(flow, flow.vip, flow.client)),
              WEIR_DROP_NAT_NO_FLOW, flow.id, 0, 0);
  }
}

void add_nat_ends(VerdictCases& cases) {
  const wire::Endpoint vip = kFullNat.vip;
  cases.add("ABackendBehindAnotherDeviceIsRedirectedTo", tcp(kFrom, nat_port(kNatOther)).syn(),
            WEIR_REDIRECT_NAT, kNatOther, kNatOther);
  cases.add("ABackendBehindADeviceThatIsNotListed", tcp(kFrom, nat_port(kNatUnlisted)).syn(),
            WEIR_DROP_INTERNAL, kNatUnlisted);
  cases.add("ABackendOfTheOtherFamily", tcp(kFrom, nat_port(kNatWrongFamily)).syn(),
            WEIR_DROP_INTERNAL, kNatWrongFamily, 0, 0);
  cases.add("ABackendThatIsNotResolved", tcp(kFrom, nat_port(kNatNoHop)).syn(),
            WEIR_DROP_NO_NEXT_HOP, kNatNoHop);
  cases.add("AVipWithoutBackends", tcp(kFrom, nat_port(kNatEmpty)).syn(), WEIR_DROP_NO_BACKEND,
            kNatEmpty, 0, 0);
  cases.add("AnUnknownPort", tcp(kFrom, at(kVip, 9999)), WEIR_DROP_UNKNOWN_PORT);
  cases.add("AMalformedSegment", tcp(kFrom, vip).data_offset(4), WEIR_DROP_MALFORMED);
  cases.add("ATruncatedSegment", tcp(kFrom, vip).truncate_to(40), WEIR_DROP_TRUNCATED);
  cases.add("ARstOfNoFlow", tcp(kFrom, vip).rst(), WEIR_DROP_NAT_NO_FLOW, kFullNat.id, 0, 0);
  cases.add("AFinOfNoFlowBeginsOne", tcp(kFrom, vip).fin_ack(), WEIR_TX_NAT, kFullNat.id,
            kFullNat.id);
  cases
      .add("ARstOfAFlowIsTranslated", tcp(kFrom, vip).rst(), WEIR_TX_NAT, kFullNat.id, kFullNat.id,
           0)
      .after(request(kFullNat));
  cases.add("ARstOfTheBackendIsTranslatedBack", reply(kFullNat).rst(), WEIR_TX_NAT_REPLY)
      .after(request(kFullNat));
  cases
      .add("AQuoteTooShortToBeTranslated",
           icmp_error(kRouter, kVip, 3, 4, nat_packet(kFullNat, kFullNat.vip, kFullNat.client), 7),
           WEIR_DROP_MALFORMED, kFullNat.id, 0, 0)
      .after(request(kFullNat));
  cases.add("ALaterFragmentWithoutItsFirst", tcp(kFrom, vip).fragment_offset(4),
            WEIR_DROP_FRAGMENT);
  cases.add("PingToAVipIsLeftToTheHost", echo_request(kClient, kVip), WEIR_PASS_NO_PORTS);
  cases.add("PingToTheNodesAddressIsPassed", echo_request(kClient, kOuterSource),
            WEIR_PASS_NOT_A_VIP);
  cases.add("ATruncatedReplyIsPassed", reply(kFullNat).truncate_to(40), WEIR_PASS_NOT_A_VIP)
      .after(request(kFullNat));
  cases.add("AMalformedReplyIsPassed", reply(kFullNat).header_words(4), WEIR_PASS_NOT_A_VIP)
      .after(request(kFullNat));
  cases
      .add("ALaterFragmentOfAReplyFollowsItsFirst",
           reply(kFullNat).identification(4).fragment_offset(5), WEIR_TX_NAT_REPLY)
      .after(request(kFullNat))
      .after(reply(kFullNat).identification(4).more_fragments());
  cases
      .add("ALaterFragmentOfAReplyWithoutItsFirstIsPassed",
           reply(kFullNat).identification(4).fragment_offset(5), WEIR_PASS_NOT_A_VIP)
      .after(request(kFullNat));
  cases
      .add("AConnectionOfTheHostToTheBackendIsPassed",
           tcp(at(kBackend, 22), at(kOuterSource, 40000)), WEIR_PASS_NOT_A_VIP)
      .after(request(kFullNat));
}

}  // namespace

std::vector<VerdictCase> l7_cases() {
  VerdictCases cases{World::kL7};
  add_l7_vips(cases);
  add_l7_addresses(cases);
  return cases.list();
}

std::vector<VerdictCase> nat_cases() {
  VerdictCases cases{World::kNat};
  add_nat_replies(cases);
  add_nat_ends(cases);
  VerdictCases one_port{World::kNatOnePort};
  const auto of_client = [](std::uint8_t last) {
    return tcp(at(v4(203, 0, 113, last), 40000), kFullNat.vip).syn();
  };
  one_port.add("TheOnlyPortGoesToTheFirstFlow", of_client(7), WEIR_TX_NAT, kFullNat.id,
               kFullNat.id);
  one_port
      .add("AHandshakeGivesItsPortToWhoComesNext", of_client(8), WEIR_TX_NAT, kFullNat.id,
           kFullNat.id)
      .after(of_client(7));
  NatFlow living = kFullNat;
  living.client = at(v4(203, 0, 113, 7), 40000);
  living.source.port = kFrom.port;
  one_port.add("AFlowThatFindsNoPortIsDropped", of_client(8), WEIR_DROP_NAT_FULL, kFullNat.id, 0, 0)
      .after(nat_packet(living, living.client, living.vip, kSyn))
      .after(nat_packet(living, living.backend, living.source, kSynAck))
      .after(nat_packet(living, living.client, living.vip));
  std::vector<VerdictCase> all = cases.list();
  std::ranges::move(one_port.list(), std::back_inserter(all));
  return all;
}

}  // namespace weir::testing
