#include "tests/bpf/verdict_worlds.h"

#include <netinet/in.h>

#include <algorithm>

#include "bpf/hash.h"

namespace weir::testing {
namespace {

constexpr std::uint32_t kIpv4PrefixBits = 96;  // before those of an IPv4 address in its mapped form

std::uint8_t policy_of(HashId vip) {
  switch (vip) {
    case kHashFiveTuple:
    case kHashAffinity:
      return WEIR_HASH_FIVE_TUPLE;
    case kHashSourcePort:
      return WEIR_HASH_SOURCE_PORT;
    case kHashSource:
      return WEIR_HASH_SOURCE;
  }
  return WEIR_HASH_FIVE_TUPLE;
}

std::uint32_t backend_of_slot(HashId vip, std::uint32_t slot) {
  return (vip - 1) * kHashSlots + slot + 1;
}

}  // namespace

std::uint32_t hashed_backend(HashId vip, const wire::Endpoint& from, const wire::Endpoint& to) {
  weir_flow_key key{};
  key.source = abi(from.address);
  switch (policy_of(vip)) {
    case WEIR_HASH_FIVE_TUPLE:
      key = flow_key(from, to, wire::IpProtocol::kTcp);
      break;
    case WEIR_HASH_SOURCE_PORT:
      key.source_port_be = htons(from.port.value());
      break;
    default:
      break;
  }
  const BpfSettings settings;
  const std::uint64_t hash = weir_flow_hash(&key, settings.hash_seed[0], settings.hash_seed[1]);
  return backend_of_slot(vip, weir_slot_of(hash, kHashSlots));
}

void VerdictWorld::start_world(World world) {
  start_empty(world);
  if (is_ready()) fill(world);
}

void VerdictWorld::start_empty(World world) {
  BpfSettings settings;
  switch (world) {
    case World::kSilent:
      settings.answers_per_s = 0;
      return start_standard_world(settings);
    case World::kL7:
      return start_standard_world(kL7Workers);
    case World::kNat:
      return start_nat_world();
    case World::kNatOnePort:
      return start_nat_world(kRecords, kFrom.port.value(), kFrom.port.value());
    case World::kStandard:
      return start_standard_world();
    case World::kModes:
    case World::kVlans:
    case World::kServices:
    case World::kProtected:
    case World::kRefusing:
    case World::kQuic:
    case World::kHashes:
      return start(settings);
  }
}

void VerdictWorld::fill(World world) {
  switch (world) {
    case World::kStandard:
    case World::kNatOnePort:
      return;
    case World::kL7:
      return fill_l7();
    case World::kSilent:
      for (const wire::IpAddress& address : {kVip, kVip6})
        add_address(address, WEIR_ADDRESS_VIP | WEIR_ADDRESS_ECHO | WEIR_ADDRESS_REFUSE);
      return;
    case World::kModes:
      return fill_modes();
    case World::kVlans:
      return fill_vlans();
    case World::kServices:
      return fill_services();
    case World::kProtected:
      return fill_protected();
    case World::kRefusing:
      return fill_refusing();
    case World::kQuic:
      return fill_quic();
    case World::kHashes:
      return fill_hashes();
    case World::kNat:
      return fill_nat();
  }
}

void VerdictWorld::add_service(const wire::Endpoint& endpoint, std::uint8_t protocol,
                               const weir_vip& vip, const weir_backend& backend) {
  add_vip(endpoint, protocol, vip);
  add_backend(vip.id, backend);
  publish(vip.id, std::vector<std::uint32_t>(kTableSize, vip.id));
}

void VerdictWorld::add_service(const wire::Endpoint& endpoint, std::uint8_t protocol,
                               const weir_vip& vip) {
  add_service(endpoint, protocol, vip,
              backend_at(endpoint.address.is_v4() ? kBackend : kBackend6, vip.id));
}

void VerdictWorld::add_wide_service(std::uint32_t id, const wire::IpAddress& backend) {
  check(runner().write("weir_vips", id, vip_entry(id, WEIR_MODE_IPIP)));
  add_backend(id, backend_at(backend, id));
  publish(id, std::vector<std::uint32_t>(kTableSize, id));
}

void VerdictWorld::add_range(std::uint32_t id, std::uint8_t protocol,
                             const wire::IpAddress& address, std::uint16_t first_port,
                             std::uint32_t port_bits) {
  weir_range_key key{};
  key.prefix_length = WEIR_RANGE_PREFIX_BITS + port_bits;
  key.address = abi(address);
  key.protocol = protocol;
  key.port_be = htons(first_port);
  check(runner().write("weir_ranges", key, id));
}

void VerdictWorld::add_port(std::uint32_t id, std::uint8_t protocol,
                            const wire::Endpoint& endpoint) {
  weir_vip_key key{};
  key.address = abi(endpoint.address);
  key.port_be = htons(endpoint.port.value());
  key.protocol = protocol;
  check(runner().write("weir_services", key, id));
}

void VerdictWorld::add_prefix(const wire::IpAddress& first, std::uint32_t bits) {
  const std::uint32_t length = first.is_v4() ? kIpv4PrefixBits + bits : bits;
  check(runner().write("weir_prefixes", weir_prefix_key{length, abi(first)}, abi(first)));
}

void VerdictWorld::fill_modes() {
  struct Mode {
    ModeId id;
    bool is_v4;
    std::uint8_t protocol;
    std::uint8_t mode;
    wire::IpAddress backend;
    std::uint32_t ifindex = BpfRunner::kAnyDevice;
  };
  const Mode modes[] = {
      {kIpip4, true, IPPROTO_TCP, WEIR_MODE_IPIP, kBackend},
      {kIpip6, false, IPPROTO_TCP, WEIR_MODE_IPIP, kBackend6},
      {kIpip4Over6, true, IPPROTO_UDP, WEIR_MODE_IPIP, kBackend6},
      {kIpip6Over4, false, IPPROTO_UDP, WEIR_MODE_IPIP, kBackend},
      {kGue4, true, IPPROTO_TCP, WEIR_MODE_GUE, kBackend},
      {kGue6, false, IPPROTO_TCP, WEIR_MODE_GUE, kBackend6},
      {kGue4Over6, true, IPPROTO_UDP, WEIR_MODE_GUE, kBackend6},
      {kGue6Over4, false, IPPROTO_UDP, WEIR_MODE_GUE, kBackend},
      {kL2v4, true, IPPROTO_TCP, WEIR_MODE_L2, kBackend},
      {kL2v6, false, IPPROTO_UDP, WEIR_MODE_L2, kBackend6},
      {kIpip4Other, true, IPPROTO_TCP, WEIR_MODE_IPIP, kBackend, kOtherDevice},
      {kIpip6Other, false, IPPROTO_TCP, WEIR_MODE_IPIP, kBackend6, kOtherDevice},
      {kGue4Other, true, IPPROTO_TCP, WEIR_MODE_GUE, kBackend, kOtherDevice},
      {kGue6Other, false, IPPROTO_UDP, WEIR_MODE_GUE, kBackend6, kOtherDevice},
      {kL2v4Other, true, IPPROTO_UDP, WEIR_MODE_L2, kBackend, kOtherDevice},
  };
  check(runner().write("weir_devices", kOtherDevice, BpfRunner::kAnyDevice));
  for (const Mode& mode : modes)
    add_service(mode_port(mode.id, mode.is_v4), mode.protocol, vip_entry(mode.id, mode.mode),
                backend_at(mode.backend, mode.id, mode.ifindex));
  for (const wire::IpAddress& address : {kVip, kVip6})
    add_address(address, WEIR_ADDRESS_VIP);
}

void VerdictWorld::fill_vlans() {
  struct Vlan {
    VlanId id;
    std::uint8_t mode;
    std::uint16_t vlan;
    std::uint32_t ifindex = BpfRunner::kAnyDevice;
  };
  const Vlan vlans[] = {
      {kVlanIpip, WEIR_MODE_IPIP, kBackendVlan},
      {kVlanGue, WEIR_MODE_GUE, kBackendVlan},
      {kVlanL2, WEIR_MODE_L2, kBackendVlan},
      {kPlainIpip, WEIR_MODE_IPIP, WEIR_VLAN_NONE},
      {kPlainGue, WEIR_MODE_GUE, WEIR_VLAN_NONE},
      {kPlainL2, WEIR_MODE_L2, WEIR_VLAN_NONE},
      {kVlanOther, WEIR_MODE_L2, kBackendVlan, kOtherDevice},
      {kKeepOther, WEIR_MODE_L2, WEIR_VLAN_KEEP, kOtherDevice},
  };
  check(runner().write("weir_devices", kOtherDevice, BpfRunner::kAnyDevice));
  for (const Vlan& vlan : vlans) {
    weir_backend backend = backend_at(kBackend, vlan.id, vlan.ifindex);
    backend.vlan = vlan.vlan;
    add_service(vlan_port(vlan.id), IPPROTO_TCP, vip_entry(vlan.id, vlan.mode), backend);
  }
  add_address(kVip, WEIR_ADDRESS_VIP);
}

void VerdictWorld::fill_services() {
  for (const std::uint32_t id : {kEveryPort, kPortRange, kPrefix, kPrefixRange})
    add_wide_service(id, kBackend);
  for (const std::uint32_t id : {kPortRange6, kPrefix6, kEveryPort6})
    add_wide_service(id, kBackend6);
  add_range(kEveryPort, IPPROTO_TCP, kVipEveryPort, 0, 0);
  add_range(kEveryPort6, IPPROTO_UDP, kVipEveryPort6, 0, 0);
  add_range(kPortRange, IPPROTO_TCP, kVip, 8000, 13);
  add_range(kPortRange6, IPPROTO_UDP, kVip6, 5000, 13);
  add_range(kPrefixRange, IPPROTO_UDP, kWidePrefixFirst, 0, 0);
  add_service(at(kVip, 8003), IPPROTO_TCP, vip_entry(kPortInRange, WEIR_MODE_IPIP));
  add_service(at(kPrefixInside, 80), IPPROTO_TCP, vip_entry(kAddressInside, WEIR_MODE_IPIP));
  add_port(kPrefix, IPPROTO_TCP, at(kPrefixFirst, 80));
  add_port(kPrefix6, IPPROTO_UDP, at(kPrefixFirst6, 53));
  add_prefix(kPrefixFirst, 28);
  add_prefix(kPrefixFirst6, 64);
  add_prefix(kWidePrefixFirst, 28);
  constexpr std::uint32_t kWide = WEIR_ADDRESS_VIP | WEIR_ADDRESS_RANGES;
  for (const wire::IpAddress& address :
       {kVip, kVip6, kVipEveryPort, kVipEveryPort6, kWidePrefixFirst})
    add_address(address, kWide);
  for (const wire::IpAddress& address : {kPrefixFirst, kPrefixFirst6})
    add_address(address, WEIR_ADDRESS_VIP | WEIR_ADDRESS_ECHO);
  add_address(kPrefixInside, WEIR_ADDRESS_VIP);
  for (const wire::IpAddress& address :
       {kPrefixLast, kPrefixBeyond, kPrefixMiddle6, kPrefixBeyond6, kWidePrefixMiddle})
    add_to_filter(address);
}

weir_vip VerdictWorld::flagged(std::uint32_t id, std::uint32_t flags, std::uint8_t mode) {
  weir_vip vip = vip_entry(id, mode);
  vip.flags = flags;
  return vip;
}

/// A list that denies what it has, but for what it allows.
void VerdictWorld::publish_list(std::uint32_t id, std::initializer_list<Prefix> denied,
                                std::initializer_list<Prefix> allowed) {
  InnerMap list = source_list();
  for (const auto& [address, bits] : denied)
    list.add(weir_prefix_key{bits, abi(address)}, std::uint32_t{WEIR_LIST_DENY});
  for (const auto& [address, bits] : allowed)
    list.add(weir_prefix_key{bits, abi(address)}, std::uint32_t{WEIR_LIST_ALLOW});
  check(runner().publish_map("weir_lists", id, list));
}

void VerdictWorld::add_limited(std::uint32_t id, std::uint8_t protocol,
                               std::uint32_t weir_limits::*limit) {
  weir_vip vip = flagged(id, WEIR_VIP_LIMITS);
  vip.limits.*limit = 1;
  add_service(protected_port(id), protocol, vip);
  add_port(id, protocol, protected_port(id, false));
  if (id != kLimitWithoutMap)
    check(runner().publish_map("weir_source_limits", id, source_limits()));
}

void VerdictWorld::fill_protected() {
  constexpr std::uint32_t kBoth = WEIR_VIP_BLOCK_LIST | WEIR_VIP_SOURCE_LIST;
  const weir_vip listed[] = {
      flagged(kBlockList, WEIR_VIP_BLOCK_LIST),
      flagged(kDenyList, WEIR_VIP_SOURCE_LIST),
      flagged(kAllowList, WEIR_VIP_SOURCE_LIST),
      flagged(kBothLists, kBoth),
      flagged(kListMissing, WEIR_VIP_SOURCE_LIST),
      flagged(kProtectedL2, WEIR_VIP_BLOCK_LIST, WEIR_MODE_L2),
      flagged(kProtectedGue, WEIR_VIP_BLOCK_LIST, WEIR_MODE_GUE),
  };
  for (const weir_vip& vip : listed) {
    add_service(protected_port(vip.id), IPPROTO_TCP, vip);
    add_port(vip.id, IPPROTO_TCP, protected_port(vip.id, false));
  }
  const Prefix blocked{kBlocked, 128}, blocked6{v6("2001:db8:bad::"), 48};
  const Prefix all{v6("::"), 0}, around{v4(203, 0, 113, 0), kIpv4PrefixBits + 24};
  const Prefix around6{v6("2001:db8:7::"), 48};
  const Prefix client{kClient, 128}, client6{kClient6, 128};
  publish_list(0, {blocked, blocked6}, {});
  publish_list(kDenyList, {around, around6}, {client, client6});
  publish_list(kAllowList, {all}, {client, client6});
  publish_list(kBothLists, {}, {blocked, blocked6});
  add_limited(kSourcePackets, IPPROTO_TCP, &weir_limits::packets_per_source);
  add_limited(kPackets, IPPROTO_UDP, &weir_limits::packets);
  add_limited(kSourceFlows, IPPROTO_TCP, &weir_limits::new_flows_per_source);
  add_limited(kFlows, IPPROTO_TCP, &weir_limits::new_flows);
  add_limited(kSourceFlowsUdp, IPPROTO_UDP, &weir_limits::new_flows_per_source);
  add_limited(kLimitWithoutMap, IPPROTO_TCP, &weir_limits::packets_per_source);
  add_limited(kFlowsUdp, IPPROTO_UDP, &weir_limits::new_flows);
  for (const wire::IpAddress& address : {kVip, kVip6})
    add_address(address, WEIR_ADDRESS_VIP);
}

void VerdictWorld::fill_refusing() {
  const auto add_empty = [this](std::uint32_t id, const wire::Endpoint& endpoint,
                                std::uint8_t protocol, std::uint32_t flags) {
    add_vip(endpoint, protocol, flagged(id, flags));
    publish(id, std::vector<std::uint32_t>(kTableSize, 0));
  };
  add_service(kTo, IPPROTO_TCP, vip_entry(kRefusingTcp, WEIR_MODE_IPIP));
  add_empty(kRefusingNone, at(kVip, 90), IPPROTO_TCP, WEIR_VIP_REFUSE);
  add_empty(kRefusingNone6, at(kVip6, 90), IPPROTO_TCP, WEIR_VIP_REFUSE);
  add_empty(kRefusingNoneUdp, at(kVip, 91), IPPROTO_UDP, WEIR_VIP_REFUSE);
  add_empty(kRefusingNoneUdp6, at(kVip6, 91), IPPROTO_UDP, WEIR_VIP_REFUSE);
  add_empty(kRefusingQuiet, at(kVip, 92), IPPROTO_TCP, 0);
  for (const wire::IpAddress& address : {kVip, kVip6})
    add_address(address, WEIR_ADDRESS_VIP | WEIR_ADDRESS_REFUSE);
}

void VerdictWorld::fill_quic() {
  weir_vip vip = vip_entry(kQuicVip, WEIR_MODE_IPIP);
  vip.quic_id_bytes = 4;
  vip.quic_rotation = kQuicRotation;
  add_vip(at(kVip, 443), IPPROTO_UDP, vip);
  vip.id = kQuicVip6;
  add_vip(at(kVip6, 443), IPPROTO_UDP, vip);
  publish(kQuicVip, std::vector<std::uint32_t>(kTableSize, kQuicByFlow));
  publish(kQuicVip6, std::vector<std::uint32_t>(kTableSize, kQuicByFlow6));
  for (const std::uint32_t id :
       {kQuicByFlow, kQuicNamed, kQuicRetired, kQuicDraining, kQuicOfAnother}) {
    weir_backend backend = backend_at(kBackend, id == kQuicOfAnother ? kQuicVip6 : kQuicVip);
    if (id == kQuicRetired) backend.flags = 0;
    if (id == kQuicDraining) backend.flags |= WEIR_BACKEND_DRAINING;
    add_backend(id, backend);
  }
  for (const std::uint32_t id : {kQuicByFlow6, kQuicNamed6})
    add_backend(id, backend_at(kBackend6, kQuicVip6));
  InnerMap ids = quic_ids(), ids6 = quic_ids();
  std::uint8_t last = 0x0d;
  for (const std::uint32_t id : {kQuicNamed, kQuicRetired, kQuicDraining, kQuicOfAnother})
    ids.add(weir_quic_key{{0x0a, 0x0b, 0x0c, last++}}, id);
  ids6.add(weir_quic_key{{0x0a, 0x0b, 0x0c, 0x0d}}, std::uint32_t{kQuicNamed6});
  check(runner().publish_map("weir_quic", kQuicVip, ids));
  check(runner().publish_map("weir_quic", kQuicVip6, ids6));
  for (const wire::IpAddress& address : {kVip, kVip6})
    add_address(address, WEIR_ADDRESS_VIP);
}

void VerdictWorld::fill_hashes() {
  constexpr std::uint32_t kAffinity_s = 100;
  for (const HashId id : {kHashFiveTuple, kHashSourcePort, kHashSource, kHashAffinity}) {
    weir_vip vip = vip_entry(id, WEIR_MODE_IPIP);
    vip.hash = policy_of(id);
    if (id == kHashAffinity) vip.affinity_s = kAffinity_s;
    add_vip(hash_port(id), IPPROTO_TCP, vip);
    add_port(id, IPPROTO_TCP, hash_port(id, false));
    std::vector<std::uint32_t> slots;
    for (std::uint32_t slot = 0; slot < kHashSlots; ++slot) {
      slots.push_back(backend_of_slot(id, slot));
      add_backend(slots.back(), backend_at(kBackend, id));
    }
    publish(id, slots);
  }
  for (const wire::IpAddress& address : {kVip, kVip6})
    add_address(address, WEIR_ADDRESS_VIP);
}

/// Beside the flows of nat_fixture.h.
void VerdictWorld::fill_nat() {
  const auto add = [this](std::uint32_t id, const weir_backend& backend) {
    add_service(nat_port(id), IPPROTO_TCP, flagged(id, WEIR_VIP_SNAT, WEIR_MODE_NAT), backend);
  };
  add(kNatOther, backend_at(kBackend, kNatOther, kOtherDevice));
  add(kNatUnlisted, backend_at(kBackend, kNatUnlisted, kUnlistedDevice));
  add(kNatWrongFamily, backend_at(kBackend6, kNatWrongFamily));
  add(kNatNoHop, [] {
    weir_backend backend = backend_at(kBackend, kNatNoHop);
    backend.egress_ifindex = 0;
    return backend;
  }());
  add_vip(nat_port(kNatEmpty), IPPROTO_TCP, flagged(kNatEmpty, 0, WEIR_MODE_NAT));
  check(runner().write("weir_devices", kOtherDevice, BpfRunner::kAnyDevice));
}

/// L7 VIPs that have lists and limits.
void VerdictWorld::fill_l7() {
  add_vip(at(kVipL7, 81), IPPROTO_TCP, flagged(kL7Blocked, WEIR_VIP_BLOCK_LIST, WEIR_MODE_L7));
  weir_vip limited = flagged(kL7Limited, WEIR_VIP_LIMITS, WEIR_MODE_L7);
  limited.limits.new_flows = 1;
  add_vip(at(kVipL7, 82), IPPROTO_TCP, limited);
  publish_list(0, {{kBlocked, 128}}, {});
  for (std::uint32_t worker = 0; worker < kL7Workers; ++worker)
    check(runner().write("weir_l7_workers", worker, BpfRunner::kAnyDevice));
}

}  // namespace weir::testing
