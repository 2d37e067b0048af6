#include "tests/l7/tcp/transcript.h"

namespace weir::tcp {
namespace {

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
  expect_transcript(accepted(R"(
  20 abort
  20 out R. 1:1 ack 1
  20 gone
  30 in  . 1:11 ack 1
  30 out R 1:1
)"));
}

TEST(TcpClose, FinWait1EndsAfterItsTimeOut) {
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
