#include "l4/observe.h"

#include <array>
#include <cstdint>
#include <span>

#include "l4/kernel_clock.h"

namespace weir::l4 {
namespace {

constexpr std::string_view action_label(std::string_view action) {
  if (action == "PASS") return "pass";
  if (action == "DROP") return "drop";
  if (action == "TX") return "tx";
  return "redirect";
}

constexpr std::array kVerdicts{
#define WEIR_VERDICT(symbol, action, label, sentence) \
  VerdictRow{label, action_label(#action), sentence, {}},
#include "bpf/verdicts.def"
#undef WEIR_VERDICT
};
static_assert(kVerdicts.size() == WEIR_VERDICT_COUNT);

constexpr std::array<std::string_view, 3> kReturnLabels{"redirect", "drop", "other_lane"};
static_assert(kReturnLabels.size() == WEIR_RETURN_VERDICT_COUNT);
static_assert(WEIR_RETURN_REDIRECT == 0 && WEIR_RETURN_DROP == 1 && WEIR_RETURN_OTHER_LANE == 2);

constexpr std::array<std::string_view, 5> kFlowLabels{"added", "evicted_new", "evicted_established",
                                                      "not_added", "second_chance"};
static_assert(kFlowLabels.size() == WEIR_FLOW_EVENT_COUNT);
static_assert(WEIR_FLOW_ADDED == 0 && WEIR_FLOW_EVICTED_NEW == 1 &&
              WEIR_FLOW_EVICTED_ESTABLISHED == 2 && WEIR_FLOW_NOT_ADDED == 3 &&
              WEIR_FLOW_SECOND_CHANCE == 4);

constexpr std::array<std::string_view, 10> kNatLabels{
    "added",     "expired",   "evicted_closing", "evicted_new",  "evicted_udp",
    "forgotten", "no_record", "no_port",         "port_changed", "repaired"};
static_assert(kNatLabels.size() == WEIR_NAT_EVENT_COUNT);
static_assert(WEIR_NAT_ADDED == 0 && WEIR_NAT_EXPIRED == 1 && WEIR_NAT_EVICTED_CLOSING == 2 &&
              WEIR_NAT_EVICTED_NEW == 3 && WEIR_NAT_EVICTED_UDP == 4 && WEIR_NAT_FORGOTTEN == 5 &&
              WEIR_NAT_NO_RECORD == 6 && WEIR_NAT_NO_PORT == 7 && WEIR_NAT_PORT_CHANGED == 8 &&
              WEIR_NAT_REPAIRED == 9);

void add(std::uint64_t& sum, const std::uint64_t& value) { sum += value; }

void add(weir_counter& sum, const weir_counter& value) {
  sum.packets += value.packets;
  sum.bytes += value.bytes;
}

void add(weir_service_counter& sum, const weir_service_counter& value) {
  sum.packets += value.packets;
  sum.bytes += value.bytes;
  sum.new_flows += value.new_flows;
}

template <typename Counter>
Result<Counter> summed(const PerCpuMap<std::uint32_t, Counter>& map, std::uint32_t index) {
  Result<std::vector<Counter>> values = map.get(index);
  if (!values) return std::move(values).error();
  Counter sum{};
  for (const Counter& value : *values)
    add(sum, value);
  return sum;
}

Result<std::vector<weir_service_counter>> all_summed(
    const PerCpuMap<std::uint32_t, weir_service_counter>& map, std::uint32_t count) {
  std::vector<weir_service_counter> sums(count);
  Result<void> read =
      map.for_each(count, [&](std::uint32_t index, std::span<const weir_service_counter> values) {
        if (index >= count) return;
        for (const weir_service_counter& value : values)
          add(sums[index], value);
      });
  if (!read) return std::move(read).error();
  return sums;
}

Result<std::vector<FlowEventRow>> read_events(const PerCpuMap<std::uint32_t, std::uint64_t>& map,
                                              std::span<const std::string_view> labels) {
  std::vector<FlowEventRow> rows;
  for (std::uint32_t index = 0; index < labels.size(); ++index) {
    Result<std::uint64_t> count = summed(map, index);
    if (!count) return std::move(count).error();
    rows.push_back({.label = labels[index], .count = *count});
  }
  return rows;
}

}  // namespace

std::span<const VerdictRow> known_verdicts() { return kVerdicts; }

const VerdictRow& verdict_row(std::uint32_t verdict) {
  static constexpr VerdictRow kUnknown{"unknown", "unknown", "a verdict of another version", {}};
  return verdict < kVerdicts.size() ? kVerdicts[verdict] : kUnknown;
}

Result<std::vector<VerdictRow>> read_verdicts(const KernelTables& tables) {
  std::vector<VerdictRow> rows{kVerdicts.begin(), kVerdicts.end()};
  for (std::uint32_t index = 0; index < rows.size(); ++index) {
    Result<weir_counter> total = summed(tables.counters(), index);
    if (!total) return std::move(total).error();
    rows[index].total = *total;
  }
  return rows;
}

Result<std::vector<ReturnRow>> read_return_verdicts(const KernelTables& tables) {
  std::vector<ReturnRow> rows;
  for (std::uint32_t index = 0; index < kReturnLabels.size(); ++index) {
    Result<weir_counter> total = summed(tables.return_counters(), index);
    if (!total) return std::move(total).error();
    rows.push_back({.label = kReturnLabels[index], .total = *total});
  }
  return rows;
}

Result<std::vector<FlowEventRow>> read_flow_events(const KernelTables& tables) {
  return read_events(tables.flow_counters(), kFlowLabels);
}

Result<std::vector<FlowEventRow>> read_nat_events(const KernelTables& tables) {
  return read_events(tables.nat_counters(), kNatLabels);
}

Result<NatCount> read_nat_count(const Datapath& datapath) {
  if (datapath.settings().nat_flows_max == 0) return NatCount{};
  Result<std::uint32_t> stamp = read_stamp(datapath.constants().ticks);
  if (!stamp) return std::move(stamp).error();
  return datapath.tables().count_nat_flows(*stamp);
}

Result<BackendFlows> read_backend_flows(const Datapath& datapath, const control::Vip& vip,
                                        BackendId id) {
  Result<std::uint32_t> stamp = read_stamp(datapath.constants().ticks);
  if (!stamp) return std::move(stamp).error();
  if (vip.mode != control::ForwardMode::kNat)
    return datapath.tables().count_flows_of(id, vip.protocol == control::Protocol::kTcp, *stamp);
  if (datapath.settings().nat_flows_max == 0) return BackendFlows{};
  return datapath.tables().count_nat_flows_of(id, *stamp);
}

Result<weir_service_counter> read_vip_counter(const KernelTables& tables, VipId id) {
  return summed(tables.vip_counters(), id.value());
}

Result<weir_service_counter> read_backend_counter(const KernelTables& tables, BackendId id) {
  return summed(tables.backend_counters(), id.value());
}

Result<std::vector<weir_service_counter>> read_vip_counters(const KernelTables& tables,
                                                            std::uint32_t count) {
  return all_summed(tables.vip_counters(), count);
}

Result<std::vector<weir_service_counter>> read_backend_counters(const KernelTables& tables,
                                                                std::uint32_t count) {
  return all_summed(tables.backend_counters(), count);
}

weir_counter sum_of(const std::vector<VerdictRow>& rows) {
  weir_counter sum{};
  for (const VerdictRow& row : rows)
    add(sum, row.total);
  return sum;
}

}  // namespace weir::l4
