#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "l4/control/admin.h"
#include "l4/control/admin_message.h"
#include "l4/control/json_text.h"
#include "l4/control/route_json.h"

namespace weir::control {
namespace {

using Json = nlohmann::ordered_json;  // for what is written: people read it
/// For what is read: its members are found in a tree, not one after the other. A body with millions
/// of members must not take hours.
using ReadJson = nlohmann::json;

struct CodeWords {
  ErrorCode code;
  std::string_view word;
  int status;
  std::string_view title;  ///< the same for every problem of the type (RFC 9457, section 3.1.3)
};

constexpr std::array<CodeWords, 7> kCodes{{
    {ErrorCode::kInvalid, "invalid", 400, "The request is not valid"},
    {ErrorCode::kDenied, "denied", 403, "A right is missing"},
    {ErrorCode::kNotFound, "not_found", 404, "There is no such object"},
    {ErrorCode::kConflict, "conflict", 409, "Something else is in the way"},
    {ErrorCode::kInternal, "internal", 500, "The system failed"},
    {ErrorCode::kUnsupported, "unsupported", 501, "Not possible here"},
    {ErrorCode::kUnavailable, "unavailable", 503, "Not available now"},
}};

const CodeWords& words_of(ErrorCode code) {
  const auto* row = std::ranges::find(kCodes, code, &CodeWords::code);
  WEIR_ASSERT(row != kCodes.end());  // kCodes has every code
  return *row;
}

/// The members of every problem. No person of ours owns a place in the web that would outlive the
/// program, so types are names, not addresses (RFC 9457, section 3.1.1, allows both).
Json problem(std::string type, std::string_view title, int status, const Error& error) {
  return {{"type", std::move(type)},
          {"title", title},
          {"status", status},
          {"detail", error.message()},
          {"code", words_of(error.code()).word},
          {"remedy", error.remedy()}};
}

AdminReply problem_reply(int status, const Json& body) {
  return {status, json_text(body), std::string{kProblemType}};
}

std::string text_at(const ReadJson& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string{};
}

std::size_t count_at(const ReadJson& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_unsigned() ? found->get<std::size_t>() : 0;
}

/// The methods that the path has, as the field Allow lists them; empty for a path that is unknown.
std::string methods_of(std::string_view path, std::span<const AdminOperation> operations) {
  std::string methods;
  for (const AdminOperation& operation : operations) {
    if (operation.path != path) continue;
    methods += fmt::format("{}{}", operation.method, operation.method == "GET" ? ", HEAD, " : ", ");
  }
  return methods.empty() ? methods : methods + "OPTIONS";
}

}  // namespace

AdminReply error_reply(const Error& error) {
  const CodeWords& words = words_of(error.code());
  return problem_reply(words.status, problem(fmt::format("urn:weir:problem:{}", words.word),
                                             words.title, words.status, error));
}

AdminReply http_problem_reply(int status, const Error& error) {
  return problem_reply(status, problem("about:blank", reason_phrase(status), status, error));
}

AdminReply diagnostics_reply(const std::vector<Diagnostic>& diagnostics) {
  const Error error{ErrorCode::kInvalid,
                    fmt::format("the configuration was refused, {} error{}; nothing was changed",
                                diagnostics.size(), diagnostics.size() == 1 ? "" : "s"),
                    "mend what 'diagnostics' names and send it again"};
  Json body =
      problem("urn:weir:problem:configuration", "The configuration was refused", 422, error);
  Json& list = body["diagnostics"] = Json::array();
  for (const Diagnostic& diagnostic : diagnostics) {
    list.push_back({{"file", diagnostic.file},
                    {"line", diagnostic.line},
                    {"column", diagnostic.column},
                    {"message", diagnostic.message},
                    {"expectation", diagnostic.expectation},
                    {"hint", diagnostic.hint},
                    {"text", diagnostic.text()}});
  }
  return problem_reply(422, body);
}

AdminReply unknown_path_reply(const AdminRequest& request,
                              std::span<const AdminOperation> operations) {
  const std::string methods = methods_of(request.path, operations);
  if (methods.empty()) {
    return http_problem_reply(
        404, Error{ErrorCode::kNotFound, fmt::format("the API has no {}", request.path),
                   "GET /v1/openapi.json describes what it has"});
  }
  AdminReply reply{204, {}, {}};
  if (request.method != "OPTIONS") {
    reply = http_problem_reply(
        405, Error{ErrorCode::kInvalid,
                   fmt::format("{} cannot be asked with {}", request.path, request.method),
                   fmt::format("it takes {}", methods)});
  }
  reply.allow = methods;
  return reply;
}

std::string to_json(const ConfigSubmission& submission) {
  return json_text(
      Json{{"file", submission.file}, {"text", submission.text}, {"partial", submission.partial}});
}

Result<ConfigSubmission> submission_from_json(std::string_view text) {
  const ReadJson json = ReadJson::parse(text, nullptr, false);
  const bool fits = json.is_object() && json.contains("file") && json["file"].is_string() &&
                    json.contains("text") && json["text"].is_string();
  if (!fits) {
    return Error{ErrorCode::kInvalid, "the body is not a configuration to apply",
                 R"(send {"file": "/path/weir.yaml", "text": "version: 1…"})"};
  }
  ConfigSubmission submission{json["file"].get<std::string>(), json["text"].get<std::string>()};
  if (!submission.file.starts_with('/') || submission.file.find('\0') != std::string::npos) {
    return Error{ErrorCode::kInvalid,
                 fmt::format("file '{}' is not an absolute path", submission.file),
                 "relative paths in the configuration start at its directory"};
  }
  if (Result<void> known = only_members(json, {"file", "text", "partial"}); !known)
    return std::move(known).error();
  const Result<bool> partial = flag_of(json, "partial");
  if (!partial) return partial.error();
  submission.partial = *partial;
  return submission;
}

Refusal refusal_of(const AdminReply& reply) {
  Refusal refusal{Error{ErrorCode::kInternal, fmt::format("status {}", reply.status)}, {}};
  const ReadJson json = ReadJson::parse(reply.body, nullptr, false);
  if (!json.is_object()) return refusal;
  ErrorCode code = ErrorCode::kInternal;
  for (const CodeWords& row : kCodes) {
    if (row.word == text_at(json, "code")) code = row.code;
  }
  const std::string detail = text_at(json, "detail");
  if (!detail.empty()) refusal.error = Error{code, detail, text_at(json, "remedy")};
  if (const auto list = json.find("diagnostics"); list != json.end() && list->is_array()) {
    for (const ReadJson& item : *list) {
      if (!item.is_object()) continue;
      refusal.diagnostics.push_back({text_at(item, "file"), count_at(item, "line"),
                                     count_at(item, "column"), text_at(item, "message"),
                                     text_at(item, "expectation"), text_at(item, "hint")});
    }
  }
  return refusal;
}

}  // namespace weir::control
