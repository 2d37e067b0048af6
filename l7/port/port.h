#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "l4/base/clock.h"
#include "l4/wire/address.h"
#include "l7/port/packet.h"

namespace weir::port {

/// What a port can do; read once at start.
struct PortCapabilities {
  wire::MacAddress mac;
  std::uint16_t mtu = 1500;  ///< bytes of IP packet
};

/// Counted by the port, read by the worker that owns it. All since start.
struct PortCounters {
  std::uint64_t received_frames = 0;
  std::uint64_t received_bytes = 0;
  std::uint64_t sent_frames = 0;
  std::uint64_t sent_bytes = 0;
  std::uint64_t send_refused = 0;         ///< frames that a send() did not take
  std::uint64_t pool_exhausted = 0;       ///< allocate() calls that found no buffer
  std::uint64_t receive_no_buffer = 0;    ///< frames the driver lost for want of a buffer
  std::uint64_t receive_overflow = 0;     ///< frames lost because we did not fetch in time
  std::uint64_t invalid_descriptors = 0;  ///< frames the kernel refused to send
};

/// One receive queue and one send queue of one device, owned by one core. Implementations: DPDK,
/// the simulated link of the tests.
class PacketPort {
 public:
  virtual ~PacketPort() = default;

  [[nodiscard]] virtual const PortCapabilities& capabilities() const = 0;
  [[nodiscard]] virtual PortCounters counters() const = 0;

  /// Fills the front of `burst` with received frames and says how many. Never blocks.
  [[nodiscard]] virtual std::size_t receive(std::span<Packet> burst) = 0;

  /// Sends frames in order and says how many were taken; those are empty afterwards, the rest stay
  /// the caller's. Zero is normal when the ring is full.
  [[nodiscard]] virtual std::size_t send(std::span<Packet> burst) = 0;

  /// An empty packet with kHeadroom in front, or nothing when the pool is used up.
  [[nodiscard]] virtual Packet allocate() = 0;

  /// Takes back buffers of frames that have left. Called before the owner goes to sleep.
  virtual void reap() = 0;

  /// Sleeps until a frame may be there, `wake_fd` becomes readable, or `longest` has passed.
  virtual void wait(Duration longest, int wake_fd) = 0;
};

}  // namespace weir::port
