#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "l4/base/result.h"
#include "l4/wire/address.h"

/// The desired state of one node: plain values, equal when they mean the same. Whoever holds a
/// Model may rely on what config.h or model_json.h has checked: names are unique, references lead
/// somewhere, ports are not 0, table sizes are prime, addresses can be used.
namespace weir::control {

enum class Protocol : std::uint8_t { kTcp, kUdp };

/// How packets reach the backends of a VIP.
enum class ForwardMode : std::uint8_t {
  kIpip,  ///< encapsulated in IP (RFC 2003, RFC 2473); either family over either
  kL2,    ///< destination MAC rewritten; backends share the segment and own the VIP
  kL7,    ///< handed to the weir-l7 workers of this node; the VIP has no backends of its own
};

enum class XdpMode : std::uint8_t { kAuto, kNative, kGeneric };

inline constexpr std::uint32_t kTableSizeDefault = 65537;
inline constexpr std::uint32_t kTableSizeMin = 251;
inline constexpr std::uint32_t kTableSizeMax = 1048573;
inline constexpr std::uint32_t kWeightMax = 10000;
inline constexpr std::size_t kNameLengthMax = 63;
inline constexpr std::size_t kBackendsPerVipMax = 4096;

struct Backend {
  std::string name;  ///< empty: known by its address alone
  wire::IpAddress address;
  std::optional<wire::Port> port;  ///< for modes that rewrite ports; ipip and l2 keep the VIP's
  std::uint32_t weight = 1;        ///< share of new flows; 0 takes none
  bool draining = false;           ///< keeps its flows, takes no new ones
  friend bool operator==(const Backend&, const Backend&) = default;
};

/// What tells one VIP from another.
struct VipKey {
  wire::IpAddress address;
  wire::Port port;
  Protocol protocol = Protocol::kTcp;
  friend auto operator<=>(const VipKey&, const VipKey&) = default;
};

struct Vip {
  std::string name;  ///< empty: known by its key alone
  wire::IpAddress address;
  wire::Port port;
  Protocol protocol = Protocol::kTcp;
  ForwardMode mode = ForwardMode::kIpip;
  std::uint32_t table_size = kTableSizeDefault;  ///< slots of the Maglev table; prime
  std::vector<Backend> backends;                 ///< addresses are unique within the VIP

