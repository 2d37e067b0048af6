#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "l7/port/port.h"

namespace weir::bench {

/// Two ports that are the ends of a cable in memory, each for one thread: what a stack costs
/// without a kernel in between. DPDK's net_ring would do the same; it is not among the drivers that
/// l7/port links, and would need huge pages and rights where this needs none.
///
/// A buffer belongs to one end for good. Frames cross in one ring; the receiver, when it is done,
/// puts the buffer into the ring that leads home. No ring can overflow with buffers, since each
/// holds all that there are.
class RingCable {
 public:
  explicit RingCable(std::uint32_t buffers_each);
  ~RingCable();
  RingCable(const RingCable&) = delete;
  RingCable& operator=(const RingCable&) = delete;

  [[nodiscard]] port::PacketPort& left();
  [[nodiscard]] port::PacketPort& right();

 private:
  class End;
  std::unique_ptr<End> left_;
  std::unique_ptr<End> right_;
};

}  // namespace weir::bench
