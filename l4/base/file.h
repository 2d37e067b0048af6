#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include "l4/base/result.h"

namespace weir {

/// Replaces the file at `path` whole, with exactly `mode`: whoever reads it after a crash or a
/// power failure at any moment finds the old text or the new one. Written beside its place as
/// `<path>.new`, flushed, renamed. One writer per path; its directory exists.
///
/// The rename is the point of no return. An error means that the old text stands; success means
/// that the new one does. That the rename itself could not be flushed is logged and no error:
/// readers have the new text, so that the caller must not act as if they had the old one.
Result<void> write_file_durably(const std::string& path, std::string_view text, mode_t mode);

}  // namespace weir
