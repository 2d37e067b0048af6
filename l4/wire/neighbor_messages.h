#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "l4/wire/address.h"

/// Messages that tell link addresses: ARP for IPv4, neighbour discovery for IPv6. Parsing checks
/// form and what the message alone can prove; whether it concerns us is the receiver's question.
namespace weir::wire {

/// ARP for IPv4 over Ethernet (RFC 826).
struct ArpMessage {
  enum class Operation : std::uint16_t { kRequest = 1, kReply = 2 };

  Operation operation = Operation::kRequest;
  MacAddress sender_mac;
  IpAddress sender;
  MacAddress target_mac;  ///< zero in requests
  IpAddress target;

  static constexpr std::size_t kSize = 28;
  /// Nothing for other hardware, protocols or operations, and when bytes are missing.
  static std::optional<ArpMessage> parse(std::span<const std::byte> bytes);
  void write(std::span<std::byte, kSize> out) const;
};

/// Neighbour solicitation or advertisement (RFC 4861, sections 4.3 and 4.4): the ICMPv6 message
/// from its type on, with the one option that matters, a link-layer address.
struct NeighborMessage {
  enum class Kind : std::uint8_t { kSolicitation = 135, kAdvertisement = 136 };

  Kind kind = Kind::kSolicitation;
  IpAddress target;
  std::optional<MacAddress> link_address =
      std::nullopt;          ///< source (solicitation) or target (advertisement)
  bool from_router = false;  ///< these three in advertisements only
  bool solicited = false;
  bool overrides = false;

  static constexpr std::size_t kSizeMax = 32;  ///< of what write() makes
  /// Nothing when the form is wrong: code, length, a multicast target, an option of length zero
  /// (RFC 4861, section 7.1). The checksum has been verified; unknown options are skipped.
  static std::optional<NeighborMessage> parse(std::span<const std::byte> bytes);
  /// Writes the message with a zero checksum field and returns its size.
  std::size_t write(std::span<std::byte, kSizeMax> out) const;
};

/// The group that solicitations for an IPv6 address go to (RFC 4291, section 2.7.1).
IpAddress solicited_node_group(const IpAddress& address);

/// Where Ethernet sends an IPv4 or IPv6 multicast address (RFC 1112, section 6.4; RFC 2464,
/// section 7). Limited broadcast goes to everybody.
MacAddress multicast_mac(const IpAddress& group);

/// The link-local address made of a MAC address (RFC 4291, appendix A).
IpAddress link_local_address(const MacAddress& mac);

}  // namespace weir::wire
