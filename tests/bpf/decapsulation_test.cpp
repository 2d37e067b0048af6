// The decapsulation program of backends.

#include <linux/bpf.h>
#include <netinet/in.h>

#include "tests/bpf/balancer_fixture.h"

namespace weir::testing {
namespace {

const wire::Endpoint kFrom = at(kClient, 40000);
const wire::Endpoint kFrom6 = at(kClient6, 40000);
const PacketBuilder kPacket = tcp(kFrom, at(kVip, 80)).payload("hello");
const PacketBuilder kPacket6 = tcp(kFrom6, at(kVip6, 80)).payload("hello");

struct Case {
  std::string_view name;
  PacketBuilder packet;
  std::string_view counter;
  const PacketBuilder* inner = nullptr;  ///< what the host must get
};

class Decapsulation : public ::testing::TestWithParam<Case>, protected BalancerFixture {
 protected:
  void SetUp() override {
    start({}, BpfProgram::kDecapsulator);
    if (!is_ready()) return;
    for (const auto& source : {kOuterSource, kOuterSource6})
      check(runner().write("weir_decap_sources", abi(source), std::uint32_t{1}));
  }
};

TEST_P(Decapsulation, EndsAsTheTableSays) {
  const auto frame = GetParam().packet.bytes();
  const RunResult result = run(frame);
  EXPECT_EQ(result.moved, (std::map<std::string, CounterDelta>{
                              {std::string{GetParam().counter}, {1, frame.size(), 0}}}))
      << describe(result);
  const bool is_dropped = GetParam().counter.starts_with("drop");
  EXPECT_EQ(result.action, static_cast<std::uint32_t>(is_dropped ? XDP_DROP : XDP_PASS));
  if (GetParam().inner != nullptr) {
    EXPECT_EQ(result.output, GetParam().inner->bytes());
  } else if (!is_dropped) {
    EXPECT_EQ(result.output, frame) << "what is passed is passed untouched";
  }
}

std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  return std::string{info.param.name};
}

PacketBuilder in4(const PacketBuilder& packet) { return packet.inside(kOuterSource, kBackend); }
PacketBuilder in6(const PacketBuilder& packet) { return packet.inside(kOuterSource6, kBackend6); }

INSTANTIATE_TEST_SUITE_P(
    , Decapsulation,
    ::testing::Values(
        Case{"Ipv4InIpv4", in4(kPacket), "pass_inner", &kPacket},
        Case{"Ipv6InIpv6", in6(kPacket6), "pass_inner", &kPacket6},
        Case{"Ipv4InIpv6", in6(kPacket), "pass_inner", &kPacket},
        Case{"Ipv6InIpv4", in4(kPacket6), "pass_inner", &kPacket6},
        Case{"AnOuterHeaderWithOptions", in4(kPacket).ip_options(4), "pass_inner", &kPacket},
        Case{"PlainTcpIsPassed", kPacket, "pass_other"},
        Case{"PlainIpv6TcpIsPassed", kPacket6, "pass_other"},
        Case{"ArpIsPassed", arp_request(kClient, kVip), "pass_other"},
        Case{"AnEthernetHeaderAloneIsPassed", PacketBuilder{kPacket}.truncate_to(14), "pass_other"},
        Case{"HalfAnIpHeaderIsPassed", PacketBuilder{kPacket}.truncate_to(30), "pass_other"},
        Case{"AnUnlistedSourceIsDropped", kPacket.inside(kClient, kBackend), "drop_source"},
        Case{"AnUnlistedIpv6SourceIsDropped", kPacket6.inside(kClient6, kBackend6), "drop_source"},
        Case{"AMalformedPacketOfAnUnlistedSourceCountsAsThat",
             kPacket.inside(kClient, kBackend).total_length(9), "drop_source"},
        Case{"AnEmptyTunnelPacket", ip_packet(kOuterSource, kBackend, IPPROTO_IPIP),
             "drop_malformed"},
        Case{"HalfAnInnerHeader", in4(kPacket).total_length(39), "drop_malformed"},
        Case{"HalfAnInnerIpv6Header", in6(kPacket6).total_length(39), "drop_malformed"},
        Case{"AnInnerPacketOfTheOtherFamily",
             ip_packet(kOuterSource, kBackend, IPPROTO_IPV6).payload(kPacket.ip_bytes()),
             "drop_malformed"},
        Case{"AnInnerPacketLongerThanItsTunnel", in4(PacketBuilder{kPacket}.total_length(46)),
             "drop_malformed"},
        Case{"AnInnerIpv6PacketLongerThanItsTunnel", in4(PacketBuilder{kPacket6}.total_length(26)),
             "drop_malformed"},
        Case{"ATunnelLongerThanTheFrame", in4(kPacket).truncate_to(70), "drop_malformed"},
        Case{"AnIpv6TunnelLongerThanTheFrame", in6(kPacket).truncate_to(90), "drop_malformed"},
        Case{"AnOuterHeaderLengthBelowFive", in4(kPacket).header_words(4), "drop_malformed"},
        Case{"AFragmentOfATunnelPacket", in4(kPacket).more_fragments(), "drop_malformed"}),
    name_of);

class DecapsulationFromAnySource : public ::testing::Test, protected BalancerFixture {};

TEST_F(DecapsulationFromAnySource, NeedsNoList) {
  BpfSettings settings;
  settings.decapsulate_any_source = true;
  start(settings, BpfProgram::kDecapsulator);
  if (!is_ready()) return;
  EXPECT_EQ(run(kPacket.inside(kClient, kBackend)).output, kPacket.bytes());
  EXPECT_EQ(run(kPacket6.inside(kClient6, kBackend6)).output, kPacket6.bytes());
}

class BalancerThenBackend : public ::testing::Test {};

/// Two programs, one after the other: what the balancer puts on, the backend takes off.
struct Balancer : BalancerFixture {
  using BalancerFixture::is_ready;
  using BalancerFixture::run;
  using BalancerFixture::start_standard_world;
};
struct Backend : BalancerFixture {
  using BalancerFixture::is_ready;
  using BalancerFixture::run;
  using BalancerFixture::start;
};

TEST_F(BalancerThenBackend, LeaveThePacketAHopOlderAndOtherwiseTheSame) {
  Balancer balancer;
  balancer.start_standard_world();
  Backend backend;
  BpfSettings settings;
  settings.decapsulate_any_source = true;
  backend.start(settings, BpfProgram::kDecapsulator);
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
