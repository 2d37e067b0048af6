#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "bpf/abi.h"
#include "l4/base/result.h"
#include "l4/flow_view.h"

/// The map weir_flows, read and cleared in place: one mapping instead of a system call per set.
namespace weir::l4 {

struct FlowCount {
  std::uint64_t capacity = 0;  ///< entries; 0: flows are not remembered
  std::uint64_t used = 0;      ///< of a large table an estimate, see count_flows()
};

/// What is made of a wish for so many entries: a power of two of sets, at least one.
std::uint32_t flow_sets(std::uint32_t flows_max);
/// The same in entries; 0 where no flows are to be remembered.
std::uint32_t flow_entries(std::uint32_t flows_max);

/// Entries that are read at most to say something of the whole table, from the first one on: 2^19
/// sets. Flows are spread by a hash, so that a part of a larger table stands for the whole, and
/// asking does not empty the CPU's caches.
inline constexpr std::size_t kFlowsReadMax = std::size_t{WEIR_FLOW_WAYS} << 19;

/// Counts entries, kFlowsReadMax of them at most.
Result<FlowCount> count_flows(int map_fd);

/// Flows that one backend still has.
struct BackendFlows {
  std::uint64_t alive = 0;
  std::uint64_t idle = 0;  ///< of them those that were silent for longer than WEIR_FLOW_LONG_IDLE_S
};

/// Whether somebody may still send a packet of the flow that the entry stands for: it was of more
/// than one packet, or its first is fresh; it was not closed for longer than a moment; and it was
/// silent for no longer than such flows are (established TCP: as RFC 5382, REQ-5 has it). Entries
/// of clients (affinity) are no flows.
bool is_alive(const FlowEntry& entry, bool is_tcp, std::uint32_t now_s);

/// Reads the whole table: a wait for the last flow must not miss it. 512 MiB at most, 2 MiB by
/// default.
Result<BackendFlows> count_flows_of(int map_fd, std::uint32_t backend, bool is_tcp,
                                    std::uint32_t now_s);

/// Clears the entries whose backend is not in use, but none that the program changes meanwhile.
Result<void> forget_flows(int map_fd, const std::function<bool(std::uint32_t)>& is_in_use);

}  // namespace weir::l4
