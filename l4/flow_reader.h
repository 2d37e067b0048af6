#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "l4/datapath.h"
#include "l4/flow_view.h"

/// The tables of flows in the kernel, read in place while the program writes them.
namespace weir::l4 {

struct ReadFlows {
  FlowTallies tallies;
  bool is_estimate = false;  ///< a part stands for the whole: see count_flows()
};

/// Entries of the flow table and records of the NAT table, by backend. `now` is read_stamp()'s.
Result<ReadFlows> read_flow_tallies(const Datapath& datapath, std::uint32_t now);

/// The entry of one flow, or of one client.
Result<std::optional<FlowEntry>> read_flow(const Datapath& datapath, const weir_flow_key& flow);

/// Calls `take` with every record that holds a flow whose time is not up, each as it was at one
/// moment, and with its nat_age().
Result<void> for_each_nat_flow(
    const Datapath& datapath, std::uint32_t now,
    const std::function<void(const weir_nat_flow&, std::uint32_t)>& take);

/// What a hash leads to in a VIP's table, by numbers within the VIP; 0: no backend, or no table.
struct SlotChoice {
  MemberNumber current;
  MemberNumber previous;  ///< in the table before
};
Result<SlotChoice> read_choice(const Datapath& datapath, VipId vip, std::uint64_t hash);

}  // namespace weir::l4
