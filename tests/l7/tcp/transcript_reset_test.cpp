#include "tests/l7/tcp/transcript.h"

namespace weir::tcp {
namespace {

TEST(TcpReset, TheExactNumberEndsTheConnection) {
  // RFC 5961, section 3.2; RFC 9293, section 3.10.7.4, second, check 2.
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
  // RFC 5961, section 3.2: a challenge ACK, and section 7: throttled.
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
  // RFC 5961, section 3.2; RFC 9293, section 3.10.7.4, second, check 1.
  expect_transcript(accepted(R"(
  20 in  R 0:0
  20 in  R 300000:300000
  20 count challenge_acks 0
  20 count resets_received 0
  20 news none
)"));
}

TEST(TcpReset, ASynInsideOrOutsideOfTheWindowIsChallenged) {
  // RFC 5961, section 4.2: "irrespective of the sequence number".
  expect_transcript(accepted(R"(
  20 in  S 1:1
  20 out . 1:1 ack 1
 600 in  S 3000000:3000000
 600 out . 1:1 ack 1
 600 count challenge_acks 2
)"));
}

TEST(TcpReset, TheChallengeLimitDoesNotSilenceAcksOfText) {
  // RFC 5961, section 7, throttles challenges only; RFC 9293, section 3.10.7.4, first and seventh,
  // want the others.
  expect_transcript(accepted(R"(
  20 in  S 1:1
  20 out . 1:1 ack 1
  21 in  . 1:11 ack 1
  21 out . 1:1 ack 11
  22 in  . 1:11 ack 1
  22 out . 1:1 ack 11
  23 in  . 1:11 ack 1
  23 out . 1:1 ack 11
)"));
}

TEST(TcpReset, ARefusalDuringASimultaneousOpenIsReported) {
  // RFC 9293, section 3.10.7.4, second: in SYN-RECEIVED after an active open, "signal the user"
  // that it was refused.
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

}  // namespace
}  // namespace weir::tcp
