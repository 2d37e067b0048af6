#pragma once

#include <algorithm>
#include <cstdint>

#include "l4/wire/headers.h"
#include "l7/net/transport.h"
#include "l7/tcp/flow_key.h"
#include "l7/tcp/segment.h"
#include "l7/tcp/stack.h"

/// What a SYN says about its sender and about us: the same from a Listener and from a Connection.
namespace weir::tcp {

/// The peer's MSS; without the option, RFC 9293, section 3.7.1. Below the floor, headers would be
/// all we send; no network needs it, a hostile peer may ask for it.
[[nodiscard]] inline std::uint16_t peer_mss(const SegmentOptions& options, wire::Family family) {
  constexpr std::uint16_t kDefaultV4 = 536;
  constexpr std::uint16_t kDefaultV6 = 1220;
  constexpr std::uint16_t kFloor = 88;
  const std::uint16_t unsaid = family == wire::Family::kIpv4 ? kDefaultV4 : kDefaultV6;
  return std::max(options.mss.value_or(unsaid), kFloor);
}

/// The MSS that we announce.
[[nodiscard]] inline std::uint16_t receive_mss(const net::SegmentOutput& output,
                                               const FlowKey& key) {
  return static_cast<std::uint16_t>(
      output.receive_segment_size(key.local_address, key.remote_address) - sizeof(wire::TcpHeader));
}

/// The smallest scale by which our largest window can be said.
[[nodiscard]] inline std::uint8_t receive_shift(const StackOptions& options) {
  std::uint8_t shift = 0;
  while ((options.receive_buffer_bytes >> shift) > UINT16_MAX)
    ++shift;
  return shift;
}

/// The window of a SYN is never scaled (RFC 7323, section 2.2).
[[nodiscard]] inline std::uint16_t syn_window(const StackOptions& options) {
  return static_cast<std::uint16_t>(
      std::min<std::uint32_t>(options.receive_buffer_bytes, UINT16_MAX));
}

}  // namespace weir::tcp
