#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bpf/abi.h"
#include "l4/control/process_facts.h"
#include "l4/control/reload_status.h"

/// What GET /metrics says of the L4 plane; pure. README.md has the table of names.
namespace weir::l4 {

/// As of one moment. Views point to constants.
struct MetricsReading {
  struct Verdict {
    std::string_view label;
    std::string_view action;
    weir_counter total{};
  };
  struct Event {
    std::string_view label;
    std::uint64_t count = 0;
  };
  struct Backend {
    std::string address;
    std::string name;
    weir_service_counter total{};
    std::optional<bool> up = std::nullopt;  ///< none: not checked, or not known yet
  };
  struct Vip {
    std::string vip;
    std::string name;
    weir_service_counter total{};
    std::vector<Backend> backends;
  };
  struct Device {
    std::string name;
    std::string mode;  ///< "native" or "generic"
    bool up = false;
    std::uint32_t mtu_bytes = 0;
  };
  struct Worker {
    std::uint32_t index = 0;
    bool up = false;
    bool taken = false;
  };
  /// What only a loaded balancer has.
  struct Loaded {
    std::vector<Verdict> verdicts;
    std::vector<Verdict> returned;  ///< frames of L7 workers; no action
    std::vector<Event> flow_events;
    std::uint64_t flows = 0;
    std::uint64_t flows_max = 0;
    std::uint64_t nat_flows_max = 0;  ///< 0: there is no NAT table, and nothing is said of one
    std::vector<Event> nat_flows;     ///< by state
    std::vector<Event> nat_events;
    std::vector<Vip> vips;
    std::vector<Device> devices;
    std::vector<Worker> workers;
    std::uint64_t backends_unresolved = 0;
  };

  control::ProcessFacts process = {};
  std::string version = {};
  std::uint64_t revision = 0;
  bool in_desired_state = true;
  std::uint64_t vips = 0;      ///< of the configuration
  std::uint64_t backends = 0;  ///< likewise
  std::uint64_t warnings = 0;
  std::uint64_t backends_checked = 0;  ///< for their health
  std::uint64_t backends_down = 0;
  std::uint64_t vips_fail_open = 0;
  control::ReloadStatus reload = {};  ///< of the file that the daemon reads by itself
  std::optional<Loaded> loaded = {};
};

/// Three series of a VIP, three of a backend and a fourth of one whose health is known.
inline constexpr std::size_t kSeriesMaxDefault = 30'000;

/// At most `series_max` series of VIPs and backends: VIPs first, then backends, both in their
/// order, a service with all of its series or none. How many are missing is a metric itself.
std::string metrics_text(const MetricsReading& reading, std::size_t series_max);

}  // namespace weir::l4
