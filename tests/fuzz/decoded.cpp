#include "tests/fuzz/decoded.h"

#include <netinet/in.h>

namespace weir::testing {
namespace {

constexpr std::size_t kIcmpHeader = 8;

std::uint8_t byte_at(FrameView bytes, std::size_t at) {
  return std::to_integer<std::uint8_t>(bytes[at]);
}

wire::IpAddress v4_at(FrameView bytes, std::size_t at) {
  return wire::IpAddress::v4(byte_at(bytes, at), byte_at(bytes, at + 1), byte_at(bytes, at + 2),
                             byte_at(bytes, at + 3));
}

/// As it stands there, without a look at what it means.
wire::IpAddress v6_at(FrameView bytes, std::size_t at) {
  wire::IpAddress address;
  for (std::size_t i = 0; i < address.bytes.size(); ++i)
    address.bytes[i] = byte_at(bytes, at + i);
  return address;
}

void finish_ipv4(FrameView bytes, Decoded& packet) {
  const std::size_t at = packet.ip_at;
  const std::size_t header = (byte_at(bytes, at) & 15U) * 4U;
  packet.ip_bytes = word_at(bytes, at + 2);
  packet.protocol = byte_at(bytes, at + 9);
  packet.l4_at = at + header;
  const std::uint16_t fragment = word_at(bytes, at + 6);
  packet.is_later_fragment = (fragment & 0x1fff) != 0;
  packet.is_first_fragment = !packet.is_later_fragment && (fragment & 0x2000) != 0;
  packet.fragment_id = word_at(bytes, at + 4);
  packet.is_whole = byte_at(bytes, at) >> 4 == 4 && header >= 20 && packet.ip_bytes >= header &&
                    packet.ip_end() <= bytes.size();
}

bool is_extension(std::uint8_t header) {
  return header == IPPROTO_HOPOPTS || header == IPPROTO_ROUTING || header == IPPROTO_DSTOPTS ||
         header == IPPROTO_FRAGMENT;
}

void finish_ipv6(FrameView bytes, Decoded& packet) {
  const std::size_t at = packet.ip_at;
  packet.ip_bytes = 40 + std::size_t{word_at(bytes, at + 4)};
  packet.protocol = byte_at(bytes, at + 6);
  packet.l4_at = at + 40;
  if (byte_at(bytes, at) >> 4 != 6) return;
  // Of a quoted packet, what is there may be less than its length says, and more.
  const std::size_t end = bytes.size();
  while (is_extension(packet.protocol) && !packet.is_later_fragment) {
    if (packet.l4_at + 8 > end) return;
    packet.has_extensions = true;
    const std::uint8_t next = byte_at(bytes, packet.l4_at);
    std::size_t length = 8;
    if (packet.protocol == IPPROTO_FRAGMENT) {
      const std::uint16_t fragment = word_at(bytes, packet.l4_at + 2);
      packet.is_later_fragment = (fragment & 0xfff8) != 0;
      packet.is_first_fragment = !packet.is_later_fragment && (fragment & 1) != 0;
      packet.fragment_id =
          std::uint32_t{word_at(bytes, packet.l4_at + 4)} << 16 | word_at(bytes, packet.l4_at + 6);
    } else {
      length = 8 + std::size_t{byte_at(bytes, packet.l4_at + 1)} * 8;
    }
    packet.protocol = next;
    packet.l4_at += length;
    if (packet.l4_at > end) return;
  }
  packet.is_whole = packet.ip_end() <= end && packet.l4_at <= packet.ip_end();
}

}  // namespace

std::uint16_t word_at(FrameView bytes, std::size_t at) {
  return static_cast<std::uint16_t>(byte_at(bytes, at) << 8 | byte_at(bytes, at + 1));
}

std::optional<Decoded> decode_ip(FrameView bytes, std::size_t at, bool is_v4) {
  Decoded packet;
  packet.ip_at = at;
  packet.is_v4 = is_v4;
  if (at + (is_v4 ? 20 : 40) > bytes.size()) return std::nullopt;
  packet.source = is_v4 ? v4_at(bytes, at + 12) : v6_at(bytes, at + 8);
  packet.destination = is_v4 ? v4_at(bytes, at + 16) : v6_at(bytes, at + 24);
  packet.hop_limit = byte_at(bytes, at + (is_v4 ? 8 : 7));
  if (is_v4)
    finish_ipv4(bytes, packet);
  else
    finish_ipv6(bytes, packet);
  return packet;
}

std::optional<Decoded> decode(FrameView frame) {
  std::size_t type_at = 12;
  while (type_at + 2 <= frame.size() && type_at < 20 &&
         (word_at(frame, type_at) == 0x8100 || word_at(frame, type_at) == 0x88a8))
    type_at += 4;
  if (type_at + 2 > frame.size()) return std::nullopt;
  const std::uint16_t type = word_at(frame, type_at);
  if (type != 0x0800 && type != 0x86dd) return std::nullopt;
  auto packet = decode_ip(frame, type_at + 2, type == 0x0800);
  if (packet) packet->tag_bytes = type_at - 12;
  return packet;
}

std::optional<PortPair> ports_of(FrameView frame, const Decoded& packet) {
  if (packet.protocol != IPPROTO_TCP && packet.protocol != IPPROTO_UDP) return std::nullopt;
  if (packet.l4_at + 4 > frame.size()) return std::nullopt;
  return PortPair{word_at(frame, packet.l4_at), word_at(frame, packet.l4_at + 2)};
}

std::uint32_t sum_of(FrameView bytes) {
  std::uint64_t sum = 0;
  std::size_t at = 0;
  for (; at + 1 < bytes.size(); at += 2)
    sum += word_at(bytes, at);
  if (at < bytes.size()) sum += std::uint64_t{byte_at(bytes, at)} << 8;
  return static_cast<std::uint32_t>(sum % 0xffff);
}

std::uint32_t sum_of_ipv4_header(FrameView frame, const Decoded& packet) {
  return sum_of(frame.subspan(packet.ip_at, (byte_at(frame, packet.ip_at) & 15U) * 4U));
}

std::uint32_t sum_of_segment(FrameView frame, const Decoded& packet) {
  const std::size_t bytes = packet.ip_end() - packet.l4_at;
  std::uint64_t sum = sum_of(frame.subspan(packet.l4_at, bytes));
  if (packet.is_v4 && packet.protocol == IPPROTO_ICMP)
    return static_cast<std::uint32_t>(sum % 0xffff);
  // Two addresses of either family; the ffff of IPv4's in our form counts for nothing.
  sum += sum_of(std::as_bytes(std::span{packet.source.bytes}));
  sum += sum_of(std::as_bytes(std::span{packet.destination.bytes}));
  const bool is_udp = packet.protocol == IPPROTO_UDP && bytes >= 8;
  return static_cast<std::uint32_t>(
      (sum + (is_udp ? word_at(frame, packet.l4_at + 4) : bytes) + packet.protocol) % 0xffff);
}

std::optional<std::size_t> checksum_offset(std::uint8_t protocol) {
  switch (protocol) {
    case IPPROTO_TCP:
      return 16;
    case IPPROTO_UDP:
      return 6;
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6:
      return 2;
    default:
      return std::nullopt;
  }
}

bool is_icmp(const Decoded& packet) {
  return packet.is_v4 ? packet.protocol == IPPROTO_ICMP : packet.protocol == IPPROTO_ICMPV6;
}

bool is_icmp_error(FrameView frame, const Decoded& packet) {
  if (!is_icmp(packet) || packet.is_later_fragment || packet.l4_at + kIcmpHeader > frame.size())
    return false;
  const std::uint8_t type = byte_at(frame, packet.l4_at);
  if (packet.is_v4) return type == 3 || type == 11 || type == 12;
  return type >= 1 && type <= 4;
}

}  // namespace weir::testing
