#pragma once

#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "l7/net/interface.h"
#include "tests/support/packet_builder.h"
#include "tests/support/sim_link.h"

namespace weir::net {

inline const wire::IpAddress kOwn = wire::IpAddress::v4(192, 0, 2, 10);
inline const wire::IpAddress kVip = wire::IpAddress::v4(203, 0, 113, 10);
inline const wire::IpAddress kPeer = wire::IpAddress::v4(192, 0, 2, 1);
inline const wire::IpAddress kClient = wire::IpAddress::v4(198, 51, 100, 7);
inline const wire::IpAddress kOwn6 = *wire::IpAddress::parse("2001:db8:1::10");
inline const wire::IpAddress kVip6 = *wire::IpAddress::parse("2001:db8:ffff::10");
inline const wire::IpAddress kPeer6 = *wire::IpAddress::parse("2001:db8:1::1");
inline const wire::IpAddress kClient6 = *wire::IpAddress::parse("2001:db8:2::7");
inline const wire::MacAddress kPeerMac{{0x02, 0, 0, 0, 0, 0x01}};  // the packet builder's source

inline wire::Endpoint at(const wire::IpAddress& address, std::uint16_t port) {
  return {address, wire::Port{port}};
}

inline InterfaceConfig dual_stack_config() {
  return {.addresses = {{kOwn, 24}, {kOwn6, 64}},
          .gateway_v4 = kPeer,
          .gateway_v6 = kPeer6,
          .vips = {kVip, kVip6}};
}

/// The names of all counters that are not zero, in the order of their declaration, with neither the
/// totals nor the neighbours: the ones that say what became of a frame.
inline std::vector<std::string> outcomes(const InterfaceCounters& counters) {
  using C = InterfaceCounters;
  static constexpr std::pair<std::string_view, std::uint64_t C::*> kNames[] = {
      {"segments_delivered", &C::segments_delivered},
      {"partial_checksums", &C::partial_checksums},
      {"decapsulated_ipip", &C::decapsulated_ipip},
      {"decapsulated_gue", &C::decapsulated_gue},
      {"dropped_link_broadcast", &C::dropped_link_broadcast},
      {"dropped_ether_type", &C::dropped_ether_type},
      {"dropped_truncated", &C::dropped_truncated},
      {"dropped_malformed_ip", &C::dropped_malformed_ip},
      {"dropped_ip_checksum", &C::dropped_ip_checksum},
      {"dropped_ttl", &C::dropped_ttl},
      {"dropped_source", &C::dropped_source},
      {"dropped_destination", &C::dropped_destination},
      {"dropped_fragment", &C::dropped_fragment},
      {"dropped_extension", &C::dropped_extension},
      {"dropped_protocol", &C::dropped_protocol},
      {"dropped_checksum", &C::dropped_checksum},
      {"dropped_malformed_arp", &C::dropped_malformed_arp},
      {"dropped_malformed_ndp", &C::dropped_malformed_ndp},
      {"dropped_malformed_icmp", &C::dropped_malformed_icmp},
      {"dropped_icmp_type", &C::dropped_icmp_type},
      {"dropped_icmp_quote", &C::dropped_icmp_quote},
      {"dropped_error_queue", &C::dropped_error_queue},
      {"dropped_udp", &C::dropped_udp},
      {"address_conflicts", &C::address_conflicts},
      {"questions_left", &C::questions_left},
      {"dropped_tunnel_source", &C::dropped_tunnel_source},
      {"dropped_tunnel_malformed", &C::dropped_tunnel_malformed},
      {"dropped_tunnel_destination", &C::dropped_tunnel_destination},
      {"dropped_tunnel_ecn", &C::dropped_tunnel_ecn},
      {"arp_answered", &C::arp_answered},
      {"ndp_answered", &C::ndp_answered},
      {"echo_answered", &C::echo_answered},
      {"unreachable_sent", &C::unreachable_sent},
      {"address_defended", &C::address_defended},
      {"limited_echo", &C::limited_echo},
      {"limited_unreachable", &C::limited_unreachable},
      {"dropped_no_buffer", &C::dropped_no_buffer},
      {"dropped_no_route", &C::dropped_no_route},
      {"dropped_no_source", &C::dropped_no_source},
      {"dropped_too_big", &C::dropped_too_big},
      {"dropped_send_queue", &C::dropped_send_queue},
      {"path_mtu_lowered", &C::path_mtu_lowered},
      {"path_mtu_evicted", &C::path_mtu_evicted},
  };
  // Every field is in the table: the totals are two, the rest are those above.
  static_assert(sizeof(InterfaceCounters) ==
                sizeof(std::uint64_t) * (2 + std::size(kNames)) + sizeof(NeighborCounters));
  std::vector<std::string> names;
  for (const auto& [name, member] : kNames)
    if (counters.*member != 0) names.emplace_back(name);
  return names;
}

/// One interface on side A of a link; the test plays everybody else, frame by frame.
class InterfaceTest : public ::testing::Test {
 protected:
  InterfaceTest() { restart(dual_stack_config()); }

