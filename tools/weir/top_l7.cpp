#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <utility>

#include "tools/weir/members.h"
#include "tools/weir/rates.h"
#include "tools/weir/top_subject.h"

/// `weir top l7`.
namespace weir::cli {
namespace {

constexpr std::array<TopColumn, 7> kRules{
    {{.key = 'n', .word = "name", .heading = "RULE"},
     {.key = 'e', .word = "requests", .heading = "REQUESTS/S", .width = 12},
     {.key = '4', .word = "4xx", .heading = "4XX/S", .width = 7},
     {.key = '5', .word = "5xx", .heading = "5XX/S", .width = 7, .alarm = TopAlarm::kAboveZero},
     {.key = 'f',
      .word = "failed",
      .heading = "FAILED/S",
      .width = 10,
      .alarm = TopAlarm::kAboveZero},
     {.key = 't', .word = "time", .heading = "MEAN MS", .width = 9},
     {.key = 'o', .word = "over1s", .heading = "OVER 1S/S", .width = 11}}};

constexpr std::array<TopColumn, 6> kEndpoints{
    {{.key = 'n', .word = "name", .heading = "ENDPOINT"},
     {.key = 'e', .word = "requests", .heading = "REQUESTS/S", .width = 12},
     {.key = 'f',
      .word = "failed",
      .heading = "FAILED/S",
      .width = 10,
      .alarm = TopAlarm::kAboveZero},
     {.key = 'i', .word = "active", .heading = "ACTIVE", .width = 8},
     {.key = 'c', .word = "connections", .heading = "CONNS", .width = 8},
     {.key = 'u',
      .word = "usable",
      .heading = "USABLE",
      .width = 8,
      .alarm = TopAlarm::kZero,
      .form = TopForm::kYesNo}}};

/// What a counter of two objects has gained in a second, or over all of the time between them.
class Gains {
 public:
  Gains(const Json& before, const Json& after, std::optional<double> seconds)
      : before_{before}, after_{after}, seconds_{seconds} {}

  [[nodiscard]] std::optional<double> per_second(const std::string& counter) const {
    if (!seconds_) return std::nullopt;
    const Json rate = rate_of(at(before_, counter), at(after_, counter), *seconds_);
    return rate.is_null() ? std::nullopt : std::optional{rate.get<double>()};
  }

 private:
  const Json& before_;
  const Json& after_;
  std::optional<double> seconds_;
};

std::string rule_of(const Json& row) { return text_at(row, "route") + "/" + text_at(row, "rule"); }

TopRow rule_row(const Json& before, const Json& row, std::optional<double> seconds) {
  const Gains gains{at(before, "counters"), at(row, "counters"), seconds};
  const auto requests = gains.per_second("requests");
  const auto duration_us = gains.per_second("duration_us");
  const auto within = gains.per_second("within_1000ms");
  std::optional<double> mean_ms;
  if (requests && duration_us && *requests > 0) mean_ms = *duration_us / *requests / 1000;
  std::optional<double> slow;
  if (requests && within) slow = std::max(0.0, *requests - *within);
  std::vector<std::string> services;
  for (const Json& service : list_at(row, "services"))
    services.push_back(text_at(service, "service"));
  return {.label = rule_of(row),
          .name = services.empty() ? text_at(row, "answer")
                                   : fmt::format("{}", fmt::join(services, ", ")),
          .values = {requests, gains.per_second("responses_4xx"), gains.per_second("responses_5xx"),
                     gains.per_second("failures"), mean_ms, slow}};
}

TopRow endpoint_row(const std::string& service, const Json& before, const Json& row,
                    std::optional<double> seconds) {
  const Gains gains{before, row, seconds};
  std::optional<double> usable;
  if (at(row, "usable").is_boolean()) usable = at(row, "usable").get<bool>() ? 1 : 0;
  return {.label = text_at(row, "endpoint"),
          .name = service,
          .values = {gains.per_second("requests"), gains.per_second("failures"),
                     number_at(row, "exchanges"), number_at(row, "connections"), usable}};
}

using Services = std::map<std::pair<std::string, std::string>, Json>;

/// Of all services of a rule, by service and endpoint: a rule may name a service twice.
Services endpoints_of(const Json& rule) {
  Services found;
  for (const Json& service : list_at(rule, "services"))
    for (const Json& endpoint : list_at(service, "endpoints"))
      found[{text_at(service, "service"), text_at(endpoint, "endpoint")}] = endpoint;
  return found;
}

void add_endpoints(TopReading& reading, const Json& before, const Json& rule,
                   std::optional<double> seconds) {
  const Services earlier = endpoints_of(before);
  for (const auto& [name, endpoint] : endpoints_of(rule)) {
    const auto found = earlier.find(name);
    reading.rows.push_back(endpoint_row(name.first, found == earlier.end() ? Json{} : found->second,
                                        endpoint, seconds));
  }
}

/// The share of their time that workers had something to do.
std::string busy_text(const Gains& total) {
  const auto busy = total.per_second("busy_ns");
  const auto idle = total.per_second("idle_ns");
  if (!busy || !idle || *busy + *idle <= 0) return "-";
  return fmt::format("{:.0f}%", 100 * *busy / (*busy + *idle));
}

std::string summary_of(const Json& before, const Json& after, std::optional<double> seconds) {
  const Gains total{at(before, "total"), at(after, "total"), seconds};
  const auto rate = [&](const char* counter) { return rate_text(total.per_second(counter)); };
  return fmt::format(
      "{} requests/s: 2xx {}, 3xx {}, 4xx {}, 5xx {}; {} clients; busy {}; log lost {}/s",
      rate("requests"), rate("responses_2xx"), rate("responses_3xx"), rate("responses_4xx"),
      rate("responses_5xx"), rate_text(number_at(at(after, "total"), "connections")),
      busy_text(total), rate("log_dropped"));
}

TopReading reading_of_rules(const Json& before, const Json& after, const std::string& open) {
  const std::optional<double> seconds = seconds_between(before, after);
  TopReading reading{.summary = summary_of(before, after, seconds),
                     .has_rates = seconds.has_value()};
  std::map<std::string, Json> earlier;
  for (const Json& row : list_at(before, "routes"))
    earlier[rule_of(row)] = row;
  for (const Json& row : list_at(after, "routes")) {
    const std::string rule = rule_of(row);
    if (open.empty())
      reading.rows.push_back(rule_row(earlier[rule], row, seconds));
    else if (rule == open)
      add_endpoints(reading, earlier[rule], row, seconds);
  }
  return reading;
}

}  // namespace

const TopSubject& top_of_l7() {
  static constexpr TopSubject kSubject{.title = "weir top l7",
                                       .row = "rule",
                                       .details = "endpoints",
                                       .list = {.columns = kRules, .name = "SERVICES"},
                                       .opened = {.columns = kEndpoints, .name = "SERVICE"},
                                       .list_path = "/v1/routes",
                                       .opened_path = "/v1/routes?rule=",
                                       .reading = reading_of_rules};
  return kSubject;
}

}  // namespace weir::cli
