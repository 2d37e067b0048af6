#include <algorithm>
#include <array>

#include "l4/control/config_parser.h"

namespace weir::control {
namespace {

constexpr std::uint32_t kTimeoutMaxMs = 24 * 3'600'000;

// How long lists may be: far beyond what one node serves, near enough that a check which compares
// each with each ends soon.
constexpr std::size_t kListenersMax = 64;
constexpr std::size_t kCertificatesMax = 16'384;
constexpr std::size_t kHostnamesMax = 256;
constexpr std::size_t kRulesMax = 1024;
constexpr std::size_t kMatchesMax = 256;
constexpr std::size_t kBackendRefsMax = 256;

constexpr std::array<Choice<ListenerProtocol>, 3> kListenerProtocols{
    {{"HTTP", ListenerProtocol::kHttp},
     {"HTTPS", ListenerProtocol::kHttps},
     {"TLS", ListenerProtocol::kTls}}};
enum class TlsMode { kTerminate, kPassthrough };
constexpr std::array<Choice<TlsMode>, 2> kTlsModes{
    {{"Terminate", TlsMode::kTerminate}, {"Passthrough", TlsMode::kPassthrough}}};
constexpr std::array<Choice<TlsVersion>, 2> kTlsVersions{
    {{"1.2", TlsVersion::kTls12}, {"1.3", TlsVersion::kTls13}}};
constexpr std::array<Choice<ClientCertificates>, 2> kClientCertificates{
    {{"Required", ClientCertificates::kRequired}, {"Optional", ClientCertificates::kOptional}}};
constexpr std::array<Choice<Verification>, 2> kVerifications{
    {{"Full", Verification::kFull}, {"Off", Verification::kOff}}};
constexpr std::array<Choice<LoadBalancer>, 2> kLoadBalancers{
    {{"RoundRobin", LoadBalancer::kRoundRobin}, {"LeastRequest", LoadBalancer::kLeastRequest}}};

}  // namespace

// ---- gateways -------------------------------------------------------------------------------

std::optional<Gateway> ConfigParser::parse_gateway(const YamlNode& node, std::size_t index) {
  Fields fields{reader_,
                node,
                owner_of("gateway", node, index),
                {{"name", "addresses", "listeners", "limits"}, {"policyRefs", "accessLog"}}};
  Gateway gateway;
  if (const YamlNode* name = fields.need("name", "a name that is unique among the gateways")) {
    gateway.name = reader_.name(*name, fields.label("name")).value_or("");
    claim_name("gateway", gateway.name, fields);
  }
  std::vector<Position> address_places;
  fields.need("addresses", "a list of the addresses that clients connect to");
  const auto read_address = [&](const YamlNode& item,
                                std::size_t) -> std::optional<wire::IpAddress> {
    const std::string what = "an address of " + fields.owner();
    const auto address = reader_.address(item, what);
    if (!address) return std::nullopt;
    if (std::ranges::find(gateway.addresses, *address) != gateway.addresses.end()) {
      reader_.report(item.at, fmt::format("{} is {} twice", what, address->text()),
                     "each address once");
      return std::nullopt;
    }
    source_.addresses.try_emplace(*address, item.at);
    l7_addresses_.push_back({item.at, what, *address, true});
    address_places.push_back(item.at);
    return address;
  };
  read_list(fields, "addresses", "addresses", kAddressesMax, read_address, gateway.addresses);
  fields.need("listeners", "a list of listeners");
  std::vector<const YamlNode*> listener_nodes;
  const auto read_listener = [&](const YamlNode& item, std::size_t i) {
    std::optional<Listener> listener = parse_listener(item, i, gateway.name, fields.owner());
    if (listener) listener_nodes.push_back(&item);
    return listener;
  };
  read_list(fields, "listeners", "listeners", kListenersMax, read_listener, gateway.listeners);
  for (const std::string_view key : {"addresses", "listeners"}) {
    const YamlNode* list = fields.find(key);
    if (list != nullptr && list->kind == YamlKind::kList && list->children.empty())
      reader_.report(list->at, fmt::format("{} is an empty list", fields.label(key)),
                     "at least one");
  }
  if (const YamlNode* limits = fields.find("limits"))
    parse_limits(*limits, fields.label("limits"), gateway.limits);
  check_listeners(gateway, listener_nodes);
  for (std::size_t i = 0; i < gateway.addresses.size(); ++i) {
    std::vector<wire::Port> done;
    for (const Listener& listener : gateway.listeners) {
      if (std::ranges::find(done, listener.port) != done.end()) continue;
      done.push_back(listener.port);
      claim_vip({gateway.addresses[i], PortRange::only(listener.port), Protocol::kTcp},
                fmt::format("listener '{}' of {}", listener.name, fields.owner()),
                address_places[i]);
    }
  }
  return gateway;
}

std::optional<Listener> ConfigParser::parse_listener(const YamlNode& node, std::size_t index,
                                                     const std::string& gateway,
                                                     const std::string& gateway_owner) {
  Fields fields{reader_,
                node,
                fmt::format("{} of {}", owner_of("listener", node, index), gateway_owner),
                {{"name", "port", "protocol", "hostname", "tls", "redirectTo"}, {"policyRefs"}}};
  Listener listener;
  if (const YamlNode* name = fields.need("name", "a name that is unique within the gateway"))
    listener.name = reader_.name(*name, fields.label("name")).value_or("");
  listeners_.emplace(gateway, listener.name);
  if (const YamlNode* hostname = fields.find("hostname"))
    listener.hostname = reader_.hostname(*hostname, fields.label("hostname")).value_or("");
  if (const YamlNode* target = fields.find("redirectTo"))
    listener.redirect_to = reader_.name(*target, fields.label("redirectTo"));
  const YamlNode* port_node = fields.need("port", "a number from 1 to 65535");
  const auto port =
      port_node != nullptr ? reader_.port(*port_node, fields.label("port")) : std::nullopt;
  const YamlNode* protocol_node = fields.need("protocol", "HTTP, HTTPS or TLS");
  const auto protocol = protocol_node != nullptr ? reader_.choice<ListenerProtocol>(
                                                       *protocol_node, fields.label("protocol"),
                                                       kListenerProtocols, {"TCP", "UDP"})
                                                 : std::nullopt;
  const YamlNode* tls = fields.find("tls");
  if (tls != nullptr && protocol == ListenerProtocol::kTls)
    parse_passthrough(*tls, fields.label("tls"));
  else if (tls != nullptr)
    parse_tls(*tls, fields.label("tls"), listener);
  if (protocol == ListenerProtocol::kTls && tls == nullptr)
    reader_.report(fields.at(), fmt::format("{} speaks TLS but has no tls", fields.owner()),
                   "tls: {mode: Passthrough}, or protocol HTTPS with a certificate");
  if (protocol == ListenerProtocol::kHttp && tls != nullptr) {
    reader_.report(tls->at, fmt::format("{} speaks HTTP but has tls", fields.owner()),
                   "protocol HTTPS, or no tls");
  }
  if (protocol == ListenerProtocol::kHttps && tls == nullptr) {
    reader_.report(fields.at(),
                   fmt::format("{} speaks HTTPS but has no certificate", fields.owner()),
                   "tls: {certificateRefs: [{file: cert.pem}]}");
  }
  if (!port || !protocol) return std::nullopt;
  listener.port = *port;
  listener.protocol = *protocol;
  return listener;
}

void ConfigParser::parse_tls(const YamlNode& node, const std::string& owner, Listener& listener) {
  Fields fields{reader_,
                node,
                owner,
                {{"certificateRefs", "minVersion", "clientValidation", "mode"},
                 {"alpn", "cipherSuites", "acme"}}};
  if (const YamlNode* mode = fields.find("mode")) {
    const auto word = reader_.choice<TlsMode>(*mode, fields.label("mode"), kTlsModes);
    if (word == TlsMode::kPassthrough)
      reader_.report(mode->at,
                     fmt::format("{} is 'Passthrough' beside protocol HTTPS", fields.label("mode")),
                     "protocol TLS, or mode Terminate");
  }
  if (const YamlNode* version = fields.find("minVersion")) {
    listener.min_version =
        reader_.choice<TlsVersion>(*version, fields.label("minVersion"), kTlsVersions)
            .value_or(TlsVersion::kTls12);
  }
  if (const YamlNode* validation = fields.find("clientValidation"))
    listener.client_validation =
        parse_client_validation(*validation, fields.label("clientValidation"));
  const YamlNode* refs = fields.need("certificateRefs", "a list such as [{file: cert.pem}]");
  read_list(
      fields, "certificateRefs", "certificates", kCertificatesMax,
      [&](const YamlNode& item, std::size_t i) {
        return parse_certificate(item, fmt::format("certificate {} of {}", i + 1, owner));
      },
      listener.certificates);
  if (refs != nullptr && refs->kind == YamlKind::kList && refs->children.empty())
    reader_.report(refs->at, fmt::format("{} is an empty list", fields.label("certificateRefs")),
                   "at least one certificate");
}

void ConfigParser::parse_passthrough(const YamlNode& node, const std::string& owner) {
  Fields fields{reader_, node, owner, {{"mode"}, {}}};
  const YamlNode* mode = fields.need("mode", "'mode: Passthrough'");
  if (mode == nullptr) return;
  const auto word = reader_.choice<TlsMode>(*mode, fields.label("mode"), kTlsModes);
  if (word == TlsMode::kTerminate)
    reader_.report(mode->at,
                   fmt::format("{} is 'Terminate' beside protocol TLS", fields.label("mode")),
                   "mode Passthrough, or protocol HTTPS");
}

std::optional<CertificateRef> ConfigParser::parse_certificate(const YamlNode& node,
                                                              const std::string& owner) {
  Fields fields{reader_, node, owner, {{"file", "key", "ocsp"}, {"name", "kind", "group"}}};
  const YamlNode* file = fields.need("file", "a PEM file with the certificate chain");
  if (file == nullptr) return std::nullopt;
  const auto certificate = readable_file(*file, fields.label("file"));
  const YamlNode* key = fields.find("key");
  const auto key_file = key != nullptr ? readable_file(*key, fields.label("key")) : certificate;
  const YamlNode* ocsp = fields.find("ocsp");
  const auto ocsp_file =
      ocsp != nullptr ? readable_file(*ocsp, fields.label("ocsp")) : std::string{};
  if (!certificate || !key_file || !ocsp_file) return std::nullopt;
  return CertificateRef{*certificate, *key_file, *ocsp_file};
}

ClientValidation ConfigParser::parse_client_validation(const YamlNode& node,
                                                       const std::string& owner) {
  Fields fields{reader_, node, owner, {{"mode", "caRef"}, {"crlRef", "identityHeader"}}};
  ClientValidation validation{.mode = ClientCertificates::kRequired};
  if (const YamlNode* mode = fields.find("mode"))
    validation.mode =
        reader_.choice<ClientCertificates>(*mode, fields.label("mode"), kClientCertificates)
            .value_or(ClientCertificates::kRequired);
  fields.need("caRef", "{file: ca.pem}, with the authorities that clients' certificates are from");
  validation.ca_file = parse_ca_ref(fields).value_or("");
  return validation;
}

std::optional<std::string> ConfigParser::parse_ca_ref(const Fields& fields) {
  const YamlNode* ref = fields.find("caRef");
  if (ref == nullptr) return std::nullopt;
  Fields inner{reader_, *ref, fields.label("caRef"), {{"file"}, {"name", "kind", "group"}}};
  const YamlNode* file = inner.need("file", "a PEM file with the certificates of authorities");
  return file != nullptr ? readable_file(*file, inner.label("file")) : std::nullopt;
}

void ConfigParser::parse_limits(const YamlNode& node, const std::string& owner,
                                GatewayLimits& limits) {
  constexpr std::uint64_t kMi = 1024 * 1024;
  Fields fields{reader_,
                node,
                owner,
                {{"headerBytes", "headerTimeout", "bodyBytes", "idleTimeout"}, {"h2Streams"}}};
  if (const YamlNode* value = fields.find("headerBytes")) {
    limits.header_bytes =
        static_cast<std::uint32_t>(reader_.bytes(*value, fields.label("headerBytes"), 1024, kMi)
                                       .value_or(limits.header_bytes));
  }
  if (const YamlNode* value = fields.find("headerTimeout")) {
    limits.header_timeout_ms =
        reader_.duration_ms(*value, fields.label("headerTimeout"), 100, 600'000)
            .value_or(limits.header_timeout_ms);
  }
  if (const YamlNode* value = fields.find("bodyBytes")) {
    limits.body_bytes = reader_.bytes(*value, fields.label("bodyBytes"), 0, 1024 * 1024 * kMi)
                            .value_or(limits.body_bytes);
  }
  if (const YamlNode* value = fields.find("idleTimeout")) {
    limits.idle_timeout_ms =
        reader_.duration_ms(*value, fields.label("idleTimeout"), 1000, kTimeoutMaxMs)
            .value_or(limits.idle_timeout_ms);
  }
}

/// Names, ports and redirects between the listeners of one gateway; `nodes` has their places.
void ConfigParser::check_listeners(const Gateway& gateway,
                                   const std::vector<const YamlNode*>& nodes) {
  for (std::size_t i = 0; i < gateway.listeners.size(); ++i) {
    const Listener& listener = gateway.listeners[i];
    const Position at = nodes[i]->at;
    const std::string owner =
        fmt::format("listener '{}' of gateway '{}'", listener.name, gateway.name);
    for (std::size_t j = 0; j < i; ++j) {
      const Listener& other = gateway.listeners[j];
      if (other.name == listener.name)
        reader_.report(
            at, fmt::format("{} has the name of another in line {}", owner, nodes[j]->at.line),
            "names that differ");
      if (other.port != listener.port) continue;
      if (other.protocol != listener.protocol) {
        reader_.report(at,
                       fmt::format("{} is on port {} with another protocol than listener '{}'",
                                   owner, listener.port.value(), other.name),
                       "one protocol per port");
      } else if (other.hostname == listener.hostname) {
        reader_.report(at,
                       fmt::format("{} has port {} and hostname '{}', as listener '{}' has", owner,
                                   listener.port.value(), listener.hostname, other.name),
                       "a port or a hostname of its own");
      }
    }
    if (!listener.redirect_to) continue;
    const auto target =
        std::ranges::find(gateway.listeners, *listener.redirect_to, &Listener::name);
    const bool target_has_faults = target == gateway.listeners.end() &&
                                   listeners_.contains({gateway.name, *listener.redirect_to});
    if (target_has_faults) continue;
    if (target == gateway.listeners.end() || target->protocol != ListenerProtocol::kHttps ||
        listener.protocol != ListenerProtocol::kHttp) {
      reader_.report(at, fmt::format("{} redirects to '{}'", owner, *listener.redirect_to),
                     "from an HTTP listener to an HTTPS listener of the same gateway");
    }
  }
}

// ---- services and routes --------------------------------------------------------------------

std::optional<Service> ConfigParser::parse_service(const MapEntry& entry) {
  const std::string owner = fmt::format("service '{}'", entry.key);
  Service service;
  service.name = entry.key;
  reader_.accept(entry.at, "a service's name", object_to_name(entry.key));
  Fields fields{reader_,
                *entry.value,
                owner,
                {{"endpoints", "loadBalancer", "tls"},
                 {"healthCheck", "protocol", "kubernetes", "outlier", "limits"}}};
  if (const YamlNode* tls = fields.find("tls"))
    service.tls = parse_upstream_tls(*tls, fields.label("tls"));
  if (const YamlNode* balancer = fields.find("loadBalancer")) {
    service.load_balancer =
        reader_
            .choice<LoadBalancer>(*balancer, fields.label("loadBalancer"), kLoadBalancers,
                                  {"Maglev", "Random", "RingHash"})
            .value_or(LoadBalancer::kRoundRobin);
  }
  const YamlNode* list = fields.need("endpoints", "a list such as [\"10.0.0.11:8080\"]");
  const auto read_endpoint = [&](const YamlNode& item,
                                 std::size_t) -> std::optional<wire::Endpoint> {
    const std::string what = "an endpoint of " + owner;
    constexpr std::string_view kForm =
        "ADDRESS:PORT in quotes, such as \"192.0.2.1:80\" or \"[2001:db8::1]:80\"";
    const std::optional<std::string> text = reader_.text(item, what, kForm);
    if (!text) return std::nullopt;
    const Result<wire::Endpoint> endpoint = wire::Endpoint::parse(*text);
    if (!endpoint) {
      reader_.report(item.at, fmt::format("{} is {}", what, found_text(item)), std::string{kForm});
      return std::nullopt;
    }
    if (!reader_.accept(item.at, what, object_to_address(endpoint->address))) return std::nullopt;
    if (std::ranges::find(service.endpoints, *endpoint) != service.endpoints.end()) {
      reader_.report(item.at, fmt::format("{} is {} twice", what, endpoint->text()),
                     "each endpoint once");
      return std::nullopt;
    }
    l7_addresses_.push_back({item.at, what, endpoint->address, false});
    return *endpoint;
  };
  read_list(fields, "endpoints", "endpoints", kBackendsPerVipMax, read_endpoint, service.endpoints);
  if (list != nullptr && list->kind == YamlKind::kList && list->children.empty())
    reader_.report(list->at, fmt::format("{} is an empty list", fields.label("endpoints")),
                   "at least one endpoint");
  return service;
}

UpstreamTls ConfigParser::parse_upstream_tls(const YamlNode& node, const std::string& owner) {
  Fields fields{
      reader_, node, owner, {{"sni", "caRef", "verification"}, {"certificateRef", "minVersion"}}};
  UpstreamTls tls;
  if (const YamlNode* sni = fields.find("sni")) {
    tls.sni = reader_.hostname(*sni, fields.label("sni")).value_or("");
    if (tls.sni.starts_with('*')) {
      reader_.report(sni->at, fmt::format("{} is '{}'", fields.label("sni"), tls.sni),
                     "one name that the endpoints' certificate is for");
    }
  }
  tls.ca_file = parse_ca_ref(fields).value_or("");
  if (const YamlNode* node_of_choice = fields.find("verification")) {
    const std::string label = fields.label("verification");
    tls.verification = reader_.choice<Verification>(*node_of_choice, label, kVerifications)
                           .value_or(Verification::kFull);
    if (tls.verification == Verification::kOff && !tls.ca_file.empty())
      reader_.report(node_of_choice->at, fmt::format("{} is 'Off' beside a caRef", label),
                     "one of them: without verification no authority is asked");
    else if (tls.verification == Verification::kOff)
      reader_.warn(node_of_choice->at,
                   fmt::format("{} is 'Off': anybody between here and the endpoints can read and "
                               "change what is said",
                               label),
                   "Full, with a caRef when the authority is not a public one");
  }
  return tls;
}

std::optional<HttpRoute> ConfigParser::parse_route(const YamlNode& node, std::size_t index) {
  Fields fields{reader_,
                node,
                owner_of("httpRoute", node, index),
                {{"name", "parentRefs", "hostnames", "rules"}, {"policyRefs"}}};
  HttpRoute route;
  if (const YamlNode* name = fields.need("name", "a name that is unique among the routes")) {
    route.name = reader_.name(*name, fields.label("name")).value_or("");
    claim_name("httpRoute", route.name, fields);
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
  for (const std::string_view key : {"parentRefs", "rules"}) {
    const YamlNode* list = fields.find(key);
    if (list != nullptr && list->kind == YamlKind::kList && list->children.empty())
      reader_.report(list->at, fmt::format("{} is an empty list", fields.label(key)),
                     "at least one");
  }
  return route;
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
    claim_name("tlsRoute", route.name, fields);
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
  fields.need("rules", "one rule: [{backendRefs: [{name: cart}]}]");
  std::vector<std::vector<BackendRef>> rules;
  read_list(
      fields, "rules", "rules", 1,
      [&](const YamlNode& item, std::size_t i) -> std::optional<std::vector<BackendRef>> {
        Fields rule{reader_,
                    item,
                    fmt::format("{} of {}", owner_of("rule", item, i), fields.owner()),
                    {{"backendRefs"}, {}}};
        rule.need("backendRefs", "the services: [{name: cart}]");
        read_list(
            rule, "backendRefs", "services", kBackendRefsMax,
            [&](const YamlNode& ref, std::size_t) { return parse_backend_ref(ref, rule.owner()); },
            route.backends);
        return route.backends;
      },
      rules);
  for (std::size_t i = gateways_before; i < gateway_references_.size(); ++i)
    gateway_references_[i].of_tls_route = true;
  for (std::size_t i = services_before; i < service_references_.size(); ++i)
    service_references_[i].of_tls_route = true;
  const bool all_zero = std::ranges::all_of(
      route.backends, [](const BackendRef& backend) { return backend.weight == 0; });
  const YamlNode* list = fields.find("rules");
  if (list != nullptr && list->kind == YamlKind::kList && all_zero)
    reader_.report(list->at,
                   fmt::format("{} has no backendRef that takes connections", fields.owner()),
                   "at least one with a weight above 0");
  return route;
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
  Fields fields{reader_,
                node,
                fmt::format("{} of {}", owner_of("rule", node, index), route),
                {{"name", "matches", "timeouts", "backendRefs"},
                 {"retry", "policyRefs", "aggregate", "canary", "mirror", "redirect", "rewrite",
                  "headers", "filters"}}};
  RouteRule rule;
  if (const YamlNode* name = fields.find("name"))
    rule.name = reader_.name(*name, fields.label("name")).value_or("");
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
  const YamlNode* refs = fields.need("backendRefs", "the services: [{name: cart}]");
  read_list(
      fields, "backendRefs", "services", kBackendRefsMax,
      [&](const YamlNode& item, std::size_t) { return parse_backend_ref(item, owner); },
      rule.backends);
  const bool all_zero = std::ranges::all_of(
      rule.backends, [](const BackendRef& backend) { return backend.weight == 0; });
  if (refs != nullptr && refs->kind == YamlKind::kList && all_zero &&
      rule.backends.size() == refs->children.size()) {
    reader_.report(refs->at, fmt::format("{} has no backendRef that takes requests", owner),
                   "at least one with a weight above 0");
  }
  return rule;
}

std::optional<RouteMatch> ConfigParser::parse_match(const YamlNode& node,
                                                    const std::string& owner) {
  Fields fields{reader_, node, owner, {{"path", "method", "headers"}, {"queryParams"}}};
  RouteMatch match;
  if (const YamlNode* path = fields.find("path")) parse_path(*path, fields.label("path"), match);
  if (const YamlNode* method = fields.find("method")) {
    const auto text = reader_.text(*method, fields.label("method"), "a method such as GET");
    if (text && reader_.accept(method->at, fields.label("method"), object_to_method(*text)))
      match.method = *text;
  }
  if (const YamlNode* headers = fields.find("headers"))
    parse_header_matches(*headers, fields.label("headers"), match);
  return match;
}

void ConfigParser::parse_path(const YamlNode& node, const std::string& owner, RouteMatch& match) {
  Fields fields{reader_, node, owner, {{"prefix", "exact"}, {"regex"}}};
  const YamlNode* prefix = fields.find("prefix");
  const YamlNode* exact = fields.find("exact");
  if (node.kind != YamlKind::kMap) return;
  // Other keys have been reported already.
  if (prefix == nullptr && exact == nullptr && !node.children.empty()) return;
  if ((prefix == nullptr) == (exact == nullptr)) {
    reader_.report(node.at, fmt::format("{} must have one of prefix and exact", owner),
                   "'{prefix: /cart}' or '{exact: /cart}'");
    return;
  }
  const YamlNode& value = prefix != nullptr ? *prefix : *exact;
  const std::string what = fields.label(prefix != nullptr ? "prefix" : "exact");
  std::optional<std::string> path = reader_.text(value, what, "a path such as /cart");
  if (!path || !reader_.accept(value.at, what, object_to_path(*path))) return;
  match.path_kind = prefix != nullptr ? PathMatchKind::kPrefix : PathMatchKind::kExact;
  // Prefixes are compared by segments: /cart/ means what /cart means.
  if (prefix != nullptr && path->size() > 1 && path->ends_with('/')) path->pop_back();
  match.path = std::move(*path);
}

void ConfigParser::parse_header_matches(const YamlNode& node, const std::string& owner,
                                        RouteMatch& match) {
  for (const MapEntry& entry :
       entries_of(reader_, node, owner, "a map such as {x-canary: \"yes\"}")) {
    if (!reader_.accept(entry.at, "a header in " + owner, object_to_header_name(entry.key)))
      continue;
    const std::string name = lower_case(entry.key);
    const std::string what = fmt::format("header '{}' in {}", name, owner);
    const auto value = reader_.text(*entry.value, what, "the value to compare with");
    if (!value || !reader_.accept(entry.value->at, what, object_to_header_value(*value))) continue;
    if (std::ranges::find(match.headers, name, &HeaderMatch::name) != match.headers.end()) {
      reader_.report(entry.at, fmt::format("{} appears twice", what), "each header once");
      continue;
    }
    match.headers.push_back({name, *value});
  }
}

void ConfigParser::parse_timeouts(const YamlNode& node, const std::string& owner,
                                  RouteTimeouts& timeouts) {
  Fields fields{reader_, node, owner, {{"request", "backendRequest"}}};
  if (const YamlNode* value = fields.find("request")) {
    timeouts.request_ms =
        reader_.duration_ms(*value, fields.label("request"), 0, kTimeoutMaxMs).value_or(0);
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
