#include "tests/fuzz/net_frames.h"

#include <algorithm>
#include <optional>

#include "l4/base/bytes.h"
#include "l4/wire/headers.h"
#include "l4/wire/neighbor_messages.h"

namespace weir::testing {
namespace {

using namespace net_world;
using wire::IpAddress;
using wire::MacAddress;
using Bytes = std::span<const std::byte>;

constexpr std::size_t kEthernet = 14;
constexpr std::uint8_t kIcmp = 1;
constexpr std::uint8_t kTcp = 6;
constexpr std::uint8_t kUdp = 17;
constexpr std::uint8_t kIcmpv6 = 58;
const IpAddress kAllNodes = *IpAddress::parse("ff02::1");

unsigned byte_at(Bytes bytes, std::size_t at) { return std::to_integer<unsigned>(bytes[at]); }
unsigned word_at(Bytes bytes, std::size_t at) {
  return byte_at(bytes, at) << 8 | byte_at(bytes, at + 1);
}
void put_word(std::span<std::byte> bytes, std::size_t at, unsigned word) {
  bytes[at] = static_cast<std::byte>(word >> 8);
  bytes[at + 1] = static_cast<std::byte>(word & 0xff);
}
MacAddress mac_at(Bytes bytes, std::size_t at) {
  return *ByteReader{bytes.subspan(at)}.take<MacAddress>();
}

/// RFC 1071, word by word; an odd byte at the end counts as one with a zero behind it.
unsigned sum_of(Bytes bytes) {
  unsigned sum = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i)
    sum += i % 2 == 0 ? byte_at(bytes, i) << 8 : byte_at(bytes, i);
  return sum;
}
unsigned folded(unsigned sum) {
  while (sum > 0xffff)
    sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}

std::optional<Datagram> read_ipv4(Bytes frame, std::size_t begin, std::size_t limit) {
  if (limit - begin < 20 || byte_at(frame, begin) >> 4 != 4) return std::nullopt;
  const auto header = ByteReader{frame.subspan(begin)}.take<wire::Ipv4Header>();
  Datagram datagram;
  datagram.source = IpAddress::v4(header->source);
  datagram.destination = IpAddress::v4(header->destination);
  datagram.protocol = header->protocol;
  datagram.hops = header->time_to_live;
  datagram.ecn = header->type_of_service & 3U;
  datagram.is_whole = (header->flags_and_offset.host() & 0x3fffU) == 0;
  datagram.begin = begin;
  datagram.payload = begin + (byte_at(frame, begin) & 15U) * 4;
  datagram.end = begin + header->total_length.host();
  if (datagram.payload < begin + 20 || datagram.payload > datagram.end || datagram.end > limit)
    return std::nullopt;
  return datagram;
}

std::optional<Datagram> read_ipv6(Bytes frame, std::size_t begin, std::size_t limit) {
  if (limit - begin < 40 || byte_at(frame, begin) >> 4 != 6) return std::nullopt;
  const auto header = ByteReader{frame.subspan(begin)}.take<wire::Ipv6Header>();
  Datagram datagram;
  datagram.is_v4 = false;
  datagram.source = IpAddress::v6(header->source);
  datagram.destination = IpAddress::v6(header->destination);
  datagram.protocol = header->next_header;
  datagram.hops = header->hop_limit;
  datagram.ecn = byte_at(frame, begin + 1) >> 4 & 3U;
  datagram.begin = begin;
  datagram.payload = begin + 40;
  datagram.end = begin + 40 + header->payload_length.host();
  if (datagram.end > limit) return std::nullopt;
  // Hop-by-hop options, routing, fragment, destination options; each has eight bytes at least.
  const auto is_extension = [](unsigned type) {
    return type == 0 || type == 43 || type == 44 || type == 60;
  };
  while (is_extension(datagram.protocol)) {
    if (datagram.end - datagram.payload < 8) return std::nullopt;
    const bool is_fragment = datagram.protocol == 44;
    if (is_fragment && (word_at(frame, datagram.payload + 2) & 0xfff9U) != 0)
      datagram.is_whole = false;
    const std::size_t length = is_fragment ? 8 : 8 + 8 * byte_at(frame, datagram.payload + 1);
    datagram.protocol = static_cast<std::uint8_t>(byte_at(frame, datagram.payload));
    datagram.payload += length;
    if (datagram.payload > datagram.end) return std::nullopt;
  }
  return datagram;
}

/// What is in a tunnel: IP in IP, or GUE of both variants.
std::optional<Datagram> read_inner(Bytes frame, const Datagram& outer) {
  std::size_t begin = outer.payload;
  std::size_t limit = outer.end;
  unsigned protocol = outer.protocol;
  if (protocol == kUdp) {
    if (limit - begin < 9 || word_at(frame, begin + 2) != 6080) return std::nullopt;
    const std::size_t length = word_at(frame, begin + 4);
    if (length < 9 || length > limit - begin) return std::nullopt;
    limit = begin + length;
    begin += 8;
    const unsigned first = byte_at(frame, begin);
    protocol = first >> 4 == 4 ? 4 : 41;
    if (first >> 6 == 0) {
      if (limit - begin < 4) return std::nullopt;
      protocol = byte_at(frame, begin + 1);
      begin += 4;
    }
  }
  if (protocol == 4) return read_ipv4(frame, begin, limit);
  if (protocol == 41) return read_ipv6(frame, begin, limit);
  return std::nullopt;
}

/// The segment, and where in it its checksum is; nothing when it has none.
struct Summed {
  std::size_t begin;
  std::size_t end;
  std::size_t field;
  unsigned pseudo;  ///< what the pseudo header adds
};
std::optional<Summed> summed_part(Bytes frame, const Datagram& datagram) {
  Summed part{datagram.payload, datagram.end, 0, 0};
  if (datagram.protocol == kTcp)
    part.field = 16;
  else if (datagram.protocol == kUdp)
    part.field = 6;
  else if (datagram.protocol == (datagram.is_v4 ? kIcmp : kIcmpv6))
    part.field = 2;
  else
    return std::nullopt;
  if (part.end - part.begin < part.field + 2) return std::nullopt;
  if (datagram.protocol == kUdp) {
    const std::size_t length = word_at(frame, part.begin + 4);
    if (length < 8 || length > part.end - part.begin) return std::nullopt;
    part.end = part.begin + length;
  }
  if (datagram.protocol == kIcmp) return part;
  const std::size_t from = datagram.is_v4 ? 12 : 0;  // of an address as IpAddress holds it
  part.pseudo = sum_of(std::as_bytes(std::span{datagram.source.bytes}).subspan(from)) +
                sum_of(std::as_bytes(std::span{datagram.destination.bytes}).subspan(from)) +
                datagram.protocol + static_cast<unsigned>(part.end - part.begin);
  return part;
}

SentFrame faulty(std::string_view why) { return {SentKind::kFaulty, why, {}}; }

bool is_station(const MacAddress& mac) {
  return !mac.is_multicast() && !mac.is_zero() && mac != kMac;
}

SentFrame read_sent_arp(Bytes frame) {
  const MacAddress to = mac_at(frame, 0);
  const auto arp = wire::ArpMessage::parse(frame.subspan(kEthernet));
  if (!arp || frame.size() != kEthernet + wire::ArpMessage::kSize) return faulty("no ARP message");
  if (arp->sender_mac != kMac || arp->sender != kOwn) return faulty("ARP from somebody else");
  if (arp->operation == wire::ArpMessage::Operation::kReply) {
    if (to != arp->target_mac || !is_station(to)) return faulty("an ARP reply to no station");
    if (!is_one_host(arp->target) && !arp->target.is_unspecified())
      return faulty("an ARP reply to no host");
    return {SentKind::kArpReply, {}, {}};
  }
  if (!arp->target_mac.is_zero()) return faulty("an ARP question that knows the answer");
  if (arp->target == arp->sender) {
    if (to != MacAddress::broadcast()) return faulty("an announcement to one station");
    return {SentKind::kArpAnnouncement, {}, {}};
  }
  if (to != MacAddress::broadcast() && !is_station(to)) return faulty("ARP asks no station");
  if (!kNetworks[0].contains(arp->target) || !is_one_host(arp->target))
    return faulty("ARP asks for no neighbour");
  return {SentKind::kArpQuestion, {}, {}};
}

SentFrame read_sent_neighbor(Bytes frame, const Datagram& datagram) {
  const auto message = wire::NeighborMessage::parse(frame.subspan(datagram.payload));
  if (!message || message->link_address != kMac) return faulty("a neighbour message without us");
  if (datagram.hops != 255) return faulty("a neighbour message from afar");
  if (!is_own(datagram.source)) return faulty("a neighbour message from no own address");
  const bool to_group = datagram.destination.is_multicast();
  if (message->kind == wire::NeighborMessage::Kind::kSolicitation) {
    const bool on_link =
        kNetworks[1].contains(message->target) || kNetworks[2].contains(message->target);
    if (!on_link || is_own(message->target)) return faulty("NDP asks for no neighbour");
    const IpAddress group = wire::solicited_node_group(message->target);
    if (datagram.destination != group && datagram.destination != message->target)
      return faulty("NDP asks somebody else");
    return {SentKind::kSolicitation, {}, {}};
  }
  if (message->target != datagram.source || !message->overrides || message->from_router)
    return faulty("an advertisement of something else");
  if (message->solicited == to_group) return faulty("an advertisement that is asked for by nobody");
  if (to_group && datagram.destination != kAllNodes) return faulty("an advertisement to a group");
  return {SentKind::kAdvertisement, {}, {}};
}

/// RFC 1122, section 3.2.2, and RFC 4443, section 2.4: what is quoted was sent to one host of ours.
SentFrame read_sent_error(Bytes frame, const Datagram& datagram) {
  if (datagram.end - datagram.begin > (datagram.is_v4 ? 576U : 1280U))
    return faulty("an error that is too long");
  const std::size_t begin = datagram.payload + 8;
  const Bytes quoted = frame.subspan(begin);
  // What is cut off is made up for, so that headers that count on it can be read.
  std::vector<std::byte> whole(frame.begin(), frame.end());
  whole.resize(begin + 65'600);
  const auto original = datagram.is_v4 ? read_ipv4(whole, begin, whole.size())
                                       : read_ipv6(whole, begin, whole.size());
  if (!original || original->protocol != kUdp || !original->is_whole)
    return faulty("an error about no UDP datagram");
  if (original->source != datagram.destination || original->destination != datagram.source)
    return faulty("an error about another conversation");
  return {SentKind::kUnreachable, {}, quoted};
}

SentFrame read_sent_message(Bytes frame, const Datagram& datagram) {
  if (datagram.end - datagram.payload < 8) return faulty("a short message");
  const unsigned type = byte_at(frame, datagram.payload);
  const unsigned code = byte_at(frame, datagram.payload + 1);
  if (!datagram.is_v4 && (type == 135 || type == 136)) return read_sent_neighbor(frame, datagram);
  if (datagram.hops != 64) return faulty("a message with other hops");
  if (type == (datagram.is_v4 ? 0U : 129U))
    return {SentKind::kEchoReply, {}, frame.subspan(datagram.payload + 4)};
  if (type == (datagram.is_v4 ? 3U : 1U) && code == (datagram.is_v4 ? 3U : 4U))
    return read_sent_error(frame, datagram);
  return faulty("a message of another type");
}

SentFrame read_sent_ip(Bytes frame, const Datagram& datagram) {
  if (datagram.end != frame.size()) return faulty("bytes behind the packet");
  if (!is_ours(datagram.source)) return faulty("not from us");
  const MacAddress to = mac_at(frame, 0);
  if (datagram.destination.is_multicast()) {
    if (datagram.is_v4 || datagram.protocol != kIcmpv6) return faulty("to a group");
    if (to != wire::multicast_mac(datagram.destination))
      return faulty("to another group's stations");
  } else if (!is_one_host(datagram.destination) || is_ours(datagram.destination)) {
    return faulty("to no host");
  } else if (!is_station(to)) {
    return faulty("to no station");
  }
  if (datagram.is_v4 &&
      (word_at(frame, datagram.begin + 6) != 0x4000 || datagram.payload != datagram.begin + 20))
    return faulty("options, or leave to fragment");
  if (!datagram.is_v4 && datagram.payload != datagram.begin + 40)
    return faulty("extension headers");
  if (!has_right_ip_checksum(frame, datagram)) return faulty("a wrong checksum of the header");
  if (!has_right_checksum(frame, datagram)) return faulty("a wrong checksum");
  if (datagram.protocol == kTcp) {
    if (datagram.hops != 64 || datagram.end - datagram.payload < 20) return faulty("a bad segment");
    return {SentKind::kTcp, {}, {}};
  }
  if (datagram.protocol == (datagram.is_v4 ? kIcmp : kIcmpv6))
    return read_sent_message(frame, datagram);
  return faulty("of another protocol");
}

}  // namespace

bool net_world::is_own(const IpAddress& address) {
  return address == kOwn || address == kOwn6 || address == kLocal6;
}

bool net_world::is_ours(const IpAddress& address) {
  return is_own(address) || address == kVip || address == kVip6;
}

bool net_world::is_one_host(const IpAddress& address) {
  if (address.is_multicast() || address.is_loopback() || address.is_unspecified()) return false;
  if (!address.is_v4()) return true;
  return address.bytes[12] != 0 && address.bytes[12] < 240 &&
         address != IpAddress::v4(192, 0, 2, 255);
}

std::vector<Datagram> read_datagrams(Bytes frame) {
  std::vector<Datagram> datagrams;
  if (frame.size() < kEthernet) return datagrams;
  const unsigned type = word_at(frame, 12);
  std::optional<Datagram> outer;
  if (type == 0x0800) outer = read_ipv4(frame, kEthernet, frame.size());
  if (type == 0x86dd) outer = read_ipv6(frame, kEthernet, frame.size());
  if (!outer) return datagrams;
  datagrams.push_back(*outer);
  if (const auto inner = read_inner(frame, *outer)) datagrams.push_back(*inner);
  return datagrams;
}

bool has_right_ip_checksum(Bytes frame, const Datagram& datagram) {
  if (!datagram.is_v4) return true;
  const std::size_t length = (byte_at(frame, datagram.begin) & 15U) * 4;
  return folded(sum_of(frame.subspan(datagram.begin, length))) == 0xffff;
}

bool has_right_checksum(Bytes frame, const Datagram& datagram) {
  const auto part = summed_part(frame, datagram);
  if (!part) return false;
  return folded(sum_of(frame.subspan(part->begin, part->end - part->begin)) + part->pseudo) ==
         0xffff;
}

void repair_checksums(std::span<std::byte> frame) {
  std::vector<Datagram> datagrams = read_datagrams(frame);
  std::ranges::reverse(datagrams);  // what is in a tunnel is summed by it
  for (const Datagram& datagram : datagrams) {
    if (datagram.is_v4) {
      put_word(frame, datagram.begin + 10, 0);
      const auto header = frame.subspan(datagram.begin, (byte_at(frame, datagram.begin) & 15U) * 4);
      put_word(frame, datagram.begin + 10, ~folded(sum_of(header)) & 0xffff);
    }
    const auto part = summed_part(frame, datagram);
    if (!part) continue;
    put_word(frame, part->begin + part->field, 0);
    const unsigned sum =
        ~folded(sum_of(frame.subspan(part->begin, part->end - part->begin)) + part->pseudo) &
        0xffff;
    const bool may_not_be_zero = datagram.protocol == kUdp;  // which would say that there is none
    put_word(frame, part->begin + part->field, may_not_be_zero && sum == 0 ? 0xffff : sum);
  }
}

SentFrame read_sent(Bytes frame) {
  if (frame.size() < kEthernet || frame.size() > kFrameMax) return faulty("a length of no frame");
  if (mac_at(frame, 6) != kMac) return faulty("from another station");
  if (word_at(frame, 12) == 0x0806) return read_sent_arp(frame);
  const std::vector<Datagram> datagrams = read_datagrams(frame);
  if (datagrams.empty()) return faulty("neither ARP nor a packet");
  return read_sent_ip(frame, datagrams.front());
}

}  // namespace weir::testing
