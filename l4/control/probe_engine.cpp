#include "l4/control/probe_engine.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>

#include "l4/control/probe_schedule.h"

namespace weir::control {
namespace {

/// How soon those who wait try again while nothing ends that would make room.
constexpr Duration kRetry = std::chrono::milliseconds{10};
constexpr Duration kSleepMax = std::chrono::seconds{60};

Duration interval_of(const ProbeTarget& target) {
  return std::chrono::milliseconds{std::max(target.check.interval_ms, 1U)};
}

}  // namespace

ProbeEngine::ProbeEngine(UniqueFd epoll, std::size_t in_flight_max, Instant now)
    : epoll_{std::move(epoll)},
      in_flight_max_{in_flight_max},
      epoch_{now},
      random_{Random::from_system()},
      wheel_{now} {}

Result<std::unique_ptr<ProbeEngine>> ProbeEngine::create(int wake, std::size_t in_flight_max,
                                                         Instant now) {
  UniqueFd epoll{::epoll_create1(EPOLL_CLOEXEC)};
  if (!epoll) return Error::from_errno("creating the prober's epoll");
  epoll_event event{.events = EPOLLIN, .data = {.ptr = nullptr}};
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake, &event) != 0)
    return Error::from_errno("watching the prober's wake-up");
  return std::unique_ptr<ProbeEngine>{new ProbeEngine{std::move(epoll), in_flight_max, now}};
}

void ProbeEngine::set_targets(std::vector<ProbeTarget> targets, Instant now) {
  ++generation_;
  for (ProbeTarget& target : targets) {
    std::unique_ptr<Slot>& slot = slots_[target.id];
    const bool is_new = slot == nullptr;
    if (is_new) {
      slot = std::make_unique<Slot>();
      slot->phase = probe_phase(ordinal_++);
    }
    if (slot->generation == generation_) continue;  // a second one of the same id
    slot->generation = generation_;
    if (!is_new && slot->target == target) continue;
    drop_probe(*slot);  // before the target goes, which it refers to
    slot->is_waiting = false;
    slot->target = std::move(target);
    slot->timer.user = slot->target.id;
    slot->due = first_probe(epoch_, interval_of(slot->target), slot->phase, now);
    wheel_.arm(slot->timer, slot->due);
  }
  std::erase_if(slots_, [&](const auto& entry) {
    Slot& slot = *entry.second;
    if (slot.generation == generation_) return false;
    drop_probe(slot);
    return true;
  });
}

std::vector<ProbeResult> ProbeEngine::turn() {
  constexpr int kEventsMax = 256;
  std::array<epoll_event, kEventsMax> events;
  const int timeout = sleep_ms(monotonic_now());
  const int count = ::epoll_wait(epoll_.get(), events.data(), kEventsMax, timeout);
  const Instant now = monotonic_now();
  for (int i = 0; i < count; ++i) {
    // Slots go in set_targets() alone, and a probe starts in the timers below at the earliest: an
    // event is of the slot's probe, or that probe has ended within this loop.
    auto* slot = static_cast<Slot*>(events[static_cast<std::size_t>(i)].data.ptr);
    if (slot == nullptr || !slot->probe) continue;
    if (auto verdict = slot->probe->on_ready()) finish(*slot, *std::move(verdict), now);
  }
  wheel_.advance(now, [&](Timer& timer) { on_timer(*slots_.at(timer.user), now); });
  start_waiting();
  return std::exchange(results_, {});
}

ProberCounters ProbeEngine::counters() const {
  ProberCounters counters = counters_;
  counters.targets = slots_.size();
  return counters;
}

int ProbeEngine::sleep_ms(Instant now) const {
  const Instant next = wheel_.next_deadline();
  Duration sleep = next == kNever ? kSleepMax : std::clamp(next - now, Duration{0}, kSleepMax);
  if (!waiting_.empty()) sleep = std::min(sleep, kRetry);
  // Up: a turn that comes too early would find nothing due.
  return static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(sleep).count());
}

void ProbeEngine::on_timer(Slot& slot, Instant now) {
  if (!slot.probe) return start(slot);
  ProbeVerdict verdict = slot.probe->on_timeout();
  if (!verdict.is_success) ++counters_.timed_out;
  finish(slot, std::move(verdict), now);
}

void ProbeEngine::start(Slot& slot) {
  if (counters_.in_flight >= in_flight_max_) return wait_for_room(slot);
  ProbeStart started = Probe::start(slot.target, tls_, random_);
  if (!started.probe && !started.verdict) return wait_for_room(slot);
  slot.is_waiting = false;
  // Not `now`: the first probe by TLS reads the certificates of trust, which is nobody's answer.
  slot.started = monotonic_now();
  ++counters_.started;
  if (started.verdict) return finish(slot, *std::move(started.verdict), slot.started);
  epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data = {.ptr = &slot}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, started.probe->fd(), &event) != 0) {
    --counters_.started;
    return wait_for_room(slot);  // no memory, or more watches than a user may have
  }
  slot.probe = std::move(started.probe);
  ++counters_.in_flight;
  wheel_.arm(slot.timer, slot.started + std::chrono::milliseconds{slot.target.check.timeout_ms});
}

void ProbeEngine::wait_for_room(Slot& slot) {
  if (slot.is_waiting) return;
  slot.is_waiting = true;
  ++counters_.short_of_sockets;
  waiting_.push_back(slot.target.id);
}

void ProbeEngine::start_waiting() {
  while (!waiting_.empty() && counters_.in_flight < in_flight_max_) {
    const auto found = slots_.find(waiting_.front());
    if (found != slots_.end() && found->second->is_waiting) {
      start(*found->second);
      if (found->second->is_waiting) return;  // still short: it stays the first
    }
    waiting_.pop_front();
  }
}

void ProbeEngine::finish(Slot& slot, ProbeVerdict verdict, Instant now) {
  drop_probe(slot);
  ++(verdict.is_success ? counters_.succeeded : counters_.failed);
  results_.push_back({slot.target.id, verdict.is_success, std::move(verdict.reason),
                      std::max(now - slot.started, Duration{0})});
  const NextProbe next = next_probe(slot.due, interval_of(slot.target), now);
  counters_.skipped += next.skipped;
  slot.due = next.due;
  wheel_.arm(slot.timer, std::max(slot.due, now));
}

void ProbeEngine::drop_probe(Slot& slot) {
  if (!slot.probe) return;
  slot.probe.reset();
  --counters_.in_flight;
}

}  // namespace weir::control
