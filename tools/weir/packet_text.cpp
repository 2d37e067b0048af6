#include "tools/weir/packet_text.h"

#include <fmt/format.h>

#include <array>

#include "l4/base/bytes.h"
#include "l4/wire/headers.h"

namespace weir::cli {
namespace {

using namespace wire;

constexpr std::string_view kCut = "…";
constexpr int kTunnelsMax = 3;
constexpr int kTagsMax = 2;
constexpr int kExtensionsMax = 8;
constexpr std::uint16_t kVlan = 0x8100;
constexpr std::uint16_t kServiceVlan = 0x88a8;
constexpr std::uint16_t kGuePort = 6080;  // registered; other ports show as plain UDP
constexpr std::uint8_t kFragmentHeader = 44;

std::string ip_text(ByteReader reader, int depth);

/// What is known once the IP header has been read.
struct Datagram {
  std::string source;
  std::string destination;
  std::uint8_t protocol = 0;
  std::size_t payload_bytes = 0;  ///< behind the IP header, as it says
  bool is_v4 = false;

  [[nodiscard]] std::string ends() const { return fmt::format("{} > {}", source, destination); }
  [[nodiscard]] std::string ends(be16 source_port, be16 destination_port) const {
    constexpr std::string_view kPlain = "{}:{} > {}:{}";
    constexpr std::string_view kBrackets = "[{}]:{} > [{}]:{}";
    return fmt::format(fmt::runtime(is_v4 ? kPlain : kBrackets), source, source_port.host(),
                       destination, destination_port.host());
  }
};

std::string flags_text(std::uint8_t flags) {
  constexpr std::array<std::pair<std::uint8_t, char>, 8> kLetters{{{TcpHeader::kSyn, 'S'},
                                                                   {TcpHeader::kFin, 'F'},
                                                                   {TcpHeader::kRst, 'R'},
                                                                   {TcpHeader::kPsh, 'P'},
                                                                   {TcpHeader::kAck, '.'},
                                                                   {TcpHeader::kUrg, 'U'},
                                                                   {TcpHeader::kEce, 'E'},
                                                                   {TcpHeader::kCwr, 'W'}}};
  std::string text;
  for (const auto& [flag, letter] : kLetters) {
    if ((flags & flag) != 0) text += letter;
  }
  return text.empty() ? "none" : text;
}

std::string tcp_text(ByteReader reader, const Datagram& datagram) {
  const auto tcp = reader.take<TcpHeader>();
  if (!tcp) return fmt::format("{} TCP {}", datagram.ends(), kCut);
  const std::size_t header_bytes = static_cast<std::size_t>(tcp->data_offset >> 4) * 4;
  const std::size_t length =
      datagram.payload_bytes > header_bytes ? datagram.payload_bytes - header_bytes : 0;
  return fmt::format("{} TCP [{}] length {}",
                     datagram.ends(tcp->source_port, tcp->destination_port), flags_text(tcp->flags),
                     length);
}

std::string udp_text(ByteReader reader, const Datagram& datagram, int depth) {
  const auto udp = reader.take<UdpHeader>();
  if (!udp) return fmt::format("{} UDP {}", datagram.ends(), kCut);
  const std::string ends = datagram.ends(udp->source_port, udp->destination_port);
  if (udp->destination_port.host() == kGuePort && depth < kTunnelsMax && reader.remaining() > 0) {
    // Variant 1: the payload is an IP packet, told by its version field.
    const auto version = std::to_integer<unsigned>(reader.rest()[0]) >> 4;
    if (version == 4 || version == 6)
      return fmt::format("{} GUE | {}", ends, ip_text(reader, depth + 1));
  }
  const std::uint16_t length = udp->length.host();
  return fmt::format("{} UDP length {}", ends, length > sizeof(*udp) ? length - sizeof(*udp) : 0);
}

struct IcmpName {
  std::uint8_t type;
  int code;  ///< -1: any
  std::string_view name;
};
constexpr std::array<IcmpName, 7> kIcmpNames{{{0, -1, "echo reply"},
                                              {8, -1, "echo request"},
                                              {3, 3, "port unreachable"},
                                              {3, 4, "fragmentation needed"},
                                              {3, -1, "unreachable"},
                                              {11, -1, "time exceeded"},
                                              {12, -1, "parameter problem"}}};
constexpr std::array<IcmpName, 9> kIcmpv6Names{{{128, -1, "echo request"},
                                                {129, -1, "echo reply"},
                                                {1, 4, "port unreachable"},
                                                {1, -1, "unreachable"},
                                                {2, -1, "packet too big"},
                                                {3, -1, "time exceeded"},
                                                {4, -1, "parameter problem"},
                                                {135, -1, "neighbour solicitation"},
                                                {136, -1, "neighbour advertisement"}}};

std::string icmp_name(const IcmpHeader& icmp, bool is_v4) {
  const std::span<const IcmpName> names =
      is_v4 ? std::span<const IcmpName>{kIcmpNames} : std::span<const IcmpName>{kIcmpv6Names};
  for (const IcmpName& row : names) {
    if (row.type == icmp.type && (row.code < 0 || row.code == icmp.code))
      return std::string{row.name};
  }
  return fmt::format("type {} code {}", icmp.type, icmp.code);
}

/// Errors quote the packet that they are about.
bool is_icmp_error(const IcmpHeader& icmp, bool is_v4) {
  if (!is_v4) return icmp.type >= 1 && icmp.type <= 4;
  return icmp.type == 3 || icmp.type == 11 || icmp.type == 12;
}

std::string icmp_text(ByteReader reader, const Datagram& datagram, int depth) {
  const std::string_view protocol = datagram.is_v4 ? "ICMP" : "ICMPv6";
  const auto icmp = reader.take<IcmpHeader>();
  if (!icmp) return fmt::format("{} {} {}", datagram.ends(), protocol, kCut);
  std::string text =
      fmt::format("{} {} {}", datagram.ends(), protocol, icmp_name(*icmp, datagram.is_v4));
  const bool has_mtu = datagram.is_v4 ? icmp->type == 3 && icmp->code == 4 : icmp->type == 2;
  if (has_mtu)
    text += fmt::format(" mtu {}", icmp->rest.host() & (datagram.is_v4 ? 0xffffU : 0xffffffffU));
  if (is_icmp_error(*icmp, datagram.is_v4) && depth < kTunnelsMax)
    return fmt::format("{} about {}", text, ip_text(reader, depth + 1));
  return fmt::format("{} length {}", text, datagram.payload_bytes);
}

std::string payload_text(ByteReader reader, const Datagram& datagram, int depth) {
  switch (datagram.protocol) {
    case static_cast<std::uint8_t>(IpProtocol::kTcp):
      return tcp_text(reader, datagram);
    case static_cast<std::uint8_t>(IpProtocol::kUdp):
      return udp_text(reader, datagram, depth);
    case static_cast<std::uint8_t>(IpProtocol::kIcmp):
    case static_cast<std::uint8_t>(IpProtocol::kIcmpv6):
      return icmp_text(reader, datagram, depth);
    case static_cast<std::uint8_t>(IpProtocol::kIpip):
    case static_cast<std::uint8_t>(IpProtocol::kIpv6):
      if (depth < kTunnelsMax)
        return fmt::format("{} IPIP | {}", datagram.ends(), ip_text(reader, depth + 1));
      break;
    default:
      break;
  }
  return fmt::format("{} protocol {} length {}", datagram.ends(), datagram.protocol,
                     datagram.payload_bytes);
}

std::string fragment_text(const Datagram& datagram, unsigned offset) {
  return fmt::format("{} protocol {} fragment at {} length {}", datagram.ends(), datagram.protocol,
                     offset, datagram.payload_bytes);
}

std::string ipv4_text(ByteReader reader, int depth) {
  const auto ip = reader.take<Ipv4Header>();
  if (!ip) return fmt::format("IPv4 {}", kCut);
  const std::size_t header_bytes = static_cast<std::size_t>(ip->version_and_length & 15) * 4;
  const std::size_t total = ip->total_length.host();
  if (header_bytes < sizeof(*ip) || total < header_bytes) return "IPv4, malformed";
  Datagram datagram{.source = IpAddress::v4(ip->source).text(),
                    .destination = IpAddress::v4(ip->destination).text(),
                    .protocol = ip->protocol,
                    .payload_bytes = total - header_bytes,
                    .is_v4 = true};
  const unsigned offset = (ip->flags_and_offset.host() & Ipv4Header::kOffsetMask) * 8U;
  if (offset != 0) return fragment_text(datagram, offset);
  if (!reader.take_bytes(header_bytes - sizeof(*ip)))
    return fmt::format("{} protocol {} {}", datagram.ends(), datagram.protocol, kCut);
  std::string text = payload_text(reader, datagram, depth);
  if ((ip->flags_and_offset.host() & Ipv4Header::kMoreFragments) != 0) text += ", first fragment";
  return text;
}

struct Ipv6Extension {
  std::uint8_t next_header;
  std::uint8_t length;  ///< in units of eight bytes beyond the first eight
  be16 fragment;        ///< of a fragment header only
  std::array<std::uint8_t, 4> rest;
};
static_assert(sizeof(Ipv6Extension) == 8);

bool is_extension(std::uint8_t protocol) {
  return protocol == 0 || protocol == 43 || protocol == 60 || protocol == kFragmentHeader;
}

std::string ipv6_text(ByteReader reader, int depth) {
  const auto ip = reader.take<Ipv6Header>();
  if (!ip) return fmt::format("IPv6 {}", kCut);
  Datagram datagram{.source = IpAddress::v6(ip->source).text(),
                    .destination = IpAddress::v6(ip->destination).text(),
                    .protocol = ip->next_header,
                    .payload_bytes = ip->payload_length.host()};
  for (int i = 0; i < kExtensionsMax && is_extension(datagram.protocol); ++i) {
    const bool is_fragment = datagram.protocol == kFragmentHeader;
    const auto extension = reader.take<Ipv6Extension>();
    const std::size_t more = extension && !is_fragment ? extension->length * std::size_t{8} : 0;
    if (!extension || !reader.take_bytes(more))
      return fmt::format("{} protocol {} {}", datagram.ends(), datagram.protocol, kCut);
    datagram.protocol = extension->next_header;
    const std::size_t taken = sizeof(*extension) + more;
    datagram.payload_bytes -= std::min(datagram.payload_bytes, taken);
    const unsigned offset = is_fragment ? extension->fragment.host() & 0xfff8U : 0;
    if (offset != 0) return fragment_text(datagram, offset);
  }
  return payload_text(reader, datagram, depth);
}

std::string ip_text(ByteReader reader, int depth) {
  if (reader.remaining() == 0) return std::string{kCut};
  switch (std::to_integer<unsigned>(reader.rest()[0]) >> 4) {
    case 4:
      return ipv4_text(reader, depth);
    case 6:
      return ipv6_text(reader, depth);
    default:
      return "no IP packet";
  }
}

struct ArpForIpv4 {
  be16 hardware_type;
  be16 protocol_type;
  std::uint8_t hardware_length;
  std::uint8_t protocol_length;
  be16 operation;
  MacAddress sender_mac;
  std::array<std::uint8_t, 4> sender;
  MacAddress target_mac;
  std::array<std::uint8_t, 4> target;
};
static_assert(sizeof(ArpForIpv4) == 28);

std::string arp_text(ByteReader reader) {
  const auto arp = reader.take<ArpForIpv4>();
  if (!arp) return fmt::format("ARP {}", kCut);
  const std::string sender = IpAddress::v4(arp->sender).text();
  if (arp->operation.host() == 1)
    return fmt::format("ARP who has {}, tell {}", IpAddress::v4(arp->target).text(), sender);
  return fmt::format("ARP {} is at {}", sender, arp->sender_mac.text());
}

struct VlanTag {
  be16 control;
  be16 type;
};

}  // namespace

std::string packet_text(std::span<const std::byte> frame) {
  ByteReader reader{frame};
  const auto ethernet = reader.take<EthernetHeader>();
  if (!ethernet) return fmt::format("{} bytes, no Ethernet frame", frame.size());
  std::uint16_t type = ethernet->type.host();
  std::string tags;
  for (int i = 0; i < kTagsMax && (type == kVlan || type == kServiceVlan); ++i) {
    const auto tag = reader.take<VlanTag>();
    if (!tag) return fmt::format("{}vlan {}", tags, kCut);
    tags += fmt::format("vlan {} ", tag->control.host() & 0xfff);
    type = tag->type.host();
  }
  if (type == static_cast<std::uint16_t>(EtherType::kArp)) return tags + arp_text(reader);
  if (type == static_cast<std::uint16_t>(EtherType::kIpv4)) return tags + ipv4_text(reader, 0);
  if (type == static_cast<std::uint16_t>(EtherType::kIpv6)) return tags + ipv6_text(reader, 0);
  return fmt::format("{}{} > {} type 0x{:04x}", tags, ethernet->source.text(),
                     ethernet->destination.text(), type);
}

std::optional<std::vector<std::byte>> bytes_of_hex(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::vector<std::byte> bytes;
  std::optional<std::size_t> high;
  for (const char c : text) {
    const bool between = c == ' ' || c == ':' || c == '\n' || c == '\t';
    if (between && !high) continue;
    const std::size_t digit = kDigits.find(c >= 'A' && c <= 'F' ? static_cast<char>(c + 32) : c);
    if (digit == std::string_view::npos) return std::nullopt;
    if (high) bytes.push_back(static_cast<std::byte>(*high << 4 | digit));
    high = high ? std::nullopt : std::optional{digit};
  }
  return high ? std::nullopt : std::optional{std::move(bytes)};
}

}  // namespace weir::cli
