#include "tests/l7/tcp/transcript.h"

namespace weir::tcp {
namespace {

TEST(TcpIcmp, UnreachableFailsAConnectWhenItQuotesOurSyn) {
  // RFC 5461, section 4.1: in SYN-SENT a soft error ends the attempt, against RFC 1122, section
  // 4.2.3.9, since another address may be tried. RFC 5927, section 4.1: only if what it quotes is
  // in flight.
  expect_transcript(R"(
   0 connect
   0 out S 0:0
   5 icmp unreachable 7
   5 news none
   6 icmp unreachable 0
   6 news reset
   6 failure unreachable
)");
}

TEST(TcpIcmp, UnreachableDoesNotEndAnOpenConnection) {
  // RFC 1122, section 4.2.3.9: a soft error, "MUST NOT abort the connection"; so RFC 9293, section
  // 3.9.2.2.
  expect_transcript(accepted(R"(
  20 write 100
  20 out P. 1:101
  30 icmp unreachable 1
  30 icmp exceeded 1
  30 news none
  40 in  . 1:1 ack 101
)"));
}

TEST(TcpIcmp, PacketTooBigMakesSegmentsSmallerAndSendsThemAgainAtOnce) {
  // RFC 1191, section 6.4: what was too large is sent again at once, and the congestion window
  // stays. It wants slow start besides; here the pieces leave at the pace of the window. RFC 5927,
  // section 4.1: only if the number quoted is in flight.
  expect_transcript_v4(accepted(R"(
  20 write 1500
  20 out . 1:1001
  20 out P. 1001:1501
  30 icmp toobig 9999 600      # not in flight: a guess
  30 icmp toobig 1 600
  30 out . 1:561
  30 out . 561:1001            # the second one was not too large
  40 icmp toobig 1 100         # below the floor of 552 bytes: believed down to there
  40 out . 1:513
  41 skip
  50 in  . 1:1 ack 1501
  50 count retransmission_timeouts 0
)"));
}

TEST(TcpIcmp, ASmallerMtuDuringTheHandshakeIsRemembered) {
  // RFC 1191, section 6.2: the estimate belongs to the path, so the text that follows the handshake
  // is cut to it.
  expect_transcript_v4(R"(
   0 connect
   0 out S 0:0
   5 icmp toobig 0 600
  10 in  S. 0:0 ack 1 mss 1000
  10 out . 1:1 ack 1
  10 write 600
  10 out . 1:561
  10 out P. 561:601
  20 in . 1:1 ack 601
)");
}

TEST(TcpIcmp, NoErrorEndsAnOpenConnection) {
  // RFC 5461, section 4.1, RFC 5927, section 5: not even those that RFC 1122 calls hard; data that
  // is in flight decides.
  for (const char* error : {"net", "unreachable", "port", "protocol", "admin", "exceeded"}) {
    expect_transcript(accepted(std::string{"20 write 100\n20 out P. 1:101\n30 icmp "} + error +
                               " 1\n30 news none\n40 in . 1:1 ack 101\n41 count connections 1\n"));
  }
}

TEST(TcpIcmp, ARefusedPortFailsAConnect) {
  // RFC 1122, section 4.2.3.9: a hard error, SHOULD abort.
  expect_transcript("0 connect\n0 out S 0:0\n5 icmp port 0\n5 news reset\n5 failure unreachable\n");
}

TEST(TcpIcmp, TimeExceededDoesNotFailAConnect) {
  // RFC 1122, section 4.2.3.9: the path may be there a moment later.
  expect_transcript(R"(
   0 connect
   0 out S 0:0
   5 icmp exceeded 0
   5 news none
  10 in  S. 0:0 ack 1
  10 out . 1:1 ack 1
  10 news connected
)");
}

TEST(TcpIcmp, AHalfOpenConnectionIsNotEndedByAnError) {
  // RFC 5927, section 5.2, spares synchronized states only; here SYN-RECEIVED is spared, too: its
  // numbers are easier to guess than those of a long connection.
  expect_transcript(R"(
   0 listen
   0 in  S 0:0
   0 out S. 0:0 ack 1
   5 icmp unreachable 0
  10 in  . 1:1 ack 1
  10 news accepted
)");
}

TEST(TcpIcmp, AQuoteOfAcknowledgedDataIsNotBelieved) {
  // RFC 5927, section 4.1: SND.UNA =< quoted < SND.NXT.
  expect_transcript_v4(accepted(R"(
  20 write 1000
  20 out P. 1:1001
  30 in  . 1:1 ack 1001
  40 write 1000
  40 out P. 1001:2001
  50 icmp toobig 1 600
  50 icmp toobig 2001 600
  50 icmp toobig -1 600
  51 count retransmitted_segments 0
  60 in  . 1:1 ack 2001
)"));
}

TEST(TcpIcmp, ALargerPathIsNotNews) {
  // RFC 1191, section 3: the estimate MUST NOT grow by such a message.
  expect_transcript_v4(accepted(R"(
  20 write 1000
  20 out P. 1:1001
  30 icmp toobig 1 1400
  31 count retransmitted_segments 0
  40 in  . 1:1 ack 1001
)"));
}

TEST(TcpIcmp, PacketTooBigInIpv6GoesDownToItsMinimum) {
  // RFC 8201, section 4: 1280, of which 60 are headers; less is not believed.
  expect_transcript_v6(R"(
   0 listen
   0 in  S 0:0 mss 1400
   0 out S. 0:0 ack 1
  10 in  . 1:1 ack 1
  10 news accepted
  20 write 1400
  20 out P. 1:1401
  30 icmp toobig 1 1279
  30 icmp toobig 1 1280
  30 out . 1:1221
  30 out P. 1221:1401
  40 in  . 1:1 ack 1401
)");
}

TEST(TcpIcmp, TheNextConnectionToThatHostKnowsItsPath) {
  // RFC 1191, section 6.2; RFC 8201, section 5.2.
  expect_transcript_v4(accepted(R"(
  20 write 1000
  20 out P. 1:1001
  30 icmp toobig 1 600
  30 out . 1:561
  30 out P. 561:1001
  40 in  . 1:1 ack 1001
  50 peer 40001
  50 in  S 0:0 mss 1000
  50 out S. 0:0 ack 1
  60 in  . 1:1 ack 1
  60 news accepted
  70 write 1000
  70 out . 1:561
  70 out P. 561:1001
  80 in  . 1:1 ack 1001
)"));
}

}  // namespace
}  // namespace weir::tcp
