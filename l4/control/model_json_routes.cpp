#include "l4/control/model_json_parts.h"
#include "l4/control/units.h"

namespace weir::control {
namespace {

using Json = FileJson;

Json file_json(const RetryPolicy& retry) {
  Json on = Json::array();
  if (retry.on_connect_failure) on.push_back("connect-failure");
  if (retry.on_reset) on.push_back("reset");
  if (retry.on_timeout) on.push_back("timeout");
  if (retry.on_5xx) on.push_back("5xx");
  for (const std::uint16_t status : retry.statuses)
    on.push_back(status);
  return {{"attempts", retry.attempts},
          {"on", std::move(on)},
          {"budgetPercent", retry.budget_percent},
          {"backoff", milliseconds_text(retry.backoff_ms)}};
}

Json file_json(const RouteMatch& match) {
  const char* kind = match.path_kind == PathMatchKind::kPrefix  ? "prefix"
                     : match.path_kind == PathMatchKind::kExact ? "exact"
                                                                : "regex";
  Json json{{"path", {{kind, match.path}}}};
  if (match.method) json["method"] = *match.method;
  const auto put = [&json](const char* key, const std::vector<ValueMatch>& values) {
    for (const ValueMatch& value : values)
      json[key][value.name] = value.is_regex ? Json{{"regex", value.value}} : Json(value.value);
  };
  put("headers", match.headers);
  put("queryParams", match.query_params);
  put("cookies", match.cookies);
  return json;
}

void put_path_edit(Json& json, const PathEdit& edit) {
  switch (edit.kind) {
    case PathEdit::Kind::kKeep:
      return;
    case PathEdit::Kind::kFull:
      json["path"] = edit.value;
      return;
    case PathEdit::Kind::kPrefix:
      json["prefix"] = edit.value;
      return;
    case PathEdit::Kind::kRegex:
      json["regex"] = {{"match", edit.pattern}, {"substitution", edit.value}};
      return;
  }
}

Json file_json(const Redirect& redirect) {
  Json json{{"status", fmt::format("{}", redirect.status)}};
  if (redirect.scheme) json["scheme"] = *redirect.scheme;
  if (redirect.hostname) json["hostname"] = *redirect.hostname;
  if (redirect.port) json["port"] = redirect.port->value();
  put_path_edit(json, redirect.path);
  return json;
}

Json file_json(const Rewrite& rewrite) {
  Json json = Json::object();
  if (rewrite.hostname) json["hostname"] = *rewrite.hostname;
  put_path_edit(json, rewrite.path);
  return json;
}

Json file_json(const FixedResponse& respond) {
  Json json{{"status", respond.status}};
  if (!respond.content_type.empty()) json["contentType"] = respond.content_type;
  if (!respond.body.empty()) json["body"] = respond.body;
  return json;
}

Json file_json(const FaultInjection& fault) {
  Json json = Json::object();
  if (fault.delay_ms != 0)
    json["delay"] = {{"time", milliseconds_text(fault.delay_ms)},
                     {"share", share_text(fault.delay_share)}};
  if (fault.abort_status != 0)
    json["abort"] = {{"status", fault.abort_status}, {"share", share_text(fault.abort_share)}};
  return json;
}

Json file_json(const Mirror& mirror) {
  return {{"backendRef", {{"name", mirror.service}}},
          {"share", share_text(mirror.share)},
          {"bodyBytes", fmt::format("{}B", mirror.body_bytes)}};
}

Json file_json(const HeaderEdits& edits) {
  Json json = Json::object();
  for (const auto& [name, value] : edits.set)
    json["set"][name] = value;
  for (const auto& [name, value] : edits.add)
    json["add"][name] = value;
  if (!edits.remove.empty()) json["remove"] = edits.remove;
  return json;
}

Json file_json(const std::vector<BackendRef>& backends) {
  Json list = Json::array();
  for (const BackendRef& backend : backends)
    list.push_back({{"name", backend.service}, {"weight", backend.weight}});
  return list;
}

Json file_json(const RouteRule& rule) {
  Json json = Json::object();
  if (!rule.name.empty()) json["name"] = rule.name;
  json["matches"] = Json::array();
  for (const RouteMatch& match : rule.matches)
    json["matches"].push_back(file_json(match));
  json["timeouts"] = {{"request", fmt::format("{}ms", rule.timeouts.request_ms)},
                      {"backendRequest", fmt::format("{}ms", rule.timeouts.backend_request_ms)}};
  if (rule.timeouts.backend_idle_ms)
    json["timeouts"]["backendIdle"] = fmt::format("{}ms", *rule.timeouts.backend_idle_ms);
  if (!rule.backends.empty()) json["backendRefs"] = file_json(rule.backends);
  if (rule.redirect) json["redirect"] = file_json(*rule.redirect);
  if (rule.respond) json["respond"] = file_json(*rule.respond);
  if (rule.rewrite) json["rewrite"] = file_json(*rule.rewrite);
  if (!rule.request_headers.empty()) json["requestHeaders"] = file_json(rule.request_headers);
  if (!rule.response_headers.empty()) json["responseHeaders"] = file_json(rule.response_headers);
  if (rule.fault) json["fault"] = file_json(*rule.fault);
  if (rule.mirror) json["mirror"] = file_json(*rule.mirror);
  if (rule.retry != RetryPolicy{}) json["retry"] = file_json(rule.retry);
  if (rule.session) {
    json["sessionPersistence"] = {{"cookie", rule.session->cookie}};
    if (rule.session->max_age_s != 0)
      json["sessionPersistence"]["maxAge"] = fmt::format("{}s", rule.session->max_age_s);
  }
  return json;
}

Json file_json(const std::vector<ParentRef>& parents) {
  Json list = Json::array();
  for (const ParentRef& parent : parents) {
    Json item{{"name", parent.gateway}};
    if (parent.listener) item["sectionName"] = *parent.listener;
    list.push_back(std::move(item));
  }
  return list;
}

}  // namespace

FileJson file_json(const std::vector<ErrorPage>& pages) {
  Json list = Json::array();
  for (const ErrorPage& page : pages) {
    Json statuses = Json::array();
    for (const StatusMatch& status : page.statuses)
      statuses.push_back(status.is_class() ? Json(fmt::format("{}xx", status.value))
                                           : Json(status.value));
    list.push_back({{"statuses", std::move(statuses)},
                    {"contentType", page.content_type},
                    {"body", page.body}});
  }
  return list;
}

FileJson file_json(const HttpRoute& route) {
  Json rules = Json::array();
  for (const RouteRule& rule : route.rules)
    rules.push_back(file_json(rule));
  Json json{{"name", route.name},
            {"parentRefs", file_json(route.parents)},
            {"hostnames", route.hostnames},
            {"rules", std::move(rules)}};
  if (!route.error_pages.empty()) json["errorPages"] = file_json(route.error_pages);
  return json;
}

FileJson file_json(const TlsRoute& route) {
  Json rule{{"backendRefs", file_json(route.backends)}};
  return {{"name", route.name},
          {"parentRefs", file_json(route.parents)},
          {"hostnames", route.hostnames},
          {"rules", Json::array({std::move(rule)})}};
}

}  // namespace weir::control
