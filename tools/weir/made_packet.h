#pragma once

#include <cstddef>
#include <vector>

#include "l4/wire/address.h"
#include "l4/wire/headers.h"

namespace weir::cli {

struct MadePacket {
  wire::Endpoint source;
  wire::Endpoint destination;  ///< of the source's family
  wire::IpProtocol protocol = wire::IpProtocol::kTcp;
  std::uint8_t tcp_flags = wire::TcpHeader::kSyn;
};

/// The smallest frame of that kind, with right checksums: a segment without options and payload, an
/// empty datagram.
std::vector<std::byte> frame_of(const MadePacket& packet);

}  // namespace weir::cli
