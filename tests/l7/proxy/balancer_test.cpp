#include "l7/proxy/balancer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "l7/proxy/outlier.h"
#include "tests/support/proxy_world.h"

// Which endpoint is taken: policies, weights, zones, health, limits, ejection.

namespace weir::proxy {
namespace {

using namespace std::chrono_literals;
using control::LoadBalancer;
using testing::ProxyWorld;

constexpr Instant kNow{1000s};

class EndpointChoice : public ::testing::Test {
 protected:
  /// One service of `count` endpoints, as `edit` wants it.
  void make(std::size_t count, const std::function<void(control::Service&)>& edit,
            const std::string& zone = {}) {
    control::Model model = ProxyWorld::model_for({});
    model.services[0].endpoints.clear();
    for (std::size_t i = 0; i < count; ++i)
      model.services[0].endpoints.push_back(
          {ProxyWorld::backend_endpoint(static_cast<std::uint16_t>(9000 + i))});
    edit(model.services[0]);
    model.node.zone = zone;
    auto made = Generation::create(build_snapshot(model, 1, book_));
    ASSERT_TRUE(made);
    generation_ = std::move(*made);
  }

  [[nodiscard]] const ServiceEntry& service() const { return generation_->snapshot().services[0]; }
  [[nodiscard]] EndpointState& state(std::size_t index) const {
    return *service().endpoints[index].state;
  }
  Pick pick(const PickQuery& query = {}) {
    return pick_endpoint(*generation_, 0, query, random_, kNow);
  }
  /// How often each was taken.
  std::vector<int> counts(int picks, const std::function<PickQuery(int)>& query = {}) {
    std::vector<int> taken(service().endpoints.size(), 0);
    for (int i = 0; i < picks; ++i) {
      const Pick found = pick(query ? query(i) : PickQuery{});
      EXPECT_EQ(found.outcome, Pick::Outcome::kPicked);
      ++taken[found.endpoint];
    }
    return taken;
  }

