#include "l4/wire/neighbor_messages.h"

#include <algorithm>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"
#include "l4/wire/endian.h"
#include "l4/wire/headers.h"

namespace weir::wire {
namespace {

struct ArpWire {
  be16 hardware{1};  // Ethernet
  be16 protocol{static_cast<std::uint16_t>(EtherType::kIpv4)};
  std::uint8_t hardware_length = 6;
  std::uint8_t protocol_length = 4;
  be16 operation;
  MacAddress sender_mac;
  std::array<std::uint8_t, 4> sender{};
  MacAddress target_mac;
  std::array<std::uint8_t, 4> target{};
};
static_assert(sizeof(ArpWire) == ArpMessage::kSize && alignof(ArpWire) == 1);

struct NeighborWire {
  std::uint8_t type = 0;
  std::uint8_t code = 0;
  be16 checksum;
  std::uint8_t flags = 0;
  std::array<std::uint8_t, 3> reserved{};
  std::array<std::uint8_t, 16> target{};

  static constexpr std::uint8_t kRouter = 0x80;
  static constexpr std::uint8_t kSolicited = 0x40;
  static constexpr std::uint8_t kOverride = 0x20;
};
static_assert(sizeof(NeighborWire) == 24 && alignof(NeighborWire) == 1);

struct LinkAddressOption {
  std::uint8_t type = 0;
  std::uint8_t units_of_8 = 1;
  MacAddress mac;

  static constexpr std::uint8_t kSource = 1;
  static constexpr std::uint8_t kTarget = 2;
};
static_assert(sizeof(NeighborWire) + sizeof(LinkAddressOption) == NeighborMessage::kSizeMax);

constexpr std::uint8_t option_type(NeighborMessage::Kind kind) {
  return kind == NeighborMessage::Kind::kSolicitation ? LinkAddressOption::kSource
                                                      : LinkAddressOption::kTarget;
}

std::array<std::uint8_t, 4> octets_of(const IpAddress& address) {
  std::array<std::uint8_t, 4> octets;
  std::ranges::copy(address.v4_octets(), octets.begin());
  return octets;
}

}  // namespace

std::optional<ArpMessage> ArpMessage::parse(std::span<const std::byte> bytes) {
  const auto wire = ByteReader{bytes}.take<ArpWire>();
  const ArpWire expected;
  if (!wire || wire->hardware != expected.hardware || wire->protocol != expected.protocol ||
      wire->hardware_length != expected.hardware_length ||
      wire->protocol_length != expected.protocol_length)
    return std::nullopt;
  const std::uint16_t operation = wire->operation.host();
  if (operation != static_cast<std::uint16_t>(Operation::kRequest) &&
      operation != static_cast<std::uint16_t>(Operation::kReply))
    return std::nullopt;
  return ArpMessage{static_cast<Operation>(operation), wire->sender_mac,
                    IpAddress::v4(wire->sender), wire->target_mac, IpAddress::v4(wire->target)};
}

void ArpMessage::write(std::span<std::byte, kSize> out) const {
  ArpWire wire;
  wire.operation = be16{static_cast<std::uint16_t>(operation)};
  wire.sender_mac = sender_mac;
  wire.sender = octets_of(sender);
  wire.target_mac = target_mac;
  wire.target = octets_of(target);
  store(out, wire);
}

std::optional<NeighborMessage> NeighborMessage::parse(std::span<const std::byte> bytes) {
  ByteReader reader{bytes};
  const auto wire = reader.take<NeighborWire>();
  if (!wire || wire->code != 0) return std::nullopt;
  NeighborMessage message;
  if (wire->type == static_cast<std::uint8_t>(Kind::kSolicitation))
    message.kind = Kind::kSolicitation;
  else if (wire->type == static_cast<std::uint8_t>(Kind::kAdvertisement))
    message.kind = Kind::kAdvertisement;
  else
    return std::nullopt;
  message.target = IpAddress::v6(wire->target);
  // An IPv4-mapped target would be taken for an IPv4 neighbour; it is never on a wire.
  if (message.target.is_multicast() || message.target.is_v4()) return std::nullopt;
  message.from_router = (wire->flags & NeighborWire::kRouter) != 0;
  message.solicited = (wire->flags & NeighborWire::kSolicited) != 0;
  message.overrides = (wire->flags & NeighborWire::kOverride) != 0;

  // Each round consumes at least eight bytes.
  while (reader.remaining() > 0) {
    const auto rest = reader.rest();
    if (rest.size() < 2) return std::nullopt;
    const auto type = std::to_integer<std::uint8_t>(rest[0]);
    const std::size_t length = std::to_integer<std::size_t>(rest[1]) * 8;
    const auto option = reader.take_bytes(length);
    if (length == 0 || !option) return std::nullopt;
    if (type == option_type(message.kind) && length == sizeof(LinkAddressOption))
      message.link_address = ByteReader{*option}.take<LinkAddressOption>()->mac;
  }
  return message;
}

std::size_t NeighborMessage::write(std::span<std::byte, kSizeMax> out) const {
  NeighborWire wire;
  wire.type = static_cast<std::uint8_t>(kind);
  wire.target = target.bytes;
  wire.flags = static_cast<std::uint8_t>((from_router ? NeighborWire::kRouter : 0) |
                                         (solicited ? NeighborWire::kSolicited : 0) |
                                         (overrides ? NeighborWire::kOverride : 0));
  store(out, wire);
  if (!link_address) return sizeof(wire);
  store(out.subspan(sizeof(wire)), LinkAddressOption{option_type(kind), 1, *link_address});
  return kSizeMax;
}

IpAddress solicited_node_group(const IpAddress& address) {
  WEIR_ASSERT(!address.is_v4());
  IpAddress group{{0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0xff}};
  std::copy(address.bytes.end() - 3, address.bytes.end(), group.bytes.end() - 3);
  return group;
}

MacAddress multicast_mac(const IpAddress& group) {
  WEIR_ASSERT(group.is_multicast());
  const auto& bytes = group.bytes;
  if (!group.is_v4()) return {{0x33, 0x33, bytes[12], bytes[13], bytes[14], bytes[15]}};
  if (bytes[12] == 0xff) return MacAddress::broadcast();
  return {{0x01, 0x00, 0x5e, static_cast<std::uint8_t>(bytes[13] & 0x7f), bytes[14], bytes[15]}};
}

IpAddress link_local_address(const MacAddress& mac) {
  const auto& m = mac.bytes;
  return {{0xfe, 0x80, 0, 0, 0, 0, 0, 0, static_cast<std::uint8_t>(m[0] ^ 0x02), m[1], m[2], 0xff,
           0xfe, m[3], m[4], m[5]}};
}

}  // namespace weir::wire
