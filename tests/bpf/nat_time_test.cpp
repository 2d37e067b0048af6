// What time makes of translated flows. The host's alone, because the kernel's clock is its own.

#include <netinet/in.h>

#include "tests/bpf/nat_fixture.h"

namespace weir::testing {
namespace {

/// How far a flow has come, and for how long it is kept then.
struct Age {
  std::string name;
  bool is_udp;
  int packets;  ///< 1: the client's first, 2: and a reply, 3: and the next, 5: and both ends' FIN
  std::uint64_t kept_s;
};

/// A table of two records, both held by flows of one age.
class NatTime : public ::testing::TestWithParam<Age>, protected NatFixture {
 protected:
  void SetUp() override {
    start_nat_world(2);
    set_second(1000);
  }

  static NatFlow nth(std::uint16_t i) {
    return flow_of_port(static_cast<std::uint16_t>(40000 + i),
                        nat_flows()[GetParam().is_udp ? 1 : 0]);
  }
  void bring_to_age(const NatFlow& flow) {
    const int packets = GetParam().packets;
    expect_forward(flow, kSyn);
    if (packets >= 2) expect_reply(flow, kSynAck);
    if (packets >= 3) expect_forward(flow);
    if (packets >= 5) {
      expect_forward(flow, kFin);
      expect_reply(flow, kFin);
    }
  }
  void fill() {
    bring_to_age(nth(0));
    bring_to_age(nth(1));
  }
  bool has_room() { return has_room_for(nth(2)); }
};

TEST_P(NatTime, AFlowIsKeptForItsTime) {
  fill();
  set_second(1000 + GetParam().kept_s);
  const int packets = GetParam().packets;
  const bool may_give_way = packets == 1 || packets == 5 || (packets == 2 && !GetParam().is_udp);
  EXPECT_EQ(has_room(), may_give_way) << "handshakes and closing flows give way before their time";
  EXPECT_EQ(events(WEIR_NAT_EXPIRED), 0u);
}

TEST_P(NatTime, AndNoLonger) {
  fill();
  set_second(1000 + GetParam().kept_s + 1);
  EXPECT_TRUE(has_room());
  EXPECT_EQ(events(WEIR_NAT_EXPIRED) + events(WEIR_NAT_EVICTED_UDP), 1u);
  EXPECT_EQ(entry_count(nth(0)) + entry_count(nth(1)), 2u) << "one of them went, whole";
  EXPECT_EQ(entry_count(nth(2)), 2u);
}

TEST_P(NatTime, APacketOfEitherSideKeepsItLonger) {
  if (GetParam().packets == 1) return;
  fill();
  set_second(1000 + GetParam().kept_s);
  expect_reply(nth(0));
  expect_forward(nth(1));
  set_second(1000 + GetParam().kept_s + 1);
  if (GetParam().packets != 5 && GetParam().packets != 2) {
    EXPECT_FALSE(has_room());
  }
  EXPECT_EQ(events(WEIR_NAT_EXPIRED), 0u);
}

TEST_P(NatTime, ASynAfterItsTimeBeginsANewFlow) {
  if (GetParam().is_udp) return;
  fill();
  set_second(1000 + GetParam().kept_s + 1);
  expect_forward(nth(0), kSyn);
  EXPECT_EQ(events(WEIR_NAT_ADDED), 3u);
}

INSTANTIATE_TEST_SUITE_P(
    , NatTime,
    ::testing::Values(Age{"TcpHandshake", false, 1, 10}, Age{"TcpAnswered", false, 2, 60},
                      Age{"TcpEstablished", false, 3, 7440}, Age{"TcpClosing", false, 5, 60},
                      Age{"UdpUnanswered", true, 1, 60}, Age{"UdpAnswered", true, 3, 30}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace weir::testing
