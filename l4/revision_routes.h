#pragma once

#include "l4/control/admin.h"
#include "l4/plane.h"

/// What the admin API has about configurations and revisions; bodies in README.md.
namespace weir::l4 {

/// POST /v1/check: what applying the text would change.
control::AdminReply check_request(Plane& plane, const control::AdminRequest& request);
/// POST /v1/apply.
control::AdminReply apply_request(Plane& plane, const control::AdminRequest& request);
/// GET /v1/revisions.
control::AdminReply revisions_request(const Plane& plane, const control::AdminRequest& request);
/// POST /v1/rollback.
control::AdminReply rollback_request(Plane& plane, const control::AdminRequest& request);
/// GET /v1/export: a configuration file.
control::AdminReply export_request(const Plane& plane);

}  // namespace weir::l4
