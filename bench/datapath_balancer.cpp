#include "bench/datapath_balancer.h"

#include <fmt/format.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <numeric>
#include <string_view>
#include <utility>
#include <vector>

#include "bpf/hash.h"
#include "l4/base/fd.h"
#include "tests/support/veth_namespace.h"

namespace weir::bench {
namespace {

constexpr std::uint32_t kTableSize = 65537;
constexpr std::uint32_t kSmallTableSize = 251;
constexpr std::uint32_t kBackends = 100;
constexpr std::uint32_t kListedPrefixes = 100'000;
constexpr std::uint32_t kRateMax = 1'000'000'000;  // of packets a second: no row reaches it

weir_address abi(const wire::IpAddress& from) {
  weir_address out{};
  std::ranges::copy(from.bytes, out.bytes);
  return out;
}

/// Every VIP has backends of its own; of the many, which come after all others, one each.
std::uint32_t first_backend(std::uint32_t vip_id) { return 1 + (vip_id - 1) * kBackends; }

Result<void> add_backend(const weir_lb& balancer, const weir_vip& vip, std::uint32_t id,
                         const wire::IpAddress& host) {
  const bool is_v4 = host.is_v4();
  weir_backend backend{};
  backend.address = abi(host);
  backend.outer_source = abi(is_v4 ? kHost : kHost6);
  if (vip.mode == WEIR_MODE_NAT) backend.outer_source = abi(is_v4 ? kNatSource : kNatSource6);
  backend.macs.next_hop[0] = 2;
  backend.macs.source[0] = 2;
  backend.egress_ifindex = kAnyDevice;
  backend.egress_mtu = 1500;
  backend.vip_id = vip.id;
  backend.vlan = WEIR_VLAN_KEEP;
  backend.flags = WEIR_BACKEND_IN_USE;
  if (auto done = write(balancer.maps.weir_backends, id, backend); !done) return done;
  return write(balancer.maps.weir_members, id, id);
}

/// In mode nat all have one address, so that replies can be made without knowing which was chosen.
Result<void> add_backends(const weir_lb& balancer, const weir_vip& vip, std::string_view prefix) {
  for (std::uint32_t i = 0; i < kBackends; ++i) {
    const std::uint32_t last = vip.mode == WEIR_MODE_NAT ? 1 : 1 + i;
    const wire::IpAddress host = literal(fmt::format("{}{}", prefix, last));
    auto done = add_backend(balancer, vip, first_backend(vip.id) + i, host);
    if (!done) return done;
  }
  return {};
}

Result<void> publish_inner(const bpf_map* outer, std::uint32_t index, const UniqueFd& inner) {
  const int fd = inner.get();
  return write(outer, index, fd);
}

Result<UniqueFd> make_table(std::uint32_t size, std::uint32_t backends) {
  LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_INNER_MAP);
  std::uint32_t count = 1 + (size + WEIR_LINE_SLOTS - 1) / WEIR_LINE_SLOTS;
  UniqueFd table{bpf_map_create(BPF_MAP_TYPE_ARRAY, "weir_table", sizeof(std::uint32_t),
                                sizeof(weir_table_line), count, &options)};
  if (!table) return Error::from_errno("creating a table");
  std::vector<std::uint32_t> keys(count);
  std::iota(keys.begin(), keys.end(), 0U);
  std::vector<weir_table_line> lines(count);
  lines[0].size = size;
  for (std::uint32_t i = 0; i < size; ++i)
    lines[1 + i / WEIR_LINE_SLOTS].slots[i % WEIR_LINE_SLOTS] =
        static_cast<std::uint16_t>(1 + i % backends);
  if (bpf_map_update_batch(table.get(), keys.data(), lines.data(), &count, nullptr) != 0)
    return Error::from_errno("filling a table");
  return table;
}

Result<void> publish(const weir_lb& balancer, std::uint32_t vip_id) {
  Result<UniqueFd> table = make_table(kTableSize, kBackends);
  if (!table) return std::move(table).error();
  return publish_inner(balancer.maps.weir_tables, vip_id, *table);
}

/// One table for many, in one call: the kernel waits for packets at work after each.
Result<void> publish_for_all(const weir_lb& balancer, std::uint32_t first_id, std::uint32_t count) {
  Result<UniqueFd> table = make_table(kSmallTableSize, 1);
  if (!table) return std::move(table).error();
  std::vector<std::uint32_t> ids(count);
  std::iota(ids.begin(), ids.end(), first_id);
  const std::vector<int> tables(count, table->get());
  if (bpf_map_update_batch(bpf_map__fd(balancer.maps.weir_tables), ids.data(), tables.data(),
                           &count, nullptr) != 0)
    return Error::from_errno("writing weir_tables");
  return {};
}

/// 100,000 networks of 24 bits, none of which has a client of ours in it.
Result<void> publish_list(const weir_lb& balancer, std::uint32_t list_id) {
  LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_NO_PREALLOC);
  const UniqueFd list{bpf_map_create(BPF_MAP_TYPE_LPM_TRIE, "weir_list", sizeof(weir_prefix_key),
                                     sizeof(std::uint32_t), kListedPrefixes, &options)};
  if (!list) return Error::from_errno("creating a list");
  for (std::uint32_t i = 0; i < kListedPrefixes; ++i) {
    // By an odd factor, so that the networks are spread as those of a real list are.
    const std::uint32_t network = 0x0b0000 + i * 40503U % 0xd00000;
    const auto octet = [&](int shift) { return static_cast<std::uint8_t>(network >> shift); };
    weir_prefix_key key{};
    key.prefix_length = 96 + 24;
    key.address = abi(wire::IpAddress::v4(octet(16), octet(8), octet(0), 0));
    const std::uint32_t answer = WEIR_LIST_DENY;
    if (bpf_map_update_elem(list.get(), &key, &answer, BPF_ANY) != 0)
      return Error::from_errno("filling a list");
  }
  return publish_inner(balancer.maps.weir_lists, list_id, list);
}

