#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "tests/support/tcp_script.h"

// Each transcript is one behaviour. The language is described in tests/support/tcp_script.h.

namespace weir::tcp {
namespace {

using std::chrono::seconds;

/// Small tables: a test makes eight stacks.
StackOptions small() {
  StackOptions options;
  options.connections_max = 16;
  options.time_wait_max = 16;
  options.buffer_pool_bytes = 4 * 1024 * 1024;
  return options;
}

/// Every transcript holds in both families and wherever the sequence numbers start.
void expect_transcript(std::string_view script, const StackOptions& options = small()) {
  testing::ScriptSetting setting;
  setting.options = options;
  EXPECT_EQ(testing::play_tcp_script(script, setting), "");
  setting.family = wire::Family::kIpv6;
  setting.stack_isn = 0x7ffffff0;
  setting.peer_isn = 0x00001000;
  EXPECT_EQ(testing::play_tcp_script(script, setting), "");
}

/// A connection that the peer has opened, at 10 ms; MSS 1000, so that numbers are easy to read.
std::string accepted(std::string_view rest) {
  return std::string{R"(
   0 listen
   0 in  S 0:0 mss 1000
   0 out S. 0:0 ack 1
  10 in  . 1:1 ack 1
  10 news accepted
)"} + std::string{rest};
}

// ---- handshake ----------------------------------------------------------------------------------

TEST(TcpHandshake, APassiveOpenIsReportedOnceTheThirdSegmentArrives) {
  expect_transcript(R"(
   0 listen
   0 in  S 0:0 mss 1000 ws 7 sackok
   0 out S. 0:0 ack 1 win 65535 ws 3 sackok
   0 count half_open 1
  10 news none
  10 in  . 1:1 ack 1 win 100
  10 news accepted
  10 count half_open 0
  10 count connections 1
)");
}

TEST(TcpHandshake, OptionsThatThePeerDoesNotOfferAreNotConfirmed) {
  testing::ScriptSetting setting;
  setting.options = small();
  EXPECT_EQ(testing::play_tcp_script(R"(
   0 listen
   0 in  S 0:0
   0 out S. 0:0 ack 1 win 65535 mss 1460
  10 in  . 1:1 ack 1
  10 news accepted
  10 write 1000              # without an MSS option it is 536 (RFC 9293, section 3.7.1)
  10 out . 1:537 ack 1 win 65535
  10 out P. 537:1001 ack 1
  20 in . 1:1 ack 1001
)",
                                     setting),
            "");
  setting.family = wire::Family::kIpv6;
  EXPECT_EQ(testing::play_tcp_script(R"(
   0 listen
   0 in  S 0:0
   0 out S. 0:0 ack 1 mss 1440
  10 in  . 1:1 ack 1
  10 news accepted
  10 write 1300
  10 out . 1:1221 ack 1
  10 out P. 1221:1301 ack 1
  20 in . 1:1 ack 1301
)",
                                     setting),
            "");
}

TEST(TcpHandshake, TheScaledWindowOfThePeerIsUsed) {
  expect_transcript(R"(
   0 listen
   0 in  S 0:0 mss 1000 ws 2 win 1000
   0 out S. 0:0 ack 1
  10 in  . 1:1 ack 1 win 500     # 2000 bytes
  10 news accepted
  10 write 3000
  10 out . 1:1001 ack 1
  10 out . 1001:2001 ack 1
  20 in  . 1:1 ack 2001 win 500
  20 out P. 2001:3001 ack 1
  30 in  . 1:1 ack 3001 win 500
)");
}

TEST(TcpHandshake, AnActiveOpenCompletesWithTheAnswer) {
  expect_transcript(R"(
   0 connect
   0 out S 0:0 win 65535 ws 3 sackok
   5 in  S. 0:0 ack 1 mss 1000 ws 7
   5 out . 1:1 ack 1
   5 news connected
   5 count connected 1
)");
}

TEST(TcpHandshake, AnUnansweredSynIsRepeatedUntilTheConnectTimeOut) {
  expect_transcript(R"(
    0 connect
    0 out S 0:0
 1000 out S 0:0
 2999 news none
 3001 news reset
 3001 failure timed-out
 3001 count failed_connects 1
 3001 release
 3001 gone
60000 count connections 0
)");
}

TEST(TcpHandshake, ARefusedConnectSaysSo) {
  expect_transcript(R"(
   0 connect
   0 out S 0:0
   5 in  R. 0:0 ack 1
   5 news reset
   5 failure refused
   5 count resets_received 1
   5 release
   5 gone
)");
}

TEST(TcpHandshake, AResetWithoutOrWithAForeignAckDoesNotRefuseAConnect) {
  expect_transcript(R"(
   0 connect
   0 out S 0:0
   5 in  R 0:0
   5 in  R. 0:0 ack 2
   5 in  R. 0:0 ack 0
   5 news none
  10 in  S. 0:0 ack 1
  10 out . 1:1 ack 1
  10 news connected
)");
}

TEST(TcpHandshake, AnAnswerToAnotherConnectIsReset) {
  expect_transcript(R"(
   0 connect
   0 out S 0:0
   5 in  S. 0:0 ack 100
   5 out R 100:100
   6 in  . 0:0 ack 0
   6 out R 0:0
  10 in  S. 0:0 ack 1
  10 out . 1:1 ack 1
  10 news connected
)");
}

