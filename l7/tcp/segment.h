#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "l4/wire/headers.h"
#include "l7/net/transport.h"
#include "l7/port/packet.h"
#include "l7/tcp/seq.h"

namespace weir::tcp {

/// Out-of-order bytes that have arrived: [start, end).
struct SackBlock {
  Seq start;
  Seq end;
  friend bool operator==(const SackBlock&, const SackBlock&) = default;
};

/// As many as fit the option space beside nothing else: (40 - 2 NOP - 2) / 8. Beside time stamps it
/// is one less, which sack_blocks_max() says.
inline constexpr std::size_t kSackBlocksMax = 4;

/// RFC 7323, section 3.2. The units are each side's own.
struct Timestamps {
  std::uint32_t value = 0;  ///< TSval
  std::uint32_t echo = 0;   ///< TSecr; means nothing without ACK
  friend bool operator==(const Timestamps&, const Timestamps&) = default;
};

/// The options we understand (RFC 9293, section 3.2; RFC 7323; RFC 2018). Others are skipped.
struct SegmentOptions {
  std::optional<std::uint16_t> mss;
  std::optional<std::uint8_t> window_scale;
  bool sack_permitted = false;
  std::optional<Timestamps> timestamps;
  std::array<SackBlock, kSackBlocksMax> sack{};
  std::size_t sack_count = 0;
};

/// A parsed segment: everything in host order; `payload` points into the packet.
struct SegmentView {
  std::uint16_t source_port = 0;
  std::uint16_t destination_port = 0;
  Seq seq;
  Seq ack;
  std::uint8_t flags = 0;
  std::uint16_t window = 0;              ///< as it stands in the header, not scaled
  net::Ecn ecn = net::Ecn::kNotCapable;  ///< of the IP header; parse_segment() does not see it
  SegmentOptions options;
  std::span<const std::byte> payload;

  [[nodiscard]] bool syn() const { return (flags & wire::TcpHeader::kSyn) != 0; }
  [[nodiscard]] bool fin() const { return (flags & wire::TcpHeader::kFin) != 0; }
  [[nodiscard]] bool rst() const { return (flags & wire::TcpHeader::kRst) != 0; }
  [[nodiscard]] bool has_ack() const { return (flags & wire::TcpHeader::kAck) != 0; }

  /// SEG.LEN of RFC 9293: payload, SYN and FIN.
  [[nodiscard]] std::uint32_t length() const {
    return static_cast<std::uint32_t>(payload.size()) + (syn() ? 1U : 0U) + (fin() ? 1U : 0U);
  }
  /// The first sequence number after the segment.
  [[nodiscard]] Seq end() const { return seq + length(); }
};

/// Nothing when the header is truncated, its length is impossible, an option runs over the header's
/// end, or SYN comes together with RST or FIN. Urgent data is read as ordinary data (RFC 6093).
[[nodiscard]] std::optional<SegmentView> parse_segment(std::span<const std::byte> bytes);

/// What a segment to be sent consists of, except its payload.
struct SegmentHeader {
  std::uint16_t source_port = 0;
  std::uint16_t destination_port = 0;
  Seq seq;
  Seq ack;
  std::uint8_t flags = 0;
  std::uint16_t window = 0;
  SegmentOptions options;
};

/// How many SACK blocks fit a header beside time stamps, or without them.
[[nodiscard]] constexpr std::size_t sack_blocks_max(bool with_timestamps) {
  return with_timestamps ? kSackBlocksMax - 1 : kSackBlocksMax;
}

/// Bytes of one option in a header, padding included.
inline constexpr std::size_t kTimestampsBytes = 12;
[[nodiscard]] constexpr std::size_t sack_bytes(std::size_t blocks) {
  return blocks == 0 ? 0 : 4 + 8 * blocks;
}

/// Bytes that the options take in a header, padding included.
[[nodiscard]] std::size_t options_size(const SegmentOptions& options);

/// Appends header and options to an empty packet and, behind them, `payload` bytes of room, which
/// are returned. The checksum stays zero: it is filled in below TCP.
std::span<std::byte> build_segment(port::Packet& packet, const SegmentHeader& header,
                                   std::size_t payload);

}  // namespace weir::tcp
