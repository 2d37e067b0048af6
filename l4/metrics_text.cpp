#include "l4/metrics_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>
#include <string_view>
#include <vector>

#include "l4/control/exposition.h"

namespace weir::l4 {
namespace {

using control::Exposition;
using control::MetricLabel;
using control::MetricType;
using Loaded = MetricsReading::Loaded;

constexpr std::size_t kSeriesOfAService = 3;  // packets, bytes, new flows

std::size_t series_of(const MetricsReading::Backend& backend) {
  return kSeriesOfAService + (backend.up ? 1 : 0);
}

void add_process(const MetricsReading& reading, Exposition& out) {
  out.family("weir_build_info", MetricType::kGauge, "Version of weir-l4, always 1");
  out.sample(std::array{MetricLabel{"version", reading.version},
                        MetricLabel{"abi", std::to_string(WEIR_ABI_VERSION)}},
             std::uint64_t{1});
  // The names that Prometheus' own client libraries give to these.
  const control::ProcessFacts& process = reading.process;
  out.family("process_resident_memory_bytes", MetricType::kGauge, "Resident memory of weir-l4");
  out.sample(process.resident_bytes);
  out.family("process_cpu_seconds_total", MetricType::kCounter,
             "CPU time of weir-l4, not of the XDP program");
  out.sample(process.cpu_s);
  out.family("process_start_time_seconds", MetricType::kGauge, "When weir-l4 began, since 1970");
  out.sample(process.start_unix_s);
  out.family("process_open_fds", MetricType::kGauge, "Open descriptors of weir-l4");
  out.sample(process.descriptors);
}

void add_gauge(Exposition& out, std::string_view name, std::string_view help, std::uint64_t value) {
  out.family(name, MetricType::kGauge, help);
  out.sample(value);
}

void add_config(const MetricsReading& reading, Exposition& out) {
  add_gauge(out, "weir_config_revision", "The revision that is in force", reading.revision);
  add_gauge(out, "weir_config_vips", "VIPs of this revision", reading.vips);
  add_gauge(out, "weir_config_backends", "Backends of this revision", reading.backends);
  add_gauge(out, "weir_loaded", "Whether the XDP program is loaded", reading.loaded ? 1 : 0);
  add_gauge(out, "weir_in_desired_state",
            "Whether the kernel has what this revision asks for; 0 is explained by weir status",
            reading.in_desired_state ? 1 : 0);
  add_gauge(out, "weir_warnings", "Warnings that weir status shows", reading.warnings);
  add_gauge(out, "weir_health_backends_checked", "Backends whose health is checked",
            reading.backends_checked);
  add_gauge(out, "weir_health_backends_down", "Checked backends that are down",
            reading.backends_down);
  add_gauge(out, "weir_health_vips_fail_open",
            "VIPs so many of whose backends are down that none of them counts as down",
            reading.vips_fail_open);
  control::add_reload(out, "weir", reading.reload);
}

void add_verdicts(Exposition& out, std::string_view prefix, std::string_view what,
                  std::span<const MetricsReading::Verdict> rows) {
  const auto add = [&](std::string_view unit, auto value_of) {
    out.family(fmt::format("{}_{}_total", prefix, unit), MetricType::kCounter,
               fmt::format("{}, {}", what, unit));
    for (const MetricsReading::Verdict& row : rows) {
      const std::array labels{MetricLabel{"verdict", row.label}, MetricLabel{"action", row.action}};
      out.sample(std::span{labels}.first(row.action.empty() ? 1 : 2), value_of(row.total));
    }
  };
  add("packets", [](const weir_counter& total) { return std::uint64_t{total.packets}; });
  add("bytes", [](const weir_counter& total) { return std::uint64_t{total.bytes}; });
}

void add_events(Exposition& out, std::string_view name, MetricType type, std::string_view help,
                std::string_view label, std::span<const MetricsReading::Event> events) {
  out.family(name, type, help);
  for (const MetricsReading::Event& event : events)
    out.sample(std::array{MetricLabel{label, event.label}}, event.count);
}

void add_tables(const Loaded& loaded, Exposition& out) {
  add_gauge(out, "weir_flow_table_entries", "Entries of the flow table in use", loaded.flows);
  add_gauge(out, "weir_flow_table_entries_max", "Entries that the flow table has room for",
            loaded.flows_max);
  add_events(out, "weir_flow_table_events_total", MetricType::kCounter,
             "What happened to entries of the flow table", "event", loaded.flow_events);
  if (loaded.nat_flows_max == 0) return;
  add_events(out, "weir_nat_flows", MetricType::kGauge,
             "Translated flows whose time is not up, by state", "state", loaded.nat_flows);
  add_gauge(out, "weir_nat_flows_max", "Records that the NAT table has room for",
            loaded.nat_flows_max);
  add_events(out, "weir_nat_events_total", MetricType::kCounter,
             "What happened to translated flows", "event", loaded.nat_events);
}

void add_devices(const Loaded& loaded, Exposition& out) {
  const auto add = [&](std::string_view name, std::string_view help, auto value_of) {
    out.family(name, MetricType::kGauge, help);
    for (const MetricsReading::Device& device : loaded.devices) {
      out.sample(std::array{MetricLabel{"device", device.name}, MetricLabel{"mode", device.mode}},
                 value_of(device));
    }
  };
  add("weir_device_up", "Whether a device that carries the balancer is up",
      [](const MetricsReading::Device& device) { return std::uint64_t{device.up ? 1U : 0U}; });
  add("weir_device_mtu_bytes", "MTU of a device that carries the balancer",
      [](const MetricsReading::Device& device) { return std::uint64_t{device.mtu_bytes}; });
  if (loaded.workers.empty()) return;
  out.family("weir_worker_up", MetricType::kGauge,
             "Whether an L7 worker's devices are up and weir-l7 has taken its end");
  for (const MetricsReading::Worker& worker : loaded.workers) {
    out.sample(std::array{MetricLabel{"worker", std::to_string(worker.index)}},
               std::uint64_t{worker.up && worker.taken ? 1U : 0U});
  }
}

using ValueOf = std::uint64_t (*)(const weir_service_counter&);
struct ServiceFamily {
  std::string_view suffix;
  std::string_view what;
  ValueOf value_of;
};
constexpr std::array<ServiceFamily, kSeriesOfAService> kServiceFamilies{{
    {"packets_total", "Packets",
     [](const weir_service_counter& c) -> std::uint64_t { return c.packets; }},
    {"bytes_total", "Bytes of frames as received",
     [](const weir_service_counter& c) -> std::uint64_t { return c.bytes; }},
    {"new_flows_total", "Flows that began",
     [](const weir_service_counter& c) -> std::uint64_t { return c.new_flows; }},
}};

void add_vips(std::span<const MetricsReading::Vip> vips, Exposition& out) {
  for (const ServiceFamily& family : kServiceFamilies) {
    out.family(fmt::format("weir_vip_{}", family.suffix), MetricType::kCounter,
               fmt::format("{} for a VIP", family.what));
    for (const MetricsReading::Vip& vip : vips) {
      out.sample(std::array{MetricLabel{"vip", vip.vip}, MetricLabel{"name", vip.name}},
                 family.value_of(vip.total));
    }
  }
}

/// The first of the backends in the order of their VIPs, as many as there are series for.
struct ShownBackend {
  const MetricsReading::Vip& vip;
  const MetricsReading::Backend& backend;

