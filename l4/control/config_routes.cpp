#include <algorithm>
#include <array>

#include "l4/control/config_parser.h"
#include "l4/control/units.h"

// httpRoutes: which requests go where, and what is changed on the way.

namespace weir::control {
namespace {

constexpr std::size_t kHostnamesMax = 256;
constexpr std::size_t kRulesMax = 1024;
constexpr std::size_t kMatchesMax = 256;
constexpr std::size_t kBackendRefsMax = 256;
/// What is counted, logged and listed goes by the name of the route, of whichever kind.
constexpr std::string_view kRoutes = "route";

}  // namespace

std::optional<HttpRoute> ConfigParser::parse_route(const YamlNode& node, std::size_t index) {
  Fields fields{reader_,
                node,
                owner_of("httpRoute", node, index),
                {{"name", "parentRefs", "hostnames", "rules", "errorPages"}, {"policyRefs"}}};
  HttpRoute route;
  if (const YamlNode* name = fields.need("name", "a name that is unique among the routes")) {
    route.name = reader_.name(*name, fields.label("name")).value_or("");
    claim_name("httpRoute", route.name, fields, kRoutes);
  }
  fields.need("parentRefs", "the gateways it is attached to: [{name: edge}]");
  read_list(
      fields, "parentRefs", "gateways", kBackendRefsMax,
      [&](const YamlNode& item, std::size_t) { return parse_parent(item, fields.owner()); },
      route.parents);
  read_list(
      fields, "hostnames", "DNS names", kHostnamesMax,
      [&](const YamlNode& item, std::size_t) {
        return reader_.hostname(item, "a hostname of " + fields.owner());
      },
      route.hostnames);
  fields.need("rules", "a list of rules");
  read_list(
      fields, "rules", "rules", kRulesMax,
      [&](const YamlNode& item, std::size_t i) { return parse_rule(item, i, fields.owner()); },
      route.rules);
  route.error_pages = parse_error_pages(fields);
  refuse_empty(fields, "parentRefs");
  refuse_empty(fields, "rules");
  return route;
}

void ConfigParser::refuse_empty(const Fields& fields, std::string_view key) {
  const YamlNode* list = fields.find(key);
  if (list != nullptr && list->kind == YamlKind::kList && list->children.empty())
    reader_.report(list->at, fmt::format("{} is an empty list", fields.label(key)), "at least one");
}

std::optional<TlsRoute> ConfigParser::parse_tls_route(const YamlNode& node, std::size_t index) {
  Fields fields{reader_,
                node,
                owner_of("tlsRoute", node, index),
                {{"name", "parentRefs", "hostnames", "rules"}, {}}};
  const std::size_t gateways_before = gateway_references_.size();
  const std::size_t services_before = service_references_.size();
  TlsRoute route;
  if (const YamlNode* name = fields.need("name", "a name that is unique among the TLS routes")) {
    route.name = reader_.name(*name, fields.label("name")).value_or("");
    claim_name("tlsRoute", route.name, fields, kRoutes);
  }
  fields.need("parentRefs", "the gateways it is attached to: [{name: edge, sectionName: tls}]");
  read_list(
      fields, "parentRefs", "gateways", kBackendRefsMax,
      [&](const YamlNode& item, std::size_t) { return parse_parent(item, fields.owner()); },
      route.parents);
  read_list(
      fields, "hostnames", "DNS names", kHostnamesMax,
      [&](const YamlNode& item, std::size_t) {
        return reader_.hostname(item, "a hostname of " + fields.owner());
      },
      route.hostnames);
  refuse_empty(fields, "parentRefs");
  const YamlNode* rules = fields.need("rules", "one rule: [{backendRefs: [{name: cart}]}]");
  if (rules != nullptr && reader_.is_list(*rules, fields.label("rules"), "a list of one rule"))
    parse_tls_rules(*rules, fields, route);
  for (std::size_t i = gateways_before; i < gateway_references_.size(); ++i)
    gateway_references_[i].of_tls_route = true;
  for (std::size_t i = services_before; i < service_references_.size(); ++i)
    service_references_[i].of_tls_route = true;
  return route;
}

void ConfigParser::parse_tls_rules(const YamlNode& rules, const Fields& fields, TlsRoute& route) {
  if (rules.children.size() != 1) {
    reader_.report(rules.at,
                   fmt::format("{} has {} entries", fields.label("rules"), rules.children.size()),
                   "one rule: the name is all there is to choose by");
    return;
  }
  const YamlNode& node = rules.children.front();
  Fields rule{reader_,
              node,
              fmt::format("{} of {}", owner_of("rule", node, 0), fields.owner()),
              {{"backendRefs"}, {}}};
  rule.need("backendRefs", "the services: [{name: cart}]");
  read_list(
      rule, "backendRefs", "services", kBackendRefsMax,
      [&](const YamlNode& ref, std::size_t) { return parse_backend_ref(ref, rule.owner()); },
      route.backends);
  check_weights(rule, route.backends, "connections");
}

/// A list that was read whole must have somebody to send to.
void ConfigParser::check_weights(const Fields& fields, const std::vector<BackendRef>& backends,
                                 std::string_view what) {
  const YamlNode* refs = fields.find("backendRefs");
  if (refs == nullptr || refs->kind != YamlKind::kList || backends.size() != refs->children.size())
    return;
  const bool all_zero =
      std::ranges::all_of(backends, [](const BackendRef& backend) { return backend.weight == 0; });
  if (all_zero)
    reader_.report(refs->at,
                   fmt::format("{} has no backendRef that takes {}", fields.owner(), what),
                   "at least one with a weight above 0");
}

std::optional<ParentRef> ConfigParser::parse_parent(const YamlNode& node,
                                                    const std::string& owner) {
  Fields fields{reader_, node, "a parentRef of " + owner, {{"name", "sectionName"}, {"port"}}};
  const YamlNode* name = fields.need("name", "the name of a gateway");
  if (name == nullptr) return std::nullopt;
  const auto gateway = reader_.name(*name, fields.label("name"));
  if (!gateway) return std::nullopt;
  ParentRef parent{*gateway, std::nullopt};
  Position at = name->at;
  if (const YamlNode* section = fields.find("sectionName")) {
    parent.listener = reader_.name(*section, fields.label("sectionName"));
    at = section->at;
  }
  gateway_references_.push_back({at, owner, parent.gateway, parent.listener});
  return parent;
}

std::optional<RouteRule> ConfigParser::parse_rule(const YamlNode& node, std::size_t index,
                                                  const std::string& route) {
  Fields fields{
      reader_,
      node,
      fmt::format("{} of {}", owner_of("rule", node, index), route),
      {{"name", "matches", "timeouts", "backendRefs", "redirect", "respond", "rewrite",
        "requestHeaders", "responseHeaders", "retry", "sessionPersistence", "fault", "mirror"},
       {"policyRefs", "aggregate", "canary", "filters"}}};
  RouteRule rule;
  if (const YamlNode* name = fields.find("name"))
    rule.name = reader_.name(*name, fields.label("name")).value_or("");
  claim_name(fmt::format("{}: rule", route), rule.name, fields);
  const std::string& owner = fields.owner();
  read_list(
      fields, "matches", "matches", kMatchesMax,
      [&](const YamlNode& item, std::size_t i) {
        return parse_match(item, fmt::format("match {} of {}", i + 1, owner));
      },
      rule.matches);
  if (rule.matches.empty()) rule.matches.emplace_back();
  if (const YamlNode* timeouts = fields.find("timeouts"))
    parse_timeouts(*timeouts, fields.label("timeouts"), rule.timeouts);
  if (const YamlNode* retry = fields.find("retry"))
    rule.retry = parse_retry(*retry, fields.label("retry"));
  if (const YamlNode* session = fields.find("sessionPersistence"))
    rule.session = parse_session(*session, fields.label("sessionPersistence"));
  parse_filters(fields, rule);
  parse_backend_refs(fields, rule);
  const bool names_connect = std::ranges::any_of(
      rule.matches, [](const RouteMatch& match) { return match.method == "CONNECT"; });
  if (names_connect && rule.respond && rule.respond->status < 300)
    reader_.report(fields.find("respond")->at,
                   fmt::format("{} answers CONNECT with {}", owner, rule.respond->status),
                   "services, or a status from 300 on: success would mean that a tunnel stands");
  return rule;
}

/// The services, or what stands in their place.
void ConfigParser::parse_backend_refs(Fields& fields, RouteRule& rule) {
  const std::string& owner = fields.owner();
  std::size_t answers = 0;
  Position last = fields.at();
  for (const std::string_view key : {"backendRefs", "redirect", "respond"})
    if (const YamlNode* answer = fields.find(key)) {
      ++answers;
      last = answer->at;
    }
  if (answers == 0) fields.need("backendRefs", "the services: [{name: cart}]");
  if (answers > 1)
    reader_.report(last, fmt::format("{} has more than one answer", owner),
                   "one of backendRefs, redirect and respond");
  read_list(
      fields, "backendRefs", "services", kBackendRefsMax,
      [&](const YamlNode& item, std::size_t) { return parse_backend_ref(item, owner); },
      rule.backends);
  check_weights(fields, rule.backends, "requests");
}

std::optional<RouteMatch> ConfigParser::parse_match(const YamlNode& node,
                                                    const std::string& owner) {
  Fields fields{
      reader_, node, owner, {{"path", "grpc", "method", "headers", "queryParams", "cookies"}}};
  RouteMatch match;
  if (const YamlNode* path = fields.find("path")) parse_path(*path, fields.label("path"), match);
  if (const YamlNode* grpc = fields.find("grpc")) {
    if (fields.find("path") != nullptr)
      reader_.report(grpc->at, fmt::format("{} has both path and grpc", owner), "one of them");
    parse_grpc_match(*grpc, fields.label("grpc"), match);
  }
  if (const YamlNode* method = fields.find("method")) {
    const auto text = reader_.text(*method, fields.label("method"), "a method such as GET");
    if (text && reader_.accept(method->at, fields.label("method"), object_to_method(*text)))
      match.method = *text;
  }
  if (const YamlNode* headers = fields.find("headers"))
    match.headers = parse_value_matches(*headers, fields.label("headers"), Kind::kHeader);
  if (const YamlNode* query = fields.find("queryParams"))
    match.query_params = parse_value_matches(*query, fields.label("queryParams"), Kind::kOther);
  if (const YamlNode* cookies = fields.find("cookies"))
    match.cookies = parse_value_matches(*cookies, fields.label("cookies"), Kind::kOther);
  return match;
}

void ConfigParser::parse_path(const YamlNode& node, const std::string& owner, RouteMatch& match) {
  Fields fields{reader_, node, owner, {{"prefix", "exact", "regex"}}};
  if (node.kind != YamlKind::kMap) return;
  const YamlNode* value = nullptr;
  std::string_view kind;
  std::size_t found = 0;
  for (const std::string_view key : {"prefix", "exact", "regex"})
    if (const YamlNode* one = fields.find(key)) {
      value = one;
      kind = key;
      ++found;
    }
  // Other keys have been reported already.
  if (found == 0 && !node.children.empty()) return;
  if (found != 1) {
    reader_.report(node.at, fmt::format("{} must have one of prefix, exact and regex", owner),
                   "'{prefix: /cart}', '{exact: /cart}' or '{regex: \"/v[0-9]+/.*\"}'");
    return;
  }
  const std::string what = fields.label(kind);
  const bool is_regex = kind == "regex";
  std::optional<std::string> path =
      reader_.text(*value, what, is_regex ? "an RE2 expression" : "a path such as /cart");
  if (!path ||
      !reader_.accept(value->at, what, is_regex ? object_to_regex(*path) : object_to_path(*path)))
    return;
  match.path_kind = is_regex          ? PathMatchKind::kRegex
                    : kind == "exact" ? PathMatchKind::kExact
                                      : PathMatchKind::kPrefix;
  // Prefixes are compared by segments: /cart/ means what /cart means.
  if (kind == "prefix" && path->size() > 1 && path->ends_with('/')) path->pop_back();
  match.path = std::move(*path);
}

/// A call is POST /<service>/<method> (gRPC over HTTP/2), so that a match is one of paths.
void ConfigParser::parse_grpc_match(const YamlNode& node, const std::string& owner,
                                    RouteMatch& match) {
  Fields fields{reader_, node, owner, {{"service", "method"}}};
  const YamlNode* service = fields.need("service", "a service such as shop.Cart");
  if (service == nullptr) return;
  const auto name = reader_.text(*service, fields.label("service"), "a service such as shop.Cart");
  if (!name || !reader_.accept(service->at, fields.label("service"), object_to_grpc_name(*name)))
    return;
  match.path_kind = PathMatchKind::kPrefix;
  match.path = "/" + *name;
  const YamlNode* method = fields.find("method");
  if (method == nullptr) return;
  const auto call = reader_.text(*method, fields.label("method"), "a method such as Get");
  if (!call || !reader_.accept(method->at, fields.label("method"), object_to_grpc_name(*call)))
    return;
  match.path_kind = PathMatchKind::kExact;
  match.path += "/" + *call;
}

std::vector<ValueMatch> ConfigParser::parse_value_matches(const YamlNode& node,
                                                          const std::string& owner, Kind kind) {
  std::vector<ValueMatch> matches;
  for (const MapEntry& entry :
       entries_of(reader_, node, owner, "a map such as {x-canary: \"yes\"}")) {
    // Cookies and parameters of other letters exist, but nobody has to route by them.
    if (!reader_.accept(entry.at, "a name in " + owner, object_to_header_name(entry.key))) continue;
    ValueMatch match{
        kind == Kind::kHeader ? lower_case(entry.key) : std::string{entry.key}, {}, false};
    const std::string what = fmt::format("'{}' in {}", match.name, owner);
    const YamlNode* value = entry.value;
    if (value->kind == YamlKind::kMap) {
      Fields fields{reader_, *value, what, {{"exact", "regex"}}};
      match.is_regex = fields.find("regex") != nullptr;
      value = fields.need(match.is_regex ? "regex" : "exact", "the value to compare with");
      if (value == nullptr) continue;
    }
    const auto text = reader_.text(*value, what, "the value to compare with");
    if (!text ||
        !reader_.accept(value->at, what,
                        match.is_regex ? object_to_regex(*text) : object_to_header_value(*text)))
      continue;
    if (std::ranges::find(matches, match.name, &ValueMatch::name) != matches.end()) {
      reader_.report(entry.at, fmt::format("{} appears twice", what), "each name once");
      continue;
    }
    match.value = *text;
    matches.push_back(std::move(match));
  }
  return matches;
}

void ConfigParser::parse_timeouts(const YamlNode& node, const std::string& owner,
                                  RouteTimeouts& timeouts) {
  Fields fields{reader_, node, owner, {{"request", "backendRequest", "backendIdle"}}};
  if (const YamlNode* value = fields.find("request")) {
    timeouts.request_ms =
        reader_.duration_ms(*value, fields.label("request"), 0, kTimeoutMaxMs).value_or(0);
  }
  if (const YamlNode* value = fields.find("backendIdle")) {
    timeouts.backend_idle_ms =
        reader_.duration_ms(*value, fields.label("backendIdle"), 1000, kTimeoutMaxMs);
  }
  if (const YamlNode* value = fields.find("backendRequest")) {
    timeouts.backend_request_ms =
        reader_.duration_ms(*value, fields.label("backendRequest"), 0, kTimeoutMaxMs).value_or(0);
    if (timeouts.request_ms != 0 && timeouts.backend_request_ms > timeouts.request_ms) {
      reader_.report(value->at,
                     fmt::format("{} is longer than the whole request may take",
                                 fields.label("backendRequest")),
                     "at most the request timeout");
    }
  }
}

RetryPolicy ConfigParser::parse_retry(const YamlNode& node, const std::string& owner) {
  constexpr std::uint32_t kAttemptsMax = 7;
  const Fields fields{reader_, node, owner, {{"attempts", "on", "budgetPercent", "backoff"}}};
  RetryPolicy retry;
  if (const YamlNode* value = fields.find("attempts"))
    retry.attempts = static_cast<std::uint32_t>(
        reader_.number(*value, fields.label("attempts"), 0, kAttemptsMax).value_or(retry.attempts));
  if (const YamlNode* value = fields.find("budgetPercent"))
    retry.budget_percent =
        static_cast<std::uint32_t>(reader_.number(*value, fields.label("budgetPercent"), 0, 100)
                                       .value_or(retry.budget_percent));
  if (const YamlNode* value = fields.find("backoff"))
    retry.backoff_ms =
        reader_.duration_ms(*value, fields.label("backoff"), 0, 10'000).value_or(retry.backoff_ms);
  const YamlNode* conditions = fields.find("on");
  if (conditions == nullptr) return retry;
  const std::string label = fields.label("on");
  if (!reader_.is_list(*conditions, label, "a list such as [connect-failure, 503]")) return retry;
  retry.on_connect_failure = false;
  for (const YamlNode& item : conditions->children)
    parse_retry_condition(item, "a condition in " + label, retry);
  std::ranges::sort(retry.statuses);
  return retry;
}

void ConfigParser::parse_retry_condition(const YamlNode& node, const std::string& owner,
                                         RetryPolicy& retry) {
  const std::optional<std::uint64_t> number =
      node.kind == YamlKind::kScalar ? decimal(node.text) : std::nullopt;
  if (number && *number >= 400 && *number <= 599) {
    retry.statuses.push_back(static_cast<std::uint16_t>(*number));
    return;
  }
  enum class Word { kConnectFailure, kReset, kTimeout, k5xx };
  constexpr std::array<Choice<Word>, 4> kWords{{{"connect-failure", Word::kConnectFailure},
                                                {"reset", Word::kReset},
                                                {"timeout", Word::kTimeout},
                                                {"5xx", Word::k5xx}}};
  if (number) {
    reader_.report(node.at, fmt::format("{} is {}", owner, found_text(node)),
                   "a status from 400 to 599, or a word such as reset");
    return;
  }
  const auto word = reader_.choice<Word>(node, owner, kWords);
  retry.on_connect_failure = retry.on_connect_failure || word == Word::kConnectFailure;
  retry.on_reset = retry.on_reset || word == Word::kReset;
  retry.on_timeout = retry.on_timeout || word == Word::kTimeout;
  retry.on_5xx = retry.on_5xx || word == Word::k5xx;
}

SessionPersistence ConfigParser::parse_session(const YamlNode& node, const std::string& owner) {
  constexpr std::uint32_t kAgeMaxMs = 30U * 24 * 3'600'000;
  Fields fields{reader_, node, owner, {{"cookie", "maxAge"}}};
  SessionPersistence session;
  if (const YamlNode* cookie = fields.need("cookie", "the cookie's name, such as weir-session")) {
    const auto name = reader_.text(*cookie, fields.label("cookie"), "a cookie's name");
    // RFC 6265, section 4.1.1: a token, as the name of a field is.
    if (name && reader_.accept(cookie->at, fields.label("cookie"), object_to_header_name(*name)))
      session.cookie = *name;
  }
  if (const YamlNode* age = fields.find("maxAge"))
    session.max_age_s =
        reader_.duration_ms(*age, fields.label("maxAge"), 1000, kAgeMaxMs).value_or(0) / 1000;
  return session;
}

std::optional<BackendRef> ConfigParser::parse_backend_ref(const YamlNode& node,
                                                          const std::string& owner) {
  Fields fields{reader_, node, "a backendRef of " + owner, {{"name", "weight"}, {"filters"}}};
  BackendRef backend;
  if (const YamlNode* weight = fields.find("weight")) {
    backend.weight = static_cast<std::uint32_t>(
        reader_.number(*weight, fields.label("weight"), 0, kWeightMax).value_or(1));
  }
  const YamlNode* name = fields.need("name", "the name of a service");
  if (name == nullptr) return std::nullopt;
  const auto service = reader_.name(*name, fields.label("name"));
  if (!service) return std::nullopt;
  backend.service = *service;
  service_references_.push_back({name->at, owner, *service, std::nullopt});
  return backend;
}

}  // namespace weir::control
