#pragma once

#include "tests/bpf/nat_fixture.h"
#include "tests/bpf/verdict_case.h"

namespace weir::testing {

/// Sets up the world of a case.
class VerdictWorld : protected NatFixture {
 protected:
  void start_world(World world);

 private:
  using Prefix = std::pair<wire::IpAddress, std::uint32_t>;  ///< bits of 128

  void start_empty(World world);
  void fill(World world);
  void fill_l7();
  void fill_modes();
  void fill_vlans();
  void fill_services();
  void fill_protected();
  void fill_refusing();
  void fill_quic();
  void fill_hashes();
  void fill_nat();

  /// A service whose table names one backend, of the same id.
  void add_service(const wire::Endpoint& endpoint, std::uint8_t protocol, const weir_vip& vip,
                   const weir_backend& backend);
  void add_service(const wire::Endpoint& endpoint, std::uint8_t protocol, const weir_vip& vip);
  /// One that add_range() or add_port() leads to: a prefix of addresses, or a range of ports.
  void add_wide_service(std::uint32_t id, const wire::IpAddress& backend);
  void add_range(std::uint32_t id, std::uint8_t protocol, const wire::IpAddress& address,
                 std::uint16_t first_port, std::uint32_t port_bits);
  void add_port(std::uint32_t id, std::uint8_t protocol, const wire::Endpoint& endpoint);
  void add_prefix(const wire::IpAddress& first, std::uint32_t bits);
  static weir_vip flagged(std::uint32_t id, std::uint32_t flags,
                          std::uint8_t mode = WEIR_MODE_IPIP);
  void publish_list(std::uint32_t id, std::initializer_list<Prefix> denied,
                    std::initializer_list<Prefix> allowed);
  /// One a second of what is limited.
  void add_limited(std::uint32_t id, std::uint8_t protocol, std::uint32_t weir_limits::*limit);
};

// kServices. Ids are backends' too.
enum ServiceId : std::uint32_t {
  kEveryPort = 1,      ///< kVipEveryPort, all TCP
  kPortRange = 2,      ///< kVip:8000–8007/tcp
  kPortInRange = 3,    ///< kVip:8003/tcp, one port of these
  kPortRange6 = 4,     ///< kVip6:5000–5007/udp
  kPrefix = 5,         ///< kPrefixFirst/28, 80/tcp
  kPrefix6 = 6,        ///< kPrefixFirst6/64, 53/udp
  kPrefixRange = 7,    ///< kWidePrefixFirst/28, all UDP
  kAddressInside = 8,  ///< kPrefixInside:80/tcp, one address of kPrefix
  kEveryPort6 = 9,     ///< kVipEveryPort6, all UDP
};
inline const wire::IpAddress kVipEveryPort = v4(198, 51, 100, 20);
inline const wire::IpAddress kVipEveryPort6 = v6("2001:db8:100::20");
inline const wire::IpAddress kPrefixFirst = v4(198, 51, 100, 128);
inline const wire::IpAddress kPrefixLast = v4(198, 51, 100, 143);
inline const wire::IpAddress kPrefixInside = v4(198, 51, 100, 130);
inline const wire::IpAddress kPrefixBeyond = v4(198, 51, 100, 144);  ///< its filter bit is set
inline const wire::IpAddress kPrefixFirst6 = v6("2001:db8:200::");
inline const wire::IpAddress kPrefixMiddle6 = v6("2001:db8:200::abcd:1");
inline const wire::IpAddress kPrefixBeyond6 = v6("2001:db8:200:1::1");  ///< its filter bit is set
inline const wire::IpAddress kWidePrefixFirst = v4(198, 51, 100, 160);
inline const wire::IpAddress kWidePrefixMiddle = v4(198, 51, 100, 165);

// kProtected. A service's port is its id and 80; UDP where it says so.
enum ProtectedId : std::uint32_t {
  kBlockList = 1,         ///< the node's block list
  kDenyList = 2,          ///< denies kDeniedPrefix but for kClient
  kAllowList = 3,         ///< denies all but kClient
  kBothLists = 4,         ///< the block list, and one that allows what that blocks
  kListMissing = 5,       ///< says that it has a list, and has none
  kSourcePackets = 6,     ///< one packet a second and source
  kPackets = 7,           ///< UDP, one packet a second
  kSourceFlows = 8,       ///< one new flow a second and source
  kFlows = 9,             ///< one new flow a second
  kSourceFlowsUdp = 10,   ///< UDP
  kLimitWithoutMap = 11,  ///< one packet a second and source, and no map of sources
  kFlowsUdp = 12,         ///< UDP
  kProtectedL2 = 13,      ///< the block list, mode l2
  kProtectedGue = 14,     ///< the block list, mode gue
};
inline const wire::IpAddress kBlocked = v4(203, 0, 113, 66);
inline const wire::IpAddress kBlocked6 = v6("2001:db8:bad::1");  ///< one of a blocked prefix
inline const wire::IpAddress kDenied = v4(203, 0, 113, 99);
inline const wire::IpAddress kDenied6 = v6("2001:db8:7::99");
inline const wire::IpAddress kStranger = v4(192, 0, 2, 200);
inline const wire::IpAddress kStranger6 = v6("2001:db8:ffff::1");
inline wire::Endpoint protected_port(std::uint32_t id, bool is_v4 = true) {
  return at(is_v4 ? kVip : kVip6, static_cast<std::uint16_t>(80 + id));
}

// kRefusing: kVip and kVip6 answer for unknown ports, kVipL7 and kVipL7v6 do not.
enum RefusingId : std::uint32_t {
  kRefusingTcp = 1,   ///< kVip:80/tcp, in order
  kRefusingNone = 2,  ///< kVip:90/tcp, no backend, answered
  kRefusingNone6 = 3,
  kRefusingNoneUdp = 4,   ///< kVip:91/udp
  kRefusingNoneUdp6 = 5,  ///< kVip6:91/udp
  kRefusingQuiet = 6,     ///< kVip:92/tcp, no backend, not answered
};

// kQuic: kVip:443/udp and kVip6:443/udp, server ids of four bytes.
enum QuicId : std::uint32_t {
  kQuicVip = 1,
  kQuicVip6 = 2,
  kQuicByFlow = 3,     ///< whom the table names
  kQuicNamed = 4,      ///< whom the server id 0a0b0c0d names
  kQuicRetired = 5,    ///< 0a0b0c0e, not in use
  kQuicDraining = 6,   ///< 0a0b0c0f
  kQuicOfAnother = 7,  ///< 0a0b0c10, given out for another VIP
  kQuicByFlow6 = 8,
  kQuicNamed6 = 9,
};
inline constexpr std::uint8_t kQuicRotation = 2;

// kHashes: each VIP has kHashSlots slots, and each slot a backend of its own. Both families, on
// ports that are the id and 80.
enum HashId : std::uint32_t {
  kHashFiveTuple = 1,
  kHashSourcePort = 2,
  kHashSource = 3,
  kHashAffinity = 4,  ///< by five-tuple, and then by client
};
inline constexpr std::uint32_t kHashSlots = 3;
inline wire::Endpoint hash_port(HashId id, bool is_v4 = true) {
  return at(is_v4 ? kVip : kVip6, static_cast<std::uint16_t>(80 + id));
}
/// Whom the table of a VIP of kHashes names for a TCP flow.
std::uint32_t hashed_backend(HashId vip, const wire::Endpoint& from, const wire::Endpoint& to);

// kModes: mode, family of the client, family of the backend where it is another, other device.
enum ModeId : std::uint32_t {
  kIpip4 = 1,
  kIpip6 = 2,
  kIpip4Over6 = 3,
  kIpip6Over4 = 4,
  kGue4 = 5,
  kGue6 = 6,
  kGue4Over6 = 7,
  kGue6Over4 = 8,
  kL2v4 = 9,
  kL2v6 = 10,
  kIpip4Other = 11,
  kIpip6Other = 12,
  kGue4Other = 13,
  kGue6Other = 14,
  kL2v4Other = 15,
};
inline wire::Endpoint mode_port(ModeId id, bool is_v4) {
  return at(is_v4 ? kVip : kVip6, static_cast<std::uint16_t>(80 + id));
}

// kVlans: ports are the id and 80, of kVip.
enum VlanId : std::uint32_t {
  kVlanIpip = 1,  ///< backends behind VLAN kBackendVlan
  kVlanGue = 2,
  kVlanL2 = 3,
  kPlainIpip = 4,  ///< backends without tags
  kPlainGue = 5,
  kPlainL2 = 6,
  kVlanOther = 7,  ///< l2, behind kBackendVlan of another device
  kKeepOther = 8,  ///< l2, another device, which the client's tags mean nothing to
};
inline constexpr std::uint16_t kBackendVlan = 7;
inline wire::Endpoint vlan_port(VlanId id) { return at(kVip, static_cast<std::uint16_t>(80 + id)); }

// kNat, beside nat_flows(): full NAT of TCP, kVip and the ports 90 + id.
enum NatId : std::uint32_t {
  kNatOther = 9,         ///< a backend behind kOtherDevice
  kNatUnlisted = 10,     ///< one behind a device that is not listed
  kNatWrongFamily = 11,  ///< an IPv6 backend
  kNatNoHop = 12,        ///< one that is not resolved
  kNatEmpty = 13,        ///< no table
};
inline wire::Endpoint nat_port(std::uint32_t id) {
  return at(kVip, static_cast<std::uint16_t>(90 + id));
}

// kL7, beside the standard world's: ports of kVipL7.
enum L7Id : std::uint32_t {
  kL7Blocked = 14,  ///< 81/tcp, the block list
  kL7Limited = 15,  ///< 82/tcp, one new flow a second
};

}  // namespace weir::testing
