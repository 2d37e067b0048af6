// The decapsulation programs of backends: every ending, by tables. The XDP program here; the tc
// program runs the same in decapsulation_tc_test.cpp.

#include <netinet/in.h>

#include <algorithm>

#include "tests/bpf/decapsulation_fixture.h"

namespace weir::testing {
namespace {

const wire::Endpoint kFrom = at(kClient, 40000);
const wire::Endpoint kFrom6 = at(kClient6, 40000);
const PacketBuilder kPacket = tcp(kFrom, at(kVip, 80)).payload("hello");
const PacketBuilder kPacket6 = tcp(kFrom6, at(kVip6, 80)).payload("hello");
const wire::IpAddress kNoVip = v4(198, 51, 100, 200);
const wire::IpAddress kNoVip6 = v6("2001:db8:100::200");

PacketBuilder in4(const PacketBuilder& packet) { return packet.inside(kOuterSource, kBackend); }
PacketBuilder in6(const PacketBuilder& packet) { return packet.inside(kOuterSource6, kBackend6); }
PacketBuilder edited(PacketBuilder packet, PacketBuilder& (PacketBuilder::*set)(std::uint16_t),
                     std::uint16_t value) {
  return (packet.*set)(value);
}

/// A GUE datagram with this payload.
Frame gue_of(Frame payload) {
  return udp(at(kOuterSource, 51234), at(kBackend, kGuePort)).payload(std::move(payload)).bytes();
}

void append(std::vector<DecapsulationCase>& all, std::vector<DecapsulationCase> more) {
  for (DecapsulationCase& one : more)
    all.push_back(std::move(one));
}

std::vector<DecapsulationCase> tunnels_of_ours() {
  const Frame inner = kPacket.bytes();
  const Frame inner6 = kPacket6.bytes();
  const Frame ip = kPacket.ip_bytes();
  const Frame ip6 = kPacket6.ip_bytes();
  return {
      {"Ipv4InIpv4", in4(kPacket).bytes(), "pass_inner", inner},
      {"Ipv6InIpv6", in6(kPacket6).bytes(), "pass_inner", inner6},
      {"Ipv4InIpv6", in6(kPacket).bytes(), "pass_inner", inner},
      {"Ipv6InIpv4", in4(kPacket6).bytes(), "pass_inner", inner6},
      {"AnOuterHeaderWithOptions", in4(kPacket).ip_options(4).bytes(), "pass_inner", inner},
      {"AnOuterHeaderWithAllOptions", in4(kPacket).ip_options(10).bytes(), "pass_inner", inner},
      {"Ipv4InGueOverIpv4", in_gue4(ip).bytes(), "pass_inner", inner},
      {"Ipv6InGueOverIpv6", in_gue6(ip6).bytes(), "pass_inner", inner6},
      {"Ipv4InGueOverIpv6", in_gue6(ip).bytes(), "pass_inner", inner},
      {"Ipv6InGueOverIpv4", in_gue4(ip6).bytes(), "pass_inner", inner6},
      {"GueWithOuterOptions", in_gue4(ip).ip_options(3).bytes(), "pass_inner", inner},
      {"GueWithItsBaseHeader", in_gue4(ip, Gue::kBaseHeader).bytes(), "pass_inner", inner},
      {"GueWithItsBaseHeaderInIpv6", in_gue6(ip6, Gue::kBaseHeader).bytes(), "pass_inner", inner6},
      {"GueWithoutAChecksumOverIpv4", with_udp_checksum(in_gue4(ip).bytes(), 0), "pass_inner",
       inner},
  };
}

std::vector<DecapsulationCase> other_traffic() {
  const Frame ip = kPacket.ip_bytes();
  return {
      {"PlainTcpIsPassed", kPacket.bytes(), "pass_other"},
      {"PlainIpv6TcpIsPassed", kPacket6.bytes(), "pass_other"},
      {"UdpToAnotherPortIsPassed",
       udp(at(kOuterSource, 1), at(kBackend, kGuePort + 1)).payload(ip).bytes(), "pass_other"},
      {"UdpFromTheGuePortIsPassed",
       udp(at(kOuterSource, kGuePort), at(kBackend, 53)).payload(ip).bytes(), "pass_other"},
      {"ALaterFragmentOfUdpHasNoPort", in_gue4(ip).fragment_offset(1).bytes(), "pass_other"},
      {"ArpIsPassed", arp_request(kClient, kVip).bytes(), "pass_other"},
      {"AnEthernetHeaderAloneIsPassed", PacketBuilder{kPacket}.truncate_to(14).bytes(),
       "pass_other"},
      {"HalfAnIpHeaderIsPassed", PacketBuilder{kPacket}.truncate_to(30).bytes(), "pass_other"},
      {"HalfAUdpHeaderIsPassed", in_gue4(ip).total_length(24).bytes(), "pass_other"},
      {"AnIpv6TunnelBehindAnExtensionIsPassed", in6(kPacket).extension(IPPROTO_DSTOPTS, 0).bytes(),
       "pass_other"},
  };
}

std::vector<DecapsulationCase> foreign_tunnels() {
  const wire::IpAddress mapped = kOuterSource;  // sixteen bytes, ::ffff:192.0.2.1
  Frame forged = in6(kPacket).bytes();
  std::ranges::transform(mapped.bytes, forged.begin() + kEthernetBytes + 8,
                         [](std::uint8_t byte) { return std::byte{byte}; });
  Frame forged_vip = in6(kPacket6).bytes();
  std::ranges::transform(kVip.bytes, forged_vip.begin() + kEthernetBytes + 40 + 24,
                         [](std::uint8_t byte) { return std::byte{byte}; });
  const PacketBuilder no_vip = tcp(kFrom, at(kNoVip, 80));
  const PacketBuilder no_vip6 = tcp(kFrom6, at(kNoVip6, 80));
  return {
      {"AnUnlistedSource", kPacket.inside(kClient, kBackend).bytes(), "pass_source"},
      {"AnUnlistedIpv6Source", kPacket6.inside(kClient6, kBackend6).bytes(), "pass_source"},
      {"AnUnlistedSourceOfGue",
       udp(at(kClient, 9), at(kBackend, kGuePort)).payload(kPacket.ip_bytes()).bytes(),
       "pass_source"},
      {"AnIpv6SourceInTheMappedFormOfAListedOne", forged, "pass_source"},
      {"AMalformedPacketOfAnUnlistedSource",
       kPacket.inside(kClient, kBackend).total_length(9).bytes(), "pass_source"},
      {"AWrongChecksumOfAnUnlistedSource",
       kPacket.inside(kClient, kBackend).wrong_ip_checksum().bytes(), "pass_source"},
      {"AnUnlistedVip", in4(no_vip).bytes(), "pass_vip"},
      {"AnUnlistedIpv6Vip", in6(no_vip6).bytes(), "pass_vip"},
      {"AnUnlistedVipInGue", in_gue6(no_vip.ip_bytes()).bytes(), "pass_vip"},
      {"AnIpv6VipInTheMappedFormOfAListedOne", forged_vip, "pass_vip"},
      {"AWrongChecksumForAnUnlistedVip",
       with_udp_checksum(in_gue4(no_vip.ip_bytes()).bytes(), 0x1234), "pass_vip"},
      {"AFragmentOfATunnelPacket", in4(kPacket).more_fragments().bytes(), "pass_fragment"},
      {"ALaterFragmentOfATunnelPacket", in4(kPacket).fragment_offset(100).bytes(), "pass_fragment"},
      {"AFirstFragmentOfGue", in_gue4(kPacket.ip_bytes()).more_fragments().bytes(),
       "pass_fragment"},
  };
}

std::vector<DecapsulationCase> malformed_tunnels() {
  const auto total_length = &PacketBuilder::total_length;
  const Frame longer = edited(kPacket, total_length, 46).ip_bytes();
  Frame control = gue_header(IPPROTO_IPIP);
  control[0] = std::byte{0x20};
  Frame extended = gue_header(IPPROTO_IPIP);
  extended[0] = std::byte{0x01};
  Frame flagged = gue_header(IPPROTO_IPIP);
  flagged[3] = std::byte{0x01};
  for (Frame* header : {&control, &extended, &flagged}) {
    const Frame ip = kPacket.ip_bytes();
    header->insert(header->end(), ip.begin(), ip.end());
  }
  Frame variant2(40, std::byte{0x85});
  Frame not_an_address(40, std::byte{0x55});
  return {
      {"AnEmptyTunnelPacket", ip_packet(kOuterSource, kBackend, IPPROTO_IPIP).bytes(),
       "drop_malformed"},
      {"HalfAnInnerHeader", in4(kPacket).total_length(39).bytes(), "drop_malformed"},
      {"HalfAnInnerIpv6Header", in6(kPacket6).total_length(39).bytes(), "drop_malformed"},
      {"AnInnerPacketOfTheOtherFamily",
       ip_packet(kOuterSource, kBackend, IPPROTO_IPV6).payload(kPacket.ip_bytes()).bytes(),
       "drop_malformed"},
      {"AnInnerPacketLongerThanItsTunnel", in4(edited(kPacket, total_length, 46)).bytes(),
       "drop_malformed"},
      {"AnInnerIpv6PacketLongerThanItsTunnel", in4(edited(kPacket6, total_length, 26)).bytes(),
       "drop_malformed"},
      {"AnInnerPacketShorterThanItsHeader", in4(edited(kPacket, total_length, 19)).bytes(),
       "drop_malformed"},
      {"AnInnerHeaderLengthBelowFive", in4(PacketBuilder{kPacket}.header_words(4)).bytes(),
       "drop_malformed"},
      {"ATunnelLongerThanTheFrame", in4(kPacket).truncate_to(70).bytes(), "drop_malformed"},
      {"AnIpv6TunnelLongerThanTheFrame", in6(kPacket).truncate_to(90).bytes(), "drop_malformed"},
      {"AnOuterHeaderLengthBelowFive", in4(kPacket).header_words(4).bytes(), "drop_malformed"},
      {"AnEmptyGueDatagram", gue_of({}), "drop_malformed"},
      {"AGuePacketLongerThanItsDatagram", gue_of(longer), "drop_malformed"},
      {"AUdpLengthBeyondTheIpPacket", in_gue4(kPacket.ip_bytes()).udp_length(200).bytes(),
       "drop_malformed"},
      {"AUdpLengthBelowEight", in_gue4(kPacket.ip_bytes()).udp_length(7).bytes(), "drop_malformed"},
      {"HalfAGueHeader", gue_of({std::byte{0}, std::byte{4}}), "drop_malformed"},
      {"AGueControlMessage", gue_of(control), "drop_malformed"},
      {"GueWithAnExtension", gue_of(extended), "drop_malformed"},
      {"GueWithAFlag", gue_of(flagged), "drop_malformed"},
      {"GueOfAnotherProtocol", gue_of(gue_header(IPPROTO_GRE)), "drop_malformed"},
      {"GueOfAReservedVariant", gue_of(variant2), "drop_malformed"},
      {"GueOfNoIpVersion", gue_of(not_an_address), "drop_malformed"},
  };
}

std::vector<DecapsulationCase> wrong_checksums() {
  const Frame ip = kPacket.ip_bytes();
  Frame damaged = in_gue4(ip).bytes();
  damaged.back() ^= std::byte{0x01};
  Frame damaged6 = in_gue6(ip).bytes();
  damaged6.back() ^= std::byte{0x01};
  Frame readdressed = in_gue6(ip).bytes();
  readdressed[kEthernetBytes + 39] ^= std::byte{0x01};
  return {
      {"AWrongOuterHeaderChecksum", in4(kPacket).wrong_ip_checksum().bytes(), "drop_checksum"},
      {"AWrongOuterHeaderChecksumWithOptions",
       in4(kPacket).ip_options(2).wrong_ip_checksum().bytes(), "drop_checksum"},
      {"AWrongOuterHeaderChecksumOfGue", in_gue4(ip).wrong_ip_checksum().bytes(), "drop_checksum"},
      {"AWrongUdpChecksum", with_udp_checksum(in_gue4(ip).bytes(), 0x1234), "drop_checksum"},
      {"AWrongUdpChecksumOverIpv6", with_udp_checksum(in_gue6(ip).bytes(), 0x1234),
       "drop_checksum"},
      {"NoUdpChecksumOverIpv6", with_udp_checksum(in_gue6(ip).bytes(), 0), "drop_checksum"},
      {"ADamagedLastByteInGue", damaged, "drop_checksum"},
      {"ADamagedLastByteInGueOverIpv6", damaged6, "drop_checksum"},
      {"ADamagedOuterIpv6Address", readdressed, "drop_checksum"},
  };
}

INSTANTIATE_TEST_SUITE_P(Xdp, Decapsulation,
                         ::testing::Combine(::testing::Values(BpfProgram::kDecapsulator),
                                            ::testing::ValuesIn(decapsulation_cases())),
                         decapsulation_case_name);

}  // namespace

std::vector<DecapsulationCase> decapsulation_cases() {
  std::vector<DecapsulationCase> all;
  append(all, tunnels_of_ours());
  append(all, other_traffic());
  append(all, foreign_tunnels());
  append(all, malformed_tunnels());
  append(all, wrong_checksums());
  return all;
}

TEST_P(Decapsulation, EndsAsTheTableSays) {
  const auto& [program, expected] = GetParam();
  start_decapsulation(program);
  if (!is_ready()) return;
  expect(expected.frame, expected.counter, expected.inner);
}

TEST_P(Decapsulation, DropsWhatIsForeignWhereItIsTold) {
  const auto& [program, expected] = GetParam();
  std::string counter{expected.counter};
  if (counter.starts_with("pass") && counter != "pass_other" && counter != "pass_inner")
    counter.replace(0, 4, "drop");
  BpfSettings settings;
  settings.decapsulate_drop_foreign = true;
  start_decapsulation(program, settings);
  if (!is_ready()) return;
  expect(expected.frame, counter, expected.inner);
}

namespace {

class DecapsulationLists : public ::testing::Test, protected DecapsulationFixture {};

TEST_F(DecapsulationLists, AreNotNeededWhereAnySourceAndAnyVipAreAllowed) {
  BpfSettings settings;
  settings.decapsulate_any_source = true;
  settings.decapsulate_any_vip = true;
  start(settings, BpfProgram::kDecapsulator);
  if (!is_ready()) return;
  expect(kPacket.inside(kClient, kBackend).bytes(), "pass_inner", kPacket.bytes());
  expect(kPacket6.inside(kClient6, kBackend6).bytes(), "pass_inner", kPacket6.bytes());
}

TEST_F(DecapsulationLists, OfVipsTakePrefixes) {
  start_decapsulation(BpfProgram::kDecapsulator);
  if (!is_ready()) return;
  const PacketBuilder inside = tcp(kFrom, at(v4(10, 9, 255, 1), 80));
  const PacketBuilder outside = tcp(kFrom, at(v4(10, 10, 0, 1), 80));
  const PacketBuilder inside6 = tcp(kFrom6, at(v6("2001:db8:9:8::1"), 80));
  const PacketBuilder outside6 = tcp(kFrom6, at(v6("2001:db8:a:8::1"), 80));
  expect(in4(inside).bytes(), "pass_vip");
  expect(in6(inside6).bytes(), "pass_vip");
  add_vip_prefix({v4(10, 9, 0, 0), 16});
  add_vip_prefix({v6("2001:db8:9::"), 48});
  expect(in4(inside).bytes(), "pass_inner", inside.bytes());
  expect(in6(inside6).bytes(), "pass_inner", inside6.bytes());
  expect(in4(outside).bytes(), "pass_vip");
  expect(in6(outside6).bytes(), "pass_vip");
}

TEST_F(DecapsulationLists, OfIpv4VipsDoNotAdmitIpv6Ones) {
  start_decapsulation(BpfProgram::kDecapsulator);
  if (!is_ready()) return;
  add_vip_prefix({v4(0, 0, 0, 0), 0});
  const PacketBuilder any = tcp(kFrom, at(kNoVip, 80));
  expect(in4(any).bytes(), "pass_inner", any.bytes());
  expect(in6(tcp(kFrom6, at(kNoVip6, 80))).bytes(), "pass_vip");
}

class DecapsulationOfTaggedFrames : public ::testing::Test, protected DecapsulationFixture {};

TEST_F(DecapsulationOfTaggedFrames, KeepsTheTagsAroundTheInnerPacket) {
  start_decapsulation(BpfProgram::kDecapsulator);
  if (!is_ready()) return;
  const std::vector<std::pair<std::uint16_t, std::uint16_t>> one{{0x8100, 0x2064}};
  const std::vector<std::pair<std::uint16_t, std::uint16_t>> two{{0x88a8, 0x0007},
                                                                 {0x8100, 0xfff1}};
  for (const auto& tags : {one, two}) {
    expect(tagged(in4(kPacket).bytes(), tags), "pass_inner", tagged(kPacket.bytes(), tags));
    expect(tagged(in6(kPacket).bytes(), tags), "pass_inner", tagged(kPacket.bytes(), tags));
    expect(tagged(in4(kPacket6).ip_options(10).bytes(), tags), "pass_inner",
           tagged(kPacket6.bytes(), tags));
    expect(tagged(in_gue6(kPacket6.ip_bytes()).bytes(), tags), "pass_inner",
           tagged(kPacket6.bytes(), tags));
    expect(tagged(in_gue4(kPacket6.ip_bytes(), Gue::kBaseHeader).ip_options(10).bytes(), tags),
           "pass_inner", tagged(kPacket6.bytes(), tags));
    expect(tagged(kPacket.bytes(), tags), "pass_other");
  }
}

TEST_F(DecapsulationOfTaggedFrames, LeavesThreeTagsAndHalfATagAlone) {
  start_decapsulation(BpfProgram::kDecapsulator);
  if (!is_ready()) return;
  expect(tagged(in4(kPacket).bytes(), {{0x8100, 1}, {0x8100, 2}, {0x8100, 3}}), "pass_other");
  Frame half = tagged(in4(kPacket).bytes(), {{0x8100, 1}});
  half.resize(16);
  expect(half, "pass_other");
}

class BalancerThenBackend : public ::testing::Test {};

/// Two programs, one after the other: what the balancer puts on, the backend takes off.
struct Balancer : BalancerFixture {
  using BalancerFixture::is_ready;
  using BalancerFixture::run;
  using BalancerFixture::start_standard_world;
};
struct Backend : DecapsulationFixture {
  using BalancerFixture::is_ready;
  using BalancerFixture::run;
  using DecapsulationFixture::start_decapsulation;
};

TEST_F(BalancerThenBackend, LeaveThePacketAHopOlderAndOtherwiseTheSame) {
  Balancer balancer;
  balancer.start_standard_world();
  Backend backend;
  backend.start_decapsulation(BpfProgram::kDecapsulator);
  if (!balancer.is_ready() || !backend.is_ready()) return;
  for (const PacketBuilder& packet : {kPacket, kPacket6, udp(kFrom, at(kVip, 53)).payload("query"),
                                      udp(kFrom6, at(kVip6, 53)).payload("query")}) {
    const RunResult sent = balancer.run(packet);
    const RunResult received = backend.run(sent.output);
    EXPECT_EQ(received.output,
              PacketBuilder{packet}.macs(kOwnMac, kNextHopMac).time_to_live(63).bytes());
  }
}

}  // namespace
}  // namespace weir::testing
