#include "l4/flow_table.h"

#include <bpf/bpf.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <span>
#include <utility>

#include "bpf/abi.h"

namespace weir::l4 {
namespace {

constexpr std::uint32_t kBackendMask = 0xffff;

std::uint32_t backend_of(std::uint64_t entry) {
  return static_cast<std::uint32_t>(entry >> WEIR_FLOW_BACKEND_SHIFT) & kBackendMask;
}

/// Owns the mapping of a flow table.
class MappedFlows {
 public:
  static Result<MappedFlows> open(int map_fd) {
    bpf_map_info info{};
    std::uint32_t info_bytes = sizeof(info);
    if (::bpf_obj_get_info_by_fd(map_fd, &info, &info_bytes) != 0)
      return Error::from_errno("examining map weir_flows");
    const std::size_t bytes = std::size_t{info.max_entries} * sizeof(weir_flow_set);
    void* start = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0);
    if (start == MAP_FAILED) return Error::from_errno("mapping weir_flows");
    return MappedFlows{start, bytes};
  }
  MappedFlows(MappedFlows&& other) noexcept
      : start_{std::exchange(other.start_, nullptr)}, bytes_{other.bytes_} {}
  MappedFlows& operator=(MappedFlows&&) = delete;
  MappedFlows(const MappedFlows&) = delete;
  MappedFlows& operator=(const MappedFlows&) = delete;
  ~MappedFlows() {
    if (start_ != nullptr) ::munmap(start_, bytes_);
  }

  [[nodiscard]] std::span<std::uint64_t> entries() const {
    return {static_cast<std::uint64_t*>(start_), bytes_ / sizeof(std::uint64_t)};
  }

 private:
  MappedFlows(void* start, std::size_t bytes) : start_{start}, bytes_{bytes} {}
  void* start_;
  std::size_t bytes_;
};

/// The program writes entries at the same time, on other CPUs, each as one word.
std::uint64_t load(std::uint64_t& entry) {
  return std::atomic_ref{entry}.load(std::memory_order_relaxed);
}

}  // namespace

std::uint32_t flow_sets(std::uint32_t flows_max) {
  return std::bit_ceil(std::max<std::uint32_t>(flows_max, WEIR_FLOW_WAYS)) / WEIR_FLOW_WAYS;
}

std::uint32_t flow_entries(std::uint32_t flows_max) {
  return flows_max == 0 ? 0 : flow_sets(flows_max) * WEIR_FLOW_WAYS;
}

Result<FlowCount> count_flows(int map_fd) {
  Result<MappedFlows> flows = MappedFlows::open(map_fd);
  if (!flows) return std::move(flows).error();
  constexpr std::size_t kEntriesReadMax = std::size_t{WEIR_FLOW_WAYS} << 19;
  const std::span<std::uint64_t> all = flows->entries();
  const std::span<std::uint64_t> read = all.first(std::min(all.size(), kEntriesReadMax));
  std::uint64_t used = 0;
  for (std::uint64_t& entry : read)
    used += backend_of(load(entry)) != 0 ? 1 : 0;
  return FlowCount{.capacity = all.size(), .used = used * (all.size() / read.size())};
}

Result<void> copy_flows(int from_fd, int to_fd) {
  Result<MappedFlows> from = MappedFlows::open(from_fd);
  if (!from) return std::move(from).error();
  Result<MappedFlows> to = MappedFlows::open(to_fd);
  if (!to) return std::move(to).error();
  WEIR_ASSERT(from->entries().size() == to->entries().size());  // who copies has made the other
  for (std::size_t i = 0; i < from->entries().size(); ++i)
    to->entries()[i] = load(from->entries()[i]);
  return {};
}

Result<void> forget_flows(int map_fd, const std::function<bool(std::uint32_t)>& is_in_use) {
  Result<MappedFlows> flows = MappedFlows::open(map_fd);
  if (!flows) return std::move(flows).error();
  for (std::uint64_t& entry : flows->entries()) {
    std::uint64_t found = load(entry);
    if (found == 0 || is_in_use(backend_of(found))) continue;
    std::atomic_ref{entry}.compare_exchange_strong(found, 0, std::memory_order_relaxed);
  }
  return {};
}

}  // namespace weir::l4
