#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "tools/weir/answers.h"

/// The verbs about VIPs and their backends.
namespace weir::cli {
namespace {

/// "draining (manual)" where it is an operator's word over the file's.
Json state_of(const Json& backend) {
  const std::string owner = text_at(backend, "state_owner");
  if (owner.empty()) return at(backend, "state");
  return fmt::format("{} ({})", text_at(backend, "state"), owner);
}

Section backend_section(const Json& vip) {
  Section section{"backends",
                  {"address", "port", "name", "weight", "state", "server_id", "slots", "next_hop",
                   "device", "mac", "reason"},
                  {}};
  for (const Json& backend : list_at(vip, "backends")) {
    const Json hop = at(backend, "next_hop");
    section.rows.push_back({at(backend, "address"), at(backend, "port"), at(backend, "name"),
                            at(backend, "weight"), state_of(backend), at(backend, "server_id"),
                            at(backend, "slots"), at(hop, "state"), at(hop, "device"),
                            at(hop, "mac"), at(hop, "reason")});
  }
  return section;
}

/// What probes have found; no rows where nothing is asked.
Section health_section(const Json& vip) {
  Section section{"health",
                  {"address", "health", "since_s", "share_percent", "held_s", "flows_move_in_s",
                   "took_ms", "reason"},
                  {}};
  for (const Json& backend : list_at(vip, "backends")) {
    const Json health = at(backend, "health");
    if (!health.is_object()) continue;
    std::vector<Json> row = row_of(health, section.columns);
    row[0] = at(backend, "address");
    row[1] = at(health, "state");
    section.rows.push_back(std::move(row));
  }
  return section;
}

/// One VIP as the daemon has it.
Answer find_vip(const Daemons& daemons, const control::VipKey& key) {
  Answer answer = ask(daemons.l4, "GET", "/v1/vips" + query_of(key));
  if (std::holds_alternative<Failure>(answer)) return answer;
  const std::string wanted = control::vip_text(key);
  for (const Json& vip : list_at(std::get<Json>(answer), "vips")) {
    if (text_at(vip, "vip") == wanted) return vip;
  }
  return Failure{{}, fmt::format("there is no vip {}; see 'weir vip list'", wanted)};
}

bool has_backend(const Json& vip, const wire::IpAddress& address) {
  const Json backends = list_at(vip, "backends");
  return std::ranges::any_of(
      backends, [&](const Json& backend) { return text_at(backend, "address") == address.text(); });
}

/// What a VIP has beyond forwarding, in words for a list of VIPs.
Json features_of(const Json& vip) {
  const auto positive = [](const Json& value) { return value.is_number() && value > 0; };
  Json features = Json::array();
  if (at(vip, "when_empty") == "drop") features.push_back("drop when empty");
  const std::string hash = text_at(vip, "hash");
  const bool affine = positive(at(vip, "affinity_timeout_s"));
  if (affine) features.push_back("affinity");
  if (!affine && !hash.empty() && hash != "fiveTuple") features.push_back(hash);
  if (positive(at(vip, "sources_allowed"))) features.push_back("allow");
  if (positive(at(vip, "sources_denied"))) features.push_back("deny");
  const Json limits = at(vip, "limits");
  if (std::any_of(limits.begin(), limits.end(), positive)) features.push_back("limits");
  if (at(vip, "quic").is_object()) features.push_back("quic");
  if (at(vip, "health").is_object()) features.push_back("health");
  if (at(vip, "fail_open") == true) features.push_back("fails open");
  return features;
}

Section limit_section(const Json& vip) {
  Section section{"limits", {"limit", "per_second"}, {}};
  section.hide_zero_in = "per_second";
  const Json limits = at(vip, "limits");
  for (const char* name : {"new_flows_per_source", "packets_per_source", "new_flows", "packets"}) {
    if (const Json rate = at(limits, name); rate.is_number()) section.rows.push_back({name, rate});
  }
  return section;
}

Section source_section(const Json& vip) {
  Section section{"sources", {"rule", "prefix"}, {}};
  const Json sources = at(vip, "sources");
  for (const char* rule : {"allow", "deny"}) {
    for (const Json& prefix : list_at(sources, rule))
      section.rows.push_back({rule, prefix});
  }
  return section;
}

/// What was asked for; the daemon knows what holds otherwise.
void add_wishes(const VipOptions& options, Json& body) {
  if (options.gue_port) body["gue_port"] = *options.gue_port;
  if (options.snat) body["snat"] = *options.snat;
  if (options.when_empty) body["when_empty"] = *options.when_empty;
  if (options.hash) body["hash"] = *options.hash;
  if (options.affinity_timeout_s) body["affinity_timeout_s"] = *options.affinity_timeout_s;
  if (!options.allow.empty()) body["sources"]["allow"] = options.allow;
  if (!options.deny.empty()) body["sources"]["deny"] = options.deny;
  for (const auto& [name, rate] : options.limits)
    body["limits"][name] = rate;
  if (options.health) body["health"]["kind"] = *options.health;
  if (options.health_port) body["health"]["port"] = *options.health_port;
  if (options.health_path) body["health"]["path"] = *options.health_path;
  if (options.health_interval_ms) body["health"]["interval_ms"] = *options.health_interval_ms;
  if (!options.quic_server_id_length) return;
  body["quic"] = {{"server_id_length", *options.quic_server_id_length},
                  {"config_rotation", options.quic_config_rotation}};
}

Outcome change_backend(const Daemons& daemons, const BackendOptions& options,
                       std::string_view done) {
  Json body{{"vip", control::vip_text(options.vip)}, {"address", options.address.text()}};
  if (options.port) body["port"] = options.port->value();
  if (options.server_id) body["server_id"] = *options.server_id;
  if (options.weight) body["weight"] = *options.weight;
  if (options.name) body["name"] = *options.name;
  if (options.state) body["state"] = *options.state;
  Answer answer = ask(daemons.l4, "POST", "/v1/backends", body);
  if (auto* failure = std::get_if<Failure>(&answer)) return std::move(*failure);
  return note(fmt::format("{} backend {} of vip {}; revision {}", done, options.address.text(),
                          control::vip_text(options.vip),
                          at(std::get<Json>(answer), "revision").dump()));
}

}  // namespace

// ---- vips -----------------------------------------------------------------------------------

Outcome vip_add(const Daemons& daemons, const VipOptions& options) {
  Json body{{"vip", control::vip_text(options.key)}, {"mode", options.mode}};
  if (options.table_size != 0) body["table_size"] = options.table_size;
  if (!options.name.empty()) body["name"] = options.name;
  add_wishes(options, body);
  Answer answer = ask(daemons.l4, "POST", "/v1/vips", body);
  if (auto* failure = std::get_if<Failure>(&answer)) return std::move(*failure);
  return note(fmt::format("added vip {} ({}); revision {}", control::vip_text(options.key),
                          options.mode, at(std::get<Json>(answer), "revision").dump()));
}

Outcome vip_del(const Daemons& daemons, const control::VipKey& key) {
  Answer answer = ask(daemons.l4, "DELETE", "/v1/vips" + query_of(key));
  if (auto* failure = std::get_if<Failure>(&answer)) return std::move(*failure);
  return note(fmt::format("removed vip {}; revision {}", control::vip_text(key),
                          at(std::get<Json>(answer), "revision").dump()));
}

Outcome vip_list(const Daemons& daemons) {
  Answer answer = ask(daemons.l4, "GET", "/v1/vips?backends=count");
  if (auto* failure = std::get_if<Failure>(&answer)) return std::move(*failure);
  Section section{
      "vips",
      {"vip", "name", "mode", "owner", "features", "table_size", "table_digest", "backends"},
      {}};
  for (const Json& vip : list_at(std::get<Json>(answer), "vips")) {
    std::vector<Json> row = row_of(vip, section.columns);
    row[4] = features_of(vip);
    row.back() = at(vip, "backend_count");
    section.rows.push_back(std::move(row));
  }
  return Report{{std::move(section)}, {}};
}

Outcome vip_show(const Daemons& daemons, const control::VipKey& key) {
  Answer answer = find_vip(daemons, key);
  if (auto* failure = std::get_if<Failure>(&answer)) return std::move(*failure);
  const Json& vip = std::get<Json>(answer);
  Section record = record_of("vip",
                             {"vip", "name", "mode", "gue_port", "snat", "when_empty", "hash",
                              "affinity_timeout_s", "owner", "id", "table_size", "table_digest"},
                             vip);
  const Json quic = at(vip, "quic");
  record.columns.insert(record.columns.end(), {"quic_server_id_length", "quic_config_rotation"});
  record.rows.front().push_back(at(quic, "server_id_length"));
  record.rows.front().push_back(at(quic, "config_rotation"));
  Report report{{std::move(record), limit_section(vip), source_section(vip), backend_section(vip)},
                {}};
  if (const Json check = at(vip, "health"); check.is_object()) {
    Section asked = record_of("health_check",
                              {"kind", "port", "path", "interval_ms", "timeout_ms", "rise", "fall",
                               "flaps", "grace_ms", "fail_open_percent", "slow_start_ms"},
                              check);
    asked.columns.emplace_back("fail_open");
    asked.rows.front().push_back(at(vip, "fail_open"));
    report.sections.push_back(std::move(asked));
    report.sections.push_back(health_section(vip));
  }
  return report;
}

// ---- backends -------------------------------------------------------------------------------

Outcome backend_add(const Daemons& daemons, const BackendOptions& options) {
  Answer answer = find_vip(daemons, options.vip);
  if (auto* failure = std::get_if<Failure>(&answer)) return std::move(*failure);
  if (has_backend(std::get<Json>(answer), options.address)) {
    return Failure{{},
                   fmt::format("vip {} has backend {} already; change it with 'weir backend set'",
                               control::vip_text(options.vip), options.address.text())};
  }
  return change_backend(daemons, options, "added");
}

Outcome backend_set(const Daemons& daemons, const BackendOptions& options) {
  // The API would add what it does not find; a slip in the address must not.
  Answer answer = find_vip(daemons, options.vip);
  if (auto* failure = std::get_if<Failure>(&answer)) return std::move(*failure);
  if (!has_backend(std::get<Json>(answer), options.address)) {
    return Failure{{},
                   fmt::format("vip {} has no backend {}; see 'weir backend list {}'",
                               control::vip_text(options.vip), options.address.text(),
                               control::vip_text(options.vip))};
  }
  return change_backend(daemons, options, "changed");
}

Outcome backend_del(const Daemons& daemons, const BackendOptions& options) {
  Answer answer = ask(daemons.l4, "DELETE",
                      "/v1/backends" + query_of(options.vip) +
                          "&address=" + control::percent_encoded(options.address.text()));
  if (auto* failure = std::get_if<Failure>(&answer)) return std::move(*failure);
  return note(fmt::format("removed backend {} of vip {}; revision {}", options.address.text(),
                          control::vip_text(options.vip),
                          at(std::get<Json>(answer), "revision").dump()));
}

Outcome backend_list(const Daemons& daemons, const control::VipKey& key) {
  Answer answer = find_vip(daemons, key);
  if (auto* failure = std::get_if<Failure>(&answer)) return std::move(*failure);
  const Json& vip = std::get<Json>(answer);
  Report report{{backend_section(vip)}, {}};
  Section health = health_section(vip);
  if (!health.rows.empty()) report.sections.push_back(std::move(health));
  return report;
}

}  // namespace weir::cli
