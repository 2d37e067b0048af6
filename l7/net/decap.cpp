#include "l7/net/decap.h"

#include <array>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"

namespace weir::net {
namespace {

using wire::Family;
using wire::IpProtocol;

constexpr wire::Port kGuePort{6080};  // IANA; the balancer's default (bpf/abi.h)
constexpr std::size_t kUdpChecksumOffset = 6;

/// Variant 0 (draft-ietf-intarea-gue-09, section 3.1).
struct GueHeader {
  std::uint8_t variant_control_length = 0;  // zero: variant 0, no control message, no extensions
  std::uint8_t protocol = 0;
  wire::be16 flags;  // say which extensions follow
};
static_assert(sizeof(GueHeader) == 4 && alignof(GueHeader) == 1);
constexpr unsigned kGueVariantDirect = 1;  // section 4: the payload is an IP packet

std::optional<Family> family_of(std::uint8_t protocol) {
  if (protocol == static_cast<std::uint8_t>(IpProtocol::kIpip)) return Family::kIpv4;
  if (protocol == static_cast<std::uint8_t>(IpProtocol::kIpv6)) return Family::kIpv6;
  return std::nullopt;
}

std::span<const std::byte> payload_of(const IpDatagram& outer, std::span<const std::byte> bytes) {
  return bytes.first(outer.total_length).subspan(outer.payload_offset);
}

/// Over IPv4 zero means that there is no checksum (RFC 768); over IPv6 a tunnel may only do without
/// by agreement (RFC 6936), which our balancers do not ask for. An unfinished one is wrong here,
/// whatever the port allows: nobody between us and the balancer would have finished it.
bool is_checksum_right(const IpDatagram& outer, const wire::UdpHeader& header,
                       std::span<const std::byte> datagram) {
  if (header.checksum == wire::be16{}) return outer.source.is_v4();
  return check_transport_checksum(outer, datagram, kUdpChecksumOffset) == ChecksumState::kGood;
}

TunnelParse parse_gue(const IpDatagram& outer, std::span<const std::byte> payload) {
  const auto udp = ByteReader{payload}.take<wire::UdpHeader>();
  if (!udp || udp->length.host() <= sizeof(*udp) || udp->length.host() > payload.size())
    return TunnelFault::kMalformed;
  const auto datagram = payload.first(udp->length.host());
  if (!is_checksum_right(outer, *udp, datagram)) return TunnelFault::kChecksum;
  const auto content = datagram.subspan(sizeof(*udp));
  Tunnel tunnel{.kind = TunnelKind::kGue,
                .inner_offset = outer.payload_offset + sizeof(*udp),
                .inner_length = content.size()};
  const auto first = std::to_integer<unsigned>(content[0]);
  if (first >> 6 == kGueVariantDirect) {
    // The variant is the beginning of the inner version: 01xx is 4 to 7.
    const unsigned version = first >> 4;
    if (version != 4 && version != 6) return TunnelFault::kMalformed;
    tunnel.family = version == 4 ? Family::kIpv4 : Family::kIpv6;
    return tunnel;
  }
  const auto gue = ByteReader{content}.take<GueHeader>();
  if (!gue || gue->variant_control_length != 0 || gue->flags != wire::be16{})
    return TunnelFault::kMalformed;
  const std::optional<Family> family = family_of(gue->protocol);
  if (!family) return TunnelFault::kMalformed;
  tunnel.family = *family;
  tunnel.inner_offset += sizeof(*gue);
  tunnel.inner_length -= sizeof(*gue);
  return tunnel;
}

}  // namespace

std::optional<TunnelKind> tunnel_kind(const IpDatagram& outer, std::span<const std::byte> bytes) {
  if (family_of(outer.protocol)) return TunnelKind::kIpip;
  if (outer.protocol != static_cast<std::uint8_t>(IpProtocol::kUdp)) return std::nullopt;
  const auto udp = ByteReader{payload_of(outer, bytes)}.take<wire::UdpHeader>();
  if (!udp || udp->destination_port.host() != kGuePort.value()) return std::nullopt;
  return TunnelKind::kGue;
}

TunnelParse parse_tunnel(TunnelKind kind, const IpDatagram& outer,
                         std::span<const std::byte> bytes) {
  if (kind == TunnelKind::kGue) return parse_gue(outer, payload_of(outer, bytes));
  const std::optional<Family> family = family_of(outer.protocol);
  WEIR_ASSERT(family);  // that is how tunnel_kind() has told it
  return Tunnel{.kind = TunnelKind::kIpip,
                .family = *family,
                .inner_offset = outer.payload_offset,
                .inner_length = outer.total_length - outer.payload_offset};
}

std::optional<Ecn> decapsulated_ecn(Ecn outer, Ecn inner) {
  // RFC 6040, figure 4: a row for each inner field, a column for each outer one, in the order of
  // their codes: not-ECT, ECT(1), ECT(0), CE.
  static constexpr auto kNot = Ecn::kNotCapable;
  static constexpr auto kEct1 = Ecn::kCapable1;
  static constexpr auto kEct0 = Ecn::kCapable0;
  static constexpr auto kCe = Ecn::kCongested;
  static constexpr std::array<std::array<std::optional<Ecn>, 4>, 4> kTable{{
      {{kNot, kNot, kNot, std::nullopt}},
      {{kEct1, kEct1, kEct1, kCe}},
      {{kEct0, kEct1, kEct0, kCe}},
      {{kCe, kCe, kCe, kCe}},
  }};
  return kTable[static_cast<std::size_t>(inner)][static_cast<std::size_t>(outer)];
}

std::size_t tunnel_overhead(Family outer) {
  const std::size_t header =
      outer == Family::kIpv4 ? sizeof(wire::Ipv4Header) : sizeof(wire::Ipv6Header);
  return header + sizeof(wire::UdpHeader) + sizeof(GueHeader);
}

}  // namespace weir::net
