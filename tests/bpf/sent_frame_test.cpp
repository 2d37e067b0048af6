// The table's view of what was sent, shown what it must not accept: a result that is right in all
// but one thing.

#include "tests/bpf/sent_frame.h"

#include <gtest/gtest-spi.h>
#include <linux/bpf.h>

namespace weir::testing {
namespace {

constexpr std::size_t kOuterBytes = 20;

/// What the standard world does with a packet to kTo, checked by hand in encapsulation_test.cpp.
class SentFrame : public ::testing::Test, protected BalancerFixture {
 protected:
  void SetUp() override {
    start_standard_world();
    if (!is_ready()) return;
    frame_ = packet_.packet.bytes();
    result_ = run(frame_);
  }

  void expect_refused(std::string_view with) {
    EXPECT_NONFATAL_FAILURE(expect_sent_frame(packet_, frame_, result_), std::string{with});
  }
  void spoil(std::size_t offset) { result_.output.at(offset) ^= std::byte{0x11}; }

  VerdictCase packet_{.name = "APacket",
                      .world = World::kStandard,
                      .packet = tcp(kFrom, kTo).tag(kTagQ, 5).payload("hello").padding(9),
                      .verdict = WEIR_TX_IPIP,
                      .before = {},
                      .sent_tags = {}};
  std::vector<std::byte> frame_;
  RunResult result_;
};

TEST_F(SentFrame, IsAcceptedAsTheBalancerSendsIt) { expect_sent_frame(packet_, frame_, result_); }

TEST_F(SentFrame, AnotherNextHopIsSeen) {
  spoil(0);
  expect_refused("out.macs");
}

TEST_F(SentFrame, AChangedTagIsSeen) {
  spoil(kEthernetBytes + 1);
  expect_refused("out.tags");
}

TEST_F(SentFrame, AWrongOuterChecksumIsSeen) {
  spoil(kEthernetBytes + 4 + 10);
  expect_refused("header_sum");
}

TEST_F(SentFrame, AWrongInnerChecksumIsSeen) {
  spoil(kEthernetBytes + 4 + kOuterBytes + 10);
  expect_refused("the header's checksum");
}

TEST_F(SentFrame, AChangedPayloadIsSeen) {
  spoil(result_.output.size() - 1);
  expect_refused("expected");
}

TEST_F(SentFrame, AChangeOfWhatIsPassedIsSeen) {
  packet_.verdict = WEIR_PASS_NOT_A_VIP;
  result_.action = XDP_PASS;
  result_.output = frame_;
  spoil(20);
  expect_refused("untouched");
}

}  // namespace
}  // namespace weir::testing
