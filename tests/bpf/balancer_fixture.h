#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "l4/wire/address.h"
#include "tests/support/bpf_runner.h"
#include "tests/support/packet_builder.h"

namespace weir::testing {

/// The engine of this executable: host_engine_under_test.cpp or kernel_engine_under_test.cpp.
Result<std::unique_ptr<BpfRunner>> make_runner_under_test(BpfProgram program,
                                                          const BpfSettings& settings);

inline wire::IpAddress v4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d) {
  return wire::IpAddress::v4(a, b, c, d);
}
wire::IpAddress v6(std::string_view text);
inline wire::Endpoint at(const wire::IpAddress& address, std::uint16_t port) {
  return {address, wire::Port{port}};
}
weir_address abi(const wire::IpAddress& address);

// The addresses of the world that tests play in. TEST-NET and documentation prefixes.
inline const wire::IpAddress kClient = v4(203, 0, 113, 7);
inline const wire::IpAddress kClient6 = v6("2001:db8:7::7");
inline const wire::IpAddress kHost = v4(192, 0, 2, 1);  ///< the balancer's own, no VIP
inline const wire::IpAddress kHost6 = v6("2001:db8::1");
inline const wire::IpAddress kVip = v4(198, 51, 100, 1);
inline const wire::IpAddress kVip6 = v6("2001:db8:100::1");
inline const wire::IpAddress kVipL7 = v4(198, 51, 100, 3);
inline const wire::IpAddress kVipL7v6 = v6("2001:db8:100::3");
inline const wire::IpAddress kL7Own = v4(192, 0, 2, 100);
inline const wire::IpAddress kL7Own6 = v6("2001:db8::100");
inline const wire::IpAddress kOuterSource = v4(192, 0, 2, 1);
inline const wire::IpAddress kOuterSource6 = v6("2001:db8::1");
inline const wire::IpAddress kBackend = v4(192, 0, 2, 11);
inline const wire::IpAddress kBackend6 = v6("2001:db8::11");
inline const wire::MacAddress kNextHopMac{{0x02, 0xaa, 0, 0, 0, 0x01}};
inline const wire::MacAddress kOwnMac{{0x02, 0xbb, 0, 0, 0, 0x02}};

/// Services of the standard world: id, and the port by which a test reaches it.
enum VipId : std::uint32_t {
  kVipIpip = 1,  ///< kVip:80/tcp and kVip6:80/tcp → own family, same device
  kVipIpip6 = 2,
  kVipOther = 3,         ///< kVip:81/tcp → other device
  kVipCross = 4,         ///< kVip:53/udp → IPv6 backend
  kVipCross6 = 5,        ///< kVip6:53/udp → IPv4 backend
  kVipL2 = 6,            ///< kVip:82/tcp
  kVipL2v6 = 7,          ///< kVip6:82/tcp, other device
  kVipHandOff = 8,       ///< kVipL7:80/tcp
  kVipHandOff6 = 9,      ///< kVipL7v6:80/tcp
  kVipEmpty = 10,        ///< kVip:90/tcp: a table of empty slots
  kVipNoTable = 11,      ///< kVip:91/tcp: no table at all
  kVipNoHop = 12,        ///< kVip:92/tcp → next hop not resolved
  kVipLost = 13,         ///< kVip:93/tcp → a device that is not listed
  kVipBroken = 14,       ///< kVip:94/tcp → a table shorter than it says
  kVipUnknownMode = 15,  ///< kVip:95/tcp
};

enum BackendId : std::uint32_t {
  kBackendV4 = 1,
  kBackendV6 = 2,
  kBackendOther = 3,
  kBackendL2 = 4,
  kBackendL2Other = 5,
  kBackendNoHop = 6,
  kBackendLost = 7,
  kBackendCross = 8,
  kBackendCross6 = 9,
  kBackendUnknownMode = 10,
};

inline constexpr std::uint32_t kOtherDevice = 77;  ///< a key of weir_devices, led to kAnyDevice
inline constexpr std::uint32_t kUnlistedDevice = 78;
inline constexpr std::uint32_t kMtu = 1500;
inline constexpr std::uint32_t kTableSize = 7;

/// What a VIP needs at least.
weir_vip vip_entry(std::uint32_t id, std::uint8_t mode);

/// A balancer with or without the standard world. Failing to set up fails the test; missing rights
/// skip it.
class BalancerFixture {
 protected:
  void start(const BpfSettings& settings, BpfProgram program = BpfProgram::kBalancer);
  void start_standard_world(std::uint32_t l7_worker_count = 0);
  void start_standard_world(const BpfSettings& settings);

  /// Its number is its id, in all VIPs.
  void add_backend(std::uint32_t id, const weir_backend& backend);
  /// A service with all its facts; address, port and protocol are filled in.
  void add_vip(const wire::Endpoint& endpoint, std::uint8_t protocol, const weir_vip& vip);
  void add_vip(const wire::Endpoint& endpoint, std::uint8_t protocol, std::uint32_t id,
               std::uint8_t mode) {
    add_vip(endpoint, protocol, vip_entry(id, mode));
  }
  /// WEIR_ADDRESS_* of an address, and its bit in the filter.
  void add_address(const wire::IpAddress& address, std::uint32_t flags);
  /// The bit alone; that of mode nat stands behind WEIR_FILTER_WORDS others.
  void add_to_filter(const wire::IpAddress& address, std::uint32_t first_word = 0);
  void publish(std::uint32_t vip_id, std::vector<std::uint32_t> backend_ids,
               std::vector<std::uint32_t> previous = {});
  void check(const Result<void>& result);

  RunResult run(const PacketBuilder& packet) { return run(packet.bytes()); }
  RunResult run(std::span<const std::byte> frame);

  /// Of the flow table's clock; the host engine's alone, because the kernel's cannot be set.
  void set_second(std::uint64_t second) {
    runner().set_ticks((second + 1) << BpfSettings::kSecondShift);
  }

  BpfRunner& runner() { return *runner_; }
  [[nodiscard]] bool is_ready() const { return runner_ != nullptr; }

 private:
  void add_standard_backends();
  void add_standard_vips();

  std::unique_ptr<BpfRunner> runner_;
};

/// A backend by the same device, resolved.
weir_backend backend_at(const wire::IpAddress& address, std::uint32_t vip_id,
                        std::uint32_t ifindex = BpfRunner::kAnyDevice);

/// "tx_ipip" of WEIR_TX_IPIP.
std::string label_of(weir_verdict verdict);
std::uint32_t action_of(weir_verdict verdict);

}  // namespace weir::testing
