#include "l4/wire/neighbor_messages.h"

#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <ostream>
#include <string_view>
#include <vector>

namespace weir::wire {
namespace {

const MacAddress kMac{{0x02, 0x11, 0x22, 0x33, 0x44, 0x55}};
const IpAddress kTarget6 = *IpAddress::parse("2001:db8::12:3456");

std::vector<std::byte> arp_bytes() {
  std::vector<std::byte> bytes(ArpMessage::kSize);
  ArpMessage{ArpMessage::Operation::kReply, kMac, IpAddress::v4(192, 0, 2, 1), MacAddress{},
             IpAddress::v4(192, 0, 2, 2)}
      .write(std::span{bytes}.first<ArpMessage::kSize>());
  return bytes;
}

std::vector<std::byte> advertisement_bytes() {
  std::vector<std::byte> bytes(NeighborMessage::kSizeMax);
  NeighborMessage{.kind = NeighborMessage::Kind::kAdvertisement,
                  .target = kTarget6,
                  .link_address = kMac,
                  .solicited = true}
      .write(std::span{bytes}.first<NeighborMessage::kSizeMax>());
  return bytes;
}

TEST(ArpMessageTest, LiesOnTheWireAsRfc826Says) {
  const std::array<std::uint8_t, ArpMessage::kSize> expected = {
      0,   1, 8, 0, 6, 4, 0, 2, 0x02, 0x11, 0x22, 0x33, 0x44, 0x55,
      192, 0, 2, 1, 0, 0, 0, 0, 0,    0,    192,  0,    2,    2};
  const auto bytes = std::as_bytes(std::span{expected});
  EXPECT_EQ(arp_bytes(), (std::vector<std::byte>{bytes.begin(), bytes.end()}));
}

TEST(ArpMessageTest, ComesBackAsItWasWritten) {
  const auto parsed = ArpMessage::parse(arp_bytes());
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->operation, ArpMessage::Operation::kReply);
  EXPECT_EQ(parsed->sender_mac, kMac);
  EXPECT_EQ(parsed->sender.text(), "192.0.2.1");
  EXPECT_EQ(parsed->target.text(), "192.0.2.2");
}

TEST(NeighborMessageTest, ComesBackAsItWasWritten) {
  const auto parsed = NeighborMessage::parse(advertisement_bytes());
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->kind, NeighborMessage::Kind::kAdvertisement);
  EXPECT_EQ(parsed->target, kTarget6);
  EXPECT_EQ(parsed->link_address, kMac);
  EXPECT_TRUE(parsed->solicited);
  EXPECT_FALSE(parsed->overrides);
  EXPECT_FALSE(parsed->from_router);
}

TEST(NeighborMessageTest, AMessageWithoutOptionHasNoLinkAddress) {
  std::vector<std::byte> bytes = advertisement_bytes();
  bytes.resize(24);
  const auto parsed = NeighborMessage::parse(bytes);
  ASSERT_TRUE(parsed);
  EXPECT_FALSE(parsed->link_address);
}

TEST(NeighborMessageTest, AnUnknownOptionIsSkipped) {
  std::vector<std::byte> bytes = advertisement_bytes();
  std::vector<std::byte> nonce(8, std::byte{0});
  nonce[0] = std::byte{14};  // RFC 3971
  nonce[1] = std::byte{1};
  bytes.insert(bytes.begin() + 24, nonce.begin(), nonce.end());
  EXPECT_EQ(NeighborMessage::parse(bytes)->link_address, kMac);
}

struct Malformed {
  std::string_view name;
  std::vector<std::byte> (*original)();
  std::function<void(std::vector<std::byte>&)> damage;
  friend void PrintTo(const Malformed& shown, std::ostream* out) { *out << shown.name; }
};

class MalformedMessage : public ::testing::TestWithParam<Malformed> {};

TEST_P(MalformedMessage, IsRefused) {
  std::vector<std::byte> bytes = GetParam().original();
  GetParam().damage(bytes);
  EXPECT_FALSE(ArpMessage::parse(bytes));
  EXPECT_FALSE(NeighborMessage::parse(bytes));
}

auto set(std::size_t offset, int value) {
  return [=](std::vector<std::byte>& bytes) { bytes[offset] = static_cast<std::byte>(value); };
}
auto cut_to(std::size_t length) {
  return [=](std::vector<std::byte>& bytes) { bytes.resize(length); };
}

INSTANTIATE_TEST_SUITE_P(
    , MalformedMessage,
    ::testing::Values(Malformed{"ArpCutShort", arp_bytes, cut_to(27)},
                      Malformed{"ArpForOtherHardware", arp_bytes, set(1, 6)},
                      Malformed{"ArpForAnotherProtocol", arp_bytes, set(2, 0x86)},
                      Malformed{"ArpWithLongHardwareAddresses", arp_bytes, set(4, 8)},
                      Malformed{"ArpWithLongProtocolAddresses", arp_bytes, set(5, 16)},
                      Malformed{"ArpWithAnUnknownOperation", arp_bytes, set(7, 3)},
                      Malformed{"NdpCutShort", advertisement_bytes, cut_to(23)},
                      Malformed{"NdpOfAnotherType", advertisement_bytes, set(0, 134)},
                      Malformed{"NdpWithACode", advertisement_bytes, set(1, 1)},
                      Malformed{"NdpAboutAGroup", advertisement_bytes, set(8, 0xff)},
                      Malformed{"NdpWithAnOptionOfLengthZero", advertisement_bytes, set(25, 0)},
                      Malformed{"NdpWithAnOptionBeyondItsEnd", advertisement_bytes, set(25, 2)},
                      Malformed{"NdpWithHalfAnOptionHeader", advertisement_bytes, cut_to(25)}),
    [](const auto& tested) { return std::string{tested.param.name}; });

TEST(NeighborAddresses, AreMadeAsTheirRfcsSay) {
  EXPECT_EQ(solicited_node_group(kTarget6).text(), "ff02::1:ff12:3456");
  EXPECT_EQ(multicast_mac(solicited_node_group(kTarget6)).text(), "33:33:ff:12:34:56");
  EXPECT_EQ(multicast_mac(IpAddress::v4(239, 129, 2, 3)).text(), "01:00:5e:01:02:03");
  EXPECT_EQ(multicast_mac(IpAddress::v4(255, 255, 255, 255)), MacAddress::broadcast());
  EXPECT_EQ(link_local_address(kMac).text(), "fe80::11:22ff:fe33:4455");
}

}  // namespace
}  // namespace weir::wire
