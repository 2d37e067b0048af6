// What the fuzzer holds against the balancer, on every run of the unit tests: for inputs from a
// seed and for the fuzzer's corpus; and that each property can be broken.

#include "tests/fuzz/balancer_properties.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/fuzz/input_maker.h"
#include "tests/support/packet_builder.h"

namespace weir::testing {
namespace {

constexpr std::uint32_t kFirstSeed = 20261125;
constexpr std::uint32_t kInputs = 20'000;

std::string hex(std::span<const std::uint8_t> bytes) {
  std::string text;
  for (const std::uint8_t byte : bytes)
    text += fmt::format("{:02x}", byte);
  return text;
}

constexpr std::array<std::string_view, WEIR_VERDICT_COUNT> kLabels{
#define WEIR_VERDICT(symbol, action, label, sentence) label,
#include "bpf/verdicts.def"
#undef WEIR_VERDICT
};

/// Drop_internal must not be met; all others are, or the inputs test less than they seem to.
TEST(BalancerProperties, HoldForInputsFromASeedThatReachEveryVerdict) {
  BalancerProperties properties;
  for (std::uint32_t seed = kFirstSeed; seed < kFirstSeed + kInputs; ++seed) {
    const auto input = write_input(InputMaker{seed}.input());
    const std::string broken = properties.check(input);
    ASSERT_EQ(broken, "") << "seed " << seed << ", input " << hex(input);
  }
  for (std::size_t i = 0; i < WEIR_VERDICT_COUNT; ++i) {
    RecordProperty(std::string{kLabels[i]}, std::to_string(properties.verdicts()[i]));
    EXPECT_EQ(properties.verdicts()[i] != 0, i != WEIR_DROP_INTERNAL) << kLabels[i];
  }
}

TEST(BalancerProperties, HoldForTheCorpus) {
  BalancerProperties properties;
  std::size_t count = 0;
  for (const auto& file : std::filesystem::directory_iterator{WEIR_BALANCER_CORPUS}) {
    std::ifstream stream{file.path(), std::ios::binary};
    const std::vector<char> bytes{std::istreambuf_iterator<char>{stream}, {}};
    const auto* input = reinterpret_cast<const std::uint8_t*>(bytes.data());
    EXPECT_EQ(properties.check({input, bytes.size()}), "") << file.path();
    ++count;
  }
  EXPECT_GT(count, 0U) << WEIR_BALANCER_CORPUS << " is empty";
}

/// A frame's way through a balancer, whose result a test may then spoil.
class SpoiledResult : public ::testing::Test {
 protected:
  SpoiledResult() : world_{make_world({})}, engine_{settings_of(world_)} {
    fill(engine_, world_);
    engine_.seal();
    engine_.set_ticks(1'000'000);
  }

  static wire::Endpoint from() { return {world_address("203.0.113.7"), wire::Port{40000}}; }
  static wire::Endpoint vip(std::uint16_t port) { return {kWorldVip.v4, wire::Port{port}}; }

  /// What is said of the frame's result after `spoil` has had it.
  template <typename Spoil>
  std::string verdict_on(const PacketBuilder& packet, const Spoil& spoil) {
    const auto frame = packet.bytes();
    ReplayResult result = engine_.run(frame, kWorldDevice);
    std::vector<std::byte> output{result.output.begin(), result.output.end()};
    result.output = output;
    EXPECT_EQ(broken_property(world_, frame, result, flows_), "");
    spoil(result, output);
    result.output = output;
    return broken_property(world_, frame, result, flows_);
  }
  /// The same with one bit of the output turned.
  std::string with_bit_turned(const PacketBuilder& packet, std::size_t at) {
    return verdict_on(packet, [&](ReplayResult&, auto& output) { output[at] ^= std::byte{1}; });
  }

