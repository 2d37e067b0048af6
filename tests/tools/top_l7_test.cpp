#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tools/weir/top_subject.h"

/// What `weir top l7` makes of two answers of GET /v1/routes.
namespace weir::cli {
namespace {

using ::testing::ElementsAre;
using Values = std::vector<std::optional<double>>;

Json counters(int requests, int with_4xx = 0, int with_5xx = 0, int failures = 0, int slow = 0,
              int mean_ms = 2) {
  return {{"requests", requests},
          {"failures", failures},
          {"responses_2xx", requests - with_4xx - with_5xx},
          {"responses_4xx", with_4xx},
          {"responses_5xx", with_5xx},
          {"duration_us", requests * mean_ms * 1000},
          {"within_1000ms", requests - slow}};
}

Json endpoint(const std::string& address, int requests, int failures, bool usable = true) {
  return {{"endpoint", address}, {"requests", requests}, {"failures", failures},
          {"usable", usable},    {"exchanges", 3},       {"connections", 4}};
}

Json rule(const std::string& name, Json counted, Json services) {
  return {{"route", "shop"},
          {"rule", name},
          {"answer", services.empty() ? "redirect" : "services"},
          {"counters", std::move(counted)},
          {"services", std::move(services)}};
}

Json reply(int seconds, int requests, Json routes) {
  return {{"read_at_ns", seconds * 1'000'000'000LL},
          {"total",
           {{"connections", 12},
            {"requests", requests},
            {"responses_2xx", requests},
            {"responses_3xx", 0},
            {"responses_4xx", 0},
            {"responses_5xx", 0},
            {"log_dropped", 0},
            {"busy_ns", seconds * 250'000'000LL},
            {"idle_ns", seconds * 750'000'000LL}}},
          {"routes", std::move(routes)}};
}

TopReading reading(const Json& before, const Json& after, const std::string& open = "") {
  return top_of_l7().reading(before, after, open);
}

const Json kCart = Json::array({{{"service", "cart"}}, {{"service", "old"}}});

TEST(TopOfL7, HasForEachRuleWhatASecondHasBrought) {
  const TopReading now =
      reading(reply(10, 0, Json::array({rule("cart", counters(100), kCart)})),
              reply(12, 200, Json::array({rule("cart", counters(300, 40, 20, 10, 6), kCart)})));
  ASSERT_EQ(now.rows.size(), 1U);
  EXPECT_EQ(now.rows[0].label, "shop/cart");
  EXPECT_EQ(now.rows[0].name, "cart, old");
  // requests, 4xx, 5xx, failures, mean time, those over a second
  EXPECT_EQ(now.rows[0].values, (Values{100, 20, 10, 5, 2, 3}));
  EXPECT_TRUE(now.has_rates);
  EXPECT_EQ(now.summary,
            "100 requests/s: 2xx 100, 3xx 0, 4xx 0, 5xx 0; 12 clients; busy 25%; log lost 0/s");
}

TEST(TopOfL7, ARuleWithoutRequestsHasNoneAndNoMeanTime) {
  const Json same = rule("idle", counters(7), Json::array());
  const TopReading now =
      reading(reply(10, 7, Json::array({same})), reply(11, 7, Json::array({same})));
  ASSERT_EQ(now.rows.size(), 1U);
  EXPECT_EQ(now.rows[0].name, "redirect");
  EXPECT_EQ(now.rows[0].values, (Values{0, 0, 0, 0, std::nullopt, 0}));
}

TEST(TopOfL7, RatesOfWhatBeganAnewAreNotKnown) {
  const Json before = reply(10, 500, Json::array({rule("cart", counters(500), kCart)}));
  const Json after =
      reply(11, 5, {rule("cart", counters(5), kCart), rule("new", counters(3), kCart)});
  const TopReading now = reading(before, after);
  ASSERT_EQ(now.rows.size(), 2U);
  EXPECT_EQ(now.rows[0].values[0], std::nullopt) << "the daemon was started in between";
  EXPECT_EQ(now.rows[1].values[0], std::nullopt) << "the rule came in between";
  EXPECT_THAT(now.summary, ::testing::StartsWith("- requests/s"));
  const TopReading first = reading(nullptr, after);
  EXPECT_FALSE(first.has_rates);
  EXPECT_EQ(first.rows[0].values, Values(6));
  EXPECT_TRUE(reading(nullptr, nullptr).rows.empty());
}

TEST(TopOfL7, OpenedHasTheEndpointsOfEveryServiceOnce) {
  const auto at = [](int seconds, int requests) {
    const Json cart = {
        {"service", "cart"},
        {"endpoints",
         {endpoint("10.0.0.1:80", requests, requests / 10), endpoint("10.0.0.2:80", 0, 0, false)}}};
    const Json old = {{"service", "old"},
                      {"endpoints", Json::array({endpoint("10.0.0.1:80", 3 * requests, 0)})}};
    // A rule may name a service twice, with two weights.
    return reply(seconds, 0,
                 Json::array({rule("cart", counters(0), Json::array({cart, old, cart}))}));
  };
  const TopReading now = reading(at(10, 100), at(11, 200), "shop/cart");
  ASSERT_EQ(now.rows.size(), 3U);
  EXPECT_THAT((std::vector{now.rows[0].label, now.rows[1].label, now.rows[2].label}),
              ElementsAre("10.0.0.1:80", "10.0.0.2:80", "10.0.0.1:80"));
  EXPECT_EQ(now.rows[2].name, "old");
  // requests, failures, in progress, connections, usable
  EXPECT_EQ(now.rows[0].values, (Values{100, 10, 3, 4, 1}));
  EXPECT_EQ(now.rows[1].values, (Values{0, 0, 3, 4, 0}));
  EXPECT_EQ(now.rows[2].values, (Values{300, 0, 3, 4, 1}));
  EXPECT_TRUE(reading(at(10, 100), at(11, 200), "shop/other").rows.empty());
}

TEST(TopOfL7, IsSortedByWhatItsColumnsAreCalled) {
  EXPECT_THAT(sort_words(top_of_l7()),
              ElementsAre("name", "requests", "4xx", "5xx", "failed", "time", "over1s", "active",
                          "connections", "usable"));
  EXPECT_THAT(sort_words(top_of_l4()), ElementsAre("address", "packets", "bits", "flows", "drops"));
}

}  // namespace
}  // namespace weir::cli