TEST(TcpHandshake, ALostAnswerIsRepeatedForARepeatedSynAndByTime) {
  expect_transcript(R"(
    0 listen
    0 in  S 0:0
    0 out S. 0:0 ack 1
  500 in  S 0:0
  500 out S. 0:0 ack 1
 1500 out S. 0:0 ack 1
 1600 in  . 1:1 ack 1
 1600 news accepted
 1600 count half_open 0
)");
}

TEST(TcpHandshake, AHalfOpenConnectionIsForgottenAfterFiveRepetitions) {
  expect_transcript(R"(
     0 listen
     0 in  S 0:0
     0 out S. 0:0 ack 1
  1000 out S. 0:0 ack 1
  3000 out S. 0:0 ack 1
  7000 out S. 0:0 ack 1
 15000 out S. 0:0 ack 1
 31000 out S. 0:0 ack 1
 62900 count half_open 1
 63100 count half_open 0
 63100 count connections 0
 63100 news none
)");
}

TEST(TcpHandshake, AWrongAckOfOurSynIsResetAndTheRightOneStillCounts) {
  expect_transcript(R"(
   0 listen
   0 in  S 0:0
   0 out S. 0:0 ack 1
   5 in  . 1:1 ack 7
   5 out R 7:7
   6 in  . 1:1 ack 0
   6 out R 0:0
  10 in  . 1:1 ack 1
  10 news accepted
)");
}

TEST(TcpHandshake, AResetEndsAHalfOpenConnectionSilently) {
  expect_transcript(R"(
   0 listen
   0 in  S 0:0
   0 out S. 0:0 ack 1
   5 in  R 1:1
   5 count half_open 0
   5 count connections 0
   5 news none
)");
}

TEST(TcpHandshake, AFullBacklogDropsTheSynAndCountsIt) {
  StackOptions options = small();
  options.half_open_max = 1;
  expect_transcript(R"(
   0 listen
   0 in  S 0:0
   0 out S. 0:0 ack 1
   1 peer 40001
   1 in  S 0:0
   1 count dropped_backlog 1
   2 peer 40000
   2 in  . 1:1 ack 1
   2 news accepted
   3 peer 40001
   3 in  S 0:0
   3 out S. 0:0 ack 1
)",
                    options);
}

TEST(TcpHandshake, WithAllConnectionsInUseASynIsDroppedAndCounted) {
  StackOptions options = small();
  options.connections_max = 1;
  expect_transcript(R"(
   0 listen
   0 in  S 0:0
   0 out S. 0:0 ack 1
   2 in  . 1:1 ack 1
   2 news accepted
   3 peer 40001
   3 in  S 0:0
   3 count dropped_no_memory 1
)",
                    options);
}

TEST(TcpHandshake, ASegmentToAClosedPortIsReset) {
  testing::ScriptSetting setting;
  setting.options = small();
  setting.stack_isn = 0;  // a SYN has no ACK from which our number could be taken: it is 0
  EXPECT_EQ(testing::play_tcp_script(R"(
   0 in  S 0:0
   0 out R. 0:0 ack 1
   1 in  P. 5:15 ack 9
   1 out R 9:9
   2 in  FP 5:15
   2 out R. 0:0 ack 16
   3 in  R. 5:5 ack 9
   3 in  R 5:5
   3 count resets_sent 3
)",
                                     setting),
            "");
}

TEST(TcpHandshake, SimultaneousOpensMeet) {
  expect_transcript(R"(
   0 connect
   0 out S 0:0
   5 in  S 0:0 mss 1000
   5 out S. 0:0 ack 1
  10 in  S. 0:0 ack 1
  10 news connected
  10 write 10
  10 out P. 1:11 ack 1
  20 in  P. 1:5 ack 11
  20 news readable
  60 out . 11:11 ack 5
)");
}

TEST(TcpHandshake, ASimultaneousOpenAlsoEndsWithAPlainAck) {
  expect_transcript(R"(
   0 connect
   0 out S 0:0
   5 in  S 0:0
   5 out S. 0:0 ack 1
  10 in  . 1:1 ack 1
  10 news connected
  10 count half_open 0
)");
}

TEST(TcpHandshake, TextWithTheThirdSegmentIsRead) {
  expect_transcript(R"(
   0 listen
   0 in  S 0:0
   0 out S. 0:0 ack 1
   5 in  P. 1:101 ack 1
   5 news accepted readable
   5 read 100
  45 out . 1:1 ack 101
)");
}

TEST(TcpHandshake, WhenTheThirdSegmentIsLostTextCompletesTheHandshake) {
  expect_transcript(R"(
   0 listen
   0 in  S 0:0
   0 out S. 0:0 ack 1
   5 in  . 101:201 ack 1
   5 out . 1:1 ack 1
   5 news accepted
   6 in  . 1:101 ack 1
   6 out . 1:1 ack 201
   6 news readable
   6 read 200
)");
}

