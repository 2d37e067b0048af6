#include <fmt/format.h>

#include <string>
#include <utility>

#include "tools/weir/answers.h"

/// `weir flows`.
namespace weir::cli {
namespace {

std::string path_for(const FlowsOptions& options) {
  std::string path = "/v1/flows?nat=" + std::string{options.wants_nat ? "true" : "false"};
  const auto add = [&](std::string_view name, const std::string& value) {
    if (!value.empty()) path += fmt::format("&{}={}", name, control::percent_encoded(value));
  };
  add("source", options.source);
  if (options.vip) add("vip", control::vip_text(*options.vip));
  add("backend", options.backend);
  if (options.wants_nat) path += fmt::format("&limit={}", options.limit);
  return path;
}

std::string name_and_address(const Json& row, const std::string& member) {
  const std::string address = text_at(row, member);
  const std::string name = text_at(row, member + "_name");
  if (address.empty()) return "none";
  return name.empty() ? address : fmt::format("{} ({})", name, address);
}

/// One flow is told in sentences; programs get its members.
Report one_flow(const Json& flow) {
  Report report;
  const bool is_known = at(flow, "state").is_string();
  Section section =
      record_of("flow",
                {"source", "destination", "vip", "vip_name", "backend", "backend_name", "state",
                 "idle_s", "new_flow_backend", "new_flow_backend_name", "new_flow_by"},
                flow);
  section.forms = {{"idle_s", CellForm::kDuration}};
  report.sections.push_back(std::move(section));
  const std::string next =
      at(flow, "new_flow_backend").is_null()
          ? "no backend takes new flows"
          : fmt::format("a new one goes to {}", name_and_address(flow, "new_flow_backend"));
  report.notes.push_back(
      is_known ? fmt::format("it is with {}; {}", name_and_address(flow, "backend"), next)
               : fmt::format("no such flow is remembered; {}", next));
  return report;
}

Report nat_list(const Json& json) {
  const Json list = list_at(json, "nat_flows");
  Report report;
  Section section = section_of("nat_flows",
                               {"client", "protocol", "destination", "vip_name", "backend",
                                "backend_name", "source", "state", "idle_s"},
                               list);
  section.forms = {{"idle_s", CellForm::kDuration}};
  report.sections.push_back(std::move(section));
  const Json matched = at(json, "matched");
  if (matched.is_number() && matched > list.size())
    report.notes.push_back(
        fmt::format("{} of {} are shown; --limit shows more", list.size(), matched.dump()));
  return report;
}

Report table(const Json& json) {
  Report report;
  report.sections.push_back(
      section_of("flows",
                 {"vip", "vip_name", "backend", "backend_name", "new", "established", "closing",
                  "clients", "idle_10s", "idle_1m", "idle_10m", "idle_longer"},
                 list_at(json, "flows")));
  if (at(json, "estimated") == true)
    report.notes.emplace_back("a part of the table was counted and stands for the whole");
  if (const Json gone = at(json, "of_gone_backends"); gone.is_number() && gone > 0)
    report.notes.push_back(
        fmt::format("{} more are of backends that are gone, and void", gone.dump()));
  return report;
}

}  // namespace

Outcome flows(const Daemons& daemons, const FlowsOptions& options) {
  Answer answer = ask(daemons.l4, "GET", path_for(options));
  if (auto* failure = std::get_if<Failure>(&answer)) return std::move(*failure);
  const Json& json = std::get<Json>(answer);
  if (options.wants_nat) return nat_list(json);
  return options.source.empty() ? table(json) : one_flow(at(json, "flow"));
}

}  // namespace weir::cli
