// ICMP to a VIP: errors about its flows go where those go, the rest is the host's; and what the
// balancer answers in the VIP's name.

#include <fmt/format.h>
#include <netinet/in.h>

#include "tests/bpf/verdict_worlds.h"

namespace weir::testing {
namespace {

const PacketBuilder kAbout = tcp(kTo, kFrom);  ///< what the VIP has sent
const PacketBuilder kAbout6 = tcp(kTo6, kFrom6);

struct Message {
  std::string_view name;
  std::uint8_t type;
  std::uint8_t code;
};

void add_errors(VerdictCases& cases) {
  const Message errors[] = {
      {"NetUnreachable", 3, 0},        {"HostUnreachable", 3, 1},
      {"ProtocolUnreachable", 3, 2},   {"PortUnreachable", 3, 3},
      {"FragmentationNeeded", 3, 4},   {"SourceRouteFailed", 3, 5},
      {"NetProhibited", 3, 9},         {"CommunicationProhibited", 3, 13},
      {"TimeExceededOnTheWay", 11, 0}, {"TimeExceededReassembling", 11, 1},
      {"ParameterProblem", 12, 0},     {"MissingOption", 12, 1},
  };
  for (const auto& [name, type, code] : errors)
    cases.add(fmt::format("{}FollowsItsFlow", name), icmp_error(kRouter, kVip, type, code, kAbout),
              WEIR_TX_IPIP, kVipIpip, kBackendV4, 0);
  const Message errors6[] = {
      {"NoRoute", 1, 0},
      {"Prohibited", 1, 1},
      {"AddressUnreachable", 1, 3},
      {"Ipv6PortUnreachable", 1, 4},
      {"PacketTooBig", 2, 0},
      {"HopLimitExceeded", 3, 0},
      {"Ipv6ReassemblyTimeExceeded", 3, 1},
      {"ErroneousField", 4, 0},
      {"UnknownNextHeader", 4, 1},
      {"UnknownOption", 4, 2},
  };
  for (const auto& [name, type, code] : errors6)
    cases.add(fmt::format("{}FollowsItsFlow", name),
              icmp_error(kRouter6, kVip6, type, code, kAbout6), WEIR_TX_IPIP, kVipIpip6, kBackendV6,
              0);
  for (const auto& [name, type, code] : {errors[3], errors[4], errors[8]})
    cases.add(fmt::format("{}ToTheHostIsPassed", name),
              icmp_error(kRouter, kHost, type, code, tcp(at(kHost, 80), kFrom)),
              WEIR_PASS_NOT_A_VIP);
  for (const auto& [name, type, code] : {errors6[3], errors6[4], errors6[5]})
    cases.add(fmt::format("{}ToTheHostIsPassed", name),
              icmp_error(kRouter6, kHost6, type, code, tcp(at(kHost6, 80), kFrom6)),
              WEIR_PASS_NOT_A_VIP);
}

void add_other_messages(VerdictCases& cases) {
  const Message messages[] = {
      {"AnEchoReply", 0, 0},
      {"SourceQuench", 4, 0},
      {"ARedirect", 5, 1},
      {"ARouterAdvertisement", 9, 0},
      {"ATimestampRequest", 13, 0},
      {"AnAddressMaskRequest", 17, 0},
      {"AnExtendedEchoRequest", 42, 0},
      {"AnUnknownType", 200, 0},
  };
  for (const auto& [name, type, code] : messages)
    cases.add(fmt::format("{}IsLeftToTheHost", name), icmp_error(kRouter, kVip, type, code, kAbout),
              WEIR_PASS_NO_PORTS);
  const Message messages6[] = {
      {"AnIpv6EchoReply", 129, 0},   {"AReservedIpv6Type", 0, 0}, {"AnUnknownIpv6Error", 5, 0},
      {"TheLastIpv6Error", 127, 0},  {"AListenerQuery", 130, 0},  {"ANodeInformationQuery", 139, 0},
      {"AnUnknownIpv6Type", 250, 0},
  };
  for (const auto& [name, type, code] : messages6)
    cases.add(fmt::format("{}IsLeftToTheHost", name),
              icmp_error(kRouter6, kVip6, type, code, kAbout6), WEIR_PASS_NO_PORTS);
}

void add_quotes(VerdictCases& cases) {
  const auto follows = [&cases](std::string_view name, const PacketBuilder& about,
                                std::size_t bytes) {
    cases.add(name, icmp_error(kRouter, kVip, 3, 4, about, bytes), WEIR_TX_IPIP, kVipIpip,
              kBackendV4, 0);
  };
  const auto passed = [&cases](std::string_view name, const PacketBuilder& about,
                               std::size_t bytes = 8) {
    cases.add(name, icmp_error(kRouter, kVip, 3, 4, about, bytes), WEIR_PASS_NO_PORTS);
  };
  follows("AQuoteOfThePortsAloneIsEnough", kAbout, 4);
  follows("AQuoteOfTheWholePacketIsRead", tcp(kTo, kFrom).payload(text(500)), 520);
  follows("AQuoteWithOptionsIsRead", tcp(kTo, kFrom).ip_options(10), 8);
  follows("AQuoteOfAFirstFragmentIsRead", tcp(kTo, kFrom).more_fragments(), 8);
  follows("AQuoteOfAUsedUpHopLimitIsRead", tcp(kTo, kFrom).time_to_live(0), 8);
  passed("AQuoteOfAnIpHeaderAloneHasNoPorts", kAbout, 0);
  passed("AQuoteThatEndsInsideThePortsHasNone", kAbout, 3);
  passed("AQuoteWhoseHeaderTakesAllOfItHasNoPorts", tcp(kTo, kFrom).header_words(10));
  passed("AQuoteOfALaterFragmentHasNoPorts", tcp(kTo, kFrom).fragment_offset(5).payload(text(8)));
  passed("AQuoteOfVersionSixInsideIpv4IsNone", tcp(kTo, kFrom).version(6));
  passed("AQuoteWithAHeaderTooShortIsNone", tcp(kTo, kFrom).header_words(4), 40);
  passed("AQuoteOfAPingHasNoPorts", echo_request(kVip, kClient));
  passed("AQuoteOfGreHasNoPorts", ip_packet(kVip, kClient, IPPROTO_GRE).payload(text(8)));
  passed("AQuoteOfAPacketThatTheVipHasNotSentIsNotItsFlow", tcp(at(kHost, 80), kFrom));
  cases.add("AnErrorWithoutAQuoteIsLeftToTheHost", icmp(kRouter, kVip, 3, 4), WEIR_PASS_NO_PORTS);
  cases.add("HalfAQuotedHeaderIsLeftToTheHost", icmp(kRouter, kVip, 3, 4).payload(text(19)),
            WEIR_PASS_NO_PORTS);
  cases.add("PaddingOfTheFrameIsNoQuote", icmp_error(kRouter, kVip, 3, 4, kAbout, 0).padding(8),
            WEIR_PASS_NO_PORTS);
  cases.add("AnIcmpHeaderThatLacksAByteIsLeftToTheHost",
            icmp_error(kRouter, kVip, 3, 4, kAbout).total_length(27), WEIR_PASS_NO_PORTS);
}

void add_ipv6_quotes(VerdictCases& cases) {
  const auto follows = [&cases](std::string_view name, const PacketBuilder& about,
                                std::size_t bytes) {
    cases.add(name, icmp_error(kRouter6, kVip6, 2, 0, about, bytes), WEIR_TX_IPIP, kVipIpip6,
              kBackendV6, 0);
  };
  const auto passed = [&cases](std::string_view name, const PacketBuilder& about,
                               std::size_t bytes = 8) {
    cases.add(name, icmp_error(kRouter6, kVip6, 2, 0, about, bytes), WEIR_PASS_NO_PORTS);
  };
  follows("AnIpv6QuoteOfThePortsAloneIsEnough", kAbout6, 4);
  follows("AnIpv6QuoteOfTheWholePacketIsRead", tcp(kTo6, kFrom6).payload(text(900)), 920);
  follows("AnIpv6QuoteOfAFirstFragmentIsRead", tcp(kTo6, kFrom6).more_fragments(), 8 + 8);
  follows("AnIpv6QuoteWithAFragmentHeaderOfAWholePacketIsRead", tcp(kTo6, kFrom6).fragment_header(),
          8 + 8);
  passed("AnIpv6QuoteOfAFragmentHeaderAloneHasNoPorts", tcp(kTo6, kFrom6).more_fragments(), 8);
  passed("AnIpv6QuoteOfALaterFragmentHasNoPorts",
         tcp(kTo6, kFrom6).fragment_offset(5).payload(text(8)), 8 + 8);
  cases.add("AnIpv6ErrorBehindOptionsIsRead",
            icmp_error(kRouter6, kVip6, 2, 0, kAbout6).extension(IPPROTO_HOPOPTS, 0), WEIR_TX_IPIP,
            kVipIpip6, kBackendV6, 0);
  passed("AnIpv6QuoteOfAHeaderAloneHasNoPorts", kAbout6, 0);
  passed("AnIpv6QuoteThatEndsInsideThePortsHasNone", kAbout6, 3);
  passed("AnIpv6QuoteWithExtensionHeadersIsNotRead",
         tcp(kTo6, kFrom6).extension(IPPROTO_DSTOPTS, 0), 40);
  passed("AQuoteOfVersionFourInsideIpv6IsNone", tcp(kTo6, kFrom6).version(4));
  passed("AnIpv6QuoteOfAPingHasNoPorts", echo_request(kVip6, kClient6));
  passed("AnIpv6QuoteOfAPacketThatTheVipHasNotSentIsNotItsFlow", tcp(at(kHost6, 80), kFrom6));
  cases.add("AnIpv6ErrorWithoutAQuoteIsLeftToTheHost", icmp(kRouter6, kVip6, 1, 0),
            WEIR_PASS_NO_PORTS);
  cases.add("HalfAQuotedIpv6HeaderIsLeftToTheHost", icmp(kRouter6, kVip6, 2).payload(text(39)),
            WEIR_PASS_NO_PORTS);
  cases.add("PaddingOfAnIpv6FrameIsNoQuote",
            icmp_error(kRouter6, kVip6, 2, 0, kAbout6, 0).padding(8), WEIR_PASS_NO_PORTS);
  cases.add("AnEmptyIcmpv6Packet", ip_packet(kClient6, kVip6, IPPROTO_ICMPV6).total_length(0),
            WEIR_PASS_NO_PORTS);
}

void add_error_ends(VerdictCases& cases) {
  const PacketBuilder error = icmp_error(kRouter, kVip, 3, 4, kAbout);
  cases.add("AnErrorAboutAnUnknownPortIsDropped",
            icmp_error(kRouter, kVip, 3, 4, tcp(at(kVip, 8080), kFrom)), WEIR_DROP_UNKNOWN_PORT);
  cases.add("AnErrorAboutUdpIsNotForTcpsService", icmp_error(kRouter, kVip, 3, 4, udp(kTo, kFrom)),
            WEIR_DROP_UNKNOWN_PORT);
  cases.add("AnErrorAboutUdpFollowsItsFlow",
            icmp_error(kRouter, kVip, 3, 3, udp(at(kVip, 53), kFrom)), WEIR_TX_IPIP, kVipCross,
            kBackendCross, 0);
  cases.add("AnErrorWithAHopLimitOfOneIsDroppedWithoutAnAnswer",
            PacketBuilder{error}.time_to_live(1), WEIR_DROP_TTL, kVipIpip, 0, 0);
  cases.add("AnErrorThatDoesNotFitIsDroppedWithoutAnAnswer",
            icmp_error(kRouter6, kVip6, 2, 0, tcp(kTo6, kFrom6).payload(text(1500)), 1440),
            WEIR_DROP_TOO_BIG, kVipIpip6, 0, 0);
  cases.add("AnErrorAboutAFlowWithoutABackendIsDropped",
            icmp_error(kRouter, kVip, 3, 4, tcp(at(kVip, 90), kFrom)), WEIR_DROP_NO_BACKEND,
            kVipEmpty, 0, 0);
  cases.add("TheFirstFragmentOfAnErrorFollowsItsFlow", PacketBuilder{error}.more_fragments(),
            WEIR_TX_IPIP, kVipIpip, kBackendV4, 0);
  cases.add("AWrongChecksumOfAnErrorIsLeftToTheBackend",
            PacketBuilder{error}.octet(kEthernetBytes + 22, 0xaa), WEIR_TX_IPIP, kVipIpip,
            kBackendV4, 0);
  cases.add("AnErrorBehindATagFollowsItsFlow", PacketBuilder{error}.tag(kTagQ, 5), WEIR_TX_IPIP,
            kVipIpip, kBackendV4, 0);
}

}  // namespace

std::vector<VerdictCase> icmp_cases() {
  VerdictCases cases{World::kStandard};
  add_errors(cases);
  add_other_messages(cases);
  add_quotes(cases);
  add_ipv6_quotes(cases);
  add_error_ends(cases);
  return cases.list();
}

}  // namespace weir::testing
