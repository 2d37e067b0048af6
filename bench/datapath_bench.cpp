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
#include <sched.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bench/datapath_balancer.h"
#include "bpf/abi.h"
#include "datapath_wrapper.skel.h"
#include "l4/base/result.h"
#include "tests/support/packet_builder.h"
#include "tests/support/veth_namespace.h"
#include "weir_lb.skel.h"

namespace {

using namespace weir;
using namespace weir::bench;
using Frame = std::vector<std::byte>;

constexpr std::uint32_t kPacketsPerRound = 200'000;
constexpr std::uint32_t kFlowsMax = 1U << 26;

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
