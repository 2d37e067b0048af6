#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "l7/net/transport.h"

namespace weir::testing {

/// Packet buffers from a fixed store, for tests that count allocations and for benchmarks. Outlives
/// its packets.
class FixedPool final : public port::PacketPool {
 public:
  explicit FixedPool(std::size_t buffers) : slots_(buffers) {
    free_.reserve(buffers);
    for (Slot& slot : slots_) {
      slot.buffer.pool = this;
      slot.buffer.room = slot.bytes.data();
      slot.buffer.capacity = static_cast<std::uint16_t>(slot.bytes.size());
      free_.push_back(&slot.buffer);
    }
  }
  [[nodiscard]] port::Packet allocate() {
    if (free_.empty()) return {};
    port::PacketBuffer* buffer = free_.back();
    free_.pop_back();
    buffer->offset = port::kHeadroom;
    buffer->length = 0;
    return port::Packet{*buffer};
  }
  void release(port::PacketBuffer& buffer) noexcept override { free_.push_back(&buffer); }

 private:
  struct Slot {
    port::PacketBuffer buffer;
    std::array<std::byte, 2048> bytes;
  };
  std::vector<Slot> slots_;
  std::vector<port::PacketBuffer*> free_;
};

/// The layer below one TCP stack, without a layer below: what is sent is kept until somebody takes
/// it to the other side. Nothing is lost, delayed or allocated.
class SegmentWire final : public net::SegmentOutput {
 public:
  explicit SegmentWire(std::size_t segments_max) : pool_{segments_max} {
    sent.reserve(segments_max);
  }
  port::Packet allocate() override { return pool_.allocate(); }
  void send(port::Packet segment, const wire::IpAddress& source, const wire::IpAddress& destination,
            net::Ecn ecn, Instant) override {
    sent.push_back({source, destination, wire::IpProtocol::kTcp, ecn, std::move(segment)});
  }
  [[nodiscard]] std::uint16_t segment_size(const wire::IpAddress&) const override { return 1480; }
  [[nodiscard]] std::uint16_t receive_segment_size(const wire::IpAddress&,
                                                   const wire::IpAddress& remote) const override {
    return segment_size(remote);
  }
  void lower_path_mtu(const wire::IpAddress&, std::uint16_t, Instant) override {}

 private:
  FixedPool pool_;  // above what it owns the buffers of

 public:
  std::vector<net::Segment> sent;
};

}  // namespace weir::testing
