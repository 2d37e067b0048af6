#include <fmt/format.h>

#include <string>

#include "tests/l7/tcp/transcript.h"

// RFC 7323: what is negotiated, what is echoed, protection against wrapped sequence numbers (PAWS),
// and round trips measured by it.

namespace weir::tcp {
namespace {

TEST(TcpTimestamps, APassiveOpenAgreesAndEchoes) {
  // RFC 7323, section 3.2: in <SYN,ACK> only if they were in <SYN>.
  expect_transcript("0 listen\n0 in S 0:0 ts 0:-\n0 out S. 0:0 ack 1 ts 0:0\n");
  expect_transcript("0 listen\n0 in S 0:0\n0 out S. 0:0 ack 1 nots\n");
}

TEST(TcpTimestamps, AnActiveOpenOffersThemWithAnEchoOfZero) {
  // RFC 7323, section 3.2: without ACK there is nothing to echo, and TSecr SHOULD be zero.
  expect_transcript(R"(
   0 connect
   0 out S 0:0 ts 0:-
  10 in  S. 0:0 ack 1 ts 10:0
  10 out . 1:1 ack 1 ts 10:10
  10 news connected
)");
}

TEST(TcpTimestamps, AreNotUsedWhenThePeerDoesNotAnswerWithThem) {
  // RFC 7323, section 3.2: only when both SYNs had them.
  expect_transcript(R"(
   0 connect
   0 out S 0:0 ts 0:-
  10 in  S. 0:0 ack 1 mss 1000
  10 out . 1:1 ack 1 nots
  10 news connected
  20 write 10
  20 out P. 1:11 nots
)");
}

TEST(TcpTimestamps, AreNeitherOfferedNorConfirmedWhenSwitchedOff) {
  // RFC 7323, section 3.2: MAY be sent in a <SYN>, and MAY be in the answer to one.
  expect_transcript(R"(
   set timestamps 0
   0 connect
   0 out S 0:0 nots
)");
  expect_transcript(R"(
   set timestamps 0
   0 listen
   0 in  S 0:0 ts 0:-
   0 out S. 0:0 ack 1 nots
)");
}

TEST(TcpTimestamps, StandInEverySegmentOnceAgreed) {
  // RFC 7323, section 3.2: MUST be sent in every non-<RST> segment.
  expect_transcript(accepted_stamped("", R"(
  20 write 1500
  20 out . 1:1001 ack 1 ts 20:10
  20 out P. 1001:1501 ack 1 ts 20:10
  30 in  . 1:1 ack 1501 ts 30:20
  40 in  . 1:101 ack 1501 ts 40:20
  40-81 out . 1501:1501 ack 101 ts *:40
  90 close
  90 out F. 1501:1501 ack 101 ts 90:40
  95 skip
  95 news readable
)"));
}

TEST(TcpTimestamps, TakeTheirRoomFromTheSegmentsText) {
  // RFC 6691, section 2: the MSS counts options; 12 bytes of them here.
  expect_transcript(accepted_stamped("", R"(
  20 write 2000
  20 out . 1:1001
  20 out P. 1001:2001
  30 in  . 1:1 ack 2001 ts 30:20
)"));
}

TEST(TcpTimestamps, TheEchoIsOfTheSegmentThatTheAckIsFor) {
  // RFC 7323, section 4.3: text behind a gap is not acknowledged yet, so its time stamp is not
  // echoed.
  expect_transcript(accepted_stamped("", R"(
  20 in  . 1001:2001 ack 1 ts 20:0
  20 out . 1:1 ack 1 ts *:10
  30 in  . 1:1001 ack 1 ts 30:0
  30 out . 1:1 ack 2001 ts *:30
  31 news readable
)"));
}

TEST(TcpTimestamps, ADelayedAckEchoesTheEarliestSegmentItCovers) {
  // RFC 7323, section 4.3, the first case of its list: the sender measures the delay as well. The
  // first sixteen ACKs are not delayed.
  std::string lines;
  for (unsigned i = 0; i < 16; ++i)
    lines += fmt::format("{0} in . {1}:{2} ack 1 ts {0}:0\n{0} out . 1:1 ack {2} ts *:{0}\n",
                         20 + i, 1 + 100 * i, 101 + 100 * i);
  expect_transcript(accepted_stamped("", lines + R"(
  50 in  . 1601:1701 ack 1 ts 50:0
  51 in  . 1701:1801 ack 1 ts 51:0
  90 out . 1:1 ack 1801 ts *:50
 100 news readable
)"));
}

TEST(TcpPaws, AnOlderStampIsAckedAndItsTextIsNotTaken) {
  // RFC 7323, section 5.3, R1.
  expect_transcript(accepted_stamped("", R"(
  20 in  . 1:101 ack 1 ts 20:0
  70 skip
  70 in  . 101:201 ack 1 ts 19:0
  70 out . 1:1 ack 101 ts *:20
  70 count bytes_received 100
  80 in  . 101:201 ack 1 ts 80:0
  80-121 out . 1:1 ack 201 ts *:80
 130 news readable
 130 count bytes_received 200
)"));
}

TEST(TcpPaws, AnEqualStampIsNotOld) {
  // RFC 7323, section 5.3, R1: only SEG.TSval < TS.Recent.
  expect_transcript(accepted_stamped("", R"(
  20 in  . 1:101 ack 1 ts 10:0
  70 skip
  70 in  . 101:201 ack 1 ts 10:0
 120 skip
 120 count bytes_received 200
 120 news readable
)"));
}

TEST(TcpPaws, TheAckOfAnOldSegmentIsNotHeard) {
  // RFC 7323, section 5.3, R1: the segment is dropped as a whole.
  expect_transcript(accepted_stamped("", R"(
   set rack 0
  20 write 100
  20 out P. 1:101
  30 in  . 1:1 ack 101 ts 5:20
  31 skip
 200-240 out P. 1:101
 250 in  . 1:1 ack 101 ts 250:20
 900 count retransmission_timeouts 1
)"));
}

TEST(TcpPaws, AResetIsBelievedWhateverItsStamp) {
  // RFC 7323, section 5.3, R1: "and the RST bit is not set"; section 3.2: with or without the
  // option.
  expect_transcript(accepted_stamped("", "20 in R 1:1 ts 5:0\n20 news reset\n"));
  expect_transcript(accepted_stamped("", "20 in R 1:1\n20 news reset\n"));
}

TEST(TcpPaws, ASegmentWithoutStampsIsTakenAllTheSame) {
  // RFC 7323, section 3.2 says it SHOULD be dropped; old kernels send bare ACKs without, and losing
  // them costs a connection, so they are taken (RFC 1122, section 1.2.2: be liberal).
  expect_transcript(accepted_stamped("", R"(
  20 write 100
  20 out P. 1:101
  30 in  . 1:101 ack 101
  30-71 out . 101:101 ack 101 ts *:10
  80 news readable
  80 read 100
 900 count retransmission_timeouts 0
)"));
}

TEST(TcpPaws, ASegmentBehindAGapDoesNotMakeTheGapsTextLookOld) {
  // RFC 7323, section 4.3: TS.Recent is taken only from segments that begin at or before
  // Last.ACK.sent.
  expect_transcript(accepted_stamped("", R"(
  20 in  . 101:201 ack 1 ts 50:0
  20 out . 1:1 ack 1 ts *:10
  30 in  . 1:101 ack 1 ts 20:0
  30 out . 1:1 ack 201 ts *:20
  31 news readable
  31 read 200
)"));
}

TEST(TcpPaws, AClockThatHasWrappedIsStillNewer) {
  // RFC 7323, section 5.2: compared modulo 2^32. Half of its circle is 24.8 days in milliseconds.
  expect_transcript(accepted_stamped("", R"(
  20 in  . 1:101 ack 1 ts 2000000000:0
  70 skip
  70 in  . 101:201 ack 1 ts 4000000000:0
 120 skip
 120 in  . 201:301 ack 1 ts 10:0
 170 skip
 170 count bytes_received 300
 170 news readable
)"));
}

TEST(TcpPaws, AfterTwentyFourDaysOfSilenceTheStampIsForgotten) {
  // RFC 7323, section 5.5: the peer's clock may have wrapped by then.
  expect_transcript(accepted_stamped("", R"(
  20 in  . 1:101 ack 1 ts 20:0
  70 skip
  70 news readable
2074000000 in . 101:201 ack 1 ts 19:0
2074000050 skip
2074000050 count bytes_received 200
2074000050 news readable
)"));
}

TEST(TcpTimestamps, ARetransmissionThatIsEchoedEndsTheBackoff) {
  // RFC 7323, section 4: an echo says which transmission was answered, so Karn's ambiguity is gone.
  expect_transcript(accepted_stamped("", R"(
   set rack 0
  20 write 100
  20 out P. 1:101
 220 out P. 1:101 ts 220:10
 230 in  . 1:1 ack 101 ts 230:220
 300 write 100
 300 out P. 101:201
 500 out P. 101:201
 510 in  . 1:1 ack 201 ts 510:500
)"));
}

TEST(TcpTimestamps, AnEchoOfTheFirstTransmissionUndoesTheTimeOut) {
  // RFC 3522, section 3.2 (Eifel); RFC 4015, section 3: the acknowledged segment is the one sent
  // before the time-out, so nothing was lost: no other segment is repeated.
  expect_transcript(accepted_stamped("", "   set rack 0\n20 write 10000\n" + ten_segments(20) + R"(
 220 out . 1:1001 ts 220:10
 230 in  . 1:1 ack 1001 ts 230:20
 231 skip
 240 in  . 1:1 ack 10001 ts 240:20
 900 count retransmitted_segments 1
)"));
}

TEST(TcpTimestamps, ASynThatIsRepeatedEchoesTheNewestStamp) {
  // RFC 7323, section 4.3: TS.Recent follows the peer's segments, in SYN-RECEIVED too.
  expect_transcript(R"(
   0 listen
   0 in  S 0:0 ts 0:-
   0 out S. 0:0 ack 1 ts 0:0
 500 in  S 0:0 ts 500:-
 500 out S. 0:0 ack 1 ts 500:500
 510 in  . 1:1 ack 1 ts 510:500
 510 news accepted
)");
}

TEST(TcpTimestamps, StandInAResetFromUs) {
  // RFC 7323, section 3.2: SHOULD be sent in a <RST>.
  expect_transcript(accepted_stamped("", R"(
  20 abort
  20 out R. 1:1 ack 1 ts 20:10
)"));
}

}  // namespace
}  // namespace weir::tcp
