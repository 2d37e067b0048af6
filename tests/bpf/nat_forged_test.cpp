// What somebody who writes a client's address on packets can do to the NAT table: nothing that
// outlasts a flood. The host's alone, because the kernel's clock is its own.

#include <netinet/in.h>

#include "tests/bpf/nat_fixture.h"

namespace weir::testing {
namespace {

const Shape kWrongAck = [](PacketBuilder& packet) { packet.acknowledgment(12345); };
const Shape kNoFlags = [](PacketBuilder& packet) { packet.flags(0); };
const Shape kBareAck = [](PacketBuilder& packet) { packet.payload("").ack(); };

class NatForged : public ::testing::Test, protected NatFixture {
 protected:
  void SetUp() override {
    start_nat_world(2);
    set_second(1000);
  }

  static NatFlow nth(std::uint16_t i) {
    return flow_of_port(static_cast<std::uint16_t>(40000 + i));
  }
  bool has_room() { return has_room_for(nth(2)); }
  /// Every new flow goes to another backend from now on.
  void change_table() {
    add_backend(9, backend_at(v4(192, 0, 2, 99), kFullNat.id));
    publish(kFullNat.id, std::vector<std::uint32_t>(kTableSize, 9),
            std::vector<std::uint32_t>(kTableSize, kFullNat.id));
  }
};

TEST_F(NatForged, HandshakesThatNobodySawCompletedGiveWay) {
  for (const Shape& guess : {kWrongAck, kNoFlags}) {
    for (const std::uint16_t i : {0, 1}) {
      expect_forward(nth(i), kSyn);
      expect_reply(nth(i), kSynAck);
      expect_forward(nth(i), guess);
      expect_reply(nth(i), kBareAck);  // as some stacks answer what they do not accept
    }
    EXPECT_TRUE(has_room());
  }
}

TEST_F(NatForged, ARetransmittedSynAckStillWaitsForItsAcknowledgment) {
  expect_forward(nth(0), kSyn);
  expect_reply(nth(0), kSynAck);
  expect_reply(nth(0), kSynAck);
  expect_forward(nth(0));
  EXPECT_EQ(records_in_use()[0].owner & WEIR_NAT_STATE_MASK, WEIR_NAT_ESTABLISHED);
}

TEST_F(NatForged, AFlowFromBeforeTheTableIsEstablishedByItsBackend) {
  expect_forward(nth(0));
  expect_reply(nth(0));
  EXPECT_EQ(records_in_use()[0].owner & WEIR_NAT_STATE_MASK, WEIR_NAT_ESTABLISHED);
}

TEST_F(NatForged, ARstEndsNoFlowWhoseBackendSpeaksOn) {
  for (const std::uint16_t i : {0, 1}) {
    establish(nth(i));
    expect_forward(nth(i), kRst);
    expect_reply(nth(i));
  }
  set_second(1000 + WEIR_NAT_TCP_CLOSING_S + 1);
  EXPECT_FALSE(has_room());
}

TEST_F(NatForged, ARstEndsAFlowThatIsSilent) {
  establish(nth(0));
  establish(nth(1));
  expect_reply(nth(1), kRst);
  EXPECT_FALSE(has_room()) << "a moment later it may be forged";
  set_second(1000 + 8);
  EXPECT_TRUE(has_room());
  EXPECT_EQ(events(WEIR_NAT_EVICTED_CLOSING), 1u);
  EXPECT_EQ(entry_count(nth(0)), 2u);
}

TEST_F(NatForged, ARstAndASynMoveNoLivingFlow) {
  establish(nth(0));
  change_table();
  expect_forward(nth(0), kRst);
  expect_forward(nth(0), kSyn);
  expect_forward(nth(0));
  expect_reply(nth(0));
  EXPECT_EQ(events(WEIR_NAT_ADDED), 1u);
}

TEST_F(NatForged, ASynAfterARstAndSilenceBeginsAnew) {
  establish(nth(0));
  change_table();
  expect_forward(nth(0), kRst);
  set_second(1000 + 8);
  run(nat_packet(nth(0), nth(0).client, nth(0).vip, kSyn));
  EXPECT_EQ(events(WEIR_NAT_ADDED), 2u);
}

}  // namespace
}  // namespace weir::testing
