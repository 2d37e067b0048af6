#include "tests/support/script_segment.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "l4/base/bytes.h"
#include "l4/wire/checksum.h"
#include "l4/wire/headers.h"

namespace weir::testing {
namespace {

using wire::IpAddress;
using wire::IpProtocol;
using Bytes = std::vector<std::byte>;

constexpr std::size_t kTcpHeader = 20;
constexpr std::size_t kTcpChecksum = 16;
constexpr std::uint8_t kHops = 64;
constexpr unsigned kClassShift = 20;

void put(Bytes& out, std::uint64_t value, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i)
    out.push_back(static_cast<std::byte>(value >> 8 * (size - 1 - i)));
}

std::uint32_t get(std::span<const std::byte> bytes, std::size_t at, std::size_t size) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < size; ++i)
    value = value << 8 | std::to_integer<std::uint32_t>(bytes[at + i]);
  return value;
}

void set_word(Bytes& bytes, std::size_t at, std::uint16_t word) {
  bytes[at] = static_cast<std::byte>(word >> 8);
  bytes[at + 1] = static_cast<std::byte>(word);
}

Bytes with_ip_header(const IpAddress& source, const IpAddress& destination, IpProtocol protocol,
                     net::Ecn ecn, const Bytes& payload) {
  Bytes packet;
  const auto ecn_bits = static_cast<std::uint8_t>(ecn);
  if (source.is_v4()) {
    wire::Ipv4Header header;
    header.type_of_service = ecn_bits;
    header.total_length = wire::be16{static_cast<std::uint16_t>(sizeof(header) + payload.size())};
    header.flags_and_offset = wire::be16{wire::Ipv4Header::kDontFragment};
    header.time_to_live = kHops;
    header.protocol = static_cast<std::uint8_t>(protocol);
    std::ranges::copy(source.v4_octets(), header.source.begin());
    std::ranges::copy(destination.v4_octets(), header.destination.begin());
    packet.resize(sizeof(header));
    store(std::span{packet}, header);
    set_word(packet, 10, wire::ChecksumSum{}.add(packet).finish());
  } else {
    const wire::Ipv6Header header{
        .version_class_flow = wire::be32{0x60000000U | std::uint32_t{ecn_bits} << kClassShift},
        .payload_length = wire::be16{static_cast<std::uint16_t>(payload.size())},
        .next_header = static_cast<std::uint8_t>(protocol),
        .hop_limit = kHops,
        .source = source.bytes,
        .destination = destination.bytes};
    packet.resize(sizeof(header));
    store(std::span{packet}, header);
  }
  packet.insert(packet.end(), payload.begin(), payload.end());
  return packet;
}

Bytes options_of(const ScriptSegment& segment) {
  Bytes options;
  if (segment.mss) {
    put(options, 0x0204, 2);
    put(options, *segment.mss, 2);
  }
  if (segment.sack_permitted) put(options, 0x01010402, 4);
  if (segment.stamps) {
    put(options, 0x0101080a, 4);
    put(options, segment.stamps->first, 4);
    put(options, segment.stamps->second, 4);
  }
  if (segment.window_scale) put(options, 0x01030300U | *segment.window_scale, 4);
  if (!segment.sack.empty()) {
    put(options, 0x01010500U | (2 + 8 * segment.sack.size()), 4);
    for (const auto& [start, end] : segment.sack) {
      put(options, start, 4);
      put(options, end, 4);
    }
  }
  options.insert(options.end(), segment.raw_options.begin(), segment.raw_options.end());
  options.resize((options.size() + 3) / 4 * 4);
  return options;
}

/// False for what is not understood: the stack under test sends nothing else.
bool read_option(std::uint8_t kind, std::span<const std::byte> value, ScriptSegment& segment) {
  switch (kind) {
    case 2:
      if (value.size() != 2) return false;
      segment.mss = static_cast<std::uint16_t>(get(value, 0, 2));
      return true;
    case 3:
      if (value.size() != 1) return false;
      segment.window_scale = static_cast<std::uint8_t>(get(value, 0, 1));
      return true;
    case 4:
      segment.sack_permitted = true;
      return value.empty();
    case 5:
      for (std::size_t at = 0; at + 8 <= value.size(); at += 8)
        segment.sack.emplace_back(get(value, at, 4), get(value, at + 4, 4));
      return !value.empty() && value.size() % 8 == 0;
    case 8:
      if (value.size() != 8) return false;
      segment.stamps = {get(value, 0, 4), get(value, 4, 4)};
      return true;
    default:
      return false;
  }
}

bool read_options(std::span<const std::byte> options, ScriptSegment& segment) {
  while (!options.empty()) {
    const auto kind = std::to_integer<std::uint8_t>(options[0]);
    if (kind == 0) return true;
    if (kind == 1) {
      options = options.subspan(1);
      continue;
    }
    if (options.size() < 2) return false;
    const auto length = std::to_integer<std::size_t>(options[1]);
    if (length < 2 || length > options.size()) return false;
    if (!read_option(kind, options.subspan(2, length - 2), segment)) return false;
    options = options.subspan(length);
  }
  return true;
}

