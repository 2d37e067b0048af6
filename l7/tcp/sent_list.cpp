#include "l7/tcp/sent_list.h"

#include <algorithm>
#include <utility>

#include "l4/base/assert.h"

namespace weir::tcp {

using State = SentSegment::State;

bool SentPool::grow() {
  const std::size_t count = std::min(kPageSegments, capacity_ - grown_);
  if (count == 0) return false;
  pages_.push_back(std::make_unique<SentSegment[]>(count));
  for (std::size_t i = 0; i < count; ++i) {
    SentSegment& segment = pages_.back()[i];
    segment.by_sequence.next = std::exchange(free_, &segment);
  }
  grown_ += count;
  return true;
}

SentSegment* SentPool::take(bool is_first) {
  if (used_ + (is_first ? 0 : reserve_) >= capacity_) return nullptr;
  if (free_ == nullptr && !grow()) return nullptr;
  ++used_;
  SentSegment* segment = std::exchange(free_, free_->by_sequence.next);
  *segment = SentSegment{};
  return segment;
}

void SentPool::give_back(SentSegment* segment) {
  WEIR_ASSERT(used_ > 0);  // lists give back what they took
  --used_;
  segment->by_sequence.next = std::exchange(free_, segment);
}

SentSegment* SentList::push(Seq start, std::uint32_t length, Instant now) {
  SentSegment* segment = pool_.take(empty());
  if (segment == nullptr) return nullptr;
  segment->start = start;
  segment->length = length;
  segment->sent_at = now;
  segment->by_sequence.previous = last_;
  (last_ == nullptr ? first_ : last_->by_sequence.next) = segment;
  last_ = segment;
  ++segments_;
  in_flight_ += length;
  link_by_time(*segment);
  return segment;
}

void SentList::drop_last() {
  SentSegment* const dropped = last_;
  leave_state(*dropped);
  last_ = dropped->by_sequence.previous;
  (last_ == nullptr ? first_ : last_->by_sequence.next) = nullptr;
  if (lost_hint_ == dropped) lost_hint_ = nullptr;
  --segments_;
  pool_.give_back(dropped);
}

void SentList::link_by_time(SentSegment& segment) {
  segment.by_time = {.next = nullptr, .previous = newest_};
  (newest_ == nullptr ? oldest_ : newest_->by_time.next) = &segment;
  newest_ = &segment;
}

void SentList::unlink_by_time(SentSegment& segment) {
  const auto [next, previous] = segment.by_time;
  (previous == nullptr ? oldest_ : previous->by_time.next) = next;
  (next == nullptr ? newest_ : next->by_time.previous) = previous;
}

/// Takes the segment's bytes out of the sum of its state, and out of the order of sending.
void SentList::leave_state(SentSegment& segment) {
  switch (segment.state) {
    case State::kInFlight:
      in_flight_ -= segment.length;
      unlink_by_time(segment);
      return;
    case State::kLost:
      lost_ -= segment.length;
      return;
    case State::kSacked:
      sacked_ -= segment.length;
      --segments_sacked_;
      return;
  }
}

void SentList::remove_first() {
  SentSegment* done = first_;
  leave_state(*done);
  first_ = done->by_sequence.next;
  (first_ == nullptr ? last_ : first_->by_sequence.previous) = nullptr;
  if (lost_hint_ == done) lost_hint_ = first_;
  if (highest_sacked_ == done) highest_sacked_ = nullptr;  // then nothing above it is SACKed
  --segments_;
  pool_.give_back(done);
}

void SentList::trim_first(Seq una) {
  const std::uint32_t count = first_->start.distance_to(una);
  switch (first_->state) {
    case State::kInFlight:
      in_flight_ -= count;
      break;
    case State::kLost:
      lost_ -= count;
      break;
    case State::kSacked:
      sacked_ -= count;
      break;
  }
  first_->start = una;
  first_->length -= count;
}

/// Blocks mostly grow at the upper end, so the search starts from the highest SACKed segment when
/// it can; from the front it costs as much as the window has segments.
SentSegment* SentList::first_not_before(Seq start) const {
  SentSegment* at = first_;
  if (highest_sacked_ != nullptr && highest_sacked_->start <= start) at = highest_sacked_;
  while (at != nullptr && at->start < start)
    at = at->by_sequence.next;
  return at;
}

void SentList::mark_sacked(SentSegment& segment) {
  leave_state(segment);
  segment.state = State::kSacked;
  sacked_ += segment.length;
  ++segments_sacked_;
  if (highest_sacked_ == nullptr || highest_sacked_->start < segment.start)
    highest_sacked_ = &segment;
}

void SentList::mark_lost(SentSegment& segment) {
  if (segment.state != State::kInFlight) return;
  leave_state(segment);
  segment.state = State::kLost;
  lost_ += segment.length;
  if (lost_hint_ != nullptr && segment.start < lost_hint_->start) lost_hint_ = &segment;
}

void SentList::mark_all_lost() {
  while (oldest_ != nullptr)
    mark_lost(*oldest_);
}

SentSegment* SentList::first_lost() {
  if (lost_ == 0) return nullptr;
  SentSegment* at = lost_hint_ == nullptr ? first_ : lost_hint_;
  while (at->state != State::kLost)  // there is one: lost_ > 0, and none before the hint
    at = at->by_sequence.next;
  lost_hint_ = at;
  return at;
}

void SentList::sent_again(SentSegment& segment, Instant now) {
  leave_state(segment);
  segment.state = State::kInFlight;
  segment.repeated = true;
  segment.path_probe = false;
  segment.sent_at = now;
  in_flight_ += segment.length;
  link_by_time(segment);
}

bool SentList::split(SentSegment& segment, std::uint32_t length) {
  WEIR_ASSERT(length > 0 && length < segment.length);
  SentSegment* rest = pool_.take(&segment == first_);  // the first must be able to leave
  if (rest == nullptr) return false;
  *rest = segment;
  rest->start = segment.start + length;
  rest->length = segment.length - length;
  segment.length = length;
  rest->by_sequence.previous = &segment;
  (rest->by_sequence.next == nullptr ? last_ : rest->by_sequence.next->by_sequence.previous) = rest;
  segment.by_sequence.next = rest;
  ++segments_;
  if (segment.state == State::kInFlight) {
    rest->by_time.previous = &segment;
    (rest->by_time.next == nullptr ? newest_ : rest->by_time.next->by_time.previous) = rest;
    segment.by_time.next = rest;
  } else if (segment.state == State::kSacked) {
    ++segments_sacked_;
    if (highest_sacked_ == &segment) highest_sacked_ = rest;
  }
  return true;
}

void SentList::forget_losses() {
  // Into their places in the order of sending. What was never repeated was sent in the order of its
  // numbers, and before all that is in flight now: from the back, that is the front each time.
  for (SentSegment* at = last_; at != nullptr; at = at->by_sequence.previous) {
    if (at->state != State::kLost) continue;
    lost_ -= at->length;
    at->state = State::kInFlight;
    in_flight_ += at->length;
    SentSegment* before = nullptr;
    SentSegment* after = oldest_;
    while (after != nullptr && after->sent_at < at->sent_at)
      after = (before = after)->by_time.next;
    at->by_time = {.next = after, .previous = before};
    (before == nullptr ? oldest_ : before->by_time.next) = at;
    (after == nullptr ? newest_ : after->by_time.previous) = at;
  }
  lost_hint_ = nullptr;
}

void SentList::forget_sacks() {
  for (SentSegment* at = first_; at != nullptr; at = at->by_sequence.next) {
    if (at->state != State::kSacked) continue;
    leave_state(*at);
    at->state = State::kLost;
    lost_ += at->length;
  }
  highest_sacked_ = nullptr;
  lost_hint_ = nullptr;
  mark_all_lost();
}

void SentList::clear() {
  while (first_ != nullptr)
    remove_first();
}

}  // namespace weir::tcp
