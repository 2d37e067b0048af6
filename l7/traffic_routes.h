#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "l4/control/admin.h"
#include "l7/endpoint_health.h"
#include "l7/endpoint_names.h"
#include "l7/proxy/generation.h"
#include "l7/proxy/snapshot.h"
#include "l7/traffic_totals.h"

namespace weir::l7 {

// What the admin API says about where requests go: by the snapshot in force.

/// GET /v1/explain?url=…&method=…&headers=…&vip=…; headers are lines of "Name: value".
control::AdminReply explain_reply(const control::Model& model, const proxy::Snapshot& snapshot,
                                  const proxy::TlsFiles& files,
                                  const control::AdminRequest& request);
/// GET /v1/routes: every rule in the order of the file, those of TLS routes last, and what has
/// become of its requests; ?rule=ROUTE/RULE: that one, with the endpoints of its services.
control::AdminReply routes_reply(const control::Model& model, const proxy::Snapshot& snapshot,
                                 const TrafficTotals& totals, const control::AdminRequest& request);
/// GET /v1/endpoints: what is known of each, and of the names that have led to some.
control::AdminReply endpoints_reply(const proxy::Snapshot& snapshot, const EndpointHealth& health,
                                    const std::vector<EndpointNameView>& names, Instant now);

/// GET /v1/certificates: what clients are shown, by the end of its life, the next first.
control::AdminReply certificates_reply(const proxy::Snapshot& snapshot,
                                       const proxy::TlsFiles& files, std::int64_t now_unix_s);
/// Certificate files that both have and that hold something else now, one line each.
std::vector<std::string> renewed_certificates(const proxy::TlsFiles& have,
                                              const proxy::TlsFiles& want);

}  // namespace weir::l7
