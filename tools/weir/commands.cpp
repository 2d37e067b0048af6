#include "tools/weir/commands.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "l4/control/config.h"
#include "l4/control/host_facts.h"
#include "tools/weir/answers.h"

namespace weir::cli {
namespace {

using control::AdminClient;
using control::Diagnostic;

Section device_section(const Json& answer) {
  return section_of("devices", {"name", "mode", "reason", "chained", "program_id", "mtu", "up"},
                    list_at(answer, "devices"));
}

bool is_positive(const Json& value) { return value.is_number() && value > 0; }

std::string counted(std::size_t count, std::string_view thing) {
  return fmt::format("{} {}{}", count, thing, count == 1 ? "" : "s");
}

}  // namespace

// ---- devices --------------------------------------------------------------------------------

Outcome load(const Daemons& daemons, const LoadOptions& options) {
  Answer answer =
      ask(daemons.l4, "POST", "/v1/load",
          {{"devices", options.devices}, {"mode", options.mode}, {"chain", options.chain}});
  if (auto* failure = std::get_if<Failure>(&answer)) return std::move(*failure);
  return Report{{device_section(std::get<Json>(answer))}, {}};
}

Outcome unload(const Daemons& daemons) {
  Answer answer = ask(daemons.l4, "POST", "/v1/unload", Json::object());
  if (auto* failure = std::get_if<Failure>(&answer)) return std::move(*failure);
  std::string devices;
  for (const Json& device : list_at(std::get<Json>(answer), "devices")) {
    if (device.is_string()) devices += (devices.empty() ? "" : ", ") + device.get<std::string>();
  }
  return note(devices.empty() ? "nothing was loaded" : fmt::format("unloaded from {}", devices));
}

Outcome status(const Daemons& daemons) {
  Report report;
  Answer l4 = ask(daemons.l4, "GET", "/v1/status");
  Answer l7 = ask(daemons.l7, "GET", "/v1/status");
  auto* l4_failure = std::get_if<Failure>(&l4);
  if (l4_failure != nullptr && std::holds_alternative<Failure>(l7)) return std::move(*l4_failure);
  if (l4_failure != nullptr) {
    report.notes.push_back("weir-l4: " + l4_failure->message);
  } else {
    const Json& json = std::get<Json>(l4);
    report.sections.push_back(
        record_of("weir-l4",
                  {"version", "pid", "uptime_s", "revision", "file", "loaded", "vips", "backends",
                   "backends_unresolved", "flows", "flows_max", "seed_digest"},
                  json));
    if (const Json health = at(json, "health"); is_positive(at(health, "vips_checked")))
      report.sections.push_back(
          record_of("health",
                    {"vips_checked", "vips_fail_open", "vips_without_healthy_backends",
                     "backends_checked", "backends_down", "backends_checking"},
                    health));
    report.sections.push_back(device_section(json));
    report.sections.push_back(section_of("workers",
                                         {"index", "balancer_end", "worker_end", "up", "taken"},
                                         list_at(json, "workers")));
    for (const Json& warning : list_at(json, "warnings")) {
      if (warning.is_string())
        report.notes.push_back(fmt::format("warning: {}", warning.get<std::string>()));
    }
  }
  if (auto* l7_failure = std::get_if<Failure>(&l7)) {
    report.notes.push_back("weir-l7: " + l7_failure->message);
  } else {
    const Json& json = std::get<Json>(l7);
    report.sections.push_back(record_of("weir-l7",
                                        {"version", "pid", "uptime_s", "revision", "file", "device",
                                         "workers", "services", "http_routes"},
                                        json));
    report.sections.push_back(
        section_of("listeners", {"vip", "listener"}, list_at(json, "listeners")));
  }
  return report;
}

// ---- counters -------------------------------------------------------------------------------

namespace {

void add_l4_stats(const Json& json, bool one_vip, Report& report) {
  if (!one_vip) {
    Section verdicts = section_of("verdicts", {"verdict", "action", "packets", "bytes", "meaning"},
                                  list_at(json, "verdicts"));
    verdicts.hide_zero_in = "packets";
    report.sections.push_back(std::move(verdicts));
    // The kernel's own count beside ours; there is one only where somebody turned it on.
    Section total = record_of("total", {"packets", "bytes"}, at(json, "total"));
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
                     "added", "expired", "evicted_closing", "evicted_new", "evicted_udp",
                     "forgotten", "no_record", "no_port", "port_changed", "repaired"},
                    nat));
    }
    Section returns =
        section_of("return", {"verdict", "packets", "bytes"}, list_at(json, "return"));
    returns.hide_zero_in = "packets";
    report.sections.push_back(std::move(returns));
  }
  report.sections.push_back(
      section_of("vips", {"vip", "name", "packets", "bytes", "new_flows"}, list_at(json, "vips")));
  Section backends{"backends", {"vip", "address", "name", "packets", "bytes", "new_flows"}, {}};
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

Section l7_stats(const Json& json) {
  Section section{"weir-l7", {"worker", "counter", "value"}, {}};
  section.hide_zero_in = "value";
  for (const Json& worker : list_at(json, "workers"))
    add_counters(worker, "", at(worker, "index"), 0, section);
  return section;
}

}  // namespace

