#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "l4/base/assert.h"

namespace weir::port {

/// Room in front of a packet's bytes for headers that are written last: Ethernet and VLAN 18,
/// IPv6 40, TCP with options 60, rounded up.
inline constexpr std::size_t kHeadroom = 128;

class PacketPool;

/// The bookkeeping of one buffer. A pool places it where it likes (an mbuf's private area, the
/// front of a heap block) and owns it; packets only point to it.
struct PacketBuffer {
  PacketPool* pool = nullptr;
  std::byte* room = nullptr;   ///< first byte of the buffer
  std::uint16_t capacity = 0;  ///< bytes in the buffer, headroom included
  std::uint16_t offset = 0;    ///< where the packet's bytes begin
  std::uint16_t length = 0;    ///< how many there are
};

/// Where buffers come from and go back to. One core owns a pool.
class PacketPool {
 public:
  virtual ~PacketPool() = default;
  virtual void release(PacketBuffer& buffer) noexcept = 0;
};

/// One frame or segment: contiguous bytes in one buffer, owned by whoever holds the Packet. Moving
/// is two words; destroying gives the buffer back. An empty Packet holds nothing.
class Packet {
 public:
  Packet() = default;
  explicit Packet(PacketBuffer& buffer) noexcept : buffer_{&buffer} {}
  Packet(Packet&& other) noexcept : buffer_{std::exchange(other.buffer_, nullptr)} {}
  Packet& operator=(Packet&& other) noexcept {
    if (this != &other) {
      reset();
      buffer_ = std::exchange(other.buffer_, nullptr);
    }
    return *this;
  }
  Packet(const Packet&) = delete;
  Packet& operator=(const Packet&) = delete;
  ~Packet() { reset(); }

  explicit operator bool() const { return buffer_ != nullptr; }

  [[nodiscard]] std::span<std::byte> bytes() {
    return {buffer_->room + buffer_->offset, buffer_->length};
  }
  [[nodiscard]] std::span<const std::byte> bytes() const {
    return {buffer_->room + buffer_->offset, buffer_->length};
  }
  [[nodiscard]] std::size_t size() const { return buffer_->length; }
  [[nodiscard]] std::size_t headroom() const { return buffer_->offset; }
  [[nodiscard]] std::size_t tailroom() const {
    return std::size_t{buffer_->capacity} - buffer_->offset - buffer_->length;
  }

  /// Grows to the front and returns the new bytes. The caller knows the headroom.
  std::span<std::byte> prepend(std::size_t count) {
    WEIR_ASSERT(count <= headroom());
    buffer_->offset = static_cast<std::uint16_t>(buffer_->offset - count);
    buffer_->length = static_cast<std::uint16_t>(buffer_->length + count);
    return bytes().first(count);
  }

  /// Grows to the back and returns the new bytes. The caller knows the tailroom.
  std::span<std::byte> append(std::size_t count) {
    WEIR_ASSERT(count <= tailroom());
    buffer_->length = static_cast<std::uint16_t>(buffer_->length + count);
    return bytes().last(count);
  }

  void trim_front(std::size_t count) {
    WEIR_ASSERT(count <= size());
    buffer_->offset = static_cast<std::uint16_t>(buffer_->offset + count);
    buffer_->length = static_cast<std::uint16_t>(buffer_->length - count);
  }

  void truncate(std::size_t count) {
    WEIR_ASSERT(count <= size());
    buffer_->length = static_cast<std::uint16_t>(count);
  }

  /// Hands the buffer to a driver that will give it back to the pool itself.
  [[nodiscard]] PacketBuffer* release() noexcept { return std::exchange(buffer_, nullptr); }

  void reset() noexcept {
    if (buffer_ != nullptr) buffer_->pool->release(*std::exchange(buffer_, nullptr));
  }

 private:
  PacketBuffer* buffer_ = nullptr;
};

}  // namespace weir::port
