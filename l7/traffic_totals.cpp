#include "l7/traffic_totals.h"

#include <fmt/format.h>

#include <chrono>

namespace weir::l7 {
namespace {

std::uint64_t nanoseconds_of(Duration time) {
  return static_cast<std::uint64_t>(std::chrono::nanoseconds{time}.count());
}

}  // namespace

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
    for (const proxy::RequestCounters& service : report.services)
      totals.services.try_emplace(service.name, proxy::RequestCounters{.name = service.name})
          .first->second.add(service);
    for (const proxy::RequestCounters& route : report.routes)
      totals.routes.try_emplace(route.name, proxy::RequestCounters{.name = route.name})
          .first->second.add(route);
  }
  return totals;
}

NamedNumbers named(const proxy::RequestCounters& counters) {
  NamedNumbers row{{"requests", counters.requests()},
                   {"failures", counters.failures},
                   {"duration_us", counters.duration_us}};
  for (std::size_t i = 2; i < counters.responses.size(); ++i)
    row[fmt::format("responses_{}xx", i)] = counters.responses[i];
  for (std::size_t i = 0; i < counters.within.size(); ++i)
    row[fmt::format("within_{}ms", proxy::RequestCounters::kBoundsMs[i])] = counters.within[i];
  return row;
}

NamedNumbers named(const TrafficTotals& totals) {
  NamedNumbers row{
      {"connections", totals.connections},           {"requests", totals.requests},
      {"passed_through", totals.passed_through},     {"log_dropped", totals.log_dropped},
      {"busy_ns", nanoseconds_of(totals.busy_time)}, {"idle_ns", nanoseconds_of(totals.idle_time)}};
  for (std::size_t i = 1; i < totals.responses.size(); ++i)
    row[fmt::format("responses_{}xx", i)] = totals.responses[i];
  return row;
}

}  // namespace weir::l7
