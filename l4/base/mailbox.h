#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "l4/base/assert.h"

namespace weir {

/// A bounded ring between exactly one producing and one consuming thread. Full means refused: the
/// producer counts and goes on. This is the only way in which cores speak.
template <typename T>
class Mailbox {
 public:
  /// Capacity is rounded up to a power of two.
  explicit Mailbox(std::size_t capacity) : slots_(std::bit_ceil(capacity)) {}

  /// False when full; `value` is then untouched.
  [[nodiscard]] bool push(T&& value) {
    const std::size_t tail = tail_.load(std::memory_order_relaxed);  // only we write it
    if (tail - head_.load(std::memory_order_acquire) == slots_.size()) return false;
    slots_[tail & (slots_.size() - 1)] = std::move(value);
    // Release: the consumer that sees the new tail sees the slot's content.
    tail_.store(tail + 1, std::memory_order_release);
    return true;
  }

  [[nodiscard]] std::optional<T> pop() {
    T* const oldest = front();
    if (oldest == nullptr) return std::nullopt;
    std::optional<T> value{std::move(*oldest)};
    drop_front();
    return value;
  }

  // For what is looked at in place. Both are the consumer's.

  /// The oldest value, which stays in its slot until drop_front(); nullptr when there is none.
  [[nodiscard]] T* front() {
    const std::size_t head = head_.load(std::memory_order_relaxed);  // only we write it
    if (head == tail_.load(std::memory_order_acquire)) return nullptr;
    return &slots_[head & (slots_.size() - 1)];
  }
  /// Only after front() has given something.
  void drop_front() {
    // Release: the producer that sees the new head may overwrite the slot.
    head_.store(head_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  }

  /// The producer's: what push() would answer.
  [[nodiscard]] bool full() const {
    return tail_.load(std::memory_order_relaxed) - head_.load(std::memory_order_acquire) ==
           slots_.size();
  }
  [[nodiscard]] std::size_t capacity() const { return slots_.size(); }

 private:
  static constexpr std::size_t kCacheLine = 64;
  std::vector<T> slots_;
  alignas(kCacheLine) std::atomic<std::size_t> head_{0};
  alignas(kCacheLine) std::atomic<std::size_t> tail_{0};
};

}  // namespace weir
