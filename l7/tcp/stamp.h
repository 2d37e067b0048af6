#pragma once

#include <chrono>
#include <cstdint>

#include "l4/base/clock.h"
#include "l7/tcp/flow_key.h"
#include "l7/tcp/seq.h"

namespace weir::tcp {

/// Where the time stamps that we send between two hosts begin: not at our start, which is nobody's
/// business (RFC 7323, section 7.1), and the same for all their connections, so that the stamps of
/// a new one follow those of the old (RFC 6191, section 3).
[[nodiscard]] inline std::uint32_t stamp_offset(const FlowHash& secret, FlowKey key) {
  key.local_port = key.remote_port = 0;
  return static_cast<std::uint32_t>(secret(key));
}

/// TSval at a moment: milliseconds (RFC 7323, section 5.4, allows 1 ms to 1 s).
[[nodiscard]] inline std::uint32_t stamp_at(std::uint32_t offset, Instant at) {
  const auto since = std::chrono::duration_cast<std::chrono::milliseconds>(at.time_since_epoch());
  return offset + static_cast<std::uint32_t>(since.count());
}

/// The order of time stamps is circular like that of sequence numbers (RFC 7323, section 5.2).
[[nodiscard]] inline bool stamp_before(std::uint32_t a, std::uint32_t b) { return Seq{a} < Seq{b}; }

}  // namespace weir::tcp
