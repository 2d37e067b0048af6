#include "l4/control/probe_icmp.h"

#include "l4/base/bytes.h"
#include "l4/wire/checksum.h"
#include "l4/wire/endian.h"

namespace weir::control {
namespace {

constexpr std::uint8_t kEchoRequest4 = 8, kEchoReply4 = 0;
constexpr std::uint8_t kEchoRequest6 = 128, kEchoReply6 = 129;

struct EchoMessage {
  std::uint8_t type = 0;
  std::uint8_t code = 0;
  wire::be16 checksum;
  wire::be16 identifier;
  wire::be16 sequence;
  wire::be64 nonce;
};
static_assert(sizeof(EchoMessage) == 16);

}  // namespace

std::vector<std::byte> echo_request_bytes(const EchoRequest& request) {
  const bool is_v4 = request.family == wire::Family::kIpv4;
  EchoMessage message;
  message.type = is_v4 ? kEchoRequest4 : kEchoRequest6;
  message.identifier = wire::be16{request.identifier};
  message.sequence = wire::be16{std::uint16_t{1}};
  message.nonce = wire::be64{request.nonce};
  std::vector<std::byte> bytes(sizeof(message));
  store(bytes, message);
  if (!is_v4) return bytes;
  message.checksum = wire::be16{wire::ChecksumSum{}.add(bytes).finish()};
  store(bytes, message);
  return bytes;
}

bool is_echo_reply_to(const EchoRequest& request, std::span<const std::byte> packet,
                      bool has_ip_header) {
  ByteReader reader{packet};
  if (has_ip_header) {
    if (packet.empty()) return false;
    // The header's length in words (RFC 791, section 3.1); the kernel has checked the rest.
    const std::size_t words = std::to_integer<std::size_t>(packet[0]) & 0xf;
    if (words < 5 || !reader.take_bytes(words * 4)) return false;
  }
  const auto message = reader.take<EchoMessage>();
  if (!message || reader.remaining() != 0 || message->code != 0) return false;
  const std::uint8_t reply = request.family == wire::Family::kIpv4 ? kEchoReply4 : kEchoReply6;
  if (message->type != reply || message->nonce.host() != request.nonce) return false;
  return request.identifier == 0 || message->identifier.host() == request.identifier;
}

}  // namespace weir::control
