#include <algorithm>
#include <array>

#include "l4/control/config_parser.h"

namespace weir::control {
namespace {

// How long lists may be: far beyond what one node serves, near enough that a check which compares
// each with each ends soon.
constexpr std::size_t kListenersMax = 64;
constexpr std::size_t kCertificatesMax = 16'384;

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

constexpr std::array<Choice<bool>, 2> kTracing{{{"W3C", true}, {"Off", false}}};

}  // namespace

// ---- gateways -------------------------------------------------------------------------------

std::optional<Gateway> ConfigParser::parse_gateway(const YamlNode& node, std::size_t index) {
  Fields fields{reader_,
                node,
                owner_of("gateway", node, index),
                {{"name", "addresses", "listeners", "limits", "forwarded", "tracing", "errorPages",
                  "accessLog"},
                 {"policyRefs"}}};
  Gateway gateway;
  // Before the listeners, whose own limits stand beside these.
  if (const YamlNode* limits = fields.find("limits"))
    parse_limits(*limits, fields.label("limits"), gateway.limits);
  if (const YamlNode* tracing = fields.find("tracing"))
    gateway.trace_context =
        reader_.choice<bool>(*tracing, fields.label("tracing"), kTracing).value_or(false);
  gateway.error_pages = parse_error_pages(fields);
  if (const YamlNode* log = fields.find("accessLog"))
    gateway.access_log = parse_access_log(*log, fields.label("accessLog"));
  if (const YamlNode* forwarded = fields.find("forwarded"))
    gateway.forwarded = parse_forwarded(*forwarded, fields.label("forwarded"));
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
    std::optional<Listener> listener = parse_listener(item, i, gateway, fields.owner());
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
                                                     const Gateway& gateway,
                                                     const std::string& gateway_owner) {
  Fields fields{reader_,
                node,
                fmt::format("{} of {}", owner_of("listener", node, index), gateway_owner),
                {{"name", "port", "protocol", "hostname", "tls", "redirectTo", "limits",
                  "proxyProtocol", "errorPages"},
                 {"policyRefs"}}};
  Listener listener;
  if (const YamlNode* name = fields.need("name", "a name that is unique within the gateway"))
    listener.name = reader_.name(*name, fields.label("name")).value_or("");
  listeners_.emplace(gateway.name, listener.name);
  if (const YamlNode* hostname = fields.find("hostname"))
    listener.hostname = reader_.hostname(*hostname, fields.label("hostname")).value_or("");
  if (const YamlNode* target = fields.find("redirectTo"))
    listener.redirect_to = reader_.name(*target, fields.label("redirectTo"));
  if (const YamlNode* limits = fields.find("limits")) {
    GatewayLimits own = gateway.limits;
    parse_limits(*limits, fields.label("limits"), own);
    if (own != gateway.limits) listener.limits = own;
  }
  listener.error_pages = parse_error_pages(fields);
  if (const YamlNode* proxies = fields.find("proxyProtocol"))
    listener.proxy_protocol_from = parse_proxy_peers(*proxies, fields.label("proxyProtocol"));
  const YamlNode* port_node = fields.need("port", "a number from 1 to 65535");
  const auto port =
      port_node != nullptr ? reader_.port(*port_node, fields.label("port")) : std::nullopt;
  const YamlNode* protocol_node = fields.need("protocol", "HTTP, HTTPS or TLS");
  if (protocol_node == nullptr) return std::nullopt;
  const auto protocol = reader_.choice<ListenerProtocol>(*protocol_node, fields.label("protocol"),
                                                         kListenerProtocols, {"TCP", "UDP"});
  if (!protocol) return std::nullopt;
  listener.protocol = *protocol;
  parse_listener_tls(fields, listener);
  if (!port) return std::nullopt;
  listener.port = *port;
  return listener;
}

void ConfigParser::parse_listener_tls(const Fields& fields, Listener& listener) {
  const YamlNode* tls = fields.find("tls");
  switch (listener.protocol) {
    case ListenerProtocol::kHttp:
      if (tls != nullptr)
        reader_.report(tls->at, fmt::format("{} speaks HTTP but has tls", fields.owner()),
                       "protocol HTTPS, or no tls");
      return;
    case ListenerProtocol::kHttps:
      if (tls != nullptr)
        parse_tls(*tls, fields.label("tls"), listener);
      else
        reader_.report(fields.at(),
                       fmt::format("{} speaks HTTPS but has no certificate", fields.owner()),
                       "tls: {certificateRefs: [{file: cert.pem}]}");
      return;
    case ListenerProtocol::kTls:
      if (tls != nullptr)
        parse_passthrough(*tls, fields.label("tls"));
      else
        reader_.report(fields.at(), fmt::format("{} speaks TLS but has no tls", fields.owner()),
                       "tls: {mode: Passthrough}, or protocol HTTPS with a certificate");
      return;
  }
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
      } else if (other.proxy_protocol_from != listener.proxy_protocol_from) {
        reader_.report(at,
                       fmt::format("{} is on port {} with another proxyProtocol than listener '{}'",
                                   owner, listener.port.value(), other.name),
                       "the same proxies for all listeners of a port: they speak before the host "
                       "is known");
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

}  // namespace weir::control
