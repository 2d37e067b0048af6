// The objects of bpf/ in the kernel, run with BPF_PROG_TEST_RUN. No device and no link is touched.

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <linux/pkt_cls.h>

#include <cstring>
#include <functional>
#include <numeric>
#include <utility>

#include "bpf/hash.h"
#include "l4/base/fd.h"
#include "tests/support/bpf_counters.h"
#include "tests/support/bpf_runner.h"
#include "weir_decap.skel.h"
#include "weir_decap_tc.skel.h"
#include "weir_l7_return.skel.h"
#include "weir_lb.skel.h"

namespace weir::testing {
namespace {

using Bytes = std::vector<std::byte>;

constexpr std::size_t kOutputRoom = 128;

/// Enough for tests; what is there is zeroed before each.
constexpr std::uint32_t kBackendsMax = 1024;

/// A slot of a map of maps.
using Slot = std::pair<std::string, std::uint32_t>;

/// A loaded object, whatever its skeleton's type.
struct Loaded {
  std::shared_ptr<void> skeleton;
  bpf_object* object = nullptr;
  int program_fd = -1;
  /// What the test before has published. The kernel waits for all CPUs at each change of a slot,
  /// some 15 ms, and most tests publish the same.
  std::map<Slot, InnerMap> left = {};
};

template <typename Skeleton>
Result<Loaded> load(Skeleton* opened, void (*destroy)(Skeleton*), int (*load_it)(Skeleton*),
                    bpf_program* (*program_of)(Skeleton*), std::string_view name) {
  std::shared_ptr<Skeleton> owner{opened, destroy};
  if (const int status = load_it(opened); status != 0)
    return Error::from_errno(fmt::format("loading {}", name), -status)
        .with_remedy("loading needs CAP_BPF and CAP_NET_ADMIN");
  return Loaded{owner, *opened->skeleton->obj, bpf_program__fd(program_of(opened))};
}

Result<Loaded> load_balancer(const BpfSettings& settings) {
  weir_lb* opened = weir_lb__open();
  if (opened == nullptr) return Error::from_errno("opening weir_lb");
  opened->rodata->weir_hash_seed[0] = settings.hash_seed[0];
  opened->rodata->weir_hash_seed[1] = settings.hash_seed[1];
  for (std::uint32_t i = 0; i < WEIR_FLOW_KEYS; ++i)
    opened->rodata->weir_flow_keys[i] =
        weir_flow_key_of(settings.hash_seed[0], settings.hash_seed[1], i);
  opened->rodata->weir_flow_set_mask = settings.flow_sets - 1;
  opened->rodata->weir_is_stateless = settings.is_stateless ? 1 : 0;
  opened->rodata->weir_l7_worker_count = settings.l7_worker_count;
  opened->rodata->weir_tick_parts = WEIR_RATE_SECOND / BpfSettings::kTicksPerSecond;
  opened->rodata->weir_second_shift = BpfSettings::kSecondShift;
  opened->rodata->weir_answers_per_s = settings.answers_per_s;
  if (settings.nat_records != 0) {
    opened->rodata->weir_nat_mask = settings.nat_records - 1;
    opened->rodata->weir_nat_port_first = settings.nat_port_first;
    opened->rodata->weir_nat_port_last = settings.nat_port_last;
    bpf_map__set_max_entries(opened->maps.weir_nat_flows, settings.nat_records);
    bpf_map__set_max_entries(opened->maps.weir_nat_index, 2 * settings.nat_records);
  }
  bpf_map__set_max_entries(opened->maps.weir_flows, settings.flow_sets);
  bpf_map__set_max_entries(opened->maps.weir_backends, kBackendsMax);
  bpf_map__set_max_entries(opened->maps.weir_members, kBackendsMax);
  bpf_map__set_max_entries(opened->maps.weir_backend_counters, kBackendsMax);
  return load<weir_lb>(
      opened, weir_lb__destroy, weir_lb__load,
      [](weir_lb* skeleton) { return skeleton->progs.weir_lb; }, "weir_lb");
}

Result<Loaded> load_return() {
  weir_l7_return* opened = weir_l7_return__open();
  if (opened == nullptr) return Error::from_errno("opening weir_l7_return");
  return load<weir_l7_return>(
      opened, weir_l7_return__destroy, weir_l7_return__load,
      [](weir_l7_return* skeleton) { return skeleton->progs.weir_l7_return; }, "weir_l7_return");
}

template <typename Skeleton>
void set_decapsulation(Skeleton* opened, const BpfSettings& settings) {
  opened->rodata->weir_decap_any_source = settings.decapsulate_any_source ? 1 : 0;
  opened->rodata->weir_decap_any_vip = settings.decapsulate_any_vip ? 1 : 0;
  opened->rodata->weir_decap_drop_foreign = settings.decapsulate_drop_foreign ? 1 : 0;
}

Result<Loaded> load_decapsulator_tc(const BpfSettings& settings) {
  weir_decap_tc* opened = weir_decap_tc__open();
  if (opened == nullptr) return Error::from_errno("opening weir_decap_tc");
  set_decapsulation(opened, settings);
  return load<weir_decap_tc>(
      opened, weir_decap_tc__destroy, weir_decap_tc__load,
      [](weir_decap_tc* skeleton) { return skeleton->progs.weir_decap_tc; }, "weir_decap_tc");
}

Result<Loaded> load_decapsulator(const BpfSettings& settings) {
  weir_decap* opened = weir_decap__open();
  if (opened == nullptr) return Error::from_errno("opening weir_decap");
  set_decapsulation(opened, settings);
  return load<weir_decap>(
      opened, weir_decap__destroy, weir_decap__load,
      [](weir_decap* skeleton) { return skeleton->progs.weir_decap; }, "weir_decap");
}

Result<Loaded> load_program(BpfProgram program, const BpfSettings& settings) {
  switch (program) {
    case BpfProgram::kBalancer:
      return load_balancer(settings);
    case BpfProgram::kL7Return:
      return load_return();
    case BpfProgram::kDecapsulator:
      return load_decapsulator(settings);
    case BpfProgram::kDecapsulatorTc:
      return load_decapsulator_tc(settings);
  }
  return Error{ErrorCode::kInvalid, "no such program"};
}

/// Everything a key could be is set to zero.
Result<void> zero_array(int fd, std::size_t value_bytes, std::uint32_t entries) {
  std::vector<std::uint32_t> indexes(entries);
  std::iota(indexes.begin(), indexes.end(), 0U);
  const Bytes zeros(value_bytes * entries);
  if (bpf_map_update_batch(fd, indexes.data(), zeros.data(), &entries, nullptr) != 0)
    return Error::from_errno("zeroing an array");
  return {};
}

Result<void> erase_all(int fd, std::size_t key_bytes) {
  Bytes key(key_bytes);
  while (bpf_map_get_next_key(fd, nullptr, key.data()) == 0)
    if (bpf_map_delete_elem(fd, key.data()) != 0) return Error::from_errno("emptying a map");
  return {};
}

/// A map as it is after load.
Result<void> reset_map(const bpf_map* map) {
  const int fd = bpf_map__fd(map);
  const std::size_t value_bytes = bpf_map__value_size(map);
  const std::uint32_t entries = bpf_map__max_entries(map);
  switch (bpf_map__type(map)) {
    case BPF_MAP_TYPE_ARRAY:
      return zero_array(fd, value_bytes, entries);
    case BPF_MAP_TYPE_PERCPU_ARRAY: {
      const int cpus = libbpf_num_possible_cpus();
      if (cpus < 1) return Error::from_errno("counting CPUs", -cpus);
      return zero_array(fd, (value_bytes + 7) / 8 * 8 * static_cast<std::size_t>(cpus), entries);
    }
    case BPF_MAP_TYPE_ARRAY_OF_MAPS:  // see Loaded::left
      return {};
    case BPF_MAP_TYPE_DEVMAP:
      for (std::uint32_t index = 0; index < entries; ++index)
        bpf_map_delete_elem(fd, &index);  // an empty slot is an error, and what is wanted
      return {};
    default:
      return erase_all(fd, bpf_map__key_size(map));
  }
}

Result<void> reset(const Loaded& loaded) {
  const bpf_map* map = nullptr;
  bpf_object__for_each_map(map, loaded.object) {
    if (bpf_map__is_internal(map)) continue;  // .rodata; the programs have no other variables
    if (Result<void> done = reset_map(map); !done) return std::move(done).error();
  }
  return {};
}

/// Loads a program, or takes one with the same settings that no test holds any more, its maps
/// emptied: the verifier takes half a second, hundreds of times.
Result<std::shared_ptr<Loaded>> acquire(BpfProgram program, const BpfSettings& settings) {
  struct Kept {
    BpfProgram program;
    BpfSettings settings;
    std::shared_ptr<Loaded> loaded;
  };
  static std::vector<Kept> kept;
  for (const Kept& one : kept) {
    if (one.program != program || one.settings != settings || one.loaded.use_count() > 1) continue;
    if (Result<void> done = reset(*one.loaded); !done) return std::move(done).error();
    return one.loaded;
  }
  Result<Loaded> loaded = load_program(program, settings);
  if (!loaded) return std::move(loaded).error();
  kept.push_back({program, settings, std::make_shared<Loaded>(*std::move(loaded))});
  return kept.back().loaded;
}

/// Counters are structures of 64-bit words, one structure per CPU.
Bytes sum_of_cpus(const Bytes& values, std::size_t value_bytes) {
  std::vector<std::uint64_t> words(values.size() / sizeof(std::uint64_t));
  std::memcpy(words.data(), values.data(), values.size());
  std::vector<std::uint64_t> sums(value_bytes / sizeof(std::uint64_t));
  for (std::size_t i = 0; i < words.size(); ++i)
    sums[i % sums.size()] += words[i];
  const auto bytes = std::as_bytes(std::span{sums});
  return {bytes.begin(), bytes.end()};
}

class KernelRunner final : public BpfRunner {
 public:
  KernelRunner(BpfProgram program, std::shared_ptr<Loaded> loaded)
      : program_{program}, loaded_{std::move(loaded)} {}

