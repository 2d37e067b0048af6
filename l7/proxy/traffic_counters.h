#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "l7/proxy/snapshot.h"

namespace weir::proxy {

struct ServiceCounters {
  std::string name;
  std::uint64_t requests = 0;
};

/// Rate, errors and duration of one rule's requests.
struct RouteCounters {
  static constexpr std::array<std::uint32_t, 4> kBoundsMs{10, 100, 1000, 10'000};
  std::string name;                                      ///< "route/rule"
  std::array<std::uint64_t, 6> responses{};              ///< by first digit of the status
  std::array<std::uint64_t, kBoundsMs.size()> within{};  ///< requests that took at most the bound
  std::uint64_t duration_us = 0;                         ///< sum
  std::uint64_t failures = 0;  ///< of them, those that no endpoint has answered to the end
  [[nodiscard]] std::uint64_t requests() const {
    return std::accumulate(responses.begin(), responses.end(), std::uint64_t{0});
  }
  /// The same rule's at another worker.
  void add(const RouteCounters& other) {
    for (std::size_t i = 0; i < responses.size(); ++i)
      responses[i] += other.responses[i];
    for (std::size_t i = 0; i < within.size(); ++i)
      within[i] += other.within[i];
    duration_us += other.duration_us;
    failures += other.failures;
  }
};

/// What one worker counts by service and by rule, in the order of a snapshot.
struct TrafficCounters {
  std::vector<ServiceCounters> services;
  std::vector<RouteCounters> routes;

  /// Nothing counted yet.
  explicit TrafficCounters(const Snapshot& snapshot) : routes(snapshot.rules.size()) {
    for (const ServiceEntry& entry : snapshot.services)
      services.push_back({entry.name});
    for (std::size_t i = 0; i < routes.size(); ++i)
      routes[i].name = snapshot.rules[i].full_name();
  }
};

}  // namespace weir::proxy
