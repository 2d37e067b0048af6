#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "tools/weir/answers.h"

/// `weir status`.
namespace weir::cli {
namespace {

bool is_positive(const Json& value) { return value.is_number() && value > 0; }

void add_forms(Section& section) {
  section.forms = {{"uptime_s", CellForm::kDuration},
                   {"memory_bytes", CellForm::kBytes},
                   {"loaded_unix_s", CellForm::kTime}};
}

void add_problem(std::string& condition, const std::string& problem) {
  condition = condition == "well" ? problem : condition + "; " + problem;
}

/// The sum of it, which is what a person looks for first.
std::string condition_of(const Json& status) {
  const std::size_t warnings = list_at(status, "warnings").size();
  const Json& unresolved = at(status, "backends_unresolved");
  std::string condition = "well";
  if (at(status, "in_desired_state") == false)
    condition = "NOT AS CONFIGURED, see the warnings";
  else if (at(status, "loaded") == false)
    condition = "not loaded on any device";
  else if (is_positive(unresolved))
    condition = fmt::format("{} of its backends cannot be reached", unresolved.dump());
  const Json health = at(status, "health");
  if (const Json empty = at(health, "vips_without_healthy_backends"); is_positive(empty))
    add_problem(condition, fmt::format("{} VIPs have no healthy backend", empty.dump()));
  if (text_at(at(status, "reload"), "state") == "failed")
    add_problem(condition, "the configuration file was not applied, see below");
  if (warnings > 0) condition += fmt::format("; {} warning{}", warnings, warnings == 1 ? "" : "s");
  return condition;
}

/// What became of the file that a daemon reads by itself; what is wrong with it, line by line.
void add_reload(const std::string& section, const Json& reload, Report& report) {
  if (!reload.is_object()) return;
  report.sections.push_back(record_of(section, {"file", "state", "at", "revision"}, reload));
  for (const Json& line : list_at(reload, "diagnostics")) {
    if (line.is_string())
      report.notes.push_back(fmt::format("not applied: {}", line.get<std::string>()));
  }
}

void add_l4(const Json& json, Report& report) {
  Json shown = json;
  shown["condition"] = condition_of(json);
  Section daemon = record_of(
      "weir-l4",
      {"condition", "version", "pid", "uptime_s", "memory_bytes", "kernel", "revision", "file",
       "loaded", "vips", "backends", "backends_unresolved", "flows", "flows_max", "seed_digest"},
      shown);
  add_forms(daemon);
  report.sections.push_back(std::move(daemon));
  add_reload("reload", at(json, "reload"), report);
  if (const Json health = at(json, "health"); is_positive(at(health, "vips_checked")))
    report.sections.push_back(
        record_of("health",
                  {"vips_checked", "vips_fail_open", "vips_without_healthy_backends",
                   "backends_checked", "backends_down", "backends_checking"},
                  health));
  report.sections.push_back(
      section_of("devices", {"name", "mode", "reason", "chained", "program_id", "mtu", "up"},
                 list_at(json, "devices")));
  Section programs =
      section_of("programs", {"name", "id", "tag", "loaded_unix_s"}, list_at(json, "programs"));
  add_forms(programs);
  report.sections.push_back(std::move(programs));
  report.sections.push_back(section_of(
      "workers", {"index", "lane", "in_use", "balancer_end", "worker_end", "up", "taken"},
      list_at(json, "workers")));
  for (const Json& warning : list_at(json, "warnings")) {
    if (warning.is_string())
      report.notes.push_back(fmt::format("warning: {}", warning.get<std::string>()));
  }
}

void add_l7(const Json& json, Report& report) {
  Section daemon = record_of("weir-l7",
                             {"version", "pid", "uptime_s", "memory_bytes", "revision", "file",
                              "device", "lane", "addresses", "workers", "services", "http_routes"},
                             json);
  add_forms(daemon);
  report.sections.push_back(std::move(daemon));
  add_reload("weir-l7 reload", at(json, "reload"), report);
  report.sections.push_back(
      section_of("listeners", {"vip", "listener"}, list_at(json, "listeners")));
}

}  // namespace

Outcome status(const Daemons& daemons) {
  Report report;
  Answer l4 = ask(daemons.l4, "GET", "/v1/status", {}, control::AdminClient::kPrompt);
  Answer l7 = ask(daemons.l7, "GET", "/v1/status", {}, control::AdminClient::kPrompt);
  auto* l4_failure = std::get_if<Failure>(&l4);
  auto* l7_failure = std::get_if<Failure>(&l7);
  if (l4_failure != nullptr && l7_failure != nullptr) return std::move(*l4_failure);
  if (l4_failure != nullptr) {
    report.notes.push_back("weir-l4: " + l4_failure->message);
  } else {
    add_l4(std::get<Json>(l4), report);
  }
  if (l7_failure != nullptr) {
    report.notes.push_back("weir-l7: " + l7_failure->message);
  } else {
    add_l7(std::get<Json>(l7), report);
  }
  return report;
}

}  // namespace weir::cli
