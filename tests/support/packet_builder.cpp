#include "tests/support/packet_builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"
#include "l4/wire/checksum.h"

namespace weir::testing {
namespace {

using wire::be16;
using wire::be32;
using wire::IpAddress;
using wire::IpProtocol;

constexpr std::uint8_t kFragmentHeader = 44;
constexpr std::uint8_t kNeighborSolicitation = 135;
constexpr std::uint8_t kNeighborAdvertisement = 136;
constexpr std::uint8_t kEchoRequest4 = 8;
constexpr std::uint8_t kEchoRequest6 = 128;

std::uint8_t number(IpProtocol protocol) { return static_cast<std::uint8_t>(protocol); }

void append(std::vector<std::byte>& out, std::span<const std::byte> bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

template <typename Header>
void append_header(std::vector<std::byte>& out, const Header& header) {
  append(out, std::as_bytes(std::span{&header, 1}));
}

void write_be16(std::vector<std::byte>& out, std::size_t offset, std::uint16_t value) {
  store(std::span{out}.subspan(offset), be16{value});
}

/// RFC 826 for IPv4 over Ethernet.
struct ArpMessage {
  be16 hardware_type{1};
  be16 protocol_type{0x0800};
  std::uint8_t hardware_length = 6;
  std::uint8_t protocol_length = 4;
  be16 operation;
  wire::MacAddress sender_mac{{0x02, 0, 0, 0, 0, 0x01}};
  std::array<std::uint8_t, 4> sender{};
  wire::MacAddress target_mac;
  std::array<std::uint8_t, 4> target{};
};
static_assert(sizeof(ArpMessage) == 28 && alignof(ArpMessage) == 1);

PacketBuilder arp(std::uint16_t operation, const IpAddress& sender, const IpAddress& target) {
  ArpMessage message;
  message.operation = be16{operation};
  std::ranges::copy(sender.v4_octets(), message.sender.begin());
  std::ranges::copy(target.v4_octets(), message.target.begin());
  const auto bytes = std::as_bytes(std::span{&message, 1});
  return PacketBuilder::raw(static_cast<std::uint16_t>(wire::EtherType::kArp),
                            std::vector<std::byte>{bytes.begin(), bytes.end()});
}

PacketBuilder neighbor(std::uint8_t type, const IpAddress& source, const IpAddress& destination,
                       const IpAddress& target) {
  const auto bytes = std::as_bytes(std::span{target.bytes});
  return icmp(source, destination, type)
      .time_to_live(255)
      .payload(std::vector<std::byte>{bytes.begin(), bytes.end()});
}

}  // namespace

PacketBuilder& PacketBuilder::macs(const wire::MacAddress& source,
                                   const wire::MacAddress& destination) {
  source_mac_ = source;
  destination_mac_ = destination;
  return *this;
}
PacketBuilder& PacketBuilder::ether_type(std::uint16_t type) {
  ether_type_ = type;
  return *this;
}
PacketBuilder& PacketBuilder::tag(std::uint16_t type, std::uint16_t control) {
  tags_.insert(tags_.end(), {type, control});
  return *this;
}
PacketBuilder& PacketBuilder::octet(std::size_t offset, std::uint8_t value) {
  octets_.emplace_back(offset, value);
  return *this;
}
PacketBuilder& PacketBuilder::padding(std::size_t count) {
  padding_ = count;
  return *this;
}
PacketBuilder& PacketBuilder::truncate_to(std::size_t count) {
  truncate_to_ = count;
  return *this;
}
PacketBuilder& PacketBuilder::destination(const IpAddress& address) {
  WEIR_ASSERT(source_.address.family() == address.family());  // tests are written by us
  destination_.address = address;
  return *this;
}
PacketBuilder& PacketBuilder::time_to_live(std::uint8_t hops) {
  time_to_live_ = hops;
  return *this;
}
PacketBuilder& PacketBuilder::type_of_service(std::uint8_t tos) {
  type_of_service_ = tos;
  return *this;
}
PacketBuilder& PacketBuilder::identification(std::uint16_t id) {
  identification_ = id;
  return *this;
}
PacketBuilder& PacketBuilder::do_not_fragment() {
  do_not_fragment_ = true;
  return *this;
}
PacketBuilder& PacketBuilder::more_fragments() {
  more_fragments_ = true;
  return *this;
}
PacketBuilder& PacketBuilder::fragment_offset(std::uint16_t units_of_8) {
  fragment_offset_ = units_of_8;
  return *this;
}
PacketBuilder& PacketBuilder::fragment_header() {
  fragment_header_ = true;
  return *this;
}
PacketBuilder& PacketBuilder::ip_options(std::size_t words) {
  option_words_ = words;
  return *this;
}
PacketBuilder& PacketBuilder::extension(std::uint8_t type, std::size_t length_units) {
  extensions_.push_back({type, length_units});
  return *this;
}
PacketBuilder& PacketBuilder::version(std::uint8_t version) {
  version_ = version;
  return *this;
}
PacketBuilder& PacketBuilder::header_words(std::uint8_t words) {
  header_words_ = words;
  return *this;
}
PacketBuilder& PacketBuilder::total_length(std::uint16_t bytes) {
  total_length_ = bytes;
  return *this;
}
PacketBuilder& PacketBuilder::wrong_ip_checksum() {
  wrong_ip_checksum_ = true;
  return *this;
}
PacketBuilder& PacketBuilder::flags(std::uint8_t tcp_flags) {
  tcp_flags_ = tcp_flags;
  return *this;
}
PacketBuilder& PacketBuilder::sequence(std::uint32_t number) {
  sequence_ = number;
  return *this;
}
PacketBuilder& PacketBuilder::acknowledgment(std::uint32_t number) {
  acknowledgment_ = number;
  return *this;
}
PacketBuilder& PacketBuilder::window(std::uint16_t size) {
  window_ = size;
  return *this;
}
PacketBuilder& PacketBuilder::tcp_options(std::span<const std::uint8_t> options) {
  const auto bytes = std::as_bytes(options);
  tcp_options_.assign(bytes.begin(), bytes.end());
  tcp_options_.resize((tcp_options_.size() + 3) / 4 * 4);
  return *this;
}
PacketBuilder& PacketBuilder::data_offset(std::uint8_t words) {
  data_offset_ = words;
  return *this;
}
PacketBuilder& PacketBuilder::udp_length(std::uint16_t bytes) {
  udp_length_ = bytes;
  return *this;
}
PacketBuilder& PacketBuilder::icmp_type(std::uint8_t type, std::uint8_t code) {
  icmp_type_ = type;
  icmp_code_ = code;
  return *this;
}
PacketBuilder& PacketBuilder::icmp_rest(std::uint32_t value) {
  icmp_rest_ = value;
  return *this;
}
PacketBuilder& PacketBuilder::payload(std::string_view text) {
  const auto bytes = as_bytes(text);
  payload_.assign(bytes.begin(), bytes.end());
  return *this;
}
PacketBuilder& PacketBuilder::payload(std::vector<std::byte> data) {
  payload_ = std::move(data);
  return *this;
}

PacketBuilder PacketBuilder::inside(const IpAddress& source, const IpAddress& destination) const {
  const IpProtocol protocol = source_.address.is_v4() ? IpProtocol::kIpip : IpProtocol::kIpv6;
  return ip(source, destination, number(protocol)).payload(ip_bytes());
}

PacketBuilder PacketBuilder::ip(const IpAddress& source, const IpAddress& destination,
                                std::uint8_t protocol) {
  WEIR_ASSERT(source.family() == destination.family());  // tests are written by us
  PacketBuilder builder;
  builder.source_.address = source;
  builder.destination_.address = destination;
  builder.protocol_ = protocol;
  return builder;
}

PacketBuilder PacketBuilder::transport(const wire::Endpoint& source,
                                       const wire::Endpoint& destination, IpProtocol protocol) {
  PacketBuilder builder = ip(source.address, destination.address, number(protocol));
  builder.source_.port = source.port;
  builder.destination_.port = destination.port;
  return builder;
}

PacketBuilder PacketBuilder::raw(std::uint16_t ether_type, std::vector<std::byte> content) {
  PacketBuilder builder;
  builder.is_raw_ = true;
  builder.ether_type_ = ether_type;
  builder.payload_ = std::move(content);
  return builder;
}

std::vector<std::byte> PacketBuilder::bytes() const {
  const wire::EtherType natural =
      source_.address.is_v4() ? wire::EtherType::kIpv4 : wire::EtherType::kIpv6;
  wire::EthernetHeader ethernet;
  ethernet.destination = destination_mac_;
  ethernet.source = source_mac_;
  // The types of the tags, then that of what they stand before: each behind the other's control.
  std::vector<std::uint16_t> types = tags_;
  types.push_back(ether_type_.value_or(static_cast<std::uint16_t>(natural)));
  ethernet.type = be16{types.front()};

  std::vector<std::byte> frame;
  append_header(frame, ethernet);
  for (std::size_t i = 1; i < types.size(); ++i)
    append_header(frame, be16{types[i]});
  append(frame, ip_bytes());
  frame.resize(frame.size() + padding_);
  for (const auto& [offset, value] : octets_) {
    WEIR_ASSERT(offset < frame.size());  // tests are written by us
    frame[offset] = std::byte{value};
  }
  if (truncate_to_) frame.resize(std::min(frame.size(), *truncate_to_));
  return frame;
}

std::vector<std::byte> PacketBuilder::ip_bytes() const {
  if (is_raw_) return payload_;
  return source_.address.is_v4() ? ipv4_packet() : ipv6_packet();
}

std::vector<std::byte> PacketBuilder::segment() const {
  const bool is_v4 = source_.address.is_v4();
  if (fragment_offset_ != 0) return payload_;
  if (protocol_ == number(IpProtocol::kTcp)) return tcp_segment();
  if (protocol_ == number(IpProtocol::kUdp)) return udp_datagram();
  if (protocol_ == number(is_v4 ? IpProtocol::kIcmp : IpProtocol::kIcmpv6)) return icmp_message();
  return payload_;
}

void PacketBuilder::set_transport_checksum(std::vector<std::byte>& segment,
                                           std::size_t offset) const {
  const std::uint16_t sum =
      wire::pseudo_header_sum(source_.address, destination_.address,
                              static_cast<IpProtocol>(protocol_), segment.size())
          .add(segment)
          .finish();
  // RFC 768: a computed zero is sent as all ones. For TCP the two are the same number.
  write_be16(segment, offset, sum == 0 ? 0xffff : sum);
}

std::vector<std::byte> PacketBuilder::tcp_segment() const {
  wire::TcpHeader header;
  const std::size_t words = (sizeof(header) + tcp_options_.size()) / 4;
  header.source_port = be16{source_.port.value()};
  header.destination_port = be16{destination_.port.value()};
  header.sequence = be32{sequence_};
  header.acknowledgment = be32{acknowledgment_};
  header.data_offset =
      static_cast<std::uint8_t>(data_offset_.value_or(static_cast<std::uint8_t>(words)) << 4);
  header.flags = tcp_flags_;
  header.window = be16{window_};

  std::vector<std::byte> out;
  append_header(out, header);
  append(out, tcp_options_);
  append(out, payload_);
  set_transport_checksum(out, offsetof(wire::TcpHeader, checksum));
  return out;
}

std::vector<std::byte> PacketBuilder::udp_datagram() const {
  wire::UdpHeader header;
  const std::size_t length = sizeof(header) + payload_.size();
  header.source_port = be16{source_.port.value()};
  header.destination_port = be16{destination_.port.value()};
  header.length = be16{udp_length_.value_or(static_cast<std::uint16_t>(length))};

  std::vector<std::byte> out;
  append_header(out, header);
  append(out, payload_);
  set_transport_checksum(out, offsetof(wire::UdpHeader, checksum));
  return out;
}

std::vector<std::byte> PacketBuilder::icmp_message() const {
  wire::IcmpHeader header;
  header.type = icmp_type_;
  header.code = icmp_code_;
  header.rest = be32{icmp_rest_};

  std::vector<std::byte> out;
  append_header(out, header);
  append(out, payload_);
  constexpr std::size_t kOffset = offsetof(wire::IcmpHeader, checksum);
  if (source_.address.is_v4()) {
    write_be16(out, kOffset, wire::ChecksumSum{}.add(out).finish());
  } else {
    set_transport_checksum(out, kOffset);
  }
  return out;
}

std::vector<std::byte> PacketBuilder::ipv4_packet() const {
  const std::vector<std::byte> content = segment();
  const std::size_t words = sizeof(wire::Ipv4Header) / 4 + option_words_;
  const std::uint8_t length_field = header_words_.value_or(static_cast<std::uint8_t>(words)) & 0x0f;
  std::uint16_t flags = fragment_offset_;
  if (do_not_fragment_) flags |= wire::Ipv4Header::kDontFragment;
  if (more_fragments_) flags |= wire::Ipv4Header::kMoreFragments;

  wire::Ipv4Header header;
  header.version_and_length = static_cast<std::uint8_t>(version_.value_or(4) << 4 | length_field);
  header.type_of_service = type_of_service_;
  header.total_length =
      be16{total_length_.value_or(static_cast<std::uint16_t>(4 * words + content.size()))};
  header.identification = be16{identification_};
  header.flags_and_offset = be16{flags};
  header.time_to_live = time_to_live_;
  header.protocol = protocol_;
  std::ranges::copy(source_.address.v4_octets(), header.source.begin());
  std::ranges::copy(destination_.address.v4_octets(), header.destination.begin());

  std::vector<std::byte> out;
  append_header(out, header);
  out.resize(4 * words, std::byte{1});  // option 1: no operation
  const std::uint16_t sum = wire::ChecksumSum{}.add(out).finish();
  write_be16(out, offsetof(wire::Ipv4Header, checksum),
             wrong_ip_checksum_ ? static_cast<std::uint16_t>(sum ^ 0x5555) : sum);
  append(out, content);
  return out;
}

bool PacketBuilder::has_fragment_header() const {
  return fragment_header_ || more_fragments_ || fragment_offset_ != 0;
}

std::vector<std::byte> PacketBuilder::extension_bytes() const {
  std::vector<std::byte> out;
  for (std::size_t i = 0; i < extensions_.size(); ++i) {
    const std::uint8_t after = has_fragment_header() ? kFragmentHeader : protocol_;
    const std::uint8_t next = i + 1 < extensions_.size() ? extensions_[i + 1].type : after;
    const std::size_t start = out.size();
    const std::size_t units = extensions_[i].length_units;
    out.resize(start + 8 + 8 * units);  // option type 0, one byte of padding, all along
    out[start] = std::byte{next};
    out[start + 1] = static_cast<std::byte>(units);
  }
  if (has_fragment_header()) {
    const std::size_t start = out.size();
    out.resize(start + 8);
    out[start] = std::byte{protocol_};
    write_be16(out, start + 2,
               static_cast<std::uint16_t>(fragment_offset_ << 3 | (more_fragments_ ? 1 : 0)));
    write_be16(out, start + 6, identification_);
  }
  return out;
}

std::vector<std::byte> PacketBuilder::ipv6_packet() const {
  const std::vector<std::byte> content = segment();
  const std::vector<std::byte> extra = extension_bytes();
  const std::size_t length = extra.size() + content.size();
  const std::uint32_t version = version_.value_or(6);

  wire::Ipv6Header header;
  header.version_class_flow = be32{version << 28 | std::uint32_t{type_of_service_} << 20};
  header.payload_length = be16{total_length_.value_or(static_cast<std::uint16_t>(length))};
  header.next_header = protocol_;
  if (!extensions_.empty()) {
    header.next_header = extensions_.front().type;
  } else if (has_fragment_header()) {
    header.next_header = kFragmentHeader;
  }
  header.hop_limit = time_to_live_;
  header.source = source_.address.bytes;
  header.destination = destination_.address.bytes;

  std::vector<std::byte> out;
  append_header(out, header);
  append(out, extra);
  append(out, content);
  return out;
}

PacketBuilder tcp(const wire::Endpoint& source, const wire::Endpoint& destination) {
  return PacketBuilder::transport(source, destination, IpProtocol::kTcp);
}

PacketBuilder udp(const wire::Endpoint& source, const wire::Endpoint& destination) {
  return PacketBuilder::transport(source, destination, IpProtocol::kUdp);
}

PacketBuilder icmp(const IpAddress& source, const IpAddress& destination, std::uint8_t type,
                   std::uint8_t code) {
  const IpProtocol protocol = source.is_v4() ? IpProtocol::kIcmp : IpProtocol::kIcmpv6;
  return PacketBuilder::ip(source, destination, number(protocol)).icmp_type(type, code);
}

PacketBuilder echo_request(const IpAddress& source, const IpAddress& destination) {
  return icmp(source, destination, source.is_v4() ? kEchoRequest4 : kEchoRequest6)
      .icmp_rest(0x12340001)
      .payload("echo");
}

PacketBuilder ip_packet(const IpAddress& source, const IpAddress& destination,
                        std::uint8_t protocol) {
  return PacketBuilder::ip(source, destination, protocol);
}

PacketBuilder arp_request(const IpAddress& sender, const IpAddress& target) {
  return arp(1, sender, target).macs({{0x02, 0, 0, 0, 0, 0x01}}, wire::MacAddress::broadcast());
}

PacketBuilder arp_reply(const IpAddress& sender, const IpAddress& target) {
  return arp(2, sender, target);
}

PacketBuilder neighbor_solicitation(const IpAddress& sender, const IpAddress& target) {
  return neighbor(kNeighborSolicitation, sender, solicited_node_group(target), target);
}

PacketBuilder neighbor_advertisement(const IpAddress& sender, const IpAddress& destination) {
  return neighbor(kNeighborAdvertisement, sender, destination, sender);
}

IpAddress solicited_node_group(const IpAddress& address) {
  IpAddress group;
  group.bytes = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0xff};
  std::copy(address.bytes.begin() + 13, address.bytes.end(), group.bytes.begin() + 13);
  return group;
}

std::string hexdump(std::span<const std::byte> bytes) {
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (i % 16 == 0) out += fmt::format("{}{:04x}:", i == 0 ? "" : "\n", i);
    out += fmt::format(" {:02x}", std::to_integer<unsigned>(bytes[i]));
  }
  return out;
}

}  // namespace weir::testing
