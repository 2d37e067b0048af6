#include "l4/stats_route.h"

#include <fmt/format.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "l4/base/clock.h"
#include "l4/control/route_json.h"
#include "l4/observe.h"
#include "l4/service_counters.h"

namespace weir::l4 {
namespace {

using control::AdminReply;
using control::AdminRequest;
using nlohmann::json;

/// Where there are ten times as many of them as VIPs, whoever shows VIPs alone asks without.
enum class Backends : std::uint8_t { kListed, kLeftOut };

/// The NAT table: what is in it, and what happened in it. Null where there is none.
Result<json> nat_json(const Datapath& datapath) {
  Result<NatCount> count = read_nat_count(datapath);
  if (!count) return std::move(count).error();
  if (count->capacity == 0) return json();
  Result<std::vector<FlowEventRow>> events = read_nat_events(datapath.tables());
  if (!events) return std::move(events).error();
  json out{{"records_max", count->capacity},    {"records", count->used()},
           {"unanswered", count->unanswered},   {"answered", count->answered},
           {"established", count->established}, {"closing", count->closing}};
  for (const FlowEventRow& row : *events)
    out[row.label] = row.count;
  return out;
}

json counter_json(const weir_counter& counter) {
  return {{"packets", counter.packets}, {"bytes", counter.bytes}};
}

json counter_json(const weir_service_counter& counter) {
  return {{"packets", counter.packets}, {"bytes", counter.bytes}, {"new_flows", counter.new_flows}};
}

/// A VIP's counters. `sent_packets` is what its present backends got of its packets: what the rest
/// became, the balancer has dropped or answered by itself.
json vip_stats_json(const ServiceCounters& counters, const InstalledVip& installed,
                    Backends backends) {
  json row = counter_json(counters.of(installed.id));
  row["vip"] = control::vip_text(installed.vip.key());
  row["name"] = installed.vip.name;
  row["mode"] = control::text_of(installed.vip.mode);
  std::uint64_t sent = 0;
  json rows = json::array();
  for (const InstalledBackend& entry : installed.backends) {
    const weir_service_counter& counter = counters.of(entry.id);
    sent += counter.packets;
    if (backends == Backends::kLeftOut) continue;
    json backend = counter_json(counter);
    backend["address"] = entry.backend.address.text();
    backend["name"] = entry.backend.name;
    rows.push_back(std::move(backend));
  }
  // weir-l7 has the packets of its VIPs; there is no backend to count them.
  const bool is_l7 = installed.vip.mode == control::ForwardMode::kL7;
  row["sent_packets"] = is_l7 ? json() : json(sent);
  if (backends == Backends::kListed) row["backends"] = std::move(rows);
  return row;
}

struct Wish {
  std::optional<control::VipKey> vip;
  Backends backends = Backends::kListed;
};

Result<Wish> wish_of(const Plane& plane, const AdminRequest& request) {
  Wish wish;
  for (const auto& [name, text] : request.query) {
    if (name == "vip") {
      Result<control::VipKey> key = control::parse_vip_key(text);
      if (!key) return std::move(key).error();
      if (!plane.installed().contains(*key)) return control::no_such_vip(text);
      wish.vip = *key;
    } else if (name == "backends" && (text == "true" || text == "false")) {
      wish.backends = text == "true" ? Backends::kListed : Backends::kLeftOut;
    } else {
      return Error{ErrorCode::kInvalid, fmt::format("the query has '{}={}'", name, text),
                   "it may have vip=VIP and backends=true or false"};
    }
  }
  return wish;
}

Result<json> service_stats(const Plane& plane, const Wish& wish) {
  const Result<ServiceCounters> counters = ServiceCounters::read(plane);
  if (!counters) return counters.error();
  json vips = json::array();
  for (const auto& [key, installed] : plane.installed()) {
    if (!wish.vip || *wish.vip == key)
      vips.push_back(vip_stats_json(*counters, installed, wish.backends));
  }
  return vips;
}

Result<json> get_stats(const Plane& plane, const AdminRequest& request) {
  if (!plane.loaded())
    return Error{ErrorCode::kUnavailable,
                 "the balancer is loaded on no device, so it counts nothing",
                 "load it: weir load DEVICE"};
  const Result<Wish> wish = wish_of(plane, request);
  if (!wish) return wish.error();
  const auto read_at = monotonic_now().time_since_epoch();
  const KernelTables& tables = plane.datapath().tables();
  Result<std::vector<VerdictRow>> verdicts = read_verdicts(tables);
  if (!verdicts) return std::move(verdicts).error();
  json rows = json::array();
  for (const VerdictRow& row : *verdicts) {
    json item = counter_json(row.total);
    item["verdict"] = row.label;
    item["action"] = row.action;
    item["meaning"] = row.meaning;
    rows.push_back(std::move(item));
  }
  Result<json> vips = service_stats(plane, *wish);
  if (!vips) return vips;
  Result<std::vector<ReturnRow>> returns = read_return_verdicts(tables);
  if (!returns) return std::move(returns).error();
  json way_back = json::array();
  for (const ReturnRow& row : *returns) {
    json item = counter_json(row.total);
    item["verdict"] = row.label;
    way_back.push_back(std::move(item));
  }
  Result<std::vector<FlowEventRow>> events = read_flow_events(tables);
  if (!events) return std::move(events).error();
  json flow_table = json::object();
  for (const FlowEventRow& row : *events)
    flow_table[row.label] = row.count;
  Result<json> nat = nat_json(plane.datapath());
  if (!nat) return nat;
  const auto runs = plane.datapath().program_runs();
  return json{{"read_at_ns", read_at.count()},
              {"verdicts", std::move(rows)},
              {"total", counter_json(sum_of(*verdicts))},
              {"program_runs", runs ? json(*runs) : json()},
              {"flow_table", std::move(flow_table)},
              {"nat", *std::move(nat)},
              {"vips", *std::move(vips)},
              {"return", std::move(way_back)}};
}

}  // namespace

AdminReply stats_request(const Plane& plane, const AdminRequest& request) {
  return control::reply_of(get_stats(plane, request));
}

}  // namespace weir::l4
