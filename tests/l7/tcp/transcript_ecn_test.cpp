#include "tests/l7/tcp/transcript.h"

// Explicit congestion notification, the classic one: RFC 3168, section 6.1. Accepted on passive
// opens, offered on active ones only when asked to.

namespace weir::tcp {
namespace {

std::string accepted_ecn(std::string_view rest) {
  return R"(
   0 listen
   0 in  SEW 0:0 mss 1000
   0 out SE. 0:0 ack 1
  10 in  . 1:1 ack 1
  10 news accepted
)" + std::string{rest};
}

TEST(TcpEcn, AnOfferIsAcceptedOnAPacketThatIsNotCapableItself) {
  // RFC 3168, section 6.1.1: SYN-ACK with ECE and without CWR; neither SYN nor SYN-ACK may be ECT.
  expect_transcript("0 listen\n0 in SEW 0:0\n0 out SE. 0:0 ack 1 ecn none\n");
}

TEST(TcpEcn, WithoutAnOfferItIsNotUsed) {
  // RFC 3168, section 6.1.1.
  expect_transcript(accepted("20 write 100\n20 out P. 1:101 ecn none\n30 in . 1:1 ack 101\n"));
}

TEST(TcpEcn, HalfAnOfferIsNone) {
  // RFC 3168, section 6.1.1: an ECN-setup SYN has both flags.
  expect_transcript("0 listen\n0 in SE 0:0\n0 out S. 0:0 ack 1\n");
  expect_transcript("0 listen\n0 in SW 0:0\n0 out S. 0:0 ack 1\n");
}

TEST(TcpEcn, DataIsCapableAndBareAcksAreNot) {
  // RFC 3168, sections 6.1.2 and 6.1.4.
  expect_transcript(accepted_ecn(R"(
  20 write 1500
  20 out . 1:1001 ecn ect0
  20 out P. 1001:1501 ecn ect0
  30 in  . 1:101 ack 1501 ecn ect0
  30-71 out . 1501:1501 ack 101 ecn none
  80 news readable
)"));
}

TEST(TcpEcn, RetransmissionsAreNotCapable) {
  // RFC 3168, section 6.1.5.
  expect_transcript(accepted_ecn(R"(
  20 write 100
  20 out P. 1:101 ecn ect0
 220 out P. 1:101 ecn none
 230 in  . 1:1 ack 101
)"));
}

TEST(TcpEcn, WindowProbesAreNotCapable) {
  // RFC 3168, section 6.1.6.
  expect_transcript(accepted_ecn(R"(
  20 in  . 1:1 ack 1 win 0
  20 write 100
 220 out . 1:2 ecn none
 230 in  . 1:1 ack 1 win 5000
 230 out P. 1:101
 240 in  . 1:1 ack 101
)"));
}

TEST(TcpEcn, CongestionIsEchoedUntilThePeerSaysThatItHasReacted) {
  // RFC 3168, section 6.1.3.
  expect_transcript(accepted_ecn(R"(
  20 in  . 1:101 ack 1 ecn ce
  20-61 out E. 1:1 ack 101
 100 in  . 101:201 ack 1 ecn ect0
 100-141 out E. 1:1 ack 201
 200 in  W. 201:301 ack 1 ecn ect0
 200-241 out . 1:1 ack 301
 300 in  . 301:401 ack 1 ecn ect0
 300-341 out . 1:1 ack 401
 350 news readable
)"));
}

TEST(TcpEcn, TheEchoRidesOnData) {
  // RFC 3168, section 6.1.3: in all ACKs, also those with text.
  expect_transcript(accepted_ecn(R"(
  20 in  . 1:101 ack 1 ecn ce
  20-61 out E. 1:1 ack 101
  70 write 10
  70 out EP. 1:11 ack 101
 100 in  . 101:101 ack 11
 100 news readable
)"));
}

TEST(TcpEcn, ANewMarkOnThePacketThatConfirmsStartsANewEcho) {
  // RFC 3168, section 6.1.3: CWR ends the old one, CE on the same packet begins another.
  expect_transcript(accepted_ecn(R"(
  20 in  . 1:101 ack 1 ecn ce
  20-61 out E. 1:1 ack 101
 100 in  W. 101:201 ack 1 ecn ce
 100-141 out E. 1:1 ack 201
 150 news readable
)"));
}

TEST(TcpEcn, AnEchoHalvesTheWindowOnceAndIsConfirmedOnTheNextNewData) {
  // RFC 3168, section 6.1.2: as for a loss, without a retransmission, at most once a round trip;
  // CWR on the first new data segment only.
  expect_transcript(
      accepted_ecn("   set congestion newreno\n20 write 30000\n" + ten_segments(20) + R"(
  30 in  E. 1:1 ack 1001
  31 in  E. 1:1 ack 2001
  32 in  E. 1:1 ack 10001
  32 out W. 10001:11001 ecn ect0
  32 out . 11001:12001
  32 out . 12001:13001
  32 out . 13001:14001
  33 skip
  35 abort
  35 skip
  35 count retransmitted_segments 0
  35 count fast_retransmits 0
)"));
}

TEST(TcpEcn, AnEchoWithoutAgreementMeansNothing) {
  // RFC 3168, section 6.1.1.
  expect_transcript(accepted("20 write 30000\n" + ten_segments(20) + R"(
  30 in  E. 1:1 ack 1001
  30 out . 10001:11001
  30 out . 11001:12001
  35 abort
  35 out R. 12001:12001
)"));
}

TEST(TcpEcn, AMarkWithoutAgreementIsNotEchoed) {
  // RFC 3168, section 6.1.1.
  expect_transcript(accepted(R"(
  20 in  . 1:101 ack 1 ecn ce
  20-61 out . 1:1 ack 101
  70 news readable
)"));
}

TEST(TcpEcn, AMarkOnWhatIsNotInTheWindowIsNotEchoed) {
  // RFC 3168, section 6.1.5: it may be forged, or from another connection.
  expect_transcript(accepted_ecn(R"(
  20 in  . -99:1 ack 1 ecn ce
  20 out . 1:1 ack 1
)"));
}

TEST(TcpEcn, ASynThatIsRepeatedWithoutTheOfferGivesItUp) {
  // RFC 3168, section 6.1.1.1: a firewall may have dropped the first; whoever got a SYN without
  // does not answer with ECE.
  expect_transcript(R"(
   0 listen
   0 in  SEW 0:0 mss 1000
   0 out SE. 0:0 ack 1
 500 in  S 0:0 mss 1000
 500 out S. 0:0 ack 1
 510 in  . 1:1 ack 1
 510 news accepted
 520 write 100
 520 out P. 1:101 ecn none
 530 in  . 1:1 ack 101
)");
}

TEST(TcpEcn, AnActiveOpenDoesNotOfferItByDefault) {
  // RFC 3168, section 6.1.1: a host MAY send an ECN-setup SYN.
  expect_transcript("0 connect\n0 out S 0:0 ecn none\n");
}

TEST(TcpEcn, AnActiveOpenOffersItWhenAsked) {
  // RFC 3168, section 6.1.1.
  expect_transcript(R"(
   set ecn_active 1
   0 connect
   0 out SEW 0:0 ecn none
  10 in  SE. 0:0 ack 1 mss 1000
  10 out . 1:1 ack 1 ecn none
  10 news connected
  20 write 100
  20 out P. 1:101 ecn ect0
  30 in  . 1:1 ack 101
)");
}

TEST(TcpEcn, ARefusedOfferIsNotUsed) {
  // RFC 3168, section 6.1.1: a SYN-ACK without ECE; section 6.1.1.2: one that merely mirrors both
  // flags.
  for (const char* answer : {"S.", "SEW.", "SW."}) {
    expect_transcript(std::string{R"(
   set ecn_active 1
   0 connect
   0 out SEW 0:0
  10 in  )"} + answer +
                      R"( 0:0 ack 1 mss 1000
  10 out . 1:1 ack 1
  10 news connected
  20 write 100
  20 out P. 1:101 ecn none
  30 in  . 1:1 ack 101
)");
  }
}

TEST(TcpEcn, ASynThatIsRepeatedIsSentWithoutTheOffer) {
  // RFC 3168, section 6.1.1.1.
  expect_transcript(R"(
    set ecn_active 1
    0 connect
    0 out SEW 0:0
 1000 out S 0:0
 1010 in  S. 0:0 ack 1
 1010 out . 1:1 ack 1
 1010 news connected
)");
}

}  // namespace
}  // namespace weir::tcp
