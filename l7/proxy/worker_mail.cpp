// What a worker does with what is another's: see the table at the top of worker.h.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include "l4/base/bytes.h"
#include "l4/wire/headers.h"
#include "l7/proxy/worker.h"

namespace weir::proxy {
namespace {

/// Letters per colleague and turn; like frames, enough to empty a box in a few turns.
constexpr int kLettersPerTurn = 64;

constexpr std::size_t kTcpPortsBytes = 4;

// Enough of NDP to recognise it; net checks it. Extension headers before it are legal and unheard
// of: such a message is used by the worker that receives it, and by no other.
constexpr std::size_t kNextHeaderOffset = sizeof(wire::EthernetHeader) + 6;
constexpr std::size_t kIcmpTypeOffset = sizeof(wire::EthernetHeader) + sizeof(wire::Ipv6Header);
constexpr std::uint8_t kSolicitation = 135;
constexpr std::uint8_t kAdvertisement = 136;
// From "destination unreachable" to "parameter problem".
constexpr std::uint8_t kFirstErrorV6 = 1;
constexpr std::uint8_t kLastErrorV6 = 4;
constexpr std::uint8_t kUnreachable = 3;
constexpr std::uint8_t kTimeExceeded = 11;
constexpr std::uint8_t kParameterProblem = 12;

wire::EtherType type_of(const wire::EthernetHeader& ethernet) {
  return wire::EtherType{ethernet.type.host()};
}

std::optional<std::uint8_t> icmpv6_type(std::span<const std::byte> frame) {
  if (frame.size() <= kIcmpTypeOffset || std::to_integer<std::uint8_t>(frame[kNextHeaderOffset]) !=
                                             static_cast<std::uint8_t>(wire::IpProtocol::kIcmpv6))
    return std::nullopt;
  return std::to_integer<std::uint8_t>(frame[kIcmpTypeOffset]);
}

std::optional<std::uint8_t> icmpv4_type(std::span<const std::byte> frame) {
  ByteReader reader{frame.subspan(sizeof(wire::EthernetHeader))};
  const auto ip = reader.take<wire::Ipv4Header>();
  if (!ip || ip->protocol != static_cast<std::uint8_t>(wire::IpProtocol::kIcmp))
    return std::nullopt;
  const std::size_t header = std::size_t{ip->version_and_length & 0xfU} * 4;
  const std::size_t at = sizeof(wire::EthernetHeader) + header;
  if (header < sizeof(wire::Ipv4Header) || frame.size() <= at) return std::nullopt;
  return std::to_integer<std::uint8_t>(frame[at]);
}

bool is_neighbor_frame(std::span<const std::byte> frame) {
  const auto ethernet = ByteReader{frame}.take<wire::EthernetHeader>();
  if (!ethernet) return false;
  if (type_of(*ethernet) == wire::EtherType::kArp) return true;
  if (type_of(*ethernet) != wire::EtherType::kIpv6) return false;
  const auto message = icmpv6_type(frame);
  return message == kSolicitation || message == kAdvertisement;
}

/// Types of RFC 792 and RFC 4443 that quote a packet of ours; net checks the rest.
bool is_icmp_error(std::span<const std::byte> frame) {
  const auto ethernet = ByteReader{frame}.take<wire::EthernetHeader>();
  if (!ethernet) return false;
  if (type_of(*ethernet) == wire::EtherType::kIpv6) {
    const auto type = icmpv6_type(frame);
    return type >= kFirstErrorV6 && type <= kLastErrorV6;
  }
  if (type_of(*ethernet) != wire::EtherType::kIpv4) return false;
  const auto type = icmpv4_type(frame);
  return type == kUnreachable || type == kTimeExceeded || type == kParameterProblem;
}

std::uint16_t destination_port(std::span<const std::byte> segment) {
  WEIR_ASSERT(segment.size() >= kTcpPortsBytes);  // net delivers whole TCP headers
  return ByteReader{segment.subspan(2)}.take<wire::be16>()->host();
}

}  // namespace

/// Of a port that a connection was opened from; nothing for all others, and while we are alone.
std::optional<std::uint32_t> Worker::owner_of(const wire::IpAddress& local,
                                              std::uint16_t port) const {
  if (is_alone() || port < ports_.first || port > ports_.last) return std::nullopt;
  if (std::ranges::find(own_addresses_, local) == own_addresses_.end()) return std::nullopt;
  return tcp::owner_of_port(port, ports_.workers);
}

void Worker::input(net::Segment segment, Instant now) {
  const std::span<const std::byte> bytes = std::as_const(segment.packet).bytes();
  const auto owner =
      is_alone() ? std::nullopt : owner_of(segment.destination, destination_port(bytes));
  if (owner && *owner != colleagues_.index) {
    ++mail_counters_.misrouted_out;
    const SegmentLetter letter{segment.source, segment.destination, segment.ecn, ports_.workers};
    static_cast<void>(post(*owner, letter, bytes));  // lost and counted, as on any link
    return;
  }
  // What is certainly ours and unknown, nobody else knows either.
  seen_ = owner ? ports_.workers : 1;
  stack_.input(std::move(segment), now);
}

void Worker::input_error(const net::TransportError& error, Instant now) {
  const auto owner = owner_of(error.local.address, error.local.port.value());
  if (!owner || *owner == colleagues_.index) return stack_.error(error, now);
  ++mail_counters_.errors_out;
  static_cast<void>(post(*owner, error, {}));
}

/// The stack knows no flow of this segment. Taken even if the next worker's box is full: RST could
/// end a connection that it knows, and whatever is lost here TCP sends again.
bool Worker::take(net::Segment& segment, Instant /*now*/) {
  unknown_ = true;
  if (seen_ >= ports_.workers) {
    if (!has_predecessor_) return false;
    ++mail_counters_.to_predecessor;
    interface_.hand_over(std::move(segment));
    return true;
  }
  ++mail_counters_.unknown_shown;
  const SegmentLetter letter{segment.source, segment.destination, segment.ecn, seen_};
  static_cast<void>(post((colleagues_.index + 1) % ports_.workers, letter,
                         std::as_const(segment.packet).bytes()));
  return true;
}

/// Replies come without a flow, hence to a worker that may not have asked; and a station whose
/// address changes says so to one of us only.
void Worker::show_if_neighbor(const port::Packet& frame) {
  if (!is_neighbor_frame(frame.bytes())) return;
  for (std::uint32_t to = 0; to < ports_.workers; ++to) {
    if (to == colleagues_.index) continue;
    ++mail_counters_.neighbors_out;
    static_cast<void>(post(to, NeighborLetter{}, frame.bytes()));
  }
}

/// What has no flow that says whose it is: replies to the predecessor's questions, and errors about
/// what it has sent.
void Worker::show_predecessor(const port::Packet& frame) {
  const std::span<const std::byte> bytes = frame.bytes();
  if (!is_neighbor_frame(bytes) && !is_icmp_error(bytes)) return;
  ++mail_counters_.to_predecessor;
  if (port::Packet copy = copy_of(bytes)) interface_.hand_over(std::move(copy));
}

bool Worker::post(std::uint32_t to, Letter letter, std::span<const std::byte> bytes) {
  posted_to_ |= std::uint64_t{1} << to;  // a full box is a reason to wake up, too
  const bool posted = colleagues_.room->box(colleagues_.index, to).post(std::move(letter), bytes);
  if (!posted) ++mail_counters_.misrouted_dropped;
  return posted;
}

void Worker::ring_colleagues() {
  for (; posted_to_ != 0; posted_to_ &= posted_to_ - 1)
    colleagues_.room->ring(static_cast<std::uint32_t>(std::countr_zero(posted_to_)));
}

bool Worker::take_letters(Instant now) {
  bool taken = false;
  for (std::uint32_t from = 0; from < ports_.workers; ++from) {
    if (from == colleagues_.index) continue;
    Postbox& box = colleagues_.room->box(from, colleagues_.index);
    for (int i = 0; i < kLettersPerTurn && !box.empty(); ++i) {
      open_letter(box, now);
      box.drop_front();
      taken = true;
    }
  }
  return taken;
}

void Worker::open_letter(Postbox& box, Instant now) {
  const Letter& letter = *box.front();
  if (const auto* segment = std::get_if<SegmentLetter>(&letter))
    return open_segment(*segment, box.front_bytes(), now);
  if (const auto* error = std::get_if<ErrorLetter>(&letter)) return stack_.error(*error, now);
  ++mail_counters_.neighbors_in;
  if (port::Packet frame = copy_of(box.front_bytes()))
    static_cast<void>(interface_.input(std::move(frame), now));  // neither ARP nor NDP is TCP
}

void Worker::open_segment(const SegmentLetter& letter, std::span<const std::byte> bytes,
                          Instant now) {
  port::Packet packet = copy_of(bytes);
  if (!packet) return;
  const bool is_ours = letter.seen >= ports_.workers;
  seen_ = letter.seen + 1;
  unknown_ = false;
  stack_.input({.source = letter.source,
                .destination = letter.destination,
                .ecn = letter.ecn,
                .packet = std::move(packet)},
               now);
  if (is_ours || !unknown_) ++mail_counters_.misrouted_in;
}

/// In a buffer of our own pool.
port::Packet Worker::copy_of(std::span<const std::byte> bytes) {
  port::Packet packet = port_.allocate();
  if (!packet || packet.tailroom() < bytes.size()) {
    ++mail_counters_.misrouted_dropped;
    return {};
  }
  if (!bytes.empty()) std::memcpy(packet.append(bytes.size()).data(), bytes.data(), bytes.size());
  return packet;
}

}  // namespace weir::proxy
