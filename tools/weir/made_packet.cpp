#include "tools/weir/made_packet.h"

#include <algorithm>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"
#include "l4/wire/checksum.h"

namespace weir::cli {
namespace {

using namespace wire;

// Locally administered; the balancer looks at neither.
constexpr MacAddress kSender{{0x02, 0, 0, 0, 0, 0x01}};
constexpr MacAddress kReceiver{{0x02, 0, 0, 0, 0, 0x02}};

template <typename Header>
std::vector<std::byte> bytes_of(const Header& header) {
  std::vector<std::byte> bytes(sizeof(header));
  store(bytes, header);
  return bytes;
}

/// The header with its checksum, which is sent as ffff where it is zero: for UDP zero says "none"
/// (RFC 768), and for TCP the two are equal.
template <typename Header>
std::vector<std::byte> summed(Header header, const MadePacket& packet) {
  ChecksumSum sum = pseudo_header_sum(packet.source.address, packet.destination.address,
                                      packet.protocol, sizeof(header));
  const std::uint16_t checksum = sum.add(bytes_of(header)).finish();
  header.checksum = be16{checksum == 0 ? std::uint16_t{0xffff} : checksum};
  return bytes_of(header);
}

std::vector<std::byte> segment_of(const MadePacket& packet) {
  const be16 source{packet.source.port.value()};
  const be16 destination{packet.destination.port.value()};
  if (packet.protocol == IpProtocol::kUdp)
    return summed(UdpHeader{source, destination, be16{sizeof(UdpHeader)}, {}}, packet);
  TcpHeader tcp;
  tcp.source_port = source;
  tcp.destination_port = destination;
  tcp.flags = packet.tcp_flags;
  tcp.window = be16{65535};
  return summed(tcp, packet);
}

std::vector<std::byte> ipv4_header(const MadePacket& packet, std::size_t payload_bytes) {
  Ipv4Header ip;
  ip.total_length = be16{static_cast<std::uint16_t>(sizeof(ip) + payload_bytes)};
  ip.flags_and_offset = be16{Ipv4Header::kDontFragment};
  ip.protocol = static_cast<std::uint8_t>(packet.protocol);
  std::ranges::copy(packet.source.address.v4_octets(), ip.source.begin());
  std::ranges::copy(packet.destination.address.v4_octets(), ip.destination.begin());
  ip.checksum = be16{ChecksumSum{}.add(bytes_of(ip)).finish()};
  return bytes_of(ip);
}

std::vector<std::byte> ipv6_header(const MadePacket& packet, std::size_t payload_bytes) {
  Ipv6Header ip;
  ip.payload_length = be16{static_cast<std::uint16_t>(payload_bytes)};
  ip.next_header = static_cast<std::uint8_t>(packet.protocol);
  ip.source = packet.source.address.bytes;
  ip.destination = packet.destination.address.bytes;
  return bytes_of(ip);
}

}  // namespace

std::vector<std::byte> frame_of(const MadePacket& packet) {
  const bool is_v4 = packet.destination.address.is_v4();
  WEIR_ASSERT(packet.source.address.is_v4() == is_v4);  // the command line's parser sees to it
  const EtherType type = is_v4 ? EtherType::kIpv4 : EtherType::kIpv6;
  const std::vector<std::byte> segment = segment_of(packet);
  std::vector<std::byte> frame =
      bytes_of(EthernetHeader{kReceiver, kSender, be16{static_cast<std::uint16_t>(type)}});
  std::ranges::copy(
      is_v4 ? ipv4_header(packet, segment.size()) : ipv6_header(packet, segment.size()),
      std::back_inserter(frame));
  std::ranges::copy(segment, std::back_inserter(frame));
  return frame;
}

}  // namespace weir::cli
