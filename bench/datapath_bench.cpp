// What does a packet cost in the balancer, by how it ends?
//
// Expected: some tens of nanoseconds for what is not ours, one to three hundred for a flow that is
// known, twice that for a new one. The machine is shared, so compare the ratios: every round
// measures the floors beside the row, and `ratio` is the row's estimate over "parse + lookup", the
// least a balancer can do. Aims (in brackets Katran's, by the same method): known flow ≤ 1.8 [2.8],
// 65,536 of them in turn ≤ 3.0 [4.8], a million ≤ 3.5 [5.4], new flow ≤ 3.5 [6.2], not a VIP ≤ 1.2
// [1.5]; a protection that is on costs at most 0.4 more than the same row without it.
//
// Rows whose program changes the packet run through datapath_wrapper.bpf.c. Their estimate is
//
//     raw - (wrapper + stand-in) + "return at once" [+ one head move, if the row encapsulates]
//
// --flows=N: entries of the flow table, a power of two. The row of a million flows needs 2097152 to
// have room for them; in the table that is the default, most of them are found by Maglev table.
// --nat=N: a NAT table of so many records, a power of two, and the rows of mode nat; the other rows
// show what that table costs them. With 524288 the living flows of the row before leave room for
// every SYN of the last one; of a table half full, one newcomer in 65,536 finds no place. The aim
// is ≤ 2.5 for a packet of either way. Needs root; a network namespace of its own has the one
// device and route that "bpf_fib_lookup" is asked for.

#include <benchmark/benchmark.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bpf/abi.h"
#include "bpf/hash.h"
#include "datapath_wrapper.skel.h"
#include "l4/base/fd.h"
#include "l4/base/result.h"
#include "tests/support/packet_builder.h"
#include "tests/support/veth_namespace.h"
#include "weir_lb.skel.h"

namespace {

using namespace weir;
using Frame = std::vector<std::byte>;

constexpr std::uint32_t kAnyDevice = 1;  // loopback: where test-runs say frames come from
constexpr std::uint32_t kPacketsPerRound = 200'000;
constexpr std::uint32_t kTableSize = 65537;
constexpr std::uint32_t kSmallTableSize = 251;
constexpr std::uint32_t kBackends = 100;
constexpr std::uint32_t kFlowsMax = 1U << 26;
constexpr std::uint32_t kManyVips = 8192;  // in the place of 10,000, a power of two
constexpr std::uint32_t kListedPrefixes = 100'000;
constexpr std::uint32_t kRateMax = 1'000'000'000;  // of packets a second: no row reaches it

struct DestroyBalancer {
  void operator()(weir_lb* skeleton) const { weir_lb__destroy(skeleton); }
};
struct DestroyWrapper {
  void operator()(datapath_wrapper* skeleton) const { datapath_wrapper__destroy(skeleton); }
};

/// The two loaded objects. They live as long as the process.
struct Programs {
  std::unique_ptr<weir_lb, DestroyBalancer> balancer;
  std::unique_ptr<datapath_wrapper, DestroyWrapper> wrapper;
};

wire::IpAddress address(std::string_view text) {
  auto parsed = wire::IpAddress::parse(text);
  WEIR_ASSERT(parsed.has_value());  // literals below
  return *parsed;
}

weir_address abi(const wire::IpAddress& from) {
  weir_address out{};
  std::ranges::copy(from.bytes, out.bytes);
  return out;
}

const wire::IpAddress kVip = address("198.51.100.1");
const wire::IpAddress kVip6 = address("2001:db8:100::1");
const wire::IpAddress kHost = address("192.0.2.1");
const wire::IpAddress kHost6 = address("2001:db8::1");
// Of mode nat; a VIP has an address of its own, for which the index of flows is asked first.
const wire::IpAddress kNatVip = address("198.51.100.2");
const wire::IpAddress kNatVip6 = address("2001:db8:100::2");
const wire::IpAddress kNatSource = address("192.0.2.2");
const wire::IpAddress kNatSource6 = address("2001:db8::2");
const wire::IpAddress kNatBackend = address("198.18.0.1");
const wire::IpAddress kNatBackend6 = address("2001:db8:18::1");
const wire::IpAddress kDnatBackend = address("198.18.1.1");
const wire::IpAddress kClient = address("10.0.0.0");
const wire::IpAddress kClient6 = address("2001:db8:7::");

wire::Endpoint at(const wire::IpAddress& host, std::uint16_t port) {
  return {host, wire::Port{port}};
}

// Set-up.

/// Every VIP has backends of its own; of the many, which come after all others, one each.
std::uint32_t first_backend(std::uint32_t vip_id) { return 1 + (vip_id - 1) * kBackends; }

template <typename Key, typename Value>
Result<void> write(const bpf_map* map, const Key& key, const Value& value) {
  if (bpf_map_update_elem(bpf_map__fd(map), &key, &value, BPF_ANY) != 0)
    return Error::from_errno(fmt::format("writing {}", bpf_map__name(map)));
  return {};
}

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
    const wire::IpAddress host = address(fmt::format("{}{}", prefix, last));
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
    auto done = add_backend(balancer, vip, vip.first_member + 1, address("192.0.2.9"));
    if (!done) return done;
    endpoint.address = wire::IpAddress::v4(198, 51, static_cast<std::uint8_t>(100 + (i + 1) / 256),
                                           static_cast<std::uint8_t>(i + 1));
    if (done = add_vip(balancer, endpoint, vip); !done) return done;
  }
  return publish_for_all(balancer, first_id, kManyVips);
}

