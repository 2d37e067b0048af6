#pragma once

#include <cstddef>
#include <cstdint>

#include "l7/port/packet.h"

namespace weir::port {

/// Buffers from the heap for tests and simulations. Each packet's room is a heap block of exactly
/// its size, so that a sanitizer sees the first byte beyond it. The pool outlives its packets, and
/// its destructor asserts that.
class HeapPool final : public PacketPool {
 public:
  explicit HeapPool(std::uint32_t buffers_max) : buffers_max_{buffers_max} {}
  ~HeapPool() override;
  HeapPool(const HeapPool&) = delete;
  HeapPool& operator=(const HeapPool&) = delete;

  /// An empty packet with `headroom` in front and `room` bytes behind, or nothing at the limit.
  [[nodiscard]] Packet allocate(std::size_t room, std::size_t headroom = kHeadroom);

  /// A packet that holds a copy of `bytes`, with no room behind them.
  [[nodiscard]] Packet copy_of(std::span<const std::byte> bytes, std::size_t headroom = kHeadroom);

  [[nodiscard]] std::uint32_t in_use() const { return in_use_; }

  void release(PacketBuffer& buffer) noexcept override;

 private:
  std::uint32_t buffers_max_;
  std::uint32_t in_use_ = 0;
};

}  // namespace weir::port
