#include "l4/flow_view.h"

#include <gtest/gtest.h>
#include <netinet/in.h>

#include "bpf/hash.h"
#include "l4/vip_entries.h"

namespace weir::l4 {
namespace {

constexpr SipKey kSecret{{0x0123456789abcdef, 0xfedcba9876543210}};
constexpr std::uint32_t kNow = 1000;

std::uint64_t entry(std::uint64_t tag, std::uint64_t backend, weir_flow_state state,
                    std::uint32_t stamp) {
  return tag << WEIR_FLOW_TAG_SHIFT | backend << WEIR_FLOW_BACKEND_SHIFT |
         static_cast<std::uint64_t>(state) << WEIR_FLOW_STATE_SHIFT |
         (stamp & WEIR_FLOW_STAMP_MASK);
}

weir_flow_key some_flow(std::uint8_t last_octet) {
  weir_flow_key flow{};
  flow.source = abi_address(wire::IpAddress::v4(192, 0, 2, last_octet));
  flow.destination = abi_address(wire::IpAddress::v4(203, 0, 113, 80));
  flow.source_port_be = 4711;
  flow.destination_port_be = 80;
  flow.protocol = IPPROTO_TCP;
  return flow;
}

TEST(FlowEntries, AreReadAsTheProgramWritesThem) {
  const std::uint64_t backend_most = (1ULL << (WEIR_FLOW_TAG_SHIFT - WEIR_FLOW_BACKEND_SHIFT)) - 1;
  const std::uint64_t tag_most = (1ULL << (64 - WEIR_FLOW_TAG_SHIFT)) - 1;
  const FlowEntry read = FlowEntry::of(entry(tag_most, backend_most, WEIR_FLOW_CLOSING, 77));
  EXPECT_EQ(read.tag, tag_most);
  EXPECT_EQ(read.backend.value(), backend_most);
  EXPECT_EQ(read.state, WEIR_FLOW_CLOSING);
  EXPECT_EQ(read.stamp, 77U);
}

TEST(FlowEntries, AgeAcrossTheEndOfTheClock) {
  const FlowEntry read = FlowEntry::of(entry(1, 1, WEIR_FLOW_NEW, WEIR_FLOW_STAMP_MASK));
  EXPECT_EQ(read.age(4), 5U);
}

TEST(FlowPlaces, HaveTheHashOfTheProgram) {
  const weir_flow_key flow = some_flow(1);
  std::array<std::uint32_t, WEIR_FLOW_KEYS> keys{};
  for (std::uint32_t i = 0; i < keys.size(); ++i)
    keys[i] = weir_flow_key_of(kSecret.words[0], kSecret.words[1], i);
  const FlowPlace place = FlowPlace::of(flow, kSecret, 1024);
  EXPECT_EQ(place.hash, weir_table_hash(&flow, keys.data()));
  EXPECT_EQ(place.set, place.hash & 1023);
}

TEST(FlowPlaces, FindTheFlowInAnyWayOfItsSetAndNoOther) {
  const FlowPlace place = FlowPlace::of(some_flow(1), kSecret, 1024);
  for (std::size_t way = 0; way < WEIR_FLOW_WAYS; ++way) {
    std::array<std::uint64_t, WEIR_FLOW_WAYS> set{};
    set.fill(entry((place.hash >> WEIR_FLOW_TAG_SHIFT) ^ 1, 9, WEIR_FLOW_NEW, kNow));
    EXPECT_FALSE(place.find(set));
    set[way] = entry(place.hash >> WEIR_FLOW_TAG_SHIFT, 7, WEIR_FLOW_ESTABLISHED, kNow);
    ASSERT_TRUE(place.find(set)) << way;
    EXPECT_EQ(place.find(set)->backend, BackendId{7});
  }
}

TEST(FlowPlaces, DoNotTakeAFreeEntryForAFlowWhoseTagIsZero) {
  const FlowPlace place{.hash = 5, .set = 5};
  EXPECT_FALSE(place.find(std::array<std::uint64_t, WEIR_FLOW_WAYS>{}));
}

TEST(FlowTallies, CountStatesAndAgesPerBackend) {
  FlowTallies tallies{kNow};
  tallies.add(0);
  tallies.add(entry(1, 3, WEIR_FLOW_NEW, kNow));
  tallies.add(entry(2, 3, WEIR_FLOW_ESTABLISHED, kNow - 10));
  tallies.add(entry(3, 3, WEIR_FLOW_ESTABLISHED, kNow - 11));
  tallies.add(entry(4, 3, WEIR_FLOW_CLIENT, kNow - 601));
  tallies.add(entry(5, 4, WEIR_FLOW_CLOSING, kNow - 600));
  ASSERT_EQ(tallies.by_backend().size(), 2U);
  const FlowTally& three = tallies.by_backend().at(BackendId{3});
  EXPECT_EQ(three.by_state, (std::array<std::uint64_t, 4>{1, 2, 0, 1}));
  EXPECT_EQ(three.by_idle, (std::array<std::uint64_t, 4>{2, 1, 0, 1}));
  const FlowTally& four = tallies.by_backend().at(BackendId{4});
  EXPECT_EQ(four.by_state, (std::array<std::uint64_t, 4>{0, 0, 1, 0}));
  EXPECT_EQ(four.by_idle, (std::array<std::uint64_t, 4>{0, 0, 1, 0}));
}

TEST(FlowTallies, LetAPartStandForTheWhole) {
  FlowTallies tallies{kNow};
  tallies.add(entry(1, 3, WEIR_FLOW_NEW, kNow));
  tallies.scale(4);
  EXPECT_EQ(tallies.by_backend().at(BackendId{3}).by_state[WEIR_FLOW_NEW], 4U);
  EXPECT_EQ(tallies.by_backend().at(BackendId{3}).by_idle[0], 4U);
}

struct NatCase {
  std::uint64_t owner;
  std::uint8_t protocol;
  std::uint32_t age;
  bool is_flow;
  std::string_view state;
};

TEST(NatRecords, AreFlowsUntilTheirTimeIsUp) {
  for (const NatCase& test : {
           NatCase{WEIR_NAT_FREE, IPPROTO_TCP, 0, false, {}},
           NatCase{WEIR_NAT_CLAIMED, IPPROTO_TCP, 0, false, {}},
           NatCase{WEIR_NAT_NEW, IPPROTO_TCP, WEIR_NAT_TCP_NEW_S, true, "unanswered"},
           NatCase{WEIR_NAT_NEW, IPPROTO_TCP, WEIR_NAT_TCP_NEW_S + 1, false, {}},
           NatCase{WEIR_NAT_REPLIED, IPPROTO_UDP, WEIR_NAT_UDP_REPLIED_S, true, "answered"},
           NatCase{WEIR_NAT_ESTABLISHED, IPPROTO_TCP, 7000, true, "established"},
           NatCase{WEIR_NAT_ESTABLISHED | WEIR_NAT_RESET, IPPROTO_TCP, 60, true, "closing"},
           NatCase{WEIR_NAT_ESTABLISHED | WEIR_NAT_RESET, IPPROTO_TCP, 61, false, {}},
           NatCase{WEIR_NAT_CLOSING, IPPROTO_TCP, 1, true, "closing"},
       }) {
    weir_nat_flow record{};
    record.owner = test.owner;
    record.protocol = test.protocol;
    record.stamp = (kNow - test.age) & WEIR_FLOW_STAMP_MASK;
    record.backend_id = 3;
    EXPECT_EQ(nat_age(record, kNow).has_value(), test.is_flow) << test.owner << " " << test.age;
    FlowTallies tallies{kNow};
    tallies.add(record);
    EXPECT_EQ(tallies.by_backend().size(), test.is_flow ? 1U : 0U);
    if (test.is_flow) {
      EXPECT_EQ(nat_state_text(test.owner), test.state);
    }
  }
}

TEST(ChoiceHashes, LeaveOutWhatThePolicyDoes) {
  weir_flow_key one = some_flow(1);
  weir_flow_key other = one;
  other.destination_port_be = 81;
  EXPECT_NE(choice_hash(one, WEIR_HASH_FIVE_TUPLE, kSecret),
            choice_hash(other, WEIR_HASH_FIVE_TUPLE, kSecret));
  EXPECT_EQ(choice_hash(one, WEIR_HASH_SOURCE_PORT, kSecret),
            choice_hash(other, WEIR_HASH_SOURCE_PORT, kSecret));
  other.source_port_be = 1;
  EXPECT_NE(choice_hash(one, WEIR_HASH_SOURCE_PORT, kSecret),
            choice_hash(other, WEIR_HASH_SOURCE_PORT, kSecret));
  EXPECT_EQ(choice_hash(one, WEIR_HASH_SOURCE, kSecret),
            choice_hash(other, WEIR_HASH_SOURCE, kSecret));
}

}  // namespace
}  // namespace weir::l4
