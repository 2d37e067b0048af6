#pragma once

#include <string>
#include <string_view>

#include "l4/plane.h"

/// Files that are applied without anybody waiting for the answer. One that cannot be applied leaves
/// what runs as it is; the log and Plane::reload_status() say so.
namespace weir::l4 {

inline constexpr std::string_view kAtStart = "start with";

/// `why` begins the cause in the history: kAtStart, "SIGHUP", "changed".
void reload(Plane& plane, const std::string& file, std::string_view why);

/// The file that was applied last; that there is none is a failure like others.
void reload_last(Plane& plane, std::string_view why);

/// Somebody has applied the file himself: an earlier failure with it is past.
void note_applied(Plane& plane, const std::string& file);

}  // namespace weir::l4
