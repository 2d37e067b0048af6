#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "l4/control/health_check.h"
#include "l4/control/probe_exchange.h"

/// The gRPC health checking protocol, method grpc.health.v1.Health/Check, over HTTP/2 with prior
/// knowledge (RFC 9113, section 3.3). Its two messages have one field each and are written and read
/// by hand.
namespace weir::control {

/// A HealthCheckRequest in gRPC's framing: no compression, length, message.
std::string grpc_health_request(std::string_view service);

/// The field `status` of the HealthCheckResponse in a framed answer: exactly one message. Nothing:
/// it is malformed. Fields that are not known are passed over; a missing one is 0 (UNKNOWN).
std::optional<std::uint64_t> grpc_health_status(std::span<const std::byte> framed);

/// Success is grpc-status 0 with status SERVING.
std::unique_ptr<ProbeExchange> make_grpc_exchange(const HealthCheck& check, std::string authority);

}  // namespace weir::control
