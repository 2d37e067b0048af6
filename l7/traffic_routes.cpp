#include "l7/traffic_routes.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "l4/control/route_json.h"
#include "l7/explain.h"
#include "l7/http/semantics.h"
#include "l7/rule_effects.h"

namespace weir::l7 {
namespace {

using nlohmann::json;

constexpr auto kRelaxed = std::memory_order_relaxed;

Result<ExplainRequest> explain_request(const control::AdminRequest& request) {
  ExplainRequest asked;
  for (const auto& [name, value] : request.query) {
    if (name == "url") {
      asked.url = value;
    } else if (name == "method") {
      asked.method = value;
    } else if (name == "vip") {
      const Result<wire::Endpoint> vip = wire::Endpoint::parse(value);
      if (!vip) return Error{vip.error()}.while_doing("reading vip");
      asked.vip = *vip;
    } else if (name == "headers") {
      std::string_view rest = value;
      while (!rest.empty()) {
        const std::size_t end = std::min(rest.find('\n'), rest.size());
        const std::string_view line = rest.substr(0, end);
        rest.remove_prefix(std::min(end + 1, rest.size()));
        const std::size_t colon = line.find(':');
        if (colon == std::string_view::npos || colon == 0)
          return Error{ErrorCode::kInvalid, fmt::format("the header is '{}'", line),
                       "Name: value, such as x-canary: yes"};
        std::string_view text = line.substr(colon + 1);
        asked.headers.emplace_back(line.substr(0, colon), http::trim_white_space(text));
      }
    } else {
      return Error{ErrorCode::kInvalid, fmt::format("the query has '{}'", name),
                   "url, method, headers or vip"};
    }
  }
  return asked;
}

json endpoint_json(const proxy::EndpointEntry& entry, Instant now) {
  const proxy::EndpointState& state = *entry.state;
  return {{"endpoint", entry.endpoint.text()},
          {"name", entry.hostname},
          {"weight", entry.weight},
          {"usable", state.is_up() && !state.is_ejected(now)},
          {"share_percent", state.share.load(kRelaxed) * 10},
          {"ejected_ms",
           state.is_ejected(now)
               ? (state.ejected_until.load(kRelaxed) - now.time_since_epoch().count()) / 1'000'000
               : 0},
          {"ejections", state.ejections.load(kRelaxed)},
          {"exchanges", state.exchanges.load(kRelaxed)},
          {"connections", state.connections.load(kRelaxed)},
          {"requests", state.requests.load(kRelaxed)},
          {"failures", state.failures.load(kRelaxed)}};
}

json endpoints_json(const proxy::ServiceEntry& service, Instant now) {
  json endpoints = json::array();
  for (const proxy::EndpointEntry& entry : service.endpoints)
    endpoints.push_back(endpoint_json(entry, now));
  return endpoints;
}

std::int64_t seconds_of(Duration duration) {
  return std::chrono::duration_cast<std::chrono::seconds>(duration).count();
}

json name_json(const EndpointNameView& view) {
  json addresses = json::array();
  for (const wire::IpAddress& address : view.name.addresses)
    addresses.push_back(address.text());
  return {{"name", view.name.name},
          {"services", view.services},
          {"addresses", std::move(addresses)},
          {"left_out", view.left_out},
          {"age_s", view.name.age ? json(seconds_of(*view.name.age)) : json(nullptr)},
          {"next_s", seconds_of(view.name.next)},
          {"failures_in_row", view.name.failures_in_row},
          {"last_error", view.name.last_error}};
}

json services_json(const proxy::Snapshot& snapshot, const proxy::Rule& rule, Instant now) {
  json services = json::array();
  std::uint32_t before = 0;
  for (const proxy::WeightedService& weighted : rule.services) {
    const proxy::ServiceEntry& service = snapshot.services[weighted.service];
    services.push_back({{"service", service.name},
                        {"weight", weighted.weight_end - before},
                        {"endpoints", endpoints_json(service, now)}});
    before = weighted.weight_end;
  }
  return services;
}

}  // namespace

control::AdminReply explain_reply(const control::Model& model, const proxy::Snapshot& snapshot,
                                  const proxy::TlsFiles& files,
                                  const control::AdminRequest& request) {
  const Result<ExplainRequest> asked = explain_request(request);
  if (!asked) return control::error_reply(asked.error());
  const Result<Explanation> found = explain(snapshot, *asked, &files);
  if (!found) return control::error_reply(found.error());
  json candidates = json::array();
  for (const ExplainedCandidate& candidate : found->candidates)
    candidates.push_back({{"route", candidate.route},
                          {"rule", candidate.rule},
                          {"match", candidate.match},
                          {"failed", candidate.failed}});
  const bool proxied = found->outcome == "proxy";
  return control::ok_reply(
      json{{"method", asked->method},
           {"host", found->host},
           {"path", found->path},
           {"vip", found->vip},
           {"listener", found->listener},
           {"route", found->route},
           {"rule", found->rule},
           {"match", found->match},
           {"outcome", found->outcome},
           {"status", found->status},
           {"reason", found->reason},
           {"location", found->location},
           {"sent_host", found->sent_host},
           {"sent_target", found->sent_target},
           {"services",
            proxied ? services_json(snapshot, *found->chosen, monotonic_now()) : json::array()},
           {"effects", effects_of(model, found->listener, found->route, found->rule)},
           {"candidates", std::move(candidates)}});
}

namespace {

/// What is configured of a rule.
json rule_json(const control::HttpRoute& route, std::size_t index) {
  const control::RouteRule& rule = route.rules[index];
  json parents = json::array();
  for (const control::ParentRef& parent : route.parents)
    parents.push_back(parent.listener ? parent.gateway + "/" + *parent.listener : parent.gateway);
  json matches = json::array();
  for (const control::RouteMatch& match : rule.matches)
    matches.push_back(match_text(match));
  json services = json::array();
  for (const control::BackendRef& backend : rule.backends)
    services.push_back({{"service", backend.service}, {"weight", backend.weight}});
  return {{"route", route.name},
          {"rule", rule_name(route, index)},
          {"gateways", std::move(parents)},
          {"hostnames", route.hostnames},
          {"matches", std::move(matches)},
          {"answer", rule.redirect  ? "redirect"
                     : rule.respond ? "respond"
                                    : "services"},
          {"effects", effects_of(route, rule)},
          {"services", std::move(services)}};
}

/// The rule that is asked for; nothing where all are.
Result<std::optional<std::string>> wanted_rule(const control::AdminRequest& request) {
  std::optional<std::string> wanted;
  for (const auto& [name, value] : request.query) {
    if (name != "rule")
      return Error{ErrorCode::kInvalid, fmt::format("the query has '{}'", name),
                   "rule=ROUTE/RULE, or nothing"};
    wanted = value;
  }
  return wanted;
}

}  // namespace

control::AdminReply routes_reply(const control::Model& model, const proxy::Snapshot& snapshot,
                                 const TrafficTotals& totals,
                                 const control::AdminRequest& request) {
  const auto wanted = wanted_rule(request);
  if (!wanted) return control::error_reply(wanted.error());
  json rows = json::array();
  const auto add = [&](json row) {
    const std::string name = row["route"].get<std::string>() + "/" + row["rule"].get<std::string>();
    if (*wanted && name != **wanted) return;
    const auto counted = totals.routes.find(name);
    row["counters"] =
        named(counted == totals.routes.end() ? proxy::RequestCounters{} : counted->second);
    if (*wanted)
      for (json& service : row["services"])
        service["endpoints"] = endpoints_json(
            snapshot.services[snapshot.service_names.at(service["service"].get<std::string>())],
            totals.read_at);
    rows.push_back(std::move(row));
  };
  for (const control::HttpRoute& route : model.http_routes)
    for (std::size_t i = 0; i < route.rules.size(); ++i)
      add(rule_json(route, i));
  for (const control::TlsRoute& route : model.tls_routes) {
    json row = rule_json(proxy::as_http_route(route), 0);
    row["answer"] = "passthrough";
    row["matches"] = json::array({"TLS"});
    add(std::move(row));
  }
  if (*wanted && rows.empty())
    return control::error_reply(Error{ErrorCode::kNotFound,
                                      fmt::format("there is no rule '{}'", **wanted),
                                      "'weir routes' lists all, as ROUTE/RULE"});
  return control::ok_reply(
      json{{"read_at_ns", std::chrono::nanoseconds{totals.read_at.time_since_epoch()}.count()},
           {"total", named(totals)},
           {"routes", std::move(rows)}});
}

control::AdminReply endpoints_reply(const proxy::Snapshot& snapshot, const EndpointHealth& health,
                                    const std::vector<EndpointNameView>& names, Instant now) {
  json rows = json::array();
  for (const proxy::ServiceEntry& service : snapshot.services)
    for (const proxy::EndpointEntry& entry : service.endpoints) {
      json row = endpoint_json(entry, now);
      row["service"] = service.name;
      const auto checked = health.find(service.name, entry.endpoint, now);
      row["health"] = checked ? std::string{control::text_of(checked->state)} : "unchecked";
      row["since_s"] = checked ? seconds_of(checked->since) : 0;
      row["last_probe"] = checked ? checked->last : "";
      rows.push_back(std::move(row));
    }
  json followed = json::array();
  for (const EndpointNameView& view : names)
    followed.push_back(name_json(view));
  return control::ok_reply(json{{"endpoints", std::move(rows)}, {"names", std::move(followed)}});
}

control::AdminReply certificates_reply(const proxy::Snapshot& snapshot,
                                       const proxy::TlsFiles& files, std::int64_t now_unix_s) {
  json rows = json::array();
  for (std::size_t bind = 0; bind < files.binds.size(); ++bind) {
    if (!files.binds[bind]) continue;
    bool is_default = true;
    for (const tls::CertificateSummary* certificate : files.binds[bind]->certificates())
      rows.push_back({{"vip", snapshot.binds[bind].endpoint.text()},
                      {"names", certificate->names},
                      {"subject", certificate->subject},
                      {"key_type", certificate->key_type},
                      {"not_after_unix_s", certificate->not_after},
                      {"left_s", certificate->not_after - now_unix_s},
                      {"is_default", std::exchange(is_default, false)},
                      {"file", certificate->file}});
  }
  std::stable_sort(rows.begin(), rows.end(), [](const json& a, const json& b) {
    return a["not_after_unix_s"].get<std::int64_t>() < b["not_after_unix_s"].get<std::int64_t>();
  });
  return control::ok_reply(json{{"certificates", std::move(rows)}});
}

std::vector<std::string> renewed_certificates(const proxy::TlsFiles& have,
                                              const proxy::TlsFiles& want) {
  std::map<std::string_view, const tls::CertificateSummary*> before;
  for (const auto& bind : have.binds)
    if (bind)
      for (const tls::CertificateSummary* certificate : bind->certificates())
        before.emplace(certificate->file, certificate);
  std::vector<std::string> changes;
  for (const auto& bind : want.binds) {
    if (!bind) continue;
    for (const tls::CertificateSummary* certificate : bind->certificates()) {
      const auto old = before.find(certificate->file);
      if (old == before.end()) continue;
      if (old->second->chain != certificate->chain)
        changes.push_back(fmt::format("renew certificate {}", certificate->file));
      else if (old->second->ocsp != certificate->ocsp)
        changes.push_back(fmt::format("renew OCSP response of {}", certificate->file));
      before.erase(old);  // several listeners may show it
    }
  }
  return changes;
}

}  // namespace weir::l7
