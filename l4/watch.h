#pragma once

#include <mutex>

#include "l4/control/admin.h"
#include "l4/plane.h"

/// GET /v1/monitor: packets as they end in the balancer, one JSON object a line, until the client
/// goes away.
namespace weir::l4 {

inline constexpr control::AdminOperation kWatchOperation{"GET", "/v1/monitor"};

bool is_watch(const control::AdminRequest& request);

/// Called under `mutex`, by which the plane is guarded; both outlive the reply. The ring goes with
/// the reply's `more`.
control::AdminReply watch_packets(Plane& plane, std::mutex& mutex,
                                  const control::AdminRequest& request);

}  // namespace weir::l4
