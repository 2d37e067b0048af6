#include "l7/http/proxy_protocol.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "l4/base/bytes.h"
#include "tests/support/alloc_guard.h"

namespace weir::http {
namespace {

using namespace std::string_literals;
using Outcome = ProxyHeader::Outcome;

ProxyEndpoint v4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d,
                 std::uint16_t port) {
  return {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d}, port};
}
/// 2001:db8::`last`.
ProxyEndpoint v6(std::uint8_t last, std::uint16_t port) {
  return {{0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last}, port};
}

const ProxyAddresses kFour{v4(192, 0, 2, 7, 56324), v4(203, 0, 113, 10, 443)};
const ProxyAddresses kSix{v6(7, 56324), v6(0x10, 443)};

std::string be16_text(std::size_t value) {
  return {static_cast<char>(value >> 8), static_cast<char>(value & 0xff)};
}

/// A header of version 2 whose length field says what is there.
std::string v2(int command, int kind, const std::string& block) {
  return "\r\n\r\n\0\r\nQUIT\n"s + static_cast<char>(command) + static_cast<char>(kind) +
         be16_text(block.size()) + block;
}
std::string tlv(int type, const std::string& value) {
  return static_cast<char>(type) + be16_text(value.size()) + value;
}

/// kFour and kSix as the address block.
const std::string kBlock4 = "\xc0\x00\x02\x07\xcb\x00\x71\x0a\xdc\x04\x01\xbb"s;
const std::string kBlock6 =
    "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07"
    "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x10\xdc\x04\x01\xbb"s;

/// The same header with a checksum in the TLV behind `before`, and `after` behind it.
std::string with_checksum(const std::string& before, const std::string& after,
                          std::uint32_t spoilt = 0) {
  std::string header = v2(0x21, 0x11, kBlock4 + before + tlv(3, std::string(4, '\0')) + after);
  const std::uint32_t sum = crc32c(as_bytes(header)) ^ spoilt;
  const std::size_t at = 16 + kBlock4.size() + before.size() + 3;
  for (std::size_t i = 0; i < 4; ++i)
    header[at + i] = static_cast<char>((sum >> (24 - 8 * i)) & 0xff);
  return header;
}

struct GoodCase {
  std::string_view name;
  std::string header;
  std::optional<ProxyAddresses> addresses;
};

std::vector<GoodCase> good_cases() {
  const std::string longest = "PROXY UNKNOWN " + std::string(107 - 14 - 2, 'x') + "\r\n";
  return {
      {"V1Ipv4", "PROXY TCP4 192.0.2.7 203.0.113.10 56324 443\r\n", kFour},
      {"V1Ipv6", "PROXY TCP6 2001:db8::7 2001:db8::10 56324 443\r\n", kSix},
      {"V1Ipv6InFull", "PROXY TCP6 2001:0DB8:0:0:0:0:0:7 2001:db8:0:0:0:0:0:10 56324 443\r\n",
       kSix},
      {"V1PortsAtTheirEnds", "PROXY TCP4 192.0.2.7 203.0.113.10 0 65535\r\n",
       ProxyAddresses{v4(192, 0, 2, 7, 0), v4(203, 0, 113, 10, 65535)}},
      {"V1Unknown", "PROXY UNKNOWN\r\n", std::nullopt},
      {"V1UnknownWithWhatMeansNothing", "PROXY UNKNOWN ffff:f...f:ffff 1 x\r\n", std::nullopt},
      {"V1AsLongAsItMayBe", longest, std::nullopt},
      {"V2Ipv4", v2(0x21, 0x11, kBlock4), kFour},
      {"V2Ipv6", v2(0x21, 0x21, kBlock6), kSix},
      {"V2Ipv4WithTlvs", v2(0x21, 0x11, kBlock4 + tlv(1, "h2") + tlv(4, "") + tlv(2, "a.example")),
       kFour},
      {"V2WithATlvThatNobodyKnows", v2(0x21, 0x21, kBlock6 + tlv(0xef, std::string(300, '\0'))),
       kSix},
      {"V2WithAChecksum", with_checksum("", ""), kFour},
      {"V2WithAChecksumAmongOthers", with_checksum(tlv(2, "x"), tlv(4, "yy")), kFour},
      {"V2Local", v2(0x20, 0, ""), std::nullopt},
      {"V2LocalDiscardsAnAddress", v2(0x20, 0x11, kBlock4), std::nullopt},
      {"V2LocalDiscardsWhatIsNoAddress", v2(0x20, 0xff, "abc"), std::nullopt},
      {"V2Unspecified", v2(0x21, 0, ""), std::nullopt},
      {"V2UnspecifiedSkipsWhatFollows", v2(0x21, 0, "abc"), std::nullopt},
      {"V2DatagramsOverIpv4", v2(0x21, 0x12, kBlock4), std::nullopt},
      {"V2DatagramsOverIpv6", v2(0x21, 0x22, kBlock6), std::nullopt},
      {"V2UnixStream", v2(0x21, 0x31, std::string(216, 'p')), std::nullopt},
      {"V2AsLongAsItMayBe",
       v2(0x21, 0x11, kBlock4 + tlv(4, std::string(kProxyHeaderBytesMax - 16 - 12 - 3, 'n'))),
       kFour},
  };
}

