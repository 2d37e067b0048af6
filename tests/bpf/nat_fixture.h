#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "bpf/hash.h"
#include "tests/bpf/balancer_fixture.h"

namespace weir::testing {

using Frame = std::vector<std::byte>;

/// A flow of the NAT world, as either side sees it.
struct NatFlow {
  std::string name;
  wire::IpProtocol protocol;
  std::uint32_t id;  ///< of the VIP, and of its only backend
  wire::Endpoint client;
  wire::Endpoint vip;
  wire::Endpoint source;  ///< what the backend sees as the client
  wire::Endpoint backend;
};

/// Endpoint ports: full NAT has kVip:80 and kVip6:80 over TCP (backends' port is another), :53 over
/// UDP; without SNAT, :81 over TCP and :54 over UDP.
std::vector<NatFlow> nat_flows();
inline const NatFlow kFullNat = nat_flows()[0];

/// What both versions of a packet have in common.
using Shape = std::function<void(PacketBuilder&)>;

inline const Shape kSyn = [](PacketBuilder& packet) { packet.payload("").syn(); };
inline const Shape kSynAck = [](PacketBuilder& packet) { packet.payload("").syn_ack(); };
inline const Shape kFin = [](PacketBuilder& packet) { packet.payload("").fin_ack(); };
inline const Shape kRst = [](PacketBuilder& packet) { packet.payload("").rst(); };

/// The same from another port of the client's.
NatFlow flow_of_port(std::uint16_t port, const NatFlow& flow = kFullNat);

/// Whatever came in by these MACs leaves by them exchanged, if it is a reply.
inline const wire::MacAddress kPeerMac{{0x02, 0, 0, 0, 0, 0x01}};
inline const wire::MacAddress kBalancerMac{{0x02, 0, 0, 0, 0, 0x02}};

/// The packet of a flow from one end to the other. It has what the shape gives it.
PacketBuilder nat_packet(const NatFlow& flow, const wire::Endpoint& from, const wire::Endpoint& to,
                         const Shape& shape = {});

/// One hop further, on its way to a backend and to a client.
PacketBuilder to_backend(PacketBuilder packet, std::uint8_t hops = 64);
PacketBuilder to_client(PacketBuilder packet, std::uint8_t hops = 64);

class NatFixture : protected BalancerFixture {
 protected:
  static constexpr std::uint32_t kRecords = 64;
  static constexpr std::uint16_t kPortFirst = 30000;
  static constexpr std::uint16_t kPortLast = 49999;

  void start_nat_world(std::uint32_t records = kRecords, std::uint16_t port_first = kPortFirst,
                       std::uint16_t port_last = kPortLast);
  void add_nat(const NatFlow& flow, std::uint32_t vip_flags);
  /// As a backend of mode nat, or one of its other addresses.
  void translate(const wire::IpAddress& address) { add_to_filter(address, WEIR_FILTER_WORDS); }

  /// A packet of the client's; what comes out is the same to the backend.
  void expect_forward(const NatFlow& flow, const Shape& shape = {}, std::uint8_t hops = 64);
  void expect_reply(const NatFlow& flow, const Shape& shape = {}, std::uint8_t hops = 64);

  /// A whole handshake.
  void establish(const NatFlow& flow);
  /// Whether a new flow finds a record, which it then has.
  bool has_room_for(const NatFlow& flow);

  std::uint64_t events(weir_nat_event event);
  std::uint32_t entry_count(const NatFlow& flow);
  std::vector<weir_nat_flow> records_in_use();
};

/// The key by which the packets of one end of a flow arrive.
weir_flow_key flow_key(const wire::Endpoint& from, const wire::Endpoint& to,
                       wire::IpProtocol protocol);

}  // namespace weir::testing
