#include "tests/fuzz/balancer_world.h"

#include <arpa/inet.h>
#include <linux/bpf.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <map>

#include "bpf/hash.h"
#include "l4/base/assert.h"

namespace weir::testing {
namespace {

constexpr auto kTcp = wire::IpProtocol::kTcp;
constexpr auto kUdp = wire::IpProtocol::kUdp;
constexpr std::uint32_t kTableSize = 7;

weir_address abi(const wire::IpAddress& address) {
  weir_address out{};
  std::ranges::copy(address.bytes, out.bytes);
  return out;
}

AddressPair backend_pair(int n) {
  static const std::array kPairs{
      address_pair("192.0.2.11", "2001:db8::11"), address_pair("192.0.2.12", "2001:db8::12"),
      address_pair("192.0.2.21", "2001:db8::21"), address_pair("192.0.2.22", "2001:db8::22")};
  return kPairs[static_cast<std::size_t>(n)];
}

/// The services of one family, before ids are given out.
class Services {
 public:
  Services(World& world, bool is_v4) : world_{world}, is_v4_{is_v4} {}

  WorldService& add(std::uint16_t port, wire::IpProtocol protocol, weir_forward_mode mode) {
    return add_at(kWorldVip.of(is_v4_), port, protocol, mode);
  }

  WorldService& add_at(const wire::IpAddress& address, std::uint16_t port,
                       wire::IpProtocol protocol, weir_forward_mode mode) {
    WorldService service;
    service.endpoint = {address, wire::Port{port}};
    service.protocol = protocol;
    service.vip.mode = static_cast<std::uint8_t>(mode);
    service.vip.gue_port_be = htons(WEIR_GUE_PORT_DEFAULT);
    if (mode != WEIR_MODE_L7)
      for (const int n : {0, 1})
        service.backends.push_back(backend_pair(n).of(is_v4_));
    world_.services.push_back(service);
    return world_.services.back();
  }

  void to_other_family(WorldService& service) const {
    service.backends = {backend_pair(0).of(!is_v4_), backend_pair(1).of(!is_v4_)};
  }

  void add_tunnels() {
    for (const auto mode : {WEIR_MODE_IPIP, WEIR_MODE_GUE}) {
      const std::uint16_t base = mode == WEIR_MODE_IPIP ? 1000 : 1100;
      add(base, kTcp, mode);
      add(base, kUdp, mode);
      to_other_family(add(base + 1, kTcp, mode));
      to_other_family(add(base + 1, kUdp, mode));
      add(base + 2, kTcp, mode).egress_ifindex = kWorldOtherDevice;
      add(base + 3, kUdp, mode).vlan = 100;
      add(base + 4, kTcp, mode).vlan = WEIR_VLAN_NONE;
    }
    add(kWorldRangePort, kUdp, WEIR_MODE_GUE).is_range = true;
  }

  void add_direct() {
    add(1200, kTcp, WEIR_MODE_L2);
    add(1200, kUdp, WEIR_MODE_L2).egress_ifindex = kWorldOtherDevice;
    add(1201, kTcp, WEIR_MODE_L2).vlan = 100;
    add_at(kWorldL7Vip.of(is_v4_), 80, kTcp, WEIR_MODE_L7);
    add_at(kWorldL7Vip.of(is_v4_), 443, kUdp, WEIR_MODE_L7);
    add_at(kWorldSilentVip.of(is_v4_), 80, kTcp, WEIR_MODE_IPIP);
  }

  void add_nat() {
    for (const auto protocol : {kTcp, kUdp}) {
      for (const std::uint16_t port : {1300, 1301}) {
        WorldService& service = add(port, protocol, WEIR_MODE_NAT);
        // Backends of their own: whose replies are whose must not be a matter of luck.
        service.backends = {backend_pair(2).of(is_v4_), backend_pair(3).of(is_v4_)};
        if (port == 1301) service.vip.flags = WEIR_VIP_SNAT;
        if (protocol == kTcp) service.backend_port = 8080;
      }
    }
  }

