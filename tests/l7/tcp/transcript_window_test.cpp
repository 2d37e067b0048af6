#include "tests/l7/tcp/transcript.h"

namespace weir::tcp {
namespace {

TEST(TcpWindow, AClosedWindowIsProbedWithBackoffAndItsOpeningIsUsedAtOnce) {
  // RFC 9293, section 3.8.6.1: MUST-36; SHLD-29, first after the time-out; SHLD-30, then doubled.
  expect_transcript(accepted(R"(
   20 in  . 1:1 ack 1 win 0
   20 write 1500
  220 out . 1:2
  230 in  . 1:1 ack 1 win 0
  620 out . 1:2
  630 in  . 1:1 ack 1 win 0
 1420 out . 1:2
 1430 in  . 1:1 ack 1 win 0
 1500 in  . 1:1 ack 1 win 5000
 1500 out . 1:1001
 1500 out P. 1001:1501
 1510 in  . 1:1 ack 1501
 1510 count retransmission_timeouts 0
)"));
}

TEST(TcpWindow, AnAckThatLeavesBeforeItsTimeDoesNotCancelTheProbe) {
  // RFC 9293, section 3.8.6.1: "must regularly transmit"; what we send for other reasons does not
  // count.
  expect_transcript(accepted(R"(
   20 in  . 1:1 ack 1 win 0
   30 in  . 1:101 ack 1 win 0
   30 out . 1:1 ack 101
   31 write 1500
   40 in  . 1:101 ack 1 win 0  # its repetition is answered at once
   40 out . 1:1 ack 101
  231 out . 1:2 ack 101
  240 in  . 101:101 ack 1 win 5000
  240 out . 1:1001
  240 out P. 1001:1501
  250 in  . 101:101 ack 1501
)"));
}

TEST(TcpWindow, APeerThatTalksBehindItsClosedWindowDoesNotPostponeTheProbe) {
  // RFC 9293, section 3.8.6.1: SHLD-29 counts from when the window was closed, not from the last
  // segment.
  expect_transcript(accepted(R"(
   20 in  . 1:1 ack 1 win 0
   20 write 100
  100 in  . 1:101 ack 1 win 0
  100 out . 1:1 ack 101
  101 write 100
  200 in  . 101:201 ack 1 win 0
  200 out . 1:1 ack 201
  201 write 100
  220 out . 1:2 ack 201
  230 in  . 201:201 ack 1 win 0
  620 out . 1:2
  630 in  . 201:201 ack 1 win 5000
  630 out P. 1:301
  640 in  . 201:201 ack 301
)"));
}

TEST(TcpWindow, AnAcceptedProbeCounts) {
  // RFC 9293, section 3.8.6.1: the probe is new data, so its ACK moves SND.UNA (section 3.10.7.4,
  // fifth).
  expect_transcript(accepted(R"(
   20 in  . 1:1 ack 1 win 0
   20 write 100
  220 out . 1:2
  230 in  . 1:1 ack 2 win 1000
  230 out P. 2:101
  240 in  . 1:1 ack 101
)"));
}

TEST(TcpWindow, ASmallWindowIsNotFilledWithSmallSegments) {
  // RFC 9293, section 3.8.6.2.1, MUST-38: the sender's avoidance of silly windows.
  expect_transcript(accepted(R"(
   20 in  . 1:1 ack 1 win 1200
   20 write 3000
   20 out . 1:1001             # 200 bytes of room are left alone
   30 in  . 1:1 ack 1001 win 1000
   30 out . 1001:2001
   40 in  . 1:1 ack 2001 win 1000
   40 out P. 2001:3001
   50 in  . 1:1 ack 3001
)"));
}

TEST(TcpWindow, ASillyWindowIsUsedAfterTheProbeTimer) {
  // RFC 9293, section 3.8.6.2.1, (4): "if the override timeout occurs", which the timer of section
  // 3.8.6.1 may be.
  expect_transcript(accepted(R"(
   20 in  . 1:1 ack 1 win 100
   20 write 3000
  220 out . 1:101
  230 in  . 1:1 ack 101 win 5000
  230 out . 101:1101
  230 out . 1101:2101
  230 out P. 2101:3001
  240 in  . 1:1 ack 3001
)"));
}

TEST(TcpWindow, AProbeOfOurClosedWindowIsAnsweredAlways) {
  // RFC 9293, section 3.8.6.1: a segment that meets a zero window is answered with an ACK.
  expect_transcript(accepted(R"(
set receive_buffer_bytes 1000
  20 in  . 1:1001 ack 1
  20 out . 1:1 ack 1001 win 0
  70 in  . 1001:1002 ack 1
  70 out . 1:1 ack 1001 win 0
  71 in  . 1001:1002 ack 1
  71 out . 1:1 ack 1001 win 0
  72 in  . 1001:1002 ack 1
  72 out . 1:1 ack 1001 win 0
)"));
}

TEST(TcpWindow, ReadingTwoSegmentsOrHalfTheBufferAnnouncesTheWindowAtOnce) {
  // RFC 9293, section 3.8.6.2.2, MUST-39: the receiver's avoidance of silly windows, min(Fr *
  // RCV.BUFF, Eff.snd.MSS) with Fr = 1/2.
  expect_transcript(accepted(R"(
set receive_buffer_bytes 2000
  20 in  . 1:1001 ack 1
  20 out . 1:1 ack 1001 win 1000
  20 in  . 1001:2001 ack 1
  20 out . 1:1 ack 2001 win 0
  20 news readable
  30 read 900
  40 read 100
  40 out . 1:1 ack 2001 win 1000
)"));
}

TEST(TcpWindow, TheAckOnATextlessSegmentIsHeardWhileOurWindowIsClosed) {
  // RFC 9293, section 3.10.7.4, first, table 6: with RCV.WND = 0 a segment without text is
  // acceptable at RCV.NXT, so that its ACK is heard.
  expect_transcript(accepted(R"(
set receive_buffer_bytes 1000
  20 in  . 1:1001 ack 1
  20 out . 1:1 ack 1001 win 0
  20 write 10
  20 out P. 1:11 ack 1001 win 0
  30 in  . 1001:1001 ack 11
 900 count retransmission_timeouts 0
)"));
}

TEST(TcpWindow, APeerThatKeepsItsWindowClosedButAnswersIsKeptUntilItsUserLetsGo) {
  // RFC 9293, section 3.8.6.1, MUST-37, "subject to the implementation's resource management
  // concerns": after release() nobody else bounds it.
  expect_transcript(accepted(R"(
set user_timeout 1000
   20 in  . 1:1 ack 1 win 0
   20 write 100
  220 out . 1:2
  230 in  . 1:1 ack 1 win 0
  620 out . 1:2
  630 in  . 1:1 ack 1 win 0
 1420 out . 1:2
 1430 in  . 1:1 ack 1 win 0
 1500 release
 2430 out R. 1:1
 2431 gone
)"));
}

TEST(TcpWindow, APeerThatTakesItsWindowBackIsNotOverrunWithNewData) {
  // RFC 9293, section 3.8.6: discouraged, but a sender MUST be robust against it.
  expect_transcript(accepted(R"(
   20 in  . 1:1 ack 1 win 3000
   20 write 6000
   20 out . 1:1001
   20 out . 1001:2001
   20 out . 2001:3001
   30 in  . 1:1 ack 1 win 1000
  100 count retransmitted_segments 0
  220 out . 1:1001
  230 in  . 1:1 ack 3001 win 5000
  230 out . 3001:4001
  230 out . 4001:5001
  240 in  . 1:1 ack 5001 win 5000
  240 out P. 5001:6001
  250 in  . 1:1 ack 6001
)"));
}

constexpr const char* kWindowClosesBeforeSackedText = R"(
   20 write 5000
   20 out . 1:1001
   20 out . 1001:2001
   20 out . 2001:3001
   20 out . 3001:4001
   20 out P. 4001:5001
   30 in  . 1:1 ack 1 sack 1001-5001
30-31 out . 1:1001
   40 in  . 1:1 ack 1001 win 0   # what came early had to make room
)";

TEST(TcpWindow, AClosedWindowIsProbedWithTextThatWasSacked) {
  // RFC 2018, section 8: what is SACKed first in line is repeated after a time-out all the same;
  // RFC 9293, section 3.8.6.1: a closed window is probed regularly, for its opening may get lost.
  for (const std::string rack : {"set rack 0\n", "set rack 1\n"})
    expect_transcript(accepted_sack(rack + kWindowClosesBeforeSackedText + R"(
  240 out . 1001:2001
  250 in  . 1:1 ack 1001 win 0
  640 out . 1001:2001
  650 in  . 1:1 ack 1001 win 0
 1440 out . 1001:2001
 1450 in  . 1:1 ack 1001 win 0
 1450 count reneged 1
)"));
}

TEST(TcpWindow, WhatWasThrownAwayBehindAClosedWindowIsSentAgain) {
  // RFC 2018, section 8: none of what was SACKed may be counted on.
  for (const std::string rack : {"set rack 0\n", "set rack 1\n"})
    expect_transcript(accepted_sack(rack + kWindowClosesBeforeSackedText + R"(
  240 out . 1001:2001
  250 in  . 1:1 ack 2001 win 60000
  250 out . 2001:3001
  250 out . 3001:4001
  250 out P. 4001:5001
  260 in  . 1:1 ack 5001 win 60000
  261 count reneged 1
)"));
}

TEST(TcpWindow, APeerThatIsSilentBehindSackedTextIsGivenUp) {
  // RFC 9293, section 3.8.3: the user time-out counts from the last answer to a probe.
  expect_transcript(
      accepted_sack(std::string{"set user_timeout 1000\n"} + kWindowClosesBeforeSackedText + R"(
  240 out . 1001:2001
  640 out . 1001:2001
 1040 out R. 1001:1001
 1040 news reset
 1040 failure timed-out
)"));
}

TEST(TcpWindow, AWindowThatClosesBehindTheNewDataOfATimeoutIsProbed) {
  // RFC 5682, section 2.1, (2): new data is out, and its answer would decide; RFC 9293, section
  // 3.8.6.1: behind a closed window there is none, and the first text is the probe.
  expect_transcript(accepted(R"(
   20 write 2000
   20 out . 1:1001
   20 out P. 1001:2001
  220 out . 1:1001
  225 write 1000
  230 in  . 1:1 ack 1001
  230 out P. 2001:3001
  240 in  . 1:1 ack 1001 win 0
  630 out . 1001:2001
  640 in  . 1:1 ack 1001 win 0
 1430 out . 1001:2001
 1440 in  . 1:1 ack 3001
)"));
}

TEST(TcpWindow, NoTailProbeIsSentIntoAWindowThatHasClosedUnderIt) {
  // RFC 8985, section 7.3, sends the last segment again; RFC 9293, section 3.8.6.1, leaves a closed
  // window to the probes of the retransmission timer.
  expect_transcript(accepted_sack(R"(
   20 write 1000
   20 out P. 1:1001
   30 in  . 1:1 ack 1 win 0
  219 count tail_probes 0
  220 out P. 1:1001
  230 in  . 1:1 ack 1001
)"));
}

TEST(TcpWindow, AClosedWindowInTheHandshakeIsProbed) {
  // RFC 9293, section 3.8.6.1.
  expect_transcript(R"(
    0 listen
    0 in  S 0:0 mss 1000 win 0
    0 out S. 0:0 ack 1
   10 in  . 1:1 ack 1 win 0
   10 news accepted
   20 write 100
  220 out . 1:2
  230 in  . 1:1 ack 1 win 5000
  230 out P. 1:101
  240 in  . 1:1 ack 101
)");
}

TEST(TcpWindow, AnOlderSegmentDoesNotChangeTheWindow) {
  // RFC 9293, section 3.10.7.4, fifth: SND.WL1 and SND.WL2. The window of a segment that was
  // overtaken is out of date.
  expect_transcript(accepted(R"(
   20 in  . 101:201 ack 1 win 4000
   20 out . 1:1 ack 1
   21 in  . 1:101 ack 1 win 0
   21 out . 1:1 ack 201
   22 news readable
   22 write 3000
   22 out . 1:1001
   22 out . 1001:2001
   22 out P. 2001:3001
   30 in  . 201:201 ack 3001
)"));
}

TEST(TcpWindow, AnAckOfSomethingNewTellsTheWindowWhateverItsNumber) {
  // RFC 9293, section 3.10.7.4, fifth, takes the window only from numbers at least as high as the
  // last: the edge would move on with SND.UNA, and two sides that have both lost text would call
  // each other's ACKs, sent from beyond the window, unacceptable for ever.
  expect_transcript(accepted(R"(
   20 in  . 101:201 ack 1 win 2000
   20 out . 1:1 ack 1
   30 write 3000
   30 out . 1:1001
   30 out . 1001:2001
   40 in  . 1:101 ack 2001 win 0
   40 out . 2001:2001 ack 201
  240 out . 2001:2002
  250 in  . 201:201 ack 2001 win 1000
  250 out P. 2001:3001
  260 in  . 201:201 ack 3001
)"));
}

TEST(TcpWindow, AFinNeedsRoomToo) {
  // RFC 9293, section 3.4: it occupies a sequence number; a closed window is probed for it.
  expect_transcript(accepted(R"(
   20 in  . 1:1 ack 1 win 0
   20 close
  219 news none
  220 out F. 1:1
  230 in  . 1:1 ack 2
  240 in  F. 1:1 ack 2
  240 out . 2:2 ack 2
  241 news readable closed
)"));
}

// ---- small segments: RFC 9293, section 3.7.4, and RFC 1122, section 4.2.3.4 ---------------------

TEST(TcpNagle, IsOffUnlessAskedFor) {
  // RFC 9293, section 3.7.4: "SHOULD implement", MUST-17: an application can switch it off. Whoever
  // writes here writes whole messages, so it begins switched off.
  expect_transcript(accepted(R"(
  20 write 100
  20 out P. 1:101
  21 write 100
  21 out P. 101:201
  30 in  . 1:1 ack 201
)"));
}

TEST(TcpNagle, ASmallSegmentWaitsWhileAnotherIsInFlight) {
  // RFC 9293, section 3.7.4.
  expect_transcript(accepted(R"(
  15 option nodelay 0
  20 write 100
  20 out P. 1:101
  21 write 100
  22 write 100
  30 in  . 1:1 ack 101
  30 out P. 101:301
  40 in  . 1:1 ack 301
)"));
}

TEST(TcpNagle, AFullSegmentDoesNotWait) {
  // RFC 9293, section 3.7.4: until "a full-sized segment" can be sent.
  expect_transcript(accepted(R"(
  15 option nodelay 0
  20 write 100
  20 out P. 1:101
  21 write 1100
  21 out . 101:1101
  30 in  . 1:1 ack 1101
  30 out P. 1101:1201
  40 in  . 1:1 ack 1201
)"));
}

TEST(TcpNagle, TheLastSegmentLeavesWithTheFin) {
  // RFC 9293, section 3.7.4, with section 3.6, case 1: nothing will be added to it, so waiting
  // would win nothing.
  expect_transcript(accepted(R"(
  15 option nodelay 0
  20 write 100
  20 out P. 1:101
  21 write 100
  22 close
  22-31 may FP. 101:201
  30 in  . 1:1 ack 101
  31 skip
  40 in  . 1:1 ack 202
  41 count retransmitted_segments 0
)"));
}

}  // namespace
}  // namespace weir::tcp
