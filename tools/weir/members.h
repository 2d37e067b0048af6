#pragma once

#include <optional>
#include <string>

#include "tools/weir/render.h"

/// Members of what a daemon answered, which may be of an older version and know less. Pure.
namespace weir::cli {

/// The member, or null when it is not there. Lives as long as the object.
const Json& at(const Json& object, const std::string& key);
/// Empty when it is not there, or no text.
std::string text_at(const Json& object, const std::string& key);
/// Nothing when it is not there, or no number.
std::optional<double> number_at(const Json& object, const std::string& key);
/// Empty likewise.
Json list_at(const Json& object, const std::string& key);

}  // namespace weir::cli
