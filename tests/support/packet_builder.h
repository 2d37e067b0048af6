#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "l4/wire/address.h"
#include "l4/wire/headers.h"

namespace weir::testing {

/// Frames for tests, described by what is in them. Lengths and checksums are right unless a test
/// asks for something else; every setter returns the builder, and bytes() may be called any number
/// of times:
///
///     tcp(kClient, kVip).syn().bytes()
///     udp(kClient, kVip).payload("hello").padding(10).bytes()
///     tcp(kClient, kVip).total_length(1500).truncate_to(60).bytes()   // a lie, cut short
class PacketBuilder {
 public:
  /// The frame, Ethernet header first.
  [[nodiscard]] std::vector<std::byte> bytes() const;
  /// The same without its Ethernet header.
  [[nodiscard]] std::vector<std::byte> ip_bytes() const;

  // Ethernet.
  PacketBuilder& macs(const wire::MacAddress& source, const wire::MacAddress& destination);
  PacketBuilder& ether_type(std::uint16_t type);
  /// One more VLAN tag, inside those that are there: 0x8100 (802.1Q) or 0x88a8 (802.1ad).
  PacketBuilder& tag(std::uint16_t type, std::uint16_t control);
  PacketBuilder& padding(std::size_t count);      ///< zero bytes after the IP packet
  PacketBuilder& truncate_to(std::size_t count);  ///< cuts the finished frame
  /// Overwrites a byte of the frame, counted from its beginning, before it is cut. Checksums stay.
  PacketBuilder& octet(std::size_t offset, std::uint8_t value);

  // IP; what a family does not have is ignored.
  PacketBuilder& destination(const wire::IpAddress& address);  ///< another one of the same family
  [[nodiscard]] bool is_v4() const { return destination_.address.is_v4(); }
  PacketBuilder& time_to_live(std::uint8_t hops);    ///< IPv6: hop limit
  PacketBuilder& type_of_service(std::uint8_t tos);  ///< IPv6: traffic class
  PacketBuilder& identification(std::uint16_t id);
  PacketBuilder& do_not_fragment();
  PacketBuilder& more_fragments();                           ///< IPv6: adds a fragment header
  PacketBuilder& fragment_offset(std::uint16_t units_of_8);  ///< not 0: no transport header
  PacketBuilder& fragment_header();              ///< IPv6: one on a whole datagram (RFC 6946)
  PacketBuilder& ip_options(std::size_t words);  ///< IPv4: no-operation options
  PacketBuilder& extension(std::uint8_t type, std::size_t length_units);  ///< IPv6; 8 + 8n bytes
  PacketBuilder& version(std::uint8_t version);
  PacketBuilder& header_words(std::uint8_t words);   ///< IPv4: overrides the length field
  PacketBuilder& total_length(std::uint16_t bytes);  ///< IPv6: its payload length field
  PacketBuilder& wrong_ip_checksum();

  // TCP, UDP, ICMP.
  PacketBuilder& flags(std::uint8_t tcp_flags);
  PacketBuilder& syn() { return flags(wire::TcpHeader::kSyn); }
  PacketBuilder& ack() { return flags(wire::TcpHeader::kAck); }
  PacketBuilder& syn_ack() { return flags(wire::TcpHeader::kSyn | wire::TcpHeader::kAck); }
  PacketBuilder& fin_ack() { return flags(wire::TcpHeader::kFin | wire::TcpHeader::kAck); }
  PacketBuilder& rst() { return flags(wire::TcpHeader::kRst); }
  PacketBuilder& sequence(std::uint32_t number);
  PacketBuilder& acknowledgment(std::uint32_t number);
  PacketBuilder& window(std::uint16_t size);
  PacketBuilder& tcp_options(std::span<const std::uint8_t> options);  ///< padded to a word
  PacketBuilder& data_offset(std::uint8_t words);                     ///< overrides the field
  PacketBuilder& udp_length(std::uint16_t bytes);                     ///< overrides the field
  PacketBuilder& icmp_type(std::uint8_t type, std::uint8_t code = 0);
  PacketBuilder& icmp_rest(std::uint32_t value);  ///< identifier and sequence, or MTU
  PacketBuilder& payload(std::string_view text);
  PacketBuilder& payload(std::vector<std::byte> data);

  /// This packet inside another IP packet; protocol 4 or 41 by its own family.
  [[nodiscard]] PacketBuilder inside(const wire::IpAddress& source,
                                     const wire::IpAddress& destination) const;

