#pragma once

#include "l4/control/admin.h"
#include "l4/plane.h"

namespace weir::l4 {

/// GET /v1/stats.
control::AdminReply stats_request(const Plane& plane, const control::AdminRequest& request);

}  // namespace weir::l4
