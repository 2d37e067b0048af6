#include <fmt/format.h>

#include <filesystem>
#include <utility>

#include "l4/control/config.h"
#include "tools/weir/both.h"

/// Configuration files: apply and diff.
namespace weir::cli {
namespace {

/// Relative paths in standard input start at the working directory, as those of a file there would.
struct Handed {
  Joint joint;
  bool l7_is_missing = false;  ///< the file has something for weir-l7, which does not run
};

/// weir-l7 first, so that it listens before packets are sent its way. It is asked when it runs or
/// when it alone is meant.
std::variant<Handed, Failure> hand(const Daemons& daemons, const ApplyOptions& options) {
  const Result<std::string> text = control::read_config_file(options.file);
  if (!text) return failure_of(text.error());
  std::error_code error;
  Handed handed;
  Joint& joint = handed.joint;
  joint.file = shown_name(options.file);
  joint.absolute = std::filesystem::absolute(joint.file, error).lexically_normal();
  Json body{{"file", joint.absolute}, {"text", *text}};
  if (options.partial) body["partial"] = true;
  const Result<bool> asks_l7 = is_for_l7(daemons, options.to);
  if (!asks_l7) return failure_of(asks_l7.error());
  const auto add = [&](const control::AdminClient& client) {
    joint.steps.push_back({&client, "/v1/check", body, "/v1/apply", body});
  };
  if (*asks_l7) add(daemons.l7);
  if (options.to != ApplyTo::kL7) add(daemons.l4);
  // Without the word there is none, and a large file takes a second to read.
  if (options.to == ApplyTo::kBoth && !*asks_l7 && text->find("gateways") != std::string::npos)
    handed.l7_is_missing = !control::parse_config(*text, joint.absolute).model.gateways.empty();
  return handed;
}

/// weir-l7 needs the devices that weir-l4 makes from this very file, so it may come second.
void warn_of_missing_l7(const Handed& handed, Outcome& outcome) {
  if (!handed.l7_is_missing) return;
  auto* report = std::get_if<Report>(&outcome);
  if (report == nullptr) return;
  report->notes.push_back(
      fmt::format("weir-l7: warning: it does not run, so the gateways do not answer yet; start it "
                  "with 'weir-l7 --config {}'",
                  handed.joint.absolute));
}

/// As diff(1) ends: 0 where there is no difference, 1 where there are some, 2 for trouble.
Outcome trouble(Failure failure) {
  failure.exit_code = kDiffTrouble;
  return failure;
}

Outcome differences(const Joint& joint) {
  auto asked = ask_all(joint);
  if (auto* failure = std::get_if<Failure>(&asked)) return trouble(std::move(*failure));
  const auto& answers = std::get<std::vector<Json>>(asked);
  Report report{{Section{"changes", {"daemon", "change"}, {}}}, {}};
  Section& section = report.sections.front();
  for (std::size_t i = 0; i < answers.size(); ++i) {
    for (const Json& change : list_at(answers[i], "changes"))
      section.rows.push_back({joint.steps[i].client->daemon(), change});
  }
  report.exit_status = section.rows.empty() ? 0 : kDiffSome;
  return report;
}

}  // namespace

Outcome apply(const Daemons& daemons, const ApplyOptions& options) {
  auto prepared = hand(daemons, options);
  if (auto* failure = std::get_if<Failure>(&prepared)) return std::move(*failure);
  const Handed& handed = std::get<Handed>(prepared);
  if (!options.dry_run) {
    Outcome outcome = do_all(handed.joint);
    warn_of_missing_l7(handed, outcome);
    return outcome;
  }
  auto answers = ask_all(handed.joint);
  if (auto* failure = std::get_if<Failure>(&answers)) return std::move(*failure);
  return would_do(handed.joint, std::get<std::vector<Json>>(answers));
}

Outcome diff(const Daemons& daemons, const DiffOptions& options) {
  if (options.revision) {
    auto found = way_back(daemons, *options.revision, options.to);
    if (auto* failure = std::get_if<Failure>(&found)) return trouble(std::move(*failure));
    return differences(std::get<Return>(found).joint);
  }
  ApplyOptions file{.file = options.file, .to = options.to, .partial = options.partial};
  if (file.file.empty()) {
    Answer status = ask(daemons.l4, "GET", "/v1/status");
    if (auto* failure = std::get_if<Failure>(&status)) return trouble(std::move(*failure));
    file.file = text_at(std::get<Json>(status), "file");
    if (file.file.empty())
      return trouble({{}, "no file was applied yet, so there is none to compare with: name one"});
  }
  auto prepared = hand(daemons, file);
  if (auto* failure = std::get_if<Failure>(&prepared)) return trouble(std::move(*failure));
  return differences(std::get<Handed>(prepared).joint);
}

}  // namespace weir::cli
