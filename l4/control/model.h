#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "l4/base/result.h"
#include "l4/control/health_check.h"
#include "l4/control/model_routes.h"
#include "l4/wire/address.h"

/// The desired state of one node: plain values, equal when they mean the same. Whoever holds a
/// Model may rely on what config.h or model_json.h has checked: names are unique, references lead
/// somewhere, ports are not 0, table sizes are prime, addresses can be used.
namespace weir::control {

enum class Protocol : std::uint8_t { kTcp, kUdp };

/// How packets reach the backends of a VIP.
enum class ForwardMode : std::uint8_t {
  kIpip,  ///< encapsulated in IP (RFC 2003, RFC 2473); either family over either
  kGue,   ///< encapsulated in UDP (draft-ietf-intarea-gue); either family over either
  kL2,    ///< destination MAC rewritten; backends share the segment and own the VIP
  kNat,   ///< destination address (and port) rewritten; the source too where `Snat` asks for it
  kL7,    ///< handed to the weir-l7 workers of this node; the VIP has no backends of its own
};

/// What of a packet chooses the backend of a new flow.
enum class HashPolicy : std::uint8_t {
  kFiveTuple,
  kSourceIpPort,  ///< one socket of a client has one backend, whatever it asks for
  kSourceIp,      ///< one client has one backend; nodes agree, because no port takes part
};

/// The answer of a VIP while no backend takes traffic.
enum class WhenEmpty : std::uint8_t {
  kRefuse,  ///< TCP RST, ICMP port unreachable: clients know at once and try elsewhere
  kDrop,
};

/// Whether mode nat hides the client's address from the backend.
enum class Snat : std::uint8_t {
  kAuto,  ///< where the reply may not come back through this node: as far as one can know, always
  kAlways,
  kNever,  ///< replies must be routed through this node
};

/// What people want of a backend. Weight 0 takes no new flows either, but says so by its share.
enum class BackendState : std::uint8_t {
  kActive,
  kDraining,     ///< takes no new flows; those that it has finish
  kMaintenance,  ///< the same, and after the VIP's grace its flows are spread over the others
};

enum class XdpMode : std::uint8_t { kAuto, kNative, kGeneric };

inline constexpr std::uint32_t kTableSizeMin = 251;
inline constexpr std::uint32_t kTableSizeMax = 1048573;
inline constexpr std::uint32_t kWeightMax = 10000;
inline constexpr std::size_t kNameLengthMax = 63;
inline constexpr std::size_t kVipsMax = 14'336;       ///< of a node, those of gateways included
inline constexpr std::size_t kBackendsMax = 114'688;  ///< of all VIPs of a node
inline constexpr std::size_t kBackendsPerVipMax = 4096;
inline constexpr wire::Port kGuePortDefault{6080};
inline constexpr std::uint32_t kAffinityTimeoutDefaultS = 3 * 3600;
inline constexpr std::uint32_t kAffinityTimeoutMaxS = 72 * 3600;
inline constexpr std::uint32_t kRateMax = 100'000'000;  ///< per second, of every rate
inline constexpr std::size_t kPrefixesPerListMax = 200'000;
inline constexpr std::uint8_t kServerIdBytesMax = 15;
inline constexpr std::uint8_t kConfigRotationMax = 6;

/// The ports of a VIP, both ends included. An exact port has first == last; any port is 0…65535,
/// the only range that has port 0. Of several that contain a packet's port the narrowest counts.
struct PortRange {
  wire::Port first;
  wire::Port last;

  static constexpr PortRange only(wire::Port port) { return {port, port}; }
  static constexpr PortRange any() { return {wire::Port{0}, wire::Port{65535}}; }
  [[nodiscard]] constexpr bool is_exact() const { return first == last; }
  [[nodiscard]] constexpr bool is_any() const { return *this == any(); }
  [[nodiscard]] constexpr bool contains(wire::Port port) const {
    return first <= port && port <= last;
  }
  /// Both have ports that the other has not, and some that both have: neither is the narrower.
  [[nodiscard]] constexpr bool crosses(const PortRange& other) const {
    const PortRange& low = first < other.first ? *this : other;
    const PortRange& high = first < other.first ? other : *this;
    return low.first < high.first && high.first <= low.last && low.last < high.last;
  }
  friend constexpr auto operator<=>(const PortRange&, const PortRange&) = default;
};

struct Backend {
  std::string name;  ///< empty: known by its address alone
  wire::IpAddress address;
  std::optional<wire::Port> port;  ///< mode nat: the port on the backend; without one the client's
  std::uint32_t weight = 1;        ///< share of new flows; 0 takes none
  BackendState state = BackendState::kActive;
  std::string server_id = {};  ///< bytes; Vip::quic.server_id_bytes of them, or none
  friend bool operator==(const Backend&, const Backend&) = default;
};

/// The length of a prefix in the 16-byte form of addresses: IPv4 /28 is 96 + 28 = 124.
inline constexpr std::uint8_t kSingleAddress = 128;

/// What tells one VIP from another. A packet belongs to the VIP with the longest prefix, and of
/// those with the narrowest range of ports.
struct VipKey {
  wire::IpAddress address;  ///< of a prefix its first: no bit is set beyond prefix_length
  PortRange ports;
  Protocol protocol = Protocol::kTcp;
  std::uint8_t prefix_length = kSingleAddress;