TEST(TcpHandshake, AfterStopListeningOpenConnectionsStayAndNewOnesAreRefused) {
  expect_transcript(accepted(R"(
  20 unlisten
  20 in  P. 1:11 ack 1
  20 news readable
  60 out . 1:1 ack 11
  70 peer 40001
  70 in  . 0:0 ack 5
  70 out R 5:5
)"));
}

// ---- data ---------------------------------------------------------------------------------------

TEST(TcpData, EverySecondSegmentIsAcknowledgedAtOnceAndASingleOneWithin40Ms) {
  expect_transcript(accepted(R"(
  20 in  . 1:1001 ack 1
  21 in  . 1001:2001 ack 1
  21 out . 1:1 ack 2001
  30 in  . 2001:3001 ack 1
  70 out . 1:1 ack 3001
  70 news readable
)"));
}

TEST(TcpData, AnAckRidesOnData) {
  expect_transcript(accepted(R"(
  20 in  P. 1:101 ack 1
  20 write 300
  20 out P. 1:301 ack 101
 100 in  . 101:101 ack 301
 200 news readable
)"));
}

TEST(TcpData, WritesAreCutIntoSegmentsAndTheLastOneIsPushed) {
  expect_transcript(accepted(R"(
  20 write 2500
  20 out . 1:1001 ack 1
  20 out . 1001:2001 ack 1
  20 out P. 2001:2501 ack 1
  30 in  . 1:1 ack 2501
)"));
}

TEST(TcpData, TheInitialWindowIsTenSegmentsAndGrowsWithEachAck) {
  expect_transcript(accepted(R"(
  20 write 30000
  20 out . 1:1001
  20 out . 1001:2001
  20 out . 2001:3001
  20 out . 3001:4001
  20 out . 4001:5001
  20 out . 5001:6001
  20 out . 6001:7001
  20 out . 7001:8001
  20 out . 8001:9001
  20 out . 9001:10001
  30 in  . 1:1 ack 2001
  30 out . 10001:11001
  30 out . 11001:12001
  30 out . 12001:13001
  30 out . 13001:14001
  40 abort
  40 out R. 14001:14001
)"));
}

TEST(TcpData, OverlapAndRepetitionAreReadOnce) {
  expect_transcript(accepted(R"(
  20 in  . 1:101 ack 1
  20 in  . 51:151 ack 1
  20 out . 1:1 ack 151
  30 in  . 1:151 ack 1
  30 out . 1:1 ack 151
  30 count duplicate_segments 1
  30 read 150
  30 count bytes_received 150
)"));
}

TEST(TcpData, TextOutOfOrderIsAckedAtOnceWithSackBlocksAndReadInOrder) {
  expect_transcript(R"(
   0 listen
   0 in  S 0:0 mss 1000 sackok
   0 out S. 0:0 ack 1
  10 in  . 1:1 ack 1
  10 news accepted
  20 in  . 101:201 ack 1
  20 out . 1:1 ack 1 sack 101-201
  21 in  . 301:401 ack 1
  21 out . 1:1 ack 1 sack 301-401 sack 101-201
  22 in  . 201:251 ack 1
  22 out . 1:1 ack 1 sack 101-251 sack 301-401
  22 news none
  23 in  . 1:101 ack 1
  23 out . 1:1 ack 251 sack 301-401
  23 news readable
  23 read 250
  24 in  . 251:301 ack 1
  24 out . 1:1 ack 401
  24 news readable
  24 read 150
  24 count out_of_order_segments 3
)");
}

TEST(TcpData, TextBeyondTheWindowIsCutOffAndAcked) {
  StackOptions options = small();
  options.receive_buffer_bytes = 1000;
  expect_transcript(accepted(R"(
  20 in  . 1:1201 ack 1
  20 out . 1:1 ack 1001 win 0
  20 in  . 1201:1301 ack 1
  20 out . 1:1 ack 1001 win 0
  20 news readable
  20 read 1000
  20 out . 1:1 ack 1001 win 1000
)"),
                    options);
}

TEST(TcpData, AnAckOfWhatWasNeverSentIsChallengedAndItsTextIgnored) {
  expect_transcript(accepted(R"(
  20 in  . 1:101 ack 500
  20 out . 1:1 ack 1
  20 count challenge_acks 1
  20 news none
)"));
}

TEST(TcpData, ABlindlyInjectedOldAckIsChallengedOnceIn500Ms) {
  expect_transcript(accepted(R"(
  20 in  . 1:101 ack 4294800000
  20 out . 1:1 ack 1
  21 in  . 1:101 ack 4294800000
  300 in  . 1:101 ack 4294800000
  521 in  . 1:101 ack 4294800000
  521 out . 1:1 ack 1
  521 count challenge_acks 2
  521 news none
)"));
}

TEST(TcpData, SegmentsWithoutAckAreIgnored) {
  expect_transcript(accepted(R"(
  20 in  P 1:101
  90 news none
)"));
}

TEST(TcpData, ABufferLimitCutsTheWriteAndItsReopeningIsReported) {
  StackOptions options = small();
  options.send_buffer_bytes = 2000;
  expect_transcript(accepted(R"(
  20 write 3000
  20 wrote 2000
  20 out . 1:1001
  20 out P. 1001:2001
  30 in  . 1:1 ack 901
  30 news none
  31 in  . 1:1 ack 2001
  31 news writable
)"),
                    options);
}

TEST(TcpData, WithoutPacketBuffersSendingIsTriedAgain) {
  expect_transcript(accepted(R"(
  20 buffers off
  20 write 100
  25 buffers on
  25 out P. 1:101 ack 1
  30 in  . 1:1 ack 101
)"));
}

// ---- loss ---------------------------------------------------------------------------------------

TEST(TcpLoss, UnacknowledgedDataIsRepeatedWithADoublingTimeOut) {
  expect_transcript(accepted(R"(
  10 write 100
  10 out P. 1:101 ack 1
 210 out P. 1:101 ack 1
 610 out P. 1:101 ack 1
1410 out P. 1:101 ack 1
1500 in  . 1:1 ack 101
1500 count retransmission_timeouts 3
1500 count retransmitted_segments 3
1500 count bytes_sent 100
9000 news none
)"));
}

TEST(TcpLoss, TheBackoffEndsOnlyWithASampleFromASegmentSentOnce) {
  expect_transcript(accepted(R"(
   10 write 100
   10 out P. 1:101
  210 out P. 1:101
  610 out P. 1:101
  620 in  . 1:1 ack 101        # of which transmission? no sample (Karn)
  700 write 100
  700 out P. 101:201
 1500 out P. 101:201           # 800 ms, still
 1510 in  . 1:1 ack 201
 1600 write 100
 1600 out P. 201:301
 1610 in  . 1:1 ack 301        # a sample
 1700 write 100
 1700 out P. 301:401
 1900 out P. 301:401
 1910 in  . 1:1 ack 401
)"));
}

TEST(TcpLoss, AfterATimeOutSendingStartsAgainAtTheFirstHoleWithOneSegment) {
  expect_transcript(accepted(R"(
  20 write 3000
  20 out . 1:1001
  20 out . 1001:2001
  20 out P. 2001:3001
 220 out . 1:1001
 230 in  . 1:1 ack 1001
 230 out . 1001:2001
 230 out P. 2001:3001
 240 in  . 1:1 ack 3001
 240 count retransmission_timeouts 1
 240 count retransmitted_segments 3
)"));
}

TEST(TcpLoss, TheTimerRestartsOnlyWhenSomethingNewIsAcknowledged) {
  expect_transcript(accepted(R"(
  20 write 2000
  20 out . 1:1001
  20 out P. 1001:2001
 100 in  . 1:1 ack 1
 120 in  . 1:1 ack 1
 220 out . 1:1001
 250 in  . 1:1 ack 2001
)"));
}

TEST(TcpLoss, ThreeDuplicateAcksRepeatTheFirstSegmentAndTwoSendNewOnes) {
  expect_transcript(accepted(R"(
  20 write 14000
  20 out . 1:1001
  20 out . 1001:2001
  20 out . 2001:3001
  20 out . 3001:4001
  20 out . 4001:5001
  20 out . 5001:6001
  20 out . 6001:7001
  20 out . 7001:8001
  20 out . 8001:9001
  20 out . 9001:10001
  30 in  . 1:1 ack 1
  30 out . 10001:11001        # limited transmit
  31 in  . 1:1 ack 1
  31 out . 11001:12001
  32 in  . 1:1 ack 1
  32 out . 1:1001             # fast retransmit
  33 in  . 1:1 ack 1          # cwnd 6000 + 3000 + 1000: still below the flight of 12000
  34 in  . 1:1 ack 1
  35 in  . 1:1 ack 1
  36 in  . 1:1 ack 1          # 13000
  36 out . 12001:13001
  40 in  . 1:1 ack 12001
  40 out P. 13001:14001
  50 in  . 1:1 ack 14001
  50 count fast_retransmits 1
  50 count retransmission_timeouts 0
  50 count retransmitted_segments 1
)"));
}

TEST(TcpLoss, APartialAckRepeatsTheNextHoleWithoutWaiting) {
  expect_transcript(accepted(R"(
  20 write 6000
  20 out . 1:1001
  20 out . 1001:2001
  20 out . 2001:3001
  20 out . 3001:4001
  20 out . 4001:5001
  20 out P. 5001:6001
  30 in  . 1:1 ack 1
  30 in  . 1:1 ack 1
  30 in  . 1:1 ack 1
  30 out . 1:1001
  40 in  . 1:1 ack 2001       # 2001:3001 was lost as well
  40 out . 2001:3001
  50 in  . 1:1 ack 6001
  50 count fast_retransmits 1
  50 count retransmitted_segments 2
)"));
}

TEST(TcpLoss, DuplicatesAfterATimeOutDoNotStartARecovery) {
  expect_transcript(accepted(R"(
  20 write 4000
  20 out . 1:1001
  20 out . 1001:2001
  20 out . 2001:3001
  20 out P. 3001:4001
 220 out . 1:1001
 230 in  . 1:1 ack 1
 231 in  . 1:1 ack 1
 232 in  . 1:1 ack 1
 240 in  . 1:1 ack 4001
 240 count fast_retransmits 0
)"));
}

TEST(TcpLoss, AcksThatChangeTheWindowOrCarryTextAreNotDuplicates) {
  expect_transcript(accepted(R"(
  20 write 2000
  20 out . 1:1001
  20 out P. 1001:2001
  30 in  . 1:1 ack 1 win 60000
  31 in  . 1:1 ack 1 win 59000
  32 in  . 1:1 ack 1 win 58000
  33 in  . 1:11 ack 1 win 58000
  34 in  . 11:21 ack 1 win 58000
  34 out . 2001:2001 ack 21
  40 in  . 21:21 ack 2001
  40 count fast_retransmits 0
)"));
}

TEST(TcpLoss, DataWithoutAnyAckIsGivenUpAfterTheUserTimeOut) {
  StackOptions options = small();
  options.user_timeout = seconds{1};
  expect_transcript(accepted(R"(
  20 write 100
  20 out P. 1:101
 220 out P. 1:101
 620 out P. 1:101
1020 out R. 101:101 ack 1
1021 news reset
1021 failure timed-out
1021 release
1021 gone
)"),
                    options);
}

// ---- window -------------------------------------------------------------------------------------

TEST(TcpWindow, AClosedWindowIsProbedWithBackoffAndItsOpeningIsUsedAtOnce) {
  expect_transcript(accepted(R"(
   20 in  . 1:1 ack 1 win 0
   20 write 1500
  220 out . 1:2
  230 in  . 1:1 ack 1 win 0
  620 out . 1:2
  630 in  . 1:1 ack 1 win 0
 1420 out . 1:2
 1430 in  . 1:1 ack 1 win 0
 1500 in  . 1:1 ack 1 win 5000
 1500 out . 1:1001
 1500 out P. 1001:1501
 1510 in  . 1:1 ack 1501
 1510 count retransmission_timeouts 0
)"));
}

TEST(TcpWindow, AnAckThatLeavesBeforeItsTimeDoesNotCancelTheProbe) {
  expect_transcript(accepted(R"(
   20 in  . 1:1 ack 1 win 0
   30 in  . 1:101 ack 1 win 0  # an ACK is due at 70
   31 write 1500
   40 in  . 1:101 ack 1 win 0  # its repetition is answered at once
   40 out . 1:1 ack 101
  231 out . 1:2 ack 101
  240 in  . 101:101 ack 1 win 5000
  240 out . 1:1001
  240 out P. 1001:1501
  250 in  . 101:101 ack 1501
)"));
}

TEST(TcpWindow, APeerThatTalksBehindItsClosedWindowDoesNotPostponeTheProbe) {
  expect_transcript(accepted(R"(
   20 in  . 1:1 ack 1 win 0
   20 write 100
  100 in  . 1:101 ack 1 win 0
  101 write 100
  140 out . 1:1 ack 101
  200 in  . 101:201 ack 1 win 0
  201 write 100
  220 out . 1:2 ack 201
  230 in  . 201:201 ack 1 win 0
  620 out . 1:2
  630 in  . 201:201 ack 1 win 5000
  630 out P. 1:301
  640 in  . 201:201 ack 301
)"));
}

TEST(TcpWindow, AnAcceptedProbeCounts) {
  expect_transcript(accepted(R"(
   20 in  . 1:1 ack 1 win 0
   20 write 100
  220 out . 1:2
  230 in  . 1:1 ack 2 win 1000
  230 out P. 2:101
  240 in  . 1:1 ack 101
)"));
}

TEST(TcpWindow, ASmallWindowIsNotFilledWithSmallSegments) {
  expect_transcript(accepted(R"(
   20 in  . 1:1 ack 1 win 1200
   20 write 3000
   20 out . 1:1001             # 200 bytes of room are left alone
   30 in  . 1:1 ack 1001 win 1000
   30 out . 1001:2001
   40 in  . 1:1 ack 2001 win 1000
   40 out P. 2001:3001
   50 in  . 1:1 ack 3001
)"));
}

TEST(TcpWindow, ASillyWindowIsUsedAfterTheProbeTimer) {
  expect_transcript(accepted(R"(
   20 in  . 1:1 ack 1 win 100
   20 write 3000
  220 out . 1:101
  230 in  . 1:1 ack 101 win 5000
  230 out . 101:1101
  230 out . 1101:2101
  230 out P. 2101:3001
  240 in  . 1:1 ack 3001
)"));
}

TEST(TcpWindow, AProbeOfOurClosedWindowIsAnsweredAlways) {
  StackOptions options = small();
  options.receive_buffer_bytes = 1000;
  expect_transcript(accepted(R"(
  20 in  . 1:1001 ack 1
  60 out . 1:1 ack 1001 win 0
  70 in  . 1001:1002 ack 1
  70 out . 1:1 ack 1001 win 0
  71 in  . 1001:1002 ack 1
  71 out . 1:1 ack 1001 win 0
  72 in  . 1001:1002 ack 1
  72 out . 1:1 ack 1001 win 0
)"),
                    options);
}

TEST(TcpWindow, ReadingTwoSegmentsOrHalfTheBufferAnnouncesTheWindowAtOnce) {
  StackOptions options = small();
  options.receive_buffer_bytes = 2000;
  expect_transcript(accepted(R"(
  20 in  . 1:1001 ack 1
  20 in  . 1001:2001 ack 1
  20 out . 1:1 ack 2001 win 0
  20 news readable
  30 read 900
  40 read 100
  40 out . 1:1 ack 2001 win 1000
)"),
                    options);
}

TEST(TcpWindow, TheAckOnATextlessSegmentIsHeardWhileOurWindowIsClosed) {
  StackOptions options = small();
  options.receive_buffer_bytes = 1000;
  expect_transcript(accepted(R"(
  20 in  . 1:1001 ack 1
  20 write 10
  20 out P. 1:11 ack 1001 win 0
  30 in  . 1001:1001 ack 11
 900 count retransmission_timeouts 0
)"),
                    options);
}

TEST(TcpWindow, APeerThatKeepsItsWindowClosedButAnswersIsKeptUntilItsUserLetsGo) {
  StackOptions options = small();
  options.user_timeout = seconds{1};
  expect_transcript(accepted(R"(
   20 in  . 1:1 ack 1 win 0
   20 write 100
  220 out . 1:2
  230 in  . 1:1 ack 1 win 0
  620 out . 1:2
  630 in  . 1:1 ack 1 win 0
 1420 out . 1:2
 1430 in  . 1:1 ack 1 win 0
 1500 release
 2430 out R. 1:1
 2431 gone
)"),
                    options);
}

// ---- the end ------------------------------------------------------------------------------------

TEST(TcpClose, ThePeerClosesFirst) {
  expect_transcript(accepted(R"(
  20 in  F. 1:1 ack 1
  20 out . 1:1 ack 2
  20 news readable
  20 eof
  30 close
  30 out F. 1:1 ack 2
  40 in  . 2:2 ack 2
  40 news closed
  40 failure none
  40 release
  40 gone
  40 count connections 0
  40 count time_wait 0
)"));
}

TEST(TcpClose, WeCloseFirstAndWaitForTwoSegmentLifetimes) {
  expect_transcript(accepted(R"(
   20 close
   20 out F. 1:1 ack 1
   30 in  . 1:1 ack 2
   40 in  F. 1:1 ack 2
   40 out . 2:2 ack 2
   40 news readable closed
   40 release
   40 gone
   40 count time_wait 1
60030 count time_wait 1
60050 count time_wait 0
)"));
}

TEST(TcpClose, AnAckOfOurFinThatCarriesThePeersFinIsEnough) {
  expect_transcript(accepted(R"(
  20 close
  20 out F. 1:1 ack 1
  30 in  F. 1:1 ack 2
  30 out . 2:2 ack 2
  30 news readable closed
  30 count time_wait 1
)"));
}

TEST(TcpClose, BothCloseAtOnce) {
  expect_transcript(accepted(R"(
  20 close
  20 out F. 1:1 ack 1
  25 in  F. 1:1 ack 1
  25 out . 2:2 ack 2
  25 news readable
  30 in  . 2:2 ack 2
  30 news closed
  30 count time_wait 1
)"));
}

TEST(TcpClose, AfterOurHalfCloseReadingGoesOn) {
  expect_transcript(accepted(R"(
    20 write 10
    20 close
    20 out FP. 1:11 ack 1
    30 in  . 1:1 ack 12
 90000 in  P. 1:101 ack 12       # FIN-WAIT-2 has no bound while a user holds on
 90000 news readable
 90000 read 100
 90000 in  F. 101:101 ack 12
 90000 out . 12:12 ack 102
 90000 news readable closed
 90000 eof
)"));
}

TEST(TcpClose, AfterThePeersHalfCloseWritingGoesOn) {
  expect_transcript(accepted(R"(
  20 in  FP. 1:11 ack 1
  20 out . 1:1 ack 12
  20 news readable
  20 read 10
  20 eof
  30 write 1500
  30 out . 1:1001 ack 12
  30 out P. 1001:1501 ack 12
  40 in  . 12:12 ack 1501
  50 close
  50 out F. 1501:1501 ack 12
  60 in  . 12:12 ack 1502
  60 news closed
)"));
}

TEST(TcpClose, AFinInTheMiddleOfAGapIsKeptForLater) {
  expect_transcript(accepted(R"(
  20 in  F. 101:201 ack 1
  20 out . 1:1 ack 1
  20 news none
  30 in  . 1:101 ack 1
  30 out . 1:1 ack 202
  30 news readable
  30 read 200
  30 eof
)"));
}

TEST(TcpClose, AFinAloneBehindAGapIsKeptToo) {
  expect_transcript(accepted(R"(
  20 in  F. 101:101 ack 1
  20 out . 1:1 ack 1
  30 in  . 1:101 ack 1
  30 out . 1:1 ack 102
  30 news readable
  30 read 100
  30 eof
)"));
}

TEST(TcpClose, ARepeatedFinIsAckedAgain) {
  expect_transcript(accepted(R"(
  20 in  F. 1:1 ack 1
  20 out . 1:1 ack 2
  30 in  F. 1:1 ack 1
  30 out . 1:1 ack 2
  30 count duplicate_segments 1
)"));
}

TEST(TcpClose, ALostFinIsRepeated) {
  expect_transcript(accepted(R"(
  20 close
  20 out F. 1:1 ack 1
 220 out F. 1:1 ack 1
 230 in  . 1:1 ack 2
 240 in  F. 1:1 ack 2
 240 out . 2:2 ack 2
 240 news readable closed
)"));
}

TEST(TcpClose, ClosingBeforeTheHandshakeIsDoneSendsTheFinAfterIt) {
  expect_transcript(R"(
   0 connect
   0 out S 0:0
   1 write 10
   1 close
   5 in  S. 0:0 ack 1
   5 out FP. 1:11 ack 1
   5 news connected
   9 in  . 1:1 ack 12
)");
}

TEST(TcpClose, AReleasedConnectionDeliversItsBytesAndDiscardsThePeers) {
  expect_transcript(accepted(R"(
  20 write 1500
  20 release
  20 out . 1:1001
  20 out FP. 1001:1501
  30 in  . 1:101 ack 1001
  30 out . 1502:1502 ack 101
  40 in  F. 101:201 ack 1502
  40 out . 1502:1502 ack 202
  40 news none
  40 count connections 0
  40 count time_wait 1
)"));
}

TEST(TcpClose, APeerThatTalksOnAfterReleaseIsResetAfterOneBuffer) {
  StackOptions options = small();
  options.receive_buffer_bytes = 1000;
  expect_transcript(accepted(R"(
  20 release
  20 out F. 1:1 ack 1
  30 in  . 1:1001 ack 2
  30 out . 2:2 ack 1001 win 1000
  40 in  . 1001:1002 ack 2
  40 out R. 2:2 ack 1002
  40 count connections 0
)"),
                    options);
}

TEST(TcpClose, AbortSendsAResetAtOnce) {
  expect_transcript(accepted(R"(
  20 abort
  20 out R. 1:1 ack 1
  20 gone
  30 in  . 1:11 ack 1
  30 out R 1:1
)"));
}

TEST(TcpClose, FinWait1EndsAfterItsTimeOut) {
  StackOptions options = small();
  options.fin_timeout = seconds{1};
  expect_transcript(accepted(R"(
  20 close
  20 out F. 1:1
 220 out F. 1:1
 620 out F. 1:1
1020 out R. 2:2
1021 news reset
1021 failure timed-out
)"),
                    options);
}

TEST(TcpClose, FinWait2EndsAfterItsTimeOutOnceReleased) {
  expect_transcript(accepted(R"(
   20 release
   20 out F. 1:1
   30 in  . 1:1 ack 2
60029 count connections 1
60032 count connections 0
61000 in  F. 1:1 ack 2
61000 out R 2:2
)"));
}

TEST(TcpClose, ClosingEndsAfterItsTimeOut) {
  StackOptions options = small();
  options.fin_timeout = seconds{1};
  expect_transcript(accepted(R"(
  20 close
  20 out F. 1:1
  30 in  F. 1:1 ack 1
  30 out . 2:2 ack 2
  30 news readable
 220 out F. 1:1 ack 2
 620 out F. 1:1 ack 2
1020 out R. 2:2 ack 2
1021 news reset
)"),
                    options);
}

TEST(TcpClose, LastAckEndsAfterItsTimeOut) {
  StackOptions options = small();
  options.last_ack_timeout = seconds{1};
  expect_transcript(accepted(R"(
  20 in  F. 1:1 ack 1
  20 out . 1:1 ack 2
  20 news readable
  20 close
  20 out F. 1:1
 220 out F. 1:1
 620 out F. 1:1
1020 out R. 2:2
1021 news reset
)"),
                    options);
}

// ---- resets and forgeries -----------------------------------------------------------------------

TEST(TcpReset, TheExactNumberEndsTheConnection) {
  expect_transcript(accepted(R"(
  20 in  R 1:1
  20 news reset
  20 failure reset
  20 count resets_received 1
  20 release
  20 gone
)"));
}

TEST(TcpReset, ANumberElsewhereInTheWindowIsChallengedOnceIn500Ms) {
  expect_transcript(accepted(R"(
  20 in  R 2:2
  20 out . 1:1 ack 1
  21 in  R 500:500
  21 count challenge_acks 1
 600 in  R 60000:60000
 600 out . 1:1 ack 1
 600 news none
)"));
}

TEST(TcpReset, ANumberOutsideOfTheWindowIsDroppedSilently) {
  expect_transcript(accepted(R"(
  20 in  R 0:0
  20 in  R 300000:300000
  20 count challenge_acks 0
  20 count resets_received 0
  20 news none
)"));
}

TEST(TcpReset, ASynInsideOrOutsideOfTheWindowIsChallenged) {
  expect_transcript(accepted(R"(
  20 in  S 1:1
  20 out . 1:1 ack 1
 600 in  S 3000000:3000000
 600 out . 1:1 ack 1
 600 count challenge_acks 2
)"));
}

TEST(TcpReset, TheChallengeLimitDoesNotSilenceAcksOfText) {
  expect_transcript(accepted(R"(
  20 in  S 1:1
  20 out . 1:1 ack 1
  21 in  . 1:11 ack 1
  22 in  . 1:11 ack 1
  22 out . 1:1 ack 11
  23 in  . 1:11 ack 1
  23 out . 1:1 ack 11
)"));
}

TEST(TcpReset, ARefusalDuringASimultaneousOpenIsReported) {
  expect_transcript(R"(
   0 connect
   0 out S 0:0
   5 in  S 0:0
   5 out S. 0:0 ack 1
   6 in  R 1:1
   6 news reset
   6 failure refused
   6 count half_open 0
)");
}

// ---- TIME-WAIT ----------------------------------------------------------------------------------

std::string in_time_wait(std::string_view rest) {
  return accepted(R"(
   20 close
   20 out F. 1:1 ack 1
   30 in  F. 1:1 ack 2
   30 out . 2:2 ack 2
   30 news readable closed
   30 release
)") + std::string{rest};
}

TEST(TcpTimeWait, ARepeatedFinIsAckedAndStartsTheWaitAgain) {
  expect_transcript(in_time_wait(R"(
30000 in  F. 1:1 ack 2
30000 out . 2:2 ack 2
60040 count time_wait 1
90010 count time_wait 0
)"));
}

TEST(TcpTimeWait, ResetsAndBareAcksAreIgnored) {
  expect_transcript(in_time_wait(R"(
   40 in  R 2:2
   41 in  . 2:2 ack 2
   42 in  . 1:1 ack 2
   43 count time_wait 1
)"));
}

TEST(TcpTimeWait, ANewerSynOpensANewConnectionAndAnOlderOneDoesNot) {
  expect_transcript(in_time_wait(R"(
   40 in  S 1:1
   40 out . 2:2 ack 2
   40 count time_wait 1
  100 in  S 5000:5000
  100 out S. 0:0 ack 5001
  100 count time_wait 0
  110 in  . 5001:5001 ack 1
  110 news accepted
)"));
}

TEST(TcpTimeWait, WhenTheTableIsFullTheOldestGivesWay) {
  StackOptions options = small();
  options.time_wait_max = 1;
  expect_transcript(in_time_wait(R"(
   40 peer 40001
   40 in  S 0:0
   40 out S. 0:0 ack 1
   50 in  . 1:1 ack 1
   50 news accepted
   60 close
   60 out F. 1:1
   70 in  F. 1:1 ack 2
   70 out . 2:2 ack 2
   70 count time_wait 1
   70 count time_wait_evicted 1
   80 peer 40000
   80 in  F. 1:1 ack 2
   80 out R 2:2
)"),
                    options);
}

// ---- ICMP ---------------------------------------------------------------------------------------

TEST(TcpIcmp, UnreachableFailsAConnectWhenItQuotesOurSyn) {
  expect_transcript(R"(
   0 connect
   0 out S 0:0
   5 icmp unreachable 7
   5 news none
   6 icmp unreachable 0
   6 news reset
   6 failure unreachable
)");
}

TEST(TcpIcmp, UnreachableDoesNotEndAnOpenConnection) {
  expect_transcript(accepted(R"(
  20 write 100
  20 out P. 1:101
  30 icmp unreachable 1
  30 icmp exceeded 1
  30 news none
  40 in  . 1:1 ack 101
)"));
}

TEST(TcpIcmp, PacketTooBigMakesSegmentsSmallerAndSendsThemAgainAtOnce) {
  testing::ScriptSetting setting;
  setting.options = small();
  EXPECT_EQ(testing::play_tcp_script(accepted(R"(
  20 write 1500
  20 out . 1:1001
  20 out P. 1001:1501
  30 icmp toobig 9999 600      # not in flight: a guess
  30 icmp toobig 1 600
  30 out . 1:561
  30 out . 561:1121
  30 out P. 1121:1501
  40 icmp toobig 1 100         # below the floor of 552 bytes: believed down to there
  40 out . 1:513
  40 out . 513:1025
  40 out P. 1025:1501
  50 in  . 1:1 ack 1501
  50 count retransmission_timeouts 0
)"),
                                     setting),
            "");
}

TEST(TcpIcmp, ASmallerMtuDuringTheHandshakeIsRemembered) {
  testing::ScriptSetting setting;
  setting.options = small();
  EXPECT_EQ(testing::play_tcp_script(R"(
   0 connect
   0 out S 0:0
   5 icmp toobig 0 600
  10 in  S. 0:0 ack 1 mss 1000
  10 out . 1:1 ack 1
  10 write 600
  10 out . 1:561
  10 out P. 561:601
  20 in . 1:1 ack 601
)",
                                     setting),
            "");
}

// ---- the harness itself -------------------------------------------------------------------------

struct Broken {
  const char* script;
  const char* complaint;
};

TEST(TcpScript, ABrokenExpectationIsNoticed) {
  const Broken cases[] = {
      {"0 listen\n0 in S 0:0\n", "unexpected at 0.0 ms: S. 0:0 ack 1"},
      {"0 listen\n0 in S 0:0\n0 out S. 0:0 ack 2\n", "another ack"},
      {"0 listen\n0 in S 0:0\n0 out S 0:0\n", "other flags"},
      {"0 listen\n0 in S 0:0\n0 out S. 1:1\n", "another range"},
      {"0 listen\n0 in S 0:0\n0 out S. 0:0 win 1\n", "another window"},
      {"0 listen\n0 in S 0:0\n0 out S. 0:0\n900 out S. 0:0\n", "nothing was sent"},
      {"0 listen\n0 in S 0:0\n0 out S. 0:0\n1200 news none\n", "unexpected at 1000"},
      {"0 listen\n0 news accepted\n", "news: none"},
      {"0 listen\n0 count accepted 1\n", "accepted is 0"},
      {"0 listen\n0 frobnicate\n", "unknown verb"},
      {"5 listen\n0 listen\n", "time runs backwards"},
      {"0 in Q 0:0\n", "not a segment"},
  };
  for (const Broken& broken : cases) {
    testing::ScriptSetting setting;
    setting.options = small();
    EXPECT_NE(testing::play_tcp_script(broken.script, setting).find(broken.complaint),
              std::string::npos)
        << broken.script << testing::play_tcp_script(broken.script, setting);
  }
}

}  // namespace
}  // namespace weir::tcp