Result<void> publish_sources(const weir_lb& balancer, std::uint32_t vip_id) {
  const UniqueFd sources{bpf_map_create(BPF_MAP_TYPE_ARRAY, "weir_sources", sizeof(std::uint32_t),
                                        sizeof(weir_source_set), WEIR_SOURCE_SETS, nullptr)};
  if (!sources) return Error::from_errno("creating a map of sources");
  return publish_inner(balancer.maps.weir_source_limits, vip_id, sources);
}

/// Packets to and from the address are looked at.
Result<void> add_to_filter(const weir_lb& balancer, const weir_address& watched,
                           std::uint32_t first_word = 0) {
  const std::uint32_t bit = weir_filter_bit(&watched);
  const std::uint32_t word = first_word + bit / 64;
  std::uint64_t bits = 0;
  if (bpf_map_lookup_elem(bpf_map__fd(balancer.maps.weir_filter), &word, &bits) != 0)
    return Error::from_errno("reading weir_filter");
  bits |= std::uint64_t{1} << (bit % 64);
  return write(balancer.maps.weir_filter, word, bits);
}

/// Marks the address as one of ours.
Result<void> add_address(const weir_lb& balancer, const weir_address& of_vip) {
  if (auto done = add_to_filter(balancer, of_vip); !done) return done;
  const weir_address_entry entry{.flags = WEIR_ADDRESS_VIP | WEIR_ADDRESS_ECHO};
  return write(balancer.maps.weir_addresses, of_vip, entry);
}

Result<void> add_vip(const weir_lb& balancer, const wire::Endpoint& endpoint, weir_vip vip) {
  weir_vip_key key{};
  key.address = abi(endpoint.address);
  key.port_be = htons(endpoint.port.value());
  key.protocol = IPPROTO_TCP;
  vip.address = key.address;
  vip.port_be = key.port_be;
  vip.protocol = key.protocol;
  if (auto done = add_address(balancer, key.address); !done) return done;
  if (auto done = write(balancer.maps.weir_vips, vip.id, vip); !done) return done;
  return write(balancer.maps.weir_services, key, vip.id);
}

