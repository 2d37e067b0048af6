// Mode nat: what each side sees of a flow, and when its record and its two index entries come and
// go. Random packets are in nat_random_test.cpp, what time does in nat_time_test.cpp.

#include <linux/bpf.h>
#include <netinet/in.h>

#include <algorithm>

#include "tests/bpf/nat_fixture.h"

namespace weir::testing {
namespace {

bool is_tcp(const NatFlow& flow) { return flow.protocol == wire::IpProtocol::kTcp; }

std::string name_of(const ::testing::TestParamInfo<NatFlow>& info) { return info.param.name; }

/// Every kind of flow: both families, both protocols, with the source rewritten and without.
class NatFlows : public ::testing::TestWithParam<NatFlow>, protected NatFixture {
 protected:
  void SetUp() override { start_nat_world(); }

  weir_nat_state state() {
    const auto records = records_in_use();
    EXPECT_EQ(records.size(), 1u);
    return records.empty() ? WEIR_NAT_FREE
                           : static_cast<weir_nat_state>(records[0].owner & WEIR_NAT_STATE_MASK);
  }
};

INSTANTIATE_TEST_SUITE_P(, NatFlows, ::testing::ValuesIn(nat_flows()), name_of);

TEST_P(NatFlows, AreTranslatedBothWays) {
  expect_forward(GetParam(), kSyn);
  expect_reply(GetParam(), kSynAck);
  expect_forward(GetParam());
  expect_reply(GetParam());
  EXPECT_EQ(events(WEIR_NAT_ADDED), 1u);
}

TEST_P(NatFlows, HaveOneRecordAndTwoEntries) {
  expect_forward(GetParam(), kSyn);
  expect_reply(GetParam(), kSynAck);
  expect_forward(GetParam());
  const auto records = records_in_use();
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(entry_count(GetParam()), 2u);
  EXPECT_EQ(records[0].vip_id, GetParam().id);
  EXPECT_EQ(records[0].backend_id, GetParam().id);
}

TEST_P(NatFlows, CountTheFirstPacketAsANewFlowAndNoOther) {
  const PacketBuilder syn = nat_packet(GetParam(), GetParam().client, GetParam().vip, kSyn);
  const std::string vip = fmt::format("vip {}", GetParam().id);
  const std::string backend = fmt::format("backend {}", GetParam().id);
  const std::uint64_t bytes = syn.bytes().size();
  EXPECT_EQ(run(syn).moved,
            (std::map<std::string, CounterDelta>{
                {"tx_nat", {1, bytes, 0}}, {vip, {1, bytes, 1}}, {backend, {1, bytes, 1}}}));
  EXPECT_EQ(run(syn).moved,
            (std::map<std::string, CounterDelta>{
                {"tx_nat", {1, bytes, 0}}, {vip, {1, bytes, 0}}, {backend, {1, bytes, 0}}}));
}

TEST_P(NatFlows, GoThroughTheirStates) {
  expect_forward(GetParam(), kSyn);
  EXPECT_EQ(state(), WEIR_NAT_NEW);
  expect_reply(GetParam(), kSynAck);
  EXPECT_EQ(state(), WEIR_NAT_REPLIED);
  expect_forward(GetParam());
  EXPECT_EQ(state(), is_tcp(GetParam()) ? WEIR_NAT_ESTABLISHED : WEIR_NAT_REPLIED);
  if (!is_tcp(GetParam())) return;
  expect_reply(GetParam(), kFin);
  EXPECT_EQ(state(), WEIR_NAT_ESTABLISHED) << "a half-closed connection lives";
  expect_reply(GetParam());
  expect_forward(GetParam(), kFin);
  EXPECT_EQ(state(), WEIR_NAT_CLOSING);
  expect_reply(GetParam());
}

TEST_P(NatFlows, AReplyToNoFlowIsPassedUntouched) {
  const auto frame = nat_packet(GetParam(), GetParam().backend, GetParam().source).bytes();
  const RunResult result = run(frame);
  EXPECT_EQ(result.action, static_cast<std::uint32_t>(XDP_PASS)) << describe(result);
  EXPECT_EQ(result.output, frame);
  EXPECT_TRUE(records_in_use().empty());
}

TEST_P(NatFlows, APacketThatIsNoReplyIsPassedUntouchedBesideALivingFlow) {
  expect_forward(GetParam(), kSyn);
  NatFlow other = GetParam();
  other.backend.port = wire::Port{9999};
  const auto frame = nat_packet(other, other.backend, other.source).bytes();
  const RunResult result = run(frame);
  EXPECT_EQ(result.action, static_cast<std::uint32_t>(XDP_PASS)) << describe(result);
  EXPECT_EQ(result.output, frame);
}

TEST_P(NatFlows, ADatagramWithoutAChecksumStaysWithout) {
  if (is_tcp(GetParam()) || !GetParam().vip.address.is_v4()) return;
  const auto without = [](const PacketBuilder& packet) {
    Frame frame = packet.bytes();
    frame[14 + 20 + 6] = frame[14 + 20 + 7] = std::byte{0};
    return frame;
  };
  const RunResult there = run(without(nat_packet(GetParam(), GetParam().client, GetParam().vip)));
  EXPECT_EQ(there.output,
            without(to_backend(nat_packet(GetParam(), GetParam().source, GetParam().backend))));
  const RunResult back =
      run(without(nat_packet(GetParam(), GetParam().backend, GetParam().source)));
  EXPECT_EQ(back.output,
            without(to_client(nat_packet(GetParam(), GetParam().vip, GetParam().client))));
}

TEST_P(NatFlows, AWrongChecksumStaysWrong) {
  expect_forward(GetParam(), kSyn);
  const auto spoiled = [](const PacketBuilder& packet) {
    Frame frame = packet.bytes();
    frame.back() ^= std::byte{1};
    return frame;
  };
  const RunResult there = run(spoiled(nat_packet(GetParam(), GetParam().client, GetParam().vip)));
  EXPECT_EQ(there.output,
            spoiled(to_backend(nat_packet(GetParam(), GetParam().source, GetParam().backend))));
}

/// The second fragment of a datagram.
PacketBuilder fragment_between(const wire::Endpoint& from, const wire::Endpoint& to,
                               wire::IpProtocol protocol) {
  return PacketBuilder::transport(from, to, protocol)
      .identification(7)
      .fragment_offset(3)
      .payload("the rest of the datagram");
}

const Shape kFirstFragment = [](PacketBuilder& packet) {
  packet.identification(7).more_fragments().payload("sixteen bytes of");
};

TEST_P(NatFlows, LaterFragmentsFollowTheFirstOneToTheBackend) {
  expect_forward(GetParam(), kSyn);
  expect_forward(GetParam(), kFirstFragment);
  const NatFlow& flow = GetParam();
  const RunResult result = run(fragment_between(flow.client, flow.vip, flow.protocol));
  EXPECT_TRUE(result.moved.contains("tx_nat")) << describe(result);
  EXPECT_EQ(result.output,
            to_backend(fragment_between(flow.source, flow.backend, flow.protocol)).bytes())
      << describe(result);
}

TEST_P(NatFlows, LaterFragmentsFollowTheFirstOneToTheClient) {
  expect_forward(GetParam(), kSyn);
  expect_reply(GetParam(), kFirstFragment);
  const NatFlow& flow = GetParam();
  const RunResult result = run(fragment_between(flow.backend, flow.source, flow.protocol));
  EXPECT_TRUE(result.moved.contains("tx_nat_reply")) << describe(result);
  EXPECT_EQ(result.output,
            to_client(fragment_between(flow.vip, flow.client, flow.protocol)).bytes())
      << describe(result);
}

TEST_P(NatFlows, ALaterFragmentThatComesFirstIsDroppedForAVipAndPassedForTheRest) {
  expect_forward(GetParam(), kSyn);
  const NatFlow& flow = GetParam();
  EXPECT_TRUE(
      run(fragment_between(flow.client, flow.vip, flow.protocol)).moved.contains("drop_fragment"));
  const auto frame = fragment_between(flow.backend, flow.source, flow.protocol).bytes();
  const RunResult result = run(frame);
  EXPECT_EQ(result.action, static_cast<std::uint32_t>(XDP_PASS)) << describe(result);
  EXPECT_EQ(result.output, frame);
}

TEST_P(NatFlows, TheirSendersAreToldWhenTheHopLimitIsUsedUp) {
  const NatFlow& flow = GetParam();
  expect_forward(flow, kSyn);
  const RunResult there = run(nat_packet(flow, flow.client, flow.vip,
                                         [](PacketBuilder& packet) { packet.time_to_live(1); }));
  EXPECT_TRUE(there.moved.contains("tx_ttl_exceeded")) << describe(there);
  const RunResult back = run(nat_packet(flow, flow.backend, flow.source,
                                        [](PacketBuilder& packet) { packet.time_to_live(1); }));
  EXPECT_TRUE(back.moved.contains("tx_ttl_exceeded")) << describe(back);
}

TEST_P(NatFlows, AReplyBeforeAnythingWasSentIsPassedUntouched) {
  const NatFlow& flow = GetParam();
  const RunResult there = run(nat_packet(flow, flow.client, flow.vip,
                                         [](PacketBuilder& packet) { packet.time_to_live(1); }));
  EXPECT_TRUE(there.moved.contains("tx_ttl_exceeded")) << describe(there);
  const auto frame = nat_packet(flow, flow.backend, flow.source).bytes();
  const RunResult back = run(frame);
  EXPECT_TRUE(back.moved.contains("pass_not_a_vip")) << describe(back);
  EXPECT_EQ(back.output, frame);
  expect_forward(flow);
  expect_reply(flow);
}

TEST_P(NatFlows, OneThatLostTheClientsEntryGetsItBack) {
  const NatFlow& flow = GetParam();
  expect_forward(flow, kSyn);
  expect_reply(flow, kSynAck);
  check(runner().erase("weir_nat_index", flow_key(flow.client, flow.vip, flow.protocol)));
  expect_forward(flow);
  EXPECT_EQ(entry_count(flow), 2u);
  EXPECT_EQ(records_in_use().size(), 1u);
  EXPECT_EQ(events(WEIR_NAT_REPAIRED), 1u);
}

TEST_P(NatFlows, OneThatLostTheBackendsEntryBeginsAnewWhileNobodyHasAnswered) {
  const NatFlow& flow = GetParam();
  expect_forward(flow, kSyn);
  check(runner().erase("weir_nat_index", flow_key(flow.backend, flow.source, flow.protocol)));
  expect_forward(flow, kSyn);
  EXPECT_EQ(entry_count(flow), 2u);
  EXPECT_EQ(records_in_use().size(), 1u);
  expect_reply(flow, kSynAck);
}

TEST_P(NatFlows, AStaleEntryIsRemovedWhereItIsMet) {
  const NatFlow& flow = GetParam();
  const weir_nat_entry stale{.record = 3, .generation = 77};
  const weir_nat_entry stale_reply{.record = 3 | WEIR_NAT_REPLY, .generation = 77};
  check(runner().write("weir_nat_index", flow_key(flow.client, flow.vip, flow.protocol), stale));
  check(runner().write("weir_nat_index", flow_key(flow.backend, flow.source, flow.protocol),
                       stale_reply));
  expect_forward(flow, kSyn);
  expect_reply(flow, kSynAck);
  EXPECT_EQ(events(WEIR_NAT_REPAIRED), 2u);
}

TEST_P(NatFlows, AnEntryThatLeadsToAnotherFlowsRecordIsNoFlow) {
  const NatFlow& flow = GetParam();
  expect_forward(flow, kSyn);
  NatFlow other = flow;
  other.client.port = other.source.port = wire::Port{40001};
  auto entry = runner().read<weir_nat_entry>("weir_nat_index",
                                             flow_key(flow.client, flow.vip, flow.protocol));
  ASSERT_TRUE(entry.has_value());
  check(
      runner().write("weir_nat_index", flow_key(other.client, other.vip, other.protocol), *entry));
  const RunResult result = run(nat_packet(other, other.client, other.vip));
  EXPECT_FALSE(result.moved.contains("tx_nat")) << describe(result);
  expect_reply(flow);
}

class Nat : public ::testing::Test, protected NatFixture {
 protected:
  static constexpr std::uint32_t kFew = 16;  ///< every record is a candidate for every flow