  EndpointBook book_;
  std::unique_ptr<Generation> generation_;
  Random random_{7};
};

TEST_F(EndpointChoice, RoundRobinFollowsWeightsExactly) {
  make(3, [](control::Service& service) {
    service.endpoints[0].weight = 5;
    service.endpoints[1].weight = 1;
    service.endpoints[2].weight = 2;
  });
  EXPECT_EQ(counts(800), (std::vector{500, 100, 200}));
}

TEST_F(EndpointChoice, RoundRobinInterleavesWeights) {
  make(2, [](control::Service& service) { service.endpoints[0].weight = 3; });
  std::string order;
  for (int i = 0; i < 8; ++i)
    order += static_cast<char>('a' + pick().endpoint);
  EXPECT_EQ(order, "aabaaaba");
}

TEST_F(EndpointChoice, WeightZeroTakesNothingWhateverThePolicy) {
  for (const LoadBalancer policy :
       {LoadBalancer::kRoundRobin, LoadBalancer::kLeastRequest, LoadBalancer::kRandom,
        LoadBalancer::kRingHash, LoadBalancer::kMaglev}) {
    make(3, [&](control::Service& service) {
      service.balancing.policy = policy;
      service.endpoints[1].weight = 0;
    });
    const auto taken = counts(300, [](int i) {
      return PickQuery{.hash = static_cast<std::uint64_t>(i) * 0x9e3779b97f4a7c15};
    });
    EXPECT_EQ(taken[1], 0) << static_cast<int>(policy);
    EXPECT_GT(taken[0], 50) << static_cast<int>(policy);
    EXPECT_GT(taken[2], 50) << static_cast<int>(policy);
  }
}

TEST_F(EndpointChoice, RoundRobinGivesTheTurnsOfOneThatIsOutToAllOthers) {
  make(4, [](control::Service& service) { service.limits.requests_per_endpoint = 5; });
  state(1).exchanges = 5;  // full
  EXPECT_EQ(counts(300), (std::vector{100, 0, 100, 100}));
}

TEST_F(EndpointChoice, LeastRequestFollowsWeightsWhereNobodyHasAnythingToDo) {
  make(2, [](control::Service& service) {
    service.balancing.policy = LoadBalancer::kLeastRequest;
    service.endpoints[1].weight = 3;
  });
  const auto taken = counts(4000);
  EXPECT_NEAR(taken[0], 1000, 120);
}

TEST_F(EndpointChoice, LeastRequestKeepsLoadsInProportionToWeights) {
  make(2, [](control::Service& service) {
    service.balancing.policy = LoadBalancer::kLeastRequest;
    service.endpoints[1].weight = 3;
  });
  for (int i = 0; i < 400; ++i)
    ++state(pick().endpoint).exchanges;
  EXPECT_NEAR(state(0).exchanges.load(), 100, 15);
}

TEST_F(EndpointChoice, LeastRequestTakesTheLessLoadedWhoeverLoadedIt) {
  make(2,
       [](control::Service& service) { service.balancing.policy = LoadBalancer::kLeastRequest; });
  state(0).exchanges = 10;  // of another worker, as far as this one knows
  EXPECT_EQ(counts(200)[1] > 150, true);
  state(1).exchanges = 20;
  EXPECT_EQ(counts(200)[0] > 150, true);
}

TEST_F(EndpointChoice, LeastRequestKeepsLoadsWithinAFew) {
  make(10,
       [](control::Service& service) { service.balancing.policy = LoadBalancer::kLeastRequest; });
  for (int i = 0; i < 1000; ++i)
    ++state(pick().endpoint).exchanges;
  std::uint32_t most = 0;
  std::uint32_t least = 1000;
  for (std::size_t i = 0; i < 10; ++i) {
    most = std::max(most, state(i).exchanges.load());
    least = std::min(least, state(i).exchanges.load());
  }
  EXPECT_LE(most - least, 8U);  // of 100 each; two choices, Mitzenmacher 2001
}

class Hashing : public EndpointChoice, public ::testing::WithParamInterface<LoadBalancer> {};

TEST_P(Hashing, SendsTheSameHashToTheSameEndpointAndSpreadsOthers) {
  make(8, [](control::Service& service) { service.balancing.policy = GetParam(); });
  std::map<std::uint64_t, EndpointIndex> first;
  std::vector<int> taken(8, 0);
  Random keys{3};
  for (int i = 0; i < 8000; ++i) {
    const std::uint64_t hash = keys.next();
    const Pick found = pick({.hash = hash});
    ++taken[found.endpoint];
    EXPECT_EQ(pick({.hash = hash}).endpoint, found.endpoint);
  }
  for (const int count : taken)
    EXPECT_NEAR(count, 1000, 350);
}

TEST_P(Hashing, MovesOnlyWhatItMustWhenOneGoesOrComes) {
  make(8, [](control::Service& service) { service.balancing.policy = GetParam(); });
  std::vector<std::uint64_t> hashes(4000);
  std::vector<wire::Endpoint> before;
  Random keys{5};
  for (std::uint64_t& hash : hashes) {
    hash = keys.next();
    before.push_back(service().endpoints[pick({.hash = hash}).endpoint].endpoint);
  }
  const wire::Endpoint gone = service().endpoints[3].endpoint;
  make(8, [](control::Service& service) {
    service.balancing.policy = GetParam();
    service.endpoints.erase(service.endpoints.begin() + 3);
  });
  int moved = 0;
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    const wire::Endpoint now = service().endpoints[pick({.hash = hashes[i]}).endpoint].endpoint;
    if (before[i] != gone && now != before[i]) ++moved;
  }
  EXPECT_LT(moved, static_cast<int>(hashes.size()) / 20);
}

TEST_P(Hashing, GoesOnToAnotherWhereTheFirstIsDownAndComesBack) {
  make(4, [](control::Service& service) { service.balancing.policy = GetParam(); });
  Random keys{9};
  for (int i = 0; i < 200; ++i) {
    const std::uint64_t hash = keys.next();
    const EndpointIndex home = pick({.hash = hash}).endpoint;
    state(home).share = 0;
    const EndpointIndex other = pick({.hash = hash}).endpoint;
    EXPECT_NE(other, home);
    EXPECT_EQ(pick({.hash = hash}).endpoint, other);
    state(home).share = EndpointState::kFullShare;
    EXPECT_EQ(pick({.hash = hash}).endpoint, home);
  }
}

INSTANTIATE_TEST_SUITE_P(, Hashing,
                         ::testing::Values(LoadBalancer::kRingHash, LoadBalancer::kMaglev),
                         [](const auto& param) {
                           return std::string{param.param == LoadBalancer::kMaglev ? "Maglev"
                                                                                   : "Ring"};
                         });

TEST_F(EndpointChoice, AZoneIsPreferredAndSpillsOverWhereItCannot) {
  make(
      4,
      [](control::Service& service) {
        service.endpoints[1].zone = service.endpoints[2].zone = "a";
        service.endpoints[3].zone = "b";
        service.limits.requests_per_endpoint = 2;
      },
      "a");
  EXPECT_EQ(counts(100), (std::vector{0, 50, 50, 0}));
  state(1).share = 0;
  EXPECT_EQ(counts(100), (std::vector{0, 0, 100, 0}));
  state(2).exchanges = 2;
  const auto taken = counts(100);
  EXPECT_EQ(taken[0] + taken[3], 100);
}

TEST_F(EndpointChoice, OneThatStartsSlowlyTakesItsPart) {
  make(2, [](control::Service&) {});
  state(0).share = 2;
  const int taken = counts(4000)[0];  // as if its weight were two tenths of the other's
  EXPECT_NEAR(taken, 4000 * 0.2 / 1.2, 100);
}

TEST_F(EndpointChoice, SaysWhetherNoneIsHealthyOrAllAreFull) {
  make(3, [](control::Service& service) { service.limits.requests_per_endpoint = 1; });
  state(0).share = state(1).share = 0;
  state(2).exchanges = 1;
  EXPECT_EQ(pick().outcome, Pick::Outcome::kAllFull);
  state(2).share = 0;
  EXPECT_EQ(pick().outcome, Pick::Outcome::kNoneHealthy);
  service().state->fails_open = true;  // down and all, but not beyond a limit
  EXPECT_EQ(pick().outcome, Pick::Outcome::kPicked);
  state(0).exchanges = state(1).exchanges = 1;
  EXPECT_EQ(pick().outcome, Pick::Outcome::kAllFull);
}

TEST_F(EndpointChoice, ThoseThatWereTriedComeLast) {
  make(3, [](control::Service&) {});
  const std::vector<EndpointIndex> tried{0, 2};
  for (int i = 0; i < 20; ++i)
    EXPECT_EQ(pick({.tried = tried}).endpoint, 1U);
  const std::vector<EndpointIndex> all{0, 1, 2};
  EXPECT_EQ(pick({.tried = all}).outcome, Pick::Outcome::kPicked);
}

TEST_F(EndpointChoice, StateOutlivesAConfiguration) {
  make(2, [](control::Service&) {});
  state(1).share = 0;
  const auto kept = service().endpoints[1].state;
  make(4, [](control::Service&) {});
  EXPECT_EQ(service().endpoints[1].state, kept);
  EXPECT_EQ(counts(30)[1], 0);
}

// ---- ejection ----------------------------------------------------------------------------------

TEST_F(EndpointChoice, ARunOfFailuresEjectsForTwiceAsLongEachTime) {
  make(4, [](control::Service& service) {
    service.outlier = {.consecutive_failures = 3, .ejection_time_ms = 1000};
  });
  const EndpointEntry& entry = service().endpoints[0];
  Instant now = kNow;
  for (const auto lasts : {1s, 2s, 4s}) {
    EXPECT_FALSE(count_failure(service(), entry, now));
    EXPECT_FALSE(count_failure(service(), entry, now));
    EXPECT_TRUE(count_failure(service(), entry, now));
    EXPECT_TRUE(entry.state->is_ejected(now + lasts - 1ms));
    EXPECT_FALSE(entry.state->is_ejected(now + lasts));
    now += lasts;
  }
}

TEST_F(EndpointChoice, WhoeverIsWellForAsLongAsItWasOutIsForgivenThatOnce) {
  make(4, [](control::Service& service) {
    service.outlier = {.consecutive_failures = 1, .ejection_time_ms = 1000};
  });
  const EndpointEntry& entry = service().endpoints[0];
  Instant now = kNow;
  for (const auto lasts : {1s, 2s, 4s}) {
    EXPECT_TRUE(count_failure(service(), entry, now));
    now += lasts;
  }
  // The last one lasted 4 s.
  count_success(service(), entry, now + 3999ms);
  EXPECT_EQ(entry.state->ejections, 3U);
  count_success(service(), entry, now + 4s);
  EXPECT_EQ(entry.state->ejections, 2U);
  EXPECT_FALSE(entry.state->is_ejected(now + 4s));
  count_success(service(), entry, now + 5s);
  EXPECT_EQ(entry.state->ejections, 2U) << "the one before takes 2 s more";
  count_success(service(), entry, now + 6s);
  count_success(service(), entry, now + 7s);
  EXPECT_EQ(entry.state->ejections, 0U);
  now += 7s;
  EXPECT_TRUE(count_failure(service(), entry, now));
  EXPECT_FALSE(entry.state->is_ejected(now + 1s));
}

TEST_F(EndpointChoice, ASuccessEndsTheRun) {
  make(4, [](control::Service& service) { service.outlier.consecutive_failures = 2; });
  const EndpointEntry& entry = service().endpoints[0];
  for (int i = 0; i < 10; ++i) {
    EXPECT_FALSE(count_failure(service(), entry, kNow));
    count_success(service(), entry, kNow);
  }
}

TEST_F(EndpointChoice, NeverMoreThanTheShareAndNeverTheLastIsEjected) {
  make(4, [](control::Service& service) {
    service.outlier = {.consecutive_failures = 1, .max_ejection_percent = 50};
  });
  int ejected = 0;
  for (const EndpointEntry& entry : service().endpoints)
    ejected += count_failure(service(), entry, kNow) ? 1 : 0;
  EXPECT_EQ(ejected, 2);
  make(1, [](control::Service& service) {
    service.outlier = {.consecutive_failures = 1, .max_ejection_percent = 100};
  });
  EXPECT_FALSE(count_failure(service(), service().endpoints[0], kNow));
}

TEST_F(EndpointChoice, TheLastOneThatCanBeUsedIsNotEjectedWhateverElseThereIs) {
  make(3, [](control::Service& service) {
    service.outlier = {.consecutive_failures = 1, .max_ejection_percent = 100};
    service.endpoints[1].weight = 0;
  });
  state(2).share = 0;
  EXPECT_FALSE(count_failure(service(), service().endpoints[0], kNow));
  state(2).share = EndpointState::kFullShare;
  EXPECT_TRUE(count_failure(service(), service().endpoints[0], kNow));
}

// ---- a split -----------------------------------------------------------------------------------

TEST_F(EndpointChoice, ASplitIsWithinHalfAPercentOver100000Requests) {
  Rule rule;
  rule.services = {{0, 95}, {1, 100}};
  int first = 0;
  for (int i = 0; i < 100'000; ++i)
    first += pick_service(rule, random_) == 0 ? 1 : 0;
  EXPECT_NEAR(first, 95'000, 500);
}

/// Smooth weighted round robin as it is described: everybody is owed its weight more each turn, and
/// who is owed most, the first of equals, is taken and pays the sum.
std::vector<EndpointIndex> turns_by_the_book(const std::vector<std::uint32_t>& weights) {
  const auto total = std::accumulate(weights.begin(), weights.end(), std::int64_t{0});
  std::vector<std::int64_t> owed(weights.size(), 0);
  std::vector<EndpointIndex> turns;
  for (std::int64_t turn = 0; turn < total; ++turn) {
    for (std::size_t i = 0; i < weights.size(); ++i)
      owed[i] += weights[i];
    const auto best = std::max_element(owed.begin(), owed.end());
    *best -= total;
    turns.push_back(static_cast<EndpointIndex>(best - owed.begin()));
  }
  return turns;
}

TEST(EndpointTurns, AreThoseOfSmoothWeightedRoundRobin) {
  Random random{20};
  for (int round = 0; round < 300; ++round) {
    control::Service service;
    std::vector<std::uint32_t> weights;
    const std::uint32_t count = 1 + random.below(40);
    const std::uint32_t weight_max = 1 + random.below(12);
    for (std::uint32_t i = 0; i < count; ++i)
      weights.push_back(1 + random.below(weight_max));
    weights.push_back(1);  // so that they have no divisor in common
    for (std::size_t i = 0; i < weights.size(); ++i)
      service.endpoints.push_back(
          {ProxyWorld::backend_endpoint(static_cast<std::uint16_t>(9000 + i)), weights[i]});
    ASSERT_EQ(build_pick_tables(service, {}).turns, turns_by_the_book(weights)) << round;
  }
}

TEST(EndpointTurns, OfMoreEndpointsThanTheListIsLongAreOneEach) {
  control::Service service;
  for (std::uint16_t i = 0; i < 5000; ++i)
    service.endpoints.push_back(
        {ProxyWorld::backend_endpoint(static_cast<std::uint16_t>(9000 + i)), 1U + i % 3});
  // Rounded to the length of the list, each still has a turn.
  const auto turns = build_pick_tables(service, {}).turns;
  std::vector<int> taken(service.endpoints.size(), 0);
  for (const EndpointIndex index : turns)
    ++taken[index];
  EXPECT_EQ(turns.size(), 5000U);
  EXPECT_EQ(std::ranges::count(taken, 1), 5000);
}

}  // namespace
}  // namespace weir::proxy
