#include "l4/control/health.h"

#include <algorithm>

#include "l4/base/assert.h"

namespace weir::control {
namespace {

using std::chrono::milliseconds;

constexpr Duration kFlapWindow = std::chrono::minutes{10};
constexpr Duration kHoldMax = std::chrono::minutes{10};
/// Times down that are remembered: more than flaps_max by so many that the hold is at its longest.
constexpr std::size_t kDownsMax = 64;

}  // namespace

std::string_view text_of(HealthState state) {
  switch (state) {
    case HealthState::kChecking:
      return "checking";
    case HealthState::kUp:
      return "up";
    case HealthState::kDown:
      return "down";
  }
  WEIR_ASSERT(false);  // every state is named above
  return {};
}

bool BackendHealth::on_result(const HealthCheck& check, const ProbeOutcome& outcome, Instant now) {
  was_asked_ = true;
  last_ = outcome;
  switch (state_) {
    case HealthState::kUp:
      streak_ = outcome.is_success ? 0 : streak_ + 1;
      if (streak_ < check.fall) return false;
      count_flap(check, now);
      become(HealthState::kDown, now);
      return true;
    case HealthState::kDown:
      streak_ = outcome.is_success ? streak_ + 1 : 0;
      if (streak_ < check.rise || now < held_until_) return false;
      become(HealthState::kUp, now);
      return true;
    case HealthState::kChecking:
      break;
  }
  // Both ways are open: a row of either kind decides.
  const bool same_row = streak_ == 0 || outcome.is_success == checking_row_succeeds_;
  checking_row_succeeds_ = outcome.is_success;
  streak_ = same_row ? streak_ + 1 : 1;
  if (streak_ < (outcome.is_success ? check.rise : check.fall)) return false;
  become(outcome.is_success ? HealthState::kUp : HealthState::kDown, now);
  return true;
}

void BackendHealth::become(HealthState state, Instant now) {
  state_ = state;
  since_ = now;
  streak_ = 0;
  starts_slowly_ = state == HealthState::kUp;
}

void BackendHealth::count_flap(const HealthCheck& check, Instant now) {
  std::erase_if(downs_, [now](Instant down) { return now - down > kFlapWindow; });
  if (downs_.size() == kDownsMax) downs_.erase(downs_.begin());
  downs_.push_back(now);
  held_until_ = Instant{};
  if (check.flaps_max == 0 || downs_.size() < check.flaps_max) return;
  // What it takes to come up anyway, doubled with the first time that is one too many.
  Duration hold = milliseconds{check.interval_ms} * check.rise;
  for (std::size_t times = check.flaps_max; times <= downs_.size() && hold < kHoldMax; ++times)
    hold *= 2;
  hold = std::min(hold, kHoldMax);
  held_until_ = now + hold;
  // Time that it is held does not count: otherwise a long hold would be its own pardon.
  for (Instant& down : downs_)
    down += hold;
}

std::uint32_t BackendHealth::share(const HealthCheck& check, Instant now) const {
  if (state_ != HealthState::kUp) return 0;
  const Duration slow_start = milliseconds{check.slow_start_ms};
  const Duration elapsed = now - since_;
  if (!starts_slowly_ || elapsed >= slow_start) return kFullShare;
  return static_cast<std::uint32_t>(elapsed / (slow_start / kFullShare)) + 1;
}

bool BackendHealth::keeps_flows(const HealthCheck& check, Instant now) const {
  return state_ != HealthState::kDown || now - since_ < milliseconds{check.grace_ms};
}

Instant BackendHealth::next_event(const HealthCheck& check, Instant now) const {
  switch (state_) {
    case HealthState::kChecking:
      return kNever;
    case HealthState::kDown:
      return keeps_flows(check, now) ? since_ + milliseconds{check.grace_ms} : kNever;
    case HealthState::kUp:
      break;
  }
  const std::uint32_t reached = share(check, now);
  if (reached >= kFullShare) return kNever;
  return since_ + milliseconds{check.slow_start_ms} / kFullShare * reached;
}

}  // namespace weir::control
