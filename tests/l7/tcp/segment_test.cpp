#include "l7/tcp/segment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "l4/base/random.h"
#include "l7/port/heap_pool.h"

namespace weir::tcp {
namespace {

using wire::TcpHeader;

/// Header with the given length field and flags, then options and payload as written.
std::vector<std::byte> segment_of(std::uint8_t words, std::uint8_t flags,
                                  std::vector<std::uint8_t> rest) {
  std::vector<std::byte> bytes(sizeof(TcpHeader));
  bytes[12] = static_cast<std::byte>(words << 4);
  bytes[13] = std::byte{flags};
  for (const std::uint8_t byte : rest)
    bytes.push_back(std::byte{byte});
  return bytes;
}

struct Malformed {
  const char* what;
  std::vector<std::byte> bytes;
};

TEST(ParseSegment, MalformedHeadersAndOptionsAreRefused) {
  const Malformed cases[] = {
      {"empty", {}},
      {"one byte short", std::vector<std::byte>(19)},
      {"header length below 20", segment_of(4, 0, {})},
      {"header longer than the segment", segment_of(6, 0, {1, 1, 1})},
      {"SYN with FIN", segment_of(5, TcpHeader::kSyn | TcpHeader::kFin, {})},
      {"SYN with RST", segment_of(5, TcpHeader::kSyn | TcpHeader::kRst, {})},
      {"option without length", segment_of(6, 0, {1, 1, 1, 2})},
      {"option of length 0", segment_of(6, 0, {9, 0, 0, 0})},
      {"option of length 1", segment_of(6, 0, {9, 1, 0, 0})},
      {"option over the end", segment_of(6, 0, {9, 5, 0, 0})},
      {"MSS of length 3", segment_of(6, 0, {2, 3, 5, 0})},
      {"window scale of length 2", segment_of(6, 0, {3, 2, 0, 0})},
      {"SACK permitted with a value", segment_of(6, 0, {4, 3, 1, 0})},
      {"SACK block cut short", segment_of(7, 0, {5, 7, 1, 1, 1, 1, 1, 0})},
  };
  for (const Malformed& malformed : cases)
    EXPECT_FALSE(parse_segment(malformed.bytes).has_value()) << malformed.what;
}

TEST(ParseSegment, UnknownOptionsAreSkippedAndTheEndOptionEnds) {
  const auto bytes = segment_of(8, TcpHeader::kSyn, {99, 3, 7, 2, 4, 5, 0xb4, 0, 9, 0, 0, 0, 42});
  const auto view = parse_segment(bytes);
  ASSERT_TRUE(view.has_value());
  EXPECT_EQ(view->options.mss, 1460);
  ASSERT_EQ(view->payload.size(), 1U);
  EXPECT_EQ(view->payload[0], std::byte{42});
  EXPECT_EQ(view->length(), 2U);
}

TEST(ParseSegment, AWindowScaleBeyond14CountsAs14) {
  const auto view = parse_segment(segment_of(6, TcpHeader::kSyn, {3, 3, 200, 0}));
  ASSERT_TRUE(view.has_value());
  EXPECT_EQ(view->options.window_scale, 14);
}

TEST(ParseSegment, ReadsWhatBuildSegmentWrites) {
  port::HeapPool pool{4};
  SegmentHeader header;
  header.source_port = 80;
  header.destination_port = 40000;
  header.seq = Seq{0xfffffffe};
  header.ack = Seq{77};
  header.flags = TcpHeader::kAck | TcpHeader::kPsh;
  header.window = 1234;
  header.options.mss = 1400;
  header.options.window_scale = 3;
  header.options.sack_permitted = true;
  header.options.sack_count = 2;
  header.options.sack = {SackBlock{Seq{1}, Seq{2}}, SackBlock{Seq{5}, Seq{9}}};
  port::Packet packet = pool.allocate(100);
  const auto room = build_segment(packet, header, 5);
  ASSERT_EQ(room.size(), 5U);
  std::fill(room.begin(), room.end(), std::byte{0x5a});

  const auto view = parse_segment(packet.bytes());
  ASSERT_TRUE(view.has_value());
  EXPECT_EQ(view->source_port, 80);
  EXPECT_EQ(view->destination_port, 40000);
  EXPECT_EQ(view->seq, header.seq);
  EXPECT_EQ(view->ack, header.ack);
  EXPECT_EQ(view->flags, header.flags);
  EXPECT_EQ(view->window, 1234);
  EXPECT_EQ(view->options.mss, 1400);
  EXPECT_EQ(view->options.window_scale, 3);
  EXPECT_TRUE(view->options.sack_permitted);
  ASSERT_EQ(view->options.sack_count, 2U);
  EXPECT_EQ(view->options.sack[1], (SackBlock{Seq{5}, Seq{9}}));
  EXPECT_EQ(view->payload.size(), 5U);
  EXPECT_EQ(view->end(), Seq{3});
}

TEST(ParseSegment, TimeStampsAreTheSameInEveryLayout) {
  const std::vector<std::uint8_t> layouts[] = {
      {1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8},  // the usual one, which is read as a whole
      {1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1}, {8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1},
      {8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0}, {1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1, 1, 1},
  };
  for (const std::vector<std::uint8_t>& layout : layouts) {
    const auto words = static_cast<std::uint8_t>(5 + layout.size() / 4);
    const auto view = parse_segment(segment_of(words, 0, layout));
    ASSERT_TRUE(view.has_value()) << layout.size();
    EXPECT_EQ(view->options.timestamps, (Timestamps{0x01020304, 0x05060708})) << layout.size();
  }
}

TEST(ParseSegment, TwelveBytesThatAreNoTimeStampsAreReadAsWhatTheyAre) {
  const auto sack = parse_segment(segment_of(8, 0, {1, 1, 5, 10, 0, 0, 0, 2, 0, 0, 0, 3}));
  ASSERT_TRUE(sack.has_value());
  EXPECT_FALSE(sack->options.timestamps.has_value());
  ASSERT_EQ(sack->options.sack_count, 1U);
  EXPECT_EQ(sack->options.sack[0], (SackBlock{Seq{2}, Seq{3}}));
  EXPECT_FALSE(parse_segment(segment_of(8, 0, {1, 1, 8, 9, 1, 2, 3, 4, 5, 6, 7, 1})).has_value());
}

struct OptionBytes {
  const char* what;
  SegmentOptions options;
  std::vector<std::uint8_t> bytes;
};

TEST(BuildSegment, OptionsThatTakeTwelveBytesAreToldApart) {
  SegmentOptions stamps;
  stamps.timestamps = Timestamps{0x01020304, 0x05060708};
  SegmentOptions sack;
  sack.sack_count = 1;
  sack.sack[0] = {Seq{2}, Seq{3}};
  const OptionBytes cases[] = {
      {"time stamps", stamps, {1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8}},
      {"a SACK block", sack, {1, 1, 5, 10, 0, 0, 0, 2, 0, 0, 0, 3}},
  };
  port::HeapPool pool{4};
  for (const OptionBytes& expected : cases) {
    SegmentHeader header;
    header.options = expected.options;
    port::Packet packet = pool.allocate(100);
    ASSERT_EQ(build_segment(packet, header, 0).size(), 0U) << expected.what;
    ASSERT_EQ(packet.size(), sizeof(TcpHeader) + expected.bytes.size()) << expected.what;
    for (std::size_t i = 0; i < expected.bytes.size(); ++i)
      EXPECT_EQ(packet.bytes()[sizeof(TcpHeader) + i], std::byte{expected.bytes[i]})
          << expected.what << " " << i;
  }
}

TEST(ParseSegment, RandomBytesNeverLeadOutOfTheSegment) {
  Random random{11};  // the sanitizer is the oracle: every segment is a heap block of its own size
  for (int i = 0; i < 20'000; ++i) {
    std::vector<std::byte> bytes(random.below(64));
    for (std::byte& byte : bytes)
      byte = static_cast<std::byte>(random.below(12));
    if (bytes.size() > 12) bytes[12] = static_cast<std::byte>((5 + random.below(11)) << 4);
    const auto view = parse_segment(bytes);
    if (view) {
      ASSERT_LE(view->payload.size(), bytes.size() - sizeof(TcpHeader));
    }
  }
}

}  // namespace
}  // namespace weir::tcp
