#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "l4/base/clock.h"
#include "l7/proxy/snapshot.h"

namespace weir::proxy {

/// Rate, errors and duration of requests: those of one rule, or those that one service was chosen
/// for. Whoever stores them as series has ten (kBoundsMs among them).
struct RequestCounters {
  static constexpr std::array<std::uint32_t, 3> kBoundsMs{10, 100, 1000};
  std::string name;                                      ///< "route/rule", or the service
  std::array<std::uint64_t, 6> responses{};              ///< by first digit of the status
  std::array<std::uint64_t, kBoundsMs.size()> within{};  ///< requests that took at most the bound
  std::uint64_t duration_us = 0;                         ///< sum
  std::uint64_t failures = 0;  ///< of them, those that no endpoint has answered to the end

  [[nodiscard]] std::uint64_t requests() const {
    return std::accumulate(responses.begin(), responses.end(), std::uint64_t{0});
  }
  void count(int status, bool failed, Duration duration) {
    ++responses[static_cast<std::size_t>(status / 100) % responses.size()];
    if (failed) ++failures;
    duration_us += static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(duration).count());
    for (std::size_t i = 0; i < within.size(); ++i)
      if (duration <= std::chrono::milliseconds{kBoundsMs[i]}) ++within[i];
  }
  /// The same at another worker.
  void add(const RequestCounters& other) {
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
  std::vector<RequestCounters> services;
  std::vector<RequestCounters> routes;

  /// Nothing counted yet.
  explicit TrafficCounters(const Snapshot& snapshot)
      : services(snapshot.services.size()), routes(snapshot.rules.size()) {
    for (std::size_t i = 0; i < services.size(); ++i)
      services[i].name = snapshot.services[i].name;
    for (std::size_t i = 0; i < routes.size(); ++i)
      routes[i].name = snapshot.rules[i].full_name();
  }
};

}  // namespace weir::proxy