  World world_;
  ReplayEngine engine_;
  TranslatedFlows flows_;
};

TEST_F(SpoiledResult, EveryByteOfAPassedFrameCounts) {
  const PacketBuilder packet = tcp(from(), {world_address("192.0.2.200"), wire::Port{80}});
  for (std::size_t at = 0; at < packet.bytes().size(); ++at)
    EXPECT_EQ(with_bit_turned(packet, at), "the frame was changed");
}

TEST_F(SpoiledResult, AStrangersFrameMayNotBeDropped) {
  const auto drop = [](ReplayResult& result, auto&) {
    result.action = XDP_DROP;
    result.verdict = WEIR_DROP_MALFORMED;
  };
  EXPECT_EQ(verdict_on(tcp(from(), {world_address("192.0.2.200"), wire::Port{80}}), drop),
            "it is for no VIP");
}

TEST_F(SpoiledResult, AVipsFrameMayNotBeTakenForAStrangers) {
  const auto pass = [](ReplayResult& result, auto&) {
    result.action = XDP_PASS;
    result.verdict = WEIR_PASS_NOT_A_VIP;
  };
  EXPECT_EQ(verdict_on(tcp(from(), vip(9)).rst(), pass), "it is for a VIP");
}

TEST_F(SpoiledResult, CountersActionAndVerdictBelongTogether) {
  const PacketBuilder packet = tcp(from(), vip(1000));
  EXPECT_EQ(verdict_on(packet, [](ReplayResult& result, auto&) { ++result.verdict_count; }),
            "2 verdicts were counted");
  EXPECT_NE(verdict_on(packet, [](ReplayResult& result, auto&) { ++result.counted_bytes; }), "");
  EXPECT_NE(verdict_on(packet, [](ReplayResult& result, auto&) { result.action = XDP_PASS; }), "");
  EXPECT_NE(verdict_on(packet, [](ReplayResult& result, auto&) { result.verdict = WEIR_TX_L2; }),
            "");
}

TEST_F(SpoiledResult, EveryByteOfASentPacketCounts) {
  const struct {
    std::string_view name;
    PacketBuilder packet;
  } cases[] = {
      {"ipip", tcp(from(), vip(1000)).payload("data")},
      {"gue", udp(from(), vip(1100)).payload("data")},
      {"l2", tcp(from(), vip(1200)).payload("data")},
      {"nat", tcp(from(), vip(1300)).payload("data")},
      {"full nat", udp(from(), vip(1301)).payload("data")},
      {"echo", echo_request(from().address, kWorldVip.v4).payload("data")},
      {"refusal", tcp(from(), vip(9)).payload("data")},
      {"unreachable", udp(from(), vip(9)).payload("data")},
  };
  for (const auto& [name, packet] : cases) {
    engine_.reset();
    const auto frame = packet.bytes();
    const std::size_t size = engine_.run(frame, kWorldDevice).output.size();
    for (std::size_t at = 0; at < size; ++at) {
      engine_.reset();
      flows_ = {};
      EXPECT_NE(with_bit_turned(packet, at), "") << name << ", byte " << at;
    }
  }
}

TEST_F(SpoiledResult, AReplyGoesToItsClientAndNoOther) {
  const wire::Endpoint backend{world_address("192.0.2.21"), wire::Port{8080}};
  const wire::Endpoint other{world_address("192.0.2.22"), wire::Port{8080}};
  EXPECT_EQ(verdict_on(tcp(from(), vip(1300)).syn(), [](ReplayResult&, auto&) {}), "");
  for (const wire::Endpoint& replier : {backend, other}) {
    const auto frame = tcp(replier, from()).syn_ack().bytes();
    const ReplayResult result = engine_.run(frame, kWorldDevice);
    EXPECT_EQ(broken_property(world_, frame, result, flows_), "");
    if (result.verdict != WEIR_TX_NAT_REPLY) continue;
    TranslatedFlows none;
    EXPECT_EQ(broken_property(world_, frame, result, none), "it is for no VIP");
    return;
  }
  ADD_FAILURE() << "neither backend's reply was translated";
}

TEST(ReplayMapTest, AMapOfUserSpaceThatIsWrittenIsBroken) {
  ReplayMap map{{"map", BPF_MAP_TYPE_ARRAY, 4, 8, 4}};
  const std::uint32_t key = 1;
  const std::uint64_t value = 7;
  map.update(&key, &value, BPF_ANY);
  map.seal();
  EXPECT_FALSE(map.is_broken());
  auto* found = static_cast<std::byte*>(map.find(&key));
  EXPECT_FALSE(map.is_broken());
  found[7] = std::byte{1};
  EXPECT_TRUE(map.is_broken());
}

TEST(ReplayMapTest, WhatTheProgramWroteIsGoneAfterAReset) {
  ReplayMap map{{"map", BPF_MAP_TYPE_HASH, 4, 8, 4}};
  map.seal();
  const std::uint32_t key = 1;
  const std::uint64_t value = 7;
  EXPECT_EQ(map.update(&key, &value, BPF_NOEXIST), 0);
  EXPECT_NE(map.update(&key, &value, BPF_NOEXIST), 0);
  EXPECT_FALSE(map.is_broken());
  map.reset();
  EXPECT_EQ(map.find(&key), nullptr);
}

}  // namespace
}  // namespace weir::testing
