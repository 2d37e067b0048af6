#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "l4/base/clock.h"
#include "l4/base/result.h"

/// How many packets a second go through the balancer on a veth, beside programs that do next to
/// nothing. One round of `weir bench l4`.
namespace weir::bench {

struct LiveRow {
  std::string name;
  bool is_floor = false;
  double packets_per_s = 0;
};

/// Makes a network namespace with a veth pair for the calling thread, loads the balancer with pins
/// of its own, measures every row for `share`, and takes everything away. One at a time on a
/// machine. `stop` may be set by a signal's handler. Needs root.
Result<std::vector<LiveRow>> measure_live(Duration share, const std::atomic<bool>& stop);

}  // namespace weir::bench