/// The TCP segment in the packet, with addresses and ECN bits written to `segment`; empty when the
/// packet is not whole or its checksum is wrong.
std::span<const std::byte> open_packet(std::span<const std::byte> packet, ScriptSegment& segment) {
  if (packet.empty()) return {};
  std::span<const std::byte> content;
  if (get(packet, 0, 1) >> 4 == 4) {
    const auto header = ByteReader{packet}.take<wire::Ipv4Header>();
    if (!header || header->total_length.host() != packet.size() || header->protocol != 6) return {};
    if (wire::ChecksumSum{}.add(packet.first(sizeof(*header))).finish() != 0) return {};
    segment.source.address = IpAddress::v4(header->source);
    segment.destination.address = IpAddress::v4(header->destination);
    segment.ecn = static_cast<net::Ecn>(header->type_of_service & 3);
    content = packet.subspan(sizeof(*header));
  } else {
    const auto header = ByteReader{packet}.take<wire::Ipv6Header>();
    if (!header || header->payload_length.host() + sizeof(*header) != packet.size()) return {};
    if (header->next_header != 6) return {};
    segment.source.address = IpAddress::v6(header->source);
    segment.destination.address = IpAddress::v6(header->destination);
    segment.ecn = static_cast<net::Ecn>(header->version_class_flow.host() >> kClassShift & 3);
    content = packet.subspan(sizeof(*header));
  }
  const bool right = wire::pseudo_header_sum(segment.source.address, segment.destination.address,
                                             IpProtocol::kTcp, content.size())
                         .add(content)
                         .finish() == 0;
  return right ? content : std::span<const std::byte>{};
}

Bytes tcp_bytes(const ScriptSegment& segment) {
  const Bytes options = options_of(segment);
  Bytes bytes;
  put(bytes, segment.source.port.value(), 2);
  put(bytes, segment.destination.port.value(), 2);
  put(bytes, segment.seq, 4);
  put(bytes, segment.ack, 4);
  put(bytes, (kTcpHeader + options.size()) / 4 << 4, 1);
  put(bytes, segment.flags, 1);
  put(bytes, segment.window, 2);
  put(bytes, 0, 2);
  put(bytes, segment.urgent, 2);
  bytes.insert(bytes.end(), options.begin(), options.end());
  bytes.insert(bytes.end(), segment.text.begin(), segment.text.end());
  set_word(bytes, kTcpChecksum,
           wire::pseudo_header_sum(segment.source.address, segment.destination.address,
                                   IpProtocol::kTcp, bytes.size())
               .add(bytes)
               .finish());
  return bytes;
}

}  // namespace

std::vector<std::byte> encode_segment(const ScriptSegment& segment) {
  return with_ip_header(segment.source.address, segment.destination.address, IpProtocol::kTcp,
                        segment.ecn, tcp_bytes(segment));
}

std::optional<ScriptSegment> decode_segment(std::span<const std::byte> packet) {
  ScriptSegment segment;
  const auto content = open_packet(packet, segment);
  if (content.size() < kTcpHeader) return std::nullopt;
  segment.source.port = wire::Port{static_cast<std::uint16_t>(get(content, 0, 2))};
  segment.destination.port = wire::Port{static_cast<std::uint16_t>(get(content, 2, 2))};
  segment.seq = get(content, 4, 4);
  segment.ack = get(content, 8, 4);
  segment.flags = static_cast<std::uint8_t>(get(content, 13, 1));
  segment.window = static_cast<std::uint16_t>(get(content, 14, 2));
  segment.urgent = static_cast<std::uint16_t>(get(content, 18, 2));
  const std::size_t header = get(content, 12, 1) / 16 * 4;
  if (header < kTcpHeader || header > content.size()) return std::nullopt;
  if (!read_options(content.first(header).subspan(kTcpHeader), segment)) return std::nullopt;
  segment.text.assign(content.begin() + static_cast<std::ptrdiff_t>(header), content.end());
  return segment;
}

std::vector<std::byte> encode_icmp_error(const IpAddress& router, const ScriptSegment& quoted,
                                         std::uint8_t type, std::uint8_t code, std::uint32_t rest) {
  constexpr std::size_t kQuotedOfTransport = 8;
  const IpAddress& to = quoted.source.address;
  const std::size_t ip_header = to.is_v4() ? sizeof(wire::Ipv4Header) : sizeof(wire::Ipv6Header);
  Bytes quote = encode_segment(quoted);
  quote.resize(ip_header + kQuotedOfTransport);
  Bytes message;
  put(message, type, 1);
  put(message, code, 1);
  put(message, 0, 2);
  put(message, rest, 4);
  message.insert(message.end(), quote.begin(), quote.end());
  const IpProtocol protocol = to.is_v4() ? IpProtocol::kIcmp : IpProtocol::kIcmpv6;
  wire::ChecksumSum sum = to.is_v4()
                              ? wire::ChecksumSum{}
                              : wire::pseudo_header_sum(router, to, protocol, message.size());
  set_word(message, 2, sum.add(message).finish());
  return with_ip_header(router, to, protocol, net::Ecn::kNotCapable, message);
}

}  // namespace weir::testing
