#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "l4/base/result.h"
#include "l4/base/siphash.h"
#include "l4/control/model.h"
#include "l4/wire/address.h"
#include "l7/proxy/endpoint_state.h"
#include "l7/proxy/error_pages.h"
#include "l7/proxy/log_format.h"
#include "l7/proxy/router.h"
#include "l7/tls/context.h"

namespace weir::proxy {

/// Whom endpoints must show to be, and what they are asked to speak.
struct UpstreamTrust {
  control::UpstreamTls tls;  ///< without a name
  bool h2 = false;           ///< ALPN offers this, or http/1.1
  friend bool operator==(const UpstreamTrust&, const UpstreamTrust&) = default;
};

struct EndpointEntry {
  wire::Endpoint endpoint;
  std::uint32_t weight = 1;
  std::shared_ptr<EndpointState> state;
  std::string hostname = {};  ///< the name that has led to it; empty: the file has the address
};

/// What load balancing policies look into.
struct PickTables {
  std::vector<EndpointIndex> turns;  ///< each as often as its weight says, interleaved
  std::vector<EndpointIndex> near;   ///< those of the node's own zone; empty: no preference
  std::vector<std::pair<std::uint64_t, EndpointIndex>> ring;  ///< points in order; ring hash
  std::vector<EndpointIndex> maglev;
};

struct ServiceEntry {
  std::string name;
  std::vector<EndpointEntry> endpoints;
  control::Balancing balancing = {};
  PickTables tables = {};
  std::shared_ptr<ServiceState> state = {};
  control::OutlierDetection outlier = {};
  control::ServiceLimits limits = {};
  std::optional<control::UpstreamTls> tls = {};  ///< none: endpoints are spoken to in the clear
  std::uint32_t trust = 0;                       ///< index into Snapshot::trusts, with `tls`
  control::ServiceProtocol protocol = control::ServiceProtocol::kHttp1;
  control::ProxyProtocol proxy_protocol = control::ProxyProtocol::kNone;

  [[nodiscard]] bool speaks_h2() const { return protocol != control::ServiceProtocol::kHttp1; }
};

/// What all listeners of a gateway have in common.
struct GatewayEntry {
  ErrorPages error_pages;
  control::AccessLogPolicy log_policy;
  std::optional<LogFormat> log_format;  ///< none: JSON
};

struct ListenerEntry {
  std::string name;  ///< "<gateway>/<listener>"
  std::string hostname;
  control::GatewayLimits limits;
  control::ClientValidation client_validation;
  std::optional<wire::Port> redirect_port;  ///< answers every request with a redirect to https
  control::ForwardedTrust forwarded;
  bool trace_context = false;
  std::shared_ptr<const GatewayEntry> gateway;
  ErrorPages error_pages;
  Router router;
};

/// One address and port that the stack listens on. Several listeners may share it; the host name
/// of each request chooses among them.
struct Bind {
  wire::Endpoint endpoint;
  bool tls = false;
  bool passthrough = false;  ///< TLS that is not ours: only its name is read
  tls::ServerOptions tls_options;
  /// Until a request has chosen its listener, and of the connection: of each the widest that a
  /// listener here has, so that none is held to less than its own.
  control::GatewayLimits limits;
  std::shared_ptr<const GatewayEntry> gateway;
  std::vector<wire::Prefix> proxies;  ///< who must say whose connection it is (PROXY protocol)
  HostTable<std::uint32_t> listener_by_host;  ///< index into Snapshot::listeners, plus one
};

/// The L7 half of one applied configuration, compiled. Never edited: workers are given a new one
/// and let go of this when their last exchange with it has ended.
struct Snapshot {
  std::uint64_t revision = 0;
  std::vector<Bind> binds;
  std::vector<ListenerEntry> listeners;
  std::vector<Rule> rules;
  std::vector<ServiceEntry> services;
  /// Whom services trust over TLS, each once and without a name: services share what is costly.
  std::vector<UpstreamTrust> trusts;
  SipKey hash_key;  ///< of what requests are hashed on
  /// Names to indexes, so that counters find their new places when a snapshot is installed.
  std::unordered_map<std::string, ServiceIndex> service_names;
  std::unordered_map<std::string, std::uint32_t> rule_names;  ///< "route/rule"

  /// The listener that serves `host` on a bind, or nothing.
  [[nodiscard]] const ListenerEntry* listener_for(const Bind& bind, std::string_view host) const;
};

/// The HTTP route that a TLS route is to a snapshot: one rule, for whatever asks for its hostnames.
control::HttpRoute as_http_route(const control::TlsRoute& route);

/// The same model gives an equal snapshot. The model is valid, so this cannot fail. What is known
/// of services and endpoints goes on where the book has them.
std::unique_ptr<const Snapshot> build_snapshot(const control::Model& model, std::uint64_t revision,
                                               EndpointBook& book);
/// With nothing known.
std::unique_ptr<const Snapshot> build_snapshot(const control::Model& model, std::uint64_t revision);

}  // namespace weir::proxy
