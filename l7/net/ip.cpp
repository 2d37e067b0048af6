#include "l7/net/ip.h"

#include <algorithm>

#include "l4/base/bytes.h"
#include "l4/wire/checksum.h"

namespace weir::net {
namespace {

using wire::IpAddress;
using wire::IpProtocol;

// Extension header types (IANA "Protocol Numbers").
constexpr std::uint8_t kHopByHop = 0;
constexpr std::uint8_t kRouting = 43;
constexpr std::uint8_t kFragment = 44;
constexpr std::uint8_t kDestinationOptions = 60;

constexpr unsigned kTrafficClassShift = 20;  // in the first word of an IPv6 header

/// The two low bits of the traffic class, which IPv4 calls type of service.
Ecn ecn_of(std::uint32_t traffic_class) { return static_cast<Ecn>(traffic_class & 3U); }

/// RFC 8200, section 4.2: the two highest bits of an unknown option say what to do with the packet;
/// only 00 lets it pass. Pad1, PadN and router alert all have 00, so no option needs a name here.
bool options_let_pass(std::span<const std::byte> options) {
  while (!options.empty()) {
    const auto type = std::to_integer<std::uint8_t>(options[0]);
    if (type == 0) {  // Pad1 has no length
      options = options.subspan(1);
      continue;
    }
    if ((type & 0xc0) != 0 || options.size() < 2) return false;
    const std::size_t length = 2 + std::to_integer<std::size_t>(options[1]);
    if (length > options.size()) return false;
    options = options.subspan(length);
  }
  return true;
}

/// One extension header as it lies at the front of `rest`.
struct Extension {
  std::uint8_t next = 0;
  std::size_t length = 0;
};

std::variant<Extension, IpFault> parse_extension(std::uint8_t type,
                                                 std::span<const std::byte> rest) {
  if (rest.size() < 8) return IpFault::kTruncated;
  Extension extension;
  extension.next = std::to_integer<std::uint8_t>(rest[0]);
  if (type == kFragment) {
    // A datagram in a single "fragment" is whole (RFC 6946); the low bits are reserved.
    const auto offset_and_more = static_cast<std::uint16_t>(
        (std::to_integer<unsigned>(rest[2]) << 8) | std::to_integer<unsigned>(rest[3]));
    if ((offset_and_more & 0xfff9) != 0) return IpFault::kFragment;
    extension.length = 8;
    return extension;
  }
  extension.length = 8 + 8 * std::to_integer<std::size_t>(rest[1]);
  if (extension.length > rest.size()) return IpFault::kTruncated;
  if (type == kRouting) {
    // Type 0 is abolished (RFC 5095); of others only those that have reached their end are for us.
    if (rest[2] == std::byte{0} || rest[3] != std::byte{0}) return IpFault::kExtension;
    return extension;
  }
  if (!options_let_pass(rest.subspan(2, extension.length - 2))) return IpFault::kExtension;
  return extension;
}

bool is_extension(std::uint8_t type) {
  return type == kHopByHop || type == kRouting || type == kFragment || type == kDestinationOptions;
}

}  // namespace

IpParse parse_ipv4(std::span<const std::byte> bytes) {
  const auto header = ByteReader{bytes}.take<wire::Ipv4Header>();
  if (!header) return IpFault::kTruncated;
  const std::size_t header_length = std::size_t{header->version_and_length & 0x0fU} * 4;
  const std::size_t total_length = header->total_length.host();
  if (header->version_and_length >> 4 != 4 || header_length < sizeof(wire::Ipv4Header) ||
      total_length < header_length)
    return IpFault::kMalformed;
  if (total_length > bytes.size()) return IpFault::kTruncated;
  if (wire::ChecksumSum{}.add(bytes.first(header_length)).finish() != 0) return IpFault::kChecksum;
  if (header->time_to_live == 0) return IpFault::kTimeToLive;
  const std::uint16_t fragment = header->flags_and_offset.host();
  if ((fragment & (wire::Ipv4Header::kMoreFragments | wire::Ipv4Header::kOffsetMask)) != 0)
    return IpFault::kFragment;
  return IpDatagram{.source = IpAddress::v4(header->source),
                    .destination = IpAddress::v4(header->destination),
                    .protocol = header->protocol,
                    .time_to_live = header->time_to_live,
                    .ecn = ecn_of(header->type_of_service),
                    .payload_offset = header_length,
                    .total_length = total_length};
}

IpParse parse_ipv6(std::span<const std::byte> bytes) {
  const auto header = ByteReader{bytes}.take<wire::Ipv6Header>();
  if (!header) return IpFault::kTruncated;
  if (header->version_class_flow.host() >> 28 != 6) return IpFault::kMalformed;
  IpDatagram datagram{.source = IpAddress::v6(header->source),
                      .destination = IpAddress::v6(header->destination),
                      .protocol = header->next_header,
                      .time_to_live = header->hop_limit,
                      .ecn = ecn_of(header->version_class_flow.host() >> kTrafficClassShift),
                      .payload_offset = sizeof(wire::Ipv6Header),
                      .total_length = sizeof(wire::Ipv6Header) + header->payload_length.host()};
  if (datagram.total_length > bytes.size()) return IpFault::kTruncated;
  // Mapped addresses stand for IPv4 inside this program and are never on a wire.
  if (datagram.source.is_v4() || datagram.destination.is_v4()) return IpFault::kMalformed;
  if (datagram.time_to_live == 0) return IpFault::kTimeToLive;
  for (unsigned count = 0; is_extension(datagram.protocol); ++count) {
    if (count == kExtensionHeadersMax) return IpFault::kExtension;
    // Hop-by-hop options come first or not at all (RFC 8200, section 4.1).
    if (datagram.protocol == kHopByHop && count > 0) return IpFault::kMalformed;
    const auto rest = bytes.first(datagram.total_length).subspan(datagram.payload_offset);
    const auto parsed = parse_extension(datagram.protocol, rest);
    if (const IpFault* fault = std::get_if<IpFault>(&parsed)) return *fault;
    const Extension& extension = std::get<Extension>(parsed);
    datagram.protocol = extension.next;
    datagram.payload_offset += extension.length;
  }
  return datagram;
}

std::optional<QuotedSegment> parse_quoted_tcp(wire::Family family,
                                              std::span<const std::byte> bytes) {
  ByteReader reader{bytes};
  QuotedSegment quoted;
  const unsigned version = family == wire::Family::kIpv4 ? 4 : 6;
  if (bytes.empty() || std::to_integer<unsigned>(bytes[0]) >> 4 != version) return std::nullopt;
  if (family == wire::Family::kIpv4) {
    const auto header = reader.take<wire::Ipv4Header>();
    if (!header || header->protocol != static_cast<std::uint8_t>(IpProtocol::kTcp))
      return std::nullopt;
    if ((header->flags_and_offset.host() & wire::Ipv4Header::kOffsetMask) != 0) return std::nullopt;
    const std::size_t header_length = std::size_t{header->version_and_length & 0x0fU} * 4;
    if (header_length < sizeof(wire::Ipv4Header)) return std::nullopt;
    if (!reader.take_bytes(header_length - sizeof(wire::Ipv4Header))) return std::nullopt;
    quoted.source.address = IpAddress::v4(header->source);
    quoted.destination.address = IpAddress::v4(header->destination);
    quoted.packet_length = header->total_length.host();
  } else {
    // We send no extension headers, so an answer to one of ours quotes none.
    const auto header = reader.take<wire::Ipv6Header>();
    if (!header || header->next_header != static_cast<std::uint8_t>(IpProtocol::kTcp))
      return std::nullopt;
    quoted.source.address = IpAddress::v6(header->source);
    quoted.destination.address = IpAddress::v6(header->destination);
    // Mapped addresses would be taken for those of an IPv4 connection.
    if (quoted.source.address.is_v4() || quoted.destination.address.is_v4()) return std::nullopt;
    quoted.packet_length = sizeof(*header) + std::uint32_t{header->payload_length.host()};
  }
  const auto source_port = reader.take<wire::be16>();
  const auto destination_port = reader.take<wire::be16>();
  const auto sequence = reader.take<wire::be32>();
  if (!sequence) return std::nullopt;  // eight bytes are the least that is quoted
  quoted.source.port = wire::Port{source_port->host()};
  quoted.destination.port = wire::Port{destination_port->host()};
  quoted.sequence = sequence->host();
  return quoted;
}

bool is_valid_source(const IpAddress& source) {
  if (source.is_multicast() || source.is_loopback() || source.is_unspecified()) return false;
  if (!source.is_v4()) return true;
  const std::uint8_t first = source.v4_octets()[0];
  return first != 0 && first < 240;  // "this network" and class E
}

ChecksumState check_transport_checksum(const IpDatagram& datagram,
                                       std::span<const std::byte> segment,
                                       std::size_t field_offset) {
  wire::ChecksumSum sum =
      wire::pseudo_header_sum(datagram.source, datagram.destination,
                              static_cast<IpProtocol>(datagram.protocol), segment.size());
  const auto unfinished = static_cast<std::uint16_t>(~sum.finish());
  if (sum.add(segment).finish() == 0) return ChecksumState::kGood;
  const auto field = ByteReader{segment.subspan(field_offset)}.take<wire::be16>();
  return field && field->host() == unfinished ? ChecksumState::kUnfinished : ChecksumState::kBad;
}

void finish_transport_checksum(std::span<std::byte> segment, const IpAddress& source,
                               const IpAddress& destination, IpProtocol protocol,
                               std::size_t field_offset) {
  wire::ChecksumSum sum = wire::pseudo_header_sum(source, destination, protocol, segment.size());
  store(segment.subspan(field_offset), wire::be16{sum.add(segment).finish()});
}

void prepend_ip_header(port::Packet& packet, const IpAddress& source, const IpAddress& destination,
                       IpProtocol protocol, std::uint8_t time_to_live, Ecn ecn) {
  const std::size_t payload = packet.size();
  if (!source.is_v4()) {
    wire::Ipv6Header header;
    header.version_class_flow = wire::be32{header.version_class_flow.host() |
                                           static_cast<std::uint32_t>(ecn) << kTrafficClassShift};
    header.payload_length = wire::be16{static_cast<std::uint16_t>(payload)};
    header.next_header = static_cast<std::uint8_t>(protocol);
    header.hop_limit = time_to_live;
    header.source = source.bytes;
    header.destination = destination.bytes;
    store(packet.prepend(sizeof(header)), header);
    return;
  }
  // Identification stays zero: it only matters to fragments (RFC 6864, section 4.1).
  wire::Ipv4Header header;
  header.type_of_service = static_cast<std::uint8_t>(ecn);
  header.total_length = wire::be16{static_cast<std::uint16_t>(sizeof(header) + payload)};
  header.flags_and_offset = wire::be16{wire::Ipv4Header::kDontFragment};
  header.time_to_live = time_to_live;
  header.protocol = static_cast<std::uint8_t>(protocol);
  std::ranges::copy(source.v4_octets(), header.source.begin());
  std::ranges::copy(destination.v4_octets(), header.destination.begin());
  const auto bytes = std::as_bytes(std::span{&header, 1});
  header.checksum = wire::be16{wire::ChecksumSum{}.add(bytes).finish()};
  store(packet.prepend(sizeof(header)), header);
}

}  // namespace weir::net
