#include "tests/l7/tcp/transcript.h"

// Retransmission (RFC 6298), keep-alive and user time-out (RFC 9293, sections 3.8.3 and 3.8.4; RFC
// 1122, section 4.2.3.6; RFC 5482).

namespace weir::tcp {
namespace {

TEST(TcpRto, ALostSynIsRepeatedAfterOneSecondAndThenDoubled) {
  // RFC 6298, section 2.1, and section 5.5.
  expect_transcript(R"(
    set connect_timeout 20000
    0 connect
    0 out S 0:0
 1000 out S 0:0
 3000 out S 0:0
 7000 out S 0:0
15000 out S 0:0
20001 news reset
20001 failure timed-out
)");
}

TEST(TcpRto, AfterALostSynDataStartsWithThreeSeconds) {
  // RFC 6298, section 5.7.
  expect_transcript(R"(
    set timestamps 0
    0 connect
    0 out S 0:0
 1000 out S 0:0
 1010 in  S. 0:0 ack 1 mss 1000
 1010 out . 1:1 ack 1
 1010 news connected
 1020 write 100
 1020 out P. 1:101
 4020 out P. 1:101
 4030 in  . 1:1 ack 101
)");
}

TEST(TcpRto, FollowsTheMeasuredRoundTrip) {
  // RFC 6298, section 2.2: SRTT + 4 * RTTVAR = 500 + 4 * 250 after the first sample.
  expect_transcript(R"(
    0 listen
    0 in  S 0:0 mss 1000
    0 out S. 0:0 ack 1
  500 in  . 1:1 ack 1
  500 news accepted
  600 write 100
  600 out P. 1:101
 2100 out P. 1:101
 2200 in  . 1:1 ack 101
)");
}

TEST(TcpRto, SteadyRoundTripsBringItDown) {
  // RFC 6298, section 2.3: RTTVAR shrinks by a quarter with each sample of the same length: 187.5,
  // 140.6, so 500 + 4 * 140.6.
  expect_transcript(R"(
    0 listen
    0 in  S 0:0 mss 1000
    0 out S. 0:0 ack 1
  500 in  . 1:1 ack 1
  500 news accepted
  600 write 100
  600 out P. 1:101
 1100 in  . 1:1 ack 101
 1200 write 100
 1200 out P. 101:201
 1700 in  . 1:1 ack 201
 2000 write 100
 2000 out P. 201:301
 3062-3064 out P. 201:301
 3100 in  . 1:1 ack 301
)");
}

TEST(TcpRto, HasAFloor) {
  // RFC 6298, section 2.4, says one second; 200 ms is what the Internet's servers use.
  expect_transcript(
      accepted("20 write 100\n20 out P. 1:101\n220 out P. 1:101\n230 in . 1:1 ack 101\n"));
  expect_transcript(accepted(R"(
    set retransmission_timeout_min 1000
   20 write 100
   20 out P. 1:101
 1020 out P. 1:101
 1030 in  . 1:1 ack 101
)"));
}

TEST(TcpRto, EndsAtSixtySeconds) {
  // RFC 6298, section 2.5: a ceiling of at least 60 seconds.
  expect_transcript(accepted(R"(
    set user_timeout 400000
    20 write 100
    20 out P. 1:101
   220 out P. 1:101
   620 out P. 1:101
  1420 out P. 1:101
  3020 out P. 1:101
  6220 out P. 1:101
 12620 out P. 1:101
 25420 out P. 1:101
 51020 out P. 1:101
102220 out P. 1:101
162220 out P. 1:101
222220 out P. 1:101
222230 in  . 1:1 ack 101
)"));
}

TEST(TcpRto, IsRestartedByAnAckOfSomeOfTheData) {
  // RFC 6298, section 5.3.
  expect_transcript(accepted(R"(
  20 write 2000
  20 out . 1:1001
  20 out P. 1001:2001
 120 in  . 1:1 ack 1001
 300 count retransmission_timeouts 0
 320-500 out P. 1001:2001
 510 in  . 1:1 ack 2001
)"));
}

TEST(TcpRto, LearnsNothingFromWhatHadToWaitForARepetition) {
  // RFC 6298, section 3 (Karn): the second segment was sent once, but its ACK has waited for the
  // first, which was lost twice.
  expect_transcript(accepted(R"(
  20 write 2000
  20 out . 1:1001
  20 out P. 1001:2001
 220 out . 1:1001
 620 out . 1:1001
 900 in  . 1:1 ack 2001
1000 write 100
1000 out P. 2001:2101
1010 in  . 1:1 ack 2101
1100 write 100
1100 out P. 2101:2201
1300 out P. 2101:2201
1310 in  . 1:1 ack 2201
)"));
}

TEST(TcpRto, LearnsNothingFromTheEchoWithADuplicate) {
  // RFC 7323, section 5.3: what the peer has already leaves TS.Recent alone, so the ACK of the
  // second sending (RFC 2883) echoes the first. 200 ms would become 1100 with its age.
  expect_transcript(accepted_stamped("sackok", R"(
    set rack 0
   20 write 100
   20 out P. 1:101 ts 20:10
  220 out P. 1:101 ts 220:10
  620 out P. 1:101 ts 620:10
  700 in  . 1:1 ack 101 sack 1-101 ts 21:20
  800 write 100
  800 out P. 101:201
  810 in  . 1:1 ack 201 ts 810:800
  900 write 100
  900 out P. 201:301
 1100 out P. 201:301
 1110 in  . 1:1 ack 301 ts 1110:1100
)"));
}

TEST(TcpRto, IsOffWhenAllIsAcknowledged) {
  // RFC 6298, section 5.2.
  expect_transcript(accepted(R"(
  20 write 1000
  20 out P. 1:1001
  30 in  . 1:1 ack 1001
60000 count retransmission_timeouts 0
)"));
}

TEST(TcpKeepalive, IsOffByDefault) {
  // RFC 9293, section 3.8.4, MUST-25: off by default.
  expect_transcript(accepted("36000000 news none\n36000000 count connections 1\n"));
}

constexpr const char* kKeepalive = R"(
   set keepalive_idle 1000
   set keepalive_interval 500
   set keepalive_probes 3
)";

TEST(TcpKeepalive, AnIdlePeerIsAskedWithANumberItHasAcknowledged) {
  // RFC 1122, section 4.2.3.6: SEG.SEQ = SND.NXT - 1, without text.
  expect_transcript(accepted(std::string{kKeepalive} + R"(
1010-1020 out . 0:0 ack 1
1030 in  . 1:1 ack 1
2030-2040 out . 0:0 ack 1
2050 in  . 1:1 ack 1
2060 count connections 1
)"));
}

TEST(TcpKeepalive, WithoutAnAnswerTheConnectionEndsAfterTheLastProbe) {
  // RFC 1122, section 4.2.3.6: not after one only, ACKs without data are not sent reliably.
  expect_transcript(accepted(std::string{kKeepalive} + R"(
1010-1020 out . 0:0 ack 1
1510-1525 out . 0:0 ack 1
2010-2030 out . 0:0 ack 1
2500 news none
2600 skip
2600 news reset
2600 failure timed-out
)"));
}

TEST(TcpKeepalive, AnyTrafficPutsItOff) {
  // RFC 9293, section 3.8.4, MUST-26: only when no data or ACK came within the interval.
  expect_transcript(accepted(std::string{kKeepalive} + R"(
 900 in  . 1:101 ack 1
 900-941 out . 1:1 ack 101
 942 news readable
1850 in  . 101:101 ack 1
2500 count connections 1
2850-2870 out . 0:0 ack 101
2880 in  . 101:101 ack 1
)"));
}

TEST(TcpKeepalive, UnacknowledgedDataIsItsOwnProbe) {
  // RFC 1122, section 4.2.3.6: keep-alives are for idle connections; data in flight is repeated.
  expect_transcript(accepted(std::string{kKeepalive} + R"(
 900 write 100
 900 out P. 1:101
1100 out P. 1:101
1110 in  . 1:1 ack 101
2110-2130 out . 100:100 ack 1
2140 in  . 1:1 ack 101
)"));
}

TEST(TcpKeepalive, OurPeersProbeIsAnswered) {
  // RFC 9293, section 3.10.7.4, first: an old number without text is answered with an ACK.
  expect_transcript(accepted(
      "20 in . 0:0 ack 1\n20 out . 1:1 ack 1\n2000 in . 0:0 ack 1\n2000 out . 1:1 ack 1\n"));
}

TEST(TcpKeepalive, OurPeersProbeIsAnsweredOnceIn500Ms) {
  // RFC 5961, section 7, for all that is out of place and carries nothing: two sides that are apart
  // by a number would answer each other at the speed of the link. Linux asks a closed window so
  // (RFC 9293, section 3.8.6.1), after one time-out, two and four: the next one is answered.
  expect_transcript(accepted(R"(
  20 in  . 0:0 ack 1
  20 out . 1:1 ack 1
 220 in  . 0:0 ack 1
 221 in  . -1:-1 ack 1
 221 count acks_held_back 2
 620 in  . 0:0 ack 1
 620 out . 1:1 ack 1
 621 in  . -1:-1 ack 1
 621 count acks_held_back 3
 621 count challenge_acks 0
)"));
}

TEST(TcpKeepalive, OurPeersProbeWithAByteIsAnsweredEveryTime) {
  // RFC 1122, section 4.2.3.6: old implementations send one byte of garbage.
  expect_transcript(accepted(R"(
  20 in  . 0:1 ack 1
  20 out . 1:1 ack 1
  21 in  . 0:1 ack 1
  21 out . 1:1 ack 1
  22 in  . 0:1 ack 1
  22 out . 1:1 ack 1
  23 news none
)"));
}

TEST(TcpUserTimeout, ProgressStartsItAgain) {
  // RFC 9293, section 3.8.3: of data that makes no progress.
  expect_transcript(accepted(R"(
    set user_timeout 1000
   20 write 2000
   20 out . 1:1001
   20 out P. 1001:2001
  900 skip
  900 in  . 1:1 ack 1001
 1500 skip
 1500 news none
 1890 skip
 1890 count connections 1
 1910 skip
 1910 news reset
 1910 failure timed-out
)"));
}

TEST(TcpUserTimeout, HalfOpenPassiveConnectionsDoNotOutliveTheirRepetitions) {
  // RFC 4987, section 3.3, against RFC 9293, section 3.8.3, MUST-23: not as long as an active open.
  expect_transcript(R"(
     0 listen
     0 in  S 0:0
     0 out S. 0:0 ack 1
100000 skip
100000 count half_open 0
100000 count connections 0
100000 in  . 1:1 ack 1
100000 skip
100000 news none
)");
}

}  // namespace
}  // namespace weir::tcp
