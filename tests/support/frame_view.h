#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "l4/wire/address.h"
#include "l7/net/transport.h"
#include "l7/tcp/segment.h"

namespace weir::testing {

/// The TCP segment in a frame, for whoever watches a link. `segment` points into the frame.
struct TcpFrame {
  wire::IpAddress source;
  wire::IpAddress destination;
  net::Ecn ecn = net::Ecn::kNotCapable;
  tcp::SegmentView segment;
};

enum class Checksums : std::uint8_t { kTrust, kVerify };

/// Nothing when the frame holds anything else, or something that a receiver would not take.
[[nodiscard]] std::optional<TcpFrame> tcp_frame(std::span<const std::byte> frame,
                                                Checksums checksums = Checksums::kTrust);

}  // namespace weir::testing
