#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "l4/base/assert.h"

namespace weir {

/// Names a slab object. Stale handles are recognised: a freed slot gets a new generation.
/// Generation 0 is never given out, so a zero handle is "none".
template <typename Tag>
struct Handle {
  std::uint32_t index = 0;
  std::uint32_t generation = 0;

  explicit operator bool() const { return generation != 0; }
  friend bool operator==(const Handle&, const Handle&) = default;

  /// Round trip through a 64-bit word, for queues and timers.
  [[nodiscard]] std::uint64_t raw() const { return (std::uint64_t{generation} << 32) | index; }
  static Handle from_raw(std::uint64_t raw) {
    return {static_cast<std::uint32_t>(raw), static_cast<std::uint32_t>(raw >> 32)};
  }
};

/// A pool of at most `capacity` objects of one type. Memory is taken in pages of 256 objects as the
/// pool first grows, and then kept: steady state allocates nothing. Objects never move.
/// One core owns a slab; nothing here is thread safe.
template <typename T, typename Tag = T>
class Slab {
 public:
  using Id = Handle<Tag>;

  explicit Slab(std::uint32_t capacity) : capacity_{capacity} {}
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;

  [[nodiscard]] std::uint32_t size() const { return size_; }
  [[nodiscard]] std::uint32_t capacity() const { return capacity_; }

  /// A new object, or a zero handle when the pool is full; the caller counts that.
  template <typename... Args>
  [[nodiscard]] Id emplace(Args&&... args) {
    if (free_.empty() && !grow()) return Id{};
    const std::uint32_t index = free_.back();
    free_.pop_back();
    Slot& slot = slot_at(index);
    std::construct_at(&slot.object, std::forward<Args>(args)...);
    slot.live = true;
    ++size_;
    return Id{index, slot.generation};
  }

  /// The object, or nullptr when the handle is zero, stale or foreign.
  [[nodiscard]] T* get(Id id) {
    if (id.generation == 0 || id.index >= slots_) return nullptr;
    Slot& slot = slot_at(id.index);
    return slot.generation == id.generation && slot.live ? &slot.object : nullptr;
  }

  /// The handle of the live object in slot `index`, for tables that keep 32-bit indexes only.
  [[nodiscard]] Id id_at(std::uint32_t index) {
    return index < slots_ && slot_at(index).live ? Id{index, slot_at(index).generation} : Id{};
  }

  void erase(Id id) {
    WEIR_ASSERT(get(id) != nullptr);  // callers erase what they have just looked up
    Slot& slot = slot_at(id.index);
    slot.live = false;
    std::destroy_at(&slot.object);
    if (++slot.generation == 0) slot.generation = 1;
    free_.push_back(id.index);
    --size_;
  }

  /// Live objects are in slots below this.
  [[nodiscard]] std::uint32_t slots() const { return slots_; }

  /// Calls visit(id, object) for every live object; the visitor may erase the one it is given.
  template <typename Visit>
  void for_each(Visit&& visit) {
    for (std::uint32_t index = 0; index < slots_; ++index) {
      Slot& slot = slot_at(index);
      if (slot.live) visit(Id{index, slot.generation}, slot.object);
    }
  }

 private:
  static constexpr std::uint32_t kPageObjects = 256;
  /// An optional, with the flag in the gap behind the generation: a hundred thousand connections
  /// are a megabyte less.
  struct Slot {
    Slot() {}
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;
    ~Slot() {
      if (live) std::destroy_at(&object);
    }

    union {
      T object;  // while it lives
    };
    std::uint32_t generation = 1;
    bool live = false;
  };

  Slot& slot_at(std::uint32_t index) { return pages_[index / kPageObjects][index % kPageObjects]; }

  bool grow() {
    if (slots_ >= capacity_) return false;
    const std::uint32_t count = std::min(kPageObjects, capacity_ - slots_);
    pages_.push_back(std::make_unique<Slot[]>(kPageObjects));
    free_.reserve(slots_ + count);
    for (std::uint32_t i = count; i > 0; --i)
      free_.push_back(slots_ + i - 1);
    slots_ += count;
    return true;
  }

  std::uint32_t capacity_;
  std::uint32_t slots_ = 0;
  std::uint32_t size_ = 0;
  std::vector<std::unique_ptr<Slot[]>> pages_;
  std::vector<std::uint32_t> free_;
};

}  // namespace weir
