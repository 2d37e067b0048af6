#include "l7/config_follower.h"

#include <poll.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "l4/base/clock.h"

namespace weir::l7 {
namespace {

/// How long the end is kept waiting.
constexpr Duration kTick = std::chrono::milliseconds{100};
/// While another process is about to take over nothing is changed; it may fail, though.
constexpr Duration kRetry = std::chrono::seconds{1};

}  // namespace

ConfigFollower::ConfigFollower(control::ConfigWatch watch, AdminApi& api)
    : watch_{std::move(watch)}, api_{api}, thread_{[this](const std::stop_token& stop) {
        run(stop);
      }} {}

void ConfigFollower::run(const std::stop_token& stop) {
  Instant due = kNever;
  while (!stop.stop_requested()) {
    const Duration left = std::min(due, watch_.deadline()) - monotonic_now();
    const Duration wait = std::clamp(left, Duration{}, kTick);
    pollfd watched{watch_.fd(), POLLIN, 0};
    const int ready = ::poll(
        &watched, 1, static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(wait).count()));
    const Instant now = monotonic_now();
    if (ready > 0) watch_.on_readable(now);
    if (watch_.take_change(now)) due = now;
    if (now >= due) due = api_.follow_file(watch_.path()) ? kNever : now + kRetry;
  }
}

}  // namespace weir::l7
