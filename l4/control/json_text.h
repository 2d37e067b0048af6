#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

#include "l4/base/result.h"

/// What all sources that write JSON do alike. Templates over nlohmann's types, which differ in the
/// order of members, so that no header has the library in it.
namespace weir::control {

/// On one line, or indented. Text that came from outside may hold anything; JSON must be UTF-8:
/// what is not is replaced.
template <typename Json>
std::string json_text(const Json& json, int indent = -1) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

/// "vip.mode is 7; use a string".
template <typename Json>
Error unfit(std::string_view where, const Json& found, std::string_view expectation) {
  constexpr std::size_t kShownMax = 80;
  return Error{ErrorCode::kInvalid,
               fmt::format("{} is {}", where, json_text(found).substr(0, kShownMax)),
               fmt::format("use {}", expectation)};
}

}  // namespace weir::control