  ~KernelRunner() override { loaded_->left.merge(published_); }
  KernelRunner(const KernelRunner&) = delete;
  KernelRunner& operator=(const KernelRunner&) = delete;

  Result<RunResult> run(std::span<const std::byte> frame) override {
    if (Result<void> done = withdraw_what_is_left(); !done) return std::move(done).error();
    auto before = read_counters(*this, program_);
    if (!before) return std::move(before).error();
    auto result = run_once(frame);
    if (!result) return result;
    auto after = read_counters(*this, program_);
    if (!after) return std::move(after).error();
    result->moved = moved_between(program_, *before, *after);
    return result;
  }

  Result<void> write_bytes(std::string_view name, std::span<const std::byte> key,
                           std::span<const std::byte> value) override {
    if (bpf_map_update_elem(map_fd(name), key.data(), value.data(), BPF_ANY) != 0)
      return Error::from_errno(fmt::format("writing {}", name));
    return {};
  }

  Result<void> erase_bytes(std::string_view name, std::span<const std::byte> key) override {
    if (bpf_map_delete_elem(map_fd(name), key.data()) != 0)
      return Error::from_errno(fmt::format("erasing from {}", name));
    if (bpf_map__type(map_named(name)) == BPF_MAP_TYPE_ARRAY_OF_MAPS) {
      std::uint32_t index = 0;
      std::memcpy(&index, key.data(), sizeof(index));
      published_.erase({std::string{name}, index});
      loaded_->left.erase({std::string{name}, index});
    }
    return {};
  }

