#include <fmt/chrono.h>
#include <fmt/format.h>

#include <utility>

#include "tools/weir/both.h"

/// What was, and the way back to it: history, rollback, export.
namespace weir::cli {
namespace {

std::string time_text(const Json& at_unix_s) {
  if (!at_unix_s.is_number_integer()) return {};
  const std::time_t time = at_unix_s.get<std::time_t>();
  std::tm utc{};
  if (::gmtime_r(&time, &utc) == nullptr) return {};
  return fmt::format("{:%Y-%m-%d %H:%M:%S}Z", utc);
}

/// The first in words, how many more there are beside it.
std::string summary_of(const Json& changes) {
  if (changes.empty() || !changes.front().is_string()) return {};
  std::string text = changes.front().get<std::string>();
  if (changes.size() > 1) text += fmt::format(" (and {} more)", changes.size() - 1);
  return text;
}

Step l7_step(const Daemons& daemons, const Json& revision) {
  Json body{{"file", at(revision, "file")}, {"text", at(revision, "text")}};
  if (at(revision, "partial") == true) body["partial"] = true;
  return {&daemons.l7, "/v1/check", body, "/v1/apply", body};
}

}  // namespace

Outcome history(const Daemons& daemons, OutputFormat format) {
  Answer answer = ask(daemons.l4, "GET", "/v1/revisions");
  if (auto* failure = std::get_if<Failure>(&answer)) return std::move(*failure);
  Section section{"revisions", {"revision", "when", "cause", "changes"}, {}};
  for (const Json& revision : list_at(std::get<Json>(answer), "revisions")) {
    const Json changes = list_at(revision, "changes");
    section.rows.push_back({at(revision, "revision"), time_text(at(revision, "at")),
                            at(revision, "cause"),
                            format == OutputFormat::kJson ? changes : Json(summary_of(changes))});
  }
  return Report{{std::move(section)}, {}};
}

std::variant<Return, Failure> way_back(const Daemons& daemons, std::uint64_t number, ApplyTo to) {
  Answer found = ask(daemons.l4, "GET", fmt::format("/v1/revisions?revision={}", number));
  if (auto* failure = std::get_if<Failure>(&found)) return std::move(*failure);
  const Json& revision = std::get<Json>(found);
  Return back;
  back.joint.file = fmt::format("revision {}", number);
  back.joint.absolute = text_at(revision, "file");
  const Result<bool> asks_l7 = is_for_l7(daemons, to);
  if (!asks_l7) return failure_of(asks_l7.error());
  const bool has_text = !text_at(revision, "text").empty();
  back.leaves_l7 = *asks_l7 && !has_text;
  if (*asks_l7 && has_text) back.joint.steps.push_back(l7_step(daemons, revision));
  if (to != ApplyTo::kL7) {
    back.joint.steps.push_back({&daemons.l4,
                                "/v1/rollback",
                                {{"revision", number}, {"dry_run", true}},
                                "/v1/rollback",
                                {{"revision", number}}});
  }
  if (back.joint.steps.empty())
    return Failure{{}, fmt::format("no configuration text is kept with revision {}", number)};
  return back;
}

Outcome rollback(const Daemons& daemons, const RollbackOptions& options) {
  auto found = way_back(daemons, options.revision, options.to);
  if (auto* failure = std::get_if<Failure>(&found)) return std::move(*failure);
  const Return& back = std::get<Return>(found);
  Outcome outcome = do_all(back.joint);
  auto* report = std::get_if<Report>(&outcome);
  if (back.leaves_l7 && report != nullptr)
    report->notes.push_back(fmt::format(
        "weir-l7: warning: no configuration text is kept with revision {}, so it goes on with what "
        "it has",
        options.revision));
  return outcome;
}

Outcome export_config(const Daemons& daemons) {
  const Result<control::AdminReply> reply = daemons.l4.request("GET", "/v1/export");
  if (!reply) return failure_of(reply.error());
  if (reply->status != 200) return failure_of(control::refusal_of(*reply).error);
  std::string text = reply->body;
  if (text.ends_with('\n')) text.pop_back();  // notes end in one
  return note(std::move(text));
}

}  // namespace weir::cli
