#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "l4/control/config.h"
#include "l4/control/config_reader.h"
#include "l4/control/yaml_tree.h"

/// The schema of the configuration file. Private to parse_config(): config_vips.cpp and
/// config_health.cpp read what the XDP plane serves, config_gateways.cpp, config_clients.cpp,
/// config_services.cpp, config_routes.cpp, config_filters.cpp and config_error_pages.cpp what
/// weir-l7 serves, config.cpp the rest.
namespace weir::control {

/// How many addresses a list may have; the other limits stand where they are used.
inline constexpr std::size_t kAddressesMax = 256;

/// Of what weir-l7 waits for.
inline constexpr std::uint32_t kTimeoutMaxMs = 24 * 3'600'000;

/// A place where something has been named, to be found again by whoever names it twice.
struct Named {
  std::string owner;
  Position at;
};

/// Reads one document into a Model. References and what concerns several objects are collected on
/// the way and checked at the end, because the file may have its parts in any order.
class ConfigParser {
 public:
  ConfigParser(ConfigReader& reader, ParseOutcome& outcome)
      : reader_{reader}, model_{outcome.model}, source_{outcome.source} {}

  void parse_document(const YamlNode& root);

 private:
  template <typename Item, typename Read>
  void read_list(const Fields& fields, std::string_view key, std::string_view kind,
                 std::size_t maximum, const Read& read, std::vector<Item>& into);

  void parse_node(const YamlNode& node);
  void parse_interfaces(const Fields& fields);
  void parse_l7(const YamlNode& node);
  void parse_tunnel_sources(const Fields& fields, L7Settings& l7);
  void parse_seed(const YamlNode& node);
  void parse_block_list(const YamlNode& node);
  void parse_icmp(const YamlNode& node);
  void parse_l4(const YamlNode& node);
  /// A power of two: what is none is rounded up, with a warning.
  std::uint32_t read_table_size(const Fields& fields, std::string_view key, std::uint32_t minimum,
                                std::uint32_t fallback);

  std::optional<Vip> parse_vip(const YamlNode& node, std::size_t index);
  /// Address, ports and protocol; false when one of them cannot be used.
  bool parse_vip_key(Fields& fields, Vip& vip);
  std::optional<wire::Prefix> read_vip_prefix(const YamlNode& node, std::string_view what);
  /// False when the mode is not known.
  bool parse_forward(Fields& fields, Vip& vip);
  /// What chooses a backend: table, hash, affinity, quic, and what happens when there is none.
  void parse_selection(Fields& fields, Vip& vip, bool has_mode);
  void parse_affinity(const YamlNode& node, const std::string& owner, Vip& vip);
  void parse_quic(const YamlNode& node, const std::string& owner, Vip& vip);
  /// config_health.cpp; without a known key and mode its port cannot be held against the VIP's.
  void parse_health(const YamlNode& node, const std::string& owner, Vip& vip, bool fits_known);
  /// By one of these kinds; `short_path`: 'path: /healthz' alone means http. Nothing where it does
  /// not say what to ask.
  std::optional<HealthCheck> parse_health_check(const YamlNode& node, const std::string& owner,
                                                std::span<const ProbeKind> kinds, bool short_path);
  void parse_probe(const YamlNode& node, const std::string& owner, HealthCheck& check);
  void parse_http_probe(const Fields& fields, HealthCheck& check);
  void parse_health_times(const Fields& fields, HealthCheck& check);
  void parse_sources(const YamlNode& node, const std::string& owner, SourceRules& rules);
  void parse_vip_limits(const YamlNode& node, const std::string& owner, VipLimits& limits);
  /// The prefixes of a list and of the file beside it, sorted, each once.
  std::vector<wire::Prefix> read_prefixes(const Fields& fields, std::string_view list_key,
                                          std::string_view file_key);
  /// Without a known key and mode nothing can be said about how the backends fit the VIP.
  void parse_backends(Fields& fields, Vip& vip, bool fits_known);
  std::optional<Backend> parse_backend(const YamlNode& node, const std::string& owner);