class ProxyHeaders : public ::testing::TestWithParam<GoodCase> {};

TEST_P(ProxyHeaders, AreReadWhereTheyEndHoweverTheyArrive) {
  const GoodCase& c = GetParam();
  const std::string stream = c.header + "GET / HTTP/1.1\r\n";
  for (std::size_t size = 0; size < c.header.size(); ++size) {
    const ProxyHeader part = read_proxy_header(as_bytes(stream).first(size));
    ASSERT_EQ(part.outcome, Outcome::kIncomplete) << size << " bytes: " << part.problem;
  }
  for (const std::size_t size : {c.header.size(), c.header.size() + 1, stream.size()}) {
    const ProxyHeader whole = read_proxy_header(as_bytes(stream).first(size));
    ASSERT_EQ(whole.outcome, Outcome::kComplete) << whole.problem;
    EXPECT_EQ(whole.consumed, c.header.size());
    EXPECT_EQ(whole.addresses, c.addresses);
  }
}

INSTANTIATE_TEST_SUITE_P(, ProxyHeaders, ::testing::ValuesIn(good_cases()),
                         [](const auto& info) { return std::string{info.param.name}; });

struct BadCase {
  std::string_view name;
  std::string header;
};

std::vector<BadCase> bad_cases() {
  const std::string v2_start = "\r\n\r\n\0\r\nQUIT\n"s;
  return {
      {"ARequest", "GET / HTTP/1.1\r\n\r\n"},
      {"ARequestThatBeginsLikeIt", "PUT / HTTP/1.1\r\n\r\n"},
      {"AClientHello", "\x16\x03\x01\x02\x00"s},
      {"LowerCase", "proxy TCP4 192.0.2.7 203.0.113.10 1 2\r\n"},
      {"AnEmptyLine", "\r\nGET / HTTP/1.1\r\n\r\n"},
      {"V1WithoutCr", "PROXY TCP4 192.0.2.7 203.0.113.10 1 2\n"},
      {"V1WithACrInside", "PROXY TCP4 192.0.2.7 203.0.113.10 1\r2\r\n"},
      {"V1WithANul", "PROXY TCP4 192.0.2.7\0 203.0.113.10 1 2\r\n"s},
      {"V1WithATab", "PROXY TCP4\t192.0.2.7 203.0.113.10 1 2\r\n"},
      {"V1UnknownWithAControlByte", "PROXY UNKNOWN \x01\r\n"},
      {"V1WithoutAnything", "PROXY \r\n"},
      {"V1ForDatagrams", "PROXY UDP4 192.0.2.7 203.0.113.10 1 2\r\n"},
      {"V1UnknownWithMore", "PROXY UNKNOWNS\r\n"},
      {"V1TwoSpaces", "PROXY TCP4  192.0.2.7 203.0.113.10 1 2\r\n"},
      {"V1TwoSpacesInside", "PROXY TCP4 192.0.2.7  203.0.113.10 1 2\r\n"},
      {"V1ASpaceAtTheEnd", "PROXY TCP4 192.0.2.7 203.0.113.10 1 2 \r\n"},
      {"V1OneFieldMore", "PROXY TCP4 192.0.2.7 203.0.113.10 1 2 3\r\n"},
      {"V1OneFieldLess", "PROXY TCP4 192.0.2.7 203.0.113.10 1\r\n"},
      {"V1NoPort", "PROXY TCP4 192.0.2.7 203.0.113.10 1 \r\n"},
      {"V1Ipv6AsIpv4", "PROXY TCP4 2001:db8::7 2001:db8::10 1 2\r\n"},
      {"V1Ipv4AsIpv6", "PROXY TCP6 192.0.2.7 203.0.113.10 1 2\r\n"},
      {"V1ANameAsAddress", "PROXY TCP4 a.example 203.0.113.10 1 2\r\n"},
      {"V1AnOctetTooLarge", "PROXY TCP4 192.0.2.256 203.0.113.10 1 2\r\n"},
      {"V1AnOctetWithAZeroInFront", "PROXY TCP4 192.0.2.07 203.0.113.10 1 2\r\n"},
      {"V1AnAddressInBrackets", "PROXY TCP6 [2001:db8::7] 2001:db8::10 1 2\r\n"},
      {"V1AZone", "PROXY TCP6 fe80::1%eth0 2001:db8::10 1 2\r\n"},
      {"V1APortTooLarge", "PROXY TCP4 192.0.2.7 203.0.113.10 65536 2\r\n"},
      {"V1APortWithAZeroInFront", "PROXY TCP4 192.0.2.7 203.0.113.10 01 2\r\n"},
      {"V1ANegativePort", "PROXY TCP4 192.0.2.7 203.0.113.10 -1 2\r\n"},
      {"V1ASignedPort", "PROXY TCP4 192.0.2.7 203.0.113.10 1 +2\r\n"},
      {"V1TooLong", "PROXY UNKNOWN " + std::string(107 - 14 - 1, 'x') + "\r\n"},
      {"V1WithoutAnEnd", "PROXY UNKNOWN " + std::string(200, 'x')},
      {"V2ABrokenSignature", "\r\n\r\n\0\r\nQUIT\r"s + std::string(16, '\0')},
      {"V2Version1", v2(0x11, 0x11, kBlock4)},
      {"V2Version3", v2(0x31, 0x11, kBlock4)},
      {"V2AnUnknownCommand", v2(0x22, 0x11, kBlock4)},
      {"V2AnUnknownFamily", v2(0x21, 0x41, kBlock6)},
      {"V2AnUnknownTransport", v2(0x21, 0x13, kBlock4)},
      {"V2TooShortForIpv4", v2(0x21, 0x11, kBlock4.substr(1))},
      {"V2TooShortForIpv6", v2(0x21, 0x21, kBlock6.substr(1))},
      {"V2TooShortForUnix", v2(0x21, 0x31, std::string(215, 'p'))},
      {"V2TooShortForDatagrams", v2(0x21, 0x12, "abc")},
      {"V2TooLong", v2_start + "\x21\x11"s + be16_text(kProxyHeaderBytesMax - 15)},
      {"V2AsLongAsItCanSay", v2_start + "\x21\x11\xff\xff"s},
      {"V2LocalTooLong", v2_start + "\x20\x00\xff\xff"s},
      {"V2HalfATlv", v2(0x21, 0x11, kBlock4 + "\x01")},
      {"V2ATlvWithoutItsLength", v2(0x21, 0x11, kBlock4 + "\x01\x00"s)},
      {"V2ATlvBeyondTheEnd", v2(0x21, 0x11, kBlock4 + "\x01\x00\x03h2"s)},
      {"V2ATlvFarBeyondTheEnd", v2(0x21, 0x11, kBlock4 + tlv(4, "ok") + "\x01\xff\xff"s)},
      {"V2AWrongChecksum", with_checksum("", "", 1)},
      {"V2AWrongChecksumInItsFirstByte", with_checksum("", "", 0x80000000)},
      {"V2AShortChecksum", v2(0x21, 0x11, kBlock4 + tlv(3, "abc"))},
      {"V2ALongChecksum", v2(0x21, 0x11, kBlock4 + tlv(3, "abcde"))},
      // Both sums cannot be right unless they are one.
      {"V2TwoChecksums", with_checksum("", tlv(3, std::string(4, '\0')))},
  };
}

