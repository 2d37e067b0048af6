// Frames for the weir-l7 workers of this node. That a worker was chosen, and not another, is
// proved by giving a device to that worker only.

#include <linux/bpf.h>
#include <netinet/in.h>

#include "bpf/hash.h"
#include "l7/tcp/ports.h"
#include "tests/bpf/balancer_fixture.h"

namespace weir::testing {
namespace {

constexpr std::uint32_t kWorkers = 3;

struct Case {
  std::string_view name;
  PacketBuilder packet;
  weir_verdict verdict;
  std::uint32_t worker = 0;  ///< the only one with a device, if the verdict is a redirect
  std::uint32_t vip = 0;
};

class L7HandOff : public ::testing::TestWithParam<Case>, protected BalancerFixture {
 protected:
  void SetUp() override { start_standard_world(kWorkers); }

  void leave_only(std::uint32_t worker) {
    for (std::uint32_t other = 0; other < kWorkers; ++other)
      if (other != worker) check(runner().erase("weir_l7_workers", other));
  }
};

TEST_P(L7HandOff, ReachesTheWorkerUnchanged) {
  leave_only(GetParam().worker);
  const auto frame = GetParam().packet.bytes();
  const RunResult result = run(frame);
  EXPECT_EQ(result.action, action_of(GetParam().verdict)) << describe(result);
  EXPECT_EQ(result.output, frame);
  std::map<std::string, CounterDelta> expected{
      {label_of(GetParam().verdict), {1, frame.size(), 0}}};
  if (GetParam().vip != 0) expected[fmt::format("vip {}", GetParam().vip)] = {1, frame.size(), 0};
  EXPECT_EQ(result.moved, expected) << describe(result);
}

std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  return std::string{info.param.name};
}

std::uint32_t worker_for(const wire::Endpoint& source, const wire::Endpoint& destination) {
  weir_flow_key key{};
  key.source = abi(source.address);
  key.destination = abi(destination.address);
  key.source_port_be = htons(source.port.value());
  key.destination_port_be = htons(destination.port.value());
  key.protocol = IPPROTO_TCP;
  const BpfSettings settings;
  std::uint32_t keys[WEIR_FLOW_KEYS];
  for (std::uint32_t i = 0; i < WEIR_FLOW_KEYS; ++i)
    keys[i] = weir_flow_key_of(settings.hash_seed[0], settings.hash_seed[1], i);
  return weir_worker_of(weir_table_hash(&key, keys), kWorkers);
}

const wire::Endpoint kFrom = at(kClient, 40000);
const wire::Endpoint kFrom6 = at(kClient6, 40000);
const wire::Endpoint kService = at(kVipL7, 80);
const wire::Endpoint kService6 = at(kVipL7v6, 80);

INSTANTIATE_TEST_SUITE_P(
    ForAVip, L7HandOff,
    ::testing::Values(
        Case{"ASyn", tcp(kFrom, kService).syn(), WEIR_REDIRECT_L7, worker_for(kFrom, kService),
             kVipHandOff},
        Case{"AnAck", tcp(kFrom, kService), WEIR_REDIRECT_L7, worker_for(kFrom, kService),
             kVipHandOff},
        Case{"AnIpv6Syn", tcp(kFrom6, kService6).syn(), WEIR_REDIRECT_L7,
             worker_for(kFrom6, kService6), kVipHandOff6},
        Case{"ATimeToLiveOfOne", tcp(kFrom, kService).time_to_live(1), WEIR_REDIRECT_L7,
             worker_for(kFrom, kService), kVipHandOff},
        Case{"APaddedFrame", tcp(kFrom, kService).padding(6), WEIR_REDIRECT_L7,
             worker_for(kFrom, kService), kVipHandOff},
        Case{"AnEchoRequest", echo_request(kClient, kVipL7), WEIR_REDIRECT_L7},
        Case{"AnIpv6EchoRequest", echo_request(kClient6, kVipL7v6), WEIR_REDIRECT_L7},
        Case{"FragmentationNeeded", icmp(kClient, kVipL7, 3, 4).payload(std::string(28, 'x')),
             WEIR_REDIRECT_L7},
        Case{"PacketTooBig", icmp(kClient6, kVipL7v6, 2).payload(std::string(48, 'x')),
             WEIR_REDIRECT_L7},
        Case{"ASolicitationStaysWithTheHost", neighbor_solicitation(kClient6, kVipL7v6),
             WEIR_PASS_NOT_A_VIP},
        Case{"AUnicastSolicitationStaysWithTheHost",
             icmp(kClient6, kVipL7v6, 135).payload(std::string(16, 'x')), WEIR_PASS_NO_PORTS},
        Case{"AnAdvertisementStaysWithTheHost", neighbor_advertisement(kClient6, kVipL7v6),
             WEIR_PASS_NO_PORTS},
        Case{"ArpStaysWithTheHost", arp_request(kClient, kVipL7), WEIR_PASS_NOT_IP},
        Case{"AnotherProtocolStaysWithTheHost", ip_packet(kClient, kVipL7, IPPROTO_GRE),
             WEIR_PASS_NO_PORTS},
        Case{"AnUnknownPortIsDropped", tcp(kFrom, at(kVipL7, 81)), WEIR_DROP_UNKNOWN_PORT},
        Case{"AFragmentOfAnEchoIsDropped", echo_request(kClient, kVipL7).more_fragments(),
             WEIR_DROP_FRAGMENT},
        Case{"ATruncatedPacketIsDropped", tcp(kFrom, kService).truncate_to(50),
             WEIR_DROP_TRUNCATED}),
    name_of);

// The stack opens its connections from ports of which it believes the same.
static_assert(tcp::owner_of_port(40000, kWorkers) == 1);
static_assert(tcp::owner_of_port(40001, kWorkers) == 2);
static_assert(tcp::owner_of_port(40002, kWorkers) == 0);
INSTANTIATE_TEST_SUITE_P(
    ForItsOwnAddress, L7HandOff,
    ::testing::Values(
        Case{"TcpToAPortOfWorkerOne", tcp(at(kHost, 80), at(kL7Own, 40000)), WEIR_REDIRECT_L7_LOCAL,
             1},
        Case{"TcpToAPortOfWorkerTwo", tcp(at(kHost, 80), at(kL7Own, 40001)).syn_ack(),
             WEIR_REDIRECT_L7_LOCAL, 2},
        Case{"TcpToAPortOfWorkerZero", tcp(at(kHost, 80), at(kL7Own, 40002)).rst(),
             WEIR_REDIRECT_L7_LOCAL, 0},
        Case{"Ipv6TcpToAPortOfWorkerTwo", tcp(at(kHost6, 80), at(kL7Own6, 40001)),
             WEIR_REDIRECT_L7_LOCAL, 2},
        Case{"ArpRequest", arp_request(kHost, kL7Own), WEIR_REDIRECT_L7_LOCAL},
        Case{"ArpReply", arp_reply(kHost, kL7Own), WEIR_REDIRECT_L7_LOCAL},
        Case{"NeighborSolicitation", neighbor_solicitation(kHost6, kL7Own6),
             WEIR_REDIRECT_L7_LOCAL},
        Case{"NeighborAdvertisement", neighbor_advertisement(kHost6, kL7Own6),
             WEIR_REDIRECT_L7_LOCAL},
        Case{"EchoRequest", echo_request(kHost, kL7Own), WEIR_REDIRECT_L7_LOCAL},
        Case{"Ipv6EchoRequest", echo_request(kHost6, kL7Own6), WEIR_REDIRECT_L7_LOCAL},
        Case{"Udp", udp(at(kHost, 53), at(kL7Own, 40001)), WEIR_REDIRECT_L7_LOCAL, 0},
        Case{"AFragment", udp(at(kHost, 53), at(kL7Own, 40001)).more_fragments(),
             WEIR_REDIRECT_L7_LOCAL},
        Case{"ArpForTheHost", arp_request(kClient, kHost), WEIR_PASS_NOT_IP},
        Case{"ArpOfAnotherHardwareType", PacketBuilder::raw(0x0806, std::vector<std::byte>(28)),
             WEIR_PASS_NOT_IP},
        Case{"ASolicitationForTheHost", neighbor_solicitation(kClient6, kHost6),
             WEIR_PASS_NOT_A_VIP},
        Case{"AShortSolicitation",
             icmp(kHost6, solicited_node_group(kL7Own6), 135).payload(std::string(15, 'x')),
             WEIR_PASS_NOT_A_VIP}),
    name_of);

class L7Workers : public ::testing::Test, protected BalancerFixture {};

TEST_F(L7Workers, AWorkerWithoutADeviceDropsWhatIsMeantForIt) {
  start_standard_world(kWorkers);
  if (!is_ready()) return;
  check(runner().erase("weir_l7_workers", worker_for(kFrom, kService)));
  const RunResult result = run(tcp(kFrom, kService));
  EXPECT_EQ(result.moved.count("drop_no_backend"), 1u) << describe(result);
}

TEST_F(L7Workers, ACountBeyondTheMapIsBounded) {
  BpfSettings settings;
  settings.l7_worker_count = WEIR_L7_WORKERS_MAX + 1;
  start(settings);
  if (!is_ready()) return;
  add_address(kL7Own, WEIR_ADDRESS_L7_OWN);
  for (std::uint32_t worker = 0; worker < WEIR_L7_WORKERS_MAX; ++worker)
    check(runner().write("weir_l7_workers", worker, BpfRunner::kAnyDevice));
  for (std::uint16_t port = 1000; port < 1000 + WEIR_L7_WORKERS_MAX + 1; ++port) {
    const RunResult result = run(tcp(at(kHost, 80), at(kL7Own, port)));
    EXPECT_EQ(result.moved.count("redirect_l7_local"), 1u) << describe(result);
  }
}

TEST_F(L7Workers, FlowsReachAllWorkers) {
  start_standard_world(kWorkers);
  if (!is_ready()) return;
  std::map<std::uint32_t, int> flows;
  for (std::uint16_t port = 1000; port < 1300; ++port)
    ++flows[worker_for(at(kClient, port), kService)];
  for (std::uint32_t worker = 0; worker < kWorkers; ++worker)
    EXPECT_GT(flows[worker], 60);
}

}  // namespace
}  // namespace weir::testing
