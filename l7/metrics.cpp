#include "l7/metrics.h"

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>
#include <vector>

#include "l4/control/exposition.h"

namespace weir::l7 {
namespace {

using control::Exposition;
using control::MetricLabel;
using control::MetricType;
using nlohmann::json;

constexpr int kDepthMax = 8;

/// Members that are levels.
constexpr std::array<std::string_view, 19> kLevels{
    "connections", "half_open", "time_wait",         "buffers",        "buffer_chunks",
    "open",        "idle",      "generations",       "revision",       "busy_share",
    "sessions",    "streams",   "exchanges",         "memory_bytes",   "followed",
    "failing",     "addresses", "services_left_out", "routes_left_out"};

/// Members whose own members are names of one kind, and what a name is called as a label.
struct NamedRow {
  std::string_view member;
  std::string_view label;
};
constexpr std::array<NamedRow, 4> kNamed{
    {{"responses", "class"}, {"reasons", "reason"}, {"abuse", "kind"}, {"answers", "result"}}};

/// Members that are lists of rows, and the row's own name, which is their label.
constexpr std::array<NamedRow, 2> kRows{{{"services", "service"}, {"routes", "route"}}};

struct Sample {
  std::string worker;      ///< empty: not of a worker
  std::string_view label;  ///< empty: none but the worker
  std::string label_value;
  double value = 0;
};

/// By name, since samples of all workers stand together.
struct Family {
  MetricType type = MetricType::kCounter;
  std::vector<Sample> samples;
};
using MetricFamilies = std::map<std::string, Family>;

bool is_level(std::string_view member) {
  return std::ranges::find(kLevels, member) != kLevels.end();
}

void add_sample(MetricFamilies& families, const std::string& path, std::string_view member,
                Sample sample) {
  const bool level = is_level(member);
  Family& family = families["weir_l7_" + path + (level ? "" : "_total")];
  family.type = level ? MetricType::kGauge : MetricType::kCounter;
  family.samples.push_back(std::move(sample));
}

/// {"2xx": 5, "4xx": 1} as one family.
void add_named(MetricFamilies& families, const std::string& path, const NamedRow& row,
               const json& counts, const std::string& worker) {
  for (const auto& [name, count] : counts.items()) {
    if (count.is_number())
      add_sample(families, path, row.member, {worker, row.label, name, count.get<double>()});
  }
}

/// [{"service": "cart", "requests": 3}] as a family for each number, with the name as its label.
void add_rows(MetricFamilies& families, const std::string& path, std::string_view label,
              const json& rows, const std::string& worker) {
  for (const json& row : rows) {
    if (!row.is_object() || !row.contains(label) || !row[label].is_string()) continue;
    for (const auto& [member, value] : row.items()) {
      if (value.is_number())
        add_sample(families, path + "_" + member, member,
                   {worker, label, row[label].get<std::string>(), value.get<double>()});
    }
  }
}

/// The daemon's answers are three levels deep; what is deeper than kDepthMax is left out.
void add_members(MetricFamilies& families, const std::string& path, const json& object,
                 const std::string& worker, int depth) {
  if (depth > kDepthMax) return;
  for (const auto& [member, value] : object.items()) {
    const std::string name = path.empty() ? member : path + "_" + member;
    const auto* named = std::ranges::find(kNamed, member, &NamedRow::member);
    if (named != kNamed.end() && value.is_object()) {
      add_named(families, name, *named, value, worker);
    } else if (const auto* rows = std::ranges::find(kRows, member, &NamedRow::member);
               rows != kRows.end() && value.is_array()) {
      const std::string label{rows->label};
      add_rows(families, path.empty() ? label : path + "_" + label, rows->label, value, worker);
    } else if (value.is_object()) {
      add_members(families, name, value, worker, depth + 1);
    } else if (value.is_number() && member != "index") {
      add_sample(families, name, member, {worker, {}, {}, value.get<double>()});
    }
  }
}

void add_daemon(const DaemonFacts& facts, Exposition& out) {
  out.family("weir_l7_build_info", MetricType::kGauge, "Version of weir-l7, always 1");
  out.sample(std::array{MetricLabel{"version", facts.version}}, std::uint64_t{1});
  out.family("weir_l7_config_revision", MetricType::kGauge, "The revision that is in force");
  out.sample(facts.revision);
  out.family("process_resident_memory_bytes", MetricType::kGauge, "Resident memory of weir-l7");
  out.sample(facts.process.resident_bytes);
  out.family("process_cpu_seconds_total", MetricType::kCounter, "CPU time of weir-l7");
  out.sample(facts.process.cpu_s);
  out.family("process_start_time_seconds", MetricType::kGauge, "When weir-l7 began, since 1970");
  out.sample(facts.process.start_unix_s);
  control::add_reload(out, "weir_l7", facts.reload);
}

void add_families(const MetricFamilies& families, Exposition& out) {
  for (const auto& [name, family] : families) {
    out.family(name, family.type, "As in GET /v1/stats of weir-l7");
    for (const Sample& sample : family.samples) {
      std::vector<MetricLabel> labels;
      if (!sample.worker.empty()) labels.push_back({"worker", sample.worker});
      if (!sample.label.empty()) labels.push_back({sample.label, sample.label_value});
      out.sample(labels, sample.value);
    }
  }
}

}  // namespace

std::string metrics_text(std::string_view stats_json, const DaemonFacts& facts) {
  Exposition out;
  add_daemon(facts, out);
  json stats = json::parse(stats_json, nullptr, false);
  if (!stats.is_object()) stats = json::object();
  const json workers = std::move(stats["workers"]);
  stats.erase("workers");
  if (const auto names = stats.find("names"); names != stats.end() && !names->is_object())
    stats.erase(names);
  MetricFamilies families;
  if (workers.is_array()) {
    for (const json& worker : workers) {
      if (worker.is_object() && worker.contains("index"))
        add_members(families, "", worker, worker["index"].dump(), 0);
    }
  }
  add_members(families, "", stats, {}, 0);  // of the process
  add_families(families, out);
  return out.text();
}

}  // namespace weir::l7