class BrokenProxyHeaders : public ::testing::TestWithParam<BadCase> {};

TEST_P(BrokenProxyHeaders, AreRefusedHoweverTheyArrive) {
  const std::string& header = GetParam().header;
  const ProxyHeader whole = read_proxy_header(as_bytes(header));
  ASSERT_EQ(whole.outcome, Outcome::kMalformed);
  EXPECT_FALSE(whole.problem.empty());
  // By single bytes: never complete, and once malformed always malformed.
  bool refused = false;
  for (std::size_t size = 0; size <= header.size(); ++size) {
    const ProxyHeader part = read_proxy_header(as_bytes(header).first(size));
    ASSERT_NE(part.outcome, Outcome::kComplete) << size;
    ASSERT_TRUE(!refused || part.outcome == Outcome::kMalformed) << size;
    refused = part.outcome == Outcome::kMalformed;
  }
  EXPECT_TRUE(refused);
}

INSTANTIATE_TEST_SUITE_P(, BrokenProxyHeaders, ::testing::ValuesIn(bad_cases()),
                         [](const auto& info) { return std::string{info.param.name}; });

TEST(ProxyHeader, ARequestIsRefusedByItsFirstWrongByte) {
  EXPECT_EQ(read_proxy_header(as_bytes("G")).outcome, Outcome::kMalformed);
  EXPECT_EQ(read_proxy_header(as_bytes("PO")).outcome, Outcome::kMalformed);
  EXPECT_EQ(read_proxy_header(as_bytes("\r\nG")).outcome, Outcome::kMalformed);
}