  void SetUp() override { start_nat_world(); }

  /// The source that the backend sees of what a client sends.
  wire::Endpoint source_of(const NatFlow& flow) {
    run(nat_packet(flow, flow.client, flow.vip, kSyn));
    for (const weir_nat_flow& record : records_in_use()) {
      if (record.client_port_be != htons(flow.client.port.value()) ||
          !std::ranges::equal(record.client.bytes, flow.client.address.bytes) ||
          record.vip_port_be != htons(flow.vip.port.value()))
        continue;
      wire::IpAddress address;
      std::ranges::copy(record.source.bytes, address.bytes.begin());
      return at(address, ntohs(record.source_port_be));
    }
    ADD_FAILURE() << "the flow has no record";
    return {};
  }
  void expect_dropped(const NatFlow& flow, std::string_view verdict, const Shape& shape = {}) {
    const RunResult result = run(nat_packet(flow, flow.client, flow.vip, shape));
    EXPECT_TRUE(result.moved.contains(std::string{verdict})) << describe(result);
  }
  static weir_backend backend_of(const NatFlow& flow, const wire::IpAddress& address) {
    weir_backend backend = backend_at(address, flow.id);
    backend.port_be = htons(flow.backend.port.value());
    return backend;
  }
};

TEST_F(Nat, APortOutsideTheRangeBecomesOneInside) {
  NatFlow flow = kFullNat;
  flow.client.port = wire::Port{1025};
  flow.source = source_of(flow);
  EXPECT_EQ(flow.source.address, kOuterSource);
  EXPECT_GE(flow.source.port.value(), kPortFirst);
  EXPECT_LE(flow.source.port.value(), kPortLast);
  EXPECT_EQ(events(WEIR_NAT_PORT_CHANGED), 1u);
  expect_forward(flow);
  expect_reply(flow);
}

TEST_F(Nat, TwoClientsWithTheSamePortAreToldApart) {
  const NatFlow first = kFullNat;
  NatFlow second = kFullNat;
  second.client.address = v4(203, 0, 113, 8);
  expect_forward(first, kSyn);
  second.source = source_of(second);
  EXPECT_NE(second.source, first.source);
  EXPECT_EQ(events(WEIR_NAT_PORT_CHANGED), 1u);
  expect_reply(first);
  expect_reply(second);
  expect_forward(first);
  expect_forward(second);
}

TEST_F(Nat, OnePortServesManyBackends) {
  NatFlow other = kFullNat;
  other.vip = at(kVip, 8000);
  other.id = 9;
  other.backend = at(v4(192, 0, 2, 12), 8080);
  add_nat(other, WEIR_VIP_SNAT);
  expect_forward(kFullNat, kSyn);
  expect_forward(other, kSyn);
  expect_reply(kFullNat);
  expect_reply(other);
  EXPECT_EQ(events(WEIR_NAT_PORT_CHANGED), 0u);
}

TEST_F(Nat, TwoServicesThatShareABackendAreToldApartWithoutSourceNatToo) {
  const NatFlow first = nat_flows()[4];
  NatFlow second = first;
  second.vip = at(kVip, 8001);
  second.id = 9;
  add_nat(second, 0);
  expect_forward(first, kSyn);
  second.source = source_of(second);
  EXPECT_EQ(second.source.address, kClient);
  EXPECT_NE(second.source.port, first.source.port);
  expect_reply(first);
  expect_reply(second);
}

TEST_F(Nat, AnErrorOfAnUnknownFlowIsDroppedForTheVipAndPassedForTheRest) {
  const auto quoted = nat_packet(kFullNat, kFullNat.vip, kFullNat.client).ip_bytes();
  EXPECT_TRUE(run(icmp(kHost, kVip, 3, 4).payload(quoted)).moved.contains("drop_nat_no_flow"));
  const auto back = nat_packet(kFullNat, kFullNat.source, kFullNat.backend).ip_bytes();
  const auto frame = icmp(kBackend, kOuterSource, 3, 4).payload(back).bytes();
  const RunResult result = run(frame);
  EXPECT_EQ(result.action, static_cast<std::uint32_t>(XDP_PASS)) << describe(result);
  EXPECT_EQ(result.output, frame);
}

TEST_F(Nat, WhatElseComesToTheNodesAddressIsTheNodes) {
  establish(kFullNat);
  for (const PacketBuilder& packet :
       {tcp(at(kBackend, 22), at(kOuterSource, 40000)),
        tcp(at(kClient, 50000), at(kOuterSource, 22)), echo_request(kClient, kOuterSource),
        udp(at(kBackend, 8080), at(kOuterSource, 40000))}) {
    const RunResult result = run(packet);
    EXPECT_EQ(result.action, static_cast<std::uint32_t>(XDP_PASS)) << describe(result);
    EXPECT_EQ(result.output, packet.bytes());
  }
}

TEST_F(Nat, ARstOfNoFlowIsDropped) { expect_dropped(kFullNat, "drop_nat_no_flow", kRst); }

TEST_F(Nat, ARstEndsAHandshakeAndIsNotedOfAnEstablishedFlow) {
  expect_forward(kFullNat, kSyn);
  expect_reply(kFullNat, kRst);
  ASSERT_EQ(records_in_use().size(), 1u);
  EXPECT_EQ(records_in_use()[0].owner & WEIR_NAT_STATE_MASK, WEIR_NAT_CLOSING);
  establish(kFullNat);
  expect_reply(kFullNat, kRst);
  ASSERT_EQ(records_in_use().size(), 1u);
  EXPECT_EQ(records_in_use()[0].owner & WEIR_NAT_STATE_MASK, WEIR_NAT_ESTABLISHED);
  EXPECT_NE(records_in_use()[0].owner & WEIR_NAT_RESET, 0u);
}

TEST_F(Nat, ASynAfterTheEndBeginsANewFlow) {
  establish(kFullNat);
  expect_forward(kFullNat, kFin);
  expect_reply(kFullNat, kFin);
  EXPECT_EQ(
      run(nat_packet(kFullNat, kFullNat.client, kFullNat.vip, kSyn)).moved.at("vip 1").new_flows,
      1u);
  EXPECT_EQ(events(WEIR_NAT_FORGOTTEN), 1u);
  EXPECT_EQ(records_in_use().size(), 1u);
  expect_reply(kFullNat, kSynAck);
}

TEST_F(Nat, ASynDoesNotEndALivingFlow) {
  establish(kFullNat);
  expect_forward(kFullNat, kSyn);
  EXPECT_EQ(events(WEIR_NAT_ADDED), 1u);
  EXPECT_EQ(records_in_use()[0].owner & WEIR_NAT_STATE_MASK, WEIR_NAT_ESTABLISHED);
}

TEST_F(Nat, AnErrorDoesNotKeepAFlowAliveNorClosesIt) {
  expect_forward(kFullNat, kSyn);
  const auto quoted = nat_packet(kFullNat, kFullNat.source, kFullNat.backend).ip_bytes();
  run(icmp(kBackend, kOuterSource, 3, 1).payload(quoted));
  EXPECT_EQ(records_in_use()[0].owner & WEIR_NAT_STATE_MASK, WEIR_NAT_NEW);
}

TEST_F(Nat, ADrainingBackendKeepsItsFlowsAndGetsNoOthers) {
  const NatFlow started = flow_of_port(40001);
  establish(kFullNat);
  expect_forward(started, kSyn);
  weir_backend draining = backend_of(kFullNat, kBackend);
  draining.flags |= WEIR_BACKEND_DRAINING;
  add_backend(1, draining);
  NatFlow moved = started;
  moved.backend.address = v4(192, 0, 2, 12);
  add_backend(9, backend_of(kFullNat, moved.backend.address));
  publish(1, std::vector<std::uint32_t>(kTableSize, 9), std::vector<std::uint32_t>(kTableSize, 1));
  expect_forward(kFullNat);
  expect_reply(kFullNat);
  expect_forward(kFullNat, kSyn);
  expect_forward(moved, kSyn);
  expect_reply(moved, kSynAck);
  EXPECT_EQ(events(WEIR_NAT_FORGOTTEN), 1u);
  EXPECT_EQ(records_in_use().size(), 2u);
}

TEST_F(Nat, AFlowOfARetiredBackendIsForgottenWithBothEntries) {
  establish(kFullNat);
  weir_backend retired = backend_of(kFullNat, kBackend);
  retired.flags = 0;
  add_backend(1, retired);
  NatFlow moved = kFullNat;
  moved.backend.address = v4(192, 0, 2, 12);
  add_backend(9, backend_of(kFullNat, moved.backend.address));
  publish(1, std::vector<std::uint32_t>(kTableSize, 9));
  expect_forward(moved, kSyn);
  EXPECT_EQ(entry_count(moved), 2u);
  EXPECT_EQ(entry_count(kFullNat), 1u) << "the client's, which now leads to the new backend";
  EXPECT_EQ(records_in_use().size(), 1u);
  expect_reply(moved);
}

TEST_F(Nat, AVipWithoutBackendsRefuses) {
  weir_backend retired = backend_of(kFullNat, kBackend);
  retired.flags = 0;
  establish(kFullNat);
  add_backend(1, retired);
  check(runner().erase("weir_tables", std::uint32_t{1}));
  expect_dropped(kFullNat, "drop_no_backend", kSyn);
  EXPECT_TRUE(records_in_use().empty());
}

TEST_F(Nat, ABackendOfTheOtherFamilyIsAnInternalError) {
  add_backend(1, backend_at(kBackend6, 1));
  expect_dropped(kFullNat, "drop_internal", kSyn);
  EXPECT_TRUE(records_in_use().empty());
}

TEST_F(Nat, ABackendBehindAnotherDeviceIsRedirectedTo) {
  check(runner().write("weir_devices", kOtherDevice, BpfRunner::kAnyDevice));
  weir_backend backend = backend_at(kBackend, 1, kOtherDevice);
  backend.port_be = htons(8080);
  add_backend(1, backend);
  const RunResult result = run(nat_packet(kFullNat, kFullNat.client, kFullNat.vip, kSyn));
  EXPECT_TRUE(result.moved.contains("redirect_nat")) << describe(result);
  EXPECT_EQ(result.output,
            to_backend(nat_packet(kFullNat, kFullNat.source, kFullNat.backend, kSyn)).bytes());
}

TEST_F(Nat, AReplyLeavesByTheDeviceThatTheClientCameInBy) {
  check(runner().write("weir_devices", kOtherDevice, BpfRunner::kAnyDevice));
  establish(kFullNat);
  for (std::uint32_t index = 0; index < kRecords; ++index) {
    auto record = runner().read<weir_nat_flow>("weir_nat_flows", index);
    ASSERT_TRUE(record.has_value());
    if ((record->owner & WEIR_NAT_STATE_MASK) == WEIR_NAT_FREE) continue;
    record->ifindex = kOtherDevice;
    check(runner().write("weir_nat_flows", index, *record));
  }
  const RunResult result = run(nat_packet(kFullNat, kFullNat.backend, kFullNat.source));
  EXPECT_TRUE(result.moved.contains("redirect_nat_reply")) << describe(result);
}

TEST_F(Nat, AReplyHasTheTagThatTheClientsPacketsHad) {
  const auto tagged = [](const PacketBuilder& packet) {
    Frame frame = packet.bytes();
    const Frame tag{std::byte{0x81}, std::byte{0}, std::byte{0}, std::byte{5}};
    frame.insert(frame.begin() + 12, tag.begin(), tag.end());
    return frame;
  };
  run(tagged(nat_packet(kFullNat, kFullNat.client, kFullNat.vip, kSyn)));
  const RunResult result = run(nat_packet(kFullNat, kFullNat.backend, kFullNat.source, kSynAck));
  EXPECT_EQ(result.output,
            tagged(to_client(nat_packet(kFullNat, kFullNat.vip, kFullNat.client, kSynAck))));
}

TEST_F(Nat, APacketBeyondTheNextHopsMtuIsAnswered) {
  const RunResult result =
      run(nat_packet(kFullNat, kFullNat.client, kFullNat.vip, [](auto& packet) {
        packet.do_not_fragment().payload(std::string(1500, 'x'));
      }));
  EXPECT_TRUE(result.moved.contains("tx_too_big")) << describe(result);
}

TEST_F(Nat, EveryAddressOfAPrefixAnswersAsItself) {
  NatFlow flow = kFullNat;
  flow.vip = at(v4(198, 51, 100, 130), 80);
  flow.id = 9;
  weir_vip vip = vip_entry(9, WEIR_MODE_NAT);
  vip.flags = WEIR_VIP_SNAT;
  const wire::IpAddress first = v4(198, 51, 100, 128);
  add_vip(at(first, 80), IPPROTO_TCP, vip);
  vip.protocol = 0;
  check(runner().write("weir_vips", std::uint32_t{9}, vip));
  add_address(first, WEIR_ADDRESS_VIP);
  add_to_filter(flow.vip.address);
  translate(flow.vip.address);
  check(runner().write("weir_prefixes", weir_prefix_key{96 + 28, abi(first)}, abi(first)));
  add_backend(9, backend_of(flow, kBackend));
  publish(9, std::vector<std::uint32_t>(kTableSize, 9));
  establish(flow);
  expect_reply(flow);
}

TEST_F(Nat, ASourceThatTheListDeniesIsDroppedInTheMiddleOfItsFlowToo) {
  establish(kFullNat);
  InnerMap list = source_list();
  list.add(weir_prefix_key{128, abi(kClient)}, std::uint32_t{WEIR_LIST_DENY});
  check(runner().publish_map("weir_lists", 1, list));
  weir_vip vip = vip_entry(1, WEIR_MODE_NAT);
  vip.flags = WEIR_VIP_SNAT | WEIR_VIP_SOURCE_LIST;
  add_vip(kFullNat.vip, IPPROTO_TCP, vip);
  expect_dropped(kFullNat, "drop_source");
}

/// Tables of so few records that every one is a candidate.
class NatFull : public Nat {
 protected:
  void SetUp() override { start_nat_world(kFew); }

