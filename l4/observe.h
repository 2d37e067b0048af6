#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "bpf/abi.h"
#include "l4/base/result.h"
#include "l4/datapath.h"
#include "l4/kernel_tables.h"

/// The kernel's per-CPU counters, summed and named.
namespace weir::l4 {

struct VerdictRow {
  std::string_view label;   ///< "tx_ipip"
  std::string_view action;  ///< "pass", "drop", "tx" or "redirect"
  std::string_view meaning;
  weir_counter total{};
};

struct ReturnRow {
  std::string_view label;
  weir_counter total{};
};

/// What happened in the flow table.
struct FlowEventRow {
  std::string_view label;
  std::uint64_t count = 0;
};

/// The flows that a backend still has: by NAT records in mode nat, else by flow entries. Flows that
/// are not remembered (node.l4.flows: 0, or entries that gave way) are not known of.
Result<BackendFlows> read_backend_flows(const Datapath& datapath, const control::Vip& vip,
                                        BackendId id);

/// The NAT table as weir_nat_flows has it now. Without a table: capacity 0.
Result<NatCount> read_nat_count(const Datapath& datapath);
/// What happened to translated flows, in the order of enum weir_nat_event.
Result<std::vector<FlowEventRow>> read_nat_events(const KernelTables& tables);

/// Every verdict, in the order of bpf/verdicts.def, with totals of zero.
std::span<const VerdictRow> known_verdicts();
/// The one with this number; one that says so where the kernel's program knows more verdicts.
const VerdictRow& verdict_row(std::uint32_t verdict);

/// The same with their totals. Each packet that the program received is
/// counted in exactly one of them.
Result<std::vector<VerdictRow>> read_verdicts(const KernelTables& tables);
Result<std::vector<ReturnRow>> read_return_verdicts(const KernelTables& tables);
/// In the order of enum weir_flow_event.
Result<std::vector<FlowEventRow>> read_flow_events(const KernelTables& tables);
Result<weir_service_counter> read_vip_counter(const KernelTables& tables, VipId id);
Result<weir_service_counter> read_backend_counter(const KernelTables& tables, BackendId id);

/// Those of all ids below `count` at once; the index is the id.
Result<std::vector<weir_service_counter>> read_vip_counters(const KernelTables& tables,
                                                            std::uint32_t count);
Result<std::vector<weir_service_counter>> read_backend_counters(const KernelTables& tables,
                                                                std::uint32_t count);

weir_counter sum_of(const std::vector<VerdictRow>& rows);

}  // namespace weir::l4
