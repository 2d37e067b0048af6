#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace weir::testing {

/// Reads bytes as a sequence of operations on one tcp::Stack: segments with fields relative to what
/// the stack expects, garbage, ICMP errors, time, and whatever a user may call. Returns which
/// property was broken, or nothing:
///
/// - whatever is sent can be parsed, fits the peer's MSS, and carries bytes that were written, at
///   the place where they belong
/// - no text beyond the right edge of the window that the peer has offered, but for one byte of a
///   probe; no number beyond what was written and one FIN
/// - one turn sends a bounded number of segments
/// - counts stay within their limits, and time-outs take everything back to zero when the peer
/// falls
///   silent and the user lets go: no connection, record, chunk, packet or timer is left
///
/// Packets come from the heap in exact size, so that a sanitizer sees what reads or writes beyond.
[[nodiscard]] std::string check_tcp_properties(std::span<const std::uint8_t> input);

}  // namespace weir::testing
