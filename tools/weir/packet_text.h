#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// Frames for people, much as tcpdump writes them.
namespace weir::cli {

/// Addresses, ports, protocol, TCP flags, bytes of payload; what is inside of a tunnel after a bar:
/// "10.0.0.1 > 10.0.0.11 IPIP | 192.0.2.7:4711 > 203.0.113.80:80 TCP [S] length 0". A frame that
/// was cut ends in "…".
std::string packet_text(std::span<const std::byte> frame);

/// Hexadecimal digits, with or without blanks and colons between bytes; nothing where it is not.
std::optional<std::vector<std::byte>> bytes_of_hex(std::string_view text);

}  // namespace weir::cli
