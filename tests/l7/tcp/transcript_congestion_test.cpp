#include <fmt/format.h>

#include <string>

#include "tests/l7/tcp/transcript.h"

// How much may be in flight: RFC 5681, RFC 6928, RFC 3465, RFC 6582, RFC 9438. None of these
// connections has SACK: what SACK and RACK add is in transcript_sack_test.cpp and
// transcript_rack_test.cpp.

namespace weir::tcp {
namespace {

/// Five ACKs of two segments each for ten_segments(20), at 30 ms, and the ten segments that follow
/// them when 30000 bytes had been written: a window of twenty in slow start.
std::string twenty_in_flight() {
  std::string lines = "20 write 30000\n" + ten_segments(20);
  unsigned next = 10001;
  for (unsigned acked = 2001; acked <= 10001; acked += 2000) {
    lines += fmt::format("30 in . 1:1 ack {}\n", acked);
    for (int i = 0; i < 4; ++i, next += 1000)
      lines += fmt::format("30 out . {}:{}\n", next, next + 1000);
  }
  return lines;
}

TEST(TcpCongestion, SlowStartDoublesEachRoundTrip) {
  // RFC 5681, section 3.1, counting bytes (RFC 3465): an ACK of two lets four go.
  expect_transcript(accepted(twenty_in_flight() + "35 abort\n35 out R. 30001:30001\n"));
}

TEST(TcpCongestion, AnAckOfOneSegmentLetsTwoGo) {
  // RFC 5681, section 3.1: cwnd += min(N, SMSS).
  expect_transcript(accepted("20 write 20000\n" + ten_segments(20) + R"(
  30 in  . 1:1 ack 1001
  30 out . 10001:11001
  30 out . 11001:12001
  35 abort
  35 out R. 12001:12001
)"));
}

TEST(TcpCongestion, AcksOfSingleBytesDoNotMakeTheWindowGrowBySegments) {
  // RFC 3465, section 2.2: bytes are counted, so that a receiver who splits ACKs gains nothing: ten
  // ACKs for one segment open the window by one.
  expect_transcript(accepted("20 write 20000\n" + ten_segments(20) + R"(
  30 in  . 1:1 ack 101
  30 in  . 1:1 ack 201
  30 in  . 1:1 ack 301
  30 in  . 1:1 ack 401
  30 in  . 1:1 ack 501
  30 out . 10001:11001
  31 in  . 1:1 ack 1001
  31 out . 11001:12001
  35 abort
  35 out R. 12001:12001
)"));
}

TEST(TcpCongestion, OneHugeAckOpensTheWindowByEightSegmentsOnly) {
  // RFC 9406, section 4.3: L = 8 without pacing, so that lost ACKs do not cause a burst: ten and
  // eight, not twenty.
  std::string lines = "20 write 40000\n" + ten_segments(20) + "30 in . 1:1 ack 10001\n";
  for (unsigned first = 10001; first < 28001; first += 1000)
    lines += fmt::format("30 out . {}:{}\n", first, first + 1000);
  expect_transcript(accepted(lines + "35 abort\n35 out R. 28001:28001\n"));
}

TEST(TcpCongestion, TheInitialWindowIsTenSegments) {
  // RFC 6928, section 2: min(10 MSS, max(2 MSS, 14600)), which is ten of 1460 bytes.
  expect_transcript_v4(R"(
   0 listen
   0 in  S 0:0 mss 1460
   0 out S. 0:0 ack 1
  10 in  . 1:1 ack 1
  10 news accepted
  20 write 20000
  20 out . 1:1461
  20 out . 1461:2921
  20 out . 2921:4381
  20 out . 4381:5841
  20 out . 5841:7301
  20 out . 7301:8761
  20 out . 8761:10221
  20 out . 10221:11681
  20 out . 11681:13141
  20 out . 13141:14601
  25 abort
  25 out R. 14601:14601
)");
}

TEST(TcpCongestion, AfterALostSynTheWindowBeginsSmall) {
  // RFC 5681, section 3.1: IW of one segment when the SYN or its answer was lost; RFC 6928, section
  // 2, lets one loss pass and reduces after more. Two were lost here.
  expect_transcript(R"(
    0 connect
    0 out S 0:0
 1000 out S 0:0
 2900 in  S. 0:0 ack 1 mss 1000
 2900 out . 1:1 ack 1
 2900 news connected
 2900 write 1000
 2900 out P. 1:1001
 2910 in  . 1:1 ack 1001
)");
}

TEST(TcpCongestion, AfterTwoLostAnswersOneSegmentGoesFirst) {
  // RFC 5681, section 3.1.
  expect_transcript(R"(
    0 listen
    0 in  S 0:0 mss 1000
    0 out S. 0:0 ack 1
 1000 out S. 0:0 ack 1
 3000 out S. 0:0 ack 1
 3010 in  . 1:1 ack 1
 3010 news accepted
 3020 write 5000
 3020 out . 1:1001
 3030 in  . 1:1 ack 1001
 3030 out . 1001:2001
 3030 out . 2001:3001
 3035 abort
 3035 out R. 3001:3001
)");
}

TEST(TcpCongestion, AfterAPauseTheWindowRestartsAtItsBeginning) {
  // RFC 5681, section 4.1: restart window min(IW, cwnd) when nothing was sent for longer than RTO.
  expect_transcript(accepted(twenty_in_flight() + R"(
  40 in  . 1:1 ack 30001
2000 write 30000
2000 out . 30001:31001
2000 out . 31001:32001
2000 out . 32001:33001
2000 out . 33001:34001
2000 out . 34001:35001
2000 out . 35001:36001
2000 out . 36001:37001
2000 out . 37001:38001
2000 out . 38001:39001
2000 out . 39001:40001
2005 abort
2005 out R. 40001:40001
)"));
}

TEST(TcpCongestion, AWindowThatIsNotUsedDoesNotGrow) {
  // RFC 9438, section 5.8; RFC 7661, section 1: one segment per round trip says nothing about
  // twenty.
  std::string lines;
  for (unsigned i = 0; i < 20; ++i)
    lines += fmt::format("{0} write 1000\n{0} out P. {1}:{2}\n{3} in . 1:1 ack {2}\n", 20 + 20 * i,
                         1 + 1000 * i, 1001 + 1000 * i, 30 + 20 * i);
  expect_transcript(accepted(lines + R"(
 440 write 30000
 440 out . 20001:21001
 440 out . 21001:22001
 440 out . 22001:23001
 440 out . 23001:24001
 440 out . 24001:25001
 440 out . 25001:26001
 440 out . 26001:27001
 440 out . 27001:28001
 440 out . 28001:29001
 440 out . 29001:30001
 445 abort
 445 out R. 30001:30001
)"));
}

TEST(TcpCongestion, ATimeOutLeavesOneSegmentAndSlowStart) {
  // RFC 5681, section 3.1: LW of one segment; then it grows again, by one for each ACK (RFC 3465,
  // section 2.3: L = 1 after a time-out).
  expect_transcript(accepted("20 write 10000\n" + ten_segments(20) + R"(
 220 out . 1:1001
 230 in  . 1:1 ack 1001
 230 out . 1001:2001
 230 out . 2001:3001
 240 in  . 1:1 ack 2001
 240 out . 3001:4001
 240 out . 4001:5001
 250 in  . 1:1 ack 10001
 900 count retransmission_timeouts 1
)"));
}

TEST(TcpNewReno, APartialAckRepeatsTheNextHoleAndTheWindowEndsAtTheThreshold) {
  // RFC 6582, section 3.2, step 3: half of ten segments after the recovery.
  expect_transcript(accepted("   set congestion newreno\n20 write 30000\n" + ten_segments(20) + R"(
  30 in  . 1:1 ack 1
  30 out . 10001:11001
  31 in  . 1:1 ack 1
  31 out . 11001:12001
  32 in  . 1:1 ack 1
  32 out . 1:1001
  40 in  . 1:1 ack 3001
  40 out . 3001:4001
  41 skip
  50 in  . 1:1 ack 12001
  51 skip
  60 abort
  60 skip
  60 count fast_retransmits 1
  60 count retransmitted_segments 2
)"));
}

TEST(TcpNewReno, DuplicatesBelowTheRecoveryPointStartNoSecondRecovery) {
  // RFC 6582, section 3.2, step 2: they must acknowledge more than "recover".
  expect_transcript(accepted("20 write 10000\n" + ten_segments(20) + R"(
  30 in  . 1:1 ack 1
  30 in  . 1:1 ack 1
  30 in  . 1:1 ack 1
  30 out . 1:1001
  40 in  . 1:1 ack 9001
  40 out . 9001:10001
  41 in  . 1:1 ack 9001
  41 in  . 1:1 ack 9001
  41 in  . 1:1 ack 9001
  41 in  . 1:1 ack 9001
  50 in  . 1:1 ack 10001
 900 count fast_retransmits 1
)"));
}

TEST(TcpLimitedTransmit, TheFirstTwoDuplicatesSendOneNewSegmentEach) {
  // RFC 3042, section 2: and do not change the window.
  expect_transcript(accepted("20 write 30000\n" + ten_segments(20) + R"(
  30 in  . 1:1 ack 1
  30 out . 10001:11001
  31 in  . 1:1 ack 1
  31 out . 11001:12001
  40 in  . 1:1 ack 2001
  41 skip
  45 abort
  45 skip
  45 count retransmitted_segments 0
)"));
}

TEST(TcpLimitedTransmit, IsBoundByThePeersWindow) {
  // RFC 3042, section 2, the first condition.
  expect_transcript(accepted(R"(
  15 in  . 1:1 ack 1 win 3000
  20 write 6000
  20 out . 1:1001
  20 out . 1001:2001
  20 out . 2001:3001
  30 in  . 1:1 ack 1 win 3000
  31 in  . 1:1 ack 1 win 3000
  40 in  . 1:1 ack 3001
  40 out . 3001:4001
  40 out . 4001:5001
  40 out P. 5001:6001
  50 in  . 1:1 ack 6001
)"));
}

TEST(TcpCubic, SevenTenthsRemainAfterALoss) {
  // RFC 9438, section 4.6. Without SACK: after the recovery seven segments are in flight.
  expect_transcript(accepted("   set congestion cubic\n20 write 10000\n" + ten_segments(20) + R"(
  30 in  . 1:1 ack 1
  31 in  . 1:1 ack 1
  32 in  . 1:1 ack 1
  32 out . 1:1001
  45 in  . 1:1 ack 10001
  50 write 30000
  50 out . 10001:11001
  50 out . 11001:12001
  50 out . 12001:13001
  50 out . 13001:14001
  50 out . 14001:15001
  50 out . 15001:16001
  50 out . 16001:17001
  55 abort
  55 out R. 17001:17001
)"));
}

TEST(TcpFrto, TwoAcksOfUnrepeatedSegmentsShowThatTheTimeOutWasWrong) {
  // RFC 5682, section 2.1: after the first ACK new segments are sent instead of old ones, and the
  // second one, which is for what was not repeated, ends the matter.
  expect_transcript(accepted("20 write 12000\n" + ten_segments(20) + R"(
 220 out . 1:1001
 230 in  . 1:1 ack 2001
 230 out . 10001:11001
 230 out P. 11001:12001
 240 in  . 1:1 ack 4001
 241 skip
 250 in  . 1:1 ack 12001
 900 count retransmitted_segments 1
)"));
}

TEST(TcpFrto, ADuplicateAfterTheTimeOutMeansLoss) {
  // RFC 5682, section 2.1, step 2a and 3a: then it is repeated as ever.
  expect_transcript(accepted("20 write 10000\n" + ten_segments(20) + R"(
 220 out . 1:1001
 230 in  . 1:1 ack 1
 240 in  . 1:1 ack 1001
 240-241 out . 1001:2001
 241 skip
 250 in  . 1:1 ack 10001
)"));
}

}  // namespace
}  // namespace weir::tcp
