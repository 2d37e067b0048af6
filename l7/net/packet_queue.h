#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "l4/base/assert.h"
#include "l7/port/packet.h"

namespace weir::net {

/// A bounded first-in first-out queue of packets in one ring. Memory is taken once.
class PacketQueue {
 public:
  explicit PacketQueue(std::size_t capacity) : slots_(capacity) {}

  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] bool full() const { return size_ == slots_.size(); }

  void push(port::Packet packet) {
    WEIR_ASSERT(!full());  // callers ask first, and count what they drop
    slots_[(head_ + size_) % slots_.size()] = std::move(packet);
    ++size_;
  }

  /// The oldest packets, as many as lie in one piece, but at most `limit`.
  [[nodiscard]] std::span<port::Packet> front(std::size_t limit) {
    return {slots_.data() + head_, std::min({limit, size_, slots_.size() - head_})};
  }

  /// Forgets the oldest packets, which the caller has moved away.
  void pop(std::size_t count) {
    WEIR_ASSERT(count <= size_);
    head_ = (head_ + count) % slots_.size();
    size_ -= count;
  }

 private:
  std::vector<port::Packet> slots_;
  std::size_t head_ = 0;
  std::size_t size_ = 0;
};

}  // namespace weir::net
