#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "l4/control/admin.h"

/// What the routes of the admin API say in the same way. For their sources alone: nothing else in
/// l4 has a header with JSON in it.
namespace weir::l4 {

inline Result<std::string> text_field(const nlohmann::json& body, const char* name) {
  const auto field = body.find(name);
  if (field != body.end() && field->is_string()) return field->get<std::string>();
  return Error{ErrorCode::kInvalid, fmt::format("the body lacks the text '{}'", name)};
}

inline Error no_such_vip(const std::string& text) {
  return Error{ErrorCode::kNotFound, fmt::format("there is no VIP {}", text),
               "see 'weir vip list'"};
}

inline std::string hex64(std::uint64_t value) { return fmt::format("{:016x}", value); }

inline control::AdminReply reply_of(const Result<nlohmann::json>& outcome) {
  return outcome ? control::AdminReply{200, outcome->dump()}
                 : control::error_reply(outcome.error());
}

}  // namespace weir::l4
