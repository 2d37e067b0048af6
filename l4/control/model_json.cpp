#include "l4/control/model_json.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <nlohmann/json.hpp>

#include "l4/control/config.h"
#include "l4/control/rules.h"

namespace weir::control {
namespace {

// Members in the order in which they are written: people read this.
using Json = nlohmann::ordered_json;

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// ---- writing: the API's spelling of VIPs ------------------------------------------------------

Json json_of(const Backend& backend) {
  return {{"address", backend.address.text()},
          {"name", backend.name},
          {"port", backend.port ? Json(backend.port->value()) : Json(nullptr)},
          {"weight", backend.weight},
          {"state", backend.draining ? "draining" : "active"}};
}

Json json_of(const Vip& vip) {
  Json backends = Json::array();
  for (const Backend& backend : vip.backends)
    backends.push_back(json_of(backend));
  return {{"vip", vip_text(vip.key())},
          {"name", vip.name},
          {"mode", text_of(vip.mode)},
          {"table_size", vip.table_size},
          {"backends", std::move(backends)}};
}

// ---- writing: the configuration file's spelling of everything ----------------------------------

Json text_list(const auto& items) {
  Json list = Json::array();
  for (const auto& item : items)
    list.push_back(item.text());
  return list;
}

Json file_json(const NodeSettings& node) {
  Json json{{"interfaces", node.interfaces}, {"xdpMode", text_of(node.xdp_mode)}};
  if (!node.hash_seed.empty()) json["hashSeed"] = {{"text", node.hash_seed}};
  json["l7"] = {{"workers", node.l7.workers},
                {"addresses", text_list(node.l7.addresses)},
                {"gateways", text_list(node.l7.gateways)}};
  return json;
}

Json file_json(const Vip& vip) {
  Json json{{"name", vip.name},
            {"address", vip.address.text()},
            {"port", vip.port.value()},
            {"protocol", vip.protocol == Protocol::kTcp ? "TCP" : "UDP"},
            {"forward", {{"mode", text_of(vip.mode)}}},
            {"table", {{"size", vip.table_size}}}};
  if (vip.mode == ForwardMode::kL7) return json;
  json["backends"] = Json::array();
  for (const Backend& backend : vip.backends) {
    Json item = Json::object();
    if (!backend.name.empty()) item["name"] = backend.name;
    item["address"] = backend.address.text();
    if (backend.port) item["port"] = backend.port->value();
    item["weight"] = backend.weight;
    item["state"] = backend.draining ? "draining" : "active";
    json["backends"].push_back(std::move(item));
  }
  return json;
}

Json file_json(const Listener& listener) {
  const bool https = listener.protocol == ListenerProtocol::kHttps;
  Json json{{"name", listener.name},
            {"port", listener.port.value()},
            {"protocol", https ? "HTTPS" : "HTTP"}};
  if (!listener.hostname.empty()) json["hostname"] = listener.hostname;
  if (listener.redirect_to) json["redirectTo"] = *listener.redirect_to;
  if (!https) return json;
  Json refs = Json::array();
  for (const CertificateRef& ref : listener.certificates)
    refs.push_back({{"file", ref.certificate_file}, {"key", ref.key_file}});
  json["tls"] = {{"certificateRefs", std::move(refs)},
                 {"minVersion", listener.min_version == TlsVersion::kTls12 ? "1.2" : "1.3"}};
  return json;
}

Json file_json(const Gateway& gateway) {
  Json listeners = Json::array();
  for (const Listener& listener : gateway.listeners)
    listeners.push_back(file_json(listener));
  const GatewayLimits& limits = gateway.limits;
  return {{"name", gateway.name},
          {"addresses", text_list(gateway.addresses)},
          {"listeners", std::move(listeners)},
          {"limits",
           {{"headerBytes", fmt::format("{}B", limits.header_bytes)},
            {"headerTimeout", fmt::format("{}ms", limits.header_timeout_ms)},
            {"bodyBytes", fmt::format("{}B", limits.body_bytes)},
            {"idleTimeout", fmt::format("{}ms", limits.idle_timeout_ms)}}}};
}

Json file_json(const Service& service) {
  const bool round_robin = service.load_balancer == LoadBalancer::kRoundRobin;
  return {{"endpoints", text_list(service.endpoints)},
          {"loadBalancer", round_robin ? "RoundRobin" : "LeastRequest"}};
}

Json file_json(const RouteMatch& match) {
  const char* kind = match.path_kind == PathMatchKind::kPrefix ? "prefix" : "exact";
  Json json{{"path", {{kind, match.path}}}};
  if (match.method) json["method"] = *match.method;
  for (const HeaderMatch& header : match.headers)
    json["headers"][header.name] = header.value;
  return json;
}

Json file_json(const RouteRule& rule) {
  Json json = Json::object();
  if (!rule.name.empty()) json["name"] = rule.name;
  json["matches"] = Json::array();
  for (const RouteMatch& match : rule.matches)
    json["matches"].push_back(file_json(match));
  json["timeouts"] = {{"request", fmt::format("{}ms", rule.timeouts.request_ms)},
                      {"backendRequest", fmt::format("{}ms", rule.timeouts.backend_request_ms)}};
  json["backendRefs"] = Json::array();
  for (const BackendRef& backend : rule.backends)
    json["backendRefs"].push_back({{"name", backend.service}, {"weight", backend.weight}});
  return json;
}

Json file_json(const HttpRoute& route) {
  Json parents = Json::array();
  for (const ParentRef& parent : route.parents) {
    Json item{{"name", parent.gateway}};
    if (parent.listener) item["sectionName"] = *parent.listener;
    parents.push_back(std::move(item));
  }
  Json rules = Json::array();
  for (const RouteRule& rule : route.rules)
    rules.push_back(file_json(rule));
  return {{"name", route.name},
          {"parentRefs", std::move(parents)},
          {"hostnames", route.hostnames},
          {"rules", std::move(rules)}};
}

template <typename Items>
Json file_list(const Items& items) {
  Json list = Json::array();
  for (const auto& item : items)
    list.push_back(file_json(item));
  return list;
}

// ---- reading ------------------------------------------------------------------------------------

Error unfit(std::string_view where, const Json& found, std::string_view expectation) {
  constexpr std::size_t kShownMax = 80;
  return Error{ErrorCode::kInvalid,
               fmt::format("{} is {}", where, dump(found).substr(0, kShownMax)),
               fmt::format("use {}", expectation)};
}

Result<void> check_members(const Json& object, std::string_view where,
                           std::initializer_list<std::string_view> known) {
  if (!object.is_object()) return unfit(where, object, "a JSON object");
  for (const auto& [key, value] : object.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      return Error{ErrorCode::kInvalid, fmt::format("{} has an unknown member '{}'", where, key),
                   fmt::format("use {}", fmt::join(known, ", "))};
    }
  }
  return {};
}

Result<std::string> text_at(const Json& object, const char* key, std::string_view where) {
  const auto found = object.find(key);
  if (found == object.end()) return std::string{};
  if (!found->is_string()) return unfit(fmt::format("{}.{}", where, key), *found, "a string");
  return found->get<std::string>();
}

Result<std::uint32_t> number_at(const Json& object, const char* key, std::string_view where,
                                std::uint32_t fallback, std::uint32_t maximum) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return fallback;
  if (!found->is_number_unsigned() || found->get<std::uint64_t>() > maximum) {
    return unfit(fmt::format("{}.{}", where, key), *found,
                 fmt::format("a number from 0 to {}", maximum));
  }
  return found->get<std::uint32_t>();
}

