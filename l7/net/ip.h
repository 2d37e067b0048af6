#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <variant>

#include "l4/wire/address.h"
#include "l4/wire/headers.h"
#include "l7/net/transport.h"
#include "l7/port/packet.h"

/// IP headers: what comes in is checked, what goes out is written. Pure functions over bytes.
namespace weir::net {

/// Why a datagram is not looked at any further.
enum class IpFault : std::uint8_t {
  kTruncated,  ///< shorter than its headers say
  kMalformed,  ///< impossible version, length or order of headers
  kChecksum,   ///< IPv4 header checksum
  kTimeToLive,
  kFragment,
  kExtension,  ///< too many extension headers, or one that asks to be discarded
};

/// A datagram that is complete and whole. Offsets count from the IP header.
struct IpDatagram {
  wire::IpAddress source;
  wire::IpAddress destination;
  std::uint8_t protocol = 0;
  std::uint8_t time_to_live = 0;
  Ecn ecn = Ecn::kNotCapable;
  std::size_t payload_offset = 0;
  std::size_t total_length = 0;  ///< what follows in the frame is padding
  bool in_tunnel = false;        ///< came in another packet, and so from no neighbour
};

using IpParse = std::variant<IpDatagram, IpFault>;

/// RFC 791 and RFC 1122, section 3.2.1. Options are skipped.
[[nodiscard]] IpParse parse_ipv4(std::span<const std::byte> bytes);
/// RFC 8200. Extension headers are skipped, at most kExtensionHeadersMax of them.
[[nodiscard]] IpParse parse_ipv6(std::span<const std::byte> bytes);
inline constexpr unsigned kExtensionHeadersMax = 4;

/// The transport segment that an ICMP error quotes: enough to say which connection is meant.
struct QuotedSegment {
  wire::Endpoint source;
  wire::Endpoint destination;
  std::uint32_t sequence = 0;
  std::uint32_t packet_length = 0;  ///< IP header included; some routers do not quote it right
};
/// Nothing unless `bytes` begins with a first fragment of TCP and holds its first eight bytes. An
/// error quotes a packet of its own family.
[[nodiscard]] std::optional<QuotedSegment> parse_quoted_tcp(wire::Family family,
                                                            std::span<const std::byte> bytes);

/// Whether a host may send from this address (RFC 1122, section 3.2.1.3; RFC 4291, section 2.7).
[[nodiscard]] bool is_valid_source(const wire::IpAddress& source);

enum class ChecksumState : std::uint8_t { kGood, kUnfinished, kBad };
/// Verifies the checksum of a TCP, UDP or ICMPv6 segment whose checksum field is at
/// `field_offset`. kUnfinished: it holds the sum of the pseudo header, for hardware to go on from.
[[nodiscard]] ChecksumState check_transport_checksum(const IpDatagram& datagram,
                                                     std::span<const std::byte> segment,
                                                     std::size_t field_offset);

/// Computes and stores the checksum of a segment whose checksum field is zero.
void finish_transport_checksum(std::span<std::byte> segment, const wire::IpAddress& source,
                               const wire::IpAddress& destination, wire::IpProtocol protocol,
                               std::size_t field_offset);

/// Prepends an IP header with "don't fragment" set (RFC 1191; IPv6 has no other way).
void prepend_ip_header(port::Packet& packet, const wire::IpAddress& source,
                       const wire::IpAddress& destination, wire::IpProtocol protocol,
                       std::uint8_t time_to_live, Ecn ecn = Ecn::kNotCapable);

}  // namespace weir::net
