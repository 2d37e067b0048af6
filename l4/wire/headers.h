#pragma once

#include <array>
#include <cstdint>

#include "l4/wire/address.h"
#include "l4/wire/endian.h"

/// Packet headers exactly as they lie on the wire: plain structures without padding, to be copied
/// out with ByteReader::take() and in with store(). They hold whatever the wire held; checking
/// is the parser's work.
namespace weir::wire {

enum class EtherType : std::uint16_t { kIpv4 = 0x0800, kArp = 0x0806, kIpv6 = 0x86dd };

/// IP protocol numbers (IANA "Protocol Numbers").
enum class IpProtocol : std::uint8_t {
  kIcmp = 1,
  kIpip = 4,
  kTcp = 6,
  kUdp = 17,
  kIpv6 = 41,
  kIcmpv6 = 58,
};

struct EthernetHeader {
  MacAddress destination;
  MacAddress source;
  be16 type;
};
static_assert(sizeof(EthernetHeader) == 14 && alignof(EthernetHeader) == 1);

/// RFC 791, section 3.1.
struct Ipv4Header {
  std::uint8_t version_and_length = 0x45;  ///< version in the high half, words in the low half
  std::uint8_t type_of_service = 0;
  be16 total_length;
  be16 identification;
  be16 flags_and_offset;
  std::uint8_t time_to_live = 64;
  std::uint8_t protocol = 0;
  be16 checksum;
  std::array<std::uint8_t, 4> source{};
  std::array<std::uint8_t, 4> destination{};

  static constexpr std::uint16_t kDontFragment = 0x4000;
  static constexpr std::uint16_t kMoreFragments = 0x2000;
  static constexpr std::uint16_t kOffsetMask = 0x1fff;
};
static_assert(sizeof(Ipv4Header) == 20 && alignof(Ipv4Header) == 1);

/// RFC 8200, section 3.
struct Ipv6Header {
  be32 version_class_flow{0x60000000};
  be16 payload_length;
  std::uint8_t next_header = 0;
  std::uint8_t hop_limit = 64;
  std::array<std::uint8_t, 16> source{};
  std::array<std::uint8_t, 16> destination{};
};
static_assert(sizeof(Ipv6Header) == 40 && alignof(Ipv6Header) == 1);

/// RFC 9293, section 3.1.
struct TcpHeader {
  be16 source_port;
  be16 destination_port;
  be32 sequence;
  be32 acknowledgment;
  std::uint8_t data_offset = 0x50;  ///< words, in the high half
  std::uint8_t flags = 0;
  be16 window;
  be16 checksum;
  be16 urgent_pointer;

  static constexpr std::uint8_t kFin = 0x01;
  static constexpr std::uint8_t kSyn = 0x02;
  static constexpr std::uint8_t kRst = 0x04;
  static constexpr std::uint8_t kPsh = 0x08;
  static constexpr std::uint8_t kAck = 0x10;
  static constexpr std::uint8_t kUrg = 0x20;
  static constexpr std::uint8_t kEce = 0x40;
  static constexpr std::uint8_t kCwr = 0x80;
};
static_assert(sizeof(TcpHeader) == 20 && alignof(TcpHeader) == 1);

struct UdpHeader {
  be16 source_port;
  be16 destination_port;
  be16 length;
  be16 checksum;
};
static_assert(sizeof(UdpHeader) == 8 && alignof(UdpHeader) == 1);

/// ICMP and ICMPv6 share the first eight bytes (RFC 792; RFC 4443, section 2.1).
struct IcmpHeader {
  std::uint8_t type = 0;
  std::uint8_t code = 0;
  be16 checksum;
  be32 rest;
};
static_assert(sizeof(IcmpHeader) == 8 && alignof(IcmpHeader) == 1);

}  // namespace weir::wire
