#pragma once

#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include "l4/base/clock.h"
#include "l4/base/fd.h"
#include "l4/base/random.h"
#include "l4/base/timer_wheel.h"
#include "l4/control/probe.h"
#include "l4/control/prober.h"

namespace weir::control {

/// The loop of the prober, one turn at a time, of one thread. Each target is in one of four states:
///
///   idle ──due──► probing ──verdict, timeout──► idle
///    │              ▲
///    └─short─► waiting   (no descriptor, port or memory; first come, first served)
///
/// Invariants: a probe exists exactly in probing; the timer is armed in idle (with the start) and
/// in probing (with the timeout), and not in waiting.
class ProbeEngine {
 public:
  /// `wake` ends a turn that sleeps when it becomes readable; the caller owns and drains it.
  static Result<std::unique_ptr<ProbeEngine>> create(int wake, std::size_t in_flight_max,
                                                     Instant now);

  void set_targets(std::vector<ProbeTarget> targets, Instant now);
  /// Sleeps until something is to be done, and does it. Returns the results of this turn.
  std::vector<ProbeResult> turn();
  [[nodiscard]] ProberCounters counters() const;

 private:
  struct Slot {
    ProbeTarget target;
    std::uint32_t phase = 0;
    Timer timer = {};  // its user is the slot's id
    Instant due{};     // of the turn that is next, waits or runs
    Instant started{};
    std::unique_ptr<Probe> probe = {};
    bool is_waiting = false;
    std::uint64_t generation = 0;  // of the set that named it last
  };

  ProbeEngine(UniqueFd epoll, std::size_t in_flight_max, Instant now);

  [[nodiscard]] int sleep_ms(Instant now) const;
  void on_timer(Slot& slot, Instant now);
  void start(Slot& slot);
  void start_waiting();
  void wait_for_room(Slot& slot);
  void finish(Slot& slot, ProbeVerdict verdict, Instant now);
  void drop_probe(Slot& slot);

  UniqueFd epoll_;
  std::size_t in_flight_max_;
  Instant epoch_;
  Random random_;
  TlsProbes tls_;
  TimerWheel wheel_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Slot>> slots_;  // by id; events point at slots
  std::deque<std::uint64_t> waiting_;                               // ids; some may be gone
  std::uint64_t ordinal_ = 0;                                       // targets that ever came
  std::uint64_t generation_ = 0;
  ProberCounters counters_;
  std::vector<ProbeResult> results_;
};

}  // namespace weir::control
