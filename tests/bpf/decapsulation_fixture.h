#pragma once

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "tests/bpf/balancer_fixture.h"

namespace weir::testing {

using Frame = std::vector<std::byte>;

inline constexpr std::uint16_t kGuePort = WEIR_DECAP_GUE_PORT;
inline constexpr std::size_t kEthernetBytes = 14;

/// The outer DS field's low bits, and the inner one's (RFC 3168, section 5).
enum Ecn : std::uint8_t { kNotEct = 0, kEct1 = 1, kEct0 = 2, kCe = 3 };

/// GUE: variant 1, or variant 0 with the four bytes of its base header.
enum class Gue : std::uint8_t { kDirect, kBaseHeader };

/// The base header of variant 0, for an inner packet of this protocol.
Frame gue_header(std::uint8_t protocol);

/// `inner` in a GUE datagram from kOuterSource to kBackend, or the same in IPv6.
PacketBuilder in_gue4(const Frame& inner_ip, Gue variant = Gue::kDirect);
PacketBuilder in_gue6(const Frame& inner_ip, Gue variant = Gue::kDirect);

/// The frame with 802.1Q or 802.1ad tags before its type: TPID and TCI of each, outermost first.
Frame tagged(const Frame& frame, std::vector<std::pair<std::uint16_t, std::uint16_t>> tags);

/// The frame with another UDP checksum; its header stands right behind an IP header of no options.
Frame with_udp_checksum(Frame frame, std::uint16_t checksum);

/// One of the two programs, with the standard world's balancer as source and VIPs.
class DecapsulationFixture : protected BalancerFixture {
 protected:
  void start_decapsulation(BpfProgram program, const BpfSettings& settings = {});
  void add_vip_prefix(const wire::Prefix& prefix);

  /// Expects the one counter, its action, and the output: `inner`, or the same frame if it passes.
  void expect(const Frame& frame, std::string_view counter,
              const std::optional<Frame>& inner = std::nullopt);
};

struct DecapsulationCase {
  std::string_view name;
  Frame frame;
  std::string_view counter;
  std::optional<Frame> inner = std::nullopt;  ///< what the host must get
};

/// Every kind of ending; what both programs must do alike.
std::vector<DecapsulationCase> decapsulation_cases();

class Decapsulation : public ::testing::TestWithParam<std::tuple<BpfProgram, DecapsulationCase>>,
                      protected DecapsulationFixture {};

std::string decapsulation_case_name(
    const ::testing::TestParamInfo<std::tuple<BpfProgram, DecapsulationCase>>& info);

/// A tunnel of random packets: families inside and outside, and how they are put together.
struct TunnelKind {
  std::string_view name;
  bool outer_is_v4;
  bool inner_is_v4;
  std::optional<Gue> gue;
};
std::vector<TunnelKind> tunnel_kinds();

class RandomTunnels : public ::testing::TestWithParam<std::tuple<BpfProgram, TunnelKind>>,
                      protected DecapsulationFixture {};

std::string tunnel_kind_name(
    const ::testing::TestParamInfo<std::tuple<BpfProgram, TunnelKind>>& info);

}  // namespace weir::testing
