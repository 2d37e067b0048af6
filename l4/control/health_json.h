#pragma once

#include <string>
#include <string_view>

#include "l4/base/result.h"
#include "l4/control/health_check.h"

/// Health checks as JSON, in the admin API's words and in those of the configuration file. Text on
/// both sides, as in model_json.h.
namespace weir::control {

/// {"kind": "http", "port": null, "interval_ms": 2000, …}: what the kind has, and no more. Bytes
/// are text where they are printable, else {"hex": "0a0b"}.
std::string to_json(const HealthCheck& check);
/// Only "kind" is required. Values are checked by check_vip(), which knows the VIP.
Result<HealthCheck> health_from_json(std::string_view text);

/// The section `health` of the file with every default written out.
std::string health_file_json(const HealthCheck& check);

/// "200-299", "404".
std::string status_text(const StatusRange& range);
Result<StatusRange> parse_status(std::string_view text);

/// For people: "http :8080 /healthz every 2s".
std::string health_text(const HealthCheck& check);

}  // namespace weir::control
