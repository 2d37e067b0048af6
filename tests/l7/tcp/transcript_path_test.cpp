#include <fmt/format.h>

#include <string>

#include "tests/l7/tcp/transcript.h"

// How large a segment the path carries, where nobody says so (RFC 4821). What ICMP says is in
// transcript_icmp_test.cpp. A segment of more than the size in use is a probe.

namespace weir::tcp {
namespace {

/// Ten segments of 1400 bytes have been lost, and two time-outs later 1024 bytes got through; by
/// 670 ms all is acknowledged in such pieces, and five segments may be in flight.
std::string black_hole(std::string_view options, std::string_view rest) {
  std::string lines = "0 listen\n0 in S 0:0 mss 1400 " + std::string{options} + R"(
   set rack 0
   0 out S. 0:0 ack 1
  10 in  . 1:1 ack 1
  10 news accepted
  20 write 14000
)";
  for (unsigned first = 1; first < 14001; first += 1400)
    lines += "20 out . " + std::to_string(first) + ":" + std::to_string(first + 1400) + "\n";
  return lines + R"(
 220 out . 1:1401
 620 out . 1:1025
 630 in  . 1:1 ack 1025
 630 skip 1025
 640 in  . 1:1 ack 2801
 640 skip 1025
 650 in  . 1:1 ack 5601
 650 skip 1025
 660 in  . 1:1 ack 9801
 660 skip 1025
 670 in  . 1:1 ack 14001
)" + std::string{rest};
}

TEST(TcpBlackHole, TwoTimeOutsOfALargeSegmentBringItDownToWhatEveryPathCarries) {
  // RFC 4821, section 7.7; section 7.2: to about 1024 bytes in IPv4 and the least MTU in IPv6, of
  // which 60 bytes are headers.
  expect_transcript_v4(black_hole("", " 671 count black_holes 1\n"));
  expect_transcript_v6(R"(
    0 listen
    0 in  S 0:0 mss 1400
    0 out S. 0:0 ack 1
   10 in  . 1:1 ack 1
   10 news accepted
   20 write 1400
   20 out P. 1:1401
  220 out P. 1:1401
  620 out . 1:1221
  630 in  . 1:1 ack 1221
  630 out P. 1221:1401
  640 in  . 1:1 ack 1401
  640 count black_holes 1
)");
}

