#include "tests/l7/tcp/transcript.h"

namespace weir::tcp {
namespace {

TEST(TcpLoss, UnacknowledgedDataIsRepeatedWithADoublingTimeOut) {
  // RFC 6298, sections 5.4 and 5.5; RFC 9293, section 3.8.2, MUST-19.
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
  // RFC 6298, section 3 (Karn's algorithm), and section 5: the backed-off time-out stays until a
  // segment that was sent once has been acknowledged (RFC 9293, section 3.8.2).
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
  // RFC 5681, section 3.1: the loss window of one segment, then slow start; RFC 6298, section 5.4:
  // the earliest one first.
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
  // RFC 6298, section 5.3: only an ACK "that acknowledges new data" restarts it.
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
  // RFC 5681, section 3.2, step 1: limited transmit (RFC 3042, section 2) on the first two; steps 2
  // and 3: fast retransmit on the third.
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
  33 in  . 1:1 ack 1
  34 in  . 1:1 ack 1
  36 skip                     # what the window allows: transcript_congestion_test.cpp
  40 in  . 1:1 ack 12001
  41 skip
  50 in  . 1:1 ack 14001
  50 count fast_retransmits 1
  50 count retransmission_timeouts 0
  50 count retransmitted_segments 1
)"));
}

TEST(TcpLoss, APartialAckRepeatsTheNextHoleWithoutWaiting) {
  // RFC 6582, section 3.2, step 3: a partial acknowledgment.
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
  // RFC 6582, section 3.2, step 4 sets "recover" at a time-out, and step 2 wants duplicates from
  // beyond it.
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
  // RFC 5681, section 2, duplicate acknowledgment: (b) no data, (e) the same window.
  expect_transcript(accepted(R"(
  20 write 2000
  20 out . 1:1001
  20 out P. 1001:2001
  30 in  . 1:1 ack 1 win 60000
  31 in  . 1:1 ack 1 win 59000
  32 in  . 1:1 ack 1 win 58000
  33 in  . 1:11 ack 1 win 58000
  33 out . 2001:2001 ack 11
  34 in  . 11:21 ack 1 win 58000
  34 out . 2001:2001 ack 21
  40 in  . 21:21 ack 2001
  40 count fast_retransmits 0
)"));
}

TEST(TcpLoss, DataWithoutAnyAckIsGivenUpAfterTheUserTimeOut) {
  // RFC 9293, section 3.8.3, (c), and section 3.10.8: R2 is a time, set by the user (MUST-21).
  expect_transcript(accepted(R"(
set user_timeout 1000
  20 write 100
  20 out P. 1:101
 220 out P. 1:101
 620 out P. 1:101
1020 out R. 101:101 ack 1
1021 news reset
1021 failure timed-out
1021 release
1021 gone
)"));
}

}  // namespace
}  // namespace weir::tcp
