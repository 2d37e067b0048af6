#include "tests/l7/tcp/transcript.h"

namespace weir::tcp {
namespace {

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
  21 out . 1:1 ack 11
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

}  // namespace
}  // namespace weir::tcp