TEST(ProxyHeader, AnyBitOfAHeaderWithAChecksumCountsForIt) {
  const std::string good = with_checksum(tlv(2, "name"), "");
  for (std::size_t bit = 8 * 16; bit < 8 * good.size(); ++bit) {
    std::string flipped = good;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    // A TLV of another type or length may hide the checksum; what is read is then malformed or has
    // none. In the addresses and the name nothing can hide.
    const bool in_tlv_head = (bit / 8 >= 28 && bit / 8 < 31) || (bit / 8 >= 35 && bit / 8 < 38);
    if (in_tlv_head) continue;
    EXPECT_EQ(read_proxy_header(as_bytes(flipped)).outcome, Outcome::kMalformed) << bit;
  }
}

TEST(ProxyHeader, ReadingAllocatesNothing) {
  const std::string one = "PROXY TCP6 2001:db8::7 2001:db8::10 56324 443\r\n";
  const std::string two = with_checksum(tlv(2, "x"), "");
  const testing::AllocationGuard guard;
  const ProxyHeader first = read_proxy_header(as_bytes(one));
  const ProxyHeader second = read_proxy_header(as_bytes(two));
  EXPECT_EQ(guard.allocations(), 0U);
  EXPECT_TRUE(first.addresses && second.addresses);
}

std::string written(void (*append)(std::vector<std::byte>&, const ProxyAddresses&),
                    const ProxyAddresses& addresses) {
  std::vector<std::byte> out;
  append(out, addresses);
  EXPECT_LE(out.size(), kProxyHeaderWrittenMax);
  return std::string{as_text(out)};
}

TEST(ProxyHeader, IsWrittenAsTheDocumentHasIt) {
  EXPECT_EQ(written(append_proxy_v1, kFour), "PROXY TCP4 192.0.2.7 203.0.113.10 56324 443\r\n");
  EXPECT_EQ(written(append_proxy_v1, kSix), "PROXY TCP6 2001:db8::7 2001:db8::10 56324 443\r\n");
  EXPECT_EQ(written(append_proxy_v2, kFour), v2(0x21, 0x11, kBlock4));
  EXPECT_EQ(written(append_proxy_v2, kSix), v2(0x21, 0x21, kBlock6));
}

TEST(ProxyHeader, WhatIsWrittenIsReadAsTheSame) {
  ProxyEndpoint longest;
  longest.address.fill(0xfe);
  longest.port = 65535;
  const ProxyAddresses mixed{kFour.source, kSix.destination};
  for (const ProxyAddresses& addresses : {kFour, kSix, mixed, ProxyAddresses{longest, longest}}) {
    for (const auto append : {append_proxy_v1, append_proxy_v2}) {
      const std::string header = written(append, addresses);
      const ProxyHeader read = read_proxy_header(as_bytes(header));
      ASSERT_EQ(read.outcome, Outcome::kComplete) << read.problem;
      EXPECT_EQ(read.consumed, header.size());
      EXPECT_EQ(read.addresses, addresses);
    }
  }
}

TEST(Crc32c, IsThatOfTheReference) {
  EXPECT_EQ(crc32c(as_bytes("123456789")), 0xe3069283U);
  EXPECT_EQ(crc32c(as_bytes("6789"), crc32c(as_bytes("12345"))), 0xe3069283U);
  // RFC 3720, appendix B.4: 32 bytes of zeros.
  EXPECT_EQ(crc32c(as_bytes(std::string(32, '\0'))), 0x8a9136aaU);
}

}  // namespace
}  // namespace weir::http