  std::optional<Gateway> parse_gateway(const YamlNode& node, std::size_t index);
  std::optional<Listener> parse_listener(const YamlNode& node, std::size_t index,
                                         const Gateway& gateway, const std::string& gateway_owner);
  void parse_listener_tls(const Fields& fields, Listener& listener);
  void parse_tls(const YamlNode& node, const std::string& owner, Listener& listener);
  void parse_passthrough(const YamlNode& node, const std::string& owner);
  std::optional<CertificateRef> parse_certificate(const YamlNode& node, const std::string& owner);
  // config_clients.cpp
  void parse_limits(const YamlNode& node, const std::string& owner, GatewayLimits& limits);
  std::vector<wire::Prefix> parse_proxy_peers(const YamlNode& node, const std::string& owner);
  ForwardedTrust parse_forwarded(const YamlNode& node, const std::string& owner);
  /// Networks that are believed, sorted; `risk` says what "everybody" among them would mean.
  std::vector<wire::Prefix> read_trusted(const Fields& fields, std::string_view key,
                                         std::string_view risk);
  ProxyProtocol parse_proxy_version(const YamlNode& node, const std::string& label,
                                    ServiceProtocol spoken);

  void check_listeners(const Gateway& gateway, const std::vector<const YamlNode*>& nodes);

  ClientValidation parse_client_validation(const YamlNode& node, const std::string& owner);
  /// The file of `caRef: {file: ca.pem}`; nothing when there is none or it cannot be used.
  std::optional<std::string> parse_ca_ref(const Fields& fields);
  ServiceProtocol parse_service_protocol(const YamlNode& node, const std::string& label,
                                         const Service& service);
  UpstreamTls parse_upstream_tls(const YamlNode& node, const std::string& owner);

  // config_services.cpp
  std::optional<Service> parse_service(const MapEntry& entry);
  void parse_endpoints(Fields& fields, Service& service);
  std::optional<ServiceEndpoint> parse_endpoint(const YamlNode& node, const std::string& what,
                                                const Service& service);
  bool read_place(const YamlNode& node, const std::string& what, ServiceEndpoint& endpoint);
  std::string parse_zone(const YamlNode& node, const std::string& what);
  Balancing parse_balancing(const YamlNode& node, const std::string& owner);
  HashKey parse_hash_key(const YamlNode& node, const std::string& owner);
  OutlierDetection parse_outlier(const YamlNode& node, const std::string& owner);
  ServiceLimits parse_service_limits(const YamlNode& node, const std::string& owner);
  std::optional<HealthCheck> parse_service_health(const YamlNode& node, const std::string& owner,
                                                  const Service& service);
  // config_error_pages.cpp
  std::vector<ErrorPage> parse_error_pages(const Fields& fields);
  std::optional<ErrorPage> parse_error_page(const YamlNode& node, const std::string& owner);
  std::optional<StatusMatch> parse_status_match(const YamlNode& node, const std::string& owner);
  std::string read_page(const YamlNode& node, const std::string& what);
  AccessLogPolicy parse_access_log(const YamlNode& node, const std::string& owner);
  void parse_log_always(const YamlNode& node, const std::string& owner, AccessLogPolicy& log);

  // config_routes.cpp
  std::optional<HttpRoute> parse_route(const YamlNode& node, std::size_t index);
  std::optional<TlsRoute> parse_tls_route(const YamlNode& node, std::size_t index);
  void parse_tls_rules(const YamlNode& rules, const Fields& fields, TlsRoute& route);
  void refuse_empty(const Fields& fields, std::string_view key);
  void check_weights(const Fields& fields, const std::vector<BackendRef>& backends,
                     std::string_view what);
  std::optional<ParentRef> parse_parent(const YamlNode& node, const std::string& owner);
  std::optional<RouteRule> parse_rule(const YamlNode& node, std::size_t index,
                                      const std::string& route);
  std::optional<RouteMatch> parse_match(const YamlNode& node, const std::string& owner);
  void parse_path(const YamlNode& node, const std::string& owner, RouteMatch& match);
  void parse_grpc_match(const YamlNode& node, const std::string& owner, RouteMatch& match);
  enum class Kind : std::uint8_t { kHeader, kOther };  ///< names of headers have no case
  std::vector<ValueMatch> parse_value_matches(const YamlNode& node, const std::string& owner,
                                              Kind kind);
  // config_filters.cpp
  void parse_filters(Fields& fields, RouteRule& rule);
  Redirect parse_redirect(const YamlNode& node, const std::string& owner, const RouteRule& rule);
  Rewrite parse_rewrite(const YamlNode& node, const std::string& owner, const RouteRule& rule);
  std::optional<std::string> read_plain_hostname(const YamlNode& node, const std::string& what);
  PathEdit parse_path_edit(const Fields& fields, const RouteRule& rule);
  void parse_regex_edit(const YamlNode& node, const std::string& owner, PathEdit& edit);
  HeaderEdits parse_header_edits(const YamlNode& node, const std::string& owner, TemplateUse use);
  std::vector<std::pair<std::string, std::string>> parse_header_values(const YamlNode& node,
                                                                       const std::string& owner,
                                                                       TemplateUse use);
  FixedResponse parse_respond(const YamlNode& node, const std::string& owner);
  FaultInjection parse_fault(const YamlNode& node, const std::string& owner);
  Mirror parse_mirror(const YamlNode& node, const std::string& owner);

