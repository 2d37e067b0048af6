#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "l4/base/clock.h"

namespace weir {

/// The link that an object embeds to be put on a TimerWheel. Its owner keeps it alive and in place
/// while it is armed; destroying an armed timer takes it off the wheel.
class Timer {
 public:
  Timer() = default;
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer() { unlink(); }

  [[nodiscard]] bool armed() const { return next_ != nullptr; }
  [[nodiscard]] Instant deadline() const { return deadline_; }

  /// What the wheel's user gets back when the timer fires, for example a handle's raw() value.
  std::uint64_t user = 0;

 private:
  friend class TimerWheel;
  void unlink() {
    if (next_ == nullptr) return;
    next_->previous_ = previous_;
    previous_->next_ = next_;
    next_ = previous_ = nullptr;
  }

  Timer* next_ = nullptr;
  Timer* previous_ = nullptr;
  Instant deadline_ = kNever;
};

/// Hashed hierarchical timing wheel (Varghese and Lauck, 1987): 100 µs ticks, four levels of 256
/// slots, 119 hours of range. arm() and cancel() are O(1) without allocation. A timer never fires
/// early and at most one tick late. Later deadlines than the range are parked in the last slot and
/// sorted in again when it comes round.
class TimerWheel {
 public:
  static constexpr Duration kTick = std::chrono::microseconds{100};

  explicit TimerWheel(Instant start);
  TimerWheel(const TimerWheel&) = delete;
  TimerWheel& operator=(const TimerWheel&) = delete;
  ~TimerWheel();

  /// Arms the timer, or moves it when it is armed already.
  void arm(Timer& timer, Instant deadline);
  static void cancel(Timer& timer) { timer.unlink(); }

  /// Calls fire(timer) for every timer due at `now`; the timer is off the wheel when it is called
  /// and may be armed again or destroyed by the callee.
  template <typename Fire>
  void advance(Instant now, Fire&& fire) {
    const std::uint64_t target = tick_of(now);
    while (tick_ <= target) {
      // Looked at once per round of the lowest level, so that a long silence is crossed in one step
      // and the scan stays cheap.
      if ((armed_hint_ == 0 || tick_ % kSlots == 0) && is_empty()) {
        armed_hint_ = 0;
        tick_ = target + 1;
        return;
      }
      tick_ = next_busy_tick();
      if (tick_ > target) {
        tick_ = target + 1;
        return;
      }
      collect_due();
      while (Timer* timer = pop_due())
        fire(*timer);
    }
  }

  /// A time until which nothing is due: exact within a round of the lowest level, otherwise earlier
  /// than the first deadline. kNever when the wheel is empty. The caller sleeps no longer than
  /// this.
  [[nodiscard]] Instant next_deadline() const;

 private:
  static constexpr std::size_t kSlots = 256;
  static constexpr std::size_t kLevels = 4;
  static constexpr std::size_t kWordBits = 64;

  [[nodiscard]] std::uint64_t tick_of(Instant time) const;
  [[nodiscard]] bool is_empty() const;
  /// The first tick from tick_ on whose slot of the lowest level may hold timers, or at which those
  /// of a higher level come down.
  [[nodiscard]] std::uint64_t next_busy_tick() const;
  void place(Timer& timer);
  void take(std::size_t level, std::size_t slot, Timer& to);
  void collect_due();
  Timer* pop_due();
  static void append(Timer& head, Timer& timer);
  static void splice(Timer& from, Timer& to);

  Instant start_;
  std::uint64_t tick_ = 0;        // the next tick to be processed
  std::uint32_t armed_hint_ = 0;  // arms since the wheel was last seen empty; saves the scan
  Timer due_;
  std::array<std::array<Timer, kSlots>, kLevels> heads_;
  // Bit n of a level: its slot n may hold timers. Set by who puts one there, cleared when the slot
  // is emptied; a cancelled timer does not know its slot, and leaves the bit.
  std::array<std::array<std::uint64_t, kSlots / kWordBits>, kLevels> used_{};
};

}  // namespace weir
