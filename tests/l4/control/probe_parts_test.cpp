#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "l4/base/bytes.h"
#include "l4/control/probe_icmp.h"
#include "l4/control/probe_schedule.h"
#include "l4/control/probe_socket.h"
#include "l4/wire/checksum.h"

namespace weir::control {
namespace {

using std::chrono::milliseconds;
constexpr Instant kEpoch{std::chrono::hours{5}};

// ---- the schedule ------------------------------------------------------------------------------

TEST(ProbeSchedule, SpreadsTargetsEvenlyOverTheInterval) {
  constexpr Duration kInterval = milliseconds{1000};
  constexpr int kTargets = 2000, kParts = 100;
  std::vector<int> parts(kParts);
  for (std::uint64_t i = 0; i < kTargets; ++i) {
    const Instant first = first_probe(kEpoch, kInterval, probe_phase(i), kEpoch);
    ASSERT_GE(first, kEpoch);
    ASSERT_LT(first, kEpoch + kInterval);
    ++parts[static_cast<std::size_t>((first - kEpoch) * kParts / kInterval)];
  }
  EXPECT_GE(*std::ranges::min_element(parts), 18);  // of 20 in each
  EXPECT_LE(*std::ranges::max_element(parts), 22);
}

TEST(ProbeSchedule, ALaterTargetIsProbedWithinItsIntervalOnItsOwnGrid) {
  constexpr Duration kInterval = milliseconds{700};
  for (std::uint64_t i = 0; i < 50; ++i) {
    const std::uint32_t phase = probe_phase(i);
    const Instant at_start = first_probe(kEpoch, kInterval, phase, kEpoch);
    const Instant now = kEpoch + milliseconds{12'345};
    const Instant later = first_probe(kEpoch, kInterval, phase, now);
    EXPECT_GE(later, now);
    EXPECT_LT(later, now + kInterval);
    EXPECT_EQ((later - at_start) % kInterval, Duration{0});
    EXPECT_EQ(first_probe(kEpoch, kInterval, phase, later), later);
  }
}

TEST(ProbeSchedule, TheLongestIntervalDoesNotOverflow) {
  constexpr Duration kInterval = milliseconds{UINT32_MAX};
  const Instant first = first_probe(kEpoch, kInterval, UINT32_MAX, kEpoch);
  EXPECT_GT(first, kEpoch + kInterval - std::chrono::minutes{2});
  EXPECT_LT(first, kEpoch + kInterval);
}

TEST(ProbeSchedule, ATimeoutAsLongAsTheIntervalSkipsNoTurn) {
  const NextProbe next = next_probe(kEpoch, milliseconds{100}, kEpoch + milliseconds{101});
  EXPECT_EQ(next.due, kEpoch + milliseconds{100});
  EXPECT_EQ(next.skipped, 0U);
}

TEST(ProbeSchedule, ALongWaitSkipsTurnsAndKeepsTheGrid) {
  const NextProbe next = next_probe(kEpoch, milliseconds{100}, kEpoch + milliseconds{1'030});
  EXPECT_EQ(next.due, kEpoch + milliseconds{1'100});
  EXPECT_EQ(next.skipped, 10U);
}

// ---- echo --------------------------------------------------------------------------------------

constexpr EchoRequest kRequest4{wire::Family::kIpv4, 0x1234, 0x1122334455667788};
constexpr EchoRequest kRequest6{wire::Family::kIpv6, 0x1234, 0x1122334455667788};

std::vector<std::byte> reply_to(const EchoRequest& request) {
  std::vector<std::byte> bytes = echo_request_bytes(request);
  bytes[0] = std::byte{request.family == wire::Family::kIpv4 ? std::uint8_t{0} : std::uint8_t{129}};
  return bytes;
}

TEST(Echo, TheRequestOfIpv4HasARightChecksumAndThatOfIpv6IsLeftToTheKernel) {
  const auto four = echo_request_bytes(kRequest4);
  EXPECT_EQ(four[0], std::byte{8});
  EXPECT_EQ(wire::ChecksumSum{}.add(four).finish(), 0);
  const auto six = echo_request_bytes(kRequest6);
  EXPECT_EQ(six[0], std::byte{128});
  EXPECT_EQ(six[2], std::byte{0});
  EXPECT_EQ(six[3], std::byte{0});
}

TEST(Echo, TheReplyIsKnownWithAndWithoutItsIpHeader) {
  EXPECT_TRUE(is_echo_reply_to(kRequest4, reply_to(kRequest4), false));
  EXPECT_TRUE(is_echo_reply_to(kRequest6, reply_to(kRequest6), false));
  std::vector<std::byte> with_header(24);  // an IPv4 header with one option word
  with_header[0] = std::byte{0x46};
  std::ranges::copy(reply_to(kRequest4), std::back_inserter(with_header));
  EXPECT_TRUE(is_echo_reply_to(kRequest4, with_header, true));
}

TEST(Echo, APingSocketsIdentifierIsTheKernels) {
  EchoRequest ping = kRequest4;
  ping.identifier = 0;
  EXPECT_TRUE(is_echo_reply_to(ping, reply_to(kRequest4), false));
}

struct EchoCase {
  std::string_view name;
  std::size_t at;
  std::uint8_t value;
};

class OtherEcho : public ::testing::TestWithParam<EchoCase> {};

TEST_P(OtherEcho, IsNotTheReply) {
  std::vector<std::byte> bytes = reply_to(kRequest4);
  bytes.at(GetParam().at) = std::byte{GetParam().value};
  EXPECT_FALSE(is_echo_reply_to(kRequest4, bytes, false));
}

INSTANTIATE_TEST_SUITE_P(, OtherEcho,
                         ::testing::Values(EchoCase{"ARequest", 0, 8},
                                           EchoCase{"OfTheOtherFamily", 0, 129},
                                           EchoCase{"WithACode", 1, 1},
                                           EchoCase{"OfAnotherProber", 5, 0},
                                           EchoCase{"ToAnotherRequest", 15, 0}),
                         [](const auto& test) { return std::string{test.param.name}; });

TEST(Echo, WhatIsMalformedIsNotTheReply) {
  const std::vector<std::byte> reply = reply_to(kRequest4);
  for (std::size_t size = 0; size < reply.size(); ++size)
    EXPECT_FALSE(is_echo_reply_to(kRequest4, std::span{reply}.first(size), false)) << size;
  std::vector<std::byte> longer = reply;
  longer.push_back({});
  EXPECT_FALSE(is_echo_reply_to(kRequest4, longer, false));
  EXPECT_FALSE(is_echo_reply_to(kRequest4, {}, true));
  std::vector<std::byte> short_header(20);
  std::ranges::copy(reply, std::back_inserter(short_header));
  for (const std::uint8_t first : {0x00, 0x44, 0x4f}) {  // header of 0, 16 and 60 bytes
    short_header[0] = std::byte{first};
    EXPECT_FALSE(is_echo_reply_to(kRequest4, short_header, true)) << int{first};
  }
}

TEST(ProbeErrors, TellAShortageFromAFailureAndReadAsPartOfALine) {
  for (const int error : {EMFILE, ENFILE, ENOBUFS, ENOMEM, EADDRNOTAVAIL})
    EXPECT_TRUE(is_shortage(error)) << error;
  for (const int error : {ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, EPERM})
    EXPECT_FALSE(is_shortage(error)) << error;
  EXPECT_EQ(error_text(ECONNREFUSED), "connection refused");
  EXPECT_EQ(error_text(EHOSTUNREACH), "no route to host");
}

}  // namespace
}  // namespace weir::control