  // Starting points; the free functions below read better.
  static PacketBuilder ip(const wire::IpAddress& source, const wire::IpAddress& destination,
                          std::uint8_t protocol);
  static PacketBuilder transport(const wire::Endpoint& source, const wire::Endpoint& destination,
                                 wire::IpProtocol protocol);
  static PacketBuilder raw(std::uint16_t ether_type, std::vector<std::byte> content);

 private:
  struct Extension {
    std::uint8_t type;
    std::size_t length_units;
  };

  [[nodiscard]] std::vector<std::byte> segment() const;
  [[nodiscard]] std::vector<std::byte> tcp_segment() const;
  [[nodiscard]] std::vector<std::byte> udp_datagram() const;
  [[nodiscard]] std::vector<std::byte> icmp_message() const;
  [[nodiscard]] std::vector<std::byte> ipv4_packet() const;
  [[nodiscard]] std::vector<std::byte> ipv6_packet() const;
  [[nodiscard]] std::vector<std::byte> extension_bytes() const;
  [[nodiscard]] bool has_fragment_header() const;
  void set_transport_checksum(std::vector<std::byte>& segment, std::size_t offset) const;

  bool is_raw_ = false;
  wire::MacAddress source_mac_{{0x02, 0, 0, 0, 0, 0x01}};
  wire::MacAddress destination_mac_{{0x02, 0, 0, 0, 0, 0x02}};
  std::optional<std::uint16_t> ether_type_;
  std::vector<std::uint16_t> tags_;  ///< type and control of each
  std::size_t padding_ = 0;
  std::vector<std::pair<std::size_t, std::uint8_t>> octets_;
  std::optional<std::size_t> truncate_to_;

  wire::Endpoint source_;
  wire::Endpoint destination_;
  std::uint8_t protocol_ = 0;
  std::uint8_t time_to_live_ = 64;
  std::uint8_t type_of_service_ = 0;
  std::uint16_t identification_ = 0;
  bool do_not_fragment_ = false;
  bool more_fragments_ = false;
  bool fragment_header_ = false;
  std::uint16_t fragment_offset_ = 0;
  std::size_t option_words_ = 0;
  std::vector<Extension> extensions_;
  std::optional<std::uint8_t> version_;
  std::optional<std::uint8_t> header_words_;
  std::optional<std::uint16_t> total_length_;
  bool wrong_ip_checksum_ = false;

  std::uint8_t tcp_flags_ = wire::TcpHeader::kAck;
  std::uint32_t sequence_ = 1;
  std::uint32_t acknowledgment_ = 1;
  std::uint16_t window_ = 65535;
  std::vector<std::byte> tcp_options_;
  std::optional<std::uint8_t> data_offset_;
  std::optional<std::uint16_t> udp_length_;
  std::uint8_t icmp_type_ = 0;
  std::uint8_t icmp_code_ = 0;
  std::uint32_t icmp_rest_ = 0;
  std::vector<std::byte> payload_;
};

/// A TCP segment with ACK set, or a UDP datagram; the family is that of the addresses.
PacketBuilder tcp(const wire::Endpoint& source, const wire::Endpoint& destination);
PacketBuilder udp(const wire::Endpoint& source, const wire::Endpoint& destination);

/// ICMP or ICMPv6 by the family of the addresses.
PacketBuilder icmp(const wire::IpAddress& source, const wire::IpAddress& destination,
                   std::uint8_t type, std::uint8_t code = 0);
PacketBuilder echo_request(const wire::IpAddress& source, const wire::IpAddress& destination);

/// Any other IP protocol, with the payload as it is given.
PacketBuilder ip_packet(const wire::IpAddress& source, const wire::IpAddress& destination,
                        std::uint8_t protocol);

/// ARP over Ethernet (RFC 826) and neighbour discovery (RFC 4861).
PacketBuilder arp_request(const wire::IpAddress& sender, const wire::IpAddress& target);
PacketBuilder arp_reply(const wire::IpAddress& sender, const wire::IpAddress& target);
PacketBuilder neighbor_solicitation(const wire::IpAddress& sender, const wire::IpAddress& target);
PacketBuilder neighbor_advertisement(const wire::IpAddress& sender,
                                     const wire::IpAddress& destination);

/// The group that solicitations for `address` are sent to (RFC 4291, section 2.7.1).
wire::IpAddress solicited_node_group(const wire::IpAddress& address);

/// Sixteen bytes a line, with offsets, for failure messages.
std::string hexdump(std::span<const std::byte> bytes);

}  // namespace weir::testing