Outcome stats(const Daemons& daemons, const std::optional<control::VipKey>& key) {
  Report report;
  Answer l4 = ask(daemons.l4, "GET", "/v1/stats" + (key ? query_of(*key) : ""));
  auto* failure = std::get_if<Failure>(&l4);
  if (key && failure != nullptr) return std::move(*failure);
  if (failure == nullptr) add_l4_stats(std::get<Json>(l4), key.has_value(), report);
  if (key) return report;
  Answer l7 = ask(daemons.l7, "GET", "/v1/stats");
  if (const auto* json = std::get_if<Json>(&l7)) {
    report.sections.push_back(l7_stats(*json));
  } else if (failure != nullptr) {
    return std::move(*failure);
  }
  if (failure != nullptr) report.notes.push_back("weir-l4: " + failure->message);
  return report;
}

// ---- configuration --------------------------------------------------------------------------

namespace {

/// Relative paths in standard input start at the working directory, as those of a file there would.
std::string shown_name(const std::string& file) { return file == "-" ? "<stdin>" : file; }

}  // namespace

Outcome check(const CheckOptions& options) {
  const Result<std::string> text = control::read_config_file(options.file);
  if (!text) return failure_of(text.error());
  const std::string file = shown_name(options.file);
  control::ParseOutcome outcome = control::parse_config(*text, file);
  if (!outcome.ok()) {
    Failure failure = failure_of(outcome.diagnostics, file);
    if (outcome.left_out > 0) {
      failure.message = fmt::format("{} has {} errors, the first of them above", file,
                                    outcome.diagnostics.size() + outcome.left_out);
    }
    return failure;
  }
  if (options.against_host) {
    const Result<control::HostFacts> facts = control::read_host_facts();
    if (!facts) return failure_of(facts.error());
    const std::vector<Diagnostic> problems =
        control::check_against_host(outcome.model, *facts, outcome.source);
    if (!problems.empty()) {
      Failure failure = failure_of(problems, file);
      if (problems.size() > 1) {
        failure.message =
            fmt::format("{} does not fit this host; check for another one with --no-host", file);
      }
      return failure;
    }
  }
  const control::Model& model = outcome.model;
  Report report;
  report.notes.push_back(fmt::format(
      "{} is fine: {}, {}, {}, {}", file, counted(model.vips.size(), "VIP"),
      counted(model.gateways.size(), "gateway"), counted(model.services.size(), "service"),
      counted(model.http_routes.size(), "route")));
  for (const Diagnostic& warning : outcome.warnings)
    report.notes.push_back(fmt::format("warning: {}", warning.text()));
  return report;
}

namespace {

/// Several daemons read the same file and may say the same about it, each under the file's absolute
/// path; a person should read it once, under the name that was typed.
void add_refusal(const AdminClient& client, Failure refusal, const std::string& absolute,
                 const std::string& typed, Failure& all) {
  for (std::string& line : refusal.diagnostics) {
    if (line.starts_with(absolute + ":")) line.replace(0, absolute.size(), typed);
    if (std::ranges::find(all.diagnostics, line) == all.diagnostics.end())
      all.diagnostics.push_back(std::move(line));
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

void add_applied(const AdminClient& client, const Json& answer, Report& report) {
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

}  // namespace

Outcome apply(const Daemons& daemons, const ApplyOptions& options) {
  const Result<std::string> text = control::read_config_file(options.file);
  if (!text) return failure_of(text.error());
  std::error_code error;
  const std::string file = shown_name(options.file);
  const std::string absolute = std::filesystem::absolute(file, error).lexically_normal();
  const control::ParseOutcome outcome = control::parse_config(*text, absolute);
  const bool has_l7_part = options.to == ApplyTo::kBoth && !outcome.model.gateways.empty();
  // weir-l7 first, so that it listens before packets are sent its way.
  std::vector<const AdminClient*> clients;
  const bool l7_runs = daemons.l7.reachable();
  const bool asks_l7 = options.to == ApplyTo::kL7 || (options.to == ApplyTo::kBoth && l7_runs);
  if (asks_l7) clients.push_back(&daemons.l7);
  if (options.to != ApplyTo::kL7) clients.push_back(&daemons.l4);

  const Json body{{"file", absolute}, {"text", *text}};
  Failure refused;
  for (const AdminClient* client : clients) {
    Answer answer = ask(*client, "POST", "/v1/check", body);
    if (auto* failure = std::get_if<Failure>(&answer))
      add_refusal(*client, std::move(*failure), absolute, file, refused);
  }
  if (is_refused(refused)) return nothing_changed(std::move(refused), file);
  Report report{{Section{"applied", {"daemon", "revision", "changes"}, {}}}, {}};
  for (const AdminClient* client : clients) {
    Answer answer = ask(*client, "POST", "/v1/apply", body);
    if (auto* failure = std::get_if<Failure>(&answer)) {
      add_refusal(*client, std::move(*failure), absolute, file, refused);
    } else {
      add_applied(*client, std::get<Json>(answer), report);
    }
  }
  // weir-l7 needs the devices that weir-l4 makes from this very file, so it may come second.
  if (has_l7_part && !asks_l7)
    report.notes.push_back(fmt::format(
        "weir-l7: warning: it does not run, so the gateways do not answer yet; start it with "
        "'weir-l7 --config {}'",
        absolute));
  if (!is_refused(refused)) return report;
  if (report.sections.front().rows.empty()) return nothing_changed(std::move(refused), file);
  if (refused.message.empty()) refused.message = fmt::format("{} was refused", file);
  refused.message += "; the other daemon has applied it: mend the cause and apply again";
  refused.partial = std::move(report);
  return refused;
}

}  // namespace weir::cli
