#include <algorithm>
#include <array>

#include "l4/control/config_parser.h"

/// The section `services`: who answers requests, and what is known and asked of them.
namespace weir::control {
namespace {

constexpr std::uint32_t kPerEndpointMax = 1'000'000;
constexpr std::uint32_t kQueueMax = 100'000;
constexpr std::size_t kZoneBytesMax = 63;

constexpr std::array<Choice<Verification>, 2> kVerifications{
    {{"Full", Verification::kFull}, {"Off", Verification::kOff}}};
constexpr std::array<Choice<ServiceProtocol>, 3> kServiceProtocols{
    {{"http/1.1", ServiceProtocol::kHttp1},
     {"h2", ServiceProtocol::kH2},
     {"h2c", ServiceProtocol::kH2c}}};
constexpr std::array<Choice<LoadBalancer>, 5> kLoadBalancers{
    {{"RoundRobin", LoadBalancer::kRoundRobin},
     {"LeastRequest", LoadBalancer::kLeastRequest},
     {"Random", LoadBalancer::kRandom},
     {"RingHash", LoadBalancer::kRingHash},
     {"Maglev", LoadBalancer::kMaglev}}};
constexpr std::array<Choice<HashKey::Of>, 2> kHashWords{
    {{"source", HashKey::Of::kSource}, {"path", HashKey::Of::kPath}}};
constexpr std::array<Choice<HashKey::Of>, 3> kHashValues{
    {{"header", HashKey::Of::kHeader},
     {"cookie", HashKey::Of::kCookie},
     {"queryParam", HashKey::Of::kQueryParam}}};
constexpr std::string_view kEndpointForm =
    "ADDRESS:PORT or NAME:PORT in quotes, such as \"192.0.2.1:80\", \"[2001:db8::1]:80\" or "
    "\"orders.internal:80\"";

/// "orders.internal:80". Whether the name is one is not looked at.
std::optional<ServiceEndpoint> split_name(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return std::nullopt;
  const std::string name = lower_case(text.substr(0, colon));
  // Brackets and colons are of an IPv6 address, and digits alone of an IPv4 address.
  if (name.find_first_of("[]:") != std::string::npos ||
      name.find_first_not_of("0123456789.") == std::string::npos)
    return std::nullopt;
  const auto port = wire::Endpoint::parse(fmt::format("192.0.2.1{}", text.substr(colon)));
  if (!port) return std::nullopt;
  return ServiceEndpoint{.endpoint = {{}, port->port}, .hostname = name};
}

}  // namespace

std::optional<Service> ConfigParser::parse_service(const MapEntry& entry) {
  const std::string owner = fmt::format("service '{}'", entry.key);
  Service service;
  service.name = entry.key;
  reader_.accept(entry.at, "a service's name", object_to_name(entry.key));
  Fields fields{reader_,
                *entry.value,
                owner,
                {{"endpoints", "loadBalancer", "tls", "protocol", "proxyProtocol", "healthCheck",
                  "outlierDetection", "limits"},
                 {"kubernetes"},
                 {{"dns", "is not needed: an endpoint may be NAME:PORT"}}}};
  if (const YamlNode* tls = fields.find("tls"))
    service.tls = parse_upstream_tls(*tls, fields.label("tls"));
  if (const YamlNode* protocol = fields.find("protocol"))
    service.protocol = parse_service_protocol(*protocol, fields.label("protocol"), service);
  if (const YamlNode* version = fields.find("proxyProtocol"))
    service.proxy_protocol =
        parse_proxy_version(*version, fields.label("proxyProtocol"), service.protocol);
  if (const YamlNode* balancer = fields.find("loadBalancer"))
    service.balancing = parse_balancing(*balancer, fields.label("loadBalancer"));
  if (const YamlNode* check = fields.find("healthCheck"))
    service.health = parse_service_health(*check, fields.label("healthCheck"), service);
  if (const YamlNode* outlier = fields.find("outlierDetection"))
    service.outlier = parse_outlier(*outlier, fields.label("outlierDetection"));
  if (const YamlNode* limits = fields.find("limits"))
    service.limits = parse_service_limits(*limits, fields.label("limits"));
  parse_endpoints(fields, service);
  return service;
}

void ConfigParser::parse_endpoints(Fields& fields, Service& service) {
  const YamlNode* list = fields.need("endpoints", "a list such as [\"10.0.0.11:8080\"]");
  read_list(
      fields, "endpoints", "endpoints", kBackendsPerVipMax,
      [&](const YamlNode& item, std::size_t) {
        return parse_endpoint(item, "an endpoint of " + fields.owner(), service);
      },
      service.endpoints);
  if (list == nullptr || list->kind != YamlKind::kList) return;
  const bool none =
      std::ranges::all_of(service.endpoints, [](const auto& e) { return e.weight == 0; });
  if (list->children.empty())
    reader_.report(list->at, fmt::format("{} is an empty list", fields.label("endpoints")),
                   "at least one endpoint");
  else if (none && service.endpoints.size() == list->children.size())
    reader_.report(list->at, fmt::format("{} all have weight 0", fields.label("endpoints")),
                   "at least one that takes requests");
}

std::optional<ServiceEndpoint> ConfigParser::parse_endpoint(const YamlNode& node,
                                                            const std::string& what,
                                                            const Service& service) {
  ServiceEndpoint endpoint;
  const YamlNode* address = &node;
  if (node.kind == YamlKind::kMap) {
    Fields fields{reader_, node, what, {{"address", "weight", "zone"}}};
    address = fields.need("address", std::string{kEndpointForm});
    if (address == nullptr) return std::nullopt;
    if (const YamlNode* weight = fields.find("weight"))
      endpoint.weight = static_cast<std::uint32_t>(
          reader_.number(*weight, fields.label("weight"), 0, kWeightMax).value_or(1));
    if (const YamlNode* zone = fields.find("zone"))
      endpoint.zone = parse_zone(*zone, fields.label("zone"));
  }
  if (!read_place(*address, what, endpoint)) return std::nullopt;
  const auto same = [&](const ServiceEndpoint& other) {
    return other.endpoint == endpoint.endpoint && other.hostname == endpoint.hostname;
  };
  if (std::ranges::any_of(service.endpoints, same)) {
    reader_.report(address->at, fmt::format("{} is {} twice", what, endpoint.text()),
                   "each endpoint once");
    return std::nullopt;
  }
  return endpoint;
}

/// An address or a name with its port, the rest of the endpoint aside.
bool ConfigParser::read_place(const YamlNode& node, const std::string& what,
                              ServiceEndpoint& endpoint) {
  const std::optional<std::string> text = reader_.text(node, what, kEndpointForm);
  if (!text) return false;
  if (const Result<wire::Endpoint> parsed = wire::Endpoint::parse(*text)) {
    if (!reader_.accept(node.at, what, object_to_address(parsed->address))) return false;
    l7_addresses_.push_back({node.at, what, parsed->address, false});
    endpoint.endpoint = *parsed;
    return true;
  }
  const std::optional<ServiceEndpoint> named = split_name(*text);
  if (!named) {
    reader_.report(node.at, fmt::format("{} is {}", what, found_text(node)),
                   std::string{kEndpointForm});
    return false;
  }
  if (!reader_.accept(node.at, what, object_to_endpoint_name(named->hostname))) return false;
  endpoint.endpoint = named->endpoint;
  endpoint.hostname = named->hostname;
  if (endpoint_names_.empty()) first_endpoint_name_ = {what, node.at};
  const bool is_new = endpoint_names_.insert(named->hostname).second;
  if (is_new && endpoint_names_.size() == kEndpointNamesMax + 1)
    reader_.report(node.at, fmt::format("{} is {}, one name too many of all services", what, *text),
                   fmt::format("at most {} different names", kEndpointNamesMax));
  return true;
}

std::string ConfigParser::parse_zone(const YamlNode& node, const std::string& what) {
  const auto text = reader_.text(node, what, "a zone's name, such as rack-7");
  if (text && !text->empty() && text->size() <= kZoneBytesMax) return *text;
  if (text)
    reader_.report(node.at, fmt::format("{} has {} bytes", what, text->size()),
                   fmt::format("1 to {}", kZoneBytesMax));
  return {};
}

/// A policy's name, or {policy: Maglev, hashOn: source}.
Balancing ConfigParser::parse_balancing(const YamlNode& node, const std::string& owner) {
  Balancing balancing;
  const YamlNode* policy = &node;
  const YamlNode* hash_on = nullptr;
  if (node.kind == YamlKind::kMap) {
    Fields fields{reader_, node, owner, {{"policy", "hashOn"}}};
    policy = fields.need("policy", "a policy such as Maglev");
    hash_on = fields.find("hashOn");
    if (policy == nullptr) return balancing;
  }
  balancing.policy =
      reader_.choice<LoadBalancer>(*policy, owner, kLoadBalancers).value_or(balancing.policy);
  if (hash_on == nullptr) return balancing;
  const std::string label = fmt::format("hashOn of {}", owner);
  balancing.hash_on = parse_hash_key(*hash_on, label);
  const bool hashes =
      balancing.policy == LoadBalancer::kMaglev || balancing.policy == LoadBalancer::kRingHash;
  if (!hashes)
    reader_.report(hash_on->at, fmt::format("{} is given, and the policy does not hash", label),
                   "policy RingHash or Maglev, or no hashOn");
  return balancing;
}

HashKey ConfigParser::parse_hash_key(const YamlNode& node, const std::string& owner) {
  HashKey key;
  if (node.kind != YamlKind::kMap) {
    key.of = reader_.choice<HashKey::Of>(node, owner, kHashWords).value_or(key.of);
    return key;
  }
  const Fields fields{reader_, node, owner, {{"header", "cookie", "queryParam"}}};
  int found = 0;
  for (const Choice<HashKey::Of>& choice : kHashValues) {
    const YamlNode* value = fields.find(choice.word);
    if (value == nullptr) continue;
    ++found;
    key.of = choice.value;
    const auto name = reader_.text(*value, fields.label(choice.word), "a name");
    if (name && reader_.accept(value->at, fields.label(choice.word), object_to_header_name(*name)))
      key.name = choice.value == HashKey::Of::kHeader ? lower_case(*name) : *name;
  }
  if (found != 1)
    reader_.report(node.at, fmt::format("{} names {} things", owner, found),
                   "one of header, cookie and queryParam, or 'source' or 'path'");
  return key;
}

OutlierDetection ConfigParser::parse_outlier(const YamlNode& node, const std::string& owner) {
  OutlierDetection outlier;
  const Fields fields{
      reader_, node, owner, {{"consecutiveFailures", "ejectionTime", "maxEjectionPercent"}}};
  if (const YamlNode* value = fields.find("consecutiveFailures"))
    outlier.consecutive_failures = static_cast<std::uint32_t>(
        reader_.number(*value, fields.label("consecutiveFailures"), 0, 1000)
            .value_or(outlier.consecutive_failures));
  if (const YamlNode* value = fields.find("ejectionTime"))
    outlier.ejection_time_ms =
        reader_.duration_ms(*value, fields.label("ejectionTime"), 100, 300'000)
            .value_or(outlier.ejection_time_ms);
  if (const YamlNode* value = fields.find("maxEjectionPercent"))
    outlier.max_ejection_percent = static_cast<std::uint32_t>(
        reader_.number(*value, fields.label("maxEjectionPercent"), 0, 100)
            .value_or(outlier.max_ejection_percent));
  return outlier;
}

ServiceLimits ConfigParser::parse_service_limits(const YamlNode& node, const std::string& owner) {
  ServiceLimits limits;
  const Fields fields{reader_,
                      node,
                      owner,
                      {{"connectionsPerEndpoint", "requestsPerEndpoint", "queue", "queueTimeout",
                        "connectTimeout"}}};
  const auto number = [&](std::string_view key, std::uint32_t most, std::uint32_t& into) {
    if (const YamlNode* value = fields.find(key))
      into = static_cast<std::uint32_t>(
          reader_.number(*value, fields.label(key), 0, most).value_or(into));
  };
  number("connectionsPerEndpoint", kPerEndpointMax, limits.connections_per_endpoint);
  number("requestsPerEndpoint", kPerEndpointMax, limits.requests_per_endpoint);
  number("queue", kQueueMax, limits.queue);
  if (const YamlNode* value = fields.find("queueTimeout"))
    limits.queue_timeout_ms = reader_.duration_ms(*value, fields.label("queueTimeout"), 1, 600'000)
                                  .value_or(limits.queue_timeout_ms);
  if (const YamlNode* value = fields.find("connectTimeout"))
    limits.connect_timeout_ms =
        reader_.duration_ms(*value, fields.label("connectTimeout"), 10, 600'000)
            .value_or(limits.connect_timeout_ms);
  return limits;
}

/// As the health of a VIP, and for short {path: /healthz}: asked in the way in which the service is
/// spoken to.
std::optional<HealthCheck> ConfigParser::parse_service_health(const YamlNode& node,
                                                              const std::string& owner,
                                                              const Service& service) {
  constexpr std::array kServiceProbes{ProbeKind::kTcp, ProbeKind::kHttp, ProbeKind::kHttps,
                                      ProbeKind::kGrpc};
  auto check = parse_health_check(node, owner, kServiceProbes, true);
  if (!check) return std::nullopt;
  if (check->kind == ProbeKind::kHttp && service.tls && !check->port) {
    check->kind = ProbeKind::kHttps;
    check->verify = service.tls->verification == Verification::kFull;
    check->ca_file = service.tls->ca_file;
    if (check->host.empty()) check->host = service.tls->sni;
  }
  const bool asks_http = check->kind == ProbeKind::kHttp || check->kind == ProbeKind::kHttps;
  if (asks_http && !check->port && service.protocol != ServiceProtocol::kHttp1)
    reader_.report(node.at, fmt::format("{} asks by HTTP/1.1 endpoints that speak HTTP/2", owner),
                   "tcp or grpc, or a port that speaks HTTP/1.1");
  if (check->kind == ProbeKind::kGrpc && service.tls && !check->port)
    reader_.report(node.at,
                   fmt::format("{} asks by gRPC in the clear, and the service has tls", owner),
                   "tcp or https, or a port in the clear");
  return check;
}

ServiceProtocol ConfigParser::parse_service_protocol(const YamlNode& node, const std::string& label,
                                                     const Service& service) {
  const auto protocol = reader_.choice<ServiceProtocol>(node, label, kServiceProtocols);
  if (protocol == ServiceProtocol::kH2 && !service.tls)
    reader_.report(node.at, fmt::format("{} is h2, and the service has no tls", label),
                   "h2c for endpoints in the clear, or tls");
  if (protocol == ServiceProtocol::kH2c && service.tls)
    reader_.report(node.at, fmt::format("{} is h2c, and the service has tls", label),
                   "h2 for endpoints over TLS, or no tls");
  return protocol.value_or(ServiceProtocol::kHttp1);
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

}  // namespace weir::control
