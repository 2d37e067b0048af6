#pragma once

#include <cstdint>

namespace weir::proxy {

/// Index into Snapshot::services.
using ServiceIndex = std::uint32_t;
/// Index into ServiceEntry::endpoints.
using EndpointIndex = std::uint32_t;

}  // namespace weir::proxy
