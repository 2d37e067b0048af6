#pragma once

#include <string>

#include "l4/plane.h"

namespace weir::l4 {

/// The body of GET /v1/vips?backends=count: every VIP with what tells it from others and with how
/// many backends it has, for lists. Of 10,000 VIPs with ten backends each a tenth of the whole, and
/// made without a copy of them.
std::string vip_list_json(const Plane& plane);

}  // namespace weir::l4
