#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "tools/weir/answers.h"

/// `weir explain`, `weir routes`, `weir endpoints` and `weir certs`: where requests go.
namespace weir::cli {
namespace {

std::string rule_text(const Json& row) {
  return fmt::format("{}/{}", text_at(row, "route"), text_at(row, "rule"));
}

std::string services_text(const Json& services) {
  std::vector<std::string> texts;
  for (const Json& service : services) {
    const std::string name = text_at(service, "service");
    texts.push_back(
        services.size() == 1 ? name : fmt::format("{} ({})", name, at(service, "weight").dump()));
  }
  return fmt::format("{}", fmt::join(texts, ", "));
}

std::string joined(const Json& texts) {
  std::vector<std::string> list;
  for (const Json& text : texts)
    list.push_back(text.get<std::string>());
  return fmt::format("{}", fmt::join(list, ", "));
}

/// In one sentence, what becomes of it.
std::string verdict_of(const Json& json) {
  const std::string outcome = text_at(json, "outcome");
  const std::string status = at(json, "status").dump();
  if (outcome == "redirect")
    return fmt::format("it is redirected with {} to {}", status, text_at(json, "location"));
  if (outcome == "respond") return fmt::format("the route answers it itself, with {}", status);
  if (outcome == "proxy")
    return fmt::format("it goes to {} as {} {} of host {}",
                       services_text(list_at(json, "services")), text_at(json, "method"),
                       text_at(json, "sent_target"), text_at(json, "sent_host"));
  if (status == "0") return fmt::format("no connection: {}", text_at(json, "reason"));
  return fmt::format("it is refused with {}: {}", status, text_at(json, "reason"));
}

/// Why a rule whose path fits did not get the request.
std::string lost_by(const Json& candidate, bool is_won) {
  const std::string failed = text_at(candidate, "failed");
  if (!failed.empty()) return failed;
  return is_won ? "another one precedes it" : "";
}

Section candidates_section(const Json& json) {
  Section section{"candidates", {"rule", "match", "verdict"}, {}};
  bool is_won = false;
  for (const Json& candidate : list_at(json, "candidates")) {
    const bool wins = !is_won && text_at(candidate, "failed").empty();
    section.rows.push_back({rule_text(candidate), text_at(candidate, "match"),
                            wins ? std::string{"takes it"} : lost_by(candidate, is_won)});
    is_won = is_won || wins;
  }
  return section;
}

Section effects_section(const Json& json) {
  Section section{"effects", {"effect"}, {}};
  for (const Json& effect : list_at(json, "effects"))
    section.rows.push_back({effect});
  return section;
}

Section endpoints_section(const Json& services) {
  Section section{
      "endpoints",
      {"service", "endpoint", "name", "usable", "share_percent", "exchanges", "failures"},
      {}};
  for (const Json& service : services)
    for (const Json& endpoint : list_at(service, "endpoints")) {
      std::vector<Json> row = row_of(endpoint, section.columns);
      row[0] = text_at(service, "service");
      section.rows.push_back(std::move(row));
    }
  return section;
}

/// What the names of a service lead to, or of all.
Section names_section(const Json& names, const std::string& service) {
  Section section{
      "names", {"name", "services", "addresses", "age_s", "next_s", "left_out", "last_error"}, {}};
  section.forms = {{"age_s", CellForm::kDuration}, {"next_s", CellForm::kDuration}};
  for (const Json& name : names) {
    const Json services = list_at(name, "services");
    if (!service.empty() && std::ranges::find(services, Json(service)) == services.end()) continue;
    std::vector<Json> row = row_of(name, section.columns);
    row[1] = joined(services);
    row[2] = joined(list_at(name, "addresses"));
    row[5] = joined(list_at(name, "left_out"));
    section.rows.push_back(std::move(row));
  }
  return section;
}

}  // namespace

Outcome explain(const Daemons& daemons, const ExplainOptions& options) {
  std::string path =
      fmt::format("/v1/explain?method={}&url={}", control::percent_encoded(options.method),
                  control::percent_encoded(options.url));
  if (!options.headers.empty())
    path +=
        "&headers=" + control::percent_encoded(fmt::format("{}", fmt::join(options.headers, "\n")));
  if (!options.vip.empty()) path += "&vip=" + control::percent_encoded(options.vip);
  Answer answer = ask(daemons.l7, "GET", path);
  if (auto* failure = std::get_if<Failure>(&answer)) return std::move(*failure);
  const Json& json = std::get<Json>(answer);
  Report report;
  report.sections.push_back(
      record_of("request",
                {"method", "host", "path", "vip", "listener", "route", "rule", "match", "outcome",
                 "status", "reason", "location", "sent_host", "sent_target"},
                json));
  if (!list_at(json, "candidates").empty()) report.sections.push_back(candidates_section(json));
  if (!list_at(json, "effects").empty()) report.sections.push_back(effects_section(json));
  if (!list_at(json, "services").empty())
    report.sections.push_back(endpoints_section(list_at(json, "services")));
  report.notes.push_back(verdict_of(json));
  return report;
}

Outcome routes(const Daemons& daemons) {
  Answer answer = ask(daemons.l7, "GET", "/v1/routes");
  if (auto* failure = std::get_if<Failure>(&answer)) return std::move(*failure);
  Section section{"routes", {"rule", "gateways", "hostnames", "match", "answer", "effects"}, {}};
  for (const Json& row : list_at(std::get<Json>(answer), "routes")) {
    const Json services = list_at(row, "services");
    const std::string hosts = joined(list_at(row, "hostnames"));
    const std::string effects = joined(list_at(row, "effects"));
    for (const Json& match : list_at(row, "matches"))
      section.rows.push_back(
          {rule_text(row), joined(list_at(row, "gateways")), hosts.empty() ? "any" : hosts, match,
           services.empty() ? text_at(row, "answer") : services_text(services), effects});
  }
  return Report{{std::move(section)}, {}};
}

Outcome endpoints(const Daemons& daemons, const std::string& service) {
  Answer answer = ask(daemons.l7, "GET", "/v1/endpoints");
  if (auto* failure = std::get_if<Failure>(&answer)) return std::move(*failure);
  Json rows = Json::array();
  for (const Json& row : list_at(std::get<Json>(answer), "endpoints"))
    if (service.empty() || text_at(row, "service") == service) rows.push_back(row);
  Section names = names_section(list_at(std::get<Json>(answer), "names"), service);
  if (rows.empty() && names.rows.empty() && !service.empty())
    return Failure{{},
                   fmt::format("there is no service '{}'; 'weir endpoints' lists all", service)};
  Section section =
      section_of("endpoints",
                 {"service", "endpoint", "name", "usable", "health", "since_s", "share_percent",
                  "ejected_ms", "exchanges", "connections", "requests", "failures", "last_probe"},
                 rows);
  section.forms = {{"since_s", CellForm::kDuration}};
  Report report{{std::move(section)}, {}};
  if (!names.rows.empty()) report.sections.push_back(std::move(names));
  return report;
}

Outcome certs(const Daemons& daemons, std::optional<std::uint32_t> expiring_days) {
  Answer answer = ask(daemons.l7, "GET", "/v1/certificates");
  if (auto* failure = std::get_if<Failure>(&answer)) return std::move(*failure);
  constexpr std::int64_t kDay = 86'400;
  Section section{"certificates",
                  {"vip", "names", "key_type", "not_after_unix_s", "days_left", "default", "file"},
                  {}};
  for (const Json& row : list_at(std::get<Json>(answer), "certificates")) {
    const auto left = at(row, "left_s").get<std::int64_t>();
    if (expiring_days && left > *expiring_days * kDay) continue;
    const std::string names = joined(list_at(row, "names"));
    section.rows.push_back({text_at(row, "vip"), names.empty() ? text_at(row, "subject") : names,
                            text_at(row, "key_type"), at(row, "not_after_unix_s"), left / kDay,
                            at(row, "is_default"), text_at(row, "file")});
  }
  section.forms = {{"not_after_unix_s", CellForm::kTime}};
  return Report{{std::move(section)}, {}};
}

}  // namespace weir::cli
