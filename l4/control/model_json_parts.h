#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "l4/control/model.h"

/// The configuration file's spelling of parts of a model, for the sources of model_json.h alone: no
/// other header has JSON in it.
namespace weir::control {

/// Members in the order in which they are written: people read this.
using FileJson = nlohmann::ordered_json;

FileJson file_json(const HttpRoute& route);
FileJson file_json(const TlsRoute& route);
FileJson file_json(const std::vector<ErrorPage>& pages);

inline std::string milliseconds_text(std::uint32_t count) { return fmt::format("{}ms", count); }

}  // namespace weir::control
