#include "tests/support/frame_view.h"

#include <variant>

#include "l4/base/bytes.h"
#include "l4/wire/headers.h"
#include "l7/net/ip.h"

namespace weir::testing {

std::optional<TcpFrame> tcp_frame(std::span<const std::byte> frame, Checksums checksums) {
  const auto ethernet = ByteReader{frame}.take<wire::EthernetHeader>();
  if (!ethernet) return std::nullopt;
  const auto packet = frame.subspan(sizeof(*ethernet));
  const auto type = wire::EtherType{ethernet->type.host()};
  if (type != wire::EtherType::kIpv4 && type != wire::EtherType::kIpv6) return std::nullopt;
  const net::IpParse parsed =
      type == wire::EtherType::kIpv4 ? net::parse_ipv4(packet) : net::parse_ipv6(packet);
  const auto* const datagram = std::get_if<net::IpDatagram>(&parsed);
  if (datagram == nullptr ||
      datagram->protocol != static_cast<std::uint8_t>(wire::IpProtocol::kTcp))
    return std::nullopt;
  const auto bytes = packet.first(datagram->total_length).subspan(datagram->payload_offset);
  constexpr std::size_t kChecksumOffset = 16;
  if (checksums == Checksums::kVerify &&
      (bytes.size() < sizeof(wire::TcpHeader) ||
       net::check_transport_checksum(*datagram, bytes, kChecksumOffset) !=
           net::ChecksumState::kGood))
    return std::nullopt;
  const auto segment = tcp::parse_segment(bytes);
  if (!segment) return std::nullopt;
  return TcpFrame{datagram->source, datagram->destination, datagram->ecn, *segment};
}

}  // namespace weir::testing