/// Also by what the replies of mode nat are found.
Result<void> add_nat_addresses(const weir_lb& balancer) {
  for (const wire::IpAddress& source : {kNatSource, kNatSource6}) {
    if (auto done = add_to_filter(balancer, abi(source)); !done) return done;
    const weir_address_entry entry{.flags = WEIR_ADDRESS_SNAT};
    if (auto done = write(balancer.maps.weir_addresses, abi(source), entry); !done) return done;
  }
  for (const wire::IpAddress& known :
       {kNatVip, kNatVip6, kNatSource, kNatSource6, kNatBackend, kNatBackend6, kDnatBackend}) {
    auto done = add_to_filter(balancer, abi(known), WEIR_FILTER_WORDS);
    if (!done) return done;
  }
  return {};
}

/// IPIP to one backend each, on port 81 of kVip and of the addresses after it.
Result<void> add_many_vips(const weir_lb& balancer, std::uint32_t first_id) {
  const std::uint32_t backends_before = first_backend(first_id) - 1;
  wire::Endpoint endpoint = at(kVip, 81);
  for (std::uint32_t i = 0; i < kManyVips; ++i) {
    weir_vip vip{};
    vip.id = first_id + i;
    vip.mode = WEIR_MODE_IPIP;
    vip.first_member = backends_before + i;
    auto done = add_backend(balancer, vip, vip.first_member + 1, literal("192.0.2.9"));
    if (!done) return done;
    endpoint.address = wire::IpAddress::v4(198, 51, static_cast<std::uint8_t>(100 + (i + 1) / 256),
                                           static_cast<std::uint8_t>(i + 1));
    if (done = add_vip(balancer, endpoint, vip); !done) return done;
  }
  return publish_for_all(balancer, first_id, kManyVips);
}

Result<void> fill(const Programs& programs, const Options& options) {
  const weir_lb& balancer = *programs.balancer;
  struct Vip {
    wire::Endpoint endpoint;
    std::uint8_t mode;
    std::string_view backends;
    std::uint32_t flags = 0;
    weir_limits limits = {};
  };
  std::vector<Vip> vips{
      {at(kVip, 80), WEIR_MODE_IPIP, "192.0.2."},
      {at(kVip6, 80), WEIR_MODE_IPIP, "2001:db8::"},
      {at(kVip, 82), WEIR_MODE_L2, "192.0.2."},
      {at(kVip, 83), WEIR_MODE_L7, "192.0.2."},
      {at(kVip, 84), WEIR_MODE_GUE, "192.0.2."},
      {at(kVip6, 84), WEIR_MODE_GUE, "2001:db8::"},
      {at(kVip, 88), WEIR_MODE_IPIP, "192.0.2."},
      {at(kVip, 90), WEIR_MODE_IPIP, "192.0.2.", WEIR_VIP_SOURCE_LIST},
      {at(kVip, 91), WEIR_MODE_IPIP, "192.0.2.", WEIR_VIP_BLOCK_LIST},
      {at(kVip, 92), WEIR_MODE_IPIP, "192.0.2.", WEIR_VIP_LIMITS, {0, kRateMax, 0, 0}},
      {at(kVip, 93), WEIR_MODE_IPIP, "192.0.2.", WEIR_VIP_LIMITS, {0, 0, 0, kRateMax}}};
  if (options.nat_records != 0) {
    vips.push_back({at(kNatVip, 85), WEIR_MODE_NAT, "198.18.0.", WEIR_VIP_SNAT});
    vips.push_back({at(kNatVip6, 85), WEIR_MODE_NAT, "2001:db8:18::", WEIR_VIP_SNAT});
    vips.push_back({at(kNatVip, 86), WEIR_MODE_NAT, "198.18.1."});
    if (auto done = add_nat_addresses(balancer); !done) return done;
  }
  std::uint32_t id = 0;
  for (const Vip& vip : vips) {
    ++id;
    weir_vip entry{};
    entry.id = id;
    entry.first_member = first_backend(id) - 1;
    entry.mode = vip.mode;
    entry.flags = vip.flags;
    entry.limits = vip.limits;
    if ((vip.flags & WEIR_VIP_SOURCE_LIST) != 0)
      if (auto done = publish_list(balancer, id); !done) return done;
    if ((vip.flags & WEIR_VIP_BLOCK_LIST) != 0)
      if (auto done = publish_list(balancer, 0); !done) return done;
    if (vip.limits.packets_per_source != 0)
      if (auto done = publish_sources(balancer, id); !done) return done;
    entry.gue_port_be = htons(WEIR_GUE_PORT_DEFAULT);
    if (auto done = add_backends(balancer, entry, vip.backends); !done) return done;
    if (auto done = publish(balancer, id); !done) return done;
    if (auto done = add_vip(balancer, vip.endpoint, entry); !done) return done;
  }
  if (auto done = add_many_vips(balancer, id + 1); !done) return done;
  weir_vip_key key{};
  key.address = abi(kVip);
  key.port_be = htons(80);
  key.protocol = IPPROTO_TCP;
  if (auto done = write(programs.wrapper->maps.bench_services, key, weir_vip{}); !done) return done;
  return write(balancer.maps.weir_l7_workers, std::uint32_t{0}, kAnyDevice);
}

