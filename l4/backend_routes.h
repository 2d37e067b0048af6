#pragma once

#include "l4/control/route_json.h"
#include "l4/plane.h"

/// What the admin API has to say about backends beyond what people want of them: their health, what
/// operators have said over the file's head, and the flows that they still have.
namespace weir::l4 {

/// Members of a backend in GET /v1/vips: "state_owner", "health" and "maintenance_begins_in_s".
nlohmann::json backend_condition(const Plane& plane, const control::VipKey& key,
                                 const wire::IpAddress& address);

/// "health" of GET /v1/status: counts.
nlohmann::json health_summary(const Plane& plane);

/// GET /v1/backends: one backend, with its flows counted.
control::AdminReply get_backend(const Plane& plane, const control::AdminRequest& request);

/// POST /v1/backends/state: an operator's word about a backend of the file or of a VIP by hand.
control::AdminReply set_backend_state(Plane& plane, const control::AdminRequest& request);

}  // namespace weir::l4