  Result<Bytes> read_bytes(std::string_view name, std::span<const std::byte> key) override {
    const bpf_map* map = map_named(name);
    const std::size_t value_bytes = bpf_map__value_size(map);
    const bool is_per_cpu = bpf_map__type(map) == BPF_MAP_TYPE_PERCPU_ARRAY;
    const int copies = is_per_cpu ? libbpf_num_possible_cpus() : 1;
    if (copies < 1) return Error::from_errno("counting CPUs", -copies);
    Bytes values(value_bytes * static_cast<std::size_t>(copies));
    if (bpf_map_lookup_elem(bpf_map__fd(map), key.data(), values.data()) != 0)
      return Error::from_errno(fmt::format("reading {}", name));
    return is_per_cpu ? sum_of_cpus(values, value_bytes) : values;
  }

  Result<void> publish_map(std::string_view outer, std::uint32_t index,
                           const InnerMap& inner) override {
    const Slot slot{outer, index};
    const auto left = loaded_->left.extract(slot);
    const bool is_read_only = outer != "weir_source_limits";
    if (left && is_read_only && left.mapped() == inner) {
      published_[slot] = inner;
      return {};
    }
    LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = inner.flags);
    const auto type = static_cast<bpf_map_type>(inner.type);
    const UniqueFd map{bpf_map_create(type, "weir_inner", inner.key_bytes, inner.value_bytes,
                                      inner.max_entries, &options)};
    if (!map) return Error::from_errno(fmt::format("creating an inner map of {}", outer));
    for (const auto& [key, value] : inner.entries)
      if (bpf_map_update_elem(map.get(), key.data(), value.data(), BPF_ANY) != 0)
        return Error::from_errno(fmt::format("filling an inner map of {}", outer));
    const int fd = map.get();
    if (bpf_map_update_elem(map_fd(outer), &index, &fd, BPF_ANY) != 0)
      return Error::from_errno(fmt::format("publishing an inner map of {}", outer));
    published_[slot] = inner;
    return {};
  }

