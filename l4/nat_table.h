#pragma once

#include <cstdint>

#include "bpf/abi.h"
#include "l4/base/result.h"
#include "l4/flow_table.h"

/// The map weir_nat_flows, counted in place.
namespace weir::l4 {

/// Records that hold a flow whose time is not up, by state; of a large table an estimate, as in
/// count_flows(). The rest is free: a record is cleared when it is used again, and not before.
struct NatCount {
  std::uint64_t capacity = 0;  ///< 0: there is no table
  std::uint64_t unanswered = 0;
  std::uint64_t answered = 0;     ///< UDP flows, and connections whose handshake is not complete
  std::uint64_t established = 0;  ///< TCP
  std::uint64_t closing = 0;

  [[nodiscard]] std::uint64_t used() const { return unanswered + answered + established + closing; }
};

/// What is made of a wish for so many records: a power of two, at least two; 0 stays 0.
std::uint32_t nat_records(std::uint32_t nat_flows_max);

/// Flows of one backend whose time is not up, those that are closing aside. Reads the whole table.
Result<BackendFlows> count_nat_flows_of(int map_fd, std::uint32_t backend, std::uint32_t stamp);

/// `stamp` is the second that it is now, as the program counts (kernel_clock.h).
Result<NatCount> count_nat_flows(int map_fd, std::uint32_t stamp);

}  // namespace weir::l4
