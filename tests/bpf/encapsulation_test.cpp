// What leaves the balancer, read back byte by byte with a decoder that shares no code with what
// wrote it.

#include <linux/bpf.h>
#include <netinet/in.h>

#include <algorithm>

#include "tests/bpf/balancer_fixture.h"

namespace weir::testing {
namespace {

using Bytes = std::vector<std::byte>;

unsigned byte_at(std::span<const std::byte> bytes, std::size_t offset) {
  return std::to_integer<unsigned>(bytes[offset]);
}
unsigned word_at(std::span<const std::byte> bytes, std::size_t offset) {
  return byte_at(bytes, offset) << 8 | byte_at(bytes, offset + 1);
}

/// RFC 1071 over the header as it lies there; right means all ones.
unsigned header_sum(std::span<const std::byte> header) {
  unsigned sum = 0;
  for (std::size_t i = 0; i < header.size(); i += 2)
    sum += word_at(header, i);
  while (sum > 0xffff)
    sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}

Bytes slice(const Bytes& bytes, std::size_t offset, std::size_t count) {
  const auto start = bytes.begin() + static_cast<std::ptrdiff_t>(offset);
  return {start, start + static_cast<std::ptrdiff_t>(count)};
}

Bytes to_bytes(std::span<const std::uint8_t> octets) {
  const auto bytes = std::as_bytes(octets);
  return {bytes.begin(), bytes.end()};
}

constexpr std::size_t kEthernet = 14;

void expect_ethernet(const Bytes& frame, unsigned type) {
  EXPECT_EQ(slice(frame, 0, 6), to_bytes(kNextHopMac.bytes));
  EXPECT_EQ(slice(frame, 6, 6), to_bytes(kOwnMac.bytes));
  EXPECT_EQ(word_at(frame, 12), type);
}

void expect_outer_ipv4(const Bytes& frame, unsigned protocol, unsigned tos, const Bytes& inner) {
  ASSERT_EQ(frame.size(), kEthernet + 20 + inner.size());
  expect_ethernet(frame, 0x0800);
  const Bytes outer = slice(frame, kEthernet, 20);
  EXPECT_EQ(byte_at(outer, 0), 0x45u);
  EXPECT_EQ(byte_at(outer, 1), tos);
  EXPECT_EQ(word_at(outer, 2), 20 + inner.size());
  EXPECT_EQ(word_at(outer, 6), 0x4000u) << "do not fragment, offset 0";
  EXPECT_EQ(byte_at(outer, 8), 64u);
  EXPECT_EQ(byte_at(outer, 9), protocol);
  EXPECT_EQ(header_sum(outer), 0xffffu);
  EXPECT_EQ(slice(outer, 12, 4), to_bytes(kOuterSource.v4_octets()));
  EXPECT_EQ(slice(outer, 16, 4), to_bytes(kBackend.v4_octets()));
  EXPECT_EQ(slice(frame, kEthernet + 20, inner.size()), inner);
}

void expect_outer_ipv6(const Bytes& frame, unsigned protocol, unsigned tos, const Bytes& inner) {
  ASSERT_EQ(frame.size(), kEthernet + 40 + inner.size());
  expect_ethernet(frame, 0x86dd);
  const Bytes outer = slice(frame, kEthernet, 40);
  EXPECT_EQ(byte_at(outer, 0) >> 4, 6u);
  EXPECT_EQ((word_at(outer, 0) >> 4) & 0xff, tos);
  EXPECT_EQ(word_at(outer, 4), inner.size());
  EXPECT_EQ(byte_at(outer, 6), protocol);
  EXPECT_EQ(byte_at(outer, 7), 64u);
  EXPECT_EQ(slice(outer, 8, 16), to_bytes(kOuterSource6.bytes));
  EXPECT_EQ(slice(outer, 24, 16), to_bytes(kBackend6.bytes));
  EXPECT_EQ(slice(frame, kEthernet + 40, inner.size()), inner);
}

const wire::Endpoint kFrom = at(kClient, 40000);
const wire::Endpoint kFrom6 = at(kClient6, 40000);

class Encapsulation : public ::testing::Test, protected BalancerFixture {
 protected:
  void SetUp() override { start_standard_world(); }
};

TEST_F(Encapsulation, Ipv4InIpv4KeepsThePacketAndItsDsField) {
  PacketBuilder packet = tcp(kFrom, at(kVip, 80)).type_of_service(0xb9).payload("hello");
  const RunResult result = run(packet);
  expect_outer_ipv4(result.output, 4, 0xb9, packet.time_to_live(63).ip_bytes());
}

TEST_F(Encapsulation, Ipv6InIpv6KeepsThePacketAndItsTrafficClass) {
  PacketBuilder packet = tcp(kFrom6, at(kVip6, 80)).type_of_service(0x2e).payload("hello");
  const RunResult result = run(packet);
  expect_outer_ipv6(result.output, 41, 0x2e, packet.time_to_live(63).ip_bytes());
}

TEST_F(Encapsulation, Ipv4InIpv6SaysProtocol4) {
  PacketBuilder packet = udp(kFrom, at(kVip, 53)).payload("query");
  const RunResult result = run(packet);
  expect_outer_ipv6(result.output, 4, 0, packet.time_to_live(63).ip_bytes());
}

TEST_F(Encapsulation, Ipv6InIpv4SaysProtocol41) {
  PacketBuilder packet = udp(kFrom6, at(kVip6, 53)).payload("query");
  const RunResult result = run(packet);
  expect_outer_ipv4(result.output, 41, 0, packet.time_to_live(63).ip_bytes());
}

TEST_F(Encapsulation, PaddingOfTheFrameDoesNotEnterTheTunnel) {
  PacketBuilder packet = tcp(kFrom, at(kVip, 80));
  const RunResult result = run(PacketBuilder{packet}.padding(6));
  expect_outer_ipv4(result.output, 4, 0, packet.time_to_live(63).ip_bytes());
}

TEST_F(Encapsulation, PaddingOfAnIpv6FrameDoesNotEnterTheTunnel) {
  PacketBuilder packet = tcp(kFrom6, at(kVip6, 80));
  const RunResult result = run(PacketBuilder{packet}.padding(300));
  expect_outer_ipv6(result.output, 41, 0, packet.time_to_live(63).ip_bytes());
}

TEST_F(Encapsulation, IpOptionsStayInside) {
  PacketBuilder packet = tcp(kFrom, at(kVip, 80)).ip_options(5);
  const RunResult result = run(packet);
  expect_outer_ipv4(result.output, 4, 0, packet.time_to_live(63).ip_bytes());
}

TEST_F(Encapsulation, TheInnerChecksumIsRightForEveryTimeToLive) {
  for (unsigned ttl = 2; ttl <= 255; ++ttl) {
    // The identification walks the checksum through its range, carries included.
    const auto id = static_cast<std::uint16_t>(ttl * 257);
    const RunResult result = run(
        tcp(kFrom, at(kVip, 80)).time_to_live(static_cast<std::uint8_t>(ttl)).identification(id));
    ASSERT_EQ(result.output.size(), kEthernet + 20 + 40);
    const Bytes inner = slice(result.output, kEthernet + 20, 20);
    ASSERT_EQ(byte_at(inner, 8), ttl - 1);
    ASSERT_EQ(header_sum(inner), 0xffffu) << "ttl " << ttl;
  }
}

TEST_F(Encapsulation, AWrongInnerChecksumStaysWrong) {
  const RunResult result = run(tcp(kFrom, at(kVip, 80)).wrong_ip_checksum());
  EXPECT_NE(header_sum(slice(result.output, kEthernet + 20, 20)), 0xffffu);
}

TEST_F(Encapsulation, ARedirectedPacketIsEncapsulatedTheSameWay) {
  PacketBuilder packet = tcp(kFrom, at(kVip, 81));
  const RunResult result = run(packet);
  EXPECT_EQ(result.action, static_cast<std::uint32_t>(XDP_REDIRECT));
  expect_outer_ipv4(result.output, 4, 0, packet.time_to_live(63).ip_bytes());
}

TEST_F(Encapsulation, L2ChangesMacsAndTimeToLiveOnly) {
  PacketBuilder packet = tcp(kFrom, at(kVip, 82)).payload("hello").padding(3);
  const RunResult result = run(packet);
  EXPECT_EQ(result.output, packet.macs(kOwnMac, kNextHopMac).time_to_live(63).bytes());
}

TEST_F(Encapsulation, Ipv6L2ChangesMacsAndHopLimitOnly) {
  PacketBuilder packet = tcp(kFrom6, at(kVip6, 82)).extension(IPPROTO_DSTOPTS, 0);
  const RunResult result = run(packet);
  EXPECT_EQ(result.output, packet.macs(kOwnMac, kNextHopMac).time_to_live(63).bytes());
}

}  // namespace
}  // namespace weir::testing
