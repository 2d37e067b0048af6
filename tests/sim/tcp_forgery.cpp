#include "tests/sim/tcp_forgery.h"

#include <array>
#include <cstddef>
#include <cstdint>

#include "l4/base/bytes.h"
#include "l4/wire/checksum.h"
#include "l4/wire/headers.h"
#include "l7/port/impair.h"
#include "tests/support/script_segment.h"

namespace weir::testing {
namespace {

std::size_t transport_at(const TcpFrame& tcp) {
  return sizeof(wire::EthernetHeader) +
         (tcp.source.is_v4() ? sizeof(wire::Ipv4Header) : sizeof(wire::Ipv6Header));
}

std::vector<std::byte> too_big(std::span<const std::byte> frame, const TcpFrame& tcp) {
  std::array<std::byte, port::kTooBigBytesMax> error;
  const std::uint16_t mtu = tcp.source.is_v4() ? 576 : 1280;
  const std::size_t length = port::write_too_big(frame, mtu, error);
  return {error.begin(), error.begin() + static_cast<std::ptrdiff_t>(length)};
}

}  // namespace

std::vector<std::byte> guessed_too_big(std::span<const std::byte> frame, const TcpFrame& tcp) {
  std::vector<std::byte> quoted{frame.begin(), frame.end()};
  quoted[transport_at(tcp) + offsetof(wire::TcpHeader, sequence)] ^= std::byte{0x40};
  return too_big(quoted, tcp);
}

std::vector<std::byte> unreachable_about(std::span<const std::byte> frame, const TcpFrame& tcp) {
  std::vector<std::byte> error = too_big(frame, tcp);
  if (error.empty()) return error;
  const bool v4 = tcp.source.is_v4();
  const auto message = std::span{error}.subspan(transport_at(tcp));
  message[0] = v4 ? std::byte{3} : std::byte{1};  // unreachable: host; no route
  message[1] = v4 ? std::byte{1} : std::byte{0};
  store(message.subspan(4), wire::be32{});
  store(message.subspan(2), wire::be16{});
  wire::ChecksumSum sum;
  if (!v4)
    sum = wire::pseudo_header_sum(tcp.destination, tcp.source, wire::IpProtocol::kIcmpv6,
                                  message.size());
  store(message.subspan(2), wire::be16{sum.add(message).finish()});
  return error;
}

std::vector<std::byte> fickle_ack(std::span<const std::byte> frame, const TcpFrame& tcp,
                                  tcp::Seq first, tcp::Seq end) {
  const tcp::SegmentView& segment = tcp.segment;
  ScriptSegment ack{.source = {tcp.source, wire::Port{segment.source_port}},
                    .destination = {tcp.destination, wire::Port{segment.destination_port}},
                    .seq = segment.end().value(),
                    .ack = segment.ack.value(),
                    .flags = wire::TcpHeader::kAck};
  if (segment.options.timestamps)
    ack.stamps = {segment.options.timestamps->value, segment.options.timestamps->echo};
  if (first < end) ack.sack = {{first.value(), end.value()}};
  std::vector<std::byte> forged{frame.begin(), frame.begin() + sizeof(wire::EthernetHeader)};
  const std::vector<std::byte> packet = encode_segment(ack);
  forged.insert(forged.end(), packet.begin(), packet.end());
  return forged;
}

}  // namespace weir::testing
