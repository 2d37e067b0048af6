#pragma once

#include <span>

#include "l4/base/clock.h"
#include "l4/control/admin.h"
#include "l4/plane.h"

namespace weir::l4 {

/// Answers one request of the admin API; README.md has the shapes. `started` gives the uptime.
control::AdminReply handle_request(Plane& plane, const control::AdminRequest& request,
                                   Instant started);

/// Everything that the API can do, GET /v1/monitor included.
std::span<const control::AdminOperation> operations();

}  // namespace weir::l4
