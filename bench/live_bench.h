#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "l4/base/result.h"
#include "l4/control/model.h"

/// How many packets a second go through the balancer on a veth, beside programs that do next to
/// nothing: `weir bench l4`.
namespace weir::bench {

struct LiveRow {
  std::string name;
  bool is_floor = false;
  double packets_per_s = 0;  ///< the median of the rounds
  double program_ns = 0;     ///< a run of the program alone, by the kernel's own clock

  [[nodiscard]] double ns_per_packet() const { return packets_per_s > 0 ? 1e9 / packets_per_s : 0; }
};

struct LiveOptions {
  std::vector<control::ForwardMode> modes;
  std::uint32_t seconds = 1;  ///< for each row
};

/// Makes a network namespace with a veth pair for the calling thread, loads the balancer with pins
/// of its own, measures, and takes everything away. One at a time on a machine. `stop` may be set
/// by a signal's handler. Needs root.
Result<std::vector<LiveRow>> measure_live(const LiveOptions& options,
                                          const std::atomic<bool>& stop);

}  // namespace weir::bench
