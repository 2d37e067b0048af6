#include "l7/net/decap.h"

#include <gtest/gtest.h>

#include <ostream>

#include "tests/support/packet_builder.h"

namespace weir::net {
namespace {

using testing::PacketBuilder;
using testing::tcp;
using testing::udp;
using wire::Endpoint;
using wire::Family;
using wire::IpAddress;
using wire::Port;

const Endpoint kClient{IpAddress::v4(198, 51, 100, 7), Port{4000}};
const Endpoint kVip{IpAddress::v4(203, 0, 113, 10), Port{80}};
const Endpoint kBalancer{IpAddress::v4(192, 0, 2, 1), Port{51234}};
const Endpoint kOwn{IpAddress::v4(192, 0, 2, 10), Port{6080}};
const Endpoint kBalancer6{*IpAddress::parse("2001:db8:1::1"), Port{51234}};
const Endpoint kOwn6{*IpAddress::parse("2001:db8:1::10"), Port{6080}};

/// A table of one, so that a failure names the case.
struct Case {
  std::string_view name;
  PacketBuilder outer;
  std::optional<TunnelKind> kind;
  TunnelParse parse;
  friend void PrintTo(const Case& shown, std::ostream* out) { *out << shown.name; }
};

class TunnelPacket : public ::testing::TestWithParam<Case> {};

TEST_P(TunnelPacket, IsReadAsExpected) {
  // From the frame, for the overwritten bytes are only there.
  const std::vector<std::byte> frame = GetParam().outer.bytes();
  const auto bytes = std::span{frame}.subspan(sizeof(wire::EthernetHeader));
  const IpParse parsed = GetParam().outer.is_v4() ? parse_ipv4(bytes) : parse_ipv6(bytes);
  const auto* outer = std::get_if<IpDatagram>(&parsed);
  ASSERT_NE(outer, nullptr);
  const std::optional<TunnelKind> kind = tunnel_kind(*outer, bytes);
  ASSERT_EQ(kind, GetParam().kind);
  if (!kind) return;
  const TunnelParse result = parse_tunnel(*kind, *outer, bytes);
  ASSERT_EQ(result.index(), GetParam().parse.index());
  if (const auto* fault = std::get_if<TunnelFault>(&result)) {
    EXPECT_EQ(*fault, std::get<TunnelFault>(GetParam().parse));
    return;
  }
  const auto& tunnel = std::get<Tunnel>(result);
  const auto& expected = std::get<Tunnel>(GetParam().parse);
  EXPECT_EQ(tunnel.kind, *kind);
  EXPECT_EQ(tunnel.family, expected.family);
  EXPECT_EQ(tunnel.inner_offset, expected.inner_offset);
  EXPECT_EQ(tunnel.inner_length, expected.inner_length);
}

PacketBuilder inner() { return tcp(kClient, kVip); }  // 40 bytes

std::vector<std::byte> joined(std::initializer_list<std::uint8_t> front,
                              const std::vector<std::byte>& rest = {}) {
  std::vector<std::byte> bytes;
  for (const std::uint8_t octet : front)
    bytes.push_back(std::byte{octet});
  bytes.insert(bytes.end(), rest.begin(), rest.end());
  return bytes;
}

PacketBuilder gue(const std::vector<std::byte>& content) {
  return udp(kBalancer, kOwn).payload(content);
}
PacketBuilder gue6(const std::vector<std::byte>& content) {
  return udp(kBalancer6, kOwn6).payload(content);
}

Tunnel found(std::size_t offset, std::size_t length = 40, Family family = Family::kIpv4) {
  return {.family = family, .inner_offset = offset, .inner_length = length};
}

constexpr std::optional<TunnelKind> kNone = std::nullopt;
constexpr std::size_t kUdpCheck = 14 + 20 + 6;   // in a frame over IPv4
constexpr std::size_t kUdpCheck6 = 14 + 40 + 6;  // and over IPv6

INSTANTIATE_TEST_SUITE_P(
    , TunnelPacket,
    ::testing::Values(
        Case{"TcpIsNoTunnel", inner(), kNone, {}},
        Case{"UdpToAnotherPortIsNoTunnel",
             udp(kBalancer, {kOwn.address, Port{6081}}).payload(inner().ip_bytes()),
             kNone,
             {}},
        Case{"UdpFromTheGuePortIsNoTunnel",
             udp({kBalancer.address, Port{6080}}, {kOwn.address, Port{53}}),
             kNone,
             {}},
        Case{"AUdpHeaderThatIsCutIsNoTunnel",
             testing::ip_packet(kBalancer.address, kOwn.address, 17).payload("1234567"),
             kNone,
             {}},
        Case{"Ipv4InIpv4", inner().inside(kBalancer.address, kOwn.address), TunnelKind::kIpip,
             found(20)},
        Case{"Ipv4BehindOptions", inner().inside(kBalancer.address, kOwn.address).ip_options(2),
             TunnelKind::kIpip, found(28)},
        Case{"Ipv4InIpv6", inner().inside(kBalancer6.address, kOwn6.address), TunnelKind::kIpip,
             found(40)},
        Case{"Ipv6InIpv4", tcp(kBalancer6, kOwn6).inside(kBalancer.address, kOwn.address),
             TunnelKind::kIpip, found(20, 60, Family::kIpv6)},
        Case{"Ipv6InIpv6", tcp(kBalancer6, kOwn6).inside(kBalancer6.address, kOwn6.address),
             TunnelKind::kIpip, found(40, 60, Family::kIpv6)},
        Case{"NothingInIpv4", testing::ip_packet(kBalancer.address, kOwn.address, 4),
             TunnelKind::kIpip, found(20, 0)},
        Case{"GueOfIpv4", gue(inner().ip_bytes()), TunnelKind::kGue, found(28)},
        Case{"GueOfIpv6", gue(tcp(kBalancer6, kOwn6).ip_bytes()), TunnelKind::kGue,
             found(28, 60, Family::kIpv6)},
        Case{"GueOverIpv6", gue6(inner().ip_bytes()), TunnelKind::kGue, found(48)},
        Case{"GueWithItsBaseHeaderOfIpv4", gue(joined({0, 4, 0, 0}, inner().ip_bytes())),
             TunnelKind::kGue, found(32)},
        Case{"GueWithItsBaseHeaderOfIpv6",
             gue6(joined({0, 41, 0, 0}, tcp(kBalancer6, kOwn6).ip_bytes())), TunnelKind::kGue,
             found(52, 60, Family::kIpv6)},
        Case{"GueThatEndsBeforeItsDatagram",
             gue(joined({0x45, 1, 2})).udp_length(10).octet(kUdpCheck, 0).octet(kUdpCheck + 1, 0),
             TunnelKind::kGue, found(28, 2)},
        Case{"GueOfNothing", gue({}), TunnelKind::kGue, TunnelFault::kMalformed},
        Case{"GueShorterThanItsLength", gue(inner().ip_bytes()).udp_length(49), TunnelKind::kGue,
             TunnelFault::kMalformed},
        Case{"GueWithALengthBelowItsHeader", gue(inner().ip_bytes()).udp_length(7),
             TunnelKind::kGue, TunnelFault::kMalformed},
        Case{"GueOfVersionFive", gue(joined({0x55}, inner().ip_bytes())), TunnelKind::kGue,
             TunnelFault::kMalformed},
        Case{"GueOfVersionSeven", gue(joined({0x75}, inner().ip_bytes())), TunnelKind::kGue,
             TunnelFault::kMalformed},
        Case{"GueOfVariantTwo", gue(joined({0x80, 4, 0, 0}, inner().ip_bytes())), TunnelKind::kGue,
             TunnelFault::kMalformed},
        Case{"AGueControlMessage", gue(joined({0x20, 4, 0, 0}, inner().ip_bytes())),
             TunnelKind::kGue, TunnelFault::kMalformed},
        Case{"GueWithExtensions", gue(joined({0x01, 4, 0x80, 0}, inner().ip_bytes())),
             TunnelKind::kGue, TunnelFault::kMalformed},
        Case{"GueWithFlags", gue(joined({0, 4, 0, 1}, inner().ip_bytes())), TunnelKind::kGue,
             TunnelFault::kMalformed},
        Case{"GueOfTcp", gue(joined({0, 6, 0, 0}, inner().ip_bytes())), TunnelKind::kGue,
             TunnelFault::kMalformed},
        Case{"GueWithHalfABaseHeader", gue(joined({0, 4, 0})), TunnelKind::kGue,
             TunnelFault::kMalformed},
        Case{"GueWithoutAChecksumOverIpv4",
             gue(inner().ip_bytes()).octet(kUdpCheck, 0).octet(kUdpCheck + 1, 0), TunnelKind::kGue,
             found(28)},
        Case{"GueWithoutAChecksumOverIpv6",
             gue6(inner().ip_bytes()).octet(kUdpCheck6, 0).octet(kUdpCheck6 + 1, 0),
             TunnelKind::kGue, TunnelFault::kChecksum},
        Case{"GueWithAWrongChecksum", gue(inner().ip_bytes()).octet(kUdpCheck, 0x55),
             TunnelKind::kGue, TunnelFault::kChecksum}),
    [](const auto& tested) { return std::string{tested.param.name}; });

TEST(DecapsulatedEcn, IsTheTableOfRfc6040) {
  constexpr auto kNot = Ecn::kNotCapable;
  constexpr auto kEct0 = Ecn::kCapable0;
  constexpr auto kEct1 = Ecn::kCapable1;
  constexpr auto kCe = Ecn::kCongested;
  // Figure 4, row by row, with the columns in its order.
  constexpr std::array kOuter{kNot, kEct0, kEct1, kCe};
  struct {
    Ecn inner;
    std::array<std::optional<Ecn>, 4> out;
  } const rows[] = {{kNot, {kNot, kNot, kNot, std::nullopt}},
                    {kEct0, {kEct0, kEct0, kEct1, kCe}},
                    {kEct1, {kEct1, kEct1, kEct1, kCe}},
                    {kCe, {kCe, kCe, kCe, kCe}}};
  for (const auto& row : rows)
    for (std::size_t i = 0; i < kOuter.size(); ++i)
      EXPECT_EQ(decapsulated_ecn(kOuter[i], row.inner), row.out[i])
          << "inner " << static_cast<int>(row.inner) << ", outer " << static_cast<int>(kOuter[i]);
}

TEST(TunnelOverhead, IsThatOfGueWithItsBaseHeader) {
  EXPECT_EQ(tunnel_overhead(Family::kIpv4), 32U);
  EXPECT_EQ(tunnel_overhead(Family::kIpv6), 52U);
}

}  // namespace
}  // namespace weir::net
