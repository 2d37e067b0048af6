#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <variant>

#include "l7/net/ip.h"
#include "l7/net/transport.h"

/// The outer headers that a balancer on another host puts around a packet: what is under them, and
/// what becomes of the ECN bits. Pure functions over bytes; who may send a tunnel packet and where
/// the inner one may go is the interface's to say.
///
/// Tunnels: IP in IP (RFC 2003: 4in4; RFC 2473: 4in6, 6in6; RFC 4213: 6in4) and GUE
/// (draft-ietf-intarea-gue: variant 1, which is what our balancer sends, and variant 0 with nothing
/// but its base header). The same as bpf/decap.h takes, and refused for the same reasons.
namespace weir::net {

enum class TunnelKind : std::uint8_t { kIpip, kGue };

enum class TunnelFault : std::uint8_t {
  kMalformed,  ///< headers that make no sense, or that say what no balancer says
  kChecksum,   ///< of GUE's UDP header: wrong, or missing over IPv6
};

/// The packet inside. `family` is what the tunnel announces; the inner header has still to be read.
struct Tunnel {
  TunnelKind kind = TunnelKind::kIpip;
  wire::Family family = wire::Family::kIpv4;
  std::size_t inner_offset = 0;  ///< from the outer IP header
  std::size_t inner_length = 0;  ///< of what is carried; the inner packet is not longer than this
};

using TunnelParse = std::variant<Tunnel, TunnelFault>;

/// By protocol, and UDP by its destination port: nothing where `outer` is no tunnel packet. `bytes`
/// begin with the outer IP header, which has been parsed as `outer`.
[[nodiscard]] std::optional<TunnelKind> tunnel_kind(const IpDatagram& outer,
                                                    std::span<const std::byte> bytes);

/// What stands between the two IP headers. `bytes` as above, for which tunnel_kind() gave `kind`.
[[nodiscard]] TunnelParse parse_tunnel(TunnelKind kind, const IpDatagram& outer,
                                       std::span<const std::byte> bytes);

/// RFC 6040, section 4.2: the bits of the inner packet as they go on, or nothing where a congestion
/// mark can only be passed on as a loss, since the sender of the inner packet does not know ECN.
[[nodiscard]] std::optional<Ecn> decapsulated_ecn(Ecn outer, Ecn inner);

/// The most that stands in front of an inner packet in an outer packet of this family.
[[nodiscard]] std::size_t tunnel_overhead(wire::Family outer);

}  // namespace weir::net
