#pragma once

#include <string>
#include <string_view>

#include "l4/base/result.h"
#include "l4/control/model.h"

/// Values as JSON: what daemons keep on disk and what the admin API carries. Text on both sides, so
/// that the JSON library stays inside. Reading is strict: unknown members, wrong types and values
/// that the configuration file would refuse are errors that name their place.
namespace weir::control {

/// In the admin API's words: {"address", "name", "port", "weight", "state", "server_id"}.
std::string to_json(const Backend& backend);
Result<Backend> backend_from_json(std::string_view text);

/// In the admin API's words: {"vip": "203.0.113.53:53/udp", "name", "mode", …, "backends"}; only
/// "vip" is required.
std::string to_json(const Vip& vip);
Result<Vip> vip_from_json(std::string_view text);

/// The normal form: the configuration file's words with every default written out. Contains the
/// hash seed itself: keep it where only root can read it.
std::string to_json(const Model& model);
Result<Model> model_from_json(std::string_view text);

}  // namespace weir::control
