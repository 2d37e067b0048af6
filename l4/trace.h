#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "bpf/abi.h"
#include "l4/api_bodies.h"
#include "l4/base/result.h"
#include "l4/datapath.h"

/// What the balancer would do with packets: the balancer's own source, with its trace points, run
/// over them by the kernel's test-run.
namespace weir::l4 {

struct TracedPacket {
  weir_trace trace{};
  std::vector<std::byte> output;  ///< the frame as it would leave
};

struct Traced {
  std::vector<TracedPacket> packets;
  /// False before Linux 5.15: there test-runs say that packets came in by the loopback device.
  bool came_in_by_device = true;
};

/// Runs a second program, with the datapath's settings: it reads what user space has written from
/// the pinned maps themselves, but has copies of its own of all that programs write. So nothing
/// changes for real traffic, nor for the counters. Packets are run in order, each in the state that
/// those before it have left, as if they had come within a moment.
Result<Traced> trace_packets(const std::string& pin_directory, const Datapath& datapath,
                             std::uint32_t ifindex, std::span<const std::vector<std::byte>> frames);

}  // namespace weir::l4
