#include "tools/weir/capture_file.h"

#include <gtest/gtest.h>

#include "l4/base/bytes.h"

namespace weir::cli {
namespace {

constexpr std::size_t kMany = 100;

std::vector<std::byte> frame_of(std::string_view text) {
  const auto bytes = as_bytes(text);
  return {bytes.begin(), bytes.end()};
}

std::string written() {
  CaptureWriter writer{"weir test"};
  const auto first = frame_of("first frame of this");
  const auto second = frame_of("second");
  std::string file = writer.head();
  file += writer.packet({.time_ns = 1'700'000'000'123'456'789,
                         .device = "eth0",
                         .kept = first,
                         .frame_bytes = 1500,
                         .comment = "verdict tx_ipip"});
  file += writer.packet({.time_ns = 1'700'000'000'123'456'790,
                         .device = "eth1",
                         .kept = second,
                         .frame_bytes = 6,
                         .comment = {}});
  return file + writer.tail(3, 1'700'000'000'123'456'791);
}

/// A pcap file of Ethernet frames in either byte order.
std::string pcap_of(bool swapped, std::uint32_t link_type, std::string_view frame) {
  std::string file;
  const auto add = [&](std::uint32_t word) {
    if (swapped) word = __builtin_bswap32(word);
    file.append(reinterpret_cast<const char*>(&word), sizeof(word));
  };
  for (const std::uint32_t word : {0xa1b2c3d4U, 0x00040002U, 0U, 0U, 65535U, link_type})
    add(word);
  const auto bytes = static_cast<std::uint32_t>(frame.size());
  for (const std::uint32_t word : {1U, 2U, bytes, bytes})
    add(word);
  return file + std::string{frame};
}

TEST(CaptureFile, ReadsBackWhatItWrote) {
  const auto frames = read_capture(as_bytes(written()), "a.pcapng", kMany);
  ASSERT_TRUE(frames) << frames.error().text();
  ASSERT_EQ(frames->size(), 2U);
  EXPECT_EQ((*frames)[0], frame_of("first frame of this"));
  EXPECT_EQ((*frames)[1], frame_of("second"));
}

TEST(CaptureFile, EveryBlockIsAligned) { EXPECT_EQ(written().size() % 4, 0U); }

TEST(CaptureFile, ReadsPcapOfBothByteOrders) {
  for (const bool swapped : {false, true}) {
    const auto frames = read_capture(as_bytes(pcap_of(swapped, 1, "a frame")), "a.pcap", kMany);
    ASSERT_TRUE(frames) << frames.error().text();
    ASSERT_EQ(frames->size(), 1U);
    EXPECT_EQ((*frames)[0], frame_of("a frame"));
  }
}

TEST(CaptureFile, RefusesEveryCutOfAFile) {
  const std::string pcap = pcap_of(false, 1, "a frame");
  for (std::size_t size = 0; size < pcap.size(); ++size) {
    if (size == 24) continue;  // a header alone is a capture of nothing
    const auto frames = read_capture(as_bytes(pcap).first(size), "a.pcap", kMany);
    ASSERT_FALSE(frames) << size;
    EXPECT_EQ(frames.error().message(),
              fmt::format("a.pcap ends at byte {}, amid a packet or its header", size));
  }
  const std::string file = written();
  std::size_t whole = 0;  // cuts between blocks are captures too
  for (std::size_t size = 0; size < file.size(); ++size)
    whole += read_capture(as_bytes(file).first(size), "a.pcapng", kMany) ? 1 : 0;
  EXPECT_EQ(whole, 5U);
}

TEST(CaptureFile, RefusesWhatIsNoCaptureOfEthernet) {
  const auto text = read_capture(as_bytes("hello, this is text"), "notes.txt", kMany);
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().text(),
            "notes.txt, byte 0: neither pcap nor pcapng; give a capture of Ethernet frames, pcap "
            "or pcapng");
  const auto other = read_capture(as_bytes(pcap_of(false, 113, "a frame")), "any.pcap", kMany);
  ASSERT_FALSE(other);
  EXPECT_NE(other.error().message().find("link type is 113"), std::string::npos);
}

TEST(CaptureFile, RefusesMoreFramesThanAskedFor) {
  const auto frames = read_capture(as_bytes(written()), "a.pcapng", 1);
  ASSERT_FALSE(frames);
  EXPECT_EQ(frames.error().message(), "the file holds more than 1 packets");
}

TEST(CaptureFile, SurvivesEveryFlippedByte) {
  const std::string file = written();
  for (std::size_t at = 0; at < file.size(); ++at) {
    for (const char flip : {'\x01', '\x80', '\xff'}) {
      std::string broken = file;
      broken[at] = static_cast<char>(broken[at] ^ flip);
      static_cast<void>(read_capture(as_bytes(broken), "a.pcapng", kMany));
    }
  }
}

}  // namespace
}  // namespace weir::cli