TEST(TcpBlackHole, TimeOutsOfSmallSegmentsAreNoSign) {
  // RFC 4821, section 7.7: what every path carries is lost for another reason.
  expect_transcript_v4(accepted(R"(
   20 write 1000
   20 out P. 1:1001
  220 out P. 1:1001
  620 out P. 1:1001
 1420 out P. 1:1001
 1430 in  . 1:1 ack 1001
 1430 count black_holes 0
)"));
}

TEST(TcpBlackHole, FourTimeOutsBringIPv4DownToWhatEveryHostTakes) {
  // RFC 4821, section 7.7: the search goes on downwards; RFC 791, section 3.1: 576 bytes.
  expect_transcript_v4(accepted(R"(
   20 write 1000
   20 out P. 1:1001
  220 out P. 1:1001
  620 out P. 1:1001
 1420 out P. 1:1001
 3020 out . 1:513
 3030 in  . 1:1 ack 513
 3030 out P. 513:1001
 3040 in  . 1:1 ack 1001
 3040 count black_holes 1
)"));
}

TEST(TcpBlackHole, SwitchedOffSegmentsStayAsTheyAre) {
  // RFC 4821, section 7.7, not followed; RFC 6298, section 5.4, alone.
  expect_transcript(R"(
    set path_probing 0
    0 listen
    0 in  S 0:0 mss 1400
    0 out S. 0:0 ack 1
   10 in  . 1:1 ack 1
   10 news accepted
   20 write 1400
   20 out P. 1:1401
  220 out P. 1:1401
  620 out P. 1:1401
 1420 out P. 1:1401
 3020 out P. 1:1401
 6220 out P. 1:1401
 6230 in  . 1:1 ack 1401
 6230 count black_holes 0
)");
}

/// A flight whose first segment, of `size` bytes, is too large; three behind it arrive.
std::string too_large(unsigned at_ms, unsigned first, unsigned size, unsigned proven) {
  const unsigned end = first + size + 3 * proven;
  std::string lines =
      fmt::format("{0} write {1}\n{0} out . {2}:{3}\n", at_ms, end - first, first, first + size);
  for (unsigned next = first + size; next < end; next += proven)
    lines += fmt::format("{} out . {}:{}\n", at_ms, next, next + proven);
  for (unsigned i = 10; i < 13; ++i)
    lines += fmt::format("{} in . 1:1 ack {}\n", at_ms + i, first);
  return lines + fmt::format("{0} out . {1}:{2}\n{0} out . {2}:{3}\n{4} in . 1:1 ack {5}\n",
                             at_ms + 12, first, first + proven, first + size, at_ms + 22, end);
}

/// A probe of 1212 bytes at 1700 ms is lost. Before it something has been acknowledged, or the
/// duplicates would be taken for echoes of the time-out.
std::string lost_probe(std::string_view rest) {
  return black_hole("", R"(
1000 write 999
1000 out P. 14001:15000
1010 in  . 1:1 ack 15000
)" + too_large(1700, 15000, 1212, 1024)) +
         std::string{rest};
}

TEST(TcpPathSearch, GoesUpHalfwayWithOneLargerSegmentAtATime) {
  // RFC 4821, section 7.3: a binary search, and the old size last, since that is likely; section
  // 7.5: one probe; section 7.6.1: what is delivered becomes the size of all. Not within a second
  // of the loss.
  expect_transcript_v4(black_hole("", R"(
1610 write 2048
1610 out . 14001:15025
1610 out P. 15025:16049
1620 in  . 1:1 ack 16049
1700 write 4284
1700 out . 16049:17261          # 1212
1700 out . 17261:18285
1700 out . 18285:19309
1700 out P. 19309:20333
1710 in  . 1:1 ack 20333
1720 write 2518
1720 out . 20333:21639          # 1306
1720 out P. 21639:22851         # 1212, which is proven
1730 in  . 1:1 ack 22851
1740 write 1353
1740 out P. 22851:24204         # 1353
1750 in  . 1:1 ack 24204
1760 write 1400
1760 out P. 24204:25604         # 1400
1770 in  . 1:1 ack 25604
1780 write 2800
1780 out . 25604:27004
1780 out P. 27004:28404
1790 in  . 1:1 ack 28404
1790 count black_holes 1
)"));
}

TEST(TcpPathSearch, AProbeThatIsLostAloneIsRepeatedInPiecesAndLeavesTheWindowAsItIs) {
  // RFC 4821, section 7.6.2; RFC 8899, section 3: no sign of congestion. Six segments may
  // be in flight; with a reduced window it would be three.
  expect_transcript_v4(lost_probe(R"(
1730 write 20000
1730 out . 19284:20308
1730 out . 20308:21332
1730 out . 21332:22356
1730 out . 22356:23380
1730 out . 23380:24404
1730 out . 24404:25428
1731 count fast_retransmits 0
1740 abort
1740 out R. 25428:25428
)"));
}

TEST(TcpPathSearch, TheLossOfAProbeIsFoundByTimeToo) {
  // RFC 4821, section 7.6.2, with RFC 8985, section 6.2, step 5; RFC 9293, section 3.7.1: the
  // options take their room from each segment.
  expect_transcript_v4(R"(
    0 listen
    0 in  S 0:0 mss 1400 sackok ts 0:-
    0 out S. 0:0 ack 1
   10 in  . 1:1 ack 1 ts 10:0
   10 news accepted
   20 write 13880
  640 skip
  650 in  . 1:1 ack 1013 ts 650:640
  651 skip
  660 in  . 1:1 ack 2777 ts 660:650
  661 skip
  670 in  . 1:1 ack 5553 ts 670:660
  671 skip
  680 in  . 1:1 ack 13881 ts 680:670
  681 count black_holes 1
 1000 write 500
 1000 out P. 13881:14381
 1010 in  . 1:1 ack 14381 ts 1010:1000
 1700 write 2212
 1700 out . 14381:15581          # 1212 less 12
 1700 out P. 15581:16593
 1710 in  . 1:1 ack 14381 sack 15581-16593 ts 1710:1700
 1712-1714 out . 14381:15393     # a quarter of the round trip later
 1712-1714 out . 15393:15581
 1722 in  . 1:1 ack 16593 ts 1722:1712
 1722 count fast_retransmits 0
)");
}

TEST(TcpPathSearch, AfterALostProbeASmallerOneFollowsASecondLater) {
  // RFC 4821, section 7.3: between what is proven and what has failed: (1024 + 1211) / 2.
  expect_transcript_v4(lost_probe(R"(
2700 write 2048
2700 out . 19284:20308
2700 out P. 20308:21332
2710 in  . 1:1 ack 21332
2720 write 1118
2720 out P. 21332:22450
2730 in  . 1:1 ack 22450
)"));
}
TEST(TcpPathSearch, EndsForTenMinutesAfterAPassThatHasWonNothing) {
  // RFC 4821, section 7.3: converged when "further probing is no longer worth its cost", here
  // below 32 bytes, and resumed when a timer expires: ten minutes in RFC 8899, section 5.1.1.
  expect_transcript_v4(lost_probe(R"(
2800 write 1118
2800 out P. 19284:20402
2810 in  . 1:1 ack 20402
)" + too_large(2900, 20402, 1165, 1118) +
                                  too_large(4000, 24921, 1141, 1118) +
                                  too_large(5100, 29416, 1259, 1118) +  // from the top again
                                  too_large(6200, 34029, 1188, 1118) +
                                  too_large(7300, 38571, 1153, 1118) +
                                  too_large(8400, 43078, 1135, 1118) + R"(
 10000 write 4472
 10000 out . 47567:48685
 10000 out . 48685:49803
 10000 out . 49803:50921
 10000 out P. 50921:52039
 10010 in  . 1:1 ack 52039
600000 write 2236
600000 out . 52039:53157
600000 out P. 53157:54275
600010 in  . 1:1 ack 54275
608500 write 1259
608500 out P. 54275:55534       # halfway to 1400
608510 in  . 1:1 ack 55534
)"));
}

TEST(TcpPathSearch, BeginsASecondLaterAfterAPassThatHasWonSomething) {
  // RFC 4821, section 7.6.2, takes one loss for the answer. On a path that loses anything it may be
  // none: 1188 are proven, 1212 may have been lost for another reason.
  expect_transcript_v4(lost_probe(R"(
2800 write 1118
2800 out P. 19284:20402
2810 in  . 1:1 ack 20402
2820 write 1165
2820 out P. 20402:21567
2830 in  . 1:1 ack 21567
2840 write 1188
2840 out P. 21567:22755
2850 in  . 1:1 ack 22755
3800 write 2376
3800 out . 22755:23943
3800 out P. 23943:25131
3810 in  . 1:1 ack 25131
3900 write 1294
3900 out P. 25131:26425         # halfway to 1400
3910 in  . 1:1 ack 26425
)"));
}

TEST(TcpPathSearch, AProbeNeedsDataAndRoomInThePeersWindow) {
  // RFC 4821, section 7.4: preconditions.
  expect_transcript_v4(black_hole("", R"(
1700 write 1211
1700 out . 14001:15025
1700 out P. 15025:15212
1710 in  . 1:1 ack 15212 win 1211
1720 write 1212
1720 out . 15212:16236
1730 in  . 1:1 ack 16236 win 1212
1730 out P. 16236:16424
1740 in  . 1:1 ack 16424 win 1212
1750 write 1212
1750 out P. 16424:17636
1760 in  . 1:1 ack 17636
)"));
}

TEST(TcpPathSearch, AProbeThatIsLostInATimeOutIsALossLikeAnyOther) {
  // RFC 4821, section 7.6.3: what leaves again has the proven size, and one segment at first.
  expect_transcript_v4(black_hole("", R"(
1000 write 999
1000 out P. 14001:15000
1010 in  . 1:1 ack 15000        # the time-out is 200 ms again
1700 write 2236
1700 out . 15000:16212
1700 out P. 16212:17236
1900 out . 15000:16024
1910 in  . 1:1 ack 16024
1910 out . 16024:16212
1910 out P. 16212:17236
1920 in  . 1:1 ack 17236
1920 count black_holes 1
1920 count retransmission_timeouts 3
)"));
}

TEST(TcpPathSearch, AProbeThatIsLostWithOthersLeavesTheirLossToCongestionControl) {
  // RFC 4821, section 7.6.4: something else was wrong as well.
  expect_transcript_v4(black_hole("sackok", R"(
1000 write 999
1000 out P. 14001:15000
1010 in  . 1:1 ack 15000
1700 write 5308
1700 out . 15000:16212
1700 out . 16212:17236
1700 out . 17236:18260
1700 out . 18260:19284
1700 out P. 19284:20308
1710 in  . 1:1 ack 15000 sack 17236-20308
1710 out . 15000:16024
1710 out . 16024:16212
1710 out . 16212:17236
1720 in  . 1:1 ack 20308
1720 count fast_retransmits 1
1730 write 20000
1730 out . 20308:21332
1730 out . 21332:22356
1730 out . 22356:23380
1740 abort
1740 out R. 23380:23380
)"));
}

}  // namespace
}  // namespace weir::tcp
