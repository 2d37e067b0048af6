#include "tests/bpf/decapsulation_fixture.h"

#include <linux/bpf.h>
#include <netinet/in.h>

#include <algorithm>

namespace weir::testing {
namespace {

constexpr std::uint16_t kSourcePort = 51234;

PacketBuilder in_gue(const wire::IpAddress& source, const wire::IpAddress& destination,
                     const Frame& inner_ip, Gue variant) {
  Frame payload;
  if (variant == Gue::kBaseHeader)
    payload =
        gue_header(std::to_integer<unsigned>(inner_ip[0]) >> 4 == 4 ? IPPROTO_IPIP : IPPROTO_IPV6);
  payload.insert(payload.end(), inner_ip.begin(), inner_ip.end());
  return udp(at(source, kSourcePort), at(destination, kGuePort)).payload(std::move(payload));
}

void append_be16(Frame& frame, std::uint16_t value) {
  frame.push_back(static_cast<std::byte>(value >> 8));
  frame.push_back(static_cast<std::byte>(value & 0xff));
}

}  // namespace

Frame gue_header(std::uint8_t protocol) {
  return {std::byte{0}, std::byte{protocol}, std::byte{0}, std::byte{0}};
}

PacketBuilder in_gue4(const Frame& inner_ip, Gue variant) {
  return in_gue(kOuterSource, kBackend, inner_ip, variant);
}

PacketBuilder in_gue6(const Frame& inner_ip, Gue variant) {
  return in_gue(kOuterSource6, kBackend6, inner_ip, variant);
}

Frame tagged(const Frame& frame, std::vector<std::pair<std::uint16_t, std::uint16_t>> tags) {
  constexpr std::size_t kMacs = 12;
  Frame out{frame.begin(), frame.begin() + kMacs};
  for (const auto& [type, tci] : tags) {
    append_be16(out, type);
    append_be16(out, tci);
  }
  out.insert(out.end(), frame.begin() + kMacs, frame.end());
  return out;
}

Frame with_udp_checksum(Frame frame, std::uint16_t checksum) {
  const bool is_v4 = std::to_integer<unsigned>(frame[kEthernetBytes]) >> 4 == 4;
  const std::size_t at = kEthernetBytes + (is_v4 ? 20 : 40) + 6;
  frame[at] = static_cast<std::byte>(checksum >> 8);
  frame[at + 1] = static_cast<std::byte>(checksum & 0xff);
  return frame;
}

void DecapsulationFixture::start_decapsulation(BpfProgram program, const BpfSettings& settings) {
  start(settings, program);
  if (!is_ready()) return;
  for (const auto& source : {kOuterSource, kOuterSource6})
    check(runner().write("weir_decap_sources", abi(source), std::uint32_t{1}));
  add_vip_prefix({kVip, 32});
  add_vip_prefix({kVip6, 128});
}

void DecapsulationFixture::add_vip_prefix(const wire::Prefix& prefix) {
  constexpr std::uint32_t kMappedBits = 96;
  weir_decap_vip_key key{};
  key.prefix_bits = prefix.length + (prefix.address.is_v4() ? kMappedBits : 0);
  key.address = abi(prefix.address);
  check(runner().write("weir_decap_vips", key, std::uint32_t{1}));
}

void DecapsulationFixture::expect(const Frame& frame, std::string_view counter,
                                  const std::optional<Frame>& inner) {
  const RunResult result = run(frame);
  EXPECT_EQ(result.moved,
            (std::map<std::string, CounterDelta>{{std::string{counter}, {1, frame.size(), 0}}}))
      << describe(result);
  const bool is_dropped = counter.starts_with("drop");
  EXPECT_EQ(result.action, static_cast<std::uint32_t>(is_dropped ? XDP_DROP : XDP_PASS));
  if (inner) {
    EXPECT_EQ(result.output, *inner) << describe(result) << "\nwanted:\n" << hexdump(*inner);
  } else if (!is_dropped) {
    EXPECT_EQ(result.output, frame) << "what is passed is passed untouched";
  }
}

std::string decapsulation_case_name(
    const ::testing::TestParamInfo<std::tuple<BpfProgram, DecapsulationCase>>& info) {
  return std::string{std::get<1>(info.param).name};
}

std::string tunnel_kind_name(
    const ::testing::TestParamInfo<std::tuple<BpfProgram, TunnelKind>>& info) {
  return std::string{std::get<1>(info.param).name};
}

std::vector<TunnelKind> tunnel_kinds() {
  return {
      {"Ipv4InIpv4", true, true, std::nullopt},
      {"Ipv6InIpv6", false, false, std::nullopt},
      {"Ipv4InIpv6", false, true, std::nullopt},
      {"Ipv6InIpv4", true, false, std::nullopt},
      {"Ipv4InGueOverIpv4", true, true, Gue::kDirect},
      {"Ipv6InGueOverIpv6", false, false, Gue::kDirect},
      {"Ipv4InGueOverIpv6", false, true, Gue::kDirect},
      {"Ipv6InGueOverIpv4", true, false, Gue::kDirect},
      {"Ipv4InGueWithAHeaderOverIpv4", true, true, Gue::kBaseHeader},
      {"Ipv6InGueWithAHeaderOverIpv6", false, false, Gue::kBaseHeader},
      {"Ipv4InGueWithAHeaderOverIpv6", false, true, Gue::kBaseHeader},
      {"Ipv6InGueWithAHeaderOverIpv4", true, false, Gue::kBaseHeader},
  };
}

}  // namespace weir::testing
