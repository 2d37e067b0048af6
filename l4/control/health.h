#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "l4/base/clock.h"
#include "l4/control/health_check.h"

namespace weir::control {

/// What is known of a backend.
enum class HealthState : std::uint8_t { kChecking, kUp, kDown };

/// "checking", "up", "down".
std::string_view text_of(HealthState state);

/// How a probe ended.
struct ProbeOutcome {
  bool is_success = false;
  std::string reason = {};  ///< for people; of a success it may be empty
  Duration took{};
};

/// One backend under one check. Pure: results and `now` come in as arguments.
///
///                     rise successes in a row
///      ┌──────────┐ ───────────────────────────► ┌────┐
///   ──►│ checking │                              │ up │◄───┐
///      └──────────┘                              └────┘    │
///            │                   fall failures in  │       │ rise successes in a row,
///            │                   a row             ▼       │ and not held any more
///            │   fall failures in a row         ┌──────┐   │
///            └─────────────────────────────────►│ down │───┘
///                                               └──────┘
///
/// All transitions are made by on_result(). What holds in each state:
///
/// checking  nothing is known yet: it takes no new flows. Begun by the constructor, for a backend
///           that takes no traffic when it comes under the check.
/// up        it takes new flows; within slow_start_ms of the transition a part of its share. The
///           constructor begins here too, without slow start, for a backend that takes traffic
///           already: a daemon that restarts, or a check that is new, stops no traffic.
/// down      it takes no new flows. Those that it has stay for grace_ms, then are spread. A backend
///           that came down for the flaps_max-th time within ten minutes is held: successes bring
///           it up only after held_until(), which is twice as far away with each further time.
///
/// Between transitions a streak counts: failures while up, successes while down, and while checking
/// whichever the last one was; the other outcome begins it anew.
class BackendHealth {
 public:
  BackendHealth(HealthState begun_in, Instant now) : state_{begun_in}, since_{now} {}

  /// True when this was a transition.
  bool on_result(const HealthCheck& check, const ProbeOutcome& outcome, Instant now);

  [[nodiscard]] HealthState state() const { return state_; }
  [[nodiscard]] Instant since() const { return since_; }
  /// Successes or failures in a row on the way to the next state.
  [[nodiscard]] std::uint32_t streak() const { return streak_; }
  /// In the past, or the epoch: not held.
  [[nodiscard]] Instant held_until() const { return held_until_; }
  [[nodiscard]] bool was_asked() const { return was_asked_; }
  [[nodiscard]] const ProbeOutcome& last() const { return last_; }

  /// Tenths of its share: kFullShare but amid a slow start, then 1 and more; 0 unless up.
  [[nodiscard]] std::uint32_t share(const HealthCheck& check, Instant now) const;
  /// Whether the flows that it has still stay with it.
  [[nodiscard]] bool keeps_flows(const HealthCheck& check, Instant now) const;
  /// When share() or keeps_flows() changes by time alone; kNever: it does not.
  [[nodiscard]] Instant next_event(const HealthCheck& check, Instant now) const;

  static constexpr std::uint32_t kFullShare = 10;

 private:
  void become(HealthState state, Instant now);
  void count_flap(const HealthCheck& check, Instant now);

  HealthState state_;
  bool starts_slowly_ = false;  ///< came up by a transition
  bool was_asked_ = false;
  bool checking_row_succeeds_ = false;  ///< checking: of what the streak is
  std::uint32_t streak_ = 0;
  Instant since_;
  Instant held_until_{};
  std::vector<Instant> downs_ = {};  ///< of the last ten minutes, those held left out
  ProbeOutcome last_ = {};
};

}  // namespace weir::control
