#pragma once

#include <optional>
#include <string_view>

#include "l4/base/clock.h"
#include "l7/http/message.h"

/// What gRPC asks of a proxy beyond HTTP/2: https://github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md and
/// doc/http-grpc-status-mapping.md.
namespace weir::proxy {

/// Content-Type "application/grpc", with anything behind '+' or ';'.
bool is_grpc(const http::HeaderList& fields);

/// grpc-timeout: at most eight digits and a unit. Nothing for what is none.
std::optional<Duration> parse_grpc_timeout(std::string_view text);

/// The status of a call that is answered with that status of HTTP, in digits.
std::string_view grpc_status_of(http::Status status);

}  // namespace weir::proxy
