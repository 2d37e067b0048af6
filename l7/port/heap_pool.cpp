#include "l7/port/heap_pool.h"

#include <algorithm>
#include <memory>

namespace weir::port {

HeapPool::~HeapPool() {
  WEIR_ASSERT(in_use_ == 0);  // a packet that outlives its pool would be given back to nobody
}

Packet HeapPool::allocate(std::size_t room, std::size_t headroom) {
  WEIR_ASSERT(headroom + room <= UINT16_MAX);  // sizes come from code, never from a packet
  if (in_use_ == buffers_max_) return Packet{};
  ++in_use_;
  auto bytes = std::make_unique<std::byte[]>(headroom + room);
  auto buffer = std::make_unique<PacketBuffer>();
  buffer->pool = this;
  buffer->room = bytes.release();
  buffer->capacity = static_cast<std::uint16_t>(headroom + room);
  buffer->offset = static_cast<std::uint16_t>(headroom);
  return Packet{*buffer.release()};  // both come back in release()
}

Packet HeapPool::copy_of(std::span<const std::byte> bytes, std::size_t headroom) {
  Packet packet = allocate(bytes.size(), headroom);
  if (packet) std::ranges::copy(bytes, packet.append(bytes.size()).begin());
  return packet;
}

void HeapPool::release(PacketBuffer& buffer) noexcept {
  --in_use_;
  const std::unique_ptr<std::byte[]> bytes{buffer.room};
  const std::unique_ptr<PacketBuffer> owner{&buffer};
}

}  // namespace weir::port
