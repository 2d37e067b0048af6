#pragma once

#include <cstdint>
#include <string>

namespace weir::testing {

/// One connection whose peer acknowledges, SACKs and opens its window as the seed has it, takes
/// back what it likes, and then falls silent for 250 s. Returns what was broken, or nothing:
///
/// - as long as the peer has not acknowledged all, the stack is never silent for longer than its
///   longest time-out (RFC 6298, section 2.5; RFC 9293, section 3.8.6.1)
/// - the silent peer is given up
[[nodiscard]] std::string check_tcp_liveness(std::uint64_t seed);

}  // namespace weir::testing