  void add_special() {
    WorldService& quic = add(443, kUdp, WEIR_MODE_GUE);
    quic.vip.quic_id_bytes = kWorldQuicIdBytes;
    quic.vip.quic_rotation = 1;
    WorldService& sticky = add(1400, kTcp, WEIR_MODE_IPIP);
    sticky.vip.affinity_s = 60;
    sticky.vip.hash = WEIR_HASH_SOURCE;
    add(1401, kTcp, WEIR_MODE_L2).vip.hash = WEIR_HASH_SOURCE_PORT;
    WorldService& limited = add(1402, kTcp, WEIR_MODE_IPIP);
    limited.vip.flags = WEIR_VIP_LIMITS;
    limited.vip.limits = {
        .new_flows_per_source = 2, .packets_per_source = 3, .new_flows = 3, .packets = 5};
    WorldService& crowded = add(1407, kTcp, WEIR_MODE_L2);
    crowded.vip.flags = WEIR_VIP_LIMITS;
    crowded.vip.limits.packets = 2;
    WorldService& listed = add(1403, kUdp, WEIR_MODE_GUE);
    listed.vip.flags = WEIR_VIP_SOURCE_LIST | WEIR_VIP_BLOCK_LIST;
    WorldService& empty = add(1404, kTcp, WEIR_MODE_IPIP);
    empty.backends.clear();
    empty.vip.flags = WEIR_VIP_REFUSE;
    WorldService& empty_udp = add(1404, kUdp, WEIR_MODE_IPIP);
    empty_udp.backends.clear();
    empty_udp.vip.flags = WEIR_VIP_REFUSE;
    add(1405, kTcp, WEIR_MODE_IPIP).backends.clear();
    add(1406, kTcp, WEIR_MODE_IPIP).has_next_hop = false;
  }

  void add_prefix() {
    const wire::IpAddress& first = kWorldPrefix.of(is_v4_);
    add_at(first, 80, kTcp, WEIR_MODE_IPIP);
    add_at(first, kWorldRangePort, kUdp, WEIR_MODE_GUE).is_range = true;
    WorldService& nat = add_at(first, 1301, kTcp, WEIR_MODE_NAT);
    nat.backends = {backend_pair(2).of(is_v4_)};
    nat.vip.flags = WEIR_VIP_SNAT;
  }

 private:
  World& world_;
  bool is_v4_;
};

void check(const Result<void>& result) { WEIR_ASSERT(result.has_value()); }

/// Bits are gathered first: a MapWriter does not read.
class Filter {
 public:
  void add(const wire::IpAddress& address, std::uint32_t first_word = 0) {
    const weir_address key = abi(address);
    const std::uint32_t bit = weir_filter_bit(&key);
    words_[first_word + bit / 64] |= std::uint64_t{1} << (bit % 64);
  }
  void add_all() {
    for (std::uint32_t word = 0; word < WEIR_FILTER_WORDS; ++word)
      words_[word] = ~std::uint64_t{0};
  }
  void write(MapWriter& maps) const {
    for (const auto& [word, bits] : words_)
      check(maps.write("weir_filter", word, bits));
  }