  [[nodiscard]] bool is_single_address() const { return prefix_length == kSingleAddress; }
  /// The same with the length as its family counts it.
  [[nodiscard]] wire::Prefix prefix() const;
  /// The port of a VIP of one port; of a range the first.
  [[nodiscard]] wire::Port port() const { return ports.first; }
  friend auto operator<=>(const VipKey&, const VipKey&) = default;
};

/// Who may speak to a VIP. The longest prefix that contains the source decides; a source in none
/// is denied if anything is allowed, else allowed. Sorted, without duplicates, no prefix in both.
struct SourceRules {
  std::vector<wire::Prefix> allow;
  std::vector<wire::Prefix> deny;

  [[nodiscard]] bool empty() const { return allow.empty() && deny.empty(); }
  friend bool operator==(const SourceRules&, const SourceRules&) = default;
};

/// Per second; 0: no limit.
struct VipLimits {
  std::uint32_t new_flows_per_source = 0;
  std::uint32_t packets_per_source = 0;
  std::uint32_t new_flows = 0;
  std::uint32_t packets = 0;
  friend bool operator==(const VipLimits&, const VipLimits&) = default;
};

/// Backends named in QUIC connection ids (draft-ietf-quic-load-balancers, plaintext algorithm).
struct QuicRouting {
  std::uint8_t server_id_bytes = 0;  ///< 1…15; 0: off
  std::uint8_t config_rotation = 0;  ///< 0…6, the codepoint in a connection id's first bits

  [[nodiscard]] bool on() const { return server_id_bytes != 0; }
  friend bool operator==(const QuicRouting&, const QuicRouting&) = default;
};

struct Vip {
  std::string name;  ///< empty: known by its key alone
  wire::IpAddress address;
  std::uint8_t prefix_length = kSingleAddress;  ///< see VipKey
  PortRange ports;
  Protocol protocol = Protocol::kTcp;
  ForwardMode mode = ForwardMode::kIpip;
  std::uint32_t table_size = 0;           ///< slots of the Maglev table, prime; 0: by its backends
  std::vector<Backend> backends;          ///< addresses are unique within the VIP
  wire::Port gue_port = kGuePortDefault;  ///< mode gue: the tunnel's UDP destination port
  Snat snat = Snat::kAuto;                ///< mode nat
  WhenEmpty when_empty = WhenEmpty::kRefuse;
  HashPolicy hash = HashPolicy::kFiveTuple;
  /// A client stays with its backend until it was silent for so long; set only with kSourceIp.
  std::optional<std::uint32_t> affinity_timeout_s = {};
  SourceRules sources;
  VipLimits limits;
  QuicRouting quic;                        ///< UDP only
  std::optional<HealthCheck> health = {};  ///< none: backends are taken to work

