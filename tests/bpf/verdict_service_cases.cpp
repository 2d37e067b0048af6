// To which service a packet belongs, and who of its backends is chosen: ranges of ports, prefixes,
// hash policies, affinity, QUIC's connection ids.

#include <netinet/in.h>

#include "tests/bpf/verdict_worlds.h"

namespace weir::testing {
namespace {

void add_ranges(VerdictCases& cases) {
  const auto sent = [&cases](std::string_view name, const PacketBuilder& packet,
                             ServiceId service) {
    cases.add(name, packet, WEIR_TX_IPIP, service, service);
  };
  const auto unknown = [&cases](std::string_view name, const PacketBuilder& packet) {
    cases.add(name, packet, WEIR_DROP_UNKNOWN_PORT);
  };
  sent("TheFirstPortOfARange", tcp(kFrom, at(kVip, 8000)).syn(), kPortRange);
  sent("TheLastPortOfARange", tcp(kFrom, at(kVip, 8007)).syn(), kPortRange);
  sent("APortOfItsOwnGoesBeforeTheRangeAroundIt", tcp(kFrom, at(kVip, 8003)), kPortInRange);
  sent("TheFirstPortOfAnIpv6Range", udp(kFrom6, at(kVip6, 5000)), kPortRange6);
  sent("TheLastPortOfAnIpv6Range", udp(kFrom6, at(kVip6, 5007)), kPortRange6);
  unknown("ThePortBelowARange", tcp(kFrom, at(kVip, 7999)));
  unknown("ThePortAboveARange", tcp(kFrom, at(kVip, 8008)));
  unknown("ARangeOfTheOtherProtocol", udp(kFrom, at(kVip, 8000)));
  unknown("ThePortAboveAnIpv6Range", udp(kFrom6, at(kVip6, 5008)));
  sent("PortZeroIsOneOfEveryPort", tcp(kFrom, at(kVipEveryPort, 0)), kEveryPort);
  sent("TheLowestPortIsOneOfEveryPort", tcp(kFrom, at(kVipEveryPort, 1)), kEveryPort);
  sent("TheHighestPortIsOneOfEveryPort", tcp(kFrom, at(kVipEveryPort, 65535)), kEveryPort);
  sent("TheHighestIpv6PortIsOneOfEveryPort", udp(kFrom6, at(kVipEveryPort6, 65535)), kEveryPort6);
  unknown("EveryPortOfTcpIsNoneOfUdp", udp(kFrom, at(kVipEveryPort, 53)));
  unknown("EveryPortOfUdpIsNoneOfTcp", tcp(kFrom6, at(kVipEveryPort6, 53)));
  cases.add("EveryPortIsNoOtherProtocol",
            ip_packet(kClient, kVipEveryPort, IPPROTO_SCTP).payload(text(12)), WEIR_PASS_NO_PORTS);
  cases
      .add("AnotherPacketOfAFlowInARangeIsNoNewFlow", tcp(kFrom, at(kVip, 8000)), WEIR_TX_IPIP,
           kPortRange, kPortRange, 0)
      .after(tcp(kFrom, at(kVip, 8000)).syn());
  cases.add("AnErrorAboutAFlowInARangeFollowsIt",
            icmp_error(kRouter, kVip, 3, 4, tcp(at(kVip, 8001), kFrom)), WEIR_TX_IPIP, kPortRange,
            kPortRange, 0);
  cases
      .add("ALaterFragmentOfARangeFollowsItsFirst",
           udp(kFrom6, at(kVip6, 5001)).identification(3).fragment_offset(2).payload("rest"),
           WEIR_TX_IPIP, kPortRange6, kPortRange6, 0)
      .after(udp(kFrom6, at(kVip6, 5001)).identification(3).more_fragments().payload(text(8)));
}

void add_prefixes(VerdictCases& cases) {
  const auto sent = [&cases](std::string_view name, const PacketBuilder& packet,
                             ServiceId service) {
    cases.add(name, packet, WEIR_TX_IPIP, service, service);
  };
  sent("TheFirstAddressOfAPrefix", tcp(kFrom, at(kPrefixFirst, 80)), kPrefix);
  sent("TheLastAddressOfAPrefix", tcp(kFrom, at(kPrefixLast, 80)), kPrefix);
  sent("AnAddressOfItsOwnGoesBeforeThePrefixAroundIt", tcp(kFrom, at(kPrefixInside, 80)),
       kAddressInside);
  sent("TheFirstAddressOfAnIpv6Prefix", udp(kFrom6, at(kPrefixFirst6, 53)), kPrefix6);
  sent("AnAddressInsideAnIpv6Prefix", udp(kFrom6, at(kPrefixMiddle6, 53)), kPrefix6);
  sent("EveryPortOfAPrefix", udp(kFrom, at(kWidePrefixMiddle, 5353)), kPrefixRange);
  cases.add("APortThatAnAddressOfAPrefixLacks", tcp(kFrom, at(kPrefixLast, 81)),
            WEIR_DROP_UNKNOWN_PORT);
  cases.add("APortThatAnAddressOfAnIpv6PrefixLacks", udp(kFrom6, at(kPrefixMiddle6, 54)),
            WEIR_DROP_UNKNOWN_PORT);
  cases.add("AnAddressBeyondAPrefixIsNobodysThoughItsBitIsSet", tcp(kFrom, at(kPrefixBeyond, 80)),
            WEIR_PASS_NOT_A_VIP);
  cases.add("AnAddressBeyondAnIpv6PrefixIsNobodysThoughItsBitIsSet",
            udp(kFrom6, at(kPrefixBeyond6, 53)), WEIR_PASS_NOT_A_VIP);
  cases.add("AMalformedPacketBeyondAPrefixIsPassed",
            tcp(kFrom, at(kPrefixBeyond, 80)).header_words(4), WEIR_PASS_NOT_A_VIP);
  cases.add("AMalformedPacketOfAPrefixIsDropped", tcp(kFrom, at(kPrefixLast, 80)).header_words(4),
            WEIR_DROP_MALFORMED);
  cases.add("AnEchoRequestToAnAddressOfAPrefix", echo_request(kClient, kPrefixLast),
            WEIR_TX_ECHO_REPLY);
  cases.add("AnEchoRequestToAnAddressOfAnIpv6Prefix", echo_request(kClient6, kPrefixMiddle6),
            WEIR_TX_ECHO_REPLY);
  cases.add("AnErrorToAnAddressOfAPrefixFollowsItsFlow",
            icmp_error(kRouter, kPrefixLast, 3, 4, tcp(at(kPrefixLast, 80), kFrom)), WEIR_TX_IPIP,
            kPrefix, kPrefix, 0);
  cases.add("AnErrorAboutAnotherAddressOfThePrefixIsNotItsFlow",
            icmp_error(kRouter, kPrefixLast, 3, 4, tcp(at(kPrefixFirst, 80), kFrom)),
            WEIR_PASS_NO_PORTS);
  cases
      .add("ALaterFragmentOfAPrefixFollowsItsFirst",
           udp(kFrom, at(kWidePrefixMiddle, 99)).identification(3).fragment_offset(2).payload("x"),
           WEIR_TX_IPIP, kPrefixRange, kPrefixRange, 0)
      .after(udp(kFrom, at(kWidePrefixMiddle, 99))
                 .identification(3)
                 .more_fragments()
                 .payload(text(8)));
}

void add_hashes(VerdictCases& cases) {
  const auto sent = [&cases](std::string_view name, HashId vip, const wire::Endpoint& from,
                             bool is_v4 = true) -> VerdictCase& {
    const wire::Endpoint to = hash_port(vip, is_v4);
    return cases.add(name, tcp(from, to).syn(), WEIR_TX_IPIP, vip, hashed_backend(vip, from, to));
  };
  const wire::Endpoint other_port = at(kClient, 40002);
  const wire::Endpoint other_client = at(v4(203, 0, 113, 9), 40000);
  const wire::Endpoint other_port6 = at(kClient6, 40002);
  sent("AFiveTupleChoosesItsSlot", kHashFiveTuple, kFrom);
  sent("AnotherPortMayChooseAnotherSlot", kHashFiveTuple, other_port);
  sent("AnotherClientMayChooseAnotherSlot", kHashFiveTuple, other_client);
  sent("AnIpv6FiveTupleChoosesItsSlot", kHashFiveTuple, kFrom6, false);
  sent("SourceAndPortChooseASlot", kHashSourcePort, kFrom);
  sent("SourceAndAnotherPortChooseASlot", kHashSourcePort, other_port);
  sent("AnIpv6SourceAndPortChooseASlot", kHashSourcePort, kFrom6, false);
  sent("ASourceAloneChoosesASlot", kHashSource, kFrom);
  sent("AnotherPortOfASourceChoosesTheSameSlot", kHashSource, other_port);
  sent("AnotherSourceChoosesItsOwnSlot", kHashSource, other_client);
  sent("AnIpv6SourceAloneChoosesASlot", kHashSource, kFrom6, false);
  sent("AnotherPortOfAnIpv6SourceChoosesTheSameSlot", kHashSource, other_port6, false);

  // From a port that the table, by five-tuple here, would lead elsewhere.
  const auto kept = [&cases](std::string_view name, const wire::Endpoint& first, bool is_v4) {
    const wire::Endpoint to = hash_port(kHashAffinity, is_v4);
    const std::uint32_t backend = hashed_backend(kHashAffinity, first, to);
    wire::Endpoint second = first;
    while (hashed_backend(kHashAffinity, second, to) == backend)
      second.port = wire::Port{static_cast<std::uint16_t>(second.port.value() + 1)};
    cases.add(name, tcp(second, to).syn(), WEIR_TX_IPIP, kHashAffinity, backend)
        .after(tcp(first, to).syn());
  };
  kept("AClientKeepsItsBackendOnAnotherPort", kFrom, true);
  kept("AnIpv6ClientKeepsItsBackendOnAnotherPort", kFrom6, false);
  sent("AClientWithoutAPastGoesByTheTable", kHashAffinity, kFrom);
  sent("AnotherClientGoesByTheTable", kHashAffinity, other_client)
      .after(tcp(kFrom, hash_port(kHashAffinity)).syn());
}

using Octets = std::vector<std::uint8_t>;

PacketBuilder quic(const Octets& payload, bool is_v4 = true) {
  const auto bytes = std::as_bytes(std::span{payload});
  return udp(is_v4 ? kFrom : kFrom6, at(is_v4 ? kVip : kVip6, 443))
      .payload(std::vector<std::byte>{bytes.begin(), bytes.end()});
}

/// A short header: flags, then an id that begins with `first` and the server `last`.
Octets short_header(std::uint8_t last = 0x0d, std::uint8_t first = kQuicRotation << 5 | 0x15) {
  return {0x41, first, 0x0a, 0x0b, 0x0c, last, 0x77, 0x88, 0x99};
}

/// A long one, with an id of so many bytes.
Octets long_header(std::uint8_t flags, std::uint32_t version, std::uint8_t id_bytes = 8) {
  Octets out{flags};
  for (int shift = 24; shift >= 0; shift -= 8)
    out.push_back(static_cast<std::uint8_t>(version >> shift));
  out.insert(out.end(), {id_bytes, kQuicRotation << 5 | 0x15, 0x0a, 0x0b, 0x0c, 0x0d});
  out.resize(40);
  return out;
}

constexpr std::uint32_t kQuicVersion1 = 1;
constexpr std::uint32_t kQuicVersion2 = 0x6b3343cf;

void add_short_headers(VerdictCases& cases) {
  const auto named = [&cases](std::string_view name, const Octets& payload,
                              QuicId backend = kQuicNamed,
                              std::uint64_t new_flows = 1) -> VerdictCase& {
    return cases.add(name, quic(payload), WEIR_TX_IPIP, kQuicVip, backend, new_flows);
  };
  const auto by_flow = [&cases](std::string_view name, const Octets& payload) {
    cases.add(name, quic(payload), WEIR_TX_IPIP, kQuicVip, kQuicByFlow);
  };
  named("AServerIdLeadsToItsServer", short_header());
  named("AServerIdGoesBeforeTheFlow", short_header(), kQuicNamed, 0).after(quic({0x41}));
  named("AFlowIsNewOnce", short_header(), kQuicNamed, 0).after(quic(short_header()));
  cases
      .add("AnErrorFollowsTheFlowOfAServerId",
           icmp_error(kRouter, kVip, 3, 4, udp(at(kVip, 443), kFrom).payload("quoted"), 16),
           WEIR_TX_IPIP, kQuicVip, kQuicNamed, 0)
      .after(quic(short_header()));
  named("ADrainingServerKeepsItsConnections", short_header(0x0f), kQuicDraining);
  named("TheLowBitsOfTheFirstOctetAreAnything", short_header(0x0d, kQuicRotation << 5 | 0x0a));
  named("AnIdThatEndsWithItsServerIsRead", {0x41, kQuicRotation << 5, 0x0a, 0x0b, 0x0c, 0x0d});
  named("TheSpinAndKeyBitsDoNotMatter",
        {0x7f, kQuicRotation << 5, 0x0a, 0x0b, 0x0c, 0x0d, 0x77, 0x88});
  by_flow("AnUnknownServerGoesByTheFlow", short_header(0x99));
  by_flow("ARetiredServerGoesByTheFlow", short_header(0x0e));
  by_flow("AServerOfAnotherVipGoesByTheFlow", short_header(0x10));
  by_flow("AnotherRotationGoesByTheFlow", short_header(0x0d, 1 << 5));
  by_flow("RotationSevenIsNoRoutableId", short_header(0x0d, 7 << 5));
  by_flow("AnIdThatLacksAByteGoesByTheFlow", {0x41, kQuicRotation << 5, 0x0a, 0x0b, 0x0c});
  by_flow("AFirstOctetAloneGoesByTheFlow", {0x41, kQuicRotation << 5});
  by_flow("AHeaderAloneGoesByTheFlow", {0x41});
  by_flow("AnEmptyDatagramGoesByTheFlow", {});
  cases.add("AnIpv6ServerIdLeadsToItsServer", quic(short_header(), false), WEIR_TX_IPIP, kQuicVip6,
            kQuicNamed6);
  cases.add("AnUnknownIpv6ServerGoesByTheFlow", quic(short_header(0x99), false), WEIR_TX_IPIP,
            kQuicVip6, kQuicByFlow6);
  cases.add("AServerIdBehindExtensionHeadersIsRead",
            quic(short_header(), false).extension(IPPROTO_DSTOPTS, 2), WEIR_TX_IPIP, kQuicVip6,
            kQuicNamed6);
  cases.add("AServerIdBehindIpOptionsIsRead", quic(short_header()).ip_options(10), WEIR_TX_IPIP,
            kQuicVip, kQuicNamed);
  cases.add("AServerIdBehindATagIsRead", quic(short_header()).tag(kTagQ, 5), WEIR_TX_IPIP, kQuicVip,
            kQuicNamed);
  cases.add("AnErrorHasNoServerId",
            icmp_error(kRouter, kVip, 3, 3, udp(at(kVip, 443), kFrom).payload("quoted"), 16),
            WEIR_TX_IPIP, kQuicVip, kQuicByFlow, 0);
}

void add_long_headers(VerdictCases& cases) {
  const auto named = [&cases](std::string_view name, const Octets& payload) {
    cases.add(name, quic(payload), WEIR_TX_IPIP, kQuicVip, kQuicNamed);
  };
  const auto by_flow = [&cases](std::string_view name, const Octets& payload) {
    cases.add(name, quic(payload), WEIR_TX_IPIP, kQuicVip, kQuicByFlow);
  };
  named("AHandshakePacketLeadsToItsServer", long_header(0xe0, kQuicVersion1));
  named("AHandshakePacketOfVersionTwoLeadsToItsServer", long_header(0xf0, kQuicVersion2));
  named("TheShortestIdWithAServerIsRead", long_header(0xe0, kQuicVersion1, 5));
  named("TheLongestIdIsRead", long_header(0xe0, kQuicVersion1, 20));
  by_flow("AnInitialPacketGoesByTheFlow", long_header(0xc0, kQuicVersion1));
  by_flow("AZeroRttPacketGoesByTheFlow", long_header(0xd0, kQuicVersion1));
  by_flow("ARetryGoesByTheFlow", long_header(0xf0, kQuicVersion1));
  by_flow("AnInitialPacketOfVersionTwoGoesByTheFlow", long_header(0xd0, kQuicVersion2));
  by_flow("ARetryOfVersionTwoGoesByTheFlow", long_header(0xc0, kQuicVersion2));
  by_flow("AVersionNegotiationGoesByTheFlow", long_header(0xe0, 0));
  by_flow("AnUnknownVersionGoesByTheFlow", long_header(0xe0, 0x0a1a2a3a));
  by_flow("AnIdTooShortForAServerGoesByTheFlow", long_header(0xe0, kQuicVersion1, 4));
  by_flow("AnIdOfNoBytesGoesByTheFlow", long_header(0xe0, kQuicVersion1, 0));
  by_flow("AnIdTooLongForQuicGoesByTheFlow", long_header(0xe0, kQuicVersion1, 21));
  Octets cut = long_header(0xe0, kQuicVersion1);
  cut.resize(10);
  by_flow("AHandshakePacketThatEndsInsideItsServerIdGoesByTheFlow", cut);
  cut.resize(5);
  by_flow("AHandshakePacketThatEndsBeforeItsIdGoesByTheFlow", cut);
}

}  // namespace

std::vector<VerdictCase> service_cases() {
  VerdictCases services{World::kServices};
  add_ranges(services);
  add_prefixes(services);
  VerdictCases hashes{World::kHashes};
  add_hashes(hashes);
  std::vector<VerdictCase> all = services.list();
  std::ranges::move(hashes.list(), std::back_inserter(all));
  return all;
}

std::vector<VerdictCase> quic_cases() {
  VerdictCases cases{World::kQuic};
  add_short_headers(cases);
  add_long_headers(cases);
  return cases.list();
}

}  // namespace weir::testing
