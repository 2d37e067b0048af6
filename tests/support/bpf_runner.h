#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bpf/abi.h"
#include "l4/base/result.h"

namespace weir::testing {

/// What moved in one counter during one run. Verdict counters have no new flows.
struct CounterDelta {
  std::uint64_t packets = 0;
  std::uint64_t bytes = 0;
  std::uint64_t new_flows = 0;
  friend bool operator==(const CounterDelta&, const CounterDelta&) = default;
};

struct RunResult {
  std::uint32_t action = 0;  ///< XDP_*
  std::vector<std::byte> output;
  /// Counters that moved, and only those: by verdict label ("tx_ipip"), "vip 1", "backend 2".
  std::map<std::string, CounterDelta> moved;

  friend bool operator==(const RunResult&, const RunResult&) = default;
};

/// For failure messages: action, counters, output as hexadecimal.
std::string describe(const RunResult& result);

/// The tc program runs in the kernel alone; beside it the host runs the XDP program, whose results
/// its own must equal.
enum class BpfProgram { kBalancer, kL7Return, kDecapsulator, kDecapsulatorTc };

/// What user space would set before load.
struct BpfSettings {
  std::uint64_t hash_seed[2] = {0x0123456789abcdef, 0xfedcba9876543210};
  std::uint32_t l7_worker_count = 0;
  std::uint32_t flow_sets = 128;  ///< a power of two
  bool is_stateless = false;      ///< no flow table
  std::uint32_t answers_per_s = 1'000'000;
  std::uint32_t nat_records = 0;     ///< a power of two; 0: nothing is translated
  std::uint16_t nat_port_first = 0;  ///< of full NAT; 0: the client's own or none
  std::uint16_t nat_port_last = 0;
  /// The kernel engine's clock is the kernel's, whatever its tick: tests of times are the host's.
  static constexpr std::uint32_t kTicksPerSecond = 1000;
  static constexpr std::uint8_t kSecondShift = 10;
  bool decapsulate_any_source = false;
  bool decapsulate_any_vip = false;
  bool decapsulate_drop_foreign = false;

  friend bool operator==(const BpfSettings&, const BpfSettings&) = default;
};

/// An inner map of one of the outer ones, with all that is in it.
struct InnerMap {
  std::uint32_t type = 0;  ///< BPF_MAP_TYPE_*
  std::uint32_t flags = 0;
  std::uint32_t key_bytes = 0;
  std::uint32_t value_bytes = 0;
  std::uint32_t max_entries = 0;
  std::vector<std::pair<std::vector<std::byte>, std::vector<std::byte>>> entries;

  friend bool operator==(const InnerMap&, const InnerMap&) = default;

  template <typename Key, typename Value>
  void add(const Key& key, const Value& value) {
    const auto key_view = std::as_bytes(std::span{&key, 1});
    const auto value_view = std::as_bytes(std::span{&value, 1});
    entries.emplace_back(std::vector<std::byte>{key_view.begin(), key_view.end()},
                         std::vector<std::byte>{value_view.begin(), value_view.end()});
  }
};

/// Empty ones, as maps.h declares them.
InnerMap source_list();
InnerMap source_limits();
InnerMap quic_ids();
/// A table of these sizes without a slot: what is broken about it is that there are none.
InnerMap maglev_sizes(std::uint32_t size, std::uint32_t previous_size);
/// The table whose slot i names current[i], and before that previous[i] (0 where there is none).
InnerMap maglev_table(std::span<const std::uint32_t> current,
                      std::span<const std::uint32_t> previous = {});

/// What user space may do with the maps of a program.
class MapWriter {
 public:
  virtual ~MapWriter() = default;

  virtual Result<void> write_bytes(std::string_view map, std::span<const std::byte> key,
                                   std::span<const std::byte> value) = 0;
  /// Puts a map into a slot of an outer one, in the place of the one that is there.
  virtual Result<void> publish_map(std::string_view outer, std::uint32_t index,
                                   const InnerMap& inner) = 0;

  template <typename Key, typename Value>
  Result<void> write(std::string_view map, const Key& key, const Value& value) {
    return write_bytes(map, std::as_bytes(std::span{&key, 1}), std::as_bytes(std::span{&value, 1}));
  }
};

/// One program of bpf/ with its maps, ready to be given frames. Two engines behind one interface:
/// the sources compiled for the host under sanitizers, and the object in the kernel through its
/// test-run. A devmap slot may be filled with kAnyDevice: no frame really leaves.
class BpfRunner : public MapWriter {
 public:
  /// The loopback device: it exists in every network namespace, and a test-run of the kernel
  /// claims that frames came in by it.
  static constexpr std::uint32_t kAnyDevice = 1;
  /// Counters of VIPs and backends are watched for ids below this.
  static constexpr std::uint32_t kWatchedIds = 16;

  virtual Result<RunResult> run(std::span<const std::byte> frame) = 0;
  /// Of a slot of an outer map: takes out the map that publish_map() put in.
  virtual Result<void> erase_bytes(std::string_view map, std::span<const std::byte> key) = 0;
  /// One CPU's value for per-CPU maps is of no use: they are summed, as 64-bit words.
  virtual Result<std::vector<std::byte>> read_bytes(std::string_view map,
                                                    std::span<const std::byte> key) = 0;
  /// The host engine's clock, in ticks; the kernel's cannot be set.
  virtual void set_ticks(std::uint64_t ticks) = 0;
  /// The events since the last call, of the host engine only.
  virtual std::vector<weir_event> take_events() = 0;

  template <typename Key>
  Result<void> erase(std::string_view map, const Key& key) {
    return erase_bytes(map, std::as_bytes(std::span{&key, 1}));
  }
  template <typename Value, typename Key>
  Result<Value> read(std::string_view map, const Key& key) {
    auto bytes = read_bytes(map, std::as_bytes(std::span{&key, 1}));
    if (!bytes) return std::move(bytes).error();
    WEIR_ASSERT(bytes->size() == sizeof(Value));
    Value value;
    std::memcpy(&value, bytes->data(), sizeof(value));
    return value;
  }
};

Result<std::unique_ptr<BpfRunner>> make_host_runner(BpfProgram program,
                                                    const BpfSettings& settings);

/// Fails with kDenied where the rights to load programs are missing.
Result<std::unique_ptr<BpfRunner>> make_kernel_runner(BpfProgram program,
                                                      const BpfSettings& settings);

/// The kernel, with the host engine at its side: every write goes to both, every run is made on
/// both, and a difference in action, output or counters is an error that shows both.
Result<std::unique_ptr<BpfRunner>> make_compared_runner(BpfProgram program,
                                                        const BpfSettings& settings);

}  // namespace weir::testing