  [[nodiscard]] VipKey key() const { return {address, ports, protocol, prefix_length}; }
  /// Of its Maglev table, whether a size is set or not.
  [[nodiscard]] std::uint32_t slots() const;
  friend bool operator==(const Vip&, const Vip&) = default;
};

struct L7Settings {
  std::uint32_t workers = 1;
  /// L7's own addresses within their networks, the source of its connections to services:
  /// 10.0.0.5/24. The L7 plane has a TCP/IP stack of its own and shares none of the host's.
  std::vector<wire::Prefix> addresses;
  /// Next hop for everything that no network above contains, at most one per family.
  std::vector<wire::IpAddress> gateways;
  /// Balancers on other hosts, whose tunnel packets (modes ipip and gue) to the addresses above are
  /// taken apart. Whoever is in it can send under any client's address.
  std::vector<wire::Prefix> tunnel_sources = {};
  friend bool operator==(const L7Settings&, const L7Settings&) = default;
};

/// The node's own answers to packets for VIPs.
struct IcmpSettings {
  bool echo = true;                 ///< echo requests to a VIP are answered
  std::uint32_t rate_per_s = 1000;  ///< of all answers: echo, unreachable, too big, time exceeded
  friend bool operator==(const IcmpSettings&, const IcmpSettings&) = default;
};

inline constexpr std::uint32_t kFlowsMax = 64U << 20;
inline constexpr std::uint32_t kFlowsMin = 1U << 10;

/// Sizes of the L4 plane's tables, powers of two, and what full NAT speaks from.
struct L4Settings {
  std::uint32_t flows_max = 256U << 10;  ///< 0: no flow table
  std::uint32_t nat_flows_max = 64U << 10;
  /// Below the range that Linux gives to the node's own connections (32768…60999).
  PortRange snat_ports{wire::Port{10000}, wire::Port{29999}};
  std::vector<wire::IpAddress> snat_addresses;  ///< empty: the node's own on the egress device
  friend bool operator==(const L4Settings&, const L4Settings&) = default;
};

struct NodeSettings {
  std::vector<std::string> interfaces;  ///< the XDP program is loaded on these devices
  XdpMode xdp_mode = XdpMode::kAuto;
  std::string hash_seed;  ///< content of the seed file; empty: the built-in seed. Never shown.
  std::string hash_seed_file = {};  ///< where it was read; empty: it stood in the configuration
  L7Settings l7;
  /// Sources whose packets for any VIP are dropped, before a VIP's own rules. As SourceRules::deny.
  std::vector<wire::Prefix> block_list = {};
  IcmpSettings icmp = {};
  L4Settings l4 = {};
  std::string zone = {};  ///< where it stands; empty: said nowhere
  friend bool operator==(const NodeSettings&, const NodeSettings&) = default;
};

enum class ListenerProtocol : std::uint8_t {
  kHttp,
  kHttps,
  kTls,  ///< passed through, undecrypted, by the name in the handshake
};
enum class TlsVersion : std::uint8_t { kTls12, kTls13 };

/// Absolute paths. The key file equals the certificate file when one PEM file holds both.
struct CertificateRef {
  std::string certificate_file;
  std::string key_file;
  std::string ocsp_file = {};  ///< DER, stapled to handshakes (RFC 6066, section 8); empty: none
  friend bool operator==(const CertificateRef&, const CertificateRef&) = default;
};

enum class ClientCertificates : std::uint8_t { kNone, kOptional, kRequired };

/// What a listener wants of its clients in the TLS handshake.
struct ClientValidation {
  ClientCertificates mode = ClientCertificates::kNone;
  std::string ca_file = {};  ///< PEM; empty with kNone
  friend bool operator==(const ClientValidation&, const ClientValidation&) = default;
};

/// What one client may take of a listener.
struct GatewayLimits {
  std::uint32_t header_bytes = 32 * 1024;
  std::uint32_t header_count = 100;
  std::uint32_t header_timeout_ms = 10'000;    ///< from a request's first byte to its last header
  std::uint64_t body_bytes = 8 * 1024 * 1024;  ///< 0: no limit
  std::uint32_t body_timeout_ms = 30'000;      ///< without a byte of a body that is not complete
  std::uint32_t body_min_rate = 256;           ///< bytes per second of a body; 0: any
  std::uint32_t h2_streams = 100;              ///< requests at once on a connection of HTTP/2
  std::uint32_t idle_timeout_ms = 75'000;      ///< a connection without a request in flight
  std::uint32_t requests_per_connection = 10'000;  ///< 0: no limit
  std::uint32_t connection_age_ms = 3'600'000;  ///< then it ends with its next response; 0: never
  /// At once, at one worker, of one IPv4 address or one IPv6 network of 64 bits; 0: no limit.
  std::uint32_t connections_per_source = 16'384;
  friend bool operator==(const GatewayLimits&, const GatewayLimits&) = default;
};

struct Listener {
  std::string name;
  wire::Port port;
  ListenerProtocol protocol = ListenerProtocol::kHttp;
  std::string hostname;                      ///< lower case; empty: any; "*.x": any name below x
  std::vector<CertificateRef> certificates;  ///< at least one with kHttps, else none
  TlsVersion min_version = TlsVersion::kTls12;
  std::optional<std::string> redirect_to;  ///< name of an HTTPS listener of the same gateway
  ClientValidation client_validation = {};
  std::optional<GatewayLimits> limits = {};  ///< instead of the gateway's
  /// Proxies that say with the PROXY protocol whose connection it is, and must. Sorted, each once.
  std::vector<wire::Prefix> proxy_protocol_from = {};
  std::vector<ErrorPage> error_pages = {};
  friend bool operator==(const Listener&, const Listener&) = default;
};

/// The field in which proxies in front of a gateway say whom they speak for.
enum class ForwardedField : std::uint8_t { kXForwardedFor, kForwarded };

/// Whom a gateway believes about who its clients are; nobody when neither is set.
struct ForwardedTrust {
  std::uint32_t hops = 0;  ///< so many proxies stand in front, whatever their addresses
  std::vector<wire::Prefix> proxies = {};  ///< those with these addresses. Sorted, each once
  ForwardedField field = ForwardedField::kXForwardedFor;  ///< the other one is never believed
  friend bool operator==(const ForwardedTrust&, const ForwardedTrust&) = default;
};
inline constexpr std::uint32_t kForwardedHopsMax = 16;

/// What of a gateway's requests is logged, and how.
struct AccessLogPolicy {
  std::string format = {};                               ///< a text with variables; empty: JSON
  std::uint32_t sample = kShareWhole;                    ///< of requests, those below aside
  std::optional<std::uint16_t> always_status = {};       ///< this one and those above
  std::optional<std::uint32_t> always_duration_ms = {};  ///< those that took at least so long
  friend bool operator==(const AccessLogPolicy&, const AccessLogPolicy&) = default;
};

struct Gateway {
  std::string name;
  std::vector<wire::IpAddress> addresses;
  std::vector<Listener> listeners;
  GatewayLimits limits;
  ForwardedTrust forwarded = {};
  bool trace_context = false;  ///< every request is put into a trace (W3C Trace Context)
  std::vector<ErrorPage> error_pages = {};
  AccessLogPolicy access_log = {};
  friend bool operator==(const Gateway&, const Gateway&) = default;
};

enum class LoadBalancer : std::uint8_t {
  kRoundRobin,
  kLeastRequest,
  kRandom,
  kRingHash,
  kMaglev,
};

/// What ring hash and Maglev look at. A request without it goes anywhere.
struct HashKey {
  enum class Of : std::uint8_t { kSource, kPath, kHeader, kCookie, kQueryParam };
  Of of = Of::kSource;
  std::string name = {};  ///< of a header (lower case), cookie or query parameter
  friend bool operator==(const HashKey&, const HashKey&) = default;
};

struct Balancing {
  LoadBalancer policy = LoadBalancer::kRoundRobin;
  HashKey hash_on = {};
  friend bool operator==(const Balancing&, const Balancing&) = default;
};

inline constexpr std::size_t kEndpointNamesMax = 1024;  ///< different ones of a node

/// An address and port, or the name of such in DNS. In the model of a file `endpoint` of a name is
/// its port alone, with the unspecified address; weir-l7 puts what the name leads to in its place.
struct ServiceEndpoint {
  wire::Endpoint endpoint;
  std::uint32_t weight = 1;   ///< 0: takes nothing; of a name, that of each of its addresses
  std::string zone = {};      ///< endpoints in the node's own are taken first; empty: in none
  std::string hostname = {};  ///< the name, in lower case; empty: the file has an address