  void set_ticks(std::uint64_t) override {}
  std::vector<weir_event> take_events() override { return {}; }

 private:
  Result<void> withdraw_what_is_left() {
    for (const auto& [slot, inner] : loaded_->left)
      if (bpf_map_delete_elem(map_fd(slot.first), &slot.second) != 0)
        return Error::from_errno(fmt::format("erasing from {}", slot.first));
    loaded_->left.clear();
    return {};
  }

  Result<RunResult> run_once(std::span<const std::byte> frame) {
    RunResult result;
    result.output.resize(frame.size() + kOutputRoom);
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(),
                .data_out = result.output.data(),
                .data_size_in = static_cast<std::uint32_t>(frame.size()),
                .data_size_out = static_cast<std::uint32_t>(result.output.size()), .repeat = 1);
    if (bpf_prog_test_run_opts(loaded_->program_fd, &options) != 0)
      return Error::from_errno(fmt::format("running a frame of {} bytes", frame.size()));
    result.action = options.retval;
    if (program_ == BpfProgram::kDecapsulatorTc)  // in XDP's words, so that the two compare
      result.action = options.retval == TC_ACT_SHOT ? XDP_DROP : XDP_PASS;
    result.output.resize(options.data_size_out);
    return result;
  }

  [[nodiscard]] const bpf_map* map_named(std::string_view name) const {
    const bpf_map* map = bpf_object__find_map_by_name(loaded_->object, std::string{name}.c_str());
    WEIR_ASSERT(map != nullptr);  // tests name maps of the program they run
    return map;
  }
  [[nodiscard]] int map_fd(std::string_view name) const { return bpf_map__fd(map_named(name)); }

  BpfProgram program_;
  std::shared_ptr<Loaded> loaded_;
  std::map<Slot, InnerMap> published_ = {};
};

}  // namespace

Result<std::unique_ptr<BpfRunner>> make_kernel_runner(BpfProgram program,
                                                      const BpfSettings& settings) {
  auto loaded = acquire(program, settings);
  if (!loaded) return std::move(loaded).error();
  return std::unique_ptr<BpfRunner>{std::make_unique<KernelRunner>(program, std::move(*loaded))};
}

}  // namespace weir::testing
