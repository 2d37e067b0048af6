#include "tests/bpf/nat_fixture.h"

#include <linux/bpf.h>
#include <netinet/in.h>

namespace weir::testing {

std::vector<NatFlow> nat_flows() {
  constexpr auto kTcp = wire::IpProtocol::kTcp;
  constexpr auto kUdp = wire::IpProtocol::kUdp;
  const wire::Endpoint from = at(kClient, 40000);
  const wire::Endpoint from6 = at(kClient6, 40000);
  const wire::Endpoint node = at(kOuterSource, 40000);
  const wire::Endpoint node6 = at(kOuterSource6, 40000);
  return {
      {"FullNatTcp4", kTcp, 1, from, at(kVip, 80), node, at(kBackend, 8080)},
      {"FullNatUdp4", kUdp, 2, from, at(kVip, 53), node, at(kBackend, 53)},
      {"FullNatTcp6", kTcp, 3, from6, at(kVip6, 80), node6, at(kBackend6, 8080)},
      {"FullNatUdp6", kUdp, 4, from6, at(kVip6, 53), node6, at(kBackend6, 53)},
      {"DestinationTcp4", kTcp, 5, from, at(kVip, 81), from, at(kBackend, 8081)},
      {"DestinationUdp4", kUdp, 6, from, at(kVip, 54), from, at(kBackend, 54)},
      {"DestinationTcp6", kTcp, 7, from6, at(kVip6, 81), from6, at(kBackend6, 8081)},
      {"DestinationUdp6", kUdp, 8, from6, at(kVip6, 54), from6, at(kBackend6, 54)},
  };
}

PacketBuilder nat_packet(const NatFlow& flow, const wire::Endpoint& from, const wire::Endpoint& to,
                         const Shape& shape) {
  PacketBuilder packet = PacketBuilder::transport(from, to, flow.protocol);
  packet.payload("payload").acknowledgment(2);  // of a SYN-ACK as the builder numbers it
  if (shape) shape(packet);
  return packet;
}

NatFlow flow_of_port(std::uint16_t port, const NatFlow& flow) {
  NatFlow other = flow;
  other.client.port = other.source.port = wire::Port{port};
  return other;
}

PacketBuilder to_backend(PacketBuilder packet, std::uint8_t hops) {
  return packet.time_to_live(hops - 1).macs(kOwnMac, kNextHopMac);
}

PacketBuilder to_client(PacketBuilder packet, std::uint8_t hops) {
  return packet.time_to_live(hops - 1).macs(kBalancerMac, kPeerMac);
}

weir_flow_key flow_key(const wire::Endpoint& from, const wire::Endpoint& to,
                       wire::IpProtocol protocol) {
  weir_flow_key key{};
  key.source = abi(from.address);
  key.destination = abi(to.address);
  key.source_port_be = htons(from.port.value());
  key.destination_port_be = htons(to.port.value());
  key.protocol = static_cast<std::uint8_t>(protocol);
  return key;
}

void NatFixture::start_nat_world(std::uint32_t records, std::uint16_t port_first,
                                 std::uint16_t port_last) {
  BpfSettings settings;
  settings.nat_records = records;
  settings.nat_port_first = port_first;
  settings.nat_port_last = port_last;
  start(settings);
  if (!is_ready()) return;
  for (const NatFlow& flow : nat_flows())
    add_nat(flow, flow.source == flow.client ? 0 : WEIR_VIP_SNAT);
  add_address(kVip, WEIR_ADDRESS_VIP);
  add_address(kVip6, WEIR_ADDRESS_VIP);
  add_address(kOuterSource, WEIR_ADDRESS_SNAT);
  add_address(kOuterSource6, WEIR_ADDRESS_SNAT);
  for (const wire::IpAddress& address :
       {kVip, kVip6, kOuterSource, kOuterSource6, kBackend, kBackend6})
    translate(address);
}

void NatFixture::add_nat(const NatFlow& flow, std::uint32_t vip_flags) {
  weir_vip vip = vip_entry(flow.id, WEIR_MODE_NAT);
  vip.flags = vip_flags;
  add_vip(flow.vip, static_cast<std::uint8_t>(flow.protocol), vip);
  weir_backend backend = backend_at(flow.backend.address, flow.id);
  if (flow.backend.port != flow.vip.port) backend.port_be = htons(flow.backend.port.value());
  add_backend(flow.id, backend);
  publish(flow.id, std::vector<std::uint32_t>(kTableSize, flow.id));
}

void NatFixture::expect_forward(const NatFlow& flow, const Shape& shape, std::uint8_t hops) {
  const RunResult result = run(nat_packet(flow, flow.client, flow.vip, shape));
  EXPECT_EQ(result.action, static_cast<std::uint32_t>(XDP_TX)) << describe(result);
  EXPECT_TRUE(result.moved.contains("tx_nat")) << describe(result);
  const Frame expected =
      to_backend(nat_packet(flow, flow.source, flow.backend, shape), hops).bytes();
  EXPECT_EQ(result.output, expected) << describe(result) << "expected\n" << hexdump(expected);
}

void NatFixture::expect_reply(const NatFlow& flow, const Shape& shape, std::uint8_t hops) {
  const RunResult result = run(nat_packet(flow, flow.backend, flow.source, shape));
  EXPECT_EQ(result.action, static_cast<std::uint32_t>(XDP_TX)) << describe(result);
  EXPECT_TRUE(result.moved.contains("tx_nat_reply")) << describe(result);
  const Frame expected = to_client(nat_packet(flow, flow.vip, flow.client, shape), hops).bytes();
  EXPECT_EQ(result.output, expected) << describe(result) << "expected\n" << hexdump(expected);
}

void NatFixture::establish(const NatFlow& flow) {
  expect_forward(flow, kSyn);
  expect_reply(flow, kSynAck);
  expect_forward(flow);
}

bool NatFixture::has_room_for(const NatFlow& flow) {
  return run(nat_packet(flow, flow.client, flow.vip, kSyn)).moved.contains("tx_nat");
}

std::uint64_t NatFixture::events(weir_nat_event event) {
  auto count = runner().read<std::uint64_t>("weir_nat_counters", static_cast<std::uint32_t>(event));
  EXPECT_TRUE(count.has_value());
  return count ? *count : 0;
}

std::uint32_t NatFixture::entry_count(const NatFlow& flow) {
  const weir_flow_key keys[] = {flow_key(flow.client, flow.vip, flow.protocol),
                                flow_key(flow.backend, flow.source, flow.protocol)};
  std::uint32_t count = 0;
  for (const weir_flow_key& key : keys)
    if (runner().read<weir_nat_entry>("weir_nat_index", key)) ++count;
  return count;
}

std::vector<weir_nat_flow> NatFixture::records_in_use() {
  std::vector<weir_nat_flow> found;
  for (std::uint32_t index = 0; index < kRecords; ++index) {
    auto record = runner().read<weir_nat_flow>("weir_nat_flows", index);
    if (record && (record->owner & WEIR_NAT_STATE_MASK) != WEIR_NAT_FREE) found.push_back(*record);
  }
  return found;
}

}  // namespace weir::testing
