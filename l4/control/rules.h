#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "l4/base/result.h"
#include "l4/control/model.h"
#include "l4/control/value_template.h"

/// What single values must be like, whichever way they come in: file, API or command line.
namespace weir::control {

/// What is wrong with a value, as the end of a sentence that begins with the value ("224.0.0.1, a
/// multicast address"), and what was expected instead.
struct Objection {
  std::string problem;
  std::string expectation;
};

using MaybeObjection = std::optional<Objection>;

/// Names of objects: letters, digits, '.', '_' and '-', not first, at most kNameLengthMax. They
/// appear in metrics, URLs and command lines.
MaybeObjection object_to_name(std::string_view name);
/// Addresses that carry unicast traffic over a network: of VIPs, backends, gateways, endpoints.
MaybeObjection object_to_address(const wire::IpAddress& address);
MaybeObjection object_to_table_size(std::uint64_t size);
/// Device names as the kernel takes them: at most 15 bytes, no '/', ':' or blanks.
MaybeObjection object_to_interface(std::string_view name);
/// DNS name in lower case; "*." may come first (RFC 1123, section 2.1).
MaybeObjection object_to_hostname(std::string_view hostname);
/// Name of an endpoint: a DNS name whose last label begins with a letter (RFC 1123, section 2.1),
/// and which nobody could have meant for an address.
MaybeObjection object_to_endpoint_name(std::string_view name);
/// Absolute path without query, fragment, "//", "." and ".." segments: the form in which requests
/// are compared after normalisation.
MaybeObjection object_to_path(std::string_view path);
/// RFC 9110, sections 5.1 and 9.1.
MaybeObjection object_to_method(std::string_view method);
MaybeObjection object_to_header_name(std::string_view name);
MaybeObjection object_to_header_value(std::string_view value);
/// A value with variables in it.
MaybeObjection object_to_value_template(std::string_view text, TemplateUse use);
/// A header that a route may change: not those that say where a message goes and where it ends,
/// nor those of one hop (RFC 9110, section 7.6.1).
MaybeObjection object_to_edited_header(std::string_view name);
/// A service or method as a path of gRPC has it.
MaybeObjection object_to_grpc_name(std::string_view name);
/// RE2, for a whole text; of bounded size.
MaybeObjection object_to_regex(std::string_view pattern);
/// A path in which \1 to \9 stand for what the expression has captured.
MaybeObjection object_to_substitution(std::string_view value, std::string_view pattern);
/// Prefixes as lists of sources have them: no bit beyond the length.
MaybeObjection object_to_network(const wire::Prefix& prefix);
/// A VIP's address or prefix: a network whose addresses are all unicast.
MaybeObjection object_to_vip_prefix(const wire::Prefix& prefix);
/// Whether the mode goes with the VIP's protocol, address and ports.
MaybeObjection object_to_mode(const Vip& vip);
/// Whether the hash policy goes with the rest.
MaybeObjection object_to_hash(const Vip& vip);
/// Whether the VIP's mode can reach the backend, and its server id fits the VIP.
MaybeObjection object_to_backend(const Vip& vip, const Backend& backend);

// Health checks, rules_health.cpp. Times in milliseconds.
inline constexpr std::uint32_t kHealthIntervalMinMs = 100;
inline constexpr std::uint32_t kHealthIntervalMaxMs = 3'600'000;
inline constexpr std::uint32_t kHealthTimeoutMinMs = 10;
inline constexpr std::uint32_t kHealthGraceMaxMs = 86'400'000;
inline constexpr std::uint32_t kSlowStartMaxMs = 3'600'000;
inline constexpr std::uint32_t kHealthCountMax = 100;  ///< of rise and fall
inline constexpr std::uint32_t kHealthFlapsMax = 20;
inline constexpr std::size_t kHealthStatusesMax = 16;
inline constexpr std::size_t kProbeTextMax = 1024;  ///< bytes of a path, a service, a datagram

/// A request target in origin form; unlike a route's path it may have a query.
MaybeObjection object_to_probe_path(std::string_view path);
/// A DNS name in lower case or an address.
MaybeObjection object_to_probe_host(std::string_view host);
MaybeObjection object_to_grpc_service(std::string_view service);
/// Whether it is known which port to ask. The VIP has a check.
MaybeObjection object_to_health_port(const Vip& vip);
/// Everything about a VIP's check; without one there is nothing to object to.
MaybeObjection object_to_health(const Vip& vip);

/// Everything that must hold for a VIP by itself.
Result<void> check_vip(const Vip& vip);
/// Two VIPs of one address and protocol whose ranges of ports cross: neither is the narrower, so
/// nothing says which one a packet belongs to.
struct CrossingRanges {
  std::size_t one = 0;  ///< indices of what was asked about, in any order
  std::size_t other = 0;
};
/// None where no two cross; else one pair at least for each set of VIPs that are tangled.
std::vector<CrossingRanges> crossing_ranges(std::span<const VipKey> vips);
/// What must hold for VIPs beside each other, whose keys differ.
Result<void> check_vips_together(std::span<const Vip> vips);

std::string lower_case(std::string_view text);

}  // namespace weir::control