struct Options {
  std::uint32_t flows = WEIR_FLOWS_DEFAULT;
  std::uint32_t nat_records = 0;  ///< 0: nothing is translated
  std::uint32_t rounds = 15;      ///< of each row; one tells whether it ends as it should
};

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

// Measuring.

/// Nanoseconds a packet, as the kernel reports them.
Result<double> measure(const bpf_program* program, const Frame& frame, std::uint32_t packets) {
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(),
              .data_size_in = static_cast<std::uint32_t>(frame.size()),
              .repeat = static_cast<int>(packets));
  if (bpf_prog_test_run_opts(bpf_program__fd(program), &options) != 0)
    return Error::from_errno(fmt::format("running {}", bpf_program__name(program)));
  if (options.retval == XDP_ABORTED)
    return Error{ErrorCode::kInternal, fmt::format("{} gave up", bpf_program__name(program))};
  return static_cast<double>(options.duration);
}

enum class Way {
  kDirect,     ///< the program leaves the packet as it is
  kRewritten,  ///< it changes bytes: through the wrapper
  kPushed,     ///< it adds a header: through the wrapper, and a head move
};

/// What a row's packets are in the flow table.
enum class Entries {
  kKnown,  ///< all flows run once before anything is measured, so that every packet finds its entry
  kNew,    ///< every packet asks for an entry
  kNone,   ///< neither
};

struct Row {
  std::string name;
  Frame frame;
  weir_verdict verdict;
  Way way = Way::kDirect;
  std::uint32_t flows = 1;  ///< a power of two
  std::uint32_t push_bytes = 0;
  Entries entries = Entries::kKnown;
  /// Of replies: what the client's packets are, which make the flows.
  Frame opening = {};
  std::uint32_t vips = 1;  ///< that the flows are spread over; a power of two
};

/// What all floors are given.
const Frame& floor_frame() {
  static const Frame frame = testing::tcp(at(kClient, 1024), at(kVip, 80)).padding(6).bytes();
  return frame;
}

class Meter {
 public:
  explicit Meter(const Programs& programs)
      : balancer_{*programs.balancer}, wrapper_{*programs.wrapper} {}

  [[nodiscard]] std::uint32_t table_flows() const {
    return (balancer_.rodata->weir_flow_set_mask + 1) * WEIR_FLOW_WAYS;
  }

  /// By packets that had none, since the programs were loaded, whether they got one or not.
  Result<std::uint64_t> entries_asked_for() const {
    std::uint64_t sum = 0;
    for (const std::uint32_t event : {WEIR_FLOW_ADDED, WEIR_FLOW_NOT_ADDED}) {
      std::vector<std::uint64_t> per_cpu(static_cast<std::size_t>(libbpf_num_possible_cpus()));
      const int fd = bpf_map__fd(balancer_.maps.weir_flow_counters);
      if (bpf_map_lookup_elem(fd, &event, per_cpu.data()) != 0)
        return Error::from_errno("reading weir_flow_counters");
      sum = std::accumulate(per_cpu.begin(), per_cpu.end(), sum);
    }
    return sum;
  }

