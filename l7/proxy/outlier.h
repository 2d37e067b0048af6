#pragma once

#include "l4/control/model.h"
#include "l7/proxy/snapshot.h"

namespace weir::proxy {

/// Passive health: what attempts say about their endpoint. A run of failures takes it out of the
/// choice for a while, twice as long each time; never more of a service than its share allows, and
/// never the last one. Whoever is well for as long as it was out last is forgiven that once, so
/// that one who fails for a moment each minute is not out for longer each time. Called by every
/// worker.
void count_success(const ServiceEntry& service, const EndpointEntry& endpoint, Instant now);
/// True if this failure has ejected it.
bool count_failure(const ServiceEntry& service, const EndpointEntry& endpoint, Instant now);

}  // namespace weir::proxy
