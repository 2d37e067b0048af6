#include "tests/support/link_losses.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "l4/base/bytes.h"
#include "l4/wire/headers.h"
#include "l7/net/ip.h"
#include "l7/port/heap_pool.h"
#include "l7/tcp/segment.h"
#include "tests/support/frame_view.h"

namespace weir::testing {
namespace {

constexpr std::uint8_t kSyn = wire::TcpHeader::kSyn;
constexpr std::uint8_t kFin = wire::TcpHeader::kFin;
constexpr std::uint8_t kAck = wire::TcpHeader::kAck;
constexpr std::uint32_t kInitial = 0xffffff00;  // the stream wraps

struct Sent {
  std::uint8_t flags = kAck;
  std::uint32_t seq = 0;  // counted from the initial one
  std::size_t text = 0;
  std::uint16_t port = 1000;
};

std::vector<std::byte> frame_of(const Sent& sent, bool ipv6 = false) {
  port::HeapPool pool{1};
  port::Packet packet = pool.allocate(2'000);
  tcp::SegmentHeader header;
  header.source_port = sent.port;
  header.destination_port = 80;
  header.seq = tcp::Seq{kInitial} + sent.seq;
  header.flags = sent.flags;
  std::ranges::fill(tcp::build_segment(packet, header, sent.text), std::byte{7});
  const auto from = *wire::IpAddress::parse(ipv6 ? "2001:db8::1" : "192.0.2.1");
  const auto to = *wire::IpAddress::parse(ipv6 ? "2001:db8::2" : "192.0.2.2");
  net::finish_transport_checksum(packet.bytes(), from, to, wire::IpProtocol::kTcp, 16);
  net::prepend_ip_header(packet, from, to, wire::IpProtocol::kTcp, 64);
  store(packet.prepend(14),
        wire::EthernetHeader{{},
                             {},
                             wire::be16{static_cast<std::uint16_t>(
                                 ipv6 ? wire::EtherType::kIpv6 : wire::EtherType::kIpv4)}});
  const auto bytes = std::as_const(packet).bytes();
  return {bytes.begin(), bytes.end()};
}

/// One letter for each frame: lost or passed.
std::string fates(LossRule rule, const std::vector<Sent>& frames) {
  std::string text;
  for (const Sent& sent : frames)
    text += rule(text.size(), frame_of(sent)) ? 'x' : '.';
  return text;
}

const std::vector<Sent> kStream = {
    {.flags = kSyn},
    {.seq = 1, .text = 100},
    {.seq = 101, .text = 100},
    {.seq = 201, .text = 100},
    {.seq = 101, .text = 100},  // again
    {.seq = 101, .text = 200},  // and again, with its neighbour
    {.seq = 301},               // an ACK alone
    {.flags = kFin | kAck, .seq = 301},
};

TEST(LinkLosses, ChooseByFlags) {
  EXPECT_EQ(fates(with_flags(kFin), kStream), ".......x");
  EXPECT_EQ(fates(with_flags(kSyn), kStream), "x.......");
  EXPECT_EQ(fates(with_flags(kFin | kAck), kStream), ".......x");
  EXPECT_EQ(fates(with_flags(kFin | kSyn), kStream), "........");
}

TEST(LinkLosses, ChooseByAByteOfTheStream) {
  EXPECT_EQ(fates(covering_byte(0), kStream), ".x......");
  EXPECT_EQ(fates(covering_byte(150, 2), kStream), "..x.x...");
  EXPECT_EQ(fates(covering_byte(299, 9), kStream), "...x.x..");
  EXPECT_EQ(fates(covering_byte(300, 9), kStream), "........");
}

TEST(LinkLosses, ChooseRetransmissions) {
  EXPECT_EQ(fates(retransmissions(), kStream), "....x...");
  EXPECT_EQ(fates(retransmissions(2), kStream), "....xx..");
  EXPECT_EQ(
      fates(retransmissions(),
            {{.seq = 1, .text = 9}, {.seq = 1, .text = 9, .port = 1001}, {.seq = 1, .text = 9}}),
      "..x");
}

TEST(LinkLosses, AreLimitedAndJoined) {
  EXPECT_EQ(fates(first(2, with_flags(kAck)), kStream), ".xx.....");
  EXPECT_EQ(fates(either(with_flags(kSyn), retransmissions()), kStream), "x...x...");
}

TEST(FrameView, SeesBothFamiliesAndVerifiesChecksumsWhenAsked) {
  for (const bool ipv6 : {false, true}) {
    std::vector<std::byte> bytes = frame_of({.seq = 5, .text = 10}, ipv6);
    ASSERT_TRUE(tcp_frame(bytes, Checksums::kVerify));
    EXPECT_EQ(tcp_frame(bytes)->segment.payload.size(), 10U);
    bytes.back() ^= std::byte{1};
    EXPECT_TRUE(tcp_frame(bytes));
    EXPECT_FALSE(tcp_frame(bytes, Checksums::kVerify));
    bytes[12] = std::byte{0x99};
    EXPECT_FALSE(tcp_frame(bytes));
  }
}

}  // namespace
}  // namespace weir::testing
