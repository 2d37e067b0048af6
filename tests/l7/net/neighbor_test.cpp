#include "l7/net/neighbor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>
#include <vector>

#include "l7/port/heap_pool.h"

namespace weir::net {
namespace {

using State = NeighborCache::State;
using ::testing::ElementsAre;
using wire::IpAddress;
using wire::MacAddress;
using namespace std::chrono_literals;

const IpAddress kRouter = IpAddress::v4(192, 0, 2, 1);
const MacAddress kMac{{2, 0, 0, 0, 0, 1}};
const MacAddress kOtherMac{{2, 0, 0, 0, 0, 2}};

IpAddress host(unsigned number) {
  return IpAddress::v4(10, 0, static_cast<std::uint8_t>(number >> 8),
                       static_cast<std::uint8_t>(number));
}

struct Question {
  IpAddress target;
  std::optional<MacAddress> known;
  friend bool operator==(const Question&, const Question&) = default;
};

class NeighborCacheTest : public ::testing::Test, public NeighborOutput {
 public:
  void solicit(const IpAddress& target, const std::optional<MacAddress>& known) override {
    questions.push_back({target, known});
  }
  void deliver(port::Packet packet, const IpAddress&, const MacAddress& mac) override {
    delivered.push_back(std::to_integer<int>(packet.bytes()[0]));
    EXPECT_EQ(mac, kMac);
  }

 protected:
  port::Packet packet(int content) {
    port::Packet made = pool.allocate(1);
    made.append(1)[0] = static_cast<std::byte>(content);
    return made;
  }
  void pass(Duration time) {
    clock.advance(time);
    cache.advance(clock.now());
  }
  void resolve(const IpAddress& address, const MacAddress& mac = kMac) {
    cache.answer({.address = address, .mac = mac, .solicited = true, .overrides = true},
                 clock.now());
  }
  std::optional<State> state(const IpAddress& address) { return cache.state(address, clock.now()); }

