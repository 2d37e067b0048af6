#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "l4/base/assert.h"

namespace weir::tcp {

/// Open-addressed index from a keyed hash to 32-bit object numbers, one per core. A slot is 8
/// bytes, the load is at most one half, probing is linear, and erasing shifts the followers back,
/// so that there are no tombstones and a miss ends at the first empty slot. Keys stay in the
/// objects: the 32-bit tag in the slot decides alone in all but one of 2^32 comparisons.
class FlowTable {
 public:
  explicit FlowTable(std::uint32_t entries_max)
      : slots_(std::bit_ceil(std::size_t{entries_max} * 2 + 2)), entries_max_{entries_max} {}

  [[nodiscard]] std::uint32_t size() const { return size_; }

  /// The object with this hash for which matches(object) holds.
  template <typename Matches>
  [[nodiscard]] std::optional<std::uint32_t> find(std::uint64_t hash, Matches&& matches) const {
    const std::uint32_t tag = tag_of(hash);
    for (std::size_t i = home(tag); slots_[i].object != kEmpty; i = next(i))
      if (slots_[i].tag == tag && matches(slots_[i].object)) return slots_[i].object;
    return std::nullopt;
  }

  void insert(std::uint64_t hash, std::uint32_t object) {
    WEIR_ASSERT(size_ < entries_max_);  // the objects come from a pool with the same limit
    const std::uint32_t tag = tag_of(hash);
    std::size_t i = home(tag);
    while (slots_[i].object != kEmpty)
      i = next(i);
    slots_[i] = {tag, object};
    ++size_;
  }

  void erase(std::uint64_t hash, std::uint32_t object) {
    std::size_t hole = home(tag_of(hash));
    while (slots_[hole].object != object) {
      WEIR_ASSERT(slots_[hole].object != kEmpty);  // callers erase what they have inserted
      hole = next(hole);
    }
    --size_;
    // A follower may fill the hole when the hole lies between its home and its place.
    for (std::size_t i = next(hole); slots_[i].object != kEmpty; i = next(i)) {
      if (distance(home(slots_[i].tag), i) < distance(hole, i)) continue;
      slots_[hole] = slots_[i];
      hole = i;
    }
    slots_[hole].object = kEmpty;
  }

 private:
  static constexpr std::uint32_t kEmpty = UINT32_MAX;
  struct Slot {
    std::uint32_t tag = 0;
    std::uint32_t object = kEmpty;
  };

  static std::uint32_t tag_of(std::uint64_t hash) { return static_cast<std::uint32_t>(hash); }
  [[nodiscard]] std::size_t home(std::uint32_t tag) const { return tag & (slots_.size() - 1); }
  [[nodiscard]] std::size_t next(std::size_t i) const { return (i + 1) & (slots_.size() - 1); }
  [[nodiscard]] std::size_t distance(std::size_t from, std::size_t to) const {
    return (to - from) & (slots_.size() - 1);
  }

  std::vector<Slot> slots_;
  std::uint32_t entries_max_;
  std::uint32_t size_ = 0;
};

}  // namespace weir::tcp
