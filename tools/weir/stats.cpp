#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <map>
#include <string>
#include <thread>
#include <utility>

#include "l4/base/clock.h"
#include "tools/weir/answers.h"
#include "tools/weir/rates.h"

/// `weir stats`.
namespace weir::cli {
namespace {

/// The columns of a section that has rates, or without them.
std::vector<std::string> columns_of(std::vector<std::string> names,
                                    const std::vector<std::string>& rates,
                                    const std::vector<std::string>& totals, bool with_rates) {
  if (with_rates) names.insert(names.end(), rates.begin(), rates.end());
  names.insert(names.end(), totals.begin(), totals.end());
  return names;
}

const std::map<std::string, CellForm>& rate_forms() {
  static const std::map<std::string, CellForm> kForms{{"packets_per_s", CellForm::kRate},
                                                      {"bits_per_s", CellForm::kRate},
                                                      {"new_flows_per_s", CellForm::kRate},
                                                      {"drops_per_s", CellForm::kRate},
                                                      {"value_per_s", CellForm::kRate}};
  return kForms;
}

Section rated(Section section) {
  section.forms = rate_forms();
  return section;
}

void add_node_stats(const Json& json, bool has_rates, Report& report) {
  const std::vector<std::string> rates{"packets_per_s", "bits_per_s"};
  Section verdicts = rated(section_of(
      "verdicts",
      columns_of({"verdict", "action"}, rates, {"packets", "bytes", "meaning"}, has_rates),
      list_at(json, "verdicts")));
  verdicts.hide_zero_in = "packets";
  report.sections.push_back(std::move(verdicts));
  // The kernel's own count beside ours; there is one only where somebody turned it on.
  Section total = rated(record_of("total", columns_of({}, rates, {"packets", "bytes"}, has_rates),
                                  at(json, "total")));
  if (const Json runs = at(json, "program_runs"); runs.is_number()) {
    total.columns.emplace_back("program_runs");
    total.rows.front().push_back(runs);
  }
  report.sections.push_back(std::move(total));
  report.sections.push_back(record_of(
      "flow_table", {"added", "evicted_new", "evicted_established", "not_added", "second_chance"},
      at(json, "flow_table")));
  // Only where something is translated.
  if (const Json nat = at(json, "nat"); nat.is_object()) {
    report.sections.push_back(
        record_of("nat",
                  {"records", "records_max", "unanswered", "answered", "established", "closing",
                   "added", "expired", "evicted_closing", "evicted_new", "evicted_udp", "forgotten",
                   "no_record", "no_port", "port_changed", "repaired"},
                  nat));
  }
  Section returns =
      rated(section_of("return", columns_of({"verdict"}, rates, {"packets", "bytes"}, has_rates),
                       list_at(json, "return")));
  returns.hide_zero_in = "packets";
  report.sections.push_back(std::move(returns));
}

void add_service_stats(const Json& json, bool has_rates, Report& report) {
  const std::vector<std::string> rates{"packets_per_s", "bits_per_s", "new_flows_per_s"};
  const std::vector<std::string> totals{"packets", "bytes", "new_flows"};
  std::vector<std::string> of_vips = rates;
  of_vips.emplace_back("drops_per_s");
  report.sections.push_back(rated(section_of(
      "vips", columns_of({"vip", "name"}, of_vips, totals, has_rates), list_at(json, "vips"))));
  Section backends =
      rated({"backends", columns_of({"vip", "address", "name"}, rates, totals, has_rates), {}});
  for (const Json& vip : list_at(json, "vips")) {
    for (const Json& backend : list_at(vip, "backends")) {
      std::vector<Json> row = row_of(backend, backends.columns);
      row.front() = at(vip, "vip");
      backends.rows.push_back(std::move(row));
    }
  }
  report.sections.push_back(std::move(backends));
}

/// Numbers at any depth of a worker's counters, one row each: "tcp.resets_sent". The daemon's
/// replies are a few levels deep; more than kDepthMax is left out.
void add_counters(const Json& value, const std::string& name, const Json& worker, int depth,
                  Section& section) {
  constexpr int kDepthMax = 8;
  if (value.is_number()) {
    section.rows.push_back({worker, name, value});
    return;
  }
  if (depth >= kDepthMax) return;
  if (value.is_object()) {
    for (const auto& [key, member] : value.items())
      add_counters(member, name.empty() ? key : name + "." + key, worker, depth + 1, section);
  }
  if (!value.is_array()) return;
  for (const Json& item : value) {
    // A list of counters of named things: {"service": "cart", "requests": 3}.
    std::string label;
    for (const auto& [key, member] : item.items()) {
      if (member.is_string()) label = member.get<std::string>();
    }
    add_counters(item, name + "." + label, worker, depth + 1, section);
  }
}

Section l7_counters(const Json& json) {
  Section section{"weir-l7", {"worker", "counter", "value"}, {}};
  section.hide_zero_in = "value";
  for (const Json& worker : list_at(json, "workers"))
    add_counters(worker, "", at(worker, "index"), 0, section);
  for (const char* member :
       {"services", "services_left_out", "routes", "routes_left_out", "names"})  // of the process
    add_counters(at(json, member), member, nullptr, 0, section);
  return section;
}

/// The rows of both readings come in the same order, and a row that came in between has no rate.
Section l7_rates(const Section& before, Section section, double seconds) {
  std::map<std::string, Json> earlier;
  for (const std::vector<Json>& row : before.rows)
    earlier[row[0].dump() + row[1].dump()] = row[2];
  section.columns.insert(section.columns.begin() + 2, "value_per_s");
  for (std::vector<Json>& row : section.rows) {
    // Some are levels or shares, of which a loss is no gain of less: they have no rate then.
    const Json& had = earlier[row[0].dump() + row[1].dump()];
    row.insert(row.begin() + 2, rate_of(had, row[2], seconds));
  }
  return rated(std::move(section));
}

/// What both daemons say at one moment.
struct Reading {
  Instant at;
  Answer l4 = Json{};
  Answer l7 = Json{};
};

Reading read_both(const Daemons& daemons, const StatsOptions& options) {
  Reading reading{.at = monotonic_now()};
  reading.l4 = ask(daemons.l4, "GET", "/v1/stats" + (options.vip ? query_of(*options.vip) : ""));
  reading.l7 = options.vip ? Answer{Failure{}} : ask(daemons.l7, "GET", "/v1/stats");
  return reading;
}

const Json* json_of(const Answer& answer) { return std::get_if<Json>(&answer); }

/// `before` is null where no rates are wanted.
Outcome report_of(const Reading* before, const Reading& after, const StatsOptions& options) {
  Report report;
  const Json* l4 = json_of(after.l4);
  const Json* l7 = json_of(after.l7);
  if (l4 == nullptr && (options.vip || l7 == nullptr)) return std::get<Failure>(after.l4);
  const bool has_rates = before != nullptr;
  if (l4 != nullptr) {
    const Json* earlier = has_rates ? json_of(before->l4) : nullptr;
    const Json json = earlier == nullptr ? *l4 : with_rates(*earlier, *l4);
    if (!options.vip) add_node_stats(json, has_rates, report);
    add_service_stats(json, has_rates, report);
  }
  if (l7 != nullptr) {
    const Json* earlier = has_rates ? json_of(before->l7) : nullptr;
    const std::chrono::duration<double> elapsed =
        has_rates ? after.at - before->at : Duration::zero();
    report.sections.push_back(
        earlier == nullptr || elapsed.count() <= 0
            ? l7_counters(*l7)
            : l7_rates(l7_counters(*earlier), l7_counters(*l7), elapsed.count()));
  }
  if (l4 == nullptr) report.notes.push_back("weir-l4: " + std::get<Failure>(after.l4).message);
  return report;
}

}  // namespace

Outcome stats(const Daemons& daemons, const StatsOptions& options, OutputFormat format) {
  Reading before = read_both(daemons, options);
  if (options.total_only) return report_of(nullptr, before, options);
  // What cannot be read now will not be in half a second either.
  if (json_of(before.l4) == nullptr && json_of(before.l7) == nullptr)
    return std::get<Failure>(before.l4);
  for (std::uint64_t done = 0;; ++done) {
    std::this_thread::sleep_for(std::chrono::milliseconds{options.interval_ms});
    Reading after = read_both(daemons, options);
    Outcome outcome = report_of(&before, after, options);
    if (options.count == 1 || std::holds_alternative<Failure>(outcome)) return outcome;
    const std::string text = render(std::get<Report>(outcome), format);
    const std::string_view gap = done == 0 || format == OutputFormat::kJson ? "" : "\n";
    std::fputs((std::string{gap} + text).c_str(), stdout);
    if (std::fflush(stdout) != 0)
      return failure_of(Error::from_errno("writing to standard output"));
    if (done + 1 == options.count) return Report{};
    before = std::move(after);
  }
}

}  // namespace weir::cli