  Result<double> return_at_once(const Frame& frame) const {
    return measure(wrapper_.progs.bench_return, frame, kPacketsPerRound);
  }
  Result<double> parse_and_lookup() const {
    return measure(wrapper_.progs.bench_lookup, floor_frame(), kPacketsPerRound);
  }
  Result<double> random_line() const {
    return measure(wrapper_.progs.bench_line, floor_frame(), kPacketsPerRound);
  }
  Result<double> fib_lookup() const {
    return measure(wrapper_.progs.bench_fib, floor_frame(), kPacketsPerRound);
  }
  Result<double> two_head_moves(const Frame& frame) const {
    return measure(wrapper_.progs.bench_head_moves, frame, kPacketsPerRound);
  }
  Result<double> stand_in(const Row& row) const {
    return through_wrapper(row, wrapper_.progs.bench_push, kPacketsPerRound);
  }
  Result<double> balancer(const Row& row, std::uint32_t packets = kPacketsPerRound) const {
    if (row.way == Way::kDirect) return measure(balancer_.progs.weir_lb, row.frame, packets);
    return through_wrapper(row, balancer_.progs.weir_lb, packets);
  }

  /// How many packets ended in the verdict, since the programs were loaded.
  Result<std::uint64_t> count_of(weir_verdict verdict) const {
    const auto index = static_cast<std::uint32_t>(verdict);
    std::vector<weir_counter> per_cpu(static_cast<std::size_t>(libbpf_num_possible_cpus()));
    const int fd = bpf_map__fd(balancer_.maps.weir_counters);
    if (bpf_map_lookup_elem(fd, &index, per_cpu.data()) != 0)
      return Error::from_errno("reading weir_counters");
    std::uint64_t packets = 0;
    for (const weir_counter& counter : per_cpu)
      packets += counter.packets;
    return packets;
  }

 private:
  Result<double> through_wrapper(const Row& row, const bpf_program* target,
                                 std::uint32_t packets) const {
    const std::span<const std::byte> ip = std::span{row.frame}.subspan(ETH_HLEN);
    auto& data = *wrapper_.bss;
    std::memcpy(data.bench_ethernet, row.frame.data(), sizeof(data.bench_ethernet));
    std::memcpy(data.bench_headers4, ip.data(), sizeof(data.bench_headers4));
    std::memcpy(data.bench_headers6, ip.data(), std::min(ip.size(), sizeof(data.bench_headers6)));
    data.bench_is_reply = row.opening.empty() ? 0 : 1;
    data.bench_frame_bytes = static_cast<std::uint32_t>(row.frame.size());
    data.bench_flow_mask = row.flows - 1;
    data.bench_vip_mask = row.vips - 1;
    data.bench_push_bytes = row.push_bytes;
    const int fd = bpf_program__fd(target);
    if (auto done = write(wrapper_.maps.bench_target, std::uint32_t{0}, fd); !done)
      return std::move(done).error();
    return measure(wrapper_.progs.bench_wrapper, row.frame, packets);
  }

  const weir_lb& balancer_;
  const datapath_wrapper& wrapper_;
};

/// One round: the row, and beside it what is subtracted from it and compared with it.
struct Round {
  double raw = 0;
  double estimate = 0;
  double lookup = 0;
};

