#include "l7/proxy/router.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "l4/base/random.h"
#include "l7/proxy/snapshot.h"

namespace weir::proxy {
namespace {

control::RouteMatch prefix(std::string path) {
  return {control::PathMatchKind::kPrefix, std::move(path), std::nullopt, {}};
}
control::RouteMatch exact(std::string path) {
  return {control::PathMatchKind::kExact, std::move(path), std::nullopt, {}};
}

/// A router over named rules, asked for the name of the rule that wins.
class TestRouter {
 public:
  TestRouter& add(std::string_view hostname, std::string name, control::RouteMatch match,
                  std::string route = "route") {
    control::RouteRule rule{name, {std::move(match)}, {}, {}};
    router_.add(hostname, rule, static_cast<std::uint32_t>(rules_.size()));
    rules_.push_back({std::move(route), std::move(name), {}, {}});
    return *this;
  }
  std::string match(std::string_view host, std::string_view path, std::string_view method = "GET",
                    const http::HeaderList& fields = {}) {
    router_.finish(rules_);
    const auto rule = router_.match({method, host, path, fields});
    return rule ? rules_[*rule].name : "none";
  }

 private:
  Router router_;
  std::vector<Rule> rules_;
};

struct PathCase {
  std::string_view name;
  std::string_view path;
  std::string_view rule;
};
class PathPrecedence : public ::testing::TestWithParam<PathCase> {};

TEST_P(PathPrecedence, PicksTheMostSpecificRule) {
  TestRouter router;
  router.add("", "root", prefix("/"))
      .add("", "cart", prefix("/cart"))
      .add("", "items", prefix("/cart/items/"))
      .add("", "exact", exact("/cart/items"))
      .add("", "slash", exact("/cart/"));
  EXPECT_EQ(router.match("any.example", GetParam().path), GetParam().rule);
}

INSTANTIATE_TEST_SUITE_P(
    , PathPrecedence,
    ::testing::Values(PathCase{"TheRootMatchesEverything", "/other", "root"},
                      PathCase{"APrefixMatchesItself", "/cart", "cart"},
                      PathCase{"APrefixMatchesBelowItself", "/cart/1", "cart"},
                      PathCase{"APrefixMatchesWholeSegmentsOnly", "/cartoon", "root"},
                      PathCase{"AnExactPathBeatsALongerPrefix", "/cart/items", "exact"},
                      PathCase{"TheLongestPrefixWins", "/cart/items/7", "items"},
                      PathCase{"ATrailingSlashMattersToExact", "/cart/", "slash"},
                      PathCase{"CaseMatters", "/Cart", "root"}),
    [](const auto& param) { return std::string{param.param.name}; });

TEST(Router, AMethodBeatsNoMethodOnTheSamePath) {
  control::RouteMatch post = prefix("/a");
  post.method = "POST";
  TestRouter router;
  router.add("", "any", prefix("/a")).add("", "post", post);
  EXPECT_EQ(router.match("x", "/a", "POST"), "post");
  EXPECT_EQ(router.match("x", "/a", "GET"), "any");
}

TEST(Router, MoreHeaderMatchesBeatFewer) {
  control::RouteMatch one = prefix("/a");
  one.headers = {{"x-canary", "yes"}};
  control::RouteMatch two = one;
  two.headers.push_back({"x-region", "eu"});
  TestRouter router;
  router.add("", "none", prefix("/a")).add("", "one", one).add("", "two", two);
  http::HeaderList fields;
  EXPECT_EQ(router.match("x", "/a", "GET", fields), "none");
  fields.add("X-Canary", "yes");
  EXPECT_EQ(router.match("x", "/a", "GET", fields), "one");
  fields.add("X-Region", "eu");
  EXPECT_EQ(router.match("x", "/a", "GET", fields), "two");
  fields.set("X-Canary", "no");
  EXPECT_EQ(router.match("x", "/a", "GET", fields), "none");
}

TEST(Router, TiesGoToTheFirstRouteByNameAndThenToTheFirstRule) {
  TestRouter router;
  router.add("", "late", prefix("/a"), "zebra")
      .add("", "first", prefix("/a"), "aardvark")
      .add("", "second", prefix("/a"), "aardvark");
  EXPECT_EQ(router.match("x", "/a"), "first");
}

TEST(Router, TheMostSpecificHostnameDecidesAlone) {
  TestRouter router;
  router.add("", "any", prefix("/"))
      .add("*.example", "wide", prefix("/"))
      .add("*.shop.example", "narrow", prefix("/"))
      .add("api.shop.example", "exact", prefix("/only"));
  EXPECT_EQ(router.match("other.test", "/"), "any");
  EXPECT_EQ(router.match("a.example", "/"), "wide");
  EXPECT_EQ(router.match("a.b.example", "/"), "wide");
  EXPECT_EQ(router.match("www.shop.example", "/"), "narrow");
  EXPECT_EQ(router.match("shop.example", "/"), "wide");
  EXPECT_EQ(router.match("api.shop.example", "/only"), "exact");
  EXPECT_EQ(router.match("api.shop.example", "/"), "none");
  EXPECT_EQ(router.match("example", "/"), "any");
}

TEST(Router, TheOrderInWhichRulesAreAddedDoesNotMatter) {
  const std::vector<std::pair<std::string, control::RouteMatch>> rules = {
      {"root", prefix("/")}, {"a", prefix("/a")}, {"ab", prefix("/a/b")}, {"exact", exact("/a/b")}};
  constexpr std::uint64_t kSeed = 7;
  Random random{kSeed};
  for (int round = 0; round < 50; ++round) {
    auto shuffled = rules;
    for (std::size_t i = shuffled.size(); i > 1; --i)
      std::swap(shuffled[i - 1], shuffled[random.below(static_cast<std::uint32_t>(i))]);
    TestRouter router;
    for (const auto& [name, match] : shuffled)
      router.add("", name, match);
    EXPECT_EQ(router.match("x", "/a/b"), "exact");
    EXPECT_EQ(router.match("x", "/a/b/c"), "ab");
    EXPECT_EQ(router.match("x", "/a/c"), "a");
    EXPECT_EQ(router.match("x", "/c"), "root");
  }
}

struct HostnameCase {
  std::string_view name;
  std::string_view listener;
  std::string_view route;
  std::optional<std::string> common;
};
class Hostnames : public ::testing::TestWithParam<HostnameCase> {};

TEST_P(Hostnames, IntersectTheSameInBothDirections) {
  EXPECT_EQ(intersect_hostnames(GetParam().listener, GetParam().route), GetParam().common);
  EXPECT_EQ(intersect_hostnames(GetParam().route, GetParam().listener), GetParam().common);
}

INSTANTIATE_TEST_SUITE_P(
    , Hostnames,
    ::testing::Values(
        HostnameCase{"AnyLeavesTheOther", "", "a.example", "a.example"},
        HostnameCase{"EqualNames", "a.example", "a.example", "a.example"},
        HostnameCase{"DifferentNames", "a.example", "b.example", std::nullopt},
        HostnameCase{"AWildcardCoversAName", "*.example", "a.example", "a.example"},
        HostnameCase{"AWildcardCoversANarrowerOne", "*.example", "*.a.example", "*.a.example"},
        HostnameCase{"AWildcardDoesNotCoverItsBase", "*.example", "example", std::nullopt},
        HostnameCase{"DisjointWildcards", "*.a.example", "*.b.example", std::nullopt}),
    [](const auto& param) { return std::string{param.param.name}; });

control::Model model_with_two_listeners() {
  control::Model model;
  model.services = {{"cart", {*wire::Endpoint::parse("10.0.0.1:80")}, {}}, {"spare", {}, {}}};
  control::Gateway gateway;
  gateway.name = "edge";
  gateway.addresses = {*wire::IpAddress::parse("203.0.113.10")};
  control::Listener http{"http", wire::Port{80}, control::ListenerProtocol::kHttp, "", {}, {}, {}};
  http.redirect_to = "https";
  control::Listener https{"https",
                          wire::Port{443},
                          control::ListenerProtocol::kHttps,
                          "*.shop.example",
                          {{"/c.pem", "/c.pem"}},
                          {},
                          {}};
  gateway.listeners = {http, https};
  model.gateways = {gateway};
  control::HttpRoute route;
  route.name = "cart";
  route.parents = {{"edge", "https"}};
  route.hostnames = {"api.shop.example", "other.example"};
  route.rules = {{"", {prefix("/cart")}, {}, {{"cart", 3}, {"spare", 0}, {"cart", 1}}}};
  model.http_routes = {route};
  return model;
}

TEST(Snapshot, BindsEachAddressAndPortOnce) {
  const auto snapshot = build_snapshot(model_with_two_listeners(), 9);
  ASSERT_EQ(snapshot->binds.size(), 2U);
  EXPECT_EQ(snapshot->revision, 9U);
  EXPECT_FALSE(snapshot->binds[0].tls);
  EXPECT_TRUE(snapshot->binds[1].tls);
  EXPECT_EQ(snapshot->binds[1].tls_options.certificates.size(), 1U);
}

TEST(Snapshot, TakesACertificateThatTwoListenersOfAPortNameOnce) {
  control::Model model = model_with_two_listeners();
  control::Listener other = model.gateways[0].listeners[1];
  other.name = "other";
  other.hostname = "other.example";
  other.certificates.push_back({"/d.pem", "/d.pem"});
  model.gateways[0].listeners.push_back(other);
  const auto snapshot = build_snapshot(model, 1);
  ASSERT_EQ(snapshot->binds.size(), 2U);
  const std::vector<control::CertificateRef> expected{{"/c.pem", "/c.pem"}, {"/d.pem", "/d.pem"}};
  EXPECT_EQ(snapshot->binds[1].tls_options.certificates, expected);
  EXPECT_EQ(snapshot->binds[1].tls_options.policies.size(), 2U);
}

TEST(Snapshot, AttachesARouteOnlyWhereHostnamesMeet) {
  const auto snapshot = build_snapshot(model_with_two_listeners(), 1);
  const Bind& https = snapshot->binds[1];
  const ListenerEntry* listener = snapshot->listener_for(https, "api.shop.example");
  ASSERT_NE(listener, nullptr);
  EXPECT_EQ(listener->name, "edge/https");
  const http::HeaderList none;
  EXPECT_TRUE(listener->router.match({"GET", "api.shop.example", "/cart", none}));
  EXPECT_FALSE(listener->router.match({"GET", "www.shop.example", "/cart", none}));
  EXPECT_FALSE(listener->router.match({"GET", "other.example", "/cart", none}));
  EXPECT_EQ(snapshot->listener_for(https, "other.example"), nullptr);
}

TEST(Snapshot, GivesTheRedirectThePortOfItsTarget) {
  const auto snapshot = build_snapshot(model_with_two_listeners(), 1);
  const ListenerEntry* http = snapshot->listener_for(snapshot->binds[0], "anything");
  ASSERT_NE(http, nullptr);
  EXPECT_EQ(http->redirect_port, wire::Port{443});
}

TEST(Snapshot, LeavesOutServicesOfWeightZero) {
  const auto snapshot = build_snapshot(model_with_two_listeners(), 1);
  ASSERT_EQ(snapshot->rules.size(), 1U);
  EXPECT_EQ(snapshot->rules[0].name, "1");
  EXPECT_EQ(snapshot->rules[0].weight_total(), 4U);
  EXPECT_EQ(snapshot->rules[0].services.size(), 2U);
}

}  // namespace
}  // namespace weir::proxy
