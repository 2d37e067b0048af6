#include "l7/port/impair.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "l4/base/bytes.h"
#include "l4/wire/checksum.h"
#include "l4/wire/headers.h"
#include "tests/support/alloc_guard.h"

namespace weir::port {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;

constexpr Instant kStart{1000s};

/// A frame of 100 bytes whose last byte is its name.
std::vector<std::byte> frame(int name, std::size_t length = 100) {
  std::vector<std::byte> bytes(length);
  bytes.back() = static_cast<std::byte>(name);
  return bytes;
}

class ImpairmentTest : public ::testing::Test {
 protected:
  Fate offer(int name, Instant now = kStart) { return link.offer(options, frame(name), now); }
  /// The names of the frames that have come out until `offset` after the start.
  std::vector<int> released_until(Duration offset) {
    std::vector<int> names;
    while (const auto out = link.release(kStart + offset))
      names.push_back(std::to_integer<int>(out->bytes.back()));
    return names;
  }

  ImpairOptions options;
  Impairment link{{.frames_max = 100}, 1};
};

TEST_F(ImpairmentTest, FramesComeOutInTheOrderOfTheirTimesAndNotBefore) {
  options.delay = 10ms;
  offer(1);
  options.delay = 5ms;
  offer(2);
  offer(3);
  EXPECT_EQ(link.next_release(), kStart + 5ms);
  EXPECT_THAT(released_until(5ms - 1ns), ElementsAre());
  EXPECT_THAT(released_until(5ms), ElementsAre(2, 3));
  EXPECT_THAT(released_until(10ms), ElementsAre(1));
  EXPECT_EQ(link.next_release(), kNever);
}

TEST_F(ImpairmentTest, AStallHoldsWhatHasNotLeftAndTheQueueGoesOnFilling) {
  options.delay = 1ms;
  options.queue_frames_max = 2;
  offer(1);
  link.stall_until(kStart + 1s);
  offer(2);
  offer(3);
  EXPECT_EQ(offer(4), Fate::kLostQueue);
  EXPECT_THAT(released_until(1s), ElementsAre(1));
  EXPECT_THAT(released_until(1s + 1ms), ElementsAre(2, 3));
  EXPECT_EQ(offer(5, kStart + 1s), Fate::kPasses);
}

TEST_F(ImpairmentTest, LossesInABurstComeTogether) {
  options.burst = {.begin = 0.01, .end = 0.25, .loss = 1};
  int bursts = 0;
  bool was_lost = false;
  for (int i = 0; i < 20'000; ++i) {
    const bool lost = offer(i) == Fate::kLostInBurst;
    if (lost && !was_lost) ++bursts;
    was_lost = lost;
    static_cast<void>(released_until(0ms));
  }
  const auto lost = static_cast<double>(link.counters().lost_in_burst);
  EXPECT_NEAR(lost / 20'000, 0.01 / (0.01 + 0.25), 0.01);
  EXPECT_NEAR(lost / bursts, 4, 0.8);
}

TEST_F(ImpairmentTest, OneProbabilityDoesNotMoveTheChancesOfAnother) {
  const auto reordered = [](double loss, double begin) {
    Impairment made{{}, 7};
    ImpairOptions settings;
    settings.reorder = 0.2;
    settings.loss = loss;
    settings.burst.begin = begin;
    std::vector<bool> late;
    for (int i = 0; i < 200; ++i) {
      const std::uint64_t before = made.counters().reordered;
      const bool lost = made.offer(settings, frame(i), kStart) != Fate::kPasses;
      late.push_back(!lost && made.counters().reordered > before);
      if (lost) late.back() = false;
    }
    return late;
  };
  const auto plain = reordered(0, 0);
  for (const auto& other : {reordered(0.1, 0), reordered(0, 0.1)}) {
    unsigned differences = 0;
    for (std::size_t i = 0; i < plain.size(); ++i)
      differences += other[i] && !plain[i] ? 1 : 0;  // fewer, for some are lost; never others
    EXPECT_EQ(differences, 0U);
  }
}

TEST_F(ImpairmentTest, EveryFrameIsAccountedFor) {
  options = {.delay = 1ms, .rate_bits_per_s = 100'000'000, .queue_frames_max = 5};
  options.loss = options.duplicate = options.reorder = options.corrupt = 0.1;
  options.burst.begin = 0.05;
  std::uint64_t out = 0;
  for (int i = 0; i < 2'000; ++i) {
    const Instant now = kStart + i * 5us;
    offer(i, now);
    while (link.release(now))
      ++out;
  }
  const ImpairCounters& c = link.counters();
  const std::uint64_t lost =
      c.lost_by_chance + c.lost_in_burst + c.lost_queue + c.lost_mtu + c.lost_in_flight_max;
  EXPECT_EQ(c.offered, 2'000U);
  EXPECT_EQ(c.released, out);
  EXPECT_EQ(c.offered - lost + c.duplicated, out + link.under_way());
  for (const std::uint64_t counter : {c.lost_by_chance, c.lost_in_burst, c.lost_queue,
                                      c.lost_in_flight_max, c.duplicated, c.reordered, c.corrupted})
    EXPECT_GT(counter, 0U);
}

TEST_F(ImpairmentTest, TheStoreHoldsWhatItMayAndTakesSlotsBack) {
  options.delay = 1ms;
  for (int i = 0; i < 100; ++i)
    EXPECT_EQ(offer(i), Fate::kPasses);
  EXPECT_EQ(offer(100), Fate::kStoreFull);
  EXPECT_FALSE(link.insert(frame(0), kStart));
  EXPECT_EQ(link.counters().lost_in_flight_max, 2U);
  EXPECT_EQ(released_until(1ms).size(), 100U);
  EXPECT_EQ(offer(101), Fate::kPasses);
}

TEST_F(ImpairmentTest, AFrameLongerThanTheStoreHasRoomForIsTooBigWhateverTheMtuSays) {
  options.mtu = 9000;
  EXPECT_EQ(link.offer(options, frame(1, 1514), kStart), Fate::kPasses);
  EXPECT_EQ(link.offer(options, frame(1, 1515), kStart), Fate::kTooBig);
  EXPECT_FALSE(link.insert(frame(1, 1515), kStart));
}

TEST_F(ImpairmentTest, NothingIsAllocatedOnceTheStoreIsAsLargeAsItGets) {
  options.delay = 1ms;
  options.rate_bits_per_s = 100'000'000;
  options.duplicate = options.reorder = options.corrupt = 0.1;
  const auto bytes = frame(1);
  const auto run = [&](Instant begin) {
    for (int i = 0; i < 1'000; ++i) {
      static_cast<void>(link.offer(options, bytes, begin + i * 5us));
      while (link.release(begin + i * 5us)) {
      }
    }
  };
  run(kStart);
  const testing::AllocationGuard guard;
  run(kStart + 1s);
  EXPECT_EQ(guard.allocations(), 0U);
}

// ---- "packet too big" ---------------------------------------------------------------------------

constexpr wire::MacAddress kSender{{2, 0, 0, 0, 0, 1}};
constexpr wire::MacAddress kRouter{{2, 0, 0, 0, 0, 2}};

template <typename Header>
std::vector<std::byte> packet(wire::EtherType type, const Header& ip, std::size_t text) {
  std::vector<std::byte> bytes(14 + sizeof(ip) + text, std::byte{0x55});
  store(bytes,
        wire::EthernetHeader{kRouter, kSender, wire::be16{static_cast<std::uint16_t>(type)}});
  store(std::span{bytes}.subspan(14), ip);
  return bytes;
}

wire::Ipv4Header ipv4() {
  wire::Ipv4Header ip;
  ip.flags_and_offset = wire::be16{wire::Ipv4Header::kDontFragment};
  ip.protocol = static_cast<std::uint8_t>(wire::IpProtocol::kTcp);
  ip.source = {192, 0, 2, 1};
  ip.destination = {192, 0, 2, 2};
  return ip;
}

wire::Ipv6Header ipv6() {
  wire::Ipv6Header ip;
  ip.next_header = static_cast<std::uint8_t>(wire::IpProtocol::kTcp);
  ip.source.back() = 1;
  ip.destination.back() = 2;
  return ip;
}

std::vector<std::byte> answer_to(std::span<const std::byte> bytes, std::uint16_t mtu) {
  std::vector<std::byte> answer(kTooBigBytesMax);
  answer.resize(write_too_big(bytes, mtu, answer));
  return answer;
}

TEST(TooBig, TheIpv4AnswerQuotesThePacketTellsTheMtuAndHasRightChecksums) {
  const auto sent = packet(wire::EtherType::kIpv4, ipv4(), 1480);
  const auto answer = answer_to(sent, 1300);
  ASSERT_EQ(answer.size(), 14U + 576U);
  ByteReader reader{answer};
  const auto ethernet = *reader.take<wire::EthernetHeader>();
  EXPECT_EQ(ethernet.destination, kSender);
  EXPECT_EQ(ethernet.source, kRouter);
  EXPECT_EQ(wire::ChecksumSum{}.add(reader.rest().first(20)).finish(), 0);
  const auto ip = *reader.take<wire::Ipv4Header>();
  EXPECT_EQ(ip.total_length.host(), 576);
  EXPECT_EQ(ip.destination, ipv4().source);
  EXPECT_EQ(wire::ChecksumSum{}.add(reader.rest()).finish(), 0);
  const auto icmp = *reader.take<wire::IcmpHeader>();
  EXPECT_EQ(icmp.type, 3);
  EXPECT_EQ(icmp.code, 4);
  EXPECT_EQ(icmp.rest.host(), 1300U);
  EXPECT_TRUE(std::ranges::equal(reader.rest(), std::span{sent}.subspan(14, 548)));
}

TEST(TooBig, TheIpv6AnswerQuotesThePacketTellsTheMtuAndHasARightChecksum) {
  const auto sent = packet(wire::EtherType::kIpv6, ipv6(), 1460);
  const auto answer = answer_to(sent, 1300);
  ASSERT_EQ(answer.size(), 14U + 1280U);
  ByteReader reader{answer};
  EXPECT_EQ(reader.take<wire::EthernetHeader>()->destination, kSender);
  const auto ip = *reader.take<wire::Ipv6Header>();
  EXPECT_EQ(ip.payload_length.host(), 1240);
  EXPECT_EQ(ip.destination, ipv6().source);
  EXPECT_EQ(
      wire::pseudo_header_sum(wire::IpAddress::v6(ip.source), wire::IpAddress::v6(ip.destination),
                              wire::IpProtocol::kIcmpv6, reader.remaining())
          .add(reader.rest())
          .finish(),
      0);
  const auto icmp = *reader.take<wire::IcmpHeader>();
  EXPECT_EQ(icmp.type, 2);
  EXPECT_EQ(icmp.rest.host(), 1300U);
  EXPECT_TRUE(std::ranges::equal(reader.rest(), std::span{sent}.subspan(14, 1232)));
}

TEST(TooBig, ThereIsNoAnswerToWhatMustNotBeAnswered) {
  auto may_be_cut = ipv4();
  may_be_cut.flags_and_offset = {};
  EXPECT_TRUE(answer_to(packet(wire::EtherType::kIpv4, may_be_cut, 1480), 1300).empty());

  auto error = ipv4();
  error.protocol = static_cast<std::uint8_t>(wire::IpProtocol::kIcmp);
  auto bytes = packet(wire::EtherType::kIpv4, error, 1480);
  bytes[34] = std::byte{3};  // unreachable
  EXPECT_TRUE(answer_to(bytes, 1300).empty());
  bytes[34] = std::byte{8};  // echo
  EXPECT_FALSE(answer_to(bytes, 1300).empty());

  auto error6 = ipv6();
  error6.next_header = static_cast<std::uint8_t>(wire::IpProtocol::kIcmpv6);
  auto bytes6 = packet(wire::EtherType::kIpv6, error6, 1460);
  bytes6[54] = std::byte{1};  // unreachable
  EXPECT_TRUE(answer_to(bytes6, 1300).empty());
  bytes6[54] = std::byte{128};  // echo
  EXPECT_FALSE(answer_to(bytes6, 1300).empty());

  EXPECT_TRUE(answer_to(packet(wire::EtherType::kArp, ipv4(), 1480), 1300).empty());
  auto to_all = packet(wire::EtherType::kIpv4, ipv4(), 1480);
  to_all[0] = std::byte{0xff};
  EXPECT_TRUE(answer_to(to_all, 1300).empty());
  EXPECT_TRUE(answer_to(std::span{to_all}.first(13), 1300).empty());
  EXPECT_TRUE(answer_to(std::span{to_all}.first(20), 1300).empty());
}

}  // namespace
}  // namespace weir::port
