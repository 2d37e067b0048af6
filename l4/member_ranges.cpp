#include "l4/member_ranges.h"

#include <iterator>

#include "l4/base/assert.h"

namespace weir::l4 {

MemberRanges::MemberRanges(std::uint32_t entries) : free_{{1, entries - 1}} {}

std::optional<std::uint32_t> MemberRanges::take(std::uint32_t length) {
  for (const auto& [first, room] : free_) {
    if (room < length) continue;
    const std::uint32_t range = first - 1;
    const bool taken = take_at(range, length);
    WEIR_ASSERT(taken);  // it lies within a free one
    return range;
  }
  return std::nullopt;
}

bool MemberRanges::take_at(std::uint32_t range, std::uint32_t length) {
  const std::uint32_t first = range + 1;
  auto found = free_.upper_bound(first);
  if (found == free_.begin()) return length == 0;
  --found;
  const auto [start, room] = *found;
  if (first + length > start + room) return length == 0;
  if (length == 0) return true;
  free_.erase(found);
  if (first > start) free_.emplace(start, first - start);
  if (first + length < start + room) free_.emplace(first + length, start + room - first - length);
  return true;
}

void MemberRanges::give_back(std::uint32_t range, std::uint32_t length) {
  if (length == 0) return;
  auto [place, is_new] = free_.emplace(range + 1, length);
  WEIR_ASSERT(is_new);  // it was taken, so that nothing free begins there
  const auto next = std::next(place);
  if (next != free_.end() && place->first + place->second == next->first) {
    place->second += next->second;
    free_.erase(next);
  }
  if (place == free_.begin()) return;
  const auto before = std::prev(place);
  if (before->first + before->second != place->first) return;
  before->second += place->second;
  free_.erase(place);
}

}  // namespace weir::l4
