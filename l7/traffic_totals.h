#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string>

#include "l4/base/clock.h"
#include "l7/proxy/worker.h"

namespace weir::l7 {

/// What all workers have counted since the start, as one: the sum of their reports.
struct TrafficTotals {
  Instant read_at{};
  std::uint64_t connections = 0;  ///< of clients, now
  std::uint64_t requests = 0;
  std::uint64_t passed_through = 0;
  std::array<std::uint64_t, 6> responses{};  ///< by first digit of the status
  std::uint64_t log_dropped = 0;             ///< lines
  Duration busy_time{};
  Duration idle_time{};
  using ByName = std::map<std::string, proxy::RequestCounters>;
  ByName services = {};  ///< those with any
  ByName routes = {};    ///< "route/rule", likewise
};

TrafficTotals totals_of(std::span<const proxy::WorkerReport> reports, Instant read_at);

/// Numbers by the names that they have in the API.
using NamedNumbers = std::map<std::string, std::uint64_t>;
NamedNumbers named(const proxy::RequestCounters& counters);
/// Without the time, services and routes.
NamedNumbers named(const TrafficTotals& totals);

}  // namespace weir::l7
