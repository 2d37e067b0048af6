#pragma once

#include <cstddef>
#include <string>

#include "l4/base/result.h"

/// The files that a configuration names. Only regular files: a FIFO would hold the reader up.
namespace weir::control {

/// The whole content; an error when it is longer than `limit` bytes.
Result<std::string> read_regular_file(const std::string& path, std::size_t limit);

Result<void> check_readable(const std::string& path);

}  // namespace weir::control
