// Fragments: the later ones of a datagram go where its first one went, and nowhere before that.

#include <netinet/in.h>

#include "tests/bpf/verdict_case.h"

namespace weir::testing {
namespace {

const wire::Endpoint kDns = at(kVip, 53);
const wire::Endpoint kDns6 = at(kVip6, 53);

PacketBuilder datagram() { return udp(kFrom, kDns).identification(9); }
PacketBuilder datagram6() { return udp(kFrom6, kDns6).identification(9); }
PacketBuilder first() { return datagram().more_fragments().payload(text(24)); }
PacketBuilder first6() { return datagram6().more_fragments().payload(text(24)); }
PacketBuilder later() { return datagram().fragment_offset(4).payload("rest"); }
PacketBuilder later6() { return datagram6().fragment_offset(4).payload("rest"); }

void add_followers(VerdictCases& cases) {
  const auto follows = [&cases](std::string_view name, const PacketBuilder& packet) -> auto& {
    return cases.add(name, packet, WEIR_TX_IPIP, kVipCross, kBackendCross, 0);
  };
  const auto follows6 = [&cases](std::string_view name, const PacketBuilder& packet) -> auto& {
    return cases.add(name, packet, WEIR_TX_IPIP, kVipCross6, kBackendCross6, 0);
  };
  follows("ALaterFragmentFollowsThePortsOfTheFirst", later()).after(first());
  follows("AMiddleFragmentFollowsToo", later().more_fragments()).after(first());
  follows("ALaterFragmentThatComesTwiceFollowsTwice", later()).after(first()).after(later());
  follows("AnOverlappingFragmentIsTheBackendsToRefuse", later().fragment_offset(1)).after(first());
  follows("AnEmptyLaterFragmentFollows", later().payload("")).after(first());
  follows("TheLastPossibleOffsetFollows", later().fragment_offset(0x1fff)).after(first());
  follows("ADatagramsUdpLengthGoesBeyondItsFirstFragment", first().udp_length(4000)).after(first());
  follows6("ALaterIpv6FragmentFollowsThePortsOfTheFirst", later6()).after(first6());
  follows6("AFirstFragmentThatComesAgainIsNoNewFlow", first6()).after(first6());
  follows6("ALaterIpv6FragmentBehindOptionsFollows", later6().extension(IPPROTO_HOPOPTS, 0))
      .after(first6());
}

void add_others(VerdictCases& cases) {
  const auto dropped = [&cases](std::string_view name, const PacketBuilder& packet) -> auto& {
    return cases.add(name, packet, WEIR_DROP_FRAGMENT);
  };
  dropped("ALaterFragmentThatOvertookTheFirst", later());
  dropped("ALaterFragmentOfAnotherDatagram", later().identification(8)).after(first());
  dropped("ALaterFragmentOfAnotherProtocol", tcp(kFrom, kTo).identification(9).fragment_offset(4))
      .after(first());
  dropped("ALaterFragmentOfAnotherClient",
          udp(at(kHost, 40000), kDns).identification(9).fragment_offset(4))
      .after(first());
  dropped("ALaterFragmentOfAnUnknownPort", later())
      .after(udp(kFrom, at(kVip, 99)).identification(9).more_fragments());
  dropped("ALaterFragmentOfATruncatedFirstOne", later()).after(first().total_length(24));
  dropped("AFragmentThatHoldsOnlyTcpsSecondHalf", tcp(kFrom, kTo).fragment_offset(1))
      .after(tcp(kFrom, kTo).more_fragments().total_length(28));
  dropped("ALaterIpv6FragmentThatOvertookTheFirst", later6());
  dropped("ALaterIpv6FragmentOfAnotherDatagram", later6().identification(8)).after(first6());
  dropped("AnIpv6FragmentBehindOptionsWithoutItsFirst",
          udp(kFrom6, kTo6).extension(IPPROTO_DSTOPTS, 0).fragment_offset(8));
  dropped("ALaterFragmentOfSctp", ip_packet(kClient, kVip, IPPROTO_SCTP).fragment_offset(3));
  dropped("AFragmentOfAPing", echo_request(kClient, kVip).more_fragments());
  dropped("ALaterFragmentOfAPing", echo_request(kClient, kVip).fragment_offset(2));
  dropped("AFragmentOfAnIpv6Ping", echo_request(kClient6, kVip6).more_fragments());
  cases.add("AFirstFragmentOfSctpIsLeftToTheHost",
            ip_packet(kClient, kVip, IPPROTO_SCTP).more_fragments().payload(text(16)),
            WEIR_PASS_NO_PORTS);
  cases
      .add("ALaterFragmentWithAHopLimitOfOneIsNotAnswered", later().time_to_live(1), WEIR_DROP_TTL,
           kVipCross, 0, 0)
      .after(first());
  cases.add("AFirstFragmentWithAHopLimitOfOneIsAnswered", first().time_to_live(1),
            WEIR_TX_TTL_EXCEEDED, kVipCross);
  cases
      .add("ALaterFragmentThatDoesNotFitIsDropped", later().payload(text(1470)), WEIR_DROP_TOO_BIG,
           kVipCross, 0, 0)
      .after(first());
  cases
      .add("ALaterIpv6FragmentThatDoesNotFitIsDroppedWithoutAnAnswer", later6().payload(text(1460)),
           WEIR_DROP_TOO_BIG, kVipCross6, 0, 0)
      .after(first6());
}

void add_of_the_host(VerdictCases& cases) {
  const auto passed = [&cases](std::string_view name, const PacketBuilder& packet) {
    cases.add(name, packet, WEIR_PASS_NOT_A_VIP);
  };
  passed("AFragmentToTheHostIsPassed", first().destination(kHost));
  passed("ALaterFragmentToTheHostIsPassed", later().destination(kHost));
  passed("AnIpv6FragmentToTheHostIsPassed", first6().destination(kHost6));
  passed("ALaterIpv6FragmentToTheHostIsPassed", later6().destination(kHost6));
}

}  // namespace

std::vector<VerdictCase> fragment_cases() {
  VerdictCases cases{World::kStandard};
  add_followers(cases);
  add_others(cases);
  add_of_the_host(cases);
  return cases.list();
}

}  // namespace weir::testing
