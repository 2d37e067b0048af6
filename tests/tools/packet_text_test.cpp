#include "tools/weir/packet_text.h"

#include <gtest/gtest.h>

#include "tests/support/packet_builder.h"

namespace weir::cli {
namespace {

using testing::PacketBuilder;
using wire::TcpHeader;

wire::IpAddress address(std::string_view text) { return *wire::IpAddress::parse(text); }
wire::Endpoint at(std::string_view text) { return *wire::Endpoint::parse(text); }

PacketBuilder a_syn() { return testing::tcp(at("192.0.2.7:4711"), at("203.0.113.80:80")).syn(); }

struct Case {
  std::string_view name;
  PacketBuilder packet;
  std::string_view text;
};

class PacketText : public ::testing::TestWithParam<Case> {};

TEST_P(PacketText, Says) { EXPECT_EQ(packet_text(GetParam().packet.bytes()), GetParam().text); }

INSTANTIATE_TEST_SUITE_P(
    , PacketText,
    ::testing::Values(
        Case{"ASyn", a_syn(), "192.0.2.7:4711 > 203.0.113.80:80 TCP [S] length 0"},
        Case{"FlagsInTcpdumpsLetters",
             a_syn().flags(TcpHeader::kFin | TcpHeader::kPsh | TcpHeader::kAck).payload("hello"),
             "192.0.2.7:4711 > 203.0.113.80:80 TCP [FP.] length 5"},
        Case{"Ipv6InBrackets", testing::tcp(at("[2001:db8::7]:4711"), at("[2001:db8::80]:80")),
             "[2001:db8::7]:4711 > [2001:db8::80]:80 TCP [.] length 0"},
        Case{"PaddingIsNoPayload", a_syn().padding(6),
             "192.0.2.7:4711 > 203.0.113.80:80 TCP [S] length 0"},
        Case{"UdpWithItsPayload",
             testing::udp(at("192.0.2.7:4711"), at("203.0.113.53:53")).payload("query"),
             "192.0.2.7:4711 > 203.0.113.53:53 UDP length 5"},
        Case{"WhatIsInATunnel", a_syn().inside(address("10.0.0.1"), address("10.0.0.11")),
             "10.0.0.1 > 10.0.0.11 IPIP | 192.0.2.7:4711 > 203.0.113.80:80 TCP [S] length 0"},
        Case{"WhatIsInAnotherFamilysTunnel",
             a_syn().inside(address("2001:db8::1"), address("2001:db8::11")),
             "2001:db8::1 > 2001:db8::11 IPIP | 192.0.2.7:4711 > 203.0.113.80:80 TCP [S] length 0"},
        Case{"WhatIsInGue",
             testing::udp(at("10.0.0.1:50000"), at("10.0.0.11:6080")).payload(a_syn().ip_bytes()),
             "10.0.0.1:50000 > 10.0.0.11:6080 GUE | 192.0.2.7:4711 > 203.0.113.80:80 TCP [S] "
             "length 0"},
        Case{"AnEchoRequest", testing::echo_request(address("192.0.2.7"), address("203.0.113.80")),
             "192.0.2.7 > 203.0.113.80 ICMP echo request length 12"},
        Case{"AnErrorWithWhatItIsAbout",
             testing::icmp(address("192.0.2.9"), address("192.0.2.7"), 3, 4)
                 .icmp_rest(1400)
                 .payload(a_syn().ip_bytes()),
             "192.0.2.9 > 192.0.2.7 ICMP fragmentation needed mtu 1400 about 192.0.2.7:4711 > "
             "203.0.113.80:80 TCP [S] length 0"},
        Case{"AFirstFragment", a_syn().more_fragments(),
             "192.0.2.7:4711 > 203.0.113.80:80 TCP [S] length 0, first fragment"},
        Case{"ALaterFragment", a_syn().payload("twenty bytes of text").fragment_offset(185),
             "192.0.2.7 > 203.0.113.80 protocol 6 fragment at 1480 length 20"},
        Case{"ExtensionHeaders",
             testing::tcp(at("[2001:db8::7]:1"), at("[2001:db8::80]:80")).extension(60, 1),
             "[2001:db8::7]:1 > [2001:db8::80]:80 TCP [.] length 0"},
        Case{"AFrameThatWasCut", a_syn().truncate_to(40), "192.0.2.7 > 203.0.113.80 TCP …"},
        Case{"AnUnknownType", PacketBuilder::raw(0x88cc, {}),
             "02:00:00:00:00:01 > 02:00:00:00:00:02 type 0x88cc"}),
    [](const auto& test) { return std::string{test.param.name}; });

TEST(AnyPacketText, SurvivesEveryCutAndEveryFlippedByte) {
  const auto frame = testing::icmp(address("192.0.2.9"), address("192.0.2.7"), 3, 4)
                         .payload(a_syn().ip_bytes())
                         .inside(address("2001:db8::1"), address("2001:db8::11"))
                         .bytes();
  for (std::size_t size = 0; size <= frame.size(); ++size)
    EXPECT_FALSE(packet_text(std::span{frame}.first(size)).empty());
  for (std::size_t i = 0; i < frame.size(); ++i) {
    for (int value = 0; value < 256; ++value) {
      auto broken = frame;
      broken[i] = static_cast<std::byte>(value);
      EXPECT_FALSE(packet_text(broken).empty());
    }
  }
}

TEST(BytesOfHex, ReadsDigitsWithAndWithoutBlanks) {
  const std::vector<std::byte> want{std::byte{0x0a}, std::byte{0xff}};
  for (const std::string_view text : {"0aff", "0a ff", "0A:FF\n", " 0a\tff "})
    EXPECT_EQ(bytes_of_hex(text), want) << text;
  EXPECT_EQ(bytes_of_hex(""), std::vector<std::byte>{});
  for (const std::string_view text : {"0", "0af", "0x0a", "0 a", "xy", "0a,ff"})
    EXPECT_FALSE(bytes_of_hex(text)) << text;
}

}  // namespace
}  // namespace weir::cli