Result<Backend> read_backend(const Json& json, std::string_view where) {
  if (Result<void> known =
          check_members(json, where, {"address", "name", "port", "weight", "state"});
      !known)
    return std::move(known).error();
  Backend backend;
  const Result<std::string> address = text_at(json, "address", where);
  if (!address) return address.error();
  Result<wire::IpAddress> parsed = wire::IpAddress::parse(*address);
  if (!parsed) return std::move(parsed).error().while_doing(fmt::format("{}.address", where));
  backend.address = *parsed;
  Result<std::string> name = text_at(json, "name", where);
  if (!name) return std::move(name).error();
  backend.name = std::move(*name);
  const Result<std::uint32_t> port = number_at(json, "port", where, 0, 65535);
  if (!port) return port.error();
  if (*port != 0) backend.port = wire::Port{static_cast<std::uint16_t>(*port)};
  const Result<std::uint32_t> weight = number_at(json, "weight", where, 1, kWeightMax);
  if (!weight) return weight.error();
  backend.weight = *weight;
  const Result<std::string> state = text_at(json, "state", where);
  if (!state) return state.error();
  if (!state->empty() && *state != "active" && *state != "draining")
    return unfit(fmt::format("{}.state", where), *state, "active or draining");
  backend.draining = *state == "draining";
  return backend;
}

