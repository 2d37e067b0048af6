#include "tools/weir/answers.h"

#include <fmt/format.h>

#include <utility>

#include "l4/control/json_text.h"

namespace weir::cli {

using control::AdminClient;
using control::AdminReply;
using control::Diagnostic;

Failure failure_of(const Error& error) { return {{}, error.text()}; }

Failure failure_of(const std::vector<Diagnostic>& diagnostics, const std::string& file) {
  Failure failure;
  for (const Diagnostic& diagnostic : diagnostics)
    failure.diagnostics.push_back(diagnostic.text());
  if (diagnostics.size() > 1)
    failure.message = fmt::format("{} has {} errors", file, diagnostics.size());
  return failure;
}

Answer ask(const AdminClient& client, const std::string& method, const std::string& path,
           const Json& body, std::chrono::seconds patience) {
  const std::string text = body.is_null() ? "" : control::json_text(body);
  const Result<AdminReply> reply = client.request(method, path, text, patience);
  if (!reply) {
    Failure failure = failure_of(reply.error());
    failure.is_open = reply.error().code() == ErrorCode::kInternal;
    return failure;
  }
  if (reply->status >= 400) {
    const control::Refusal refusal = control::refusal_of(*reply);
    if (!refusal.diagnostics.empty())
      return failure_of(refusal.diagnostics, refusal.diagnostics.front().file);
    return failure_of(refusal.error);
  }
  Json json = Json::parse(reply->body, nullptr, false);
  if (!json.is_object()) {
    return Failure{{},
                   fmt::format("{} answered {} {} with something else than a JSON object; are "
                               "both of one version?",
                               client.daemon(), method, path)};
  }
  return json;
}

std::vector<Json> row_of(const Json& object, const std::vector<std::string>& columns) {
  std::vector<Json> row;
  for (const std::string& column : columns)
    row.push_back(at(object, column));
  return row;
}

Section section_of(std::string name, std::vector<std::string> columns, const Json& objects) {
  Section section{std::move(name), std::move(columns), {}};
  for (const Json& object : objects)
    section.rows.push_back(row_of(object, section.columns));
  return section;
}

Section record_of(std::string name, std::vector<std::string> columns, const Json& object) {
  Section section{std::move(name), std::move(columns), {}, true};
  section.rows.push_back(row_of(object, section.columns));
  return section;
}

std::string query_of(const control::VipKey& key) {
  return "?vip=" + control::percent_encoded(control::vip_text(key));
}

Outcome note(std::string sentence) { return Report{{}, {std::move(sentence)}}; }

std::string shown_name(const std::string& file) { return file == "-" ? "<stdin>" : file; }

}  // namespace weir::cli
