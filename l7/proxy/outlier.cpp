#include "l7/proxy/outlier.h"

#include <algorithm>

namespace weir::proxy {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr Duration kEjectionMax = std::chrono::minutes{5};
constexpr std::uint32_t kDoublingsMax = 10;

std::size_t ejected_now(const ServiceEntry& service, Instant now) {
  return static_cast<std::size_t>(
      std::count_if(service.endpoints.begin(), service.endpoints.end(),
                    [&](const EndpointEntry& entry) { return entry.state->is_ejected(now); }));
}

}  // namespace

void count_success(const EndpointEntry& endpoint, Instant now) {
  EndpointState& state = *endpoint.state;
  // Written only where it changes something: readers on other cores keep their copy of the line.
  if (state.failures_in_row.load(kRelaxed) != 0) state.failures_in_row.store(0, kRelaxed);
  if (state.ejections.load(kRelaxed) == 0) return;
  const Instant until{Duration{state.ejected_until.load(kRelaxed)}};
  if (now - until > kEjectionMax) state.ejections.store(0, kRelaxed);
}

bool count_failure(const ServiceEntry& service, const EndpointEntry& endpoint, Instant now) {
  const control::OutlierDetection& rule = service.outlier;
  EndpointState& state = *endpoint.state;
  state.failures.fetch_add(1, kRelaxed);
  const std::uint32_t in_row = state.failures_in_row.fetch_add(1, kRelaxed) + 1;
  if (rule.consecutive_failures == 0 || in_row < rule.consecutive_failures) return false;
  if (state.is_ejected(now)) return false;  // an attempt that began before
  const std::size_t all = service.endpoints.size();
  const std::size_t allowed = std::min(all * rule.max_ejection_percent / 100, all - 1);
  if (ejected_now(service, now) >= allowed) return false;
  const std::uint32_t times = std::min(state.ejections.fetch_add(1, kRelaxed), kDoublingsMax);
  const Duration lasts = std::min<Duration>(
      std::chrono::milliseconds{rule.ejection_time_ms} * (1U << times), kEjectionMax);
  state.ejected_until.store((now + lasts).time_since_epoch().count(), kRelaxed);
  state.failures_in_row.store(0, kRelaxed);
  return true;
}

}  // namespace weir::proxy
