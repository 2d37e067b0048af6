#pragma once

#include <memory>
#include <string>
#include <vector>

#include "l4/control/health_check.h"
#include "l4/control/probe_exchange.h"

namespace weir::control {

/// "200-399, 401"
std::string status_ranges_text(const std::vector<StatusRange>& ranges);

/// One GET by HTTP/1.1 (RFC 9112), judged by the status of its final answer. Status line and header
/// are read strictly, up to 16 KiB of them; the body is not. Redirects are not followed: their
/// status counts. `authority` is what Host says.
std::unique_ptr<ProbeExchange> make_http_exchange(const HealthCheck& check, std::string authority);

}  // namespace weir::control