  /// A new interface; its announcements have left already, the last of them after three seconds.
  void restart(const InterfaceConfig& config) {
    interface_.emplace(config, link.port(testing::Side::kA), Random{1}, clock.now());
    for (int i = 0; i < 4; ++i) {
      pass(std::chrono::seconds{1});
      sent();
    }
  }

  std::optional<Segment> receive(const std::vector<std::byte>& frame) {
    return interface_->input(link.pool(testing::Side::kA).copy_of(frame), clock.now());
  }
  std::optional<Segment> receive(const testing::PacketBuilder& frame) {
    return receive(frame.bytes());
  }

  /// What the interface has to send, flushed and fetched at the other end.
  std::vector<std::vector<std::byte>> sent() {
    interface_->flush(clock.now());
    link.advance_to(link.now() + std::chrono::seconds{1});
    std::vector<std::vector<std::byte>> frames;
    std::array<port::Packet, 64> burst;
    while (const std::size_t count = link.port(testing::Side::kB).receive(burst)) {
      for (port::Packet& packet : std::span{burst}.first(count)) {
        const auto bytes = std::as_const(packet).bytes();
        frames.emplace_back(bytes.begin(), bytes.end());
        packet.reset();
      }
    }
    return frames;
  }

  /// Makes the peer known and reachable in both families, as if it had asked for us and answered.
  void introduce_peer() {
    using Kind = wire::NeighborMessage::Kind;
    EXPECT_FALSE(receive(testing::arp_request(kPeer, kOwn)));
    EXPECT_FALSE(receive(from_peer6({.kind = Kind::kSolicitation, .target = kOwn6})));
    const wire::MacAddress mac = link.port(testing::Side::kA).capabilities().mac;
    std::vector<std::byte> arp(wire::ArpMessage::kSize);
    wire::ArpMessage{wire::ArpMessage::Operation::kReply, kPeerMac, kPeer, mac, kOwn}.write(
        std::span{arp}.first<wire::ArpMessage::kSize>());
    EXPECT_FALSE(receive(testing::PacketBuilder::raw(0x0806, arp)));
    EXPECT_FALSE(
        receive(from_peer6({.kind = Kind::kAdvertisement, .target = kPeer6, .solicited = true})));
    sent();
  }

  /// A neighbour message from the peer to us, with the peer's link address as option.
  static testing::PacketBuilder from_peer6(wire::NeighborMessage message) {
    message.link_address = kPeerMac;
    std::array<std::byte, wire::NeighborMessage::kSizeMax> bytes{};
    message.write(bytes);
    const auto flags = std::to_integer<std::uint32_t>(bytes[4]) << 24;
    return testing::icmp(kPeer6, kOwn6, static_cast<std::uint8_t>(message.kind))
        .time_to_live(255)
        .icmp_rest(flags)
        .payload({bytes.begin() + 8, bytes.end()});
  }

  void pass(Duration time) {
    clock.advance(time);
    interface_->advance(clock.now());
  }

  ManualClock clock;
  testing::SimLink link{{}, clock.now()};
  std::optional<Interface> interface_;
};

}  // namespace weir::net
