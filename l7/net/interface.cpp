#include "l7/net/interface.h"

#include <algorithm>

#include "l4/base/bytes.h"
#include "l4/wire/checksum.h"

namespace weir::net {
namespace {

using wire::EthernetHeader;
using wire::EtherType;
using wire::IpAddress;
using wire::IpProtocol;
using wire::MacAddress;

constexpr std::size_t kSendBurst = 32;  // what one system call of the AF_XDP driver moves
constexpr std::uint8_t kTimeToLive = 64;
constexpr std::uint8_t kTimeToLiveNeighbor = 255;  // RFC 4861, section 7.1: proves a neighbour

constexpr std::size_t kTcpChecksumOffset = 16;
constexpr std::size_t kUdpChecksumOffset = 6;
constexpr std::size_t kIcmpChecksumOffset = 2;

// Answers cost us and help whoever makes us send them, so both kinds have a ceiling.
constexpr std::uint32_t kEchoPerSecond = 1000;
constexpr std::uint32_t kEchoBurst = 200;
constexpr std::uint32_t kUnreachablePerSecond = 100;
constexpr std::uint32_t kUnreachableBurst = 20;

// What an error message quotes: RFC 1812, section 4.3.2.3 (576 bytes in all) and RFC 4443, section
// 2.4 (the minimum MTU in all).
constexpr std::size_t kQuoteIpv4 = 576 - sizeof(wire::Ipv4Header) - sizeof(wire::IcmpHeader);
constexpr std::size_t kQuoteIpv6 = 1280 - sizeof(wire::Ipv6Header) - sizeof(wire::IcmpHeader);

constexpr Duration kConfirmInterval = std::chrono::seconds{1};

// How often a new address is announced, and how far apart: ANNOUNCE_NUM and ANNOUNCE_INTERVAL of
// RFC 5227, section 1.1; MAX_NEIGHBOR_ADVERTISEMENT and RetransTimer of RFC 4861, section 10.
constexpr unsigned kAnnouncementsArp = 2;
constexpr Duration kAnnounceIntervalArp = std::chrono::seconds{2};
constexpr unsigned kAnnouncementsNdp = 3;
constexpr Duration kAnnounceIntervalNdp = std::chrono::seconds{1};
// DEFEND_INTERVAL of RFC 5227: two hosts that both insist must not fill the link with it.
constexpr Duration kDefendInterval = std::chrono::seconds{10};

namespace icmp {  // RFC 792
constexpr std::uint8_t kEchoReply = 0;
constexpr std::uint8_t kUnreachable = 3;
constexpr std::uint8_t kCodePortUnreachable = 3;
constexpr std::uint8_t kCodeFragmentationNeeded = 4;
constexpr std::uint8_t kEchoRequest = 8;
constexpr std::uint8_t kTimeExceeded = 11;
}  // namespace icmp
namespace icmpv6 {  // RFC 4443
constexpr std::uint8_t kUnreachable = 1;
constexpr std::uint8_t kCodePortUnreachable = 4;
constexpr std::uint8_t kPacketTooBig = 2;
constexpr std::uint8_t kTimeExceeded = 3;
constexpr std::uint8_t kEchoRequest = 128;
constexpr std::uint8_t kEchoReply = 129;
constexpr std::uint8_t kSolicitation = 135;
constexpr std::uint8_t kAdvertisement = 136;
}  // namespace icmpv6

const IpAddress kAllNodes{{0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01}};

EtherType ether_type_of(const IpAddress& address) {
  return address.is_v4() ? EtherType::kIpv4 : EtherType::kIpv6;
}

/// What speaks to all hosts of an IPv4 network (RFC 1122, section 3.2.1.3 (e)); a network of two
/// hosts has no such address (RFC 3021).
std::optional<IpAddress> broadcast_of(const wire::Prefix& prefix) {
  if (!prefix.address.is_v4() || prefix.length > 30) return std::nullopt;
  IpAddress address = prefix.address;
  for (std::size_t bit = prefix.length; bit < 32; ++bit)
    address.bytes[12 + bit / 8] |= static_cast<std::uint8_t>(0x80U >> bit % 8);
  return address;
}

/// RFC 4861, section 7.1.1: where a station without an address asks for one.
bool is_solicited_node_group(const IpAddress& group) {
  return !group.is_v4() && group == wire::solicited_node_group(group);
}

/// What an IP packet of `mtu` bytes has room for.
std::uint16_t size_behind_header(const IpAddress& address, std::size_t mtu) {
  const std::size_t header = address.is_v4() ? sizeof(wire::Ipv4Header) : sizeof(wire::Ipv6Header);
  return static_cast<std::uint16_t>(mtu - header);
}

}  // namespace

Interface::Interface(const InterfaceConfig& config, port::PacketPort& port, Random random,
                     Instant start)
    : port_{port},
      mac_{port.capabilities().mac},
      mtu_{port.capabilities().mtu},
      path_mtus_{random, start},
      neighbors_{*this, random, start},
      echo_limit_{kEchoPerSecond, kEchoBurst, start},
      unreachable_limit_{kUnreachablePerSecond, kUnreachableBurst, start},
      now_{start} {
  errors_.reserve(kErrorsMax);
  configure(config);
}

void Interface::configure(const InterfaceConfig& config) {
  const std::vector<LocalAddress> before = std::move(local_);
  config_ = config;
  // Every IPv6 interface has a link-local address (RFC 4291, section 2.8); routers use it.
  const bool has_ipv6 = std::ranges::any_of(
      config.addresses, [](const wire::Prefix& prefix) { return !prefix.address.is_v4(); });
  if (has_ipv6) config_.addresses.push_back({wire::link_local_address(mac_), 64});

  local_.clear();
  for (const wire::Prefix& prefix : config_.addresses)
    local_.push_back({prefix.address, Owned::kOwn});
  for (const IpAddress& vip : config_.vips)
    local_.push_back({vip, Owned::kVip});
  // An address that is both counts as our own: the stable sort keeps that one in front.
  std::ranges::stable_sort(local_, {}, &LocalAddress::address);
  const auto repeated = std::ranges::unique(local_, {}, &LocalAddress::address);
  local_.erase(repeated.begin(), repeated.end());

  broadcasts_.clear();
  for (const wire::Prefix& prefix : config_.addresses)
    if (const auto broadcast = broadcast_of(prefix)) broadcasts_.push_back(*broadcast);

  std::erase_if(announcements_, [&](const Announcement& announcement) {
    return ownership(announcement.address) != Owned::kOwn;
  });
  for (LocalAddress& local : local_) {
    if (local.owned != Owned::kOwn) continue;
    const auto known = std::ranges::lower_bound(before, local.address, {}, &LocalAddress::address);
    const bool is_new =
        known == before.end() || known->address != local.address || known->owned != Owned::kOwn;
    if (!is_new) {
      local.defend_after = known->defend_after;
      continue;
    }
    announce(local.address);
    const unsigned times = local.address.is_v4() ? kAnnouncementsArp : kAnnouncementsNdp;
    announcements_.push_back({.address = local.address, .left = times - 1});
  }
  tunnel_overhead_ = tunnel_overhead_max();
}

InterfaceCounters Interface::counters() const {
  InterfaceCounters counters = counters_;
  counters.neighbor = neighbors_.counters();
  counters.path_mtu_evicted = path_mtus_.evicted();
  return counters;
}

std::optional<TransportError> Interface::poll_error() {
  if (errors_.empty()) return std::nullopt;
  const TransportError error = errors_.front();
  errors_.erase(errors_.begin());
  return error;
}

void Interface::advance(Instant now) {
  now_ = now;
  neighbors_.advance(now);
  path_mtus_.advance(now);
  repeat_announcements(now);
}

Instant Interface::next_deadline() const {
  Instant deadline = neighbors_.next_deadline();
  for (const Announcement& announcement : announcements_)
    deadline = std::min(deadline, announcement.due == kNever ? now_ : announcement.due);
  return deadline;
}

// Addresses and routes.

Interface::Owned Interface::ownership(const IpAddress& address) const {
  const auto found = std::ranges::lower_bound(local_, address, {}, &LocalAddress::address);
  return found != local_.end() && found->address == address ? found->owned : Owned::kNo;
}

bool Interface::is_on_link(const IpAddress& address) const {
  return std::ranges::any_of(config_.addresses,
                             [&](const wire::Prefix& prefix) { return prefix.contains(address); });
}

/// Whether this address is one host's, as far as can be known, and not all of a network's: those
/// must not be answered (RFC 1122, section 3.2.2).
bool Interface::may_send(const IpAddress& source) const {
  return is_valid_source(source) && std::ranges::find(broadcasts_, source) == broadcasts_.end();
}

/// Whether another station can have this link address. A group's would spread what is sent to one
/// host (RFC 1812, section 3.3.2, for ARP), and a frame to our own is taken for one that is handed
/// over to another process.
bool Interface::is_neighbors(const MacAddress& mac) const {
  return !mac.is_multicast() && !mac.is_zero() && mac != mac_;
}

std::optional<IpAddress> Interface::next_hop_to(const IpAddress& destination) const {
  if (is_on_link(destination)) return destination;
  return destination.is_v4() ? config_.gateway_v4 : config_.gateway_v6;
}

/// Which own address asks about `target`: one of the same network, else any of the same family. A
/// VIP never does, for then the answer would go to whoever holds the VIP on the link.
std::optional<IpAddress> Interface::source_towards(const IpAddress& target) const {
  std::optional<IpAddress> any;
  for (const wire::Prefix& prefix : config_.addresses) {
    if (prefix.contains(target)) return prefix.address;
    if (prefix.address.family() == target.family()) any = prefix.address;
  }
  return any;
}

Interface::LocalAddress* Interface::find_own(const IpAddress& address) {
  const auto found = std::ranges::lower_bound(local_, address, {}, &LocalAddress::address);
  const bool is_own =
      found != local_.end() && found->address == address && found->owned == Owned::kOwn;
  return is_own ? &*found : nullptr;
}

/// The most that a balancer of ours puts around a packet. A source of the one family sends to an
/// own address of that family, whatever is inside.
std::size_t Interface::tunnel_overhead_max() const {
  std::size_t most = 0;
  for (const wire::Prefix& source : config_.tunnel_sources)
    most = std::max(most, tunnel_overhead(source.address.family()));
  return most;
}

/// Tells the link about an address once: a gratuitous ARP request (RFC 5227, section 3) or an
/// unsolicited advertisement (RFC 4861, section 7.2.6).
void Interface::announce(const IpAddress& address) {
  if (!config_.speaks) return;
  if (address.is_v4()) {
    send_arp({.operation = wire::ArpMessage::Operation::kRequest,
              .sender_mac = mac_,
              .sender = address,
              .target_mac = {},
              .target = address},
             MacAddress::broadcast());
    return;
  }
  port::Packet packet = make_neighbor_message({.kind = wire::NeighborMessage::Kind::kAdvertisement,
                                               .target = address,
                                               .link_address = mac_,
                                               .overrides = true},
                                              address, kAllNodes);
  if (packet) enqueue(std::move(packet), EtherType::kIpv6, wire::multicast_mac(kAllNodes));
}

/// Neither ARP nor NDP is acknowledged, so a lost announcement is made up for by the next.
void Interface::repeat_announcements(Instant now) {
  if (announcements_.empty()) return;
  for (Announcement& announcement : announcements_) {
    const bool begins = announcement.due == kNever;
    if (!begins && now < announcement.due) continue;
    announcement.due =
        now + (announcement.address.is_v4() ? kAnnounceIntervalArp : kAnnounceIntervalNdp);
    if (begins) continue;
    announce(announcement.address);
    --announcement.left;
  }
  std::erase_if(announcements_,
                [](const Announcement& announcement) { return announcement.left == 0; });
}

/// Somebody else claims one of our addresses. The operator gave it to us, so we do not let go of it
/// but say so (RFC 5227, section 2.4, case (c)); the same over IPv6, where no rule forbids it, for
/// an advertisement that overrides has just led the neighbours astray.
void Interface::defend(LocalAddress& own, Instant now) {
  ++counters_.address_conflicts;
  if (!config_.speaks || now < own.defend_after) return;
  own.defend_after = now + kDefendInterval;
  ++counters_.address_defended;
  announce(own.address);
}

// Input.

std::optional<Segment> Interface::input(port::Packet frame, Instant now) {
  ++counters_.frames_received;
  const auto ethernet = ByteReader{frame.bytes()}.take<EthernetHeader>();
  if (!ethernet) {
    ++counters_.dropped_truncated;
    return std::nullopt;
  }
  frame.trim_front(sizeof(EthernetHeader));
  switch (EtherType{ethernet->type.host()}) {
    case EtherType::kArp:
      input_arp(frame.bytes(), now);
      return std::nullopt;
    case EtherType::kIpv4: {
      const IpParse parsed = parse_ipv4(frame.bytes());
      return input_ip(std::move(frame), *ethernet, parsed, now);
    }
    case EtherType::kIpv6: {
      const IpParse parsed = parse_ipv6(frame.bytes());
      return input_ip(std::move(frame), *ethernet, parsed, now);
    }
  }
  ++counters_.dropped_ether_type;  // any other number is not one of the enumerators
  return std::nullopt;
}

void Interface::input_arp(std::span<const std::byte> bytes, Instant now) {
  const auto message = wire::ArpMessage::parse(bytes);
  if (!message) {
    ++counters_.dropped_malformed_arp;
    return;
  }
  LocalAddress* const own = find_own(message->sender);
  if (own != nullptr && message->sender_mac == mac_) return;  // what we have said comes back
  // A probe (RFC 5227, section 2.1) has no sender address.
  if (!is_neighbors(message->sender_mac) ||
      !(may_send(message->sender) || message->sender.is_unspecified())) {
    ++counters_.dropped_malformed_arp;
    return;
  }
  if (own != nullptr) return defend(*own, now);
  const bool for_us = ownership(message->target) == Owned::kOwn;
  const bool is_request = message->operation == wire::ArpMessage::Operation::kRequest;
  if (for_us && is_request) {
    if (is_on_link(message->sender)) neighbors_.learn(message->sender, message->sender_mac, now);
    if (!config_.speaks) {
      ++counters_.questions_left;
      return;
    }
    ++counters_.arp_answered;
    send_arp({.operation = wire::ArpMessage::Operation::kReply,
              .sender_mac = mac_,
              .sender = message->target,
              .target_mac = message->sender_mac,
              .target = message->sender},
             message->sender_mac);
    return;
  }
  // Replies to us, announcements, and questions to others: they update what we know already
  // (RFC 826, "Packet Reception"), and only a reply to us proves anything about the way there.
  neighbors_.answer({.address = message->sender,
                     .mac = message->sender_mac,
                     .solicited = for_us && message->target_mac == mac_,
                     .overrides = true},
                    now);
}

void Interface::count_fault(IpFault fault) {
  switch (fault) {
    case IpFault::kTruncated:
      ++counters_.dropped_truncated;
      return;
    case IpFault::kMalformed:
      ++counters_.dropped_malformed_ip;
      return;
    case IpFault::kChecksum:
      ++counters_.dropped_ip_checksum;
      return;
    case IpFault::kTimeToLive:
      ++counters_.dropped_ttl;
      return;
    case IpFault::kFragment:
      ++counters_.dropped_fragment;
      return;
    case IpFault::kExtension:
      ++counters_.dropped_extension;
      return;
  }
}

/// Addresses of a well-formed datagram; what is not for us is counted here.
bool Interface::is_for_us(const IpDatagram& datagram, bool link_multicast) {
  const bool is_icmpv6 = !datagram.destination.is_v4() &&
                         datagram.protocol == static_cast<std::uint8_t>(IpProtocol::kIcmpv6);
  // A station that looks for a free address asks from the unspecified one (RFC 4862).
  const bool is_probe = is_icmpv6 && datagram.source.is_unspecified();
  if ((!may_send(datagram.source) && !is_probe) || ownership(datagram.source) != Owned::kNo) {
    ++counters_.dropped_source;
    return false;
  }
  if (is_icmpv6 && datagram.destination.is_multicast()) {
    const bool for_a_group_of_ours =
        datagram.destination == kAllNodes ||
        std::ranges::any_of(local_, [&](const LocalAddress& local) {
          return local.owned == Owned::kOwn && !local.address.is_v4() &&
                 wire::solicited_node_group(local.address) == datagram.destination;
        });
    if (!for_a_group_of_ours) ++counters_.dropped_destination;
    return for_a_group_of_ours;
  }
  if (ownership(datagram.destination) == Owned::kNo) {
    ++counters_.dropped_destination;
    return false;
  }
  // RFC 1122, section 3.3.6: what was sent to all stations is no conversation with one host.
  if (link_multicast) ++counters_.dropped_link_broadcast;
  return !link_multicast;
}

std::optional<Segment> Interface::input_ip(port::Packet packet, const EthernetHeader& ethernet,
                                           const IpParse& parsed, Instant now) {
  if (const IpFault* fault = std::get_if<IpFault>(&parsed)) {
    count_fault(*fault);
    return std::nullopt;
  }
  const IpDatagram& datagram = std::get<IpDatagram>(parsed);
  if (!is_for_us(datagram, ethernet.destination.is_multicast())) return std::nullopt;
  packet.truncate(datagram.total_length);  // Ethernet pads short frames
  if (!config_.tunnel_sources.empty() && ownership(datagram.destination) == Owned::kOwn) {
    if (const auto kind = tunnel_kind(datagram, packet.bytes()))
      return input_tunnel(std::move(packet), ethernet, datagram, *kind, now);
  }
  return input_transport(std::move(packet), ethernet, datagram, now);
}

/// Takes the outer headers off. Who sent the packet is found out first, and then whether it is for
/// us at all; from there on it is treated, and counted, as if it had come by itself.
std::optional<Segment> Interface::input_tunnel(port::Packet packet, const EthernetHeader& ethernet,
                                               const IpDatagram& outer, TunnelKind kind,
                                               Instant now) {
  const bool is_listed = std::ranges::any_of(
      config_.tunnel_sources,
      [&](const wire::Prefix& prefix) { return prefix.contains(outer.source); });
  if (!is_listed) {
    ++counters_.dropped_tunnel_source;
    return std::nullopt;
  }
  const TunnelParse parsed = parse_tunnel(kind, outer, packet.bytes());
  if (const TunnelFault* fault = std::get_if<TunnelFault>(&parsed)) {
    ++(*fault == TunnelFault::kChecksum ? counters_.dropped_checksum
                                        : counters_.dropped_tunnel_malformed);
    return std::nullopt;
  }
  const Tunnel& tunnel = std::get<Tunnel>(parsed);
  packet.trim_front(tunnel.inner_offset);
  packet.truncate(tunnel.inner_length);
  const IpParse inner_parsed = tunnel.family == wire::Family::kIpv4 ? parse_ipv4(packet.bytes())
                                                                    : parse_ipv6(packet.bytes());
  if (const IpFault* fault = std::get_if<IpFault>(&inner_parsed)) {
    count_fault(*fault);
    return std::nullopt;
  }
  IpDatagram inner = std::get<IpDatagram>(inner_parsed);
  if (ownership(inner.destination) != Owned::kVip) {
    ++counters_.dropped_tunnel_destination;
    return std::nullopt;
  }
  const std::optional<Ecn> ecn = decapsulated_ecn(outer.ecn, inner.ecn);
  if (!ecn) {
    ++counters_.dropped_tunnel_ecn;
    return std::nullopt;
  }
  inner.ecn = *ecn;
  inner.in_tunnel = true;
  if (!is_for_us(inner, ethernet.destination.is_multicast())) return std::nullopt;
  packet.truncate(inner.total_length);
  ++(kind == TunnelKind::kGue ? counters_.decapsulated_gue : counters_.decapsulated_ipip);
  return input_transport(std::move(packet), ethernet, inner, now);
}

/// A datagram for us, without what followed it in the frame.
std::optional<Segment> Interface::input_transport(port::Packet packet,
                                                  const EthernetHeader& ethernet,
                                                  const IpDatagram& datagram, Instant now) {
  const bool is_v4 = datagram.source.is_v4();
  switch (IpProtocol{datagram.protocol}) {
    case IpProtocol::kTcp:
      packet.trim_front(datagram.payload_offset);
      return input_tcp(std::move(packet), ethernet, datagram, now);
    case IpProtocol::kUdp:
      input_udp(std::move(packet), datagram, now);
      return std::nullopt;
    case IpProtocol::kIcmp:
      if (!is_v4) break;
      packet.trim_front(datagram.payload_offset);
      input_icmp(std::move(packet), datagram, now);
      return std::nullopt;
    case IpProtocol::kIcmpv6:
      if (is_v4) break;
      packet.trim_front(datagram.payload_offset);
      input_icmpv6(std::move(packet), datagram, now);
      return std::nullopt;
    case IpProtocol::kIpip:
    case IpProtocol::kIpv6:
      break;  // for a VIP, or in a tunnel already, or nobody may send us any
  }
  ++counters_.dropped_protocol;  // also for every number that is no enumerator
  return std::nullopt;
}

std::optional<Segment> Interface::input_tcp(port::Packet segment, const EthernetHeader& ethernet,
                                            const IpDatagram& datagram, Instant now) {
  if (segment.size() < sizeof(wire::TcpHeader)) {
    ++counters_.dropped_truncated;
    return std::nullopt;
  }
  switch (check_transport_checksum(datagram, segment.bytes(), kTcpChecksumOffset)) {
    case ChecksumState::kGood:
      break;
    case ChecksumState::kUnfinished:
      if (config_.accept_partial_checksums) {
        ++counters_.partial_checksums;
        break;
      }
      [[fallthrough]];
    case ChecksumState::kBad:
      ++counters_.dropped_checksum;
      return std::nullopt;
  }
  const auto flags = std::to_integer<std::uint8_t>(segment.bytes()[13]);
  if ((flags & wire::TcpHeader::kAck) != 0) confirm_neighbor(datagram, ethernet.source, now);
  ++counters_.segments_delivered;
  return Segment{.source = datagram.source,
                 .destination = datagram.destination,
                 .protocol = IpProtocol::kTcp,
                 .ecn = datagram.ecn,
                 .packet = std::move(segment)};
}

/// An acknowledgement to an own address shows that what we send to that neighbour arrives. Nothing
/// is concluded from packets for VIPs, which a balancer has passed on.
void Interface::confirm_neighbor(const IpDatagram& datagram, const MacAddress& mac, Instant now) {
  const bool was_just_confirmed =
      datagram.source == confirmed_ && now - confirmed_at_ < kConfirmInterval;
  if (was_just_confirmed || ownership(datagram.destination) != Owned::kOwn) return;
  confirmed_ = datagram.source;
  confirmed_at_ = now;
  neighbors_.confirm(datagram.source, mac, now);
}

void Interface::input_udp(port::Packet packet, const IpDatagram& datagram, Instant now) {
  const auto bytes = std::as_const(packet).bytes().subspan(datagram.payload_offset);
  const auto header = ByteReader{bytes}.take<wire::UdpHeader>();
  if (!header || header->length.host() < sizeof(*header) || header->length.host() > bytes.size()) {
    ++counters_.dropped_truncated;
    return;
  }
  // Zero means "not computed", for IPv4 only (RFC 768; RFC 8200, section 8.1).
  const bool unchecked = header->checksum == wire::be16{} && datagram.source.is_v4();
  const auto state =
      check_transport_checksum(datagram, bytes.first(header->length.host()), kUdpChecksumOffset);
  const bool unfinished_is_fine =
      state == ChecksumState::kUnfinished && config_.accept_partial_checksums;
  if (!unchecked && state != ChecksumState::kGood && !unfinished_is_fine) {
    ++counters_.dropped_checksum;
    return;
  }
  ++counters_.dropped_udp;
  answer_unreachable(packet, datagram, now);
}

void Interface::input_icmp(port::Packet message, const IpDatagram& datagram, Instant now) {
  const auto header = ByteReader{message.bytes()}.take<wire::IcmpHeader>();
  if (!header) {
    ++counters_.dropped_malformed_icmp;
    return;
  }
  if (wire::ChecksumSum{}.add(message.bytes()).finish() != 0) {
    ++counters_.dropped_checksum;
    return;
  }
  if (header->type == icmp::kEchoRequest) {
    answer_echo(std::move(message), datagram, now);
  } else if (header->type == icmp::kUnreachable && header->code == icmp::kCodeFragmentationNeeded) {
    const auto told = static_cast<std::uint16_t>(header->rest.host());
    input_error(message, datagram.source.family(), TransportError::Kind::kPacketTooBig, told);
  } else if (header->type == icmp::kUnreachable) {
    input_error(message, datagram.source.family(), TransportError::Kind::kUnreachable, 0);
  } else if (header->type == icmp::kTimeExceeded) {
    input_error(message, datagram.source.family(), TransportError::Kind::kTimeExceeded, 0);
  } else {
    ++counters_.dropped_icmp_type;
  }
}

void Interface::input_icmpv6(port::Packet message, const IpDatagram& datagram, Instant now) {
  const auto header = ByteReader{message.bytes()}.take<wire::IcmpHeader>();
  if (!header) {
    ++counters_.dropped_malformed_icmp;
    return;
  }
  if (check_transport_checksum(datagram, message.bytes(), kIcmpChecksumOffset) !=
      ChecksumState::kGood) {
    ++counters_.dropped_checksum;
    return;
  }
  if (header->type == icmpv6::kSolicitation || header->type == icmpv6::kAdvertisement) {
    const auto parsed = wire::NeighborMessage::parse(message.bytes());
    if (parsed && datagram.time_to_live == kTimeToLiveNeighbor && !datagram.in_tunnel)
      input_neighbor(*parsed, datagram, now);
    else
      ++counters_.dropped_malformed_ndp;
    return;
  }
  // Only neighbour discovery is spoken to groups and from the unspecified address.
  if (datagram.destination.is_multicast() || datagram.source.is_unspecified()) {
    ++counters_.dropped_icmp_type;
    return;
  }
  if (header->type == icmpv6::kEchoRequest) {
    answer_echo(std::move(message), datagram, now);
  } else if (header->type == icmpv6::kPacketTooBig) {
    const std::uint32_t told = header->rest.host();
    if (told < kPathMtuMinIpv6) {
      ++counters_.dropped_malformed_icmp;
      return;
    }
    input_error(message, datagram.source.family(), TransportError::Kind::kPacketTooBig,
                static_cast<std::uint16_t>(std::min<std::uint32_t>(told, UINT16_MAX)));
  } else if (header->type == icmpv6::kUnreachable) {
    input_error(message, datagram.source.family(), TransportError::Kind::kUnreachable, 0);
  } else if (header->type == icmpv6::kTimeExceeded) {
    input_error(message, datagram.source.family(), TransportError::Kind::kTimeExceeded, 0);
  } else {
    ++counters_.dropped_icmp_type;
  }
}

/// RFC 4861, sections 7.1 (the checks that need the IP header), 7.2.3 and 7.2.5.
void Interface::input_neighbor(const wire::NeighborMessage& message, const IpDatagram& datagram,
                               Instant now) {
  const bool is_probe = datagram.source.is_unspecified();
  if (message.link_address && !is_neighbors(*message.link_address)) {
    ++counters_.dropped_malformed_ndp;
    return;
  }
  if (message.kind == wire::NeighborMessage::Kind::kAdvertisement) {
    if (is_probe || (message.solicited && datagram.destination.is_multicast())) {
      ++counters_.dropped_malformed_ndp;
      return;
    }
    if (LocalAddress* own = find_own(message.target)) return defend(*own, now);
    neighbors_.answer({.address = message.target,
                       .mac = message.link_address,
                       .solicited = message.solicited,
                       .overrides = message.overrides},
                      now);
    return;
  }
  if (is_probe && (message.link_address || !is_solicited_node_group(datagram.destination))) {
    ++counters_.dropped_malformed_ndp;
    return;
  }
  if (ownership(message.target) != Owned::kOwn) {
    ++counters_.dropped_destination;  // a solicited-node group has several members
    return;
  }
  if (message.link_address && is_on_link(datagram.source))
    neighbors_.learn(datagram.source, *message.link_address, now);
  if (!config_.speaks) {
    ++counters_.questions_left;
    return;
  }
  ++counters_.ndp_answered;
  const wire::NeighborMessage reply{.kind = wire::NeighborMessage::Kind::kAdvertisement,
                                    .target = message.target,
                                    .link_address = mac_,
                                    .solicited = !is_probe,
                                    .overrides = true};
  const IpAddress& destination = is_probe ? kAllNodes : datagram.source;
  port::Packet packet = make_neighbor_message(reply, message.target, destination);
  if (!packet) return;
  if (is_probe)
    enqueue(std::move(packet), EtherType::kIpv6, wire::multicast_mac(kAllNodes));
  else if (message.link_address)
    enqueue(std::move(packet), EtherType::kIpv6, *message.link_address);
  else
    route(std::move(packet), destination, now);  // it did not say where it is: known, or asked for
}

/// An error is taken seriously when it quotes a TCP segment from an address of ours; whether the
/// quoted sequence number is in flight only the transport can tell (RFC 5927, section 4.1).
void Interface::input_error(const port::Packet& message, wire::Family family,
                            TransportError::Kind kind, std::uint16_t mtu) {
  const auto quoted = parse_quoted_tcp(family, message.bytes().subspan(sizeof(wire::IcmpHeader)));
  if (!quoted || ownership(quoted->source.address) == Owned::kNo) {
    ++counters_.dropped_icmp_quote;
    return;
  }
  if (errors_.size() == kErrorsMax) {
    ++counters_.dropped_error_queue;
    return;
  }
  if (kind == TransportError::Kind::kPacketTooBig && quoted->source.address.is_v4()) {
    // Routers from before RFC 1191 leave the MTU out, and may add to the length that they quote
    // (section 5): nothing that we sent was longer than our MTU.
    if (mtu == 0) mtu = next_lower_mtu(std::min<std::uint32_t>(quoted->packet_length, mtu_));
    mtu = std::max(mtu, kPathMtuMinIpv4);
  }
  errors_.push_back({.kind = kind,
                     .local = quoted->source,
                     .remote = quoted->destination,
                     .sequence = quoted->sequence,
                     .mtu = mtu});
}

// Output.

port::Packet Interface::allocate() { return port_.allocate(); }

/// For what we send on our own behalf; without a buffer it is not sent.
port::Packet Interface::allocate_own() {
  port::Packet packet = port_.allocate();
  if (!packet) ++counters_.dropped_no_buffer;
  return packet;
}

void Interface::send(port::Packet segment, const IpAddress& source, const IpAddress& destination,
                     Ecn ecn, Instant now) {
  if (ownership(source) == Owned::kNo) {
    ++counters_.dropped_no_source;
    return;
  }
  // Held against the device alone: a segment that is too long for the path gets its connection the
  // ICMP error from which it learns that; to drop it here would leave it waiting.
  if (segment.size() > size_behind_header(destination, mtu_)) {
    ++counters_.dropped_too_big;
    return;
  }
  finish_transport_checksum(segment.bytes(), source, destination, IpProtocol::kTcp,
                            kTcpChecksumOffset);
  prepend_ip_header(segment, source, destination, IpProtocol::kTcp, kTimeToLive, ecn);
  route(std::move(segment), destination, now);
}

std::uint16_t Interface::segment_size(const IpAddress& destination) const {
  return size_behind_header(destination, path_mtus_.mtu(destination, mtu_));
}

std::uint16_t Interface::receive_segment_size(const IpAddress& local,
                                              const IpAddress& remote) const {
  const std::size_t overhead = ownership(local) == Owned::kVip ? tunnel_overhead_ : 0;
  return size_behind_header(remote, mtu_ - overhead);
}

void Interface::lower_path_mtu(const IpAddress& destination, std::uint16_t mtu, Instant now) {
  if (mtu < mtu_ && path_mtus_.lower(destination, mtu, now)) ++counters_.path_mtu_lowered;
}

void Interface::route(port::Packet packet, const IpAddress& destination, Instant now) {
  const std::optional<IpAddress> next_hop = next_hop_to(destination);
  if (!next_hop) {
    ++counters_.dropped_no_route;
    return;
  }
  if (const auto mac = neighbors_.lookup(*next_hop, now))
    enqueue(std::move(packet), ether_type_of(destination), *mac);
  else
    neighbors_.hold(*next_hop, std::move(packet), now);
}

void Interface::enqueue(port::Packet packet, EtherType type, const MacAddress& mac) {
  if (send_queue_.full()) {
    ++counters_.dropped_send_queue;
    return;
  }
  store(packet.prepend(sizeof(EthernetHeader)),
        EthernetHeader{mac, mac_, wire::be16{static_cast<std::uint16_t>(type)}});
  send_queue_.push(std::move(packet));
}

void Interface::hand_over(Segment segment) {
  prepend_ip_header(segment.packet, segment.source, segment.destination, segment.protocol,
                    kTimeToLive, segment.ecn);
  enqueue(std::move(segment.packet), ether_type_of(segment.destination), mac_);
}

void Interface::hand_over(port::Packet frame) {
  const auto ethernet = ByteReader{std::as_const(frame).bytes()}.take<EthernetHeader>();
  if (!ethernet) return;
  frame.trim_front(sizeof(EthernetHeader));
  enqueue(std::move(frame), EtherType{ethernet->type.host()}, mac_);
}

std::size_t Interface::flush(Instant /*now*/) {
  while (send_queue_.size() > 0) {
    const std::span<port::Packet> burst = send_queue_.front(kSendBurst);
    const std::size_t taken = port_.send(burst);
    send_queue_.pop(taken);
    counters_.frames_sent += taken;
    if (taken < burst.size()) break;
  }
  return send_queue_.size();
}

/// Turns the request around in its own buffer: type and checksum are all that differs.
void Interface::answer_echo(port::Packet message, const IpDatagram& datagram, Instant now) {
  if (!echo_limit_.take(now)) {
    ++counters_.limited_echo;
    return;
  }
  const bool is_v4 = datagram.source.is_v4();
  const auto bytes = message.bytes();
  bytes[0] = std::byte{is_v4 ? icmp::kEchoReply : icmpv6::kEchoReply};
  store(bytes.subspan(kIcmpChecksumOffset), wire::be16{});
  const IpProtocol protocol = is_v4 ? IpProtocol::kIcmp : IpProtocol::kIcmpv6;
  if (is_v4)
    store(bytes.subspan(kIcmpChecksumOffset), wire::be16{wire::ChecksumSum{}.add(bytes).finish()});
  else
    finish_transport_checksum(bytes, datagram.destination, datagram.source, protocol,
                              kIcmpChecksumOffset);
  ++counters_.echo_answered;
  prepend_ip_header(message, datagram.destination, datagram.source, protocol, kTimeToLive);
  route(std::move(message), datagram.source, now);
}

/// "Port unreachable", quoting the packet from its IP header on.
void Interface::answer_unreachable(const port::Packet& packet, const IpDatagram& datagram,
                                   Instant now) {
  if (!unreachable_limit_.take(now)) {
    ++counters_.limited_unreachable;
    return;
  }
  port::Packet answer = allocate_own();
  if (!answer) return;
  const bool is_v4 = datagram.source.is_v4();
  const std::size_t quote = std::min({packet.size(), is_v4 ? kQuoteIpv4 : kQuoteIpv6,
                                      answer.tailroom() - sizeof(wire::IcmpHeader)});
  wire::IcmpHeader header;
  header.type = is_v4 ? icmp::kUnreachable : icmpv6::kUnreachable;
  header.code = is_v4 ? icmp::kCodePortUnreachable : icmpv6::kCodePortUnreachable;
  store(answer.append(sizeof(header)), header);
  std::ranges::copy(packet.bytes().first(quote), answer.append(quote).begin());
  const IpProtocol protocol = is_v4 ? IpProtocol::kIcmp : IpProtocol::kIcmpv6;
  if (is_v4)
    store(answer.bytes().subspan(kIcmpChecksumOffset),
          wire::be16{wire::ChecksumSum{}.add(answer.bytes()).finish()});
  else
    finish_transport_checksum(answer.bytes(), datagram.destination, datagram.source, protocol,
                              kIcmpChecksumOffset);
  ++counters_.unreachable_sent;
  prepend_ip_header(answer, datagram.destination, datagram.source, protocol, kTimeToLive);
  route(std::move(answer), datagram.source, now);
}

void Interface::send_arp(const wire::ArpMessage& message, const MacAddress& mac) {
  port::Packet packet = allocate_own();
  if (!packet) return;
  message.write(packet.append(wire::ArpMessage::kSize).first<wire::ArpMessage::kSize>());
  enqueue(std::move(packet), EtherType::kArp, mac);
}

/// The IP packet around a neighbour message, or nothing when buffers are short.
port::Packet Interface::make_neighbor_message(const wire::NeighborMessage& message,
                                              const IpAddress& source,
                                              const IpAddress& destination) {
  port::Packet packet = allocate_own();
  if (!packet) return packet;
  const auto room = packet.append(wire::NeighborMessage::kSizeMax);
  packet.truncate(message.write(room.first<wire::NeighborMessage::kSizeMax>()));
  finish_transport_checksum(packet.bytes(), source, destination, IpProtocol::kIcmpv6,
                            kIcmpChecksumOffset);
  prepend_ip_header(packet, source, destination, IpProtocol::kIcmpv6, kTimeToLiveNeighbor);
  return packet;
}

void Interface::solicit(const IpAddress& target, const std::optional<MacAddress>& known) {
  const std::optional<IpAddress> source = source_towards(target);
  if (!source) {
    ++counters_.dropped_no_source;
    return;
  }
  if (target.is_v4()) {
    send_arp({.operation = wire::ArpMessage::Operation::kRequest,
              .sender_mac = mac_,
              .sender = *source,
              .target_mac = {},
              .target = target},
             known.value_or(MacAddress::broadcast()));
    return;
  }
  const IpAddress group = wire::solicited_node_group(target);
  port::Packet packet = make_neighbor_message(
      {.kind = wire::NeighborMessage::Kind::kSolicitation, .target = target, .link_address = mac_},
      *source, known ? target : group);
  if (packet)
    enqueue(std::move(packet), EtherType::kIpv6, known.value_or(wire::multicast_mac(group)));
}

void Interface::deliver(port::Packet packet, const IpAddress& next_hop, const MacAddress& mac) {
  enqueue(std::move(packet), ether_type_of(next_hop), mac);
}

}  // namespace weir::net
