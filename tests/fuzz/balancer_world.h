#pragma once

#include <cstdint>
#include <vector>

#include "bpf/abi.h"
#include "l4/wire/address.h"
#include "l4/wire/headers.h"
#include "tests/support/bpf_runner.h"

namespace weir::testing {

/// A node with everything that the balancer has: every mode in both families, prefixes, ranges of
/// ports, lists, rates, QUIC, affinity, refusal, echo, NAT with and without the source rewritten,
/// and L7 workers. Each kind of service has one port, the same at either family's VIP.
struct WorldService {
  wire::Endpoint endpoint;
  wire::IpProtocol protocol = wire::IpProtocol::kTcp;
  weir_vip vip{};                         ///< id, mode, flags and so on
  std::vector<wire::IpAddress> backends;  ///< none: a table of empty slots
  std::uint16_t backend_port = 0;         ///< nat; 0: the packet's own
  std::uint32_t egress_ifindex = 1;
  std::uint16_t vlan = WEIR_VLAN_KEEP;
  std::uint32_t first_backend_id = 0;
  bool has_next_hop = true;
  bool is_range = false;  ///< of ports 4096 to 8191, not of one
};

/// Variations of the node that no packet could make.
struct WorldOptions {
  bool has_prefixes = false;  ///< then no address is told apart by the filter
  bool is_stateless = false;
};

struct World {
  WorldOptions options;
  std::vector<WorldService> services;
  std::vector<wire::IpAddress> vips;
  std::vector<wire::Prefix> vip_prefixes;

  [[nodiscard]] bool is_vip(const wire::IpAddress& address) const;
  /// The service that takes packets to there; NULL: none.
  [[nodiscard]] const WorldService* service_at(const wire::Endpoint& destination,
                                               std::uint8_t protocol) const;
};

inline constexpr std::uint32_t kWorldDevice = 1;        ///< frames come in here
inline constexpr std::uint32_t kWorldOtherDevice = 77;  ///< or here; backends are behind either
inline constexpr std::uint32_t kWorldMtu = 1500;

inline const wire::MacAddress kWorldNextHop{{0x02, 0xaa, 0, 0, 0, 0x01}};
inline const wire::MacAddress kWorldOwnMac{{0x02, 0xbb, 0, 0, 0, 0x02}};

inline wire::IpAddress world_address(const char* text) { return *wire::IpAddress::parse(text); }

/// One of a family; whichever is asked for.
struct AddressPair {
  wire::IpAddress v4;
  wire::IpAddress v6;
  [[nodiscard]] const wire::IpAddress& of(bool is_v4) const { return is_v4 ? v4 : v6; }
};
AddressPair address_pair(const char* v4, const char* v6);

inline const AddressPair kWorldVip = address_pair("198.51.100.1", "2001:db8:100::1");
/// Has one service, answers no echo and refuses nothing.
inline const AddressPair kWorldSilentVip = address_pair("198.51.100.2", "2001:db8:100::2");
inline const AddressPair kWorldL7Vip = address_pair("198.51.100.3", "2001:db8:100::3");
inline const AddressPair kWorldPrefix = address_pair("198.51.100.128", "2001:db8:100:1::");
inline const AddressPair kWorldL7Own = address_pair("192.0.2.100", "2001:db8::100");
/// The node's own address, which tunnels and full NAT send from.
inline const AddressPair kWorldNode = address_pair("192.0.2.1", "2001:db8::1");
inline const AddressPair kWorldBlocked = address_pair("203.0.113.66", "2001:db8:7::66");
inline const AddressPair kWorldDenied = address_pair("203.0.113.99", "2001:db8:7::99");
inline constexpr std::uint16_t kWorldRangePort = 5000;  ///< of the range
inline constexpr std::uint8_t kWorldQuicIdBytes = 4;

World make_world(const WorldOptions& options);
BpfSettings settings_of(const World& world);
/// Writes it all. What fails is a fault of the test's.
void fill(MapWriter& maps, const World& world);

}  // namespace weir::testing
