#include <fmt/format.h>

#include <string>

#include "tests/l7/tcp/transcript.h"

namespace weir::tcp {
namespace {

TEST(TcpData, WritesAreCutIntoSegmentsAndTheLastOneIsPushed) {
  // RFC 9293, section 3.9.1.2: SHLD-28, full segments where possible, and MUST-61, PSH on the last
  // of what is buffered.
  expect_transcript(accepted(R"(
  20 write 2500
  20 out . 1:1001 ack 1
  20 out . 1001:2001 ack 1
  20 out P. 2001:2501 ack 1
  30 in  . 1:1 ack 2501
)"));
}

TEST(TcpData, TheInitialWindowIsTenSegmentsAndGrowsWithEachAck) {
  // RFC 6928, section 2: ten segments. RFC 5681, section 3.1: then slow start.
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
  // RFC 9293, section 3.10.7.4, first: the parts of a segment that lie outside of the window are
  // trimmed; one that has nothing else is answered with an ACK.
  expect_transcript(accepted(R"(
  20 in  . 1:101 ack 1
  20 out . 1:1 ack 101
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
  // RFC 5681, section 4.2: an immediate ACK above a gap and when one is filled; RFC 2018, section
  // 4: its blocks; RFC 9293, section 3.10.7.4, first, SHLD-31: what comes early is held.
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
  // RFC 9293, section 3.10.7.4, first: what lies outside of the window is trimmed off, and an ACK
  // says how far it goes (section 3.8.6.1 for a window of zero).
  expect_transcript(accepted(R"(
set receive_buffer_bytes 1000
  20 in  . 1:1201 ack 1
  20 out . 1:1 ack 1001 win 0
  20 in  . 1201:1301 ack 1
  20 out . 1:1 ack 1001 win 0
  20 news readable
  20 read 1000
  20 out . 1:1 ack 1001 win 1000
)"));
}

TEST(TcpData, AnAckOfWhatWasNeverSentIsChallengedAndItsTextIgnored) {
  // RFC 9293, section 3.10.7.4, fifth: "send an ACK, drop the segment, and return".
  expect_transcript(accepted(R"(
  20 in  . 1:101 ack 500
  20 out . 1:1 ack 1
  20 count challenge_acks 1
  20 news none
)"));
}

TEST(TcpData, ABlindlyInjectedOldAckIsChallengedOnceIn500Ms) {
  // RFC 5961, section 5.2: an ACK below SND.UNA - MAX.SND.WND is not acceptable; section 7:
  // challenges are throttled.
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
  // RFC 9293, section 3.10.7.4, fifth: "if the ACK bit is off, drop the segment and return".
  expect_transcript(accepted(R"(
  20 in  P 1:101
  90 news none
)"));
}

TEST(TcpData, ABufferLimitCutsTheWriteAndItsReopeningIsReported) {
  // RFC 9293, section 3.9.1.2, leaves to the interface how a SEND waits: here it takes what there
  // is room for, and says when half of the buffer is free again.
  expect_transcript(accepted(R"(
set send_buffer_bytes 2000
  20 write 3000
  20 wrote 2000
  20 out . 1:1001
  20 out P. 1001:2001
  30 in  . 1:1 ack 901
  30 news none
  31 in  . 1:1 ack 2001
  31 news writable
)"));
}

TEST(TcpData, WithoutPacketBuffersSendingIsTriedAgain) {
  // RFC 9293, section 3.9.1.2, MUST-60: buffered data must not wait for ever; no ACK will come that
  // would be an occasion to send it.
  expect_transcript(accepted(R"(
  20 buffers off
  20 write 100
  25 buffers on
  25 out P. 1:101 ack 1
  30 in  . 1:1 ack 101
)"));
}

// ---- when ACKs leave: RFC 9293, section 3.8.6.3, RFC 5681, section 4.2 --------------------------

/// Sixteen segments of 100 bytes, each acknowledged at once: the quick start.
std::string sixteen_quick_acks() {
  std::string lines;
  for (unsigned i = 0; i < 16; ++i)
    lines += fmt::format("{0} in . {1}:{2} ack 1\n{0} out . 1:1 ack {2}\n", 20 + i, 1 + 100 * i,
                         101 + 100 * i);
  return lines;
}

TEST(TcpAcks, TheFirstSegmentsAreAcknowledgedAtOnce) {
  // For the peer's slow start; RFC 5681, section 4.2, allows more ACKs than every second one.
  expect_transcript(accepted(sixteen_quick_acks() + R"(
 100 news readable
)"));
}

TEST(TcpAcks, LaterASingleSegmentWaitsAtMostFortyMilliseconds) {
  // RFC 9293, section 3.8.6.3, MUST-40: less than half a second.
  expect_transcript(accepted(sixteen_quick_acks() + R"(
  50 in  . 1601:1701 ack 1
  90 out . 1:1 ack 1701
 100 news readable
)"));
}

TEST(TcpAcks, LaterEverySecondFullSegmentIsAcknowledgedAtOnce) {
  // RFC 9293, section 3.8.6.3, SHLD-19.
  expect_transcript(accepted(sixteen_quick_acks() + R"(
  50 in  . 1601:2601 ack 1
  51 in  . 2601:3601 ack 1
  51 out . 1:1 ack 3601
  60 news readable
)"));
}

TEST(TcpAcks, RideOnData) {
  // RFC 9293, section 3.8.6.3: an ACK that is due anyway needs no segment of its own.
  expect_transcript(accepted(sixteen_quick_acks() + R"(
  50 in  P. 1601:1701 ack 1
  55 write 300
  55 out P. 1:301 ack 1701
 100 in  . 1701:1701 ack 301
 200 news readable
)"));
}

TEST(TcpAcks, AFinIsAcknowledgedAtOnce) {
  // RFC 9293, section 3.10.7.4, eighth.
  expect_transcript(accepted(sixteen_quick_acks() + R"(
  50 in  F. 1601:1701 ack 1
  50 out . 1:1 ack 1702
  60 news readable
)"));
}

TEST(TcpAcks, AfterAPauseTheyAreQuickAgain) {
  // The peer's window restarts (RFC 5681, section 4.1), and so does its need of ACKs.
  expect_transcript(accepted(sixteen_quick_acks() + R"(
5000 in  . 1601:1701 ack 1
5000 out . 1:1 ack 1701
5100 news readable
)"));
}

TEST(TcpAcks, SegmentsBehindAGapAreAcknowledgedOneByOne) {
  // RFC 5681, section 4.2: immediate duplicate ACKs, and at once when a gap is filled.
  expect_transcript(accepted(sixteen_quick_acks() + R"(
  50 in  . 1701:1801 ack 1
  50 out . 1:1 ack 1601
  51 in  . 1801:1901 ack 1
  51 out . 1:1 ack 1601
  52 in  . 1901:2001 ack 1
  52 out . 1:1 ack 1601
  53 in  . 1601:1701 ack 1
  53 out . 1:1 ack 2001
  60 news readable
)"));
}

}  // namespace
}  // namespace weir::tcp