  [[nodiscard]] bool is_name() const { return !hostname.empty(); }
  /// As the file has it: "192.0.2.1:80", "orders.internal:80".
  [[nodiscard]] std::string text() const;
  friend bool operator==(const ServiceEndpoint&, const ServiceEndpoint&) = default;
};

/// When attempts that fail take an endpoint out of the choice for a while.
struct OutlierDetection {
  std::uint32_t consecutive_failures = 5;   ///< 0: never
  std::uint32_t ejection_time_ms = 10'000;  ///< the first time; twice as long each further one
  std::uint32_t max_ejection_percent = 50;  ///< of the service's endpoints, at once
  friend bool operator==(const OutlierDetection&, const OutlierDetection&) = default;
};

/// What a service may be asked to bear, by all workers together.
struct ServiceLimits {
  std::uint32_t connections_per_endpoint = 0;  ///< 0: any number
  std::uint32_t requests_per_endpoint = 0;     ///< at once; 0: any number
  std::uint32_t queue = 1024;                  ///< requests that wait for an endpoint with room
  std::uint32_t queue_timeout_ms = 1'000;
  std::uint32_t connect_timeout_ms = 5'000;
  friend bool operator==(const ServiceLimits&, const ServiceLimits&) = default;
};

/// What is said in front of a connection to an endpoint about whose request it carries.
enum class ProxyProtocol : std::uint8_t { kNone, kV1, kV2 };

/// What endpoints of a service speak; the names are those of ALPN.
enum class ServiceProtocol : std::uint8_t { kHttp1, kH2, kH2c };

enum class Verification : std::uint8_t { kFull, kOff };

/// TLS towards the endpoints of a service.
struct UpstreamTls {
  /// Sent, and looked for in the certificate; empty: the endpoint's name is, or its address.
  std::string sni = {};
  std::string ca_file = {};  ///< PEM; empty: the authorities that the system trusts
  Verification verification = Verification::kFull;
  friend bool operator==(const UpstreamTls&, const UpstreamTls&) = default;
};

struct Service {
  std::string name;
  std::vector<ServiceEndpoint> endpoints = {};
  Balancing balancing = {};
  std::optional<UpstreamTls> tls = {};                 ///< none: in the clear
  ServiceProtocol protocol = ServiceProtocol::kHttp1;  ///< kH2 over TLS, kH2c in the clear
  ProxyProtocol proxy_protocol = ProxyProtocol::kNone;
  std::optional<HealthCheck> health = {};  ///< none: endpoints are taken to work
  OutlierDetection outlier = {};
  ServiceLimits limits = {};
  friend bool operator==(const Service&, const Service&) = default;
};

struct Model {
  NodeSettings node;
  std::vector<Vip> vips;
  std::vector<Gateway> gateways;
  std::vector<Service> services;
  std::vector<HttpRoute> http_routes;
  std::vector<TlsRoute> tls_routes = {};
  friend bool operator==(const Model&, const Model&) = default;
};

/// Everything the L4 plane serves: the plain VIPs, and for each address of a gateway and each port
/// that a listener of it has, one TCP VIP of mode kL7 named "<gateway>/<listener>" (the first
/// listener of that port).
std::vector<Vip> l4_services(const Model& model);
/// Those of them that are gateways'.
std::vector<Vip> gateway_services(const std::vector<Gateway>& gateways);

/// "203.0.113.53:53/udp", "[2001:db8::25]:25/tcp", "203.0.113.0/28:any/tcp",
/// "[2001:db8::/64]:5000-5999/udp". A prefix of one address is written without its length.
std::string vip_text(const VipKey& key);
/// Also takes what vip_text() would write shorter: a /32 or /128, 80-80 and 1-65535.
Result<VipKey> parse_vip_key(std::string_view text);

/// "53", "5000-5999", "any".
std::string ports_text(const PortRange& ports);
Result<PortRange> parse_ports(std::string_view text);

/// A network address with its length in the 16-byte form; host bits are kept.
std::uint8_t length_in_16_bytes(const wire::Prefix& prefix);
/// Whether no bit is set beyond the prefix's length.
bool is_network(const wire::Prefix& prefix);
/// The network that the address is in.
wire::Prefix network_of(const wire::Prefix& prefix);
/// Whether the two have an address in common: one contains the other.
bool overlap(const wire::Prefix& one, const wire::Prefix& other);

/// Hexadecimal, lower case when written, either when read: "0a0b0c".
std::string server_id_text(std::string_view bytes);
Result<std::string> parse_server_id(std::string_view text);

/// The words used in JSON, on the command line and in output, those of the file where it has them:
/// "tcp", "ipip", "native", "fiveTuple", "refuse", "auto". Protocols are lower case here.
std::string_view text_of(Protocol protocol);
std::string_view text_of(ForwardMode mode);
std::string_view text_of(XdpMode mode);
std::string_view text_of(HashPolicy hash);
std::string_view text_of(WhenEmpty when_empty);
std::string_view text_of(Snat snat);
std::string_view text_of(BackendState state);
std::string_view text_of(ProbeKind kind);
Result<Protocol> parse_protocol(std::string_view text);
Result<ForwardMode> parse_forward_mode(std::string_view text);
Result<XdpMode> parse_xdp_mode(std::string_view text);
Result<HashPolicy> parse_hash_policy(std::string_view text);
Result<WhenEmpty> parse_when_empty(std::string_view text);
Result<Snat> parse_snat(std::string_view text);
Result<BackendState> parse_backend_state(std::string_view text);
Result<ProbeKind> parse_probe_kind(std::string_view text);

/// A table size that spreads evenly: a prime between kTableSizeMin and kTableSizeMax.
bool is_table_size(std::uint32_t size);
/// The size of a table where none is set: at least a hundred slots for each backend, so that shares
/// differ by less than a percent, in few steps, because a step spreads new flows anew.
std::uint32_t table_size_for(std::size_t backends);
/// The nearest size that is_table_size() accepts, for hints.
std::uint32_t nearest_table_size(std::uint64_t size);

}  // namespace weir::control
