#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "l4/base/result.h"
#include "l4/control/config.h"
#include "l4/control/model.h"

/// The model as JSON: what daemons keep on disk and what the admin API carries. Text on both
/// sides, so that the JSON library stays inside. Reading is strict: unknown members, wrong types
/// and values that the configuration file would refuse are errors that name their place
/// ("vips[2].port: …"). Words are those of the configuration file, keys included.
namespace weir::control {

std::string to_json(const Backend& backend);
std::string to_json(const Vip& vip);
/// Contains the content of the hash seed: keep it where only root can read it.
std::string to_json(const Model& model);

Result<Backend> backend_from_json(std::string_view text);
Result<Vip> vip_from_json(std::string_view text);
Result<Model> model_from_json(std::string_view text);

}  // namespace weir::control