  void sample(Exposition& out, std::uint64_t value) const {
    out.sample(std::array{MetricLabel{"vip", vip.vip}, MetricLabel{"backend", backend.address},
                          MetricLabel{"name", backend.name}},
               value);
  }
};

void add_backends(std::span<const ShownBackend> backends, Exposition& out) {
  for (const ServiceFamily& family : kServiceFamilies) {
    out.family(fmt::format("weir_backend_{}", family.suffix), MetricType::kCounter,
               fmt::format("{} sent to a backend of a VIP", family.what));
    for (const ShownBackend& shown : backends)
      shown.sample(out, family.value_of(shown.backend.total));
  }
  out.family("weir_backend_up", MetricType::kGauge,
             "Whether a backend answers its VIP's health check");
  for (const ShownBackend& shown : backends)
    if (shown.backend.up) shown.sample(out, *shown.backend.up ? 1 : 0);
}

void add_services(const Loaded& loaded, std::size_t series_max, Exposition& out) {
  const std::size_t vips = std::min(loaded.vips.size(), series_max / kSeriesOfAService);
  std::size_t left = series_max - vips * kSeriesOfAService;
  std::size_t left_out = (loaded.vips.size() - vips) * kSeriesOfAService;
  std::vector<ShownBackend> backends;
  for (const MetricsReading::Vip& vip : loaded.vips) {
    for (const MetricsReading::Backend& backend : vip.backends) {
      const std::size_t series = series_of(backend);
      if (left_out == 0 && series <= left) {
        left -= series;
        backends.push_back({vip, backend});
      } else {
        left_out += series;
      }
    }
  }
  add_vips(std::span{loaded.vips}.first(vips), out);
  add_backends(backends, out);
  add_gauge(out, "weir_metrics_series_left_out",
            "Series of VIPs and backends above the limit --metrics-series-max", left_out);
  add_gauge(out, "weir_backends_unresolved",
            "Backends whose next hop is not known, so that their packets are dropped",
            loaded.backends_unresolved);
}

}  // namespace

std::string metrics_text(const MetricsReading& reading, std::size_t series_max) {
  Exposition out;
  add_process(reading, out);
  add_config(reading, out);
  if (reading.loaded) {
    const Loaded& loaded = *reading.loaded;
    add_verdicts(out, "weir", "How packets that the balancer received ended", loaded.verdicts);
    add_verdicts(out, "weir_return", "Frames that L7 workers sent", loaded.returned);
    add_tables(loaded, out);
    add_devices(loaded, out);
    add_services(loaded, series_max, out);
  }
  return out.text();
}

}  // namespace weir::l4
