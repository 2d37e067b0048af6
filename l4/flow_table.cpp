#include "l4/flow_table.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <span>

#include "bpf/abi.h"
#include "l4/mapped_array.h"

namespace weir::l4 {

bool is_alive(const FlowEntry& entry, bool is_tcp, std::uint32_t now_s) {
  const std::uint32_t idle_s = entry.age(now_s);
  switch (entry.state) {
    case WEIR_FLOW_CLOSING:
      return idle_s < WEIR_FLOW_CLOSED_S;
    case WEIR_FLOW_NEW:
      return idle_s <= (is_tcp ? WEIR_NAT_TCP_NEW_S : WEIR_FLOW_UDP_IDLE_S);
    case WEIR_FLOW_ESTABLISHED:
      return idle_s <= (is_tcp ? WEIR_NAT_TCP_ESTABLISHED_S : WEIR_FLOW_UDP_IDLE_S);
    case WEIR_FLOW_CLIENT:
      return false;
  }
  return false;
}

Result<BackendFlows> count_flows_of(int map_fd, std::uint32_t backend, bool is_tcp,
                                    std::uint32_t now_s) {
  auto flows = MappedArray<std::uint64_t>::open(map_fd, "weir_flows");
  if (!flows) return std::move(flows).error();
  BackendFlows count;
  for (std::uint64_t& place : flows->values()) {
    const FlowEntry entry = FlowEntry::of(read_now(place));
    if (entry.backend.value() != backend || !is_alive(entry, is_tcp, now_s)) continue;
    ++count.alive;
    count.idle += entry.age(now_s) > WEIR_FLOW_LONG_IDLE_S ? 1 : 0;
  }
  return count;
}

std::uint32_t flow_sets(std::uint32_t flows_max) {
  return std::bit_ceil(std::max<std::uint32_t>(flows_max, WEIR_FLOW_WAYS)) / WEIR_FLOW_WAYS;
}

std::uint32_t flow_entries(std::uint32_t flows_max) {
  return flows_max == 0 ? 0 : flow_sets(flows_max) * WEIR_FLOW_WAYS;
}

Result<FlowCount> count_flows(int map_fd) {
  auto flows = MappedArray<std::uint64_t>::open(map_fd, "weir_flows");
  if (!flows) return std::move(flows).error();
  const std::span<std::uint64_t> all = flows->values();
  const std::span<std::uint64_t> read = all.first(std::min(all.size(), kFlowsReadMax));
  std::uint64_t used = 0;
  for (std::uint64_t& entry : read)
    used += FlowEntry::of(read_now(entry)).backend != BackendId{} ? 1 : 0;
  return FlowCount{.capacity = all.size(), .used = used * (all.size() / read.size())};
}

Result<void> forget_flows(int map_fd, const std::function<bool(std::uint32_t)>& is_in_use) {
  auto flows = MappedArray<std::uint64_t>::open(map_fd, "weir_flows");
  if (!flows) return std::move(flows).error();
  for (std::uint64_t& entry : flows->values()) {
    std::uint64_t found = read_now(entry);
    if (found == 0 || is_in_use(FlowEntry::of(found).backend.value())) continue;
    std::atomic_ref{entry}.compare_exchange_strong(found, 0, std::memory_order_relaxed);
  }
  return {};
}

}  // namespace weir::l4
