#pragma once

#include <string>
#include <vector>

#include "l4/base/result.h"

namespace weir::cli {

/// Becomes the program `name` with these arguments: the one beside this program, so that a build
/// tree or an installation is used as a whole, or else the one on PATH. Returns only if there is
/// none, or none that can be run.
Error become(const std::string& name, const std::vector<std::string>& arguments);

}  // namespace weir::cli
