#pragma once

#include <cstdint>

#include "l4/base/clock.h"
#include "l4/wire/address.h"
#include "l4/wire/headers.h"
#include "l7/port/packet.h"

namespace weir::net {

/// The two ECN bits of an IP header (RFC 3168, section 5).
enum class Ecn : std::uint8_t {
  kNotCapable = 0,
  kCapable1 = 1,  ///< ECT(1); means the same as ECT(0) in classic ECN
  kCapable0 = 2,  ///< ECT(0), what we send
  kCongested = 3,
};

/// A received transport segment: its bytes begin with the transport header, its checksum has been
/// verified, and what followed the IP datagram in the frame is cut off.
struct Segment {
  wire::IpAddress source;
  wire::IpAddress destination;
  wire::IpProtocol protocol = wire::IpProtocol::kTcp;
  Ecn ecn = Ecn::kNotCapable;
  port::Packet packet;
};

/// A validated ICMP error about something we sent (RFC 1122, section 4.2.3.9).
struct TransportError {
  enum class Kind { kUnreachable, kPacketTooBig, kTimeExceeded };
  Kind kind = Kind::kUnreachable;
  wire::Endpoint local;
  wire::Endpoint remote;
  std::uint32_t sequence = 0;  ///< of the quoted segment, so that a guess can be recognised
  std::uint16_t mtu = 0;       ///< for kPacketTooBig
};

/// What a transport protocol needs from the layer below. Implemented by net::Interface and by the
/// test harnesses; the only thing that tcp knows of the network.
class SegmentOutput {
 public:
  virtual ~SegmentOutput() = default;

  /// An empty packet to build a segment in, or nothing when buffers are short.
  [[nodiscard]] virtual port::Packet allocate() = 0;

  /// Takes a finished segment: bytes begin with the TCP header, its checksum field is zero and is
  /// filled in below. Never fails towards TCP: what cannot leave is dropped and counted, as a
  /// network would.
  virtual void send(port::Packet segment, const wire::IpAddress& source,
                    const wire::IpAddress& destination, Ecn ecn, Instant now) = 0;

  /// Largest TCP segment, header included, that fits one packet towards the address, as far as is
  /// known of the path.
  [[nodiscard]] virtual std::uint16_t segment_size(const wire::IpAddress& destination) const = 0;

  /// Largest TCP segment, header included, that can come in for `local` from `remote`: what the MSS
  /// option says (RFC 6691). Smaller than the device's where packets come in a tunnel.
  [[nodiscard]] virtual std::uint16_t receive_segment_size(const wire::IpAddress& local,
                                                           const wire::IpAddress& remote) const = 0;

  /// Packets of more than `mtu` bytes do not reach `destination`: segment_size() is smaller from
  /// here on, for a while. Only for what the transport has recognised as an answer to a segment in
  /// flight (RFC 5927, section 7.2), or has found out itself (RFC 4821).
  virtual void lower_path_mtu(const wire::IpAddress& destination, std::uint16_t mtu,
                              Instant now) = 0;
};

}  // namespace weir::net
