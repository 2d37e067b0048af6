#include "tests/l7/tcp/transcript.h"

namespace weir::tcp {
namespace {

std::string in_time_wait(std::string_view rest) {
  return accepted(R"(
   20 close
   20 out F. 1:1 ack 1
   30 in  F. 1:1 ack 2
   30 out . 2:2 ack 2
   30 news readable closed
   30 release
)") + std::string{rest};
}

TEST(TcpTimeWait, ARepeatedFinIsAckedAndStartsTheWaitAgain) {
  // RFC 9293, section 3.10.7.4, fifth and eighth: "restart the 2 MSL time-wait timeout".
  expect_transcript(in_time_wait(R"(
30000 in  F. 1:1 ack 2
30000 out . 2:2 ack 2
60040 count time_wait 1
90010 count time_wait 0
)"));
}

TEST(TcpTimeWait, ResetsAndBareAcksAreIgnored) {
  // RFC 1337, section 3, fix F1, for the RST, against RFC 9293, section 3.10.7.4, second. The ACKs
  // say nothing new (fifth).
  expect_transcript(in_time_wait(R"(
   40 in  R 2:2
   41 in  . 2:2 ack 2
   42 in  . 1:1 ack 2
   43 count time_wait 1
)"));
}

TEST(TcpTimeWait, ANewerSynOpensANewConnectionAndAnOlderOneDoesNot) {
  // RFC 9293, section 3.6.1, MAY-2: a SYN may reopen it when its number is beyond the last one
  // used; any other is challenged (section 3.10.7.4, fourth).
  expect_transcript(in_time_wait(R"(
   40 in  S 1:1
   40 out . 2:2 ack 2
   40 count time_wait 1
  100 in  S 5000:5000
  100 out S. 0:0 ack 5001
  100 count time_wait 0
  110 in  . 5001:5001 ack 1
  110 news accepted
)"));
}

TEST(TcpTimeWait, WhenTheTableIsFullTheOldestGivesWay) {
  // RFC 9293, section 3.6.1, MUST-13, is bent: what is nearest to its end is given up, since a
  // table that strangers fill must be bounded, and then a segment finds CLOSED.
  expect_transcript(in_time_wait(R"(
set time_wait_max 1
   40 peer 40001
   40 in  S 0:0
   40 out S. 0:0 ack 1
   50 in  . 1:1 ack 1
   50 news accepted
   60 close
   60 out F. 1:1
   70 in  F. 1:1 ack 2
   70 out . 2:2 ack 2
   70 count time_wait 1
   70 count time_wait_evicted 1
   80 peer 40000
   80 in  F. 1:1 ack 2
   80 out R 2:2
)"));
}

// ---- the same four numbers again: RFC 6191, section 2 -------------------------------------------

std::string in_time_wait_stamped(std::string_view rest) {
  return accepted_stamped("", R"(
   20 close
   20 out F. 1:1 ack 1 ts 20:10
   30 in  F. 1:1 ack 2 ts 30:20
   30 out . 2:2 ack 2 ts 30:30
   30 news readable closed
   30 release
   40 count time_wait 1
)" + std::string{rest});
}

TEST(TcpTimeWaitReuse, ANewerStampIsEnoughWhateverTheNumber) {
  // RFC 6191, section 2: both had time stamps, and the SYN has a later one.
  expect_transcript(in_time_wait_stamped(R"(
  100 in  S -5000:-5000 ts 100:-
  100 out S. 0:0 ack -4999 ts *:100
  100 count time_wait 0
  110 in  . -4999:-4999 ack 1 ts 110:100
  110 news accepted
)"));
}

TEST(TcpTimeWaitReuse, AnOlderStampIsRefusedWhateverTheNumber) {
  // RFC 6191, section 2: an earlier stamp is that of an old duplicate. It would be dropped
  // silently; an ACK does no harm.
  expect_transcript(in_time_wait_stamped(R"(
  100 in  S 5000:5000 ts 5:-
  100 may . 2:2 ack 2
  101 count time_wait 1
  101 count half_open 0
)"));
}

TEST(TcpTimeWaitReuse, AnEqualStampNeedsAHigherNumber) {
  // RFC 6191, section 2: when the stamps are equal the number decides.
  expect_transcript(in_time_wait_stamped(R"(
  100 in  S 5000:5000 ts 30:-
  100 out S. 0:0 ack 5001
  100 count time_wait 0
)"));
  expect_transcript(in_time_wait_stamped(R"(
  100 in  S -5000:-5000 ts 30:-
  100 may . 2:2 ack 2
  101 count time_wait 1
)"));
}

TEST(TcpTimeWaitReuse, WithoutStampsNowTheNumberDecides) {
  // RFC 6191, section 2: the new connection would have no time stamps, so as ever.
  expect_transcript(in_time_wait_stamped(R"(
  100 in  S 5000:5000
  100 out S. 0:0 ack 5001
  100 count time_wait 0
)"));
}

TEST(TcpTimeWaitReuse, StampsThatAreNewInThisIncarnationAreEnough) {
  // RFC 6191, section 2: the old connection had none, so none of its segments passes PAWS (RFC
  // 7323, section 5.3).
  expect_transcript(in_time_wait(R"(
  100 in  S -5000:-5000 ts 100:-
  100 out S. 0:0 ack -4999
  100 count time_wait 0
)"));
}

TEST(TcpTimeWaitReuse, AnActiveOpenTakesThePairAgainWhenItsClockHasMovedOn) {
  // RFC 9293, section 3.6.1; RFC 6191, section 2, seen from the other side: with one local port
  // there is no other, and our own stamps are newer than all of the old ones.
  expect_transcript(R"(
    set ephemeral_first 50000
    set ephemeral_last 50000
    0 connect
    0 out S 0:0 ts 0:-
   10 in  S. 0:0 ack 1 ts 10:0
   10 out . 1:1 ack 1
   10 news connected
   20 close
   20 out F. 1:1
   30 in  F. 1:1 ack 2 ts 30:20
   30 out . 2:2 ack 2
   30 news readable closed
   30 release
 2000 connect
 2000 out S 0:0
 2000 count time_wait_reused 1
 2000 count time_wait 0
)");
}

TEST(TcpTimeWait, TextIsAckedAndNotRead) {
  // RFC 9293, section 3.10.7.4, seventh.
  expect_transcript(in_time_wait(R"(
   40 in  . 2:12 ack 2
   40 out . 2:2 ack 2
   40 count time_wait 1
)"));
}

}  // namespace
}  // namespace weir::tcp
