#include "tools/weir/both.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

namespace weir::cli {
namespace {

using control::AdminClient;

/// Several daemons read the same file and may say the same about it, each under the file's absolute
/// path; a person should read it once, under the name that was typed.
std::string as_typed(std::string line, const Joint& joint) {
  if (line.starts_with(joint.absolute + ":")) line.replace(0, joint.absolute.size(), joint.file);
  return line;
}

void add_refusal(const AdminClient& client, Failure refusal, const Joint& joint, Failure& all) {
  for (std::string& line : refusal.diagnostics) {
    std::string typed = as_typed(std::move(line), joint);
    if (std::ranges::find(all.diagnostics, typed) == all.diagnostics.end())
      all.diagnostics.push_back(std::move(typed));
  }
  // What the lines say needs no second word; another reason must not be lost beside them.
  if (!refusal.diagnostics.empty()) return;
  all.message +=
      fmt::format("{}{}: {}", all.message.empty() ? "" : "; ", client.daemon(), refusal.message);
}

bool is_refused(const Failure& failure) {
  return !failure.message.empty() || !failure.diagnostics.empty();
}

/// One line about one thing wrong says enough.
Failure nothing_changed(Failure refused, const std::string& file) {
  if (refused.message.empty() && refused.diagnostics.size() == 1) return refused;
  if (refused.message.empty())
    refused.message = fmt::format("{} has {} errors", file, refused.diagnostics.size());
  refused.message += "; nothing was changed";
  return refused;
}

Report empty_report(const std::string& section) {
  return {{Section{section, {"daemon", "revision", "changes"}, {}}}, {}};
}

void add_answer(const AdminClient& client, const Json& answer, Report& report) {
  const Json changes = list_at(answer, "changes");
  report.sections.front().rows.push_back({client.daemon(), at(answer, "revision"), changes.size()});
  for (const Json& change : changes) {
    if (change.is_string())
      report.notes.push_back(fmt::format("{}: {}", client.daemon(), change.get<std::string>()));
  }
  for (const Json& warning : list_at(answer, "warnings")) {
    if (warning.is_string())
      report.notes.push_back(
          fmt::format("{}: warning: {}", client.daemon(), warning.get<std::string>()));
  }
}

/// Objects of the file that were left out, each once, whoever said so.
Section left_out_section(const Joint& joint, const std::vector<Json>& answers) {
  Section section{"left_out", {"object", "reason"}, {}};
  for (const Json& answer : answers) {
    for (const Json& object : list_at(answer, "left_out")) {
      for (const Json& line : list_at(object, "diagnostics")) {
        if (!line.is_string()) continue;
        std::vector<Json> row{at(object, "object"), as_typed(line.get<std::string>(), joint)};
        if (std::ranges::find(section.rows, row) == section.rows.end())
          section.rows.push_back(std::move(row));
      }
    }
  }
  return section;
}

/// A part of the file is not the file: that has an exit status of its own.
Outcome with_left_out(const Joint& joint, const std::vector<Json>& answers, Report report,
                      std::string_view rest) {
  Section left_out = left_out_section(joint, answers);
  if (left_out.rows.empty()) return report;
  Failure failure{
      {},
      fmt::format("parts of {} were left out, see above; the rest {}", joint.file, rest),
      std::move(report),
      kPartly};
  failure.partial.sections.push_back(std::move(left_out));
  return failure;
}

/// What weir-l7 has now, to be given to it again; nothing where it does not say.
std::optional<Json> present_config(const AdminClient& client) {
  Answer answer = ask(client, "GET", "/v1/config");
  auto* json = std::get_if<Json>(&answer);
  return json != nullptr ? std::optional{std::move(*json)} : std::nullopt;
}

/// After a failure of the second daemon. Says in the failure how it stands with the first.
void take_back(const AdminClient& first, const std::optional<Json>& before, Failure& refused) {
  const std::string name = first.daemon();
  if (!before) {
    refused.message += fmt::format("; {} has applied it: mend the cause and apply again", name);
    return;
  }
  Answer answer = ask(first, "POST", "/v1/apply", *before);
  if (const auto* failure = std::get_if<Failure>(&answer)) {
    const std::string reason =
        failure->diagnostics.empty() ? failure->message : failure->diagnostics.front();
    refused.message +=
        fmt::format("; {} has applied it and cannot go back ({}): mend the cause and apply again",
                    name, reason);
    return;
  }
  refused.message += fmt::format("; {} was given again what it had; nothing was changed", name);
}

}  // namespace

Result<bool> is_for_l7(const Daemons& daemons, ApplyTo to) {
  if (to != ApplyTo::kBoth) return to == ApplyTo::kL7;
  Result<bool> runs = daemons.l7.runs();
  if (runs) return runs;
  const Error& why = runs.error();
  return Error{why.code(), fmt::format("{}; nothing was changed", why.message()),
               fmt::format("{}; --only l4 changes weir-l4 alone", why.remedy())};
}

std::variant<std::vector<Json>, Failure> ask_all(const Joint& joint) {
  Failure refused;
  std::vector<Json> answers;
  for (const Step& step : joint.steps) {
    Answer answer = ask(*step.client, "POST", step.check_path, step.check_body);
    if (auto* failure = std::get_if<Failure>(&answer)) {
      add_refusal(*step.client, std::move(*failure), joint, refused);
    } else {
      answers.push_back(std::get<Json>(std::move(answer)));
    }
  }
  if (is_refused(refused)) return nothing_changed(std::move(refused), joint.file);
  return answers;
}

Outcome would_do(const Joint& joint, const std::vector<Json>& answers) {
  Report report = empty_report("would apply");
  for (std::size_t i = 0; i < answers.size(); ++i)
    add_answer(*joint.steps[i].client, answers[i], report);
  report.notes.emplace_back("nothing was changed: this was a dry run");
  return with_left_out(joint, answers, std::move(report), "could be applied");
}

Outcome do_all(const Joint& joint) {
  // One daemon alone checks by itself before it changes anything; a large file is read only once.
  if (joint.steps.size() > 1) {
    auto checked = ask_all(joint);
    if (auto* failure = std::get_if<Failure>(&checked)) return std::move(*failure);
  }
  Report report = empty_report("applied");
  std::vector<Json> answers;
  std::optional<Json> before;
  for (const Step& step : joint.steps) {
    // Of what only the second does, the first needs no way back.
    if (answers.empty() && joint.steps.size() > 1) before = present_config(*step.client);
    Answer answer = ask(*step.client, "POST", step.do_path, step.do_body);
    if (auto* failure = std::get_if<Failure>(&answer)) {
      Failure refused;
      const bool is_open = failure->is_open;
      add_refusal(*step.client, std::move(*failure), joint, refused);
      if (is_open) {
        refused.message += fmt::format(
            "; it may have applied it all the same, and nothing was taken back: see weir status "
            "and weir history, then apply again");
        return refused;
      }
      if (answers.empty()) return nothing_changed(std::move(refused), joint.file);
      if (refused.message.empty()) refused.message = fmt::format("{} was refused", joint.file);
      take_back(*joint.steps.front().client, before, refused);
      return refused;
    }
    answers.push_back(std::get<Json>(std::move(answer)));
    add_answer(*step.client, answers.back(), report);
  }
  return with_left_out(joint, answers, std::move(report), "is in force");
}

}  // namespace weir::cli
