#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "l4/control/process_facts.h"
#include "l4/control/reload_status.h"

namespace weir::l7 {

/// What GET /metrics says of weir-l7 besides its workers.
struct DaemonFacts {
  control::ProcessFacts process = {};
  std::string version = {};
  std::uint64_t revision = 0;
  control::ReloadStatus reload = {};
};

/// Every number in the answer of GET /v1/stats, in Prometheus' text format: "tcp": {"resets_sent":
/// 3} of worker 0 is weir_l7_tcp_resets_sent_total{worker="0"} 3. Levels, which can go down, are
/// gauges without _total. What is counted by a name has that as a label: "responses" their class,
/// "reasons" the reason, "services" the service. Pure.
std::string metrics_text(std::string_view stats_json, const DaemonFacts& facts);

}  // namespace weir::l7
