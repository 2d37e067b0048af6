#pragma once

#include "l4/control/admin.h"
#include "l4/plane.h"

namespace weir::l4 {

/// GET /v1/flows; README.md has the three questions and their answers.
control::AdminReply flows_request(const Plane& plane, const control::AdminRequest& request);

/// The VIP that a packet to this address, port and protocol is for: the one with the longest
/// prefix, of those the one with the narrowest range of ports. Null: none.
const InstalledVip* vip_for(const std::map<control::VipKey, InstalledVip>& vips,
                            const control::VipKey& destination);

}  // namespace weir::l4
