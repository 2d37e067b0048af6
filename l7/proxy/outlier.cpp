#include "l7/proxy/outlier.h"

#include <algorithm>

namespace weir::proxy {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr Duration kEjectionMax = std::chrono::minutes{5};
constexpr std::uint32_t kDoublingsMax = 10;

struct Standing {
  std::size_t ejected = 0;
  std::size_t usable = 0;
};

Standing standing_of(const ServiceEntry& service, Instant now) {
  Standing standing;
  for (const EndpointEntry& entry : service.endpoints) {
    const bool ejected = entry.state->is_ejected(now);
    standing.ejected += ejected ? 1 : 0;
    standing.usable += !ejected && entry.weight > 0 && entry.state->is_up() ? 1 : 0;
  }
  return standing;
}

/// Of an endpoint that has been ejected so often before, and not been forgiven.
Duration ejection_length(const control::OutlierDetection& rule, std::uint32_t times) {
  const std::uint32_t doublings = std::min(times, kDoublingsMax);
  return std::min<Duration>(std::chrono::milliseconds{rule.ejection_time_ms} * (1U << doublings),
                            kEjectionMax);
}

void eject(const control::OutlierDetection& rule, EndpointState& state, Instant now) {
  const Duration lasts = ejection_length(rule, state.ejections.fetch_add(1, kRelaxed));
  state.ejected_until.store((now + lasts).time_since_epoch().count(), kRelaxed);
  state.failures_in_row.store(0, kRelaxed);
}

}  // namespace

void count_success(const ServiceEntry& service, const EndpointEntry& endpoint, Instant now) {
  EndpointState& state = *endpoint.state;
  // Written only where it changes something: readers on other cores keep their copy of the line.
  if (state.failures_in_row.load(kRelaxed) != 0) state.failures_in_row.store(0, kRelaxed);
  std::uint32_t times = state.ejections.load(kRelaxed);
  if (times == 0) return;
  const Instant since{Duration{state.ejected_until.load(kRelaxed)}};
  if (now - since < ejection_length(service.outlier, times - 1)) return;
  // The next step takes its own time from here; of two workers, one takes this one.
  if (state.ejections.compare_exchange_strong(times, times - 1, kRelaxed))
    state.ejected_until.store(now.time_since_epoch().count(), kRelaxed);
}

bool count_failure(const ServiceEntry& service, const EndpointEntry& endpoint, Instant now) {
  const control::OutlierDetection& rule = service.outlier;
  EndpointState& state = *endpoint.state;
  state.failures.fetch_add(1, kRelaxed);
  const std::uint32_t in_row = state.failures_in_row.fetch_add(1, kRelaxed) + 1;
  // Where it could not be ejected, it is looked at again after as many more.
  if (rule.consecutive_failures == 0 || in_row % rule.consecutive_failures != 0) return false;
  // One worker decides at a time: together two could eject the last one.
  if (service.state->ejecting.test_and_set(std::memory_order_acquire)) return false;
  const Standing standing = standing_of(service, now);
  const bool may =
      !state.is_ejected(now) && standing.usable > 1 &&
      (standing.ejected + 1) * 100 <= service.endpoints.size() * rule.max_ejection_percent;
  if (may) eject(rule, state, now);
  service.state->ejecting.clear(std::memory_order_release);
  return may;
}

}  // namespace weir::proxy
