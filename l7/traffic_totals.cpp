#include "l7/traffic_totals.h"

#include <fmt/format.h>

#include <chrono>
#include <nlohmann/json.hpp>

namespace weir::l7 {

using nlohmann::json;

TrafficTotals totals_of(std::span<const proxy::WorkerReport> reports, Instant read_at) {
  TrafficTotals totals{.read_at = read_at};
  for (const proxy::WorkerReport& report : reports) {
    totals.connections += report.core.connections;
    totals.requests += report.core.requests;
    totals.passed_through += report.core.passed_through;
    for (std::size_t i = 0; i < totals.responses.size(); ++i)
      totals.responses[i] += report.core.responses[i];
    totals.log_dropped += report.log_dropped;
    totals.busy_time += report.busy_time;
    totals.idle_time += report.idle_time;
    for (const proxy::RouteCounters& route : report.routes)
      totals.routes[route.name].add(route);
  }
  return totals;
}

json counters_json(const proxy::RouteCounters& counters) {
  json row{{"requests", counters.requests()},
           {"failures", counters.failures},
           {"duration_us", counters.duration_us}};
  for (std::size_t i = 2; i < counters.responses.size(); ++i)
    row[fmt::format("responses_{}xx", i)] = counters.responses[i];
  for (std::size_t i = 0; i < counters.within.size(); ++i)
    row[fmt::format("within_{}ms", proxy::RouteCounters::kBoundsMs[i])] = counters.within[i];
  return row;
}

json totals_json(const TrafficTotals& totals) {
  json row{{"connections", totals.connections},
           {"requests", totals.requests},
           {"passed_through", totals.passed_through},
           {"log_dropped", totals.log_dropped},
           {"busy_ns", std::chrono::nanoseconds{totals.busy_time}.count()},
           {"idle_ns", std::chrono::nanoseconds{totals.idle_time}.count()}};
  for (std::size_t i = 1; i < totals.responses.size(); ++i)
    row[fmt::format("responses_{}xx", i)] = totals.responses[i];
  return row;
}

}  // namespace weir::l7