  static std::uint16_t port(std::uint32_t i) { return static_cast<std::uint16_t>(40001 + i); }
  static NatFlow nth(std::uint32_t i, const NatFlow& flow = kFullNat) {
    return flow_of_port(port(i), flow);
  }
};

TEST_F(NatFull, LivingFlowsStayAndANewOneIsDropped) {
  for (std::uint32_t i = 0; i < kFew; ++i)
    establish(nth(i));
  expect_dropped(nth(kFew), "drop_nat_full", kSyn);
  EXPECT_EQ(events(WEIR_NAT_NO_RECORD), 1u);
  for (std::uint32_t i = 0; i < kFew; ++i) {
    expect_forward(nth(i));
    expect_reply(nth(i));
  }
}

TEST_F(NatFull, AHandshakeGivesWayWithBothEntries) {
  for (std::uint32_t i = 0; i < kFew; ++i)
    i == 5 ? expect_forward(nth(i), kSyn) : establish(nth(i));
  expect_forward(nth(kFew), kSyn);
  EXPECT_EQ(events(WEIR_NAT_EVICTED_NEW), 1u);
  EXPECT_EQ(entry_count(nth(5)), 0u);
  EXPECT_EQ(entry_count(nth(kFew)), 2u);
  establish(nth(kFew));
}

TEST_F(NatFull, AClosingFlowGivesWayBeforeAHandshake) {
  for (std::uint32_t i = 0; i < kFew; ++i)
    expect_forward(nth(i), kSyn);
  expect_reply(nth(3), kRst);
  expect_forward(nth(kFew), kSyn);
  EXPECT_EQ(events(WEIR_NAT_EVICTED_CLOSING), 1u);
  EXPECT_EQ(events(WEIR_NAT_EVICTED_NEW), 0u);
  EXPECT_EQ(entry_count(nth(3)), 0u);
}

TEST_F(NatFull, ARecordForgetsTheWayBackOfTheFlowBefore) {
  for (std::uint32_t i = 0; i < kFew; ++i)
    expect_forward(nth(i), kSyn);
  const NatFlow next = nth(kFew);
  run(nat_packet(next, next.client, next.vip,
                 [](PacketBuilder& packet) { packet.syn().time_to_live(1); }));
  EXPECT_EQ(events(WEIR_NAT_EVICTED_NEW), 1u);
  const RunResult back = run(nat_packet(next, next.backend, next.source, kSynAck));
  EXPECT_TRUE(back.moved.contains("pass_not_a_vip")) << describe(back);
}

TEST_F(NatFull, AFloodMovesOutTheFloodAndNoLivingFlow) {
  for (std::uint32_t i = 0; i < kFew / 2; ++i)
    establish(nth(i));
  for (std::uint32_t i = kFew; i < kFew + 500; ++i)
    expect_forward(nth(i), kSyn);
  for (std::uint32_t i = 0; i < kFew / 2; ++i)
    expect_reply(nth(i));
  EXPECT_EQ(records_in_use().size(), kFew);
  EXPECT_EQ(events(WEIR_NAT_EVICTED_NEW), 500u - kFew / 2);
}

TEST_F(NatFull, AUdpFlowThatWasAnsweredStays) {
  const NatFlow udp_flow = nat_flows()[1];
  for (std::uint32_t i = 0; i < kFew; ++i) {
    expect_forward(nth(i, udp_flow));
    expect_reply(nth(i, udp_flow));
  }
  expect_dropped(nth(kFew, udp_flow), "drop_nat_full");
}

/// Full NAT with two source ports in all.
class NatPorts : public Nat {
 protected:
  void SetUp() override { start_nat_world(kRecords, 40000, 40001); }
  static NatFlow client(std::uint8_t last) {
    NatFlow flow = kFullNat;
    flow.client.address = v4(203, 0, 113, last);
    return flow;
  }
  /// A client's flow with the port that it was given, established.
  NatFlow living(std::uint8_t last) {
    NatFlow flow = client(last);
    flow.source = source_of(flow);
    establish(flow);
    return flow;
  }
};

TEST_F(NatPorts, WhenAllAreTakenAFlowIsDroppedAndLeavesNothingBehind) {
  const NatFlow first = living(1), second = living(2);
  EXPECT_NE(first.source, second.source);
  expect_dropped(client(3), "drop_nat_full", kSyn);
  EXPECT_EQ(events(WEIR_NAT_NO_PORT), 1u);
  EXPECT_EQ(records_in_use().size(), 2u);
  EXPECT_EQ(entry_count(client(3)) - entry_count(client(4)), 0u);
  expect_reply(first);
  expect_reply(second);
}

TEST_F(NatPorts, AFloodOfHandshakesTakesNoneFromWhoComesAndNoneFromWhoIsThere) {
  const NatFlow early = living(1);
  for (std::uint8_t i = 100; i < 200; ++i)
    EXPECT_TRUE(has_room_for(client(i)));
  const NatFlow late = living(2);
  EXPECT_NE(late.source, early.source);
  expect_reply(early);
  expect_dropped(client(3), "drop_nat_full", kSyn);
  EXPECT_EQ(events(WEIR_NAT_EVICTED_NEW), 100u);
  EXPECT_EQ(events(WEIR_NAT_NO_PORT), 1u);
  EXPECT_EQ(records_in_use().size(), 2u);
}

/// What tests of modes without NAT say holds with a NAT table too, and without one nothing is
/// translated.
class NatWithoutTable : public Nat {
 protected:
  void SetUp() override { start_nat_world(0); }
};

TEST_F(NatWithoutTable, NothingIsTranslated) {
  for (const NatFlow& flow : nat_flows()) {
    const RunResult there = run(nat_packet(flow, flow.client, flow.vip, kSyn));
    EXPECT_TRUE(there.moved.contains("drop_internal")) << describe(there);
    const PacketBuilder reply = nat_packet(flow, flow.backend, flow.source);
    const RunResult back = run(reply);
    EXPECT_TRUE(back.moved.contains("pass_not_a_vip")) << describe(back);
    EXPECT_EQ(back.output, reply.bytes());
    EXPECT_EQ(entry_count(flow), 0u);
  }
  EXPECT_EQ(events(WEIR_NAT_ADDED), 0u);
}

/// An ICMP error of a router on the way, about the flow's packet from one end to the other.
struct NatError {
  NatFlow flow;
  std::uint8_t type;
  std::uint8_t code;
  std::size_t quoted_payload;  ///< bytes behind the quoted IP header
  std::string name;
  bool is_fragment = false;  ///< what is quoted is a first one
};

std::vector<NatError> nat_errors() {
  std::vector<NatError> errors;
  for (const NatFlow& flow : nat_flows()) {
    const bool is_v4 = flow.vip.address.is_v4();
    const auto too_big = static_cast<std::uint8_t>(is_v4 ? 3 : 2);
    const auto code = static_cast<std::uint8_t>(is_v4 ? 4 : 0);
    const auto exceeded = static_cast<std::uint8_t>(is_v4 ? 11 : 3);
    const auto parameter = static_cast<std::uint8_t>(is_v4 ? 12 : 4);
    errors.push_back({flow, too_big, code, 8, flow.name + "TooBigQuotingEightBytes"});
    errors.push_back({flow, too_big, code, 200, flow.name + "TooBigQuotingMore"});
    errors.push_back(
        {flow, too_big, code, is_v4 ? 8U : 16U, flow.name + "TooBigQuotingAFirstFragment", true});
    errors.push_back({flow, exceeded, 0, 28, flow.name + "TimeExceeded"});
    errors.push_back({flow, parameter, 0, 28, flow.name + "ParameterProblem"});
  }
  return errors;
}

class NatErrors : public ::testing::TestWithParam<NatError>, protected NatFixture {
 protected:
  void SetUp() override {
    start_nat_world();
    if (is_ready()) expect_forward(GetParam().flow, kSyn);
  }

