#include "tests/fuzz/input_maker.h"

#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <string>

namespace weir::testing {
namespace {

constexpr std::size_t kFewFrames = 5;

/// Of clients: some inside the range of full NAT's source ports, some not; few, so that they meet.
constexpr std::array<std::uint16_t, 4> kClientPorts{40000, 40001, 1024, 65535};

const AddressPair kRouter = address_pair("192.0.2.254", "2001:db8::fe");

/// Made once: what a process asks for, it asks for thousands of times.
const World& world_of(const BalancerInput& input) {
  static const World kPlain = make_world({});
  static const World kWithPrefixes = make_world({.has_prefixes = true});
  return input.world_options().has_prefixes ? kWithPrefixes : kPlain;
}

}  // namespace

wire::Endpoint InputMaker::client(bool is_v4) {
  static const std::vector<AddressPair> kClients{
      address_pair("203.0.113.7", "2001:db8:7::7"), address_pair("203.0.113.8", "2001:db8:7::8"),
      kWorldBlocked, kWorldDenied, address_pair("127.0.0.1", "::1")};  // whom nothing is answered
  const std::size_t which = one_in(4) ? below(kClients.size()) : below(2);
  return {kClients[which].of(is_v4), wire::Port{kClientPorts[below(kClientPorts.size())]}};
}

wire::Endpoint InputMaker::destination_of(const WorldService& service) {
  wire::Endpoint to = service.endpoint;
  if (to.address == kWorldPrefix.of(to.address.is_v4()))
    to.address.bytes[15] = static_cast<std::uint8_t>(to.address.bytes[15] + below(4));
  if (service.is_range) to.port = wire::Port{static_cast<std::uint16_t>(0x1000 + below(0x1000))};
  return to;
}

/// What varies in any packet.
void InputMaker::shape(PacketBuilder& packet, bool is_v4, std::uint8_t protocol) {
  constexpr std::array<std::uint8_t, 6> kFlags{0x02, 0x10, 0x12, 0x18, 0x11, 0x04};
  if (protocol == IPPROTO_TCP) packet.flags(kFlags[below(kFlags.size())]);
  if (one_in(4)) packet.time_to_live(static_cast<std::uint8_t>(below(4)));
  if (one_in(4)) packet.type_of_service(static_cast<std::uint8_t>(random_.next()));
  if (one_in(4)) packet.do_not_fragment();
  if (one_in(6)) packet.padding(below(20));
  if (is_v4 && one_in(6)) packet.ip_options(below(11));
  if (!is_v4 && one_in(6))
    packet.extension(IPPROTO_DSTOPTS, below(3));
  else if (!is_v4 && one_in(6))
    packet.fragment_header();
  const std::size_t size = one_in(12) ? 1350 + below(200) : below(64);
  std::vector<std::byte> payload(size);
  for (std::byte& byte : payload)
    byte = static_cast<std::byte>(random_.next());
  // Server ids of QUIC, in a short header.
  if (size > 6 && one_in(3)) {
    const std::array<std::uint8_t, 6> quic{0x40, 0x20, 0, static_cast<std::uint8_t>(below(4)),
                                           0,    0};
    std::ranges::copy(std::as_bytes(std::span{quic}), payload.begin());
  }
  packet.payload(payload);
}

PacketBuilder InputMaker::segment(const wire::Endpoint& from, const wire::Endpoint& to,
                                  wire::IpProtocol protocol) {
  PacketBuilder packet = PacketBuilder::transport(from, to, protocol);
  shape(packet, to.address.is_v4(), static_cast<std::uint8_t>(protocol));
  return packet;
}

PacketBuilder InputMaker::error_about(const PacketBuilder& quoted, const wire::IpAddress& router,
                                      const wire::IpAddress& to) {
  std::vector<std::byte> quote = quoted.ip_bytes();
  quote.resize(std::min(quote.size(), (to.is_v4() ? 28 : 48) + below(60)));
  const bool is_v4 = to.is_v4();
  PacketBuilder error =
      is_v4 ? icmp(router, to, one_in(2) ? 3 : 11, static_cast<std::uint8_t>(below(5)))
            : icmp(router, to, static_cast<std::uint8_t>(1 + below(4)));
  return error.icmp_rest(1400).payload(quote);
}

std::vector<std::byte> InputMaker::with_tags(std::vector<std::byte> frame) {
  const std::size_t tags = one_in(8) ? 1 + below(3) : 0;
  for (std::size_t i = 0; i < tags && frame.size() >= 12; ++i) {
    const std::array<std::uint8_t, 4> tag{static_cast<std::uint8_t>(one_in(2) ? 0x81 : 0x88),
                                          static_cast<std::uint8_t>(one_in(2) ? 0x00 : 0xa8),
                                          static_cast<std::uint8_t>(below(16)),
                                          static_cast<std::uint8_t>(random_.next())};
    const auto bytes = std::as_bytes(std::span{tag});
    frame.insert(frame.begin() + 12, bytes.begin(), bytes.end());
  }
  return frame;
}

void InputMaker::add(BalancerInput& input, const PacketBuilder& packet) {
  if (input.frames.size() >= kInputFramesMax) return;
  InputFrame frame;
  // Mostly at once: what belongs together must not be over before it is complete.
  frame.control = static_cast<std::uint8_t>(one_in(6) ? below(8) : 0);
  frame.bytes = with_tags(packet.bytes());
  input.frames.push_back(std::move(frame));
}

void InputMaker::add_fragments(BalancerInput& input, const wire::Endpoint& from,
                               const wire::Endpoint& to, wire::IpProtocol protocol) {
  const auto id = static_cast<std::uint16_t>(below(3));
  PacketBuilder first = PacketBuilder::transport(from, to, protocol);
  add(input, first.payload("a fragment's beginning, eight bytes' multiple")
                 .identification(id)
                 .more_fragments());
  PacketBuilder later = PacketBuilder::transport(from, to, protocol);
  add(input, later.payload("and its end").identification(id).fragment_offset(6));
}

/// What comes back: replies of a translated flow's backend, and errors from its side.
void InputMaker::add_return(BalancerInput& input, const WorldService& service,
                            const wire::Endpoint& from, const wire::Endpoint& to) {
  const wire::IpAddress& backend = pick(service.backends);
  const bool is_v4 = backend.is_v4();
  const wire::Endpoint behind{
      backend, service.backend_port != 0 ? wire::Port{service.backend_port} : to.port};
  const bool is_snat = (service.vip.flags & WEIR_VIP_SNAT) != 0;
  const wire::Endpoint source = is_snat ? wire::Endpoint{kWorldNode.of(is_v4), from.port} : from;
  if (one_in(5)) return add_fragments(input, behind, source, service.protocol);
  if (one_in(4)) {
    const PacketBuilder quoted = segment(source, behind, service.protocol);
    return add(input, error_about(quoted, one_in(2) ? backend : kRouter.of(is_v4), source.address));
  }
  add(input, segment(behind, source, service.protocol));
}

void InputMaker::add_flow(BalancerInput& input, const WorldService& service) {
  const bool is_v4 = service.endpoint.address.is_v4();
  const wire::Endpoint from = client(is_v4);
  const wire::Endpoint to = destination_of(service);
  const std::size_t packets = 1 + below(3);
  for (std::size_t i = 0; i < packets; ++i) {
    if (one_in(6))
      add_fragments(input, from, to, service.protocol);
    else
      add(input, segment(from, to, service.protocol));
    if (service.vip.mode == WEIR_MODE_NAT && !one_in(3)) add_return(input, service, from, to);
  }
  if (one_in(4))
    add(input, error_about(segment(to, from, service.protocol), from.address, to.address));
}

/// More flows that are alive than the NAT table has room for.
void InputMaker::add_crowd(BalancerInput& input, const WorldService& service) {
  const wire::Endpoint to = service.endpoint;
  const wire::IpAddress address = client(to.address.is_v4()).address;
  for (std::uint16_t port = 40010; port < 40013; ++port) {
    const wire::Endpoint from{address, wire::Port{port}};
    add(input, PacketBuilder::transport(from, to, service.protocol).syn());
    for (const wire::IpAddress& backend : service.backends)
      add(input,
          PacketBuilder::transport(
              {backend, service.backend_port != 0 ? wire::Port{service.backend_port} : to.port},
              service.vip.flags & WEIR_VIP_SNAT
                  ? wire::Endpoint{kWorldNode.of(backend.is_v4()), from.port}
                  : from,
              service.protocol)
              .syn_ack());
  }
}

/// Packets to nobody of ours, or to nothing that the VIP has.
PacketBuilder InputMaker::stranger(bool is_v4) {
  const wire::Endpoint from = client(is_v4);
  const wire::IpAddress& vip = kWorldVip.of(is_v4);
  switch (below(9)) {
    case 0:
      return echo_request(from.address, one_in(2) ? vip : kWorldL7Vip.of(is_v4)).payload("echo");
    case 1:
      return segment(from, {vip, wire::Port{9}},
                     one_in(2) ? wire::IpProtocol::kTcp : wire::IpProtocol::kUdp);
    case 2:
      return segment(from, {kWorldNode.of(is_v4), wire::Port{40000}}, wire::IpProtocol::kTcp);
    case 3:
      return segment(from, {kWorldL7Own.of(is_v4), wire::Port{40000}}, wire::IpProtocol::kTcp);
    case 4:
      return is_v4 ? arp_request(from.address, one_in(2) ? kWorldL7Own.v4 : vip)
                   : neighbor_solicitation(from.address, one_in(2) ? kWorldL7Own.v6 : vip);
    case 5:
      return ip_packet(from.address, vip, static_cast<std::uint8_t>(random_.next()))
          .payload("whatever");
    case 6:
      return segment({vip, wire::Port{1000}}, from, wire::IpProtocol::kTcp);
    case 7:
      return segment(from, {kWorldSilentVip.of(is_v4), wire::Port{81}}, wire::IpProtocol::kUdp);
    default:
      return segment(from, client(is_v4), wire::IpProtocol::kUdp);
  }
}

void InputMaker::add_frames(BalancerInput& input) {
  const World& world = world_of(input);
  if (one_in(4)) return add(input, stranger(one_in(2)));
  // Translated flows have the most that goes together.
  const WorldService* service = &pick(world.services);
  for (int i = 0; i < 3 && service->vip.mode != WEIR_MODE_NAT; ++i)
    service = &pick(world.services);
  if (service->vip.mode == WEIR_MODE_NAT && one_in(8)) return add_crowd(input, *service);
  add_flow(input, one_in(2) ? *service : pick(world.services));
}

/// Bytes of the headers, mostly: changes of the payload say little.
void InputMaker::damage(std::vector<std::byte>& frame) {
  if (frame.empty()) return;
  if (one_in(6)) return frame.resize(below(frame.size() + 1));
  const std::size_t reach = one_in(4) ? frame.size() : std::min<std::size_t>(frame.size(), 80);
  for (std::size_t i = 0, changes = 1 + below(3); i < changes; ++i) {
    std::byte& byte = frame[below(reach)];
    byte = one_in(2) ? static_cast<std::byte>(random_.next())
                     : byte ^ static_cast<std::byte>(1U << below(8));
  }
}

void InputMaker::mutate(BalancerInput& input) {
  if (input.frames.empty()) return add_frames(input);
  const std::size_t at = below(input.frames.size());
  switch (below(8)) {
    case 0:
      input.options = static_cast<std::uint8_t>(below(4));
      break;
    case 1:
      input.frames[at].control = static_cast<std::uint8_t>(below(8));
      break;
    case 2:
      input.frames.erase(input.frames.begin() + static_cast<std::ptrdiff_t>(at));
      break;
    case 3:
      if (input.frames.size() < kInputFramesMax) input.frames.push_back(input.frames[at]);
      break;
    case 4:
      std::swap(input.frames[at], input.frames[below(input.frames.size())]);
      break;
    case 5:
      add_frames(input);
      break;
    default:
      damage(input.frames[at].bytes);
  }
}

BalancerInput InputMaker::input() {
  BalancerInput input;
  input.options = static_cast<std::uint8_t>(one_in(4) ? below(4) : below(2));
  const std::size_t frames = 1 + below(kFewFrames);
  while (input.frames.size() < frames)
    add_frames(input);
  while (one_in(2))
    mutate(input);
  return input;
}

}  // namespace weir::testing
