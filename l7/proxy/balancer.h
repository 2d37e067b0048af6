#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "l4/base/random.h"
#include "l4/control/model.h"
#include "l7/proxy/generation.h"
#include "l7/proxy/router.h"

namespace weir::proxy {

/// The service of a rule for one request, by weight; weight_total() > 0.
ServiceIndex pick_service(const Rule& rule, Random& random);

/// What an attempt asks for.
struct PickQuery {
  std::optional<std::uint64_t> hash = {};     ///< of what the service hashes on
  std::optional<EndpointIndex> sticky = {};   ///< taken if it can be
  std::span<const EndpointIndex> tried = {};  ///< by this exchange; others come first
};

struct Pick {
  enum class Outcome : std::uint8_t {
    kPicked,
    kNoneHealthy,  ///< all endpoints are down or ejected
    kAllFull,      ///< those that are not have as many requests as they may
  };
  Outcome outcome = Outcome::kNoneHealthy;
  EndpointIndex endpoint = 0;
};

/// The endpoint for the next attempt, by the service's policy and what is known of their health.
/// Round robin, with weights interleaved; least request takes the less loaded of two random ones
/// (Mitzenmacher 2001), by the exchanges of all workers; ring hash (Karger et al. 1997) and Maglev
/// (Eisenbud et al. 2016) go on from the hash's place to the first that can be used.
Pick pick_endpoint(Generation& generation, ServiceIndex service, const PickQuery& query,
                   Random& random, Instant now);

/// What the policies look into. Made once per snapshot; identities decide, not positions.
PickTables build_pick_tables(const control::Service& service, const std::string& zone);

}  // namespace weir::proxy
