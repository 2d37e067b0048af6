#include "l4/base/timer_wheel.h"

#include <algorithm>
#include <bit>

namespace weir {
namespace {

constexpr unsigned kSlotBits = 8;

constexpr unsigned shift_of(std::size_t level) { return static_cast<unsigned>(level) * kSlotBits; }

}  // namespace

TimerWheel::TimerWheel(Instant start) : start_{start} {
  const auto make_head = [](Timer& head) { head.next_ = head.previous_ = &head; };
  make_head(due_);
  for (auto& level : heads_)
    for (Timer& head : level)
      make_head(head);
}

TimerWheel::~TimerWheel() {
  // Timers may outlive the wheel (slabs are destroyed in any order): leave none linked to it.
  const auto clear = [](Timer& head) {
    while (head.next_ != &head)
      head.next_->unlink();
    head.next_ = head.previous_ = nullptr;
  };
  clear(due_);
  for (auto& level : heads_)
    for (Timer& head : level)
      clear(head);
}

std::uint64_t TimerWheel::tick_of(Instant time) const {
  return time <= start_ ? 0 : static_cast<std::uint64_t>((time - start_) / kTick);
}

void TimerWheel::append(Timer& head, Timer& timer) {
  timer.previous_ = head.previous_;
  timer.next_ = &head;
  head.previous_->next_ = &timer;
  head.previous_ = &timer;
}

void TimerWheel::splice(Timer& from, Timer& to) {
  if (from.next_ == &from) return;
  from.next_->previous_ = to.previous_;
  to.previous_->next_ = from.next_;
  from.previous_->next_ = &to;
  to.previous_ = from.previous_;
  from.next_ = from.previous_ = &from;
}

void TimerWheel::arm(Timer& timer, Instant deadline) {
  timer.unlink();
  timer.deadline_ = deadline;
  if (armed_hint_ != UINT32_MAX) ++armed_hint_;
  place(timer);
}

void TimerWheel::place(Timer& timer) {
  constexpr std::uint64_t kRange = std::uint64_t{1} << shift_of(kLevels);
  // Rounded up: a timer may be late by a tick, never early.
  const Instant deadline = std::min(timer.deadline_, kNever - kTick);
  std::uint64_t due = tick_of(deadline + kTick - Duration{1});
  due = std::clamp(due, tick_, tick_ + kRange - 1);
  const std::uint64_t distance = due - tick_;
  std::size_t level = 0;
  while (level + 1 < kLevels && (distance >> shift_of(level + 1)) != 0)
    ++level;
  const std::size_t slot = (due >> shift_of(level)) % kSlots;
  append(heads_[level][slot], timer);
  used_[level][slot / kWordBits] |= std::uint64_t{1} << slot % kWordBits;
}

/// Moves all timers of a slot to the list `to`.
void TimerWheel::take(std::size_t level, std::size_t slot, Timer& to) {
  splice(heads_[level][slot], to);
  used_[level][slot / kWordBits] &= ~(std::uint64_t{1} << slot % kWordBits);
}

void TimerWheel::collect_due() {
  // Entering a new block of a level brings the timers of that block one level down.
  for (std::size_t level = 1; level < kLevels; ++level) {
    if ((tick_ & ((std::uint64_t{1} << shift_of(level)) - 1)) != 0) break;
    Timer moving;
    moving.next_ = moving.previous_ = &moving;
    take(level, (tick_ >> shift_of(level)) % kSlots, moving);
    while (moving.next_ != &moving) {
      Timer& timer = *moving.next_;
      timer.unlink();
      place(timer);
    }
    moving.next_ = moving.previous_ = nullptr;
  }
  take(0, tick_ % kSlots, due_);
  ++tick_;
}

Timer* TimerWheel::pop_due() {
  if (due_.next_ == &due_) return nullptr;
  Timer* timer = due_.next_;
  timer->unlink();
  return timer;
}

bool TimerWheel::is_empty() const {
  if (due_.next_ != &due_) return false;
  for (std::size_t level = 0; level < kLevels; ++level)
    for (std::size_t word = 0; word < used_[level].size(); ++word)
      for (std::uint64_t bits = used_[level][word]; bits != 0; bits &= bits - 1) {
        const auto bit = static_cast<std::size_t>(std::countr_zero(bits));
        const Timer& head = heads_[level][word * kWordBits + bit];
        if (head.next_ != &head) return false;
      }
  return true;
}

std::uint64_t TimerWheel::next_busy_tick() const {
  const std::uint64_t block = tick_ - tick_ % kSlots;
  if (tick_ == block) return tick_;
  std::size_t slot = tick_ % kSlots;
  while (slot < kSlots) {
    const std::uint64_t bits = used_[0][slot / kWordBits] >> slot % kWordBits;
    if (bits == 0) {
      slot = (slot / kWordBits + 1) * kWordBits;
      continue;
    }
    slot += static_cast<std::size_t>(std::countr_zero(bits));
    const Timer& head = heads_[0][slot];
    if (head.next_ != &head) break;
    ++slot;
  }
  return block + slot;
}

Instant TimerWheel::next_deadline() const {
  return is_empty() ? kNever : start_ + kTick * static_cast<std::int64_t>(next_busy_tick());
}

}  // namespace weir
