#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "l4/base/result.h"
#include "l7/port/port.h"

namespace weir::port {

struct DpdkOptions {
  /// Upper bound of the huge page memory that all ports of the process take together.
  std::uint32_t memory_mb = 256;
};

/// Starts DPDK's environment, once per process and before any port is opened. It makes one service
/// thread (interrupts); the calling thread keeps its affinity. No files, no PCI scan, no telemetry
/// socket. DPDK's own messages are captured: on failure the last of them is part of the error.
Result<void> start_dpdk(const DpdkOptions& options);

struct DpdkPortOptions {
  /// The worker's end of its veth, in the network namespace of the calling thread.
  std::string device;
  /// Packet buffers, receive and send together. The driver keeps 2048 in its receive ring and up
  /// to 2048 in its send ring, so fewer than 4095 are refused; one below a power of two uses the
  /// pool's ring best.
  std::uint32_t frames = 16383;
};

/// A PacketPort over DPDK's AF_XDP driver: queue 0 of one device, owned by one core. Opened by any
/// thread, then used and destroyed by one thread at a time; its packets may not outlive it.
///
/// Everything that is particular about this driver is in dpdk_port.cpp; l7/port/README.md lists it.
class DpdkPort final : public PacketPort {
 public:
  [[nodiscard]] static Result<std::unique_ptr<DpdkPort>> open(const DpdkPortOptions& options);
  ~DpdkPort() override;
  DpdkPort(const DpdkPort&) = delete;
  DpdkPort& operator=(const DpdkPort&) = delete;

  [[nodiscard]] const PortCapabilities& capabilities() const override;
  /// Asks the kernel for its part of the numbers: for `weir stats`, not for every turn.
  [[nodiscard]] PortCounters counters() const override;
  [[nodiscard]] std::size_t receive(std::span<Packet> burst) override;
  [[nodiscard]] std::size_t send(std::span<Packet> burst) override;
  [[nodiscard]] Packet allocate() override;
  void reap() override;
  void wait(Duration longest, int wake_fd) override;

 private:
  class State;
  explicit DpdkPort(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace weir::port
