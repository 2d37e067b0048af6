#include <string>

#include "tests/l7/tcp/transcript.h"

// Selective acknowledgments: what the receiver reports (RFC 2018, section 4; RFC 2883), and what
// the sender makes of reports (RFC 6675 without RACK, RFC 8985 with it, RFC 6937 for the pace).

namespace weir::tcp {
namespace {

// ---- the receiver -------------------------------------------------------------------------------

TEST(TcpSackBlocks, AreNotSentWithoutPermission) {
  // RFC 2018, section 2.
  expect_transcript(accepted(R"(
  20 in  . 101:201 ack 1
  20 out . 1:1 ack 1
)"));
}

TEST(TcpSackBlocks, TheFirstOneHoldsTheSegmentThatJustCame) {
  // RFC 2018, section 4: and the others follow, the most recently reported first.
  expect_transcript(accepted_sack(R"(
  20 in  . 101:201 ack 1
  20 out . 1:1 ack 1 sack 101-201
  21 in  . 301:401 ack 1
  21 out . 1:1 ack 1 sack 301-401 sack 101-201
  22 in  . 501:601 ack 1
  22 out . 1:1 ack 1 sack 501-601 sack 301-401 sack 101-201
  23 in  . 201:301 ack 1
  23 out . 1:1 ack 1 sack 101-401 sack 501-601
)"));
}

TEST(TcpSackBlocks, FourFitWithoutTimeStamps) {
  // RFC 2018, section 3: 40 bytes of options.
  expect_transcript(accepted_sack(R"(
  20 in  . 101:201 ack 1
  20 skip
  20 in  . 301:401 ack 1
  20 skip
  20 in  . 501:601 ack 1
  20 skip
  20 in  . 701:801 ack 1
  20 skip
  21 in  . 901:1001 ack 1
  21 out . 1:1 ack 1 sack 901-1001 sack 701-801 sack 501-601 sack 301-401
)"));
}

TEST(TcpSackBlocks, ThreeFitBesideTimeStamps) {
  // RFC 2018, section 3.
  expect_transcript(accepted_stamped("sackok", R"(
  20 in  . 101:201 ack 1 ts 20:0
  20 skip
  20 in  . 301:401 ack 1 ts 20:0
  20 skip
  20 in  . 501:601 ack 1 ts 20:0
  20 skip
  21 in  . 701:801 ack 1 ts 21:0
  21 out . 1:1 ack 1 ts *:* sack 701-801 sack 501-601 sack 301-401
)"));
}

TEST(TcpSackBlocks, RideOnDataToo) {
  // RFC 2018, section 4: on all ACKs that do not acknowledge the highest number received.
  expect_transcript(accepted_sack(R"(
  20 in  . 101:201 ack 1
  20 out . 1:1 ack 1 sack 101-201
  30 write 10
  30 out P. 1:11 ack 1 sack 101-201
  40 in  . 1:101 ack 11
  40 out . 11:11 ack 201
  41 news readable
)"));
}

TEST(TcpSackBlocks, OptionsOnLaterSegmentsDoNotPermitThem) {
  // RFC 2018, section 2: MUST NOT be sent on non-SYN segments, so there it says nothing.
  expect_transcript(accepted(R"(
  20 in  . 1:1 ack 1 sackok
  20 in  . 101:201 ack 1
  20 out . 1:1 ack 1
)"));
}

TEST(TcpDsack, ARepeatedSegmentIsReportedInTheFirstBlock) {
  // RFC 2883, section 4.1.1.
  expect_transcript(accepted_sack(R"(
  20 in  . 1:101 ack 1
  70 skip
  70 in  . 1:101 ack 1
  70 out . 1:1 ack 101 sack 1-101
  71 in  . 101:101 ack 1
  71 news readable
)"));
}

TEST(TcpDsack, TheRepeatedPartAloneIsReported) {
  // RFC 2883, section 4.2.1: part of the segment was new.
  expect_transcript(accepted_sack(R"(
  20 in  . 1:101 ack 1
  70 skip
  70 in  . 51:151 ack 1
  70-111 out . 1:1 ack 151 sack 51-101
 112 news readable
)"));
}

TEST(TcpDsack, ARepeatedSegmentAboveAGapIsFollowedByTheBlockThatHoldsIt) {
  // RFC 2883, section 4.1.3.
  expect_transcript(accepted_sack(R"(
  20 in  . 101:201 ack 1
  20 skip
  20 in  . 201:301 ack 1
  20 skip
  30 in  . 201:301 ack 1
  30 out . 1:1 ack 1 sack 201-301 sack 101-301
  40 in  . 301:401 ack 1
  40 out . 1:1 ack 1 sack 101-401
)"));
}

TEST(TcpDsack, ARepeatedSegmentBelowAGapIsFollowedByTheGapsBlock) {
  // RFC 2883, section 4.1.2.
  expect_transcript(accepted_sack(R"(
  20 in  . 1:101 ack 1
  20 skip
  20 in  . 201:301 ack 1
  21 skip
  30 in  . 1:101 ack 1
  30 out . 1:1 ack 101 sack 1-101 sack 201-301
  31 news readable
)"));
}

TEST(TcpDsack, IsReportedOnlyOnce) {
  // RFC 2883, section 4: each duplicate is reported at most once.
  expect_transcript(accepted_sack(R"(
  20 in  . 1:101 ack 1
  70 skip
  70 in  . 1:101 ack 1
  70 out . 1:1 ack 101 sack 1-101
  80 write 10
  80 out P. 1:11 ack 101
  90 in  . 101:101 ack 11
  90 news readable
)"));
}

TEST(TcpDsack, IsNotReportedWithoutPermission) {
  // RFC 2883, section 3: uses the option that RFC 2018 negotiates.
  expect_transcript(accepted(R"(
  20 in  . 1:101 ack 1
  70 skip
  70 in  . 1:101 ack 1
  70 out . 1:1 ack 101
  71 news readable
)"));
}

TEST(TcpSackBlocks, EarlyTextGivesWayToTheTextThatItWaitsFor) {
  // RFC 2018, section 8: the receiver may give up what it has reported. Of eight chunks of memory
  // six are full of what was written, and two of text behind gaps. The ACK does not wait.
  std::string quick;  // are the ACKs at the start of a connection
  for (unsigned i = 0; i < 20; ++i) {
    const std::string later = std::to_string(60 + i * 50);
    quick += std::to_string(10 + i * 50) + " in . " + std::to_string(1 + i * 10) + ":" +
             std::to_string(11 + i * 10) + " ack 1\n" + later + " skip\n" + later + " read 10\n";
  }
  expect_transcript("set buffer_pool_bytes 32768\n" + accepted_sack(quick + R"(
1080 write 24480
1080 skip
1081 in  . 5201:6201 ack 1
1081 out . 10001:10001 ack 201 sack 5201-6201
1082 in  . 9201:10201 ack 1
1082 out . 10001:10001 ack 201 sack 9201-10201 sack 5201-6201
1083 in  . 201:1201 ack 1
1083 out . 10001:10001 ack 1201
1083 count early_text_dropped 1
1084 read 1000
)"));
}

// ---- the sender ---------------------------------------------------------------------------------

TEST(TcpSackRecovery, OnlyTheHoleIsRepeated) {
  // RFC 6675, section 5.
  expect_transcript(accepted_sack("20 write 10000\n" + ten_segments(20) + R"(
  30 in  . 1:1 ack 1 sack 1001-4001
  30 out . 1:1001
  31 in  . 1:1 ack 1 sack 1001-10001
  40 in  . 1:1 ack 10001
 900 count retransmitted_segments 1
 900 count retransmission_timeouts 0
)"));
}

TEST(TcpSackRecovery, EveryHoleIsRepeatedWithinOneRoundTrip) {
  // RFC 6675, section 5, against one a round trip without SACK.
  expect_transcript(accepted_sack("20 write 10000\n" + ten_segments(20) + R"(
  30 in  . 1:1 ack 1 sack 1001-3001 sack 4001-6001 sack 7001-10001
  30-40 out . 1:1001
  30-40 out . 3001:4001
  30-40 out . 6001:7001
  50 in  . 1:1 ack 10001
 900 count retransmitted_segments 3
 900 count retransmission_timeouts 0
)"));
}

TEST(TcpSackRecovery, WithoutRackThreeSegmentsMustHaveOvertaken) {
  // RFC 6675, section 4, IsLost: DupThresh discontiguous blocks, or more than two segments' bytes.
  expect_transcript(accepted_sack("   set rack 0\n20 write 10000\n" + ten_segments(20) + R"(
  30 in  . 1:1 ack 1 sack 1001-2001
  40 in  . 1:1 ack 1 sack 1001-3001
  50 in  . 1:1 ack 1 sack 1001-4001
  50 out . 1:1001
  60 in  . 1:1 ack 10001
 900 count retransmitted_segments 1
 900 count fast_retransmits 1
)"));
}

TEST(TcpSackRecovery, ALostRetransmissionIsRepeatedWithoutATimeOut) {
  // RFC 8985, section 6.2, step 5: what was sent after the retransmission has arrived, and it has
  // not.
  expect_transcript(accepted_sack("20 write 12000\n" + ten_segments(20) + R"(
  30 in  . 1:1 ack 1 sack 1001-10001
  30 out . 1:1001
  30 out . 10001:11001
  30 out P. 11001:12001
  40 in  . 1:1 ack 1 sack 1001-12001
  40-55 out . 1:1001
  60 in  . 1:1 ack 12001
 900 count retransmission_timeouts 0
 900 count retransmitted_segments 2
)"));
}

TEST(TcpSackRecovery, ReportsOfWhatWasNeverSentOrLongAcknowledgedDoNothing) {
  // RFC 2018, section 5, with the caution of RFC 5961 for numbers: below and above what is in
  // flight.
  expect_transcript(accepted_sack(R"(
  20 write 3000
  20 out . 1:1001
  20 out . 1001:2001
  20 out P. 2001:3001
  30 in  . 1:1 ack 1001 sack 50000-60000
  31 in  . 1:1 ack 1001 sack -5000-1
  32 in  . 1:1 ack 1001 sack 3001-2001
  34 in  . 1:1 ack 3001
 900 count retransmitted_segments 0
)"));
}

TEST(TcpSackRecovery, APeerThatTakesItsReportBackIsServedAfterATimeOut) {
  // RFC 2018, section 8: the receiver may drop what it has reported; the sender keeps it until it
  // is acknowledged and after a time-out believes no report.
  expect_transcript(accepted_sack(R"(
  20 write 3000
  20 out . 1:1001
  20 out . 1001:2001
  20 out P. 2001:3001
  30 in  . 1:1 ack 1 sack 1001-3001
  30-40 out . 1:1001
  45 in  . 1:1 ack 1001
  45-700 out . 1001:2001
 701 skip
 710 in  . 1:1 ack 3001
9000 count connections 1
)"));
}

TEST(TcpSackRecovery, AfterATimeOutWhatWasReportedIsNotRepeatedWhenTheHoleIsFilled) {
  // RFC 6675, section 5.1, the end: the scoreboard of reports that arrive after the time-out
  // counts.
  expect_transcript(accepted_sack(R"(
   set rack 0
  20 write 4000
  20 out . 1:1001
  20 out . 1001:2001
  20 out . 2001:3001
  20 out P. 3001:4001
  30 in  . 1:1 ack 1 sack 3001-4001
 220 out . 1:1001
 230 in  . 1:1 ack 1001 sack 3001-4001
 231 skip
 240 in  . 1:1 ack 2001 sack 3001-4001
 241 skip
 250 in  . 1:1 ack 4001
 900 count retransmitted_segments 3
)"));
}

TEST(TcpPrr, TheWindowSinksToCubicsShareWithoutABurst) {
  // RFC 6937, section 3; RFC 9438, section 4.6: nine of ten segments have arrived, so seven may be
  // in flight: the hole and six new ones.
  expect_transcript(
      accepted_sack("   set congestion cubic\n20 write 30000\n" + ten_segments(20) + R"(
  30 in  . 1:1 ack 1 sack 1001-10001
  30 out . 1:1001
  30 out . 10001:11001
  30 out . 11001:12001
  30 out . 12001:13001
  30 out . 13001:14001
  30 out . 14001:15001
  30 out . 15001:16001
  35 abort
  35 out R. 16001:16001
)"));
}

TEST(TcpPrr, TheWindowSinksToHalfWithNewReno) {
  // RFC 5681, section 3.1, equation 4: half of what was in flight: the hole and four new ones.
  expect_transcript(accepted_sack("   set congestion newreno\n20 write 30000\n" + ten_segments(20) +
                                  R"(
  30 in  . 1:1 ack 1 sack 1001-10001
  30 out . 1:1001
  30 out . 10001:11001
  30 out . 11001:12001
  30 out . 12001:13001
  30 out . 13001:14001
  35 abort
  35 out R. 14001:14001
)"));
}

TEST(TcpPrr, OneLeavesForEachThatArrivesWhileThePipeIsBelowTheThreshold) {
  // RFC 6937, section 3, with either reduction bound: six are in flight and seven may be.
  expect_transcript(
      accepted_sack("   set congestion cubic\n20 write 30000\n" + ten_segments(20) + R"(
  30 in  . 1:1 ack 1 sack 1001-4001
  30 out . 1:1001
  31 in  . 1:1 ack 1 sack 1001-5001
  31 out . 10001:11001
  32 in  . 1:1 ack 1 sack 1001-6001
  32 out . 11001:12001
  33 abort
  33 out R. 12001:12001
)"));
}

TEST(TcpDuplicateSack, ThatExplainsEveryRepetitionTakesTheRepairBack) {
  // RFC 3708, section 3: on an ACK alone, and with text of a peer who is waited for by nobody.
  for (const std::string news :
       {"231 in . 1:1 ack 1001 sack 1-1001\n", "231 in P. 1:101 ack 1001 sack 1-1001\n231 skip\n"})
    expect_transcript(accepted_sack(R"(
  set rack 0
  20 write 1000
  20 out P. 1:1001
 220 out P. 1:1001
 230 in  . 1:1 ack 1001
 230 count spurious_repairs 0
)" + news + " 231 count spurious_repairs 1\n"));
}

TEST(TcpSackedSegments, EndABackoffIfTheyWereSentOnce) {
  // RFC 6298, section 5.7, with section 3 (Karn): a SACK says when a segment that was sent once has
  // arrived, and that is a sample, even while the first hole is open and repeated.
  expect_transcript(accepted_sack(R"(
  20 write 1000
  20 out P. 1:1001
  90 out P. 1:1001              # the tail probe
 290 out P. 1:1001
 690 out P. 1:1001
 700 in  . 1:1 ack 1001         # of which sending? no sample, and the next time-out is 800 ms
 800 write 2000
 800 out . 1001:2001
 800 out P. 2001:3001
 810 in  . 1:1 ack 1001 sack 2001-3001
 812 out . 1001:2001
1000-1030 out . 1001:2001
1040 in  . 1:1 ack 3001
)"));
}

}  // namespace
}  // namespace weir::tcp
