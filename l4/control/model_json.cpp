#include "l4/control/model_json.h"

#include "l4/control/config.h"
#include "l4/control/health_json.h"
#include "l4/control/json_text.h"
#include "l4/control/model_json_parts.h"
#include "l4/control/units.h"

namespace weir::control {
namespace {

using Json = FileJson;

// ---- writing: the configuration file's spelling of everything ----------------------------------

Json text_list(const auto& items) {
  Json list = Json::array();
  for (const auto& item : items)
    list.push_back(item.text());
  return list;
}

/// A number where it is one: that is how people write a port.
Json ports_json(const PortRange& ports) {
  return ports.is_exact() ? Json(ports.first.value()) : Json(ports_text(ports));
}

Json file_json(const NodeSettings& node) {
  Json json{{"interfaces", node.interfaces}, {"xdpMode", text_of(node.xdp_mode)}};
  if (!node.hash_seed.empty()) json["hashSeed"] = {{"text", node.hash_seed}};
  json["l7"] = {{"workers", node.l7.workers},
                {"addresses", text_list(node.l7.addresses)},
                {"gateways", text_list(node.l7.gateways)}};
  if (!node.l7.tunnel_sources.empty())
    json["l7"]["tunnelSources"] = text_list(node.l7.tunnel_sources);
  if (!node.block_list.empty()) json["sources"] = {{"deny", text_list(node.block_list)}};
  if (!node.zone.empty()) json["zone"] = node.zone;
  json["icmp"] = {{"echo", node.icmp.echo}, {"rate", fmt::format("{}/s", node.icmp.rate_per_s)}};
  json["l4"] = {{"flows", node.l4.flows_max},
                {"natFlows", node.l4.nat_flows_max},
                {"snatPorts", ports_json(node.l4.snat_ports)},
                {"snatAddresses", text_list(node.l4.snat_addresses)}};
  return json;
}

Json file_json(const SourceRules& sources) {
  Json json = Json::object();
  if (!sources.allow.empty()) json["allow"] = text_list(sources.allow);
  if (!sources.deny.empty()) json["deny"] = text_list(sources.deny);
  return json;
}

Json file_json(const VipLimits& limits) {
  Json json = Json::object();
  const auto add = [&](const char* key, std::uint32_t rate) {
    if (rate != 0) json[key] = fmt::format("{}/s", rate);
  };
  add("newFlowsPerSource", limits.new_flows_per_source);
  add("packetsPerSource", limits.packets_per_source);
  add("newFlows", limits.new_flows);
  add("packets", limits.packets);
  return json;
}

Json file_json(const Backend& backend) {
  Json json = Json::object();
  if (!backend.name.empty()) json["name"] = backend.name;
  json["address"] = backend.address.text();
  if (backend.port) json["port"] = backend.port->value();
  json["weight"] = backend.weight;
  json["state"] = text_of(backend.state);
  if (!backend.server_id.empty()) json["serverID"] = server_id_text(backend.server_id);
  return json;
}

Json forward_json(const Vip& vip) {
  Json json{{"mode", text_of(vip.mode)}};
  if (vip.mode == ForwardMode::kGue) json["port"] = vip.gue_port.value();
  if (vip.mode == ForwardMode::kNat) json["snat"] = text_of(vip.snat);
  return json;
}

Json file_json(const Vip& vip) {
  const VipKey key = vip.key();
  Json json{{"name", vip.name},
            {"address", key.is_single_address() ? key.address.text() : key.prefix().text()},
            {"port", ports_json(vip.ports)},
            {"protocol", vip.protocol == Protocol::kTcp ? "TCP" : "UDP"},
            {"forward", forward_json(vip)}};
  if (vip.table_size != 0) json["table"] = {{"size", vip.table_size}};
  if (!vip.sources.empty()) json["sources"] = file_json(vip.sources);
  if (vip.limits != VipLimits{}) json["limits"] = file_json(vip.limits);
  if (vip.mode == ForwardMode::kL7) return json;
  json["whenEmpty"] = text_of(vip.when_empty);
  json["hash"] = text_of(vip.hash);
  if (vip.affinity_timeout_s) {
    json["affinity"] = {{"clientIP", {{"timeout", fmt::format("{}s", *vip.affinity_timeout_s)}}}};
  }
  if (vip.quic.on()) {
    json["quic"] = {{"serverIDLength", vip.quic.server_id_bytes},
                    {"configRotation", vip.quic.config_rotation}};
  }
  if (vip.health) json["health"] = Json::parse(health_file_json(*vip.health));
  json["backends"] = Json::array();
  for (const Backend& backend : vip.backends)
    json["backends"].push_back(file_json(backend));
  return json;
}

std::string_view text_of(ListenerProtocol protocol) {
  switch (protocol) {
    case ListenerProtocol::kHttp:
      return "HTTP";
    case ListenerProtocol::kHttps:
      return "HTTPS";
    case ListenerProtocol::kTls:
      return "TLS";
  }
  return {};
}

Json file_json(const GatewayLimits& limits) {
  return {{"headerBytes", fmt::format("{}B", limits.header_bytes)},
          {"headerCount", limits.header_count},
          {"headerTimeout", fmt::format("{}ms", limits.header_timeout_ms)},
          {"bodyBytes", fmt::format("{}B", limits.body_bytes)},
          {"bodyTimeout", fmt::format("{}ms", limits.body_timeout_ms)},
          {"bodyMinRate", fmt::format("{}/s", limits.body_min_rate)},
          {"idleTimeout", fmt::format("{}ms", limits.idle_timeout_ms)},
          {"requestsPerConnection", limits.requests_per_connection},
          {"connectionAge", fmt::format("{}ms", limits.connection_age_ms)},
          {"connectionsPerSource", limits.connections_per_source},
          {"h2Streams", limits.h2_streams}};
}

Json file_json(const ForwardedTrust& trust) {
  Json json = Json::object();
  if (trust.hops != 0) json["trustedHops"] = trust.hops;
  if (!trust.proxies.empty()) json["trustedProxies"] = text_list(trust.proxies);
  const bool is_default = trust.field == ForwardedField::kXForwardedFor;
  json["field"] = is_default ? "X-Forwarded-For" : "Forwarded";
  return json;
}

Json file_json(const Listener& listener) {
  Json json{{"name", listener.name},
            {"port", listener.port.value()},
            {"protocol", text_of(listener.protocol)}};
  if (!listener.hostname.empty()) json["hostname"] = listener.hostname;
  if (listener.redirect_to) json["redirectTo"] = *listener.redirect_to;
  if (listener.limits) json["limits"] = file_json(*listener.limits);
  if (!listener.proxy_protocol_from.empty())
    json["proxyProtocol"] = {{"from", text_list(listener.proxy_protocol_from)}};
  if (!listener.error_pages.empty()) json["errorPages"] = file_json(listener.error_pages);
  if (listener.protocol == ListenerProtocol::kTls) json["tls"] = {{"mode", "Passthrough"}};
  if (listener.protocol != ListenerProtocol::kHttps) return json;
  Json refs = Json::array();
  for (const CertificateRef& ref : listener.certificates) {
    refs.push_back({{"file", ref.certificate_file}, {"key", ref.key_file}});
    if (!ref.ocsp_file.empty()) refs.back()["ocsp"] = ref.ocsp_file;
  }
  json["tls"] = {{"certificateRefs", std::move(refs)},
                 {"minVersion", listener.min_version == TlsVersion::kTls12 ? "1.2" : "1.3"}};
  const ClientValidation& validation = listener.client_validation;
  if (validation.mode != ClientCertificates::kNone)
    json["tls"]["clientValidation"] = {
        {"mode", validation.mode == ClientCertificates::kRequired ? "Required" : "Optional"},
        {"caRef", {{"file", validation.ca_file}}}};
  return json;
}

Json file_json(const AccessLogPolicy& log) {
  Json json{{"sample", share_text(log.sample)}};
  if (!log.format.empty()) json["format"] = log.format;
  if (log.always_status) json["always"]["minStatus"] = *log.always_status;
  if (log.always_duration_ms)
    json["always"]["minDuration"] = milliseconds_text(*log.always_duration_ms);
  return json;
}

Json file_json(const Gateway& gateway) {
  Json listeners = Json::array();
  for (const Listener& listener : gateway.listeners)
    listeners.push_back(file_json(listener));
  Json json{{"name", gateway.name},
            {"addresses", text_list(gateway.addresses)},
            {"listeners", std::move(listeners)},
            {"limits", file_json(gateway.limits)}};
  if (gateway.trace_context) json["tracing"] = "W3C";
  if (!gateway.error_pages.empty()) json["errorPages"] = file_json(gateway.error_pages);
  if (gateway.access_log != AccessLogPolicy{}) json["accessLog"] = file_json(gateway.access_log);
  if (gateway.forwarded != ForwardedTrust{}) json["forwarded"] = file_json(gateway.forwarded);
  return json;
}

Json file_json(const ServiceEndpoint& endpoint) {
  if (endpoint.weight == 1 && endpoint.zone.empty()) return endpoint.text();
  Json json{{"address", endpoint.text()}, {"weight", endpoint.weight}};
  if (!endpoint.zone.empty()) json["zone"] = endpoint.zone;
  return json;
}

const char* text_of(LoadBalancer policy) {
  switch (policy) {
    case LoadBalancer::kRoundRobin:
      return "RoundRobin";
    case LoadBalancer::kLeastRequest:
      return "LeastRequest";
    case LoadBalancer::kRandom:
      return "Random";
    case LoadBalancer::kRingHash:
      return "RingHash";
    case LoadBalancer::kMaglev:
      return "Maglev";
  }
  return "";
}

Json file_json(const Balancing& balancing) {
  const HashKey& key = balancing.hash_on;
  if (key == HashKey{}) return text_of(balancing.policy);
  Json on;
  switch (key.of) {
    case HashKey::Of::kSource:
      on = "source";
      break;
    case HashKey::Of::kPath:
      on = "path";
      break;
    case HashKey::Of::kHeader:
      on = {{"header", key.name}};
      break;
    case HashKey::Of::kCookie:
      on = {{"cookie", key.name}};
      break;
    case HashKey::Of::kQueryParam:
      on = {{"queryParam", key.name}};
      break;
  }
  return {{"policy", text_of(balancing.policy)}, {"hashOn", std::move(on)}};
}

Json file_json(const OutlierDetection& outlier) {
  return {{"consecutiveFailures", outlier.consecutive_failures},
          {"ejectionTime", milliseconds_text(outlier.ejection_time_ms)},
          {"maxEjectionPercent", outlier.max_ejection_percent}};
}

Json file_json(const ServiceLimits& limits) {
  return {{"connectionsPerEndpoint", limits.connections_per_endpoint},
          {"requestsPerEndpoint", limits.requests_per_endpoint},
          {"queue", limits.queue},
          {"queueTimeout", milliseconds_text(limits.queue_timeout_ms)},
          {"connectTimeout", milliseconds_text(limits.connect_timeout_ms)}};
}

Json file_json(const Service& service) {
  Json endpoints = Json::array();
  for (const ServiceEndpoint& endpoint : service.endpoints)
    endpoints.push_back(file_json(endpoint));
  Json json{{"endpoints", std::move(endpoints)}, {"loadBalancer", file_json(service.balancing)}};
  if (service.health) json["healthCheck"] = Json::parse(health_file_json(*service.health));
  if (service.outlier != OutlierDetection{}) json["outlierDetection"] = file_json(service.outlier);
  if (service.limits != ServiceLimits{}) json["limits"] = file_json(service.limits);
  if (service.proxy_protocol != ProxyProtocol::kNone)
    json["proxyProtocol"] = service.proxy_protocol == ProxyProtocol::kV1 ? "v1" : "v2";
  switch (service.protocol) {
    case ServiceProtocol::kHttp1:
      break;  // what every service speaks that does not say otherwise
    case ServiceProtocol::kH2:
      json["protocol"] = "h2";
      break;
    case ServiceProtocol::kH2c:
      json["protocol"] = "h2c";
      break;
  }
  if (!service.tls) return json;
  json["tls"] = Json::object();
  if (!service.tls->sni.empty()) json["tls"]["sni"] = service.tls->sni;
  if (!service.tls->ca_file.empty()) json["tls"]["caRef"] = {{"file", service.tls->ca_file}};
  const bool verifies = service.tls->verification == Verification::kFull;
  json["tls"]["verification"] = verifies ? "Full" : "Off";
  return json;
}

template <typename Items>
Json file_list(const Items& items) {
  Json list = Json::array();
  for (const auto& item : items)
    list.push_back(file_json(item));
  return list;
}

}  // namespace

std::string to_json(const Model& model) {
  Json json{{"version", 1}, {"node", file_json(model.node)}};
  json["vips"] = file_list(model.vips);
  json["gateways"] = file_list(model.gateways);
  json["services"] = Json::object();
  for (const Service& service : model.services)
    json["services"][service.name] = file_json(service);
  json["httpRoutes"] = file_list(model.http_routes);
  if (!model.tls_routes.empty()) json["tlsRoutes"] = file_list(model.tls_routes);
  return json_text(json);
}

Result<Model> model_from_json(std::string_view text) {
  // JSON is YAML, and the normal form has the configuration file's words: one reader checks both.
  // Lists of sources that were files stand within it, so that it may be larger than a file.
  constexpr std::size_t kModelBytesMax = 4 * kConfigBytesMax;
  ParseOutcome outcome = parse_config(text, "the saved model", kModelBytesMax);
  if (!outcome.ok()) return Error{ErrorCode::kInvalid, outcome.diagnostics.front().text()};
  return std::move(outcome.model);
}

}  // namespace weir::control
