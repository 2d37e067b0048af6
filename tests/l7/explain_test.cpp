#include "l7/explain.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "l7/rule_effects.h"
#include "tests/l7/proxy/plain_routes.h"
#include "tests/support/proxy_world.h"

// What `weir explain` says, held against what a whole worker then does with the same request.

namespace weir::l7 {
namespace {

using proxy::PlainRequest;
using proxy::PlainRule;
using testing::ProxyWorld;

control::Model model_of(const std::vector<PlainRule>& rules, const wire::Endpoint& endpoint) {
  control::Model model = ProxyWorld::model_for({endpoint});
  const control::HttpRoute first = model.http_routes[0];
  model.http_routes.clear();
  for (std::size_t i = 0; i < rules.size(); ++i) {
    control::HttpRoute route = first;
    route.name = rules[i].route;
    route.hostnames.clear();
    if (!rules[i].hostname.empty()) route.hostnames.push_back(rules[i].hostname);
    route.rules[0].name = fmt::format("n{}", i);
    route.rules[0].matches = {rules[i].match};
    model.http_routes.push_back(std::move(route));
  }
  return model;
}

std::string target_of(const PlainRequest& request) {
  std::string target = request.path;
  for (const auto& [name, value] : request.query)
    target += fmt::format("{}{}={}", target.size() == request.path.size() ? "?" : "&", name, value);
  return target;
}

std::string bytes_of(const PlainRequest& request) {
  std::string fields;
  for (const auto& [name, value] : request.headers)
    fields += fmt::format("{}: {}\r\n", name, value);
  return fmt::format("{} {} HTTP/1.1\r\nHost: {}\r\n{}Content-Length: 0\r\n\r\n", request.method,
                     target_of(request), request.host, fields);
}

TEST(Explain, SaysOfRandomTablesWhatARequestThenGets) {
  constexpr std::uint64_t kTables = 2000;
  ProxyWorld world{{}};
  testing::Backend& app =
      world.add_backend(8001, testing::answering("HTTP/1.1 204 No Content\r\n\r\n"));
  std::size_t found = 0;
  for (std::uint64_t seed = 1; seed <= kTables; ++seed) {
    proxy::RandomRoutes random{seed};
    std::vector<PlainRule> rules;
    for (std::uint32_t i = 1 + random.below(40); i > 0; --i)
      rules.push_back(random.rule());
    const control::Model model = model_of(rules, app.endpoint);
    const PlainRequest request = random.request();
    const auto said =
        explain(*proxy::build_snapshot(model, 1),
                {request.method, fmt::format("http://{}{}", request.host, target_of(request)),
                 request.headers});
    ASSERT_TRUE(said) << said.error().text();
    const auto wanted = proxy::plain_choice(rules, request);
    ASSERT_EQ(said->rule, wanted ? fmt::format("n{}", *wanted) : "") << "seed " << seed;
    if (wanted) ++found;

    world.install(model);
    testing::Peer& client = world.connect();
    client.send(bytes_of(request));
    ASSERT_TRUE(world.run_until([&] { return !client.received.empty(); })) << "seed " << seed;
    client.finish();
    const auto line = nlohmann::json::parse(world.drain_log());
    ASSERT_EQ(line.value("rule", ""), said->rule) << "seed " << seed;
    ASSERT_EQ(line["reason"], said->outcome == "proxy" ? "ok" : said->reason) << "seed " << seed;
    ASSERT_EQ(line["status"], said->outcome == "proxy" ? 204 : said->status) << "seed " << seed;
  }
  EXPECT_GT(found, kTables / 5);
}

struct BadCase {
  std::string_view name;
  std::string url;
};
class BadUrl : public ::testing::TestWithParam<BadCase> {};

TEST_P(BadUrl, IsRefusedWithWhatWasExpected) {
  const auto said =
      explain(*proxy::build_snapshot(ProxyWorld::model_for({}), 1), {"GET", GetParam().url, {}});
  ASSERT_FALSE(said);
  EXPECT_NE(said.error().text().find("such as https://shop.example/cart"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(, BadUrl,
                         ::testing::Values(BadCase{"Empty", ""}, BadCase{"NoScheme", "shop/cart"},
                                           BadCase{"AnotherScheme", "ftp://shop/"},
                                           BadCase{"NoHost", "http:///cart"}),
                         [](const auto& param) { return std::string{param.param.name}; });

struct NoRequest {
  const char* name;
  const char* method;
  const char* path;
  std::pair<std::string, std::string> header;
  int status;
};

class ExplainOfNoRequest : public ::testing::TestWithParam<NoRequest> {};

TEST_P(ExplainOfNoRequest, IsTheRefusalThatItWouldGet) {
  const auto [name, method, path, header, status] = GetParam();
  const auto said = explain(*proxy::build_snapshot(ProxyWorld::model_for({}), 1),
                            {method, std::string{"http://a.example"} + path, {header}});
  ASSERT_TRUE(said) << said.error().text();
  EXPECT_EQ(said->outcome, "refuse");
  EXPECT_EQ(said->status, status);
  EXPECT_FALSE(said->reason.empty());
}

INSTANTIATE_TEST_SUITE_P(
    , ExplainOfNoRequest,
    ::testing::Values(NoRequest{"NoMethod", "", "/", {"a", "b"}, 400},
                      NoRequest{"AMethodOfTwoWords", "G T", "/", {"a", "b"}, 400},
                      NoRequest{"AControlByteInThePath", "GET", "/\x01", {"a", "b"}, 400},
                      NoRequest{"ALineEndInAField", "GET", "/", {"a", "b\r\nc: d"}, 400},
                      NoRequest{"ALineEndInAMethod", "GET / HTTP/1.1\r\na:", "/", {"a", "b"}, 400},
                      NoRequest{"AnotherExpectation", "GET", "/", {"expect", "x"}, 417},
                      NoRequest{"NoForwardLeft", "TRACE", "/", {"max-forwards", "0"}, 501},
                      NoRequest{
                          "ForwardsThatAreNoNumber", "OPTIONS", "/", {"max-forwards", "x"}, 400}),
    [](const auto& tested) { return tested.param.name; });

TEST(Explain, NamesThePlaceWhereNobodyListens) {
  const auto said = explain(*proxy::build_snapshot(ProxyWorld::model_for({}), 1),
                            {"GET", "https://shop.example/", {}});
  ASSERT_TRUE(said);
  EXPECT_EQ(said->outcome, "refuse");
  EXPECT_EQ(said->reason, "no listener of HTTPS on port 443");
}

TEST(Effects, AreAllThatIsDoneBesideSendingARequest) {
  control::Model model = ProxyWorld::model_for({});
  model.gateways[0].access_log = {.sample = 500, .always_status = 500, .always_duration_ms = 2000};
  model.gateways[0].listeners[0].error_pages = {{{{4}, {503}}, "text/html", "12345"}};
  control::HttpRoute& route = model.http_routes[0];
  route.error_pages = {{{{404}}, "text/plain", ""}};
  route.rules[0].fault = control::FaultInjection{2000, 10'000, 503, 5'000};
  route.rules[0].mirror = control::Mirror{"app", 500, 16 * 1024};
  route.rules[0].request_headers = {
      .set = {{"X-Id", "${request.id}"}}, .add = {}, .remove = {"X-Old"}};
  route.rules[0].response_headers = {.set = {}, .add = {{"X-A", "b"}}, .remove = {}};
  const std::vector<std::string> of_rule{
      "fault: 10% of requests are delayed by 2s",
      "fault: 5% of requests are answered with 503",
      "mirror: 0.5% of requests with bodies of up to 16Ki also go to app",
      "request header X-Old is removed",
      "request header X-Id is set to '${request.id}'",
      "response header X-A is added: 'b'",
      "error page of the route for 404: text/plain, 0 bytes"};
  const std::vector<std::string> of_listener{
      "error page of the listener for 4xx, 503: text/html, 5 bytes",
      "log: 0.5% of requests, and all from status 500 on, and all that take 2s"};
  std::vector<std::string> all = of_rule;
  all.insert(all.end(), of_listener.begin(), of_listener.end());
  EXPECT_EQ(effects_of(route, route.rules[0]), of_rule);
  EXPECT_EQ(effects_of(model, "edge/http", "main", "1"), all);
  EXPECT_EQ(effects_of(model, "edge/http", "", ""), of_listener);
}

TEST(Effects, OfAPlainRuleAreNone) {
  EXPECT_TRUE(effects_of(ProxyWorld::model_for({}), "edge/http", "main", "1").empty());
}

}  // namespace
}  // namespace weir::l7
