#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "l4/base/random.h"
#include "l4/wire/address.h"
#include "l4/wire/checksum.h"
#include "l4/wire/endian.h"

namespace weir::wire {
namespace {

constexpr std::uint64_t kSeed = 11;

TEST(BigEndian, LiesInMemoryMostSignificantByteFirst) {
  const be32 value{0x01020304};
  std::array<std::uint8_t, 4> bytes{};
  std::memcpy(bytes.data(), &value, sizeof(value));
  EXPECT_EQ(bytes, (std::array<std::uint8_t, 4>{1, 2, 3, 4}));
  EXPECT_EQ(value.host(), 0x01020304U);
  EXPECT_EQ(be16{0xfffe}.host(), 0xfffe);
  EXPECT_EQ(be64{0x0102030405060708}.host(), 0x0102030405060708U);
}

struct Printed {
  std::string_view input;
  std::string_view printed;
};

TEST(IpAddress, PrintsWhatItHasReadInTheShortestForm) {
  constexpr std::array<Printed, 9> kCases{{
      {"0.0.0.0", "0.0.0.0"},
      {"203.0.113.53", "203.0.113.53"},
      {"255.255.255.255", "255.255.255.255"},
      {"::", "::"},
      {"::1", "::1"},
      {"2001:0db8:0000::0025", "2001:db8::25"},
      {"2001:DB8::A", "2001:db8::a"},
      {"fe80:0:0:0:1:2:3:4", "fe80::1:2:3:4"},
      {"::ffff:192.0.2.1", "192.0.2.1"},
  }};
  for (const Printed& test : kCases) {
    const auto address = IpAddress::parse(test.input);
    ASSERT_TRUE(address) << test.input;
    EXPECT_EQ(address->text(), test.printed);
    EXPECT_EQ(*IpAddress::parse(test.printed), *address) << test.printed;
  }
}

TEST(IpAddress, RefusesWhatIsNotAnAddress) {
  for (const std::string& text :
       {std::string{}, std::string{"1.2.3"}, std::string{"1.2.3.4.5"}, std::string{"1.2.3.256"},
        std::string{"01.2.3.4"}, std::string{" 1.2.3.4"}, std::string{"1.2.3.4 "},
        std::string{"1.2.3.4\0x", 9}, std::string{":::"}, std::string{"2001:db8"},
        std::string{"1::2::3"}, std::string{"fe80::1%eth0"}, std::string{"[::1]"},
        std::string{"host"}, std::string(100, '1')})
    EXPECT_FALSE(IpAddress::parse(text)) << text;
}

struct Kind {
  std::string_view address;
  bool unspecified, loopback, multicast, link_local;
};

TEST(IpAddress, KnowsItsKind) {
  constexpr std::array<Kind, 14> kCases{{
      {"0.0.0.0", true, false, false, false},
      {"::", true, false, false, false},
      {"127.0.0.1", false, true, false, false},
      {"127.255.255.254", false, true, false, false},
      {"::1", false, true, false, false},
      {"224.0.0.1", false, false, true, false},
      {"239.255.255.255", false, false, true, false},
      {"255.255.255.255", false, false, true, false},
      {"ff02::1", false, false, true, false},
      {"169.254.1.1", false, false, false, true},
      {"fe80::1", false, false, false, true},
      {"febf::1", false, false, false, true},
      {"fec0::1", false, false, false, false},
      {"192.0.2.1", false, false, false, false},
  }};
  for (const Kind& test : kCases) {
    const IpAddress address = *IpAddress::parse(test.address);
    EXPECT_EQ(address.is_unspecified(), test.unspecified) << test.address;
    EXPECT_EQ(address.is_loopback(), test.loopback) << test.address;
    EXPECT_EQ(address.is_multicast(), test.multicast) << test.address;
    EXPECT_EQ(address.is_link_local(), test.link_local) << test.address;
  }
}

struct Containment {
  std::string_view prefix;
  std::string_view address;
  bool contains;
};

TEST(Prefix, ContainsTheAddressesThatShareItsBits) {
  constexpr std::array<Containment, 10> kCases{{
      {"10.0.0.0/8", "10.255.0.1", true},
      {"10.0.0.0/8", "11.0.0.1", false},
      {"192.0.2.77/24", "192.0.2.1", true},
      {"192.0.2.128/25", "192.0.2.127", false},
      {"192.0.2.1", "192.0.2.1", true},
      {"192.0.2.1", "192.0.2.2", false},
      {"0.0.0.0/0", "203.0.113.1", true},
      {"0.0.0.0/0", "2001:db8::1", false},
      {"::/0", "203.0.113.1", false},
      {"2001:db8::/33", "2001:db8:8000::1", false},
  }};
  for (const Containment& test : kCases) {
    const auto prefix = Prefix::parse(test.prefix);
    ASSERT_TRUE(prefix) << test.prefix;
    EXPECT_EQ(prefix->contains(*IpAddress::parse(test.address)), test.contains)
        << test.prefix << " " << test.address;
  }
  for (const std::string_view text :
       {"10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1", "/8", "10.0.0.0/8/8", "10.0.0.0/8 "})
    EXPECT_FALSE(Prefix::parse(text)) << text;
}

TEST(Endpoint, IsReadBackFromItsText) {
  for (const std::string_view text : {"192.0.2.1:80", "[2001:db8::1]:65535"}) {
    const auto endpoint = Endpoint::parse(text);
    ASSERT_TRUE(endpoint) << text;
    EXPECT_EQ(endpoint->text(), text);
  }
  for (const std::string_view text :
       {"192.0.2.1", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:-1",
        "192.0.2.1:+80", "192.0.2.1: 80", "[192.0.2.1]:80", "2001:db8::1:80", "[2001:db8::1]",
        "[2001:db8::1:80", "[]:80", ":80", "host:80"})
    EXPECT_FALSE(Endpoint::parse(text)) << text;
}

TEST(MacAddress, IsReadBackFromItsText) {
  const auto mac = MacAddress::parse("02:00:0a:FF:00:01");
  ASSERT_TRUE(mac);
  EXPECT_EQ(mac->text(), "02:00:0a:ff:00:01");
  EXPECT_TRUE(MacAddress::broadcast().is_multicast());
  for (const std::string_view text :
       {"", "02:00:00:00:00", "02:00:00:00:00:0g", "02-00-00-00-00-01",
        "02:00:00:00:00:01:", "+2:00:00:00:00:01"})
    EXPECT_FALSE(MacAddress::parse(text)) << text;
}

/// RFC 1071, section 1, word by word.
std::uint16_t naive_checksum(const std::vector<std::byte>& bytes) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < bytes.size(); i += 2) {
    const auto high = std::to_integer<std::uint32_t>(bytes[i]) << 8;
    const auto low = i + 1 < bytes.size() ? std::to_integer<std::uint32_t>(bytes[i + 1]) : 0;
    sum += high | low;
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return static_cast<std::uint16_t>(~sum);
}

TEST(Checksum, IsThatOfTheDefinitionForAnyLengthAndCut) {
  Random random{kSeed};
  for (std::size_t length = 0; length < 600; ++length) {
    std::vector<std::byte> bytes(length);
    for (std::byte& byte : bytes)
      byte = static_cast<std::byte>(random.next());
    if (random.chance(0.1)) std::fill(bytes.begin(), bytes.end(), std::byte{0xff});
    const std::size_t cut =
        length == 0 ? 0 : random.below(static_cast<std::uint32_t>(length)) / 2 * 2;
    const std::span<const std::byte> all{bytes};
    ASSERT_EQ(ChecksumSum{}.add(all.first(cut)).add(all.subspan(cut)).finish(),
              naive_checksum(bytes))
        << "seed " << kSeed << ", length " << length << ", cut " << cut;
  }
}

TEST(Checksum, OfAMessageThatHoldsItsOwnIsZero) {
  Random random{kSeed};
  std::vector<std::byte> bytes(64);
  for (std::byte& byte : bytes)
    byte = static_cast<std::byte>(random.next());
  bytes[10] = bytes[11] = std::byte{0};
  const be16 checksum{ChecksumSum{}.add(bytes).finish()};
  std::memcpy(&bytes[10], &checksum, sizeof(checksum));
  EXPECT_EQ(ChecksumSum{}.add(bytes).finish(), 0);
}

TEST(Checksum, OfThePseudoHeaderIsThatOfItsBytes) {
  const auto v4 = pseudo_header_sum(IpAddress::v4(192, 0, 2, 1), IpAddress::v4(192, 0, 2, 2),
                                    IpProtocol::kTcp, 20);
  const std::array<std::uint8_t, 12> v4_bytes{192, 0, 2, 1, 192, 0, 2, 2, 0, 6, 0, 20};
  EXPECT_EQ(v4.finish(), ChecksumSum{}.add(std::as_bytes(std::span{v4_bytes})).finish());

  const IpAddress a = *IpAddress::parse("2001:db8::1");
  const IpAddress b = *IpAddress::parse("2001:db8::2");
  const auto v6 = pseudo_header_sum(a, b, IpProtocol::kUdp, 70000);
  const std::array<std::uint8_t, 8> v6_tail{0, 1, 0x11, 0x70, 0, 0, 0, 17};
  EXPECT_EQ(v6.finish(), ChecksumSum{}
                             .add(std::as_bytes(std::span{a.bytes}))
                             .add(std::as_bytes(std::span{b.bytes}))
                             .add(std::as_bytes(std::span{v6_tail}))
                             .finish());
}

}  // namespace
}  // namespace weir::wire
