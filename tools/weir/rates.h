#pragma once

#include <optional>
#include <string>

#include "tools/weir/render.h"

/// What happened between two readings of the same counters. Pure.
namespace weir::cli {

/// Seconds between two answers of GET /v1/stats by the daemon's clock; nothing where one lacks the
/// time, or they are not in this order: another daemon may answer by now.
std::optional<double> seconds_between(const Json& before, const Json& after);

/// A second's share of what a counter has gained; null where one is not there, or where it is less
/// than before: then it began anew, and nobody knows how much was lost.
Json rate_of(const Json& before, const Json& after, double seconds);

/// `after`, an answer of GET /v1/stats, in which every row of verdicts, return, vips and backends,
/// and the total, has besides "packets" its "packets_per_s", besides "bytes" its "bits_per_s" and
/// besides "new_flows" its "new_flows_per_s". VIPs have "drops_per_s" too: packets for the VIP that
/// went to no backend, whether they were dropped or answered by the balancer; null for mode l7.
Json with_rates(const Json& before, const Json& after);

}  // namespace weir::cli
