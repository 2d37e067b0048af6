#include <string>

#include "tests/l7/tcp/transcript.h"

// What may stand in the option field and elsewhere in a header: RFC 9293, sections 3.1, 3.2
// and 3.7.

namespace weir::tcp {
namespace {

struct OptionCase {
  const char* name;
  const char* syn_options;  ///< hex
};

std::string name_of(const ::testing::TestParamInfo<OptionCase>& row) { return row.param.name; }

class TcpHarmlessOptions : public ::testing::TestWithParam<OptionCase> {};
TEST_P(TcpHarmlessOptions, DoNotHinderAConnection) {
  // RFC 9293, section 3.1, MUST-6: unknown options are skipped by their length, and so is what has
  // no meaning on a SYN.
  expect_transcript(std::string{"0 listen\n0 in S 0:0 opt "} + GetParam().syn_options +
                    "\n0 out S. 0:0 ack 1\n10 in . 1:1 ack 1\n10 news accepted\n");
}
INSTANTIATE_TEST_SUITE_P(
    , TcpHarmlessOptions,
    ::testing::Values(OptionCase{"AnUnknownKind", "fd06010203040101"},
                      OptionCase{"AnUnknownKindWithoutData", "fc020101"},
                      OptionCase{"NopsOnly", "0101010101010101"},
                      OptionCase{"AnEndBeforeGarbage", "0001050a"},
                      OptionCase{"FastOpenWithoutACookie", "22020101"},
                      OptionCase{"FastOpenWithACookie", "220a01020304050607080101"},
                      OptionCase{"AMultipathOffer", "1e0c0081010203040506070801010101"},
                      OptionCase{"AMssTwice", "020403e80204044c"},
                      OptionCase{"SackBlocksOnASyn", "050a00000001000000020101"},
                      OptionCase{"FortyBytesOfThem",
                                 "fd280000000000000000000000000000000000000000"
                                 "000000000000000000000000000000000000"}),
    name_of);

class TcpBrokenOptions : public ::testing::TestWithParam<OptionCase> {};
TEST_P(TcpBrokenOptions, DropTheSegmentAndCountIt) {
  // RFC 9293, section 3.1, MUST-7: an illegal length is handled. It suggests a reset; here the
  // segment is dropped, since what is damaged once comes again whole.
  expect_transcript(std::string{"0 listen\n0 in S 0:0 opt "} + GetParam().syn_options +
                    "\n1 count dropped_malformed 1\n1 count half_open 0\n");
  expect_transcript(accepted(std::string{"20 in . 1:11 ack 1 opt "} + GetParam().syn_options +
                             "\n70 count dropped_malformed 1\n70 news none\n"));
}
INSTANTIATE_TEST_SUITE_P(, TcpBrokenOptions,
                         ::testing::Values(OptionCase{"ALengthOfZero", "fd000101"},
                                           OptionCase{"ALengthOfOne", "fd010101"},
                                           OptionCase{"AKindAtTheVeryEnd", "01010102"},
                                           OptionCase{"ALengthBeyondTheHeader", "0101fd09"},
                                           OptionCase{"AMssOfThreeBytes", "02030501"},
                                           OptionCase{"AWindowScaleOfTwoBytes", "0304070a"},
                                           OptionCase{"ASackPermittedWithData", "04030001"},
                                           OptionCase{"TimeStampsOfFourBytes", "0806000000010101"},
                                           OptionCase{"HalfASackBlock", "0506000000010101"}),
                         name_of);

TEST(TcpOptions, AWindowScaleBeyondFourteenCountsAsFourteen) {
  // RFC 7323, section 2.3.
  expect_transcript(R"(
   0 listen
   0 in  S 0:0 mss 1000 ws 15
   0 out S. 0:0 ack 1 ws 3
  10 in  . 1:1 ack 1 win 1
  10 news accepted
  20 write 30000
  20 out . 1:1001
  20 out . 1001:2001
  20 out . 2001:3001
  20 out . 3001:4001
  20 out . 4001:5001
  20 out . 5001:6001
  20 out . 6001:7001
  20 out . 7001:8001
  20 out . 8001:9001
  20 out . 9001:10001
  30 in  . 1:1 ack 10001 win 1
  31 skip
  35 abort
  35 skip
)");
}

TEST(TcpOptions, AMssOfNothingIsNotBelieved) {
  // RFC 9293, section 3.7.1, MUST-16, is bent: below 88 bytes, options included, headers would be
  // all that a hostile peer makes us send.
  for (const char* mss : {"0", "1", "40"}) {
    expect_transcript("0 listen\n0 in S 0:0 mss " + std::string{mss} + R"(
   0 out S. 0:0 ack 1
  10 in  . 1:1 ack 1
  10 news accepted
  20 write 100
  20 out . 1:89
  20 out P. 89:101
  30 in  . 1:1 ack 101
)");
  }
}

TEST(TcpOptions, AMssAboveOursIsBoundByTheLink) {
  // RFC 9293, section 3.7.1: min(SendMSS, MMS_S).
  expect_transcript_v4(R"(
   0 listen
   0 in  S 0:0 mss 9000
   0 out S. 0:0 ack 1
  10 in  . 1:1 ack 1
  10 news accepted
  20 write 2000
  20 out . 1:1461
  20 out P. 1461:2001
  30 in  . 1:1 ack 2001
)");
}

TEST(TcpOptions, OnLaterSegmentsTheSynsOptionsMeanNothing) {
  // RFC 9293, section 3.7.1: MSS only with SYN; RFC 7323, section 2.2: window scale likewise.
  expect_transcript(accepted(R"(
  20 in  . 1:1 ack 1 mss 100 ws 2 sackok win 1500
  20 write 3000
  20 out . 1:1001
  20 may . 1001:1501
  30 in  . 1:1 ack 1001
  31 skip
  40 in  . 1:1 ack 3001
)"));
}

TEST(TcpOptions, TheAnnouncedMssIsThatOfTheLink) {
  // RFC 9293, section 3.7.1: MTU minus fixed headers, options not deducted (RFC 6691, section 2).
  expect_transcript_v4("0 connect\n0 out S 0:0 mss 1460\n");
  expect_transcript_v6("0 connect\n0 out S 0:0 mss 1440\n");
  expect_transcript_v4("   set mtu 9000\n0 connect\n0 out S 0:0 mss 8960\n");
}

TEST(TcpUrgent, DataIsReadInLine) {
  // RFC 6093, section 2.1: it was never meant to leave the line. RFC 9293, section 3.8.5, MUST-32,
  // wants the user told where it ends; this stack does not.
  expect_transcript(accepted(R"(
  20 in  .U 1:11 ack 1 urg 5
  20-61 out . 1:1 ack 11
  70 news readable
  70 read 10
)"));
}

TEST(TcpUrgent, APointerBeyondTheTextDoesNotMatter) {
  // RFC 9293, section 3.8.5: "robust to invalid urgent pointer values"; without the flag there is
  // none (section 3.1).
  expect_transcript(accepted(R"(
  20 in  .U 1:11 ack 1 urg 65535
  29 skip
  30 in  . 11:21 ack 1 urg 7
  80 skip
  80 news readable
  80 read 20
)"));
}

TEST(TcpUrgent, AnUrgentSegmentWithoutTextIsAnAck) {
  // RFC 9293, section 3.8.5: no text, nothing urgent; section 3.10.7.4, fifth: its ACK counts.
  expect_transcript(accepted(R"(
  20 write 10
  20 out P. 1:11
  30 in  .U 1:1 ack 11 urg 1
 900 count retransmission_timeouts 0
)"));
}

TEST(TcpFlags, TheReservedEcnFlagsDoNotHinderAnything) {
  // RFC 9293, section 3.1: what is not negotiated is ignored.
  expect_transcript(accepted("20 in EWP. 1:11 ack 1\n20-61 out . 1:1 ack 11\n70 news readable\n"));
}

TEST(TcpFlags, FinAndRstTogetherReset) {
  // RFC 9293, section 3.10.7.4: RST is looked at before FIN.
  expect_transcript(accepted("20 in RF. 1:1 ack 1\n20 news reset\n20 failure reset\n"));
}

TEST(TcpFlags, AllAtOnceAreDropped) {
  // RFC 9293, section 3.10.7.4, fourth, would challenge the SYN; what scanners send ("Christmas
  // tree"), SYN with FIN or RST, has no meaning and gets no answer.
  expect_transcript(
      accepted("20 in SFRPU. 1:1 ack 1 urg 1\n20 count dropped_malformed 1\n20 news none\n"));
}

}  // namespace
}  // namespace weir::tcp