  [[nodiscard]] VipKey key() const { return {address, port, protocol}; }
  friend bool operator==(const Vip&, const Vip&) = default;
};

struct L7Settings {
  std::uint32_t workers = 1;
  /// L7's own addresses within their networks, the source of its connections to services:
  /// 10.0.0.5/24. The L7 plane has a TCP/IP stack of its own and shares none of the host's.
  std::vector<wire::Prefix> addresses;
  /// Next hop for everything that no network above contains, at most one per family.
  std::vector<wire::IpAddress> gateways;
  friend bool operator==(const L7Settings&, const L7Settings&) = default;
};

struct NodeSettings {
  std::vector<std::string> interfaces;  ///< the XDP program is loaded on these devices
  XdpMode xdp_mode = XdpMode::kAuto;
  std::string hash_seed;  ///< content of the seed file; empty: the built-in seed. Never shown.
  L7Settings l7;
  friend bool operator==(const NodeSettings&, const NodeSettings&) = default;
};

enum class ListenerProtocol : std::uint8_t { kHttp, kHttps };
enum class TlsVersion : std::uint8_t { kTls12, kTls13 };

/// Absolute paths. The key file equals the certificate file when one PEM file holds both.
struct CertificateRef {
  std::string certificate_file;
  std::string key_file;
  friend bool operator==(const CertificateRef&, const CertificateRef&) = default;
};

struct Listener {
  std::string name;
  wire::Port port;
  ListenerProtocol protocol = ListenerProtocol::kHttp;
  std::string hostname;                      ///< lower case; empty: any; "*.x": any name below x
  std::vector<CertificateRef> certificates;  ///< at least one with kHttps, none with kHttp
  TlsVersion min_version = TlsVersion::kTls12;
  std::optional<std::string> redirect_to;  ///< name of an HTTPS listener of the same gateway
  friend bool operator==(const Listener&, const Listener&) = default;
};

struct GatewayLimits {
  std::uint32_t header_bytes = 32 * 1024;
  std::uint32_t header_timeout_ms = 10'000;    ///< from a request's first byte to its last header
  std::uint64_t body_bytes = 8 * 1024 * 1024;  ///< 0: no limit
  std::uint32_t idle_timeout_ms = 75'000;      ///< a connection without a request in flight
  friend bool operator==(const GatewayLimits&, const GatewayLimits&) = default;
};

struct Gateway {
  std::string name;
  std::vector<wire::IpAddress> addresses;
  std::vector<Listener> listeners;
  GatewayLimits limits;
  friend bool operator==(const Gateway&, const Gateway&) = default;
};

enum class LoadBalancer : std::uint8_t { kRoundRobin, kLeastRequest };

struct Service {
  std::string name;
  std::vector<wire::Endpoint> endpoints;
  LoadBalancer load_balancer = LoadBalancer::kRoundRobin;
  friend bool operator==(const Service&, const Service&) = default;
};

/// The listener (or, without one, every listener of the gateway) that a route is attached to.
struct ParentRef {
  std::string gateway;
  std::optional<std::string> listener;  ///< sectionName in the file
  friend bool operator==(const ParentRef&, const ParentRef&) = default;
};

enum class PathMatchKind : std::uint8_t {
  kPrefix,  ///< whole segments: /cart matches /cart and /cart/1, not /cartoon
  kExact,
};

struct HeaderMatch {
  std::string name;  ///< lower case
  std::string value;
  friend bool operator==(const HeaderMatch&, const HeaderMatch&) = default;
};

/// All conditions must hold.
struct RouteMatch {
  PathMatchKind path_kind = PathMatchKind::kPrefix;
  std::string path = "/";
  std::optional<std::string> method;
  std::vector<HeaderMatch> headers;
  friend bool operator==(const RouteMatch&, const RouteMatch&) = default;
};

struct RouteTimeouts {
  std::uint32_t request_ms = 0;          ///< whole exchange as the client sees it; 0: no limit
  std::uint32_t backend_request_ms = 0;  ///< one attempt at one endpoint; 0: no limit
  friend bool operator==(const RouteTimeouts&, const RouteTimeouts&) = default;
};

struct BackendRef {
  std::string service;
  std::uint32_t weight = 1;
  friend bool operator==(const BackendRef&, const BackendRef&) = default;
};

struct RouteRule {
  std::string name;                 ///< may be empty
  std::vector<RouteMatch> matches;  ///< any of them; never empty: "prefix /" when none is written
  RouteTimeouts timeouts;
  std::vector<BackendRef> backends;  ///< never empty
  friend bool operator==(const RouteRule&, const RouteRule&) = default;
};

struct HttpRoute {
  std::string name;
  std::vector<ParentRef> parents;
  std::vector<std::string> hostnames;  ///< lower case, "*.x" allowed; empty: the listener's
  std::vector<RouteRule> rules;
  friend bool operator==(const HttpRoute&, const HttpRoute&) = default;
};

struct Model {
  NodeSettings node;
  std::vector<Vip> vips;
  std::vector<Gateway> gateways;
  std::vector<Service> services;
  std::vector<HttpRoute> http_routes;
  friend bool operator==(const Model&, const Model&) = default;
};

/// Everything the L4 plane serves: the plain VIPs, and for each address of a gateway and each port
/// that a listener of it has, one TCP VIP of mode kL7 named "<gateway>/<listener>" (the first
/// listener of that port).
std::vector<Vip> l4_services(const Model& model);

/// "203.0.113.53:53/udp", "[2001:db8::25]:25/tcp".
std::string vip_text(const wire::IpAddress& address, wire::Port port, Protocol protocol);
std::string vip_text(const VipKey& key);
Result<VipKey> parse_vip_key(std::string_view text);

/// The words used in JSON, on the command line and in output, all lower case: "tcp", "ipip",
/// "native".
std::string_view text_of(Protocol protocol);
std::string_view text_of(ForwardMode mode);
std::string_view text_of(XdpMode mode);
Result<Protocol> parse_protocol(std::string_view text);
Result<ForwardMode> parse_forward_mode(std::string_view text);
Result<XdpMode> parse_xdp_mode(std::string_view text);

/// A table size that spreads evenly: a prime between kTableSizeMin and kTableSizeMax.
bool is_table_size(std::uint32_t size);
/// The nearest size that is_table_size() accepts, for hints.
std::uint32_t nearest_table_size(std::uint64_t size);

}  // namespace weir::control