/// A device with a route to the VIP and its next hop, as bpf_fib_lookup wants them.
Result<void> make_route(const datapath_wrapper& wrapper) {
  if (testing::VethNamespace::run("echo 1 > /proc/sys/net/ipv4/conf/host/forwarding") != 0 ||
      !testing::VethNamespace::ip("addr add 192.0.2.1/24 dev host") ||
      !testing::VethNamespace::ip("route add 198.51.100.0/24 via 192.0.2.11") ||
      !testing::VethNamespace::ip(
          "neigh add 192.0.2.11 lladdr 02:00:00:00:00:01 dev host nud permanent"))
    return Error{ErrorCode::kUnavailable, "making a route failed", "install iproute2"};
  wrapper.bss->bench_egress_ifindex = ::if_nametoindex("host");
  return {};
}

}  // namespace

Result<Programs> load(const Options& options) {
  Programs programs;
  programs.balancer.reset(weir_lb__open());
  if (!programs.balancer) return Error::from_errno("opening weir_lb");
  auto& settings = *programs.balancer->rodata;
  constexpr std::uint64_t kSeed0 = 0x0123456789abcdef;
  constexpr std::uint64_t kSeed1 = 0xfedcba9876543210;
  settings.weir_hash_seed[0] = kSeed0;
  settings.weir_hash_seed[1] = kSeed1;
  for (std::uint32_t i = 0; i < WEIR_FLOW_KEYS; ++i)
    settings.weir_flow_keys[i] = weir_flow_key_of(kSeed0, kSeed1, i);
  const std::uint32_t sets = options.flows / WEIR_FLOW_WAYS;
  settings.weir_flow_set_mask = sets - 1;
  settings.weir_tick_parts = WEIR_RATE_SECOND / 1000;
  settings.weir_second_shift = 10;
  settings.weir_answers_per_s = 1000;
  settings.weir_l7_worker_count = 1;
  bpf_map__set_max_entries(programs.balancer->maps.weir_flows, sets);
  if (options.nat_records != 0) {
    settings.weir_nat_mask = options.nat_records - 1;
    settings.weir_nat_port_first = 1024;
    settings.weir_nat_port_last = 65535;
    bpf_map__set_max_entries(programs.balancer->maps.weir_nat_flows, options.nat_records);
    bpf_map__set_max_entries(programs.balancer->maps.weir_nat_index, 2 * options.nat_records);
  }
  if (const int status = weir_lb__load(programs.balancer.get()); status != 0)
    return Error::from_errno("loading weir_lb", -status)
        .with_remedy("loading needs CAP_BPF and CAP_NET_ADMIN");
  programs.wrapper.reset(datapath_wrapper__open());
  if (!programs.wrapper) return Error::from_errno("opening the wrapper");
  programs.wrapper->bss->bench_line_mask = sets - 1;
  bpf_map__set_max_entries(programs.wrapper->maps.bench_lines, sets);
  if (datapath_wrapper__load(programs.wrapper.get()) != 0)
    return Error::from_errno("loading the wrapper");
  if (auto made = make_route(*programs.wrapper); !made) return std::move(made).error();
  if (auto filled = fill(programs, options); !filled) return std::move(filled).error();
  return programs;
}

}  // namespace weir::bench
