#include "tests/l7/tcp/transcript.h"

// RFC 8985: loss by time instead of by counting, and the tail loss probe. Round trips are 10 ms, so
// the reordering window is 2.5 ms, the probe leaves 20 ms after the last segment, or 60 ms when it
// is alone and its ACK may be delayed.

namespace weir::tcp {
namespace {

TEST(TcpRack, ASegmentThatIsOvertakenIsRepeatedAfterTheReorderingWindow) {
  // RFC 8985, section 6.2, steps 4 and 5: one overtaking segment is enough, a quarter of the
  // shortest round trip after the time that a round trip takes.
  expect_transcript(accepted_sack(R"(
  20 write 2000
  20 out . 1:1001
  20 out P. 1001:2001
  30 in  . 1:1 ack 1 sack 1001-2001
  32-34 out . 1:1001
  45 in  . 1:1 ack 2001
 900 count retransmitted_segments 1
 900 count retransmission_timeouts 0
)"));
}

TEST(TcpRack, ReorderingWithinTheWindowRepeatsNothing) {
  // RFC 8985, section 6.2, step 5.
  expect_transcript(accepted_sack(R"(
  20 write 3000
  20 out . 1:1001
  20 out . 1001:2001
  20 out P. 2001:3001
  30 in  . 1:1 ack 1 sack 1001-3001
  32 in  . 1:1 ack 3001
 900 count retransmitted_segments 0
)"));
}

TEST(TcpRack, ThreeThatOvertakeLeaveNoWindow) {
  // RFC 8985, section 6.2, step 4: without reordering seen so far, DupThresh segments mean loss at
  // once.
  expect_transcript(accepted_sack(R"(
  20 write 4000
  20 out . 1:1001
  20 out . 1001:2001
  20 out . 2001:3001
  20 out P. 3001:4001
  30 in  . 1:1 ack 1 sack 1001-4001
  30 out . 1:1001
  40 in  . 1:1 ack 4001
)"));
}

TEST(TcpRack, SeenReorderingOpensTheWindowAgain) {
  // RFC 8985, section 6.2, step 4: once reordering was seen, DupThresh no longer closes the window.
  expect_transcript(accepted_sack(R"(
  20 write 2000
  20 out . 1:1001
  20 out P. 1001:2001
  30 in  . 1:1 ack 1 sack 1001-2001
  31 in  . 1:1 ack 2001
  40 write 4000
  40 out . 2001:3001
  40 out . 3001:4001
  40 out . 4001:5001
  40 out P. 5001:6001
  50 in  . 1:1 ack 2001 sack 3001-6001
  52 in  . 1:1 ack 6001
 900 count retransmitted_segments 0
)"));
}

TEST(TcpRack, TheWindowIsNeverShorterThanAClockCanTell) {
  // RFC 8985, section 6.2, step 4, has no floor, but wants a clock finer than a quarter of the
  // round trip (section 4). With half a millisecond that is below the timer's tick; 1 ms keeps
  // neighbours on a LAN from being repeated for jitter.
  expect_transcript(R"(
   0 listen
   0 in  S 0:0 mss 1000 sackok
   0 out S. 0:0 ack 1
 0.5 in  . 1:1 ack 1
 0.5 news accepted
  20 write 2000
  20 out . 1:1001
  20 out P. 1001:2001
20.5 in  . 1:1 ack 1 sack 1001-2001
21.2 in  . 1:1 ack 2001
 900 count retransmitted_segments 0
)");
}

TEST(TcpRack, SwitchedOffOneOvertakingSegmentRepeatsNothing) {
  // The off switch: RFC 6675, section 4 (IsLost), counts, so that two segments wait for the
  // time-out.
  expect_transcript(accepted_sack(R"(
   set rack 0
  20 write 2000
  20 out . 1:1001
  20 out P. 1001:2001
  30 in  . 1:1 ack 1 sack 1001-2001
 200-240 out . 1:1001
 250 in  . 1:1 ack 2001
 900 count retransmitted_segments 1
)"));
}

TEST(TcpTlp, TheLastSegmentIsRepeatedTwoRoundTripsLater) {
  // RFC 8985, section 7.2: PTO = 2 * SRTT with more than one segment in flight; section 7.3:
  // without new data the last segment is the probe.
  expect_transcript(accepted_sack(R"(
  20 write 2000
  20 out . 1:1001
  20 out P. 1001:2001
  40 out P. 1001:2001
  50 in  . 1:1 ack 2001 sack 1001-2001
 900 count retransmission_timeouts 0
)"));
}

TEST(TcpTlp, ALoneSegmentWaitsForADelayedAck) {
  // RFC 8985, section 7.2: + TLP.max_ack_delay when FlightSize is one segment; here 50 ms, since
  // Linux takes up to 44.
  expect_transcript(accepted_sack(R"(
  20 write 100
  20 out P. 1:101
  90 out P. 1:101
 100 in  . 1:1 ack 101 sack 1-101
 900 count retransmission_timeouts 0
)"));
}

TEST(TcpTlp, NewDataIsABetterProbeThanOld) {
  // RFC 8985, section 7.3: an unsent segment goes first, even beyond the congestion window.
  expect_transcript(accepted_sack("20 write 11000\n" + ten_segments(20) + R"(
  40 out P. 10001:11001
  50 in  . 1:1 ack 11001
 900 count retransmitted_segments 0
)"));
}

TEST(TcpTlp, TheProbesAckUncoversTheLossBeforeIt) {
  // RFC 8985, section 7.4.1: the probe turns a time-out into a fast recovery.
  expect_transcript(accepted_sack(R"(
  20 write 3000
  20 out . 1:1001
  20 out . 1001:2001
  20 out P. 2001:3001
  40 out P. 2001:3001
  50 in  . 1:1 ack 1 sack 2001-3001
  50-54 out . 1:1001
  50-54 may . 1001:2001         # in the same round trip or the next: RFC 6937
  60 in  . 1:1 ack 1001 sack 2001-3001
  61 skip
  75 in  . 1:1 ack 3001
 900 count retransmission_timeouts 0
 900 count retransmitted_segments 3
)"));
}

TEST(TcpTlp, OneProbeAndThenTheTimeOut) {
  // RFC 8985, section 7.3: at most one until something new is acknowledged; the time-out counts
  // from the probe.
  expect_transcript(accepted_sack(R"(
  20 write 2000
  20 out . 1:1001
  20 out P. 1001:2001
  40 out P. 1001:2001
 220-260 out . 1:1001
 261 skip
 270 in  . 1:1 ack 2001
 900 count retransmission_timeouts 1
)"));
}

TEST(TcpTlp, ThereIsNoneInRecoveryOrWithoutSack) {
  // RFC 8985, section 7.2: armed only outside of recovery and when SACK was negotiated.
  expect_transcript(accepted(R"(
  20 write 2000
  20 out . 1:1001
  20 out P. 1001:2001
 200-240 out . 1:1001
 250 in  . 1:1 ack 2001
)"));
}

}  // namespace
}  // namespace weir::tcp
