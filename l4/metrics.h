#pragma once

#include <cstddef>

#include "l4/control/admin.h"
#include "l4/metrics_text.h"
#include "l4/plane.h"

namespace weir::l4 {

inline constexpr control::AdminOperation kMetricsOperation{"GET", "/metrics"};

/// GET /metrics of the admin API and of the listener for scrapers. One reading of every counter, in
/// a few system calls, and of the flow and NAT tables as in GET /v1/status.
control::AdminReply metrics_reply(Plane& plane, std::size_t series_max);

}  // namespace weir::l4
