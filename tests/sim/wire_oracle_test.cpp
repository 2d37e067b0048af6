#include "tests/sim/wire_oracle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "l4/wire/headers.h"

namespace weir::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

constexpr std::uint8_t kFin = wire::TcpHeader::kFin;
constexpr std::uint8_t kSyn = wire::TcpHeader::kSyn;
constexpr std::uint8_t kRst = wire::TcpHeader::kRst;
constexpr std::uint8_t kAck = wire::TcpHeader::kAck;

/// A segment; numbers count from the initial ones, 1 is the first byte of text.
struct Step {
  Side from = Side::kA;
  std::uint8_t flags = kAck;
  std::uint32_t seq = 1;
  std::uint32_t ack = 1;
  std::size_t text = 0;
  std::uint16_t window = 10'000;
  bool arrives = true;
  unsigned times = 1;
};

constexpr Side kA = Side::kA;
constexpr Side kB = Side::kB;

class Wire {
 public:
  void play(const Step& step) {
    static const std::vector<std::byte> text(65'536);
    const bool from_a = step.from == Side::kA;
    const std::uint32_t own = from_a ? 4'294'967'000 : 7'000;  // one of them wraps
    const std::uint32_t other = from_a ? 7'000 : 4'294'967'000;
    TcpFrame frame;
    frame.segment.source_port = from_a ? 1 : 2;
    frame.segment.destination_port = from_a ? 2 : 1;
    frame.segment.seq = tcp::Seq{own} + step.seq;
    frame.segment.ack = tcp::Seq{other} + step.ack;
    frame.segment.flags = step.flags;
    frame.segment.window = step.window;
    frame.segment.payload = std::span{text}.first(step.text);
    for (unsigned i = 0; i < step.times; ++i) {
      oracle.on_sent(step.from, frame, step.arrives, now);
      if (step.arrives) oracle.on_delivered(from_a ? Side::kB : Side::kA, frame, now);
    }
  }
  void shake_hands() {
    play({.from = kA, .flags = kSyn, .seq = 0});
    play({.from = kB, .flags = kSyn | kAck, .seq = 0});
    play({.from = kA});
  }

  WireOracle oracle;
  Instant now{1000s};
};

struct Case {
  std::string_view name;
  std::vector<Step> steps;  // after the handshake
  std::string_view violation;
};

void PrintTo(const Case& tested, std::ostream* out) { *out << tested.name; }

class WireOracleCase : public ::testing::TestWithParam<Case> {};

TEST_P(WireOracleCase, IsJudged) {
  Wire wire;
  wire.shake_hands();
  ASSERT_EQ(wire.oracle.violation(), "");
  for (const Step& step : GetParam().steps)
    wire.play(step);
  if (GetParam().violation.empty()) {
    EXPECT_EQ(wire.oracle.violation(), "");
  } else {
    EXPECT_THAT(wire.oracle.violation(), HasSubstr(std::string{GetParam().violation}));
  }
}

INSTANTIATE_TEST_SUITE_P(
    , WireOracleCase,
    ::testing::Values(
        Case{"TextAndItsAck", {{.text = 1000}, {.from = kB, .ack = 1001}}, ""},
        Case{"TextUpToTheEdge", {{.text = 10'000}}, ""},
        Case{"TextBeyondTheEdge", {{.text = 10'001}}, "goes beyond the window"},
        Case{"TextBeyondAnEdgeThatWasAnnouncedAndLost",
             {{.text = 10'000},
              {.from = kB, .ack = 10'001, .window = 20'000, .arrives = false},
              {.seq = 10'001, .text = 2}},
             "goes beyond the window"},
        Case{"AProbeOfOneByteBeyondTheEdge",
             {{.text = 10'000},
              {.from = kB, .ack = 10'001, .window = 0},
              {.seq = 10'001, .text = 1}},
             ""},
        Case{"AProbeOfTwoBytes",
             {{.text = 10'000},
              {.from = kB, .ack = 10'001, .window = 0},
              {.seq = 10'001, .text = 2}},
             "goes beyond the window"},
        Case{
            "AnEdgeThatMovesBackIsNotTakenBack",
            {{.text = 100}, {.from = kB, .ack = 101, .window = 5'000}, {.seq = 101, .text = 9'900}},
            ""},
        Case{"AFinAndItsRepetition",
             {{.flags = kFin | kAck, .text = 10}, {.flags = kFin | kAck, .text = 10}},
             ""},
        Case{"TextBehindTheFin",
             {{.flags = kFin | kAck, .text = 10}, {.seq = 11, .text = 1}},
             "text behind the FIN"},
        Case{"AFinThatMoves",
             {{.flags = kFin | kAck, .text = 10}, {.flags = kFin | kAck, .text = 5}},
             "the FIN has moved"},
        Case{"AFinInFrontOfText",
             {{.text = 100}, {.flags = kFin | kAck, .text = 50}},
             "a FIN in front of text"},
        Case{"AnAckOfWhatWasNeverSent", {{.from = kB, .ack = 2}}, "what was never sent"},
        Case{"AnAckAfterARst", {{.flags = kRst | kAck}, {}}, "sent after a RST"},
        Case{"ARstAfterARst", {{.flags = kRst | kAck}, {.flags = kRst}}, ""},
        Case{"FiveAcksForFiveSegments",
             {{.text = 100, .times = 5}, {.from = kB, .ack = 101, .times = 5}},
             ""},
        Case{"FiftyAcksForOneSegment",
             {{.text = 100}, {.from = kB, .ack = 101, .times = 50}},
             "ACKs without a cause"}),
    [](const auto& tested) { return std::string{tested.param.name}; });

TEST(WireOracle, NothingIsSentBeforeASyn) {
  Wire wire;
  wire.play({.from = kA, .flags = kAck});
  EXPECT_THAT(wire.oracle.violation(), HasSubstr("sent before a SYN"));
}

TEST(WireOracle, TextWaitsForTheHandshake) {
  Wire wire;
  wire.play({.from = kA, .flags = kSyn, .seq = 0});
  wire.play({.from = kA, .flags = 0, .text = 1});
  EXPECT_THAT(wire.oracle.violation(), HasSubstr("text before the handshake is over"));
}

TEST(WireOracle, MoreInFlightThanAnInitialWindowIsASlowStartThatWasNone) {
  Wire wire;
  wire.shake_hands();
  wire.play({.from = kB, .window = 65'535});
  for (std::uint32_t i = 0; i < 13; ++i)  // 14600, limited transmit's two and a tail loss probe
    wire.play({.seq = 1 + i * 1'400, .text = 1'400, .arrives = false});
  EXPECT_EQ(wire.oracle.violation(), "");
  wire.play({.seq = 1 + 13 * 1'400, .text = 1'400, .arrives = false});
  EXPECT_THAT(wire.oracle.violation(), HasSubstr("bytes in flight"));
}

TEST(WireOracle, MoreInFlightThanTheStacksOwnWindowIsFound) {
  Wire wire;
  wire.shake_hands();
  wire.play({.text = 1'000});
  wire.oracle.check_congestion(kA, 1, 2, 1'000);
  wire.play({.seq = 1'001, .text = 1'000});
  wire.play({.seq = 2'001, .text = 1'000});
  wire.oracle.check_congestion(kA, 1, 2, 1'000);  // two of them are limited transmit's
  EXPECT_EQ(wire.oracle.violation(), "");
  wire.play({.seq = 3'001, .text = 1'000});
  wire.oracle.check_congestion(kA, 1, 2, 1'000);
  EXPECT_THAT(wire.oracle.violation(), HasSubstr("the congestion window is 1000"));
}

TEST(WireOracle, AReaderWhoMakesRoomMustSaySo) {
  Wire wire;
  wire.shake_hands();
  wire.play({.text = 10'000});
  wire.play({.from = kB, .ack = 10'001, .window = 0});
  wire.oracle.check_window_told(kB, 2, 1, 0);
  EXPECT_EQ(wire.oracle.violation(), "");
  wire.play({.from = kB, .ack = 10'001, .window = 999, .arrives = false});  // it was said
  wire.oracle.check_window_told(kB, 2, 1, 999);
  EXPECT_EQ(wire.oracle.violation(), "");
  wire.oracle.check_window_told(kB, 2, 1, 1'000);
  EXPECT_THAT(wire.oracle.violation(), HasSubstr("has room for 1000 and has told of 999"));
}

TEST(WireOracle, WhoWaitsForAnAckIsNotSilentForLongerThanATimeOutCanBe) {
  Wire wire;
  wire.shake_hands();
  wire.play({.text = 100, .arrives = false});
  wire.now += 60s;
  wire.oracle.check_liveness(kA, 1, 2, wire.now);
  wire.play({.text = 100});
  wire.now += 60s;
  wire.play({.from = kB, .ack = 1, .window = 0});
  wire.now += 60s;
  wire.oracle.check_liveness(kA, 1, 2, wire.now);
  EXPECT_EQ(wire.oracle.violation(), "");
  wire.now += 2s;
  wire.oracle.check_liveness(kA, 1, 2, wire.now);
  EXPECT_THAT(wire.oracle.violation(), HasSubstr("silent for 62.0 s"));
}

TEST(WireOracle, ALossCostsATimeOutAndTwiceAsMuchWhenItIsRepeated) {
  Wire wire;
  wire.shake_hands();
  EXPECT_EQ(wire.oracle.time_outs(100), 0);
  wire.play({.text = 100, .arrives = false});
  EXPECT_EQ(wire.oracle.time_outs(100), 1);
  wire.play({.text = 100, .arrives = false, .times = 2});
  EXPECT_EQ(wire.oracle.time_outs(100), 1 + 2 + 4);
  EXPECT_EQ(wire.oracle.time_outs(3), 1 + 2 + 3);
  wire.play({.seq = 101, .text = 100, .arrives = false});
  EXPECT_EQ(wire.oracle.time_outs(100), 1 + 2 + 4 + 1);
}

TEST(WireOracle, ATimeOutThatHasDoubledLastsUntilASegmentThatWasSentOnceIsAcknowledged) {
  // RFC 6298, section 3: which of the sendings an ACK answers nobody knows.
  Wire wire;
  wire.shake_hands();
  EXPECT_FALSE(wire.oracle.syn_was_repeated());
  wire.play({.text = 100, .arrives = false, .times = 2});
  wire.play({.text = 100});
  wire.play({.from = kB, .ack = 101});
  EXPECT_EQ(wire.oracle.time_outs(100), 1 + 2);
  wire.play({.seq = 101, .text = 100, .arrives = false});
  EXPECT_EQ(wire.oracle.time_outs(100), 1 + 2 + 4);
  wire.play({.seq = 101, .text = 100});
  wire.play({.from = kB, .ack = 201});
  wire.play({.seq = 201, .text = 100});
  wire.play({.from = kB, .ack = 301});
  wire.play({.seq = 301, .text = 100, .arrives = false});
  EXPECT_EQ(wire.oracle.time_outs(100), 1 + 2 + 4 + 1);
}

TEST(WireOracle, ASynThatComesTwiceIsNoted) {
  Wire wire;
  wire.play({.from = kA, .flags = kSyn, .seq = 0, .arrives = false});
  EXPECT_FALSE(wire.oracle.syn_was_repeated());
  wire.shake_hands();
  EXPECT_TRUE(wire.oracle.syn_was_repeated());
}

}  // namespace
}  // namespace weir::testing