 private:
  std::map<std::uint32_t, std::uint64_t> words_;
};

void fill_backends(MapWriter& maps, const WorldService& service) {
  for (std::uint32_t i = 0; i < service.backends.size(); ++i) {
    weir_backend backend{};
    const wire::IpAddress& address = service.backends[i];
    backend.address = abi(address);
    backend.outer_source = abi(kWorldNode.of(address.is_v4()));
    if (service.has_next_hop) std::ranges::copy(kWorldNextHop.bytes, backend.macs.next_hop);
    std::ranges::copy(kWorldOwnMac.bytes, backend.macs.source);
    backend.egress_ifindex = service.egress_ifindex;
    backend.egress_mtu = kWorldMtu;
    backend.vip_id = service.vip.id;
    backend.vlan = service.vlan;
    backend.flags = WEIR_BACKEND_IN_USE;
    backend.port_be = htons(service.backend_port);
    const std::uint32_t id = service.first_backend_id + i;
    check(maps.write("weir_backends", id, backend));
    check(maps.write("weir_members", id, id));
  }
}

/// Slots take turns; the table before had them the other way round.
void fill_table(MapWriter& maps, const WorldService& service) {
  if (service.vip.mode == WEIR_MODE_L7) return;
  std::vector<std::uint32_t> now(kTableSize), before(kTableSize);
  const auto count = static_cast<std::uint32_t>(service.backends.size());
  for (std::uint32_t slot = 0; slot < kTableSize && count != 0; ++slot) {
    now[slot] = service.first_backend_id + slot % count;
    before[slot] = service.first_backend_id + (slot + 1) % count;
  }
  check(maps.publish_map("weir_tables", service.vip.id, maglev_table(now, before)));
}

void fill_extras(MapWriter& maps, const WorldService& service) {
  if (service.vip.flags & WEIR_VIP_LIMITS)
    check(maps.publish_map("weir_source_limits", service.vip.id, source_limits()));
  if (service.vip.flags & WEIR_VIP_SOURCE_LIST) {
    InnerMap list = source_list();
    const bool is_v4 = service.endpoint.address.is_v4();
    list.add(weir_prefix_key{128, abi(kWorldDenied.of(is_v4))}, std::uint32_t{WEIR_LIST_DENY});
    list.add(weir_prefix_key{112, abi(kWorldDenied.of(is_v4))}, std::uint32_t{WEIR_LIST_ALLOW});
    check(maps.publish_map("weir_lists", service.vip.id, list));
  }
  if (service.vip.quic_id_bytes == 0) return;
  InnerMap ids = quic_ids();
  for (std::uint32_t i = 0; i < service.backends.size(); ++i) {
    weir_quic_key key{};  // server ids 0001…, 0002…
    key.server_id[1] = static_cast<std::uint8_t>(i + 1);
    ids.add(key, service.first_backend_id + i);
  }
  check(maps.publish_map("weir_quic", service.vip.id, ids));
}

void fill_service(MapWriter& maps, const World& world, const WorldService& service) {
  weir_vip entry = service.vip;
  const bool is_prefix = std::ranges::any_of(world.vip_prefixes, [&](const wire::Prefix& prefix) {
    return prefix.address == service.endpoint.address;
  });
  if (!service.is_range && !is_prefix) {
    entry.address = abi(service.endpoint.address);
    entry.port_be = htons(service.endpoint.port.value());
    entry.protocol = static_cast<std::uint8_t>(service.protocol);
  }
  fill_backends(maps, service);
  fill_table(maps, service);
  fill_extras(maps, service);
  check(maps.write("weir_vips", entry.id, entry));
  if (service.is_range) {
    constexpr std::uint32_t kBitsOfPort = 4;  // 0001…: 4096 to 8191
    weir_range_key key{};
    key.prefix_length = WEIR_RANGE_PREFIX_BITS + kBitsOfPort;
    key.address = abi(service.endpoint.address);
    key.protocol = static_cast<std::uint8_t>(service.protocol);
    key.port_be = htons(0x1000);
    check(maps.write("weir_ranges", key, entry.id));
  } else {
    weir_vip_key key{};
    key.address = abi(service.endpoint.address);
    key.port_be = htons(service.endpoint.port.value());
    key.protocol = static_cast<std::uint8_t>(service.protocol);
    check(maps.write("weir_services", key, entry.id));
  }
}

void fill_addresses(MapWriter& maps, const World& world) {
  const std::pair<AddressPair, std::uint32_t> addresses[] = {
      {kWorldVip, WEIR_ADDRESS_VIP | WEIR_ADDRESS_RANGES | WEIR_ADDRESS_REFUSE | WEIR_ADDRESS_ECHO |
                      WEIR_ADDRESS_NAT},
      {kWorldSilentVip, WEIR_ADDRESS_VIP},
      {kWorldL7Vip, WEIR_ADDRESS_VIP | WEIR_ADDRESS_L7},
      {kWorldL7Own, WEIR_ADDRESS_L7_OWN},
      {kWorldNode, WEIR_ADDRESS_SNAT},
      {kWorldPrefix, WEIR_ADDRESS_VIP | WEIR_ADDRESS_RANGES | WEIR_ADDRESS_ECHO |
                         WEIR_ADDRESS_REFUSE | WEIR_ADDRESS_NAT},
  };
  for (const auto& [pair, flags] : addresses) {
    if (pair.v4 == kWorldPrefix.v4 && !world.options.has_prefixes) continue;
    for (const auto& address : {pair.v4, pair.v6})
      check(maps.write("weir_addresses", abi(address), weir_address_entry{flags}));
  }
  for (const wire::Prefix& prefix : world.vip_prefixes) {
    const std::uint32_t bits = prefix.length + (prefix.address.is_v4() ? 96 : 0);
    const weir_prefix_key key{bits, abi(prefix.address)};
    check(maps.write("weir_prefixes", key, abi(prefix.address)));
  }
}

void fill_filter(MapWriter& maps, const World& world) {
  Filter filter;
  for (const auto& pair : {kWorldVip, kWorldSilentVip, kWorldL7Vip, kWorldL7Own, kWorldNode})
    for (const auto& address : {pair.v4, pair.v6})
      filter.add(address);
  if (world.options.has_prefixes) filter.add_all();
  for (const auto& pair : {kWorldVip, kWorldNode, kWorldPrefix, backend_pair(2), backend_pair(3)})
    for (const auto& address : {pair.v4, pair.v6})
      filter.add(address, WEIR_FILTER_WORDS);
  filter.write(maps);
}

void fill_monitor(MapWriter& maps) {
  InnerMap ring;
  ring.type = BPF_MAP_TYPE_RINGBUF;
  ring.max_entries = 1 << 20;
  check(maps.publish_map("weir_monitor", 0, ring));
  weir_monitor_filter wanted{};
  wanted.is_on = 1;
  wanted.snap_bytes = 64;
  check(maps.write("weir_monitor_filter", std::uint32_t{0}, wanted));
}

}  // namespace

AddressPair address_pair(const char* v4, const char* v6) {
  return {world_address(v4), world_address(v6)};
}

bool World::is_vip(const wire::IpAddress& address) const {
  return std::ranges::find(vips, address) != vips.end() ||
         std::ranges::any_of(vip_prefixes,
                             [&](const wire::Prefix& prefix) { return prefix.contains(address); });
}

const WorldService* World::service_at(const wire::Endpoint& destination,
                                      std::uint8_t protocol) const {
  wire::IpAddress address = destination.address;
  for (const wire::Prefix& prefix : vip_prefixes)
    if (prefix.contains(address)) address = prefix.address;
  const WorldService* of_range = nullptr;
  for (const WorldService& service : services) {
    if (service.endpoint.address != address ||
        static_cast<std::uint8_t>(service.protocol) != protocol)
      continue;
    if (service.is_range && destination.port.value() >> 12 == 1)
      of_range = &service;
    else if (!service.is_range && service.endpoint.port == destination.port)
      return &service;
  }
  return of_range;
}

World make_world(const WorldOptions& options) {
  World world;
  world.options = options;
  world.services.reserve(256);  // references are handed out while it grows
  for (const bool is_v4 : {true, false}) {
    Services services{world, is_v4};
    services.add_tunnels();
    services.add_direct();
    services.add_nat();
    services.add_special();
    if (options.has_prefixes) services.add_prefix();
    for (const auto& pair : {kWorldVip, kWorldSilentVip, kWorldL7Vip})
      world.vips.push_back(pair.of(is_v4));
    if (options.has_prefixes)
      world.vip_prefixes.push_back(
          {kWorldPrefix.of(is_v4), static_cast<std::uint8_t>(is_v4 ? 25 : 64)});
  }
  std::uint32_t vip_id = 1, backend_id = 1;
  for (WorldService& service : world.services) {
    service.vip.id = vip_id++;
    service.first_backend_id = backend_id;
    backend_id += static_cast<std::uint32_t>(service.backends.size());
  }
  return world;
}

BpfSettings settings_of(const World& world) {
  BpfSettings settings;
  settings.l7_worker_count = 2;
  settings.flow_sets = 4;  // few, so that flows meet
  settings.is_stateless = world.options.is_stateless;
  settings.answers_per_s = 4;  // so that it runs out
  settings.nat_records = 2;    // so that they run out
  settings.nat_port_first = 30000;
  settings.nat_port_last = 49999;
  return settings;
}

void fill(MapWriter& maps, const World& world) {
  for (const WorldService& service : world.services)
    fill_service(maps, world, service);
  fill_addresses(maps, world);
  fill_filter(maps, world);
  InnerMap blocked = source_list();
  for (const bool is_v4 : {true, false})
    blocked.add(weir_prefix_key{128, abi(kWorldBlocked.of(is_v4))}, std::uint32_t{WEIR_LIST_DENY});
  check(maps.publish_map("weir_lists", 0, blocked));
  for (const std::uint32_t device : {kWorldDevice, kWorldOtherDevice})
    check(maps.write("weir_devices", device, BpfRunner::kAnyDevice));
  for (std::uint32_t worker = 0; worker < 2; ++worker)
    check(maps.write("weir_l7_workers", worker, BpfRunner::kAnyDevice));
  if (world.options.has_prefixes) fill_monitor(maps);
}

}  // namespace weir::testing
