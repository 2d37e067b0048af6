#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "l4/control/admin.h"
#include "l4/control/config_partial.h"
#include "l4/control/json_text.h"
#include "l4/control/reload_status.h"

/// What routes of the admin API read and say in the same way. For their sources alone: no other
/// header has JSON in it.
namespace weir::control {

inline Result<nlohmann::json> object_of(std::string_view text) {
  nlohmann::json body = nlohmann::json::parse(text, nullptr, false);
  if (body.is_object()) return body;
  return Error{ErrorCode::kInvalid, "the body is no JSON object"};
}

/// A misspelt member must not change what is done.
inline Result<void> only_members(const nlohmann::json& body,
                                 std::initializer_list<std::string_view> known) {
  for (const auto& [name, value] : body.items()) {
    if (std::ranges::find(known, name) != known.end()) continue;
    return Error{
        ErrorCode::kInvalid, fmt::format("the body has an unknown member '{}'", name),
        known.size() == 0 ? "it takes none" : fmt::format("use {}", fmt::join(known, ", "))};
  }
  return {};
}

/// An optional member that is true or false.
inline Result<bool> flag_of(const nlohmann::json& body, const char* name) {
  const auto found = body.find(name);
  if (found == body.end() || found->is_null()) return false;
  if (found->is_boolean()) return found->get<bool>();
  return Error{ErrorCode::kInvalid, fmt::format("'{}' is neither true nor false", name)};
}

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

inline nlohmann::json left_out_json(const std::vector<LeftOut>& left_out) {
  nlohmann::json list = nlohmann::json::array();
  for (const LeftOut& object : left_out)
    list.push_back({{"object", object.object}, {"diagnostics", texts_of(object.diagnostics)}});
  return list;
}

/// Null where no file was read without being asked to.
inline nlohmann::json reload_json(const ReloadStatus& status) {
  if (status.file.empty()) return {};
  return {{"file", status.file},
          {"state", status.ok ? "ok" : "failed"},
          {"at", status.at_unix_s},
          {"revision", status.revision},
          {"diagnostics", status.diagnostics}};
}

/// With nlohmann::json or ordered_json.
template <typename Json>
AdminReply ok_reply(const Json& body) {
  return {200, json_text(body)};
}

template <typename Json>
AdminReply reply_of(const Result<Json>& outcome) {
  return outcome ? ok_reply(*outcome) : error_reply(outcome.error());
}

}  // namespace weir::control
