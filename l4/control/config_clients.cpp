#include <algorithm>
#include <array>

#include "l4/control/config_parser.h"

/// What a gateway takes from its clients and whom it believes about them: `limits` of gateways and
/// listeners, `proxyProtocol` of listeners and services, `forwarded` of gateways.
namespace weir::control {
namespace {

constexpr std::array<Choice<ForwardedField>, 2> kForwardedFields{
    {{"X-Forwarded-For", ForwardedField::kXForwardedFor},
     {"Forwarded", ForwardedField::kForwarded}}};
constexpr std::array<Choice<ProxyProtocol>, 2> kProxyVersions{
    {{"v1", ProxyProtocol::kV1}, {"v2", ProxyProtocol::kV2}}};

constexpr std::size_t kTrustedMax = 1024;
constexpr std::uint32_t kCountMax = 1'000'000'000;

}  // namespace

void ConfigParser::parse_limits(const YamlNode& node, const std::string& owner,
                                GatewayLimits& limits) {
  constexpr std::uint64_t kMi = 1024 * 1024;
  Fields fields{reader_,
                node,
                owner,
                {{"headerBytes", "headerCount", "headerTimeout", "bodyBytes", "bodyTimeout",
                  "bodyMinRate", "idleTimeout", "requestsPerConnection", "connectionAge",
                  "connectionsPerSource", "h2Streams"}}};
  const auto time = [&](std::string_view key, std::uint32_t minimum, std::uint32_t maximum,
                        std::uint32_t& into) {
    if (const YamlNode* value = fields.find(key))
      into = reader_.duration_ms(*value, fields.label(key), minimum, maximum).value_or(into);
  };
  const auto count = [&](std::string_view key, std::uint32_t& into) {
    if (const YamlNode* value = fields.find(key))
      into = reader_.count(*value, fields.label(key), 0, kCountMax).value_or(into);
  };
  if (const YamlNode* value = fields.find("headerBytes")) {
    limits.header_bytes =
        static_cast<std::uint32_t>(reader_.bytes(*value, fields.label("headerBytes"), 1024, kMi)
                                       .value_or(limits.header_bytes));
  }
  if (const YamlNode* value = fields.find("headerCount")) {
    limits.header_count = static_cast<std::uint32_t>(
        reader_.number(*value, fields.label("headerCount"), 8, 1000).value_or(limits.header_count));
  }
  if (const YamlNode* value = fields.find("bodyBytes")) {
    limits.body_bytes = reader_.bytes(*value, fields.label("bodyBytes"), 0, 1024 * 1024 * kMi)
                            .value_or(limits.body_bytes);
  }
  if (const YamlNode* value = fields.find("bodyMinRate")) {
    limits.body_min_rate = reader_.rate(*value, fields.label("bodyMinRate"), kRateMax, 0)
                               .value_or(limits.body_min_rate);
  }
  if (const YamlNode* value = fields.find("h2Streams")) {
    limits.h2_streams = static_cast<std::uint32_t>(
        reader_.number(*value, fields.label("h2Streams"), 1, 1000).value_or(limits.h2_streams));
  }
  time("headerTimeout", 100, 600'000, limits.header_timeout_ms);
  time("bodyTimeout", 100, kTimeoutMaxMs, limits.body_timeout_ms);
  time("idleTimeout", 1000, kTimeoutMaxMs, limits.idle_timeout_ms);
  time("connectionAge", 0, kTimeoutMaxMs, limits.connection_age_ms);
  count("requestsPerConnection", limits.requests_per_connection);
  count("connectionsPerSource", limits.connections_per_source);
}

std::vector<wire::Prefix> ConfigParser::read_trusted(const Fields& fields, std::string_view key,
                                                     std::string_view risk) {
  std::vector<wire::Prefix> trusted;
  const auto read = [&](const YamlNode& item, std::size_t) -> std::optional<wire::Prefix> {
    const std::string what = "a prefix in " + fields.label(key);
    const std::optional<wire::Prefix> prefix = reader_.network(item, what);
    if (!prefix) return std::nullopt;
    if (prefix->length == 0) {
      reader_.report(item.at, fmt::format("{} is {}, which is everybody", what, prefix->text()),
                     fmt::format("the proxies alone: {}", risk));
      return std::nullopt;
    }
    if (std::ranges::find(trusted, *prefix) != trusted.end()) {
      reader_.report(item.at, fmt::format("{} is {} twice", what, prefix->text()),
                     "each proxy once");
      return std::nullopt;
    }
    return prefix;
  };
  read_list(fields, key, "prefixes", kTrustedMax, read, trusted);
  const YamlNode* list = fields.find(key);
  if (list != nullptr && list->kind == YamlKind::kList && list->children.empty())
    reader_.report(list->at, fmt::format("{} is an empty list", fields.label(key)),
                   "at least one proxy");
  std::ranges::sort(trusted);
  return trusted;
}

std::vector<wire::Prefix> ConfigParser::parse_proxy_peers(const YamlNode& node,
                                                          const std::string& owner) {
  Fields fields{reader_, node, owner, {{"from"}}};
  fields.need("from", "the proxies that speak it, and must: [192.0.2.0/28]");
  return read_trusted(fields, "from", "whoever is in it can name any client");
}

ForwardedTrust ConfigParser::parse_forwarded(const YamlNode& node, const std::string& owner) {
  Fields fields{reader_, node, owner, {{"trustedHops", "trustedProxies", "field"}}};
  ForwardedTrust trust;
  const YamlNode* hops = fields.find("trustedHops");
  const YamlNode* proxies = fields.find("trustedProxies");
  if (node.kind == YamlKind::kMap && (hops == nullptr) == (proxies == nullptr)) {
    reader_.report(node.at,
                   fmt::format("{} must have one of trustedHops and trustedProxies", owner),
                   "'{trustedHops: 1}' or '{trustedProxies: [192.0.2.0/28]}'");
  }
  if (hops != nullptr) {
    trust.hops = static_cast<std::uint32_t>(
        reader_.number(*hops, fields.label("trustedHops"), 1, kForwardedHopsMax).value_or(0));
  }
  trust.proxies = read_trusted(fields, "trustedProxies", "whoever is in it can name any client");
  if (const YamlNode* field = fields.find("field")) {
    trust.field = reader_.choice<ForwardedField>(*field, fields.label("field"), kForwardedFields)
                      .value_or(ForwardedField::kXForwardedFor);
  }
  return trust;
}

ProxyProtocol ConfigParser::parse_proxy_version(const YamlNode& node, const std::string& label,
                                                ServiceProtocol spoken) {
  const auto version = reader_.choice<ProxyProtocol>(node, label, kProxyVersions);
  if (version && spoken != ServiceProtocol::kHttp1)
    reader_.report(node.at, fmt::format("{} is said to endpoints that speak HTTP/2", label),
                   "one of the two: a connection of HTTP/2 carries the requests of many clients");
  return version.value_or(ProxyProtocol::kNone);
}

}  // namespace weir::control
