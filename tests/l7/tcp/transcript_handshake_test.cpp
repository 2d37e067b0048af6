#include "tests/l7/tcp/transcript.h"

namespace weir::tcp {
namespace {

TEST(TcpHandshake, APassiveOpenIsReportedOnceTheThirdSegmentArrives) {
  // RFC 9293, section 3.5, figure 6; section 3.10.7.4, fifth: from SYN-RECEIVED to ESTABLISHED.
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
  // RFC 7323, section 1.3; RFC 2018, section 2. Without an MSS option it is 536 in IPv4 and 1220 in
  // IPv6 (RFC 9293, section 3.7.1).
  expect_transcript_v4(R"(
   0 listen
   0 in  S 0:0
   0 out S. 0:0 ack 1 win 65535 mss 1460 nows nosackok nots
  10 in  . 1:1 ack 1
  10 news accepted
  10 write 1000
  10 out . 1:537 ack 1 win 65535
  10 out P. 537:1001 ack 1
  20 in . 1:1 ack 1001
)");
  expect_transcript_v6(R"(
   0 listen
   0 in  S 0:0
   0 out S. 0:0 ack 1 mss 1440 nows nosackok nots
  10 in  . 1:1 ack 1
  10 news accepted
  10 write 1300
  10 out . 1:1221 ack 1
  10 out P. 1221:1301 ack 1
  20 in . 1:1 ack 1301
)");
}

TEST(TcpHandshake, TheScaledWindowOfThePeerIsUsed) {
  // RFC 7323, section 2.3: SND.WND = SEG.WND << Snd.Wind.Shift, but not in a SYN (section 2.2).
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
  // RFC 9293, section 3.10.7.3, fourth: SYN and an acceptable ACK: ESTABLISHED, and an ACK is sent.
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
  // RFC 6298, section 2.1: after one second. RFC 9293, section 3.8.3: an application may give up
  // sooner than the three minutes of MUST-23; a proxy does, after three seconds.
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

TEST(TcpHandshake, AResetThatAcknowledgesOurSynIsARefusal) {
  // RFC 9293, section 3.10.7.3, second: an acceptable ACK with RST: "connection reset"; its user
  // hears that nobody listens there.
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
  // RFC 9293, section 3.10.7.3, first and second: in SYN-SENT a RST counts only if it acknowledges
  // our SYN.
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
  // RFC 9293, section 3.10.7.3, first: SEG.ACK =< ISS or > SND.NXT is answered by
  // <SEQ=SEG.ACK><CTL=RST>; section 3.5, figure 8.
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
  // RFC 9293, section 3.10.7.4, fourth, would go to LISTEN and answer the SYN anew, which is the
  // same answer. RFC 6298, sections 2.1 and 5.5: one second, then two.
  expect_transcript(R"(
    0 listen
    0 in  S 0:0
    0 out S. 0:0 ack 1
  500 in  S 0:0
  500 out S. 0:0 ack 1
 2500 out S. 0:0 ack 1      # the peer is there: the wait begins anew, as after a repetition
 2600 in  . 1:1 ack 1
 2600 news accepted
 2600 count half_open 0
)");
}

TEST(TcpHandshake, AHalfOpenConnectionIsForgottenAfterFiveRepetitions) {
  // RFC 9293, section 3.8.3, MUST-23, wants three minutes; against floods RFC 4987, section 3.3,
  // shortens that. Here 63 s, with the back-off of RFC 6298, section 5.5.
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
  // RFC 9293, section 3.10.7.4, fifth, SYN-RECEIVED: <SEQ=SEG.ACK><CTL=RST>, and "the connection
  // remains in the same state" (section 3.5.2, group 2).
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
  // RFC 9293, section 3.10.7.4, second: after a passive open back to LISTEN; "the user need not be
  // informed".
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

TEST(TcpHandshake, WithAllConnectionsInUseTheThirdSegmentIsDroppedAndCounted) {
  // RFC 4987, section 3.5: until then the connection is a record of its own. To the peer the third
  // segment is lost like any other, and what it sends next takes its place (RFC 9293, section
  // 3.8.1).
  expect_transcript(R"(
set connections_max 1
   0 listen
   0 in  S 0:0
   0 out S. 0:0 ack 1
   2 in  . 1:1 ack 1
   2 news accepted
   3 peer 40001
   3 in  S 0:0
   3 out S. 0:0 ack 1            # costs a record only; the third segment needs a place
   4 in  . 1:1 ack 1
   4 count dropped_no_memory 1
   4 news none
)");
}

TEST(TcpHandshake, ASegmentToAClosedPortIsReset) {
  // RFC 9293, section 3.10.7.1, and section 3.5.2, group 1; never a RST for a RST.
  testing::ScriptSetting setting;
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
  // RFC 9293, section 3.5, figure 7, MUST-10.
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
  20 out . 11:11 ack 5
  20 news readable
)");
}

TEST(TcpHandshake, ASimultaneousOpenAlsoEndsWithAPlainAck) {
  // RFC 9293, section 3.10.7.4, fifth: in SYN-RECEIVED any acceptable ACK will do; a SYN with it is
  // not needed.
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
  // RFC 9293, section 3.10.7.4, fifth: enter ESTABLISHED "and continue processing", so that its
  // text counts (seventh).
  expect_transcript(R"(
   0 listen
   0 in  S 0:0
   0 out S. 0:0 ack 1
   5 in  P. 1:101 ack 1
   5 out . 1:1 ack 101
   5 news accepted readable
   5 read 100
)");
}

TEST(TcpHandshake, WhenTheThirdSegmentIsLostTextCompletesTheHandshake) {
  // RFC 9293, section 3.10.7.4, fifth: every segment has the ACK (section 3.1), also one that comes
  // early (first, SHLD-31).
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
  // RFC 9293, section 3.10.4: closing in LISTEN deletes that connection block alone; what comes
  // then finds CLOSED (section 3.10.7.1).
  expect_transcript(accepted(R"(
  20 unlisten
  20 in  P. 1:11 ack 1
  20 out . 1:1 ack 11
  20 news readable
  70 peer 40001
  70 in  . 0:0 ack 5
  70 out R 5:5
)"));
}

// ---- SYN cookies: RFC 4987, section 3.6 ---------------------------------------------------------

/// The only place for a half-open connection is taken by the peer's port 40000.
std::string flooded(std::string_view rest) {
  return R"(
   set half_open_max 1
   0 listen
   0 in  S 0:0
   0 out S. 0:0 ack 1
   1 peer 40001
)" + std::string{rest};
}

TEST(TcpSynCookie, AFullQueueIsAnsweredWithoutRemembering) {
  // RFC 4987, section 3.6: the number of the SYN-ACK comes back in the ACK, and is all that is
  // needed.
  expect_transcript(flooded(R"(
   1 in  S 0:0 mss 1000
   1 out S. 0:0 ack 1
   1 count cookies_sent 1
   1 count half_open 1
   1 count dropped_backlog 0
   5 in  . 1:1 ack 1
   5 news accepted
   5 count cookies_accepted 1
   5 write 10
   5 out P. 1:11 ack 1
   9 in  . 1:1 ack 11
)"));
}

TEST(TcpSynCookie, IsNotSentAgainByTime) {
  // RFC 4987, section 3.6: nothing is remembered that could be repeated; the client repeats its
  // SYN.
  expect_transcript(flooded(R"(
   1 in  S 0:0
   1 out S. 0:0 ack 1
  10 peer 40000
  10 in  R 1:1
9000 peer 40001
9000 news none
9000 count half_open 0
)"));
}

TEST(TcpSynCookie, ANumberThatWasNeverGivenIsReset) {
  // RFC 9293, section 3.10.7.2, second: an ACK in LISTEN is answered by a RST.
  expect_transcript(flooded(R"(
   2 in  . 1:1 ack 12345
   2 out R 12345:12345
   2 count cookies_accepted 0
   2 news none
)"));
}

TEST(TcpSynCookie, ItsMssIsNotMoreThanThePeers) {
  // RFC 4987, section 3.6: of the options a cookie without time stamps holds one of a few sizes;
  // the one below what was offered is taken, so that RFC 9293, section 3.7.1, is obeyed.
  expect_transcript_v4(flooded(R"(
   1 in  S 0:0 mss 1000 ws 7 sackok
   1 out S. 0:0 ack 1 nosackok nows nots
   5 in  . 1:1 ack 1
   5 news accepted
   5 write 1000
   5 out . 1:537
   5 out P. 537:1001
   9 in  . 1:1 ack 1001
)"));
}

TEST(TcpSynCookie, KeepsTheOptionsInItsTimeStamp) {
  // RFC 4987, section 3.6: scale 2 and SACK come back in the echo (RFC 7323, section 3.2) of a
  // stamp whose low bits say so.
  expect_transcript_v4(flooded(R"(
   1 in  S 0:0 mss 1460 ws 2 sackok ts 1:-
   1 out S. 0:0 ack 1 sackok ws 3 ts *:1
   5 in  . 1:1 ack 1 win 500 ts 5:1
   5 news accepted
   6 in  . 101:201 ack 1 win 500 ts 6:1
   6 out . 1:1 ack 1 ts *:5 sack 101-201
   7 write 4000
   7 out . 1:1437 sack 101-201
   7 skip
  10 abort
  10 skip
)"));
}

TEST(TcpSynCookie, TheThirdSegmentsTextIsRead) {
  // RFC 4987, section 3.6, with RFC 9293, section 3.10.7.4, fifth: ESTABLISHED, and processing
  // continues.
  expect_transcript(flooded(R"(
   1 in  S 0:0
   1 out S. 0:0 ack 1
   5 in  P. 1:11 ack 1
   5-46 out . 1:1 ack 11
  50 news accepted readable
  50 read 10
)"));
}

}  // namespace
}  // namespace weir::tcp
