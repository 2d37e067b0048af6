#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "l4/wire/address.h"

namespace weir::testing {

using FrameView = std::span<const std::byte>;

/// A frame as the tests read it, by nothing that the balancer has: what the standards say is where.
struct Decoded {
  std::size_t tag_bytes = 0;  ///< VLAN tags behind the MAC addresses, at most two
  std::size_t ip_at = 14;
  bool is_v4 = true;
  wire::IpAddress source;
  wire::IpAddress destination;
  std::uint8_t hop_limit = 0;

  /// All below holds if the headers are sound and as long as they say; `reach` says how far.
  bool is_whole = false;
  std::size_t ip_bytes = 0;   ///< as the header says
  std::size_t l4_at = 0;      ///< in the frame
  std::uint8_t protocol = 0;  ///< behind extension headers
  bool has_extensions = false;
  bool is_first_fragment = false;
  bool is_later_fragment = false;
  std::uint32_t fragment_id = 0;

  [[nodiscard]] std::size_t ip_end() const { return ip_at + ip_bytes; }
};

/// Of Ethernet's payload; nothing where it is no IP packet of a whole fixed header.
std::optional<Decoded> decode(FrameView frame);
/// Of an IP packet that begins at `at`, as ICMP errors quote them: may be cut off.
std::optional<Decoded> decode_ip(FrameView bytes, std::size_t at, bool is_v4);

struct PortPair {
  std::uint16_t source = 0;
  std::uint16_t destination = 0;
};
/// Of TCP and UDP, where the bytes are there.
std::optional<PortPair> ports_of(FrameView frame, const Decoded& packet);

std::uint16_t word_at(FrameView bytes, std::size_t at);

/// One's complement sum, from 0 to 0xfffe: 0xffff is 0. A message with a right checksum in it has
/// 0.
std::uint32_t sum_of(FrameView bytes);
std::uint32_t sum_of_ipv4_header(FrameView frame, const Decoded& packet);
/// Of pseudo header and segment; ICMP over IPv4 has no pseudo header.
std::uint32_t sum_of_segment(FrameView frame, const Decoded& packet);

/// Offset of the checksum in TCP, UDP, ICMP; nothing for other protocols.
std::optional<std::size_t> checksum_offset(std::uint8_t protocol);

bool is_icmp(const Decoded& packet);
/// ICMP errors that quote a packet, where type and quote are there.
bool is_icmp_error(FrameView frame, const Decoded& packet);

}  // namespace weir::testing
