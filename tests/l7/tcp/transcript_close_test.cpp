#include "tests/l7/tcp/transcript.h"

namespace weir::tcp {
namespace {

TEST(TcpClose, WhenThePeerClosesFirstWeDoNotWait) {
  // RFC 9293, section 3.6, case 2: CLOSE-WAIT, LAST-ACK, and the connection is deleted; TIME-WAIT
  // is left to who closed first.
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
  // RFC 9293, section 3.6, case 1, and section 3.6.1, MUST-13: TIME-WAIT for 2 MSL. The MSL is
  // taken to be 30 s, not the two minutes of section 3.4.2.
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
  // RFC 9293, section 3.10.7.4, eighth: from FIN-WAIT-1 to TIME-WAIT when our FIN has been
  // acknowledged "perhaps in this segment".
  expect_transcript(accepted(R"(
  20 close
  20 out F. 1:1 ack 1
  30 in  F. 1:1 ack 2
  30 out . 2:2 ack 2
  30 news readable closed
  30 count time_wait 1
)"));
}

TEST(TcpClose, AfterASimultaneousCloseWeWaitToo) {
  // RFC 9293, section 3.6, case 3, and section 3.10.7.4, fifth: through CLOSING, which the ACK of
  // our FIN ends.
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
  // RFC 9293, section 3.6: who has closed "may continue to RECEIVE", for as long as the peer likes.
  expect_transcript(accepted(R"(
    20 write 10
    20 close
    20 out FP. 1:11 ack 1
    30 in  . 1:1 ack 12
 90000 in  P. 1:101 ack 12       # FIN-WAIT-2 has no bound while a user holds on
 90000 out . 12:12 ack 101
 90000 news readable
 90000 read 100
 90000 in  F. 101:101 ack 12
 90000 out . 12:12 ack 102
 90000 news readable closed
 90000 eof
)"));
}

TEST(TcpClose, AfterThePeersHalfCloseWritingGoesOn) {
  // RFC 9293, section 3.6, case 2: our FIN leaves "after sending any remaining data".
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
  // RFC 9293, section 3.10.7.4, first, SHLD-31: what comes early is held, its FIN with it, and the
  // FIN counts (eighth) when everything before it is there.
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
  // RFC 9293, section 3.10.7.4, first, SHLD-31.
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
  // RFC 9293, section 3.10.7.4, first: it lies before the window, so it is answered with an ACK,
  // which the peer may have missed; the connection remains in CLOSE-WAIT.
  expect_transcript(accepted(R"(
  20 in  F. 1:1 ack 1
  20 out . 1:1 ack 2
  30 in  F. 1:1 ack 1
  30 out . 1:1 ack 2
  30 count duplicate_segments 1
)"));
}

TEST(TcpClose, ALostFinIsRepeated) {
  // RFC 9293, section 3.6, case 1: "all segments preceding and including FIN will be retransmitted
  // until acknowledged"; when, by RFC 6298, section 5.4.
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
  // RFC 9293, section 3.10.4, has this for SYN-RECEIVED; in SYN-SENT it deletes the connection, and
  // what was written with it. Here both wait for ESTABLISHED: what was written before the close is
  // delivered (section 3.6).
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
  // RFC 9293, section 3.6.1, MAY-1: the half-duplex close. SHLD-3 wants a RST at the first byte
  // that nobody will read; it could overtake our last ones, so up to one buffer is thrown away.
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
  // RFC 9293, section 3.6.1, SHLD-3: a RST shows that data was lost, here when it is more than a
  // buffer.
  expect_transcript(accepted(R"(
set receive_buffer_bytes 1000
  20 release
  20 out F. 1:1 ack 1
  30 in  . 1:1001 ack 2
  30 out . 2:2 ack 1001 win 1000
  40 in  . 1001:1002 ack 2
  40 out R. 2:2 ack 1002
  40 count connections 0
)"));
}

TEST(TcpClose, AbortSendsAResetAtOnce) {
  // RFC 9293, section 3.10.5; what comes after it finds CLOSED and is reset (section 3.10.7.1).
  // Section 3.5.2 would have the one who resets wait in TIME-WAIT; that is not done.
  expect_transcript(accepted(R"(
  20 abort
  20 out R. 1:1 ack 1
  20 gone
  30 in  . 1:11 ack 1
  30 out R 1:1
)"));
}

TEST(TcpClose, FinWait1EndsAfterItsTimeOut) {
  // RFC 9293, section 3.8.3, (c): a FIN that is never acknowledged is given up at R2. By default
  // that is 60 s instead of 100 (SHLD-11).
  expect_transcript(accepted(R"(
set fin_timeout 1000
  20 close
  20 out F. 1:1
 220 out F. 1:1
 620 out F. 1:1
1020 out R. 2:2
1021 news reset
1021 failure timed-out
)"));
}

TEST(TcpClose, FinWait2EndsAfterItsTimeOutOnceReleased) {
  // RFC 9293, section 3.10.8, gives FIN-WAIT-2 no time-out of its own, since the peer may go on
  // sending (section 3.6). Who has released the connection no longer reads (section 3.6.1, MAY-1),
  // so then there is one.
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
  // RFC 9293, section 3.8.3, (c): as in FIN-WAIT-1.
  expect_transcript(accepted(R"(
set fin_timeout 1000
  20 close
  20 out F. 1:1
  30 in  F. 1:1 ack 1
  30 out . 2:2 ack 2
  30 news readable
 220 out F. 1:1 ack 2
 620 out F. 1:1 ack 2
1020 out R. 2:2 ack 2
1021 news reset
)"));
}

TEST(TcpClose, LastAckEndsAfterItsTimeOut) {
  // RFC 9293, section 3.6, case 2: if the ACK of our FIN is not forthcoming, the connection is
  // aborted and the user is told.
  expect_transcript(accepted(R"(
set last_ack_timeout 1000
  20 in  F. 1:1 ack 1
  20 out . 1:1 ack 2
  20 news readable
  20 close
  20 out F. 1:1
 220 out F. 1:1
 620 out F. 1:1
1020 out R. 2:2
1021 news reset
)"));
}

}  // namespace
}  // namespace weir::tcp
