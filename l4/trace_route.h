#pragma once

#include <optional>
#include <string>

#include "bpf/abi.h"
#include "l4/control/admin.h"
#include "l4/plane.h"

namespace weir::l4 {

/// POST /v1/trace: what the balancer would do with packets, step by step.
control::AdminReply trace_request(Plane& plane, const control::AdminRequest& request);

}  // namespace weir::l4