  void parse_backend_refs(Fields& fields, RouteRule& rule);
  void parse_timeouts(const YamlNode& node, const std::string& owner, RouteTimeouts& timeouts);
  RetryPolicy parse_retry(const YamlNode& node, const std::string& owner);
  void parse_retry_condition(const YamlNode& node, const std::string& owner, RetryPolicy& retry);
  SessionPersistence parse_session(const YamlNode& node, const std::string& owner);
  std::optional<BackendRef> parse_backend_ref(const YamlNode& node, const std::string& owner);

  /// A name that must lead to an object once the whole file is read.
  struct Reference {
    Position at;
    std::string what;  ///< "parentRef of httpRoute 'cart'"
    std::string name;
    std::optional<std::string> listener;
    bool of_tls_route = false;
  };

  void check_references();
  void check_gateway_reference(const Reference& reference);
  void check_families();
  void check_snat_addresses();
  /// `among`: what has different names, where that is more than one kind.
  void claim_name(std::string_view kind, const std::string& name, const Fields& fields,
                  std::string_view among = {});
  void claim_vip(const VipKey& key, const std::string& owner, Position at);
  void check_port_ranges();
  std::optional<std::string> readable_file(const YamlNode& node, std::string_view what);
  [[nodiscard]] std::string resolved(const std::string& path) const;

  /// An address that L7 must be able to speak from.
  struct L7Address {
    Position at;
    std::string what;
    wire::IpAddress address;
    bool is_vip;
  };

  ConfigReader& reader_;
  Model& model_;
  SourceMap& source_;
  std::map<std::pair<std::string, std::string>, Position> names_;  // kind and name
  std::map<VipKey, Named> vips_;
  std::set<std::pair<std::string, std::string>> listeners_;  // by gateway; those with faults too
  std::vector<Reference> gateway_references_;
  std::vector<Reference> service_references_;
  bool services_are_known_ = true;  // false when there is something else in their place
  std::vector<L7Address> l7_addresses_;
  std::set<std::string> endpoint_names_;  // that are looked up in DNS
  Named first_endpoint_name_ = {};        // of an endpoint, when there is one
  std::map<wire::IpAddress, Position> snat_addresses_;
  std::size_t prefixes_ = 0;          // of all lists of sources
  std::size_t error_page_bytes_ = 0;  // of all error pages
};

/// Reads the list `key`, if it is there, and appends the items that read() accepts.
template <typename Item, typename Read>
void ConfigParser::read_list(const Fields& fields, std::string_view key, std::string_view kind,
                             std::size_t maximum, const Read& read, std::vector<Item>& into) {
  const YamlNode* list = fields.find(key);
  if (list == nullptr) return;
  // The sentence is made only where somebody is to read it: a file may have 10,000 routes.
  if (list->kind != YamlKind::kList) {
    reader_.report_no_list(*list, fields.label(key), fmt::format("a list of {}", kind));
    return;
  }
  if (list->children.size() > maximum) {
    reader_.report(list->at,
                   fmt::format("{} has {} entries", fields.label(key), list->children.size()),
                   fmt::format("at most {}", maximum));
    return;
  }
  for (std::size_t i = 0; i < list->children.size(); ++i) {
    if (std::optional<Item> item = read(list->children[i], i)) into.push_back(std::move(*item));
  }
}

/// The first kDiagnosticsMax of them, and how many more there are.
void set_diagnostics(ParseOutcome& outcome, std::vector<Diagnostic> diagnostics);

}  // namespace weir::control
