#include "tests/support/memory_stack.h"

#include <algorithm>
#include <utility>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"
#include "l4/wire/headers.h"
#include "l4/wire/neighbor_messages.h"
#include "l7/net/ip.h"

namespace weir::testing {
namespace {

using wire::EthernetHeader;
using wire::EtherType;
using wire::MacAddress;

constexpr MacAddress kStackMac{{0x02, 0, 0, 0, 0, 0x10}};
constexpr MacAddress kPeerMac{{0x02, 0, 0, 0, 0, 0x20}};
constexpr std::uint32_t kBuffers = 16384;
constexpr std::size_t kIcmpChecksumOffset = 2;
constexpr std::uint8_t kHopLimitOfNeighbors = 255;  // RFC 4861, section 7.1
constexpr int kTimersMax = 1'000'000;               // in one advance_to()

EtherType type_of(const EthernetHeader& header) {
  return static_cast<EtherType>(header.type.host());
}

void prepend_ethernet(port::Packet& packet, EtherType type) {
  store(packet.prepend(sizeof(EthernetHeader)),
        EthernetHeader{kStackMac, kPeerMac, wire::be16{static_cast<std::uint16_t>(type)}});
}

}  // namespace

MemoryStack::Port::Port(std::uint16_t mtu) : pool{kBuffers}, capabilities_{kStackMac, mtu} {}

const port::PortCapabilities& MemoryStack::Port::capabilities() const { return capabilities_; }

std::size_t MemoryStack::Port::receive(std::span<port::Packet>) {
  return 0;  // frames are handed to the interface directly
}

std::size_t MemoryStack::Port::send(std::span<port::Packet> burst) {
  for (port::Packet& packet : burst) {
    const auto bytes = std::as_const(packet).bytes();
    frames.emplace_back(bytes.begin(), bytes.end());
    packet.reset();
  }
  return burst.size();
}

port::Packet MemoryStack::Port::allocate() {
  return buffers ? pool.allocate(capabilities_.mtu) : port::Packet{};
}

void MemoryStack::Port::wait(Duration, int) {
  WEIR_ASSERT(false);  // nothing here sleeps: the owner moves the clock
}

MemoryStack::MemoryStack(const Options& options)
    : now_{options.start},
      port_{options.mtu},
      interface_{config_, port_, Random{options.seed}, options.start},
      stack_{options.stack, interface_, Random{options.seed}, options.start} {}

void MemoryStack::add_address(const wire::IpAddress& address) {
  config_.addresses.push_back({address, 0});
  interface_.configure(config_);
  flush();  // the announcement
}

bool MemoryStack::has_address(const wire::IpAddress& address) const {
  return std::ranges::any_of(config_.addresses,
                             [&](const wire::Prefix& prefix) { return prefix.address == address; });
}

void MemoryStack::input(std::span<const std::byte> packet) {
  if (packet.empty()) return;
  const bool is_v4 = std::to_integer<unsigned>(packet[0]) >> 4 == 4;
  std::vector<std::byte> frame(sizeof(EthernetHeader) + packet.size());
  const auto type = static_cast<std::uint16_t>(is_v4 ? EtherType::kIpv4 : EtherType::kIpv6);
  store(std::span{frame}, EthernetHeader{kStackMac, kPeerMac, wire::be16{type}});
  std::ranges::copy(packet, frame.begin() + sizeof(EthernetHeader));
  input_frame(frame);
  flush();
}

void MemoryStack::input_frame(std::span<const std::byte> frame) {
  auto segment = interface_.input(port_.pool.copy_of(frame), now_);
  if (segment) stack_.input(std::move(*segment), now_);
  while (const auto error = interface_.poll_error())
    stack_.error(*error, now_);
}

void MemoryStack::flush() {
  stack_.flush(now_);
  send_all();
}

void MemoryStack::send_all() {
  // An answered question sets free what waited for it, which is one more round, not many.
  bool answered = true;
  while (answered) {
    answered = false;
    static_cast<void>(interface_.flush(now_));  // the port above takes everything
    for (const auto& frame : std::exchange(port_.frames, {})) {
      const std::span<const std::byte> bytes{frame};
      const auto header = ByteReader{bytes}.take<EthernetHeader>();
      const auto packet = bytes.subspan(sizeof(EthernetHeader));
      if (type_of(*header) == EtherType::kArp) {
        answered |= answer_arp(packet);
      } else if (type_of(*header) == EtherType::kIpv6 && header->destination.is_multicast()) {
        answered |= answer_solicitation(packet);
      } else if (type_of(*header) == EtherType::kIpv6 && answer_solicitation(packet)) {
        answered = true;  // asked by unicast, whether the neighbour is still there
      } else {
        sent_.push_back({now_, {packet.begin(), packet.end()}});
      }
    }
  }
}

bool MemoryStack::answer_arp(std::span<const std::byte> message) {
  const auto question = wire::ArpMessage::parse(message);
  if (!question || question->operation != wire::ArpMessage::Operation::kRequest) return false;
  if (question->sender == question->target) return false;  // an announcement
  port::Packet packet = port_.pool.allocate(wire::ArpMessage::kSize);
  wire::ArpMessage{.operation = wire::ArpMessage::Operation::kReply,
                   .sender_mac = kPeerMac,
                   .sender = question->target,
                   .target_mac = question->sender_mac,
                   .target = question->sender}
      .write(packet.append(wire::ArpMessage::kSize).first<wire::ArpMessage::kSize>());
  prepend_ethernet(packet, EtherType::kArp);
  input_frame(std::as_const(packet).bytes());
  return true;
}

bool MemoryStack::answer_solicitation(std::span<const std::byte> packet) {
  const net::IpParse parsed = net::parse_ipv6(packet);
  const auto* datagram = std::get_if<net::IpDatagram>(&parsed);
  if (datagram == nullptr ||
      datagram->protocol != static_cast<std::uint8_t>(wire::IpProtocol::kIcmpv6))
    return false;
  const auto question = wire::NeighborMessage::parse(packet.subspan(datagram->payload_offset));
  if (!question || question->kind != wire::NeighborMessage::Kind::kSolicitation) return false;
  port::Packet answer = port_.pool.allocate(wire::NeighborMessage::kSizeMax);
  const auto room = answer.append(wire::NeighborMessage::kSizeMax);
  answer.truncate(wire::NeighborMessage{.kind = wire::NeighborMessage::Kind::kAdvertisement,
                                        .target = question->target,
                                        .link_address = kPeerMac,
                                        .solicited = true,
                                        .overrides = true}
                      .write(room.first<wire::NeighborMessage::kSizeMax>()));
  net::finish_transport_checksum(answer.bytes(), question->target, datagram->source,
                                 wire::IpProtocol::kIcmpv6, kIcmpChecksumOffset);
  net::prepend_ip_header(answer, question->target, datagram->source, wire::IpProtocol::kIcmpv6,
                         kHopLimitOfNeighbors);
  prepend_ethernet(answer, EtherType::kIpv6);
  input_frame(std::as_const(answer).bytes());
  return true;
}

Instant MemoryStack::next_deadline() const {
  return std::min(stack_.next_deadline(), interface_.next_deadline());
}

bool MemoryStack::advance_to(Instant target) {
  for (int timers = 0; timers < kTimersMax; ++timers) {
    const Instant next = next_deadline();
    const bool last = next > target;
    now_ = std::max(now_, last ? target : next);
    interface_.advance(now_);
    stack_.advance(now_);
    flush();
    if (last) return true;
  }
  return false;
}

std::optional<MemoryStack::SentPacket> MemoryStack::take_sent() {
  if (sent_.empty()) return std::nullopt;
  SentPacket packet = std::move(sent_.front());
  sent_.pop_front();
  return packet;
}

}  // namespace weir::testing
