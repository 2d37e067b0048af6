#include "l4/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "l4/control/exposition.h"
#include "l4/observe.h"
#include "l4/service_counters.h"

namespace weir::l4 {
namespace {

using Loaded = MetricsReading::Loaded;

Result<void> read_verdict_families(const KernelTables& tables, Loaded& loaded) {
  const Result<std::vector<VerdictRow>> verdicts = read_verdicts(tables);
  if (!verdicts) return verdicts.error();
  for (const VerdictRow& row : *verdicts)
    loaded.verdicts.push_back({row.label, row.action, row.total});
  const Result<std::vector<ReturnRow>> returned = read_return_verdicts(tables);
  if (!returned) return returned.error();
  for (const ReturnRow& row : *returned)
    loaded.returned.push_back({row.label, {}, row.total});
  return {};
}

std::vector<MetricsReading::Event> events_of(const std::vector<FlowEventRow>& rows) {
  std::vector<MetricsReading::Event> events;
  for (const FlowEventRow& row : rows)
    events.push_back({row.label, row.count});
  return events;
}

Result<void> read_tables(const Datapath& datapath, Loaded& loaded) {
  const KernelTables& tables = datapath.tables();
  const Result<std::vector<FlowEventRow>> flow_events = read_flow_events(tables);
  if (!flow_events) return flow_events.error();
  loaded.flow_events = events_of(*flow_events);
  const Result<FlowCount> flows = tables.count_flows();
  if (!flows) return flows.error();
  loaded.flows = flows->used;
  loaded.flows_max = datapath.settings().flows_max;
  const Result<NatCount> nat = read_nat_count(datapath);
  if (!nat) return nat.error();
  loaded.nat_flows_max = nat->capacity;
  loaded.nat_flows = {{"unanswered", nat->unanswered},
                      {"answered", nat->answered},
                      {"established", nat->established},
                      {"closing", nat->closing}};
  const Result<std::vector<FlowEventRow>> nat_events = read_nat_events(tables);
  if (!nat_events) return nat_events.error();
  loaded.nat_events = events_of(*nat_events);
  return {};
}

Result<void> read_devices(Plane& plane, Loaded& loaded) {
  const Result<std::vector<Attachment>> attachments = plane.attachments();
  if (!attachments) return attachments.error();
  for (const Attachment& attachment : *attachments) {
    const auto link = plane.links().find(attachment.ifindex);
    const bool is_known = link != plane.links().end();
    loaded.devices.push_back({.name = attachment.device,
                              .mode = std::string{control::text_of(attachment.mode)},
                              .up = is_known && link->second.up,
                              .mtu_bytes = is_known ? link->second.mtu : 0});
  }
  const Result<std::vector<WorkerPair>> workers = plane.workers();
  if (!workers) return workers.error();
  const Result<Lane> lane = plane.lane();
  for (const WorkerPair& pair : *workers)
    if (lane && pair.lane == *lane) loaded.workers.push_back({pair.index, pair.up, pair.taken});
  return {};
}

/// Nothing where nobody asked for it, or nobody knows yet.
std::optional<bool> is_up(const control::VipHealth* vip, const wire::IpAddress& address) {
  const control::BackendHealth* health = vip == nullptr ? nullptr : vip->health_of(address);
  if (health == nullptr || health->state() == control::HealthState::kChecking) return std::nullopt;
  return health->state() != control::HealthState::kDown;
}

Result<void> read_services(const Plane& plane, Loaded& loaded) {
  const Result<ServiceCounters> counters = ServiceCounters::read(plane);
  if (!counters) return counters.error();
  for (const auto& [key, installed] : plane.installed()) {
    const control::VipHealth* health = plane.health().find(key);
    MetricsReading::Vip vip{
        control::vip_text(key), installed.vip.name, counters->of(installed.id), {}};
    for (const InstalledBackend& entry : installed.backends) {
      vip.backends.push_back({entry.backend.address.text(), entry.backend.name,
                              counters->of(entry.id), is_up(health, entry.backend.address)});
      if (entry.next_hop.state != NextHopState::kResolved) ++loaded.backends_unresolved;
    }
    loaded.vips.push_back(std::move(vip));
  }
  return {};
}

Result<Loaded> read_loaded(Plane& plane) {
  Loaded loaded;
  Result<void> read = read_verdict_families(plane.datapath().tables(), loaded);
  if (read) read = read_tables(plane.datapath(), loaded);
  if (read) read = read_devices(plane, loaded);
  if (read) read = read_services(plane, loaded);
  if (!read) return std::move(read).error();
  return loaded;
}

}  // namespace

control::AdminReply metrics_reply(Plane& plane, std::size_t series_max) {
  MetricsReading reading{.process = control::read_process_facts(),
                         .version = WEIR_VERSION,
                         .revision = plane.desired().revision,
                         .in_desired_state = plane.in_desired_state(),
                         .warnings = plane.warnings().size()};
  const ServiceView services{plane.desired()};
  reading.vips = services.all().size();
  for (const control::Vip* vip : services.all())
    reading.backends += vip->backends.size();
  const HealthBoard::Summary health = plane.health().summary();
  reading.backends_checked = health.backends_checked;
  reading.backends_down = health.backends_down;
  reading.vips_fail_open = health.vips_open;
  reading.reload = plane.reload_status();
  if (plane.loaded()) {
    Result<Loaded> loaded = read_loaded(plane);
    if (!loaded) return control::error_reply(loaded.error());
    reading.loaded = *std::move(loaded);
  }
  return {200, metrics_text(reading, series_max), std::string{control::kExpositionType}};
}

}  // namespace weir::l4
