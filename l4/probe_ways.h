#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "bpf/abi.h"
#include "l4/control/model.h"
#include "l4/next_hop.h"

/// Which probes go to their VIP through its encapsulation, under which mark, and by which way.
/// Pure.
namespace weir::l4 {

/// Marks (SO_MARK) that are ours: 0x57000001 … 0x57ffffff. Nobody else's sockets may have them
/// where weir-l4 runs; packets with other marks are let alone.
inline constexpr std::uint32_t kProbeMarkFirst = WEIR_PROBE_MARK | 1;
inline constexpr std::uint32_t kProbeMarkLast = WEIR_PROBE_MARK | ~WEIR_PROBE_MARK_MASK;

/// The way of one backend's probes: what a socket with the mark sends to the backend's own address
/// goes to the VIP there.
struct ProbeVia {
  std::uint32_t mark = 0;  ///< kProbeMarkFirst … kProbeMarkLast, one for each VIP and backend
  wire::IpAddress vip;
  control::ForwardMode mode = control::ForwardMode::kIpip;  ///< ipip, gue or l2
  wire::Port gue_port{WEIR_GUE_PORT_DEFAULT};               ///< mode gue
  std::uint32_t egress_ifindex = 0;                         ///< where the way to the backend leaves
  wire::IpAddress outer_source;  ///< ipip, gue: as of the VIP's traffic to this backend

  friend bool operator==(const ProbeVia&, const ProbeVia&) = default;
};

/// Why a backend cannot be asked through its VIP's encapsulation, for a person; nothing where it
/// can. Whoever gets a reason probes the backend's own address, with mark 0, and shows the reason.
///
/// VIP and backend of different IP versions: the socket's connection to the backend's address
/// cannot become one to the VIP's.
std::optional<std::string> why_not_through(const wire::IpAddress& vip,
                                           const wire::IpAddress& backend,
                                           control::ForwardMode mode);

/// Gives marks to backends of VIPs that have health checks, and keeps their ways:
///
///   set_wishes() with every change of VIPs → mark_of() for the prober's targets
///   resolve() after it, and when the network has changed → ProbePath::set_paths()
///
/// Backends that are down, and so in no table, have a way all the same: their probes go on.
class ProbeWays {
 public:
  struct Wish {
    control::VipKey vip;
    control::ForwardMode mode = control::ForwardMode::kIpip;
    wire::Port gue_port{WEIR_GUE_PORT_DEFAULT};
    std::vector<wire::IpAddress> backends;
  };
  /// As the programmer's.
  using Resolve =
      std::function<Result<NextHop>(const wire::IpAddress& backend, control::ForwardMode mode)>;

  /// From here on these. What stays keeps its mark; a freed one is not given out again soon.
  void set_wishes(const std::vector<Wish>& wishes);

  /// 0: the backend's own address is asked.
  [[nodiscard]] std::uint32_t mark_of(const control::VipKey& vip,
                                      const wire::IpAddress& backend) const;

  /// The ways of all that have one now. A backend that cannot be reached has none: its probes have
  /// no route either, or are dropped. Asks once for each backend and mode.
  [[nodiscard]] std::vector<ProbeVia> resolve(const Resolve& resolve) const;

 private:
  using Key = std::pair<control::VipKey, wire::IpAddress>;
  std::uint32_t fresh_mark();

  std::map<Key, ProbeVia> ways_;   // without device and source
  std::set<std::uint32_t> marks_;  // of ways_
  std::uint32_t last_mark_ = kProbeMarkFirst - 1;
};

}  // namespace weir::l4
