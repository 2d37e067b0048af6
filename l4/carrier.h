#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "l4/base/result.h"
#include "l4/control/lane.h"
#include "l4/netlink.h"
#include "l4/wire/address.h"

/// The way from the XDP program to the L7 workers of this node: for each worker one veth pair in
/// each of two lanes.
///
///   NIC ─ weir_lb ─► weir-l7-N ═══ veth ═══ weir-wN ─► worker N of weir-l7 (AF_XDP)
///   NIC ◄─ weir_l7_return ─ weir-l7-N ◄═══ veth ═══ weir-wN ◄─┘
///
/// What comes in goes into one lane, blue at first. The other one, green, whose devices are called
/// weir-l7-gN and weir-wgN, is for a second weir-l7 that takes over from the first, and so on by
/// turns: a device takes one AF_XDP socket for each of its queues.
///
/// The kernel must never speak on a pair itself: no ARP, no IPv6, no addresses.
namespace weir::l4 {

using control::Lane;

struct WorkerPair {
  std::uint32_t index = 0;
  Lane lane = Lane::kBlue;
  std::string balancer_end;  ///< weir-l7-N
  std::string worker_end;    ///< weir-wN
  std::uint32_t balancer_ifindex = 0;
  bool up = false;     ///< both ends
  bool taken = false;  ///< an XDP program, hence a process, is on the worker's end
  friend bool operator==(const WorkerPair&, const WorkerPair&) = default;
};

struct CarrierOptions {
  std::uint32_t workers = 1;
  /// MAC of the worker ends: that of the NIC, so that frames can be handed over as they came.
  wire::MacAddress mac;
  std::uint32_t mtu = 1500;
};

std::string balancer_end_of(std::uint32_t worker, Lane lane);
std::string worker_end_of(std::uint32_t worker, Lane lane);

/// Creates the pairs that are missing, adopts those that exist, brings them to these options, and
/// removes pairs with an index of options.workers or more. Several calls do as one.
Result<std::vector<WorkerPair>> ensure_carrier(NetlinkSocket& netlink,
                                               const CarrierOptions& options);

/// The pairs that exist now.
Result<std::vector<WorkerPair>> find_carrier(NetlinkSocket& netlink);

Result<void> remove_carrier(NetlinkSocket& netlink);

}  // namespace weir::l4