  ManualClock clock;
  port::HeapPool pool{10000};
  std::vector<Question> questions;
  std::vector<int> delivered;
  NeighborCache cache{*this, Random{7}, clock.now()};
};

TEST_F(NeighborCacheTest, PacketsWaitForTheAnswerAndLeaveInOrder) {
  EXPECT_FALSE(cache.lookup(kRouter, clock.now()));
  cache.hold(kRouter, packet(1), clock.now());
  cache.hold(kRouter, packet(2), clock.now());
  EXPECT_THAT(questions, ElementsAre(Question{kRouter, std::nullopt}));
  EXPECT_TRUE(delivered.empty());
  resolve(kRouter);
  EXPECT_THAT(delivered, ElementsAre(1, 2));
  EXPECT_EQ(cache.lookup(kRouter, clock.now()), kMac);
  EXPECT_EQ(state(kRouter), State::kReachable);
  EXPECT_EQ(cache.pending(), 0U);
}

TEST_F(NeighborCacheTest, TheOldestWaitingPacketMakesRoom) {
  constexpr int kHeld = NeighborCache::kPendingPerEntry;
  for (int i = 0; i < kHeld + 2; ++i)
    cache.hold(kRouter, packet(i), clock.now());
  EXPECT_EQ(cache.counters().pending_dropped, 2U);
  EXPECT_EQ(pool.in_use(), NeighborCache::kPendingPerEntry);
  resolve(kRouter);
  ASSERT_EQ(delivered.size(), NeighborCache::kPendingPerEntry);
  EXPECT_EQ(delivered.front(), 2);
  EXPECT_EQ(delivered.back(), kHeld + 1);
}

TEST_F(NeighborCacheTest, AllEntriesTogetherHoldABoundedNumberOfPackets) {
  for (unsigned i = 0; i < 300; ++i)
    cache.hold(host(i), packet(1), clock.now());
  EXPECT_EQ(cache.pending(), NeighborCache::kPendingMax);
  EXPECT_EQ(pool.in_use(), NeighborCache::kPendingMax);
  EXPECT_EQ(cache.counters().pending_dropped, 300 - NeighborCache::kPendingMax);
}

TEST_F(NeighborCacheTest, SilenceIsAskedThreeTimesAndThenHeldAgainstTheNeighbour) {
  cache.hold(kRouter, packet(1), clock.now());
  pass(1001ms);
  EXPECT_EQ(questions.size(), 2U);
  pass(1001ms);
  EXPECT_EQ(questions.size(), 3U);
  pass(1001ms);
  EXPECT_EQ(questions.size(), 3U);
  EXPECT_EQ(state(kRouter), State::kFailed);
  EXPECT_EQ(cache.counters().failed, 1U);
  EXPECT_EQ(pool.in_use(), 0U);

  cache.hold(kRouter, packet(2), clock.now());
  EXPECT_EQ(questions.size(), 3U) << "nothing is asked during the hold-down";
  EXPECT_EQ(cache.counters().unreachable_dropped, 2U);
  pass(3001ms);
  EXPECT_FALSE(state(kRouter));
  cache.hold(kRouter, packet(3), clock.now());
  EXPECT_EQ(questions.size(), 4U);
}

TEST_F(NeighborCacheTest, ALateAnswerEndsTheHoldDown) {
  cache.hold(kRouter, packet(1), clock.now());
  for (int i = 0; i < 3; ++i)
    pass(1001ms);
  ASSERT_EQ(state(kRouter), State::kFailed);
  resolve(kRouter);
  EXPECT_EQ(cache.lookup(kRouter, clock.now()), kMac);
}

TEST_F(NeighborCacheTest, AStaleAddressIsUsedWhileItIsBeingAskedAbout) {
  cache.hold(kRouter, packet(1), clock.now());
  resolve(kRouter);
  questions.clear();
  pass(46s);  // reachable for 15 to 45 s
  EXPECT_EQ(state(kRouter), State::kStale);
  EXPECT_TRUE(questions.empty()) << "nobody has used it yet";
  EXPECT_EQ(cache.lookup(kRouter, clock.now()), kMac);
  EXPECT_EQ(cache.lookup(kRouter, clock.now()), kMac);
  EXPECT_THAT(questions, ElementsAre(Question{kRouter, kMac}));
  resolve(kRouter);
  EXPECT_EQ(state(kRouter), State::kReachable);
  pass(5s);
  EXPECT_EQ(questions.size(), 1U);
}

TEST_F(NeighborCacheTest, AStaleAddressThatStaysSilentIsForgotten) {
  cache.hold(kRouter, packet(1), clock.now());
  resolve(kRouter);
  pass(46s);
  static_cast<void>(cache.lookup(kRouter, clock.now()));
  for (int i = 0; i < 3; ++i)
    pass(1001ms);
  EXPECT_FALSE(state(kRouter));
  EXPECT_EQ(cache.counters().lost, 1U);
  questions.clear();
  cache.hold(kRouter, packet(2), clock.now());
  EXPECT_THAT(questions, ElementsAre(Question{kRouter, std::nullopt})) << "now everybody is asked";
}

TEST_F(NeighborCacheTest, TrafficKeepsAnAddressReachableWithoutQuestions) {
  cache.hold(kRouter, packet(1), clock.now());
  resolve(kRouter);
  questions.clear();
  for (int i = 0; i < 30; ++i) {
    pass(10s);
    cache.confirm(kRouter, kMac, clock.now());
    EXPECT_EQ(cache.lookup(kRouter, clock.now()), kMac);
  }
  EXPECT_TRUE(questions.empty());
  pass(46s);
  cache.confirm(kRouter, kOtherMac, clock.now());
  EXPECT_EQ(state(kRouter), State::kStale) << "traffic from another station proves nothing";
}

TEST_F(NeighborCacheTest, AnUnusedAddressIsForgottenAfterTenMinutes) {
  cache.hold(kRouter, packet(1), clock.now());
  resolve(kRouter);
  pass(9min);
  static_cast<void>(cache.lookup(kRouter, clock.now()));
  resolve(kRouter);
  pass(9min);
  EXPECT_TRUE(state(kRouter));
  pass(61s);
  EXPECT_FALSE(state(kRouter));
  EXPECT_EQ(cache.next_deadline(), kNever);
}

TEST_F(NeighborCacheTest, AnAnswerNobodyAskedForMakesNoEntry) {
  resolve(kRouter);
  EXPECT_FALSE(state(kRouter));
  EXPECT_EQ(cache.size(), 0U);
}

TEST_F(NeighborCacheTest, AQuestionForUsIsRememberedAsStale) {
  cache.learn(kRouter, kMac, clock.now());
  EXPECT_EQ(state(kRouter), State::kStale);
  EXPECT_EQ(cache.lookup(kRouter, clock.now()), kMac);
  EXPECT_THAT(questions, ElementsAre(Question{kRouter, kMac}));
}

struct AnswerCase {
  std::string_view name;
  NeighborCache::Answer answer;
  MacAddress mac_after;
  State state_after;
  friend void PrintTo(const AnswerCase& shown, std::ostream* out) { *out << shown.name; }
};
class KnownNeighborTest : public NeighborCacheTest,
                          public ::testing::WithParamInterface<AnswerCase> {};

TEST_P(KnownNeighborTest, FollowsTheRulesOfRfc4861) {
  cache.hold(kRouter, packet(1), clock.now());
  resolve(kRouter);
  cache.answer(GetParam().answer, clock.now());
  EXPECT_EQ(state(kRouter), GetParam().state_after);
  EXPECT_EQ(cache.lookup(kRouter, clock.now()), GetParam().mac_after);
}

INSTANTIATE_TEST_SUITE_P(, KnownNeighborTest,
                         ::testing::Values(AnswerCase{"AnotherAddressWithoutOverrideOnlyCastsDoubt",
                                                      {kRouter, kOtherMac, false, false},
                                                      kMac,
                                                      State::kStale},
                                           AnswerCase{
                                               "AnotherAddressWithOverrideIsTakenButNotTrusted",
                                               {kRouter, kOtherMac, false, true},
                                               kOtherMac,
                                               State::kStale},
                                           AnswerCase{"ASolicitedOverrideIsTakenAndTrusted",
                                                      {kRouter, kOtherMac, true, true},
                                                      kOtherMac,
                                                      State::kReachable},
                                           AnswerCase{"ARepetitionChangesNothing",
                                                      {kRouter, kMac, false, true},
                                                      kMac,
                                                      State::kReachable},
                                           AnswerCase{"AnAnswerWithoutAddressConfirms",
                                                      {kRouter, std::nullopt, true, false},
                                                      kMac,
                                                      State::kReachable}),
                         [](const auto& tested) { return std::string{tested.param.name}; });

TEST_F(NeighborCacheTest, AFullTableGivesUpTheLeastUsedAndNeverAReachableEntry) {
  cache.hold(kRouter, packet(1), clock.now());
  resolve(kRouter);
  for (unsigned i = 0; i < NeighborCache::kEntriesMax + 100; ++i) {
    pass(1us);
    cache.hold(host(i), packet(1), clock.now());
  }
  EXPECT_EQ(cache.size(), NeighborCache::kEntriesMax);
  EXPECT_EQ(cache.counters().evicted, 101U);
  EXPECT_EQ(state(kRouter), State::kReachable);
  EXPECT_FALSE(state(host(0)));
  EXPECT_TRUE(state(host(NeighborCache::kEntriesMax + 99)));
}

TEST_F(NeighborCacheTest, ATableFullOfReachableEntriesRefusesNewOnes) {
  for (unsigned i = 0; i < NeighborCache::kEntriesMax; ++i) {
    cache.hold(host(i), packet(1), clock.now());
    resolve(host(i));
  }
  cache.hold(kRouter, packet(1), clock.now());
  EXPECT_FALSE(state(kRouter));
  EXPECT_EQ(cache.counters().table_full, 1U);
  EXPECT_EQ(pool.in_use(), 0U);
}

}  // namespace
}  // namespace weir::net