Result<Round> measure_round(const Meter& meter, const Row& row) {
  auto lookup = meter.parse_and_lookup();
  if (!lookup) return std::move(lookup).error();
  auto raw = meter.balancer(row);
  if (!raw) return std::move(raw).error();
  Round round{*raw, *raw, *lookup};
  if (row.way == Way::kDirect) return round;

  auto stand_in = meter.stand_in(row);
  if (!stand_in) return std::move(stand_in).error();
  auto floor = meter.return_at_once(row.frame);
  if (!floor) return std::move(floor).error();
  round.estimate = *raw - *stand_in + *floor;
  if (row.way == Way::kPushed) {
    auto moves = meter.two_head_moves(row.frame);
    if (!moves) return std::move(moves).error();
    round.estimate += (*moves - *floor) / 2;
  }
  return round;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

/// Whether packets were known, or new, as the row says. In a table that is too full for a row some
/// have no entry, and are found by Maglev table.
Result<void> check_entries(const Row& row, std::uint64_t asked, std::uint64_t packets,
                           std::uint32_t table_flows) {
  constexpr std::uint32_t kRoom = 16;  // times as large: eight ways are enough for all
  const bool has_room = row.flows <= table_flows / kRoom;
  if (row.entries == Entries::kKnown && has_room && asked != 0)
    return Error{ErrorCode::kInternal, fmt::format("{} packets found no entry", asked)};
  if (row.entries == Entries::kNew && asked != packets)
    return Error{ErrorCode::kInternal, fmt::format("{} of {} packets were of flows seen before",
                                                   packets - asked, packets)};
  return {};
}

Result<std::vector<Round>> measure_row(const Meter& meter, const Row& row,
                                       benchmark::State& state) {
  if (!row.opening.empty()) {
    Row opening = row;
    opening.frame = std::exchange(opening.opening, {});
    if (auto opened = meter.balancer(opening, 2 * row.flows); !opened)
      return std::move(opened).error();
  }
  if (row.entries == Entries::kKnown)
    if (auto warmed = meter.balancer(row, 2 * row.flows); !warmed) return std::move(warmed).error();
  auto before = meter.count_of(row.verdict);
  if (!before) return std::move(before).error();
  auto asked_before = meter.entries_asked_for();
  if (!asked_before) return std::move(asked_before).error();
  std::vector<Round> rounds;
  for ([[maybe_unused]] auto _ : state) {
    auto round = measure_round(meter, row);
    if (!round) return std::move(round).error();
    state.SetIterationTime(round->raw * 1e-9);
    rounds.push_back(*round);
  }
  auto after = meter.count_of(row.verdict);
  if (!after) return std::move(after).error();
  const std::uint64_t expected = rounds.size() * kPacketsPerRound;
  if (*after - *before != expected)
    return Error{ErrorCode::kInternal, fmt::format("{} of {} packets ended otherwise",
                                                   expected - (*after - *before), expected)};
  auto asked = meter.entries_asked_for();
  if (!asked) return std::move(asked).error();
  if (auto done = check_entries(row, *asked - *asked_before, expected, meter.table_flows()); !done)
    return std::move(done).error();
  return rounds;
}

void run_row(benchmark::State& state, const Meter& meter, const Row& row) {
  auto rounds = measure_row(meter, row, state);
  if (!rounds) {
    state.SkipWithError(rounds.error().text().c_str());
    return;
  }
  std::vector<double> estimates;
  std::vector<double> ratios;
  for (const Round& round : *rounds) {
    estimates.push_back(round.estimate);
    ratios.push_back(round.estimate / round.lookup);
  }
  state.counters["estimate_ns"] = median(estimates);
  state.counters["least_ns"] = *std::ranges::min_element(estimates);
  state.counters["ratio"] = median(ratios);
}

template <typename Measure>
void run_floor(benchmark::State& state, const Meter& meter, Measure measure_floor) {
  std::vector<double> values;
  std::vector<double> ratios;
  for ([[maybe_unused]] auto _ : state) {
    auto value = measure_floor();
    auto lookup = meter.parse_and_lookup();
    if (!value || !lookup) {
      state.SkipWithError((value ? lookup : value).error().text().c_str());
      return;
    }
    state.SetIterationTime(*value * 1e-9);
    values.push_back(*value);
    ratios.push_back(*value / *lookup);
  }
  state.counters["estimate_ns"] = median(values);
  state.counters["least_ns"] = *std::ranges::min_element(values);
  state.counters["ratio"] = median(ratios);
}

std::string flow_text(std::uint32_t flows) {
  return flows == 1 ? "1 flow" : fmt::format("{} flows", flows);
}

void add_nat_rows(std::vector<Row>& rows) {
  using testing::tcp;
  const auto client = at(kClient, 1024);
  const auto client6 = at(kClient6, 1024);
  const Frame full = tcp(client, at(kNatVip, 85)).padding(6).bytes();
  const Frame full6 = tcp(client6, at(kNatVip6, 85)).bytes();
  const Frame kept = tcp(client, at(kNatVip, 86)).padding(6).bytes();
  const Frame syn = tcp(client, at(kNatVip, 86)).syn().padding(6).bytes();
  const Frame reply = tcp(at(kNatBackend, 85), at(kNatSource, 1024)).padding(6).bytes();
  const Frame reply6 = tcp(at(kNatBackend6, 85), at(kNatSource6, 1024)).bytes();
  const Frame kept_reply = tcp(at(kDnatBackend, 86), client).padding(6).bytes();
  constexpr std::uint32_t kMany = 65536;
  constexpr std::uint32_t kMillion = 1 << 20;
  constexpr auto kWay = Way::kRewritten;
  const auto add = [&rows](std::string name, const Frame& there, const Frame& back,
                           std::uint32_t flows) {
    // Replies first: a flow that was answered is the common one.
    rows.push_back({name + " reply, " + flow_text(flows), back, WEIR_TX_NAT_REPLY, kWay, flows, 0,
                    Entries::kKnown, there});
    rows.push_back({name + " to backend, " + flow_text(flows), there, WEIR_TX_NAT, kWay, flows});
  };
  add("full NAT, IPv4", full, reply, 1);
  add("full NAT, IPv6", full6, reply6, 1);
  add("DNAT, IPv4", kept, kept_reply, 1);
  add("DNAT, IPv4", kept, kept_reply, kMany);
  rows.push_back(
      {"SYN DNAT, IPv4, always a new flow", syn, WEIR_TX_NAT, kWay, kMillion, 0, Entries::kNone});
}

std::vector<Row> rows(const Options& options) {
  using testing::tcp;
  const auto client = at(kClient, 1024);
  const auto client6 = at(kClient6, 1024);
  const Frame unpadded = tcp(client, at(kVip, 80)).payload("123456").bytes();
  const Frame ack6 = tcp(client6, at(kVip6, 80)).bytes();
  const Frame syn = tcp(client, at(kVip, 88)).syn().payload("123456").bytes();
  const Frame rst = tcp(client, at(kVip, 80)).rst().payload("123456").bytes();
  const Frame gue = tcp(client, at(kVip, 84)).payload("123456").bytes();
  const Frame gue6 = tcp(client6, at(kVip6, 84)).bytes();
  const Frame to_l2 = tcp(client, at(kVip, 82)).padding(6).bytes();
  const auto guarded = [&](std::uint16_t port) {
    return tcp(client, at(kVip, port)).payload("123456").bytes();
  };
  const Frame to_l7 = tcp(client, at(kVip, 83)).padding(6).bytes();
  const Frame to_many = tcp(client, at(kVip, 81)).payload("123456").bytes();
  constexpr std::uint32_t kMany = 65536;
  constexpr std::uint32_t kMillion = 1 << 20;
  constexpr std::uint32_t kNeverAgain = 1 << 23;  // in 15 rounds, of the row and its stand-in
  // Those that fill the flow table come last: what others find in it must be their own.
  std::vector<Row> rows{
      {"not a VIP, IPv4", tcp(client, at(kHost, 80)).padding(6).bytes(), WEIR_PASS_NOT_A_VIP},
      {"not a VIP, IPv6", tcp(client6, at(kHost6, 80)).bytes(), WEIR_PASS_NOT_A_VIP},
      {"ACK ipip, IPv4, 1 flow", unpadded, WEIR_TX_IPIP, Way::kPushed, 1, 20},
      {"ACK ipip, IPv6, 1 flow", ack6, WEIR_TX_IPIP, Way::kPushed, 1, 40},
      {"ACK gue, IPv4, 1 flow", gue, WEIR_TX_GUE, Way::kPushed, 1, 28},
      {"ACK gue, IPv6, 1 flow", gue6, WEIR_TX_GUE, Way::kPushed, 1, 48},
      {"ACK l2, IPv4, 1 flow", to_l2, WEIR_TX_L2, Way::kRewritten},
      {"ACK ipip, IPv4, 1 flow, a list of 100000", guarded(90), WEIR_TX_IPIP, Way::kPushed, 1, 20},
      {"ACK ipip, IPv4, 1 flow, the node's list of 100000", guarded(91), WEIR_TX_IPIP, Way::kPushed,
       1, 20},
      {"ACK ipip, IPv4, 1 flow, limit per source", guarded(92), WEIR_TX_IPIP, Way::kPushed, 1, 20},
      {"ACK ipip, IPv4, 1 flow, limit per VIP", guarded(93), WEIR_TX_IPIP, Way::kPushed, 1, 20},
      {"ACK to L7, IPv4, 1 flow", to_l7, WEIR_REDIRECT_L7},
      {"RST ipip, IPv4, by table only", rst, WEIR_TX_IPIP, Way::kPushed, kMillion, 20,
       Entries::kNone},
      {"ACK ipip, IPv4, 8192 flows of one VIP", to_many, WEIR_TX_IPIP, Way::kPushed, kManyVips, 20},
      {"ACK ipip, IPv4, 8192 flows of as many VIPs", to_many, WEIR_TX_IPIP, Way::kPushed, kManyVips,
       20, Entries::kKnown, Frame{}, kManyVips},
      {"ACK ipip, IPv4, 65536 flows", unpadded, WEIR_TX_IPIP, Way::kPushed, kMany, 20},
      {"ACK ipip, IPv6, 65536 flows", ack6, WEIR_TX_IPIP, Way::kPushed, kMany, 40},
      {"SYN ipip, IPv4, always a new flow", syn, WEIR_TX_IPIP, Way::kPushed, kNeverAgain, 20,
       Entries::kNew},
      {"ACK ipip, IPv4, 1048576 flows", unpadded, WEIR_TX_IPIP, Way::kPushed, kMillion, 20},
  };
  if (options.nat_records != 0) add_nat_rows(rows);
  return rows;
}

/// `has_failed` is set by a row that cannot be measured, or whose packets end in another verdict.
void register_rows(const Meter& meter, const Options& options, bool& has_failed) {
  const auto add = [&](const std::string& name, const auto& run) {
    benchmark::RegisterBenchmark(name.c_str(),
                                 [run, &has_failed](benchmark::State& state) {
                                   run(state);
                                   has_failed = has_failed || state.error_occurred();
                                 })
        ->Iterations(options.rounds)
        ->UseManualTime()
        ->Unit(benchmark::kNanosecond);
  };
  const auto add_floor = [&](const std::string& name, auto measure_floor) {
    add(name, [&meter, measure_floor](benchmark::State& state) {
      run_floor(state, meter, measure_floor);
    });
  };
  add_floor("floor: return at once", [&meter] { return meter.return_at_once(floor_frame()); });
  add_floor("floor: parse + lookup", [&meter] { return meter.parse_and_lookup(); });
  add_floor("floor: parse + lookup, and a line of the flow table's size at random",
            [&meter] { return meter.random_line(); });
  add_floor("floor: bpf_fib_lookup", [&meter] { return meter.fib_lookup(); });
  for (const Row& row : rows(options))
    add(row.name, [&meter, row](benchmark::State& state) { run_row(state, meter, row); });
}

/// Numbers of one CPU only: maps and caches do not move under a row.
void stay_on_this_cpu() {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(static_cast<std::size_t>(sched_getcpu()), &cpus);
  if (sched_setaffinity(0, sizeof(cpus), &cpus) != 0)
    fmt::print(stderr, "datapath_bench: cannot stay on one CPU; expect more spread\n");
}

/// The value of an option; nothing if the text is not that option, or not a number from `least`.
std::optional<std::uint32_t> number_of(std::string_view text, std::string_view option,
                                       std::uint32_t least) {
  if (!text.starts_with(option)) return std::nullopt;
  std::uint32_t number = 0;
  const auto [end, error] =
      std::from_chars(text.data() + option.size(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || number < least ||
      number > kFlowsMax)
    return std::nullopt;
  return number;
}

/// The same, of a table: a power of two.
std::optional<std::uint32_t> size_of(std::string_view text, std::string_view option,
                                     std::uint32_t least) {
  const auto number = number_of(text, option, least);
  return number && std::has_single_bit(*number) ? number : std::nullopt;
}

/// Fills `options`; the argument that is none of ours, or null.
const char* read_arguments(std::span<char* const> arguments, Options& options) {
  for (const char* argument : arguments) {
    const auto rounds = number_of(argument, "--rounds=", 1);
    const auto flows = size_of(argument, "--flows=", WEIR_FLOW_WAYS);
    const auto records = size_of(argument, "--nat=", 2);
    if (!rounds && !flows && !records) return argument;
    if (rounds) options.rounds = *rounds;
    if (flows) options.flows = *flows;
    if (records) options.nat_records = *records;
  }
  return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  Options options;
  if (const char* argument = read_arguments(std::span{argv, std::size_t(argc)}.subspan(1), options);
      argument != nullptr) {
    fmt::print(stderr,
               "datapath_bench: {}: expected --flows=N, N a power of two from {} to {}, --nat=N, "
               "from 2, --rounds=N, from 1, or a --benchmark_ option\n",
               argument, WEIR_FLOW_WAYS, kFlowsMax);
    return 1;
  }
  const auto devices = testing::VethNamespace::create();
  if (!devices) {
    fmt::print(stderr, "datapath_bench: {}\n", devices.error().text());
    return 1;
  }
  auto programs = load(options);
  if (!programs) {
    fmt::print(stderr, "datapath_bench: {}\n", programs.error().text());
    return 1;
  }
  stay_on_this_cpu();
  const Meter meter{*programs};
  bool has_failed = false;
  register_rows(meter, options, has_failed);
  benchmark::RunSpecifiedBenchmarks();
  return has_failed ? 1 : 0;
}
