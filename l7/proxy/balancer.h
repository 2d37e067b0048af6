#pragma once

#include <cstdint>

#include "l4/base/random.h"
#include "l7/proxy/generation.h"
#include "l7/proxy/router.h"
#include "l7/proxy/upstream_pool.h"

namespace weir::proxy {

/// The service of a rule for one request, by weight; weight_total() > 0.
ServiceIndex pick_service(const Rule& rule, Random& random);

/// The endpoint for the next attempt. Round robin takes them in turn, so that a second attempt goes
/// elsewhere by itself; least request takes the less loaded of two random ones (Mitzenmacher 2001),
/// by the exchanges of this worker. The service has at least one endpoint.
const wire::Endpoint& pick_endpoint(Generation& generation, ServiceIndex service,
                                    const UpstreamPool& pool, Random& random);

}  // namespace weir::proxy
