#include "l7/proxy/trace_context.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/l7/proxy/core_fixture.h"

namespace weir::proxy {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

constexpr std::string_view kTrace = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr std::string_view kParent = "00f067aa0ba902b7";

TEST(TraceContext, ReadsWhatTheRecommendationShows) {
  const auto context = parse_traceparent(fmt::format("00-{}-{}-01", kTrace, kParent));
  ASSERT_TRUE(context);
  EXPECT_EQ(context->id(), kTrace);
  EXPECT_TRUE(context->sampled);
  EXPECT_FALSE(parse_traceparent(fmt::format("00-{}-{}-00", kTrace, kParent))->sampled);
  // Of a later version what this one knows, and more behind a dash.
  EXPECT_TRUE(parse_traceparent(fmt::format("cc-{}-{}-01-more", kTrace, kParent)));
}

TEST(TraceContext, RefusesWhatBreaksARule) {
  const std::string zeros(32, '0');
  for (const std::string& value :
       {std::string{}, std::string{"00"}, fmt::format("00-{}-{}-0", kTrace, kParent),
        fmt::format("ff-{}-{}-01", kTrace, kParent), fmt::format("00-{}-{}-01", zeros, kParent),
        fmt::format("00-{}-{}-01", kTrace, zeros.substr(16)),
        fmt::format("00-{}-{}-01-more", kTrace, kParent),
        fmt::format("cc-{}-{}-01more", kTrace, kParent),
        fmt::format("00-{}-{}-0x", kTrace, kParent),
        fmt::format("00-4BF92F3577B34DA6A3CE929D0E0E4736-{}-01", kParent),
        fmt::format("00_{}_{}_01", kTrace, kParent)})
    EXPECT_FALSE(parse_traceparent(value)) << value;
}

class Tracing : public ProxyCore {
 protected:
  std::string ask(std::string_view fields) {
    Backend& backend = world_.add_backend(8001, answering(std::string{kOk}));
    control::Model model = ProxyWorld::model_for({backend.endpoint});
    model.gateways[0].trace_context = true;
    world_.install(model);
    connect_and_send(request("GET", fields));
    world_.run_for(10ms);
    return backend.received();
  }
};

TEST_F(Tracing, ATraceGoesOnWithANewParent) {
  const std::string seen =
      ask(fmt::format("traceparent: 00-{}-{}-01\r\ntracestate: a=1\r\n", kTrace, kParent));
  EXPECT_THAT(seen, HasSubstr(fmt::format("traceparent: 00-{}-", kTrace)));
  EXPECT_THAT(seen, HasSubstr("-01\r\n"));
  EXPECT_THAT(seen, Not(HasSubstr(std::string{kParent})));
  EXPECT_THAT(seen, HasSubstr("tracestate: a=1\r\n"));
  EXPECT_EQ(log()[0]["trace"], kTrace);
}

TEST_F(Tracing, ABrokenOneIsBegunAnewWithoutItsState) {
  const std::string seen = ask("traceparent: nonsense\r\ntracestate: a=1\r\n");
  EXPECT_THAT(seen, Not(HasSubstr("tracestate")));
  EXPECT_THAT(seen, Not(HasSubstr("nonsense")));
  const std::string id = log()[0]["trace"];
  EXPECT_THAT(id, MatchesRegex("[0-9a-f]+"));
  EXPECT_EQ(id.size(), 32U);
  EXPECT_THAT(seen, HasSubstr("traceparent: 00-" + id + "-"));
}

// ---- phases and routes --------------------------------------------------------------------------

TEST_F(Tracing, TheLogSaysHowLongConnectingTook) {
  ask("");
  const auto lines = log();
  EXPECT_GT(lines[0]["connect_us"].get<int>(), 0);
  EXPECT_FALSE(lines[0].contains("wait_us"));
  EXPECT_FALSE(lines[0].contains("tls_us"));
}

TEST_F(Tracing, EachRuleHasItsRateErrorsAndDuration) {
  Backend& backend = world_.add_backend(8001, answering(std::string{kOk}));
  control::Model model = ProxyWorld::model_for({backend.endpoint});
  model.http_routes[0].rules[0].name = "app";
  model.http_routes[0].rules.push_back(model.http_routes[0].rules[0]);
  model.http_routes[0].rules[1].name = "none";
  model.http_routes[0].rules[1].matches = {{control::PathMatchKind::kPrefix, "/none", {}, {}}};
  model.http_routes[0].rules[1].respond = control::FixedResponse{503, "", ""};
  world_.install(model);
  connect_and_send(request() + request() + "GET /none HTTP/1.1\r\nHost: shop.example\r\n\r\n");
  world_.run_for(10ms);
  // Counts stay with their rule when its place changes.
  std::swap(model.http_routes[0].rules[0], model.http_routes[0].rules[1]);
  world_.install(model);
  connect_and_send(request());
  world_.run_for(10ms);
  const std::vector<RequestCounters> routes = world_.report().routes;
  ASSERT_EQ(routes.size(), 2U);
  EXPECT_EQ(routes[0].name, "main/none");
  EXPECT_EQ(routes[0].responses[5], 1U);
  EXPECT_EQ(routes[1].name, "main/app");
  EXPECT_EQ(routes[1].responses[2], 3U);
  EXPECT_EQ(routes[1].within.back(), 3U);
}

}  // namespace
}  // namespace weir::proxy