Result<Vip> read_vip(const Json& json) {
  if (Result<void> known =
          check_members(json, "vip", {"vip", "name", "mode", "table_size", "backends"});
      !known)
    return std::move(known).error();
  const Result<std::string> key_text = text_at(json, "vip", "vip");
  if (!key_text) return key_text.error();
  Result<VipKey> key = parse_vip_key(*key_text);
  if (!key) return std::move(key).error();
  Vip vip;
  vip.address = key->address;
  vip.port = key->port;
  vip.protocol = key->protocol;
  Result<std::string> name = text_at(json, "name", "vip");
  if (!name) return std::move(name).error();
  vip.name = std::move(*name);
  const Result<std::string> mode_text = text_at(json, "mode", "vip");
  if (!mode_text) return mode_text.error();
  if (!mode_text->empty()) {
    Result<ForwardMode> mode = parse_forward_mode(*mode_text);
    if (!mode) return std::move(mode).error();
    vip.mode = *mode;
  }
  const Result<std::uint32_t> size =
      number_at(json, "table_size", "vip", kTableSizeDefault, kTableSizeMax);
  if (!size) return size.error();
  vip.table_size = *size;
  if (const auto backends = json.find("backends"); backends != json.end()) {
    if (!backends->is_array()) return unfit("vip.backends", *backends, "a list");
    for (std::size_t i = 0; i < backends->size(); ++i) {
      Result<Backend> backend = read_backend((*backends)[i], fmt::format("vip.backends[{}]", i));
      if (!backend) return std::move(backend).error();
      vip.backends.push_back(std::move(*backend));
    }
  }
  if (Result<void> valid = check_vip(vip); !valid) return std::move(valid).error();
  return vip;
}

Result<Json> parse_json(std::string_view text) {
  Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) return Error{ErrorCode::kInvalid, "the text is not valid JSON"};
  return json;
}

}  // namespace

std::string to_json(const Backend& backend) { return dump(json_of(backend)); }
std::string to_json(const Vip& vip) { return dump(json_of(vip)); }

std::string to_json(const Model& model) {
  Json json{{"version", 1}, {"node", file_json(model.node)}};
  json["vips"] = file_list(model.vips);
  json["gateways"] = file_list(model.gateways);
  json["services"] = Json::object();
  for (const Service& service : model.services)
    json["services"][service.name] = file_json(service);
  json["httpRoutes"] = file_list(model.http_routes);
  return dump(json);
}

Result<Backend> backend_from_json(std::string_view text) {
  const Result<Json> json = parse_json(text);
  return json ? read_backend(*json, "backend") : Result<Backend>{json.error()};
}

Result<Vip> vip_from_json(std::string_view text) {
  const Result<Json> json = parse_json(text);
  return json ? read_vip(*json) : Result<Vip>{json.error()};
}

Result<Model> model_from_json(std::string_view text) {
  // JSON is YAML, and the normal form has the configuration file's words: one reader checks both.
  ParseOutcome outcome = parse_config(text, "the saved model");
  if (!outcome.ok()) return Error{ErrorCode::kInvalid, outcome.diagnostics.front().text()};
  return std::move(outcome.model);
}

}  // namespace weir::control
