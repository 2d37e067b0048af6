#include "l7/tcp/reassembly.h"

#include <algorithm>

#include "l4/base/assert.h"

namespace weir::tcp {
namespace {

/// The ranges that [start, end) overlaps or touches: indexes [first, last).
struct Touched {
  std::size_t first;
  std::size_t last;
};

Touched touched_by(std::span<const SackBlock> ranges, Seq start, Seq end) {
  std::size_t first = 0;
  while (first < ranges.size() && ranges[first].end < start)
    ++first;
  std::size_t last = first;
  while (last < ranges.size() && ranges[last].start <= end)
    ++last;
  return {first, last};
}

}  // namespace

bool Reassembly::covers(Seq start, Seq end) const {
  const auto ranges = std::span{ranges_}.first(count_);
  return std::any_of(ranges.begin(), ranges.end(), [&](const SackBlock& range) {
    return range.start <= start && end <= range.end;
  });
}

bool Reassembly::fits(Seq start, Seq end) const {
  const Touched touched = touched_by(std::span{ranges_}.first(count_), start, end);
  return touched.first != touched.last || count_ < kRangesMax;
}

bool Reassembly::insert(Seq start, Seq end) {
  WEIR_ASSERT(start < end);
  const auto [first, last] = touched_by(std::span{ranges_}.first(count_), start, end);
  if (first == last) {
    if (count_ == kRangesMax) return false;
    std::move_backward(ranges_.begin() + first, ranges_.begin() + count_,
                       ranges_.begin() + count_ + 1);
    ranges_[first] = {start, end};
    ++count_;
  } else {
    ranges_[first] = {earlier_of(start, ranges_[first].start),
                      later_of(end, ranges_[last - 1].end)};
    std::move(ranges_.begin() + last, ranges_.begin() + count_, ranges_.begin() + first + 1);
    count_ = static_cast<std::uint8_t>(count_ - (last - first - 1));
  }
  note_recent(ranges_[first]);
  return true;
}

Seq Reassembly::advance(Seq next) {
  std::size_t covered = 0;
  while (covered < count_ && ranges_[covered].start <= next)
    next = later_of(next, ranges_[covered++].end);
  std::move(ranges_.begin() + covered, ranges_.begin() + count_, ranges_.begin());
  count_ = static_cast<std::uint8_t>(count_ - covered);
  return next;
}

/// The range is what came last; what was remembered of its parts is forgotten.
void Reassembly::note_recent(const SackBlock& range) {
  const auto end = recent_.begin() + recent_count_;
  const auto kept = std::remove_if(
      recent_.begin(), end, [&](Seq start) { return range.start <= start && start < range.end; });
  const auto count =
      std::min<std::size_t>(static_cast<std::size_t>(kept - recent_.begin()), recent_.size() - 1);
  std::move_backward(recent_.begin(), recent_.begin() + count, recent_.begin() + count + 1);
  recent_[0] = range.start;
  recent_count_ = static_cast<std::uint8_t>(count + 1);
}

std::size_t Reassembly::sack_blocks(std::span<SackBlock> out) const {
  const auto ranges = std::span{ranges_}.first(count_);
  std::size_t count = 0;
  const auto put = [&](const SackBlock& range) {
    const auto written = out.first(count);
    if (count < out.size() && std::ranges::find(written, range) == written.end())
      out[count++] = range;
  };
  for (const Seq start : std::span{recent_}.first(recent_count_)) {
    const auto range = std::ranges::find_if(ranges, [start](const SackBlock& candidate) {
      return candidate.start <= start && start < candidate.end;
    });
    if (range != ranges.end()) put(*range);
  }
  std::ranges::for_each(ranges, put);
  return count;
}

}  // namespace weir::tcp
