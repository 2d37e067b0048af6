#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "l4/wire/address.h"
#include "l7/net/transport.h"

namespace weir::testing {

/// A TCP segment in its IP packet, in absolute numbers, as the transcripts write and read it. Its
/// own writer and reader, so that what tcp::Stack makes is not judged by tcp::Stack's own parser.
struct ScriptSegment {
  wire::Endpoint source;
  wire::Endpoint destination;
  std::uint32_t seq = 0;
  std::uint32_t ack = 0;
  std::uint8_t flags = 0;
  std::uint16_t window = 0;
  std::uint16_t urgent = 0;
  net::Ecn ecn = net::Ecn::kNotCapable;
  std::optional<std::uint16_t> mss = std::nullopt;
  std::optional<std::uint8_t> window_scale = std::nullopt;
  bool sack_permitted = false;
  std::optional<std::pair<std::uint32_t, std::uint32_t>> stamps = std::nullopt;  ///< TSval, TSecr
  std::vector<std::pair<std::uint32_t, std::uint32_t>> sack = {};
  std::vector<std::byte> raw_options = {};  ///< behind the others, as they are; padded with zeros
  std::vector<std::byte> text = {};
};

/// The IP packet, with right lengths and checksums.
[[nodiscard]] std::vector<std::byte> encode_segment(const ScriptSegment& segment);

/// Nothing unless it is a whole TCP segment with right checksums, options in form and no option
/// beside those above.
[[nodiscard]] std::optional<ScriptSegment> decode_segment(std::span<const std::byte> packet);

/// An ICMP error of `type` and `code` from `router`, with `rest` in its second word, that quotes
/// the first 64 bits of the segment behind its IP header.
[[nodiscard]] std::vector<std::byte> encode_icmp_error(const wire::IpAddress& router,
                                                       const ScriptSegment& quoted,
                                                       std::uint8_t type, std::uint8_t code,
                                                       std::uint32_t rest);

}  // namespace weir::testing