  static PacketBuilder error(const wire::IpAddress& router, const wire::IpAddress& to,
                             const PacketBuilder& about) {
    const NatError& param = GetParam();
    auto quoted = about.ip_bytes();
    quoted.resize((param.flow.vip.address.is_v4() ? 20U : 40U) + param.quoted_payload);
    return icmp(router, to, param.type, param.code).icmp_rest(1400).payload(quoted);
  }
  static PacketBuilder segment(const wire::Endpoint& from, const wire::Endpoint& to) {
    return nat_packet(GetParam().flow, from, to, [](PacketBuilder& packet) {
      packet.payload(std::string(600, 'x'));
      if (GetParam().is_fragment) packet.more_fragments();
    });
  }
};

TEST_P(NatErrors, OfTheClientsSideReachTheBackendAboutWhatItSent) {
  const NatFlow& flow = GetParam().flow;
  const wire::IpAddress router =
      flow.vip.address.is_v4() ? v4(203, 0, 113, 1) : v6("2001:db8:7::1");
  const bool is_full = flow.source != flow.client;
  const RunResult result = run(error(router, flow.vip.address, segment(flow.vip, flow.client)));
  EXPECT_TRUE(result.moved.contains("tx_nat")) << describe(result);
  const Frame expected = to_backend(error(is_full ? flow.source.address : router,
                                          flow.backend.address, segment(flow.backend, flow.source)))
                             .bytes();
  EXPECT_EQ(result.output, expected) << describe(result) << "expected\n" << hexdump(expected);
}

TEST_P(NatErrors, OfTheBackendsSideReachTheClientAsTheVips) {
  const NatFlow& flow = GetParam().flow;
  const wire::IpAddress router = flow.vip.address.is_v4() ? v4(192, 0, 2, 254) : v6("2001:db8::fe");
  const RunResult result =
      run(error(router, flow.source.address, segment(flow.source, flow.backend)));
  EXPECT_TRUE(result.moved.contains("tx_nat_reply")) << describe(result);
  const Frame expected =
      to_client(error(flow.vip.address, flow.client.address, segment(flow.client, flow.vip)))
          .bytes();
  EXPECT_EQ(result.output, expected) << describe(result) << "expected\n" << hexdump(expected);
}

INSTANTIATE_TEST_SUITE_P(, NatErrors, ::testing::ValuesIn(nat_errors()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace weir::testing
