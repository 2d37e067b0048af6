// What the balancer answers by itself in a VIP's name: echo, errors, refusals; and where it must
// not.

#include <fmt/format.h>
#include <netinet/in.h>

#include "tests/bpf/verdict_worlds.h"

namespace weir::testing {
namespace {

struct Source {
  std::string_view name;
  wire::IpAddress address;
};

/// From which nobody may be answered (RFC 1122, section 3.2.2; RFC 4443, section 2.4 (e)).
std::vector<Source> false_sources() {
  return {{"Zero", v4(0, 0, 0, 0)},
          {"Loopback", v4(127, 0, 0, 1)},
          {"AGroup", v4(224, 0, 0, 5)},
          {"TheReservedRange", v4(240, 0, 0, 1)},
          {"TheBroadcast", v4(255, 255, 255, 255)}};
}
std::vector<Source> false_sources6() {
  return {{"TheUnspecifiedAddress", v6("::")},
          {"Ipv6Loopback", v6("::1")},
          {"AnIpv6Group", v6("ff02::1")}};
}

void add_echo(VerdictCases& cases) {
  const auto answered = [&cases](std::string_view name, const PacketBuilder& packet) {
    cases.add(name, packet, WEIR_TX_ECHO_REPLY);
  };
  const PacketBuilder ping = echo_request(kClient, kVip);
  const PacketBuilder ping6 = echo_request(kClient6, kVip6);
  answered("AnEchoRequest", ping);
  answered("AnIpv6EchoRequest", ping6);
  answered("AnEchoRequestWithoutData", PacketBuilder{ping}.payload(""));
  answered("AnEchoRequestOfAnOddLength", PacketBuilder{ping}.payload(text(57)));
  answered("AnEchoRequestOfTheMtu", PacketBuilder{ping}.payload(text(1472)));
  answered("AnIpv6EchoRequestOfTheMtu", PacketBuilder{ping6}.payload(text(1452)));
  answered("AnEchoRequestWithOptions", PacketBuilder{ping}.ip_options(10));
  answered("AnIpv6EchoRequestBehindOptions", PacketBuilder{ping6}.extension(IPPROTO_HOPOPTS, 0));
  answered("AnEchoRequestWithAHopLimitOfOneHasArrived", PacketBuilder{ping}.time_to_live(1));
  answered("AnIpv6EchoRequestWithAHopLimitOfOneHasArrived", PacketBuilder{ping6}.time_to_live(1));
  answered("APaddedEchoRequest", PacketBuilder{ping}.padding(20));
  answered("AnEchoRequestWithACode", PacketBuilder{ping}.icmp_type(8, 7));
  answered("ATaggedEchoRequest", PacketBuilder{ping}.tag(kTagQ, 5));
  answered("AnIpv6EchoRequestBehindTwoTags", PacketBuilder{ping6}.tag(kTagAd, 5).tag(kTagQ, 6));
  answered("AWrongChecksumStaysWrongInTheAnswer",
           PacketBuilder{ping}.octet(kEthernetBytes + 22, 0xaa));
  for (const auto& [name, address] : false_sources())
    cases.add(fmt::format("AnEchoRequestFrom{}IsNotAnswered", name), echo_request(address, kVip),
              WEIR_DROP_MALFORMED);
  for (const auto& [name, address] : false_sources6())
    cases.add(fmt::format("AnEchoRequestFrom{}IsNotAnswered", name), echo_request(address, kVip6),
              WEIR_DROP_MALFORMED);
  cases.add("AnEchoRequestOfTheOtherFamilysType", icmp(kClient, kVip, 128).payload("echo"),
            WEIR_PASS_NO_PORTS);
  cases.add("AnIpv6EchoRequestOfTheOtherFamilysType", icmp(kClient6, kVip6, 8).payload("echo"),
            WEIR_PASS_NO_PORTS);
  cases.add("AnEchoRequestThatLacksAByteOfItsHeader", PacketBuilder{ping}.total_length(27),
            WEIR_PASS_NO_PORTS);
  cases.add("ATruncatedEchoRequestIsDropped", PacketBuilder{ping}.payload(text(56)).truncate_to(60),
            WEIR_DROP_TRUNCATED);
}

/// The hop limit is used up, or the packet is too big, and nobody can be told.
void add_silence_towards_false_sources(VerdictCases& cases) {
  for (const auto& [name, address] : false_sources()) {
    cases.add(fmt::format("AUsedUpHopLimitFrom{}IsDropped", name),
              tcp(at(address, 40000), kTo).time_to_live(1), WEIR_DROP_TTL, kVipIpip);
    cases.add(fmt::format("APacketTooBigFrom{}IsDropped", name),
              tcp(at(address, 40000), kTo).payload(text(1441)).do_not_fragment(), WEIR_DROP_TOO_BIG,
              kVipIpip);
  }
  for (const auto& [name, address] : false_sources6()) {
    cases.add(fmt::format("AUsedUpHopLimitFrom{}IsDropped", name),
              tcp(at(address, 40000), kTo6).time_to_live(1), WEIR_DROP_TTL, kVipIpip6);
    cases.add(fmt::format("APacketTooBigFrom{}IsDropped", name),
              tcp(at(address, 40000), kTo6).payload(text(1401)), WEIR_DROP_TOO_BIG, kVipIpip6);
  }
  cases.add("AUsedUpHopLimitComesAfterTheSize",
            tcp(kFrom, kTo).payload(text(1441)).do_not_fragment().time_to_live(1), WEIR_TX_TOO_BIG,
            kVipIpip);
  cases.add("AFirstFragmentThatIsTooBigIsAnswered",
            tcp(kFrom6, kTo6).more_fragments().payload(text(1400)), WEIR_TX_TOO_BIG, kVipIpip6);
  cases.add("ATaggedPacketThatIsTooBigIsAnswered",
            tcp(kFrom6, kTo6).payload(text(1401)).tag(kTagQ, 5), WEIR_TX_TOO_BIG, kVipIpip6);
  cases.add("ATaggedPacketWhoseHopLimitIsUsedUpIsAnswered",
            tcp(kFrom, kTo).time_to_live(1).tag(kTagAd, 5).tag(kTagQ, 6), WEIR_TX_TTL_EXCEEDED,
            kVipIpip);
  cases.add("AUsedUpHopLimitBehindOptionsIsAnswered",
            tcp(kFrom, kTo).ip_options(10).time_to_live(1), WEIR_TX_TTL_EXCEEDED, kVipIpip);
  cases.add("APaddedPacketWhoseHopLimitIsUsedUpIsAnswered",
            tcp(kFrom, kTo).time_to_live(1).padding(300), WEIR_TX_TTL_EXCEEDED, kVipIpip);
}

const wire::Endpoint kClosed = at(kVip, 8080);
const wire::Endpoint kClosed6 = at(kVip6, 8080);

void add_refusals(VerdictCases& cases) {
  const auto refused = [&cases](std::string_view name, const PacketBuilder& packet) {
    cases.add(name, packet, WEIR_TX_REFUSED);
  };
  refused("ASynToAClosedPort", tcp(kFrom, kClosed).syn());
  refused("AnAckToAClosedPort", tcp(kFrom, kClosed));
  refused("AFinToAClosedPort", tcp(kFrom, kClosed).flags(0x01));
  refused("ASegmentWithDataToAClosedPort", tcp(kFrom, kClosed).payload(text(1400)));
  refused("TheLongestTcpHeaderToAClosedPort",
          tcp(kFrom, kClosed).tcp_options(std::vector<std::uint8_t>(40, 1)));
  refused("ASegmentBehindOptionsToAClosedPort", tcp(kFrom, kClosed).ip_options(10));
  refused("APaddedSegmentToAClosedPort", tcp(kFrom, kClosed).padding(6));
  refused("ATaggedSegmentToAClosedPort", tcp(kFrom, kClosed).tag(kTagQ, 5));
  refused("AnIpv6SynToAClosedPort", tcp(kFrom6, kClosed6).syn());
  refused("AnIpv6SegmentBehindOptionsToAClosedPort",
          tcp(kFrom6, kClosed6).extension(IPPROTO_DSTOPTS, 3));
  refused("AnIpv6SegmentBehindTwoTagsToAClosedPort",
          tcp(kFrom6, kClosed6).tag(kTagAd, 5).tag(kTagQ, 6));
  refused("ADatagramToAClosedPort", udp(kFrom, kClosed).payload("query"));
  refused("AnIpv6DatagramToAClosedPort", udp(kFrom6, kClosed6).payload("query"));
  refused("ALongDatagramToAClosedPort", udp(kFrom6, kClosed6).payload(text(1400)));
  refused("AFirstFragmentOfUdpToAClosedPort",
          udp(kFrom, kClosed).more_fragments().payload(text(24)));
  refused("ASegmentToAClosedPortWithAHopLimitOfOne", tcp(kFrom, kClosed).time_to_live(1));
  const auto dropped = [&cases](std::string_view name, const PacketBuilder& packet) {
    cases.add(name, packet, WEIR_DROP_UNKNOWN_PORT);
  };
  dropped("ARstToAClosedPortIsNotAnswered", tcp(kFrom, kClosed).rst());
  dropped("AnIpv6RstToAClosedPortIsNotAnswered", tcp(kFrom6, kClosed6).flags(0x14));
  dropped("AFirstFragmentOfTcpToAClosedPortIsNotAnswered", tcp(kFrom, kClosed).more_fragments());
  dropped("AnErrorAboutAClosedPortIsNotAnswered",
          icmp_error(kRouter, kVip, 3, 4, tcp(kClosed, kFrom)));
  dropped("AnErrorAboutAClosedUdpPortIsNotAnswered",
          icmp_error(kRouter6, kVip6, 1, 4, udp(kClosed6, kFrom6)));
  for (const auto& [name, address] : false_sources()) {
    dropped(fmt::format("ASegmentFrom{}IsNotAnswered", name), tcp(at(address, 40000), kClosed));
    dropped(fmt::format("ADatagramFrom{}IsNotAnswered", name), udp(at(address, 40000), kClosed));
  }
  for (const auto& [name, address] : false_sources6()) {
    dropped(fmt::format("ASegmentFrom{}IsNotAnswered", name), tcp(at(address, 40000), kClosed6));
    dropped(fmt::format("ADatagramFrom{}IsNotAnswered", name), udp(at(address, 40000), kClosed6));
  }
}

void add_services_without_backends(VerdictCases& cases) {
  const auto refused = [&cases](std::string_view name, std::uint32_t vip,
                                const PacketBuilder& packet) {
    cases.add(name, packet, WEIR_TX_REFUSED, vip, 0, 0);
  };
  refused("ASynToAServiceWithoutBackends", kRefusingNone, tcp(kFrom, at(kVip, 90)).syn());
  refused("AnIpv6SynToAServiceWithoutBackends", kRefusingNone6, tcp(kFrom6, at(kVip6, 90)).syn());
  refused("ADatagramToAServiceWithoutBackends", kRefusingNoneUdp, udp(kFrom, at(kVip, 91)));
  refused("AnIpv6DatagramToAServiceWithoutBackends", kRefusingNoneUdp6, udp(kFrom6, at(kVip6, 91)));
  cases.add("ARstToAServiceWithoutBackendsIsNotAnswered", tcp(kFrom, at(kVip, 90)).rst(),
            WEIR_DROP_NO_BACKEND, kRefusingNone, 0, 0);
  cases.add("AServiceThatDoesNotRefuseIsSilentOnAnAddressThatDoes", tcp(kFrom, at(kVip, 92)).syn(),
            WEIR_DROP_NO_BACKEND, kRefusingQuiet, 0, 0);
  cases.add("AnErrorAboutAServiceWithoutBackendsIsNotAnswered",
            icmp_error(kRouter, kVip, 3, 3, udp(at(kVip, 91), kFrom)), WEIR_DROP_NO_BACKEND,
            kRefusingNoneUdp, 0, 0);
  cases.add("AServiceInOrderRefusesNobody", tcp(kFrom, kTo).syn(), WEIR_TX_IPIP, kRefusingTcp,
            kRefusingTcp);
  cases.add("AMalformedSegmentIsNotRefused", tcp(kFrom, kClosed).data_offset(4),
            WEIR_DROP_MALFORMED);
  cases.add("ATruncatedDatagramIsNotRefused", udp(kFrom, kClosed).udp_length(9),
            WEIR_DROP_TRUNCATED);
  cases.add("SctpIsLeftToTheHostAndNotRefused",
            ip_packet(kClient, kVip, IPPROTO_SCTP).payload(text(12)), WEIR_PASS_NO_PORTS);
  cases.add("PingIsLeftToTheHostWhereEchoIsNotAnswered", echo_request(kClient, kVip),
            WEIR_PASS_NO_PORTS);
  cases.add("Ping6IsLeftToTheHostWhereEchoIsNotAnswered", echo_request(kClient6, kVip6),
            WEIR_PASS_NO_PORTS);
}

std::vector<VerdictCase> rate_cases() {
  VerdictCases cases{World::kSilent};
  const auto dropped = [&cases](std::string_view name, const PacketBuilder& packet,
                                std::uint32_t vip = 0) {
    cases.add(name, packet, WEIR_DROP_ICMP_RATE, vip, 0, vip == 0 ? 0 : 1);
  };
  dropped("NoEchoReplyIsLeft", echo_request(kClient, kVip));
  dropped("NoIpv6EchoReplyIsLeft", echo_request(kClient6, kVip6));
  dropped("NoRstIsLeft", tcp(kFrom, kClosed).syn());
  dropped("NoIpv6RstIsLeft", tcp(kFrom6, kClosed6).syn());
  dropped("NoPortUnreachableIsLeft", udp(kFrom, kClosed));
  dropped("NoIpv6PortUnreachableIsLeft", udp(kFrom6, kClosed6));
  dropped("NoTimeExceededIsLeft", tcp(kFrom, kTo).time_to_live(1), kVipIpip);
  dropped("NoIpv6TimeExceededIsLeft", tcp(kFrom6, kTo6).time_to_live(1), kVipIpip6);
  dropped("NoFragmentationNeededIsLeft", tcp(kFrom, kTo).payload(text(1441)).do_not_fragment(),
          kVipIpip);
  dropped("NoPacketTooBigIsLeft", tcp(kFrom6, kTo6).payload(text(1401)), kVipIpip6);
  cases.add("WhatIsForwardedNeedsNoAnswer", tcp(kFrom, kTo), WEIR_TX_IPIP, kVipIpip, kBackendV4);
  cases.add("WhatIsNeverAnsweredIsNotCountedAsTooMany", tcp(kFrom, kClosed).rst(),
            WEIR_DROP_UNKNOWN_PORT);
  return cases.list();
}

}  // namespace

std::vector<VerdictCase> answer_cases() {
  VerdictCases standard{World::kStandard};
  add_echo(standard);
  add_silence_towards_false_sources(standard);
  VerdictCases refusing{World::kRefusing};
  add_refusals(refusing);
  add_services_without_backends(refusing);
  std::vector<VerdictCase> all = standard.list();
  std::ranges::move(refusing.list(), std::back_inserter(all));
  std::ranges::move(rate_cases(), std::back_inserter(all));
  return all;
}

}  // namespace weir::testing
