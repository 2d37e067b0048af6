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
  latest_ = start;
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

std::size_t Reassembly::sack_blocks(std::span<SackBlock> out) const {
  const auto ranges = std::span{ranges_}.first(count_);
  const auto holds_latest = [this](const SackBlock& range) {
    return range.start <= latest_ && latest_ < range.end;
  };
  const auto latest = std::find_if(ranges.begin(), ranges.end(), holds_latest);
  std::size_t count = 0;
  if (latest != ranges.end() && !out.empty()) out[count++] = *latest;
  for (auto range = ranges.begin(); range != ranges.end() && count < out.size(); ++range)
    if (range != latest) out[count++] = *range;
  return count;
}

}  // namespace weir::tcp
