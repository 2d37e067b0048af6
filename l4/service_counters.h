#pragma once

#include <cstdint>
#include <vector>

#include "l4/observe.h"
#include "l4/plane.h"

namespace weir::l4 {

/// The counters of every VIP and backend that is installed, by id, read in a few system calls
/// however many there are.
struct ServiceCounters {
  std::vector<weir_service_counter> vips;
  std::vector<weir_service_counter> backends;

  /// Only while plane.loaded().
  static Result<ServiceCounters> read(const Plane& plane);
  [[nodiscard]] const weir_service_counter& of(VipId id) const { return vips[id.value()]; }
  [[nodiscard]] const weir_service_counter& of(BackendId id) const { return backends[id.value()]; }
};

}  // namespace weir::l4
