#pragma once

#include "l4/control/admin.h"
#include "l4/plane.h"

namespace weir::l4 {

/// GET /v1/vips?backends=count: every VIP with what tells it from others and with how
/// many backends it has, for lists. Of 10,000 VIPs with ten backends each a tenth of the whole, and
/// made without a copy of them.
control::AdminReply vip_list_request(const Plane& plane);

}  // namespace weir::l4
