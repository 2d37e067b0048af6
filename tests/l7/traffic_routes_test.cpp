#include "l7/traffic_routes.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <nlohmann/json.hpp>
#include <string>

#include "l7/traffic_totals.h"
#include "tests/support/proxy_world.h"

namespace weir::l7 {
namespace {

using nlohmann::json;
using testing::ProxyWorld;
using namespace std::chrono_literals;

control::RouteRule rule_for(const std::string& name, const std::string& service) {
  control::RouteRule rule;
  rule.name = name;
  rule.matches = {{control::PathMatchKind::kPrefix, "/" + name, {}, {}}};
  if (!service.empty()) rule.backends = {{service, 1}};
  return rule;
}

/// Rules whose requests end each in a way of its own.
class RoutesOfARunningWorker : public ::testing::Test {
 protected:
  RoutesOfARunningWorker() {
    testing::Backend& well = world_.add_backend(8001, testing::answering("HTTP/1.1 204 \r\n\r\n"));
    testing::Backend& sick =
        world_.add_backend(8002, testing::answering("HTTP/1.1 500 \r\nContent-Length: 0\r\n\r\n"));
    model_ = ProxyWorld::model_for({well.endpoint});
    const auto service = [&](const std::string& name, const wire::Endpoint& endpoint) {
      control::Service added = model_.services[0];
      added.name = name;
      added.endpoints = {{endpoint}};
      model_.services.push_back(std::move(added));
    };
    service("sick", sick.endpoint);
    service("gone", ProxyWorld::backend_endpoint(8003));
    auto& rules = model_.http_routes[0].rules;
    rules = {rule_for("well", "app"), rule_for("sick", "sick"), rule_for("gone", "gone"),
             rule_for("own", ""), rule_for("idle", "app")};
    rules[3].respond = control::FixedResponse{503, "", ""};
    world_.install(model_);
    ask("/well", 3);
    ask("/sick", 1);
    ask("/gone", 1);
    ask("/own", 2);
    ask("/nowhere", 1);
  }

  void ask(const std::string& path, int times) {
    testing::Peer& client = world_.connect();
    for (int i = 0; i < times; ++i)
      client.send(fmt::format("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", path));
    world_.run_for(10s);
  }

  control::AdminReply reply(std::map<std::string, std::string> query = {}) {
    const std::array reports{world_.report()};
    const auto snapshot = proxy::build_snapshot(model_, 1);
    return routes_reply(model_, *snapshot, totals_of(reports, world_.now()),
                        {"GET", "/v1/routes", std::move(query), ""});
  }
  json answer(std::map<std::string, std::string> query = {}) {
    const control::AdminReply got = reply(std::move(query));
    EXPECT_EQ(got.status, 200) << got.body;
    return json::parse(got.body);
  }

  ProxyWorld world_{{}};
  control::Model model_;
};

TEST_F(RoutesOfARunningWorker, SayWhatHasBecomeOfTheirRequests) {
  const json said = answer();
  struct Case {
    std::string_view rule;
    int requests;
    int with_5xx;
    int failures;
  };
  // Whoever answers with an error on purpose has not failed.
  constexpr std::array kCases{Case{"well", 3, 0, 0}, Case{"sick", 1, 1, 0}, Case{"gone", 1, 1, 1},
                              Case{"own", 2, 2, 0}, Case{"idle", 0, 0, 0}};
  ASSERT_EQ(said["routes"].size(), kCases.size());
  int sum = 0;
  for (std::size_t i = 0; i < kCases.size(); ++i) {
    const json& row = said["routes"][i];
    const json& counters = row["counters"];
    EXPECT_EQ(row["rule"], kCases[i].rule);
    EXPECT_EQ(counters["requests"], kCases[i].requests) << kCases[i].rule;
    EXPECT_EQ(counters["responses_5xx"], kCases[i].with_5xx) << kCases[i].rule;
    EXPECT_EQ(counters["failures"], kCases[i].failures) << kCases[i].rule;
    EXPECT_FALSE(row["services"].size() == 1 && row["services"][0].contains("endpoints"));
    sum += kCases[i].requests;
  }
  EXPECT_EQ(said["total"]["requests"], sum + 1) << "those that no rule got are counted there alone";
  EXPECT_EQ(said["total"]["responses_2xx"], 3);
  EXPECT_EQ(said["total"]["responses_4xx"], 1);
  EXPECT_EQ(said["total"]["responses_5xx"], 4);
  EXPECT_EQ(said["read_at_ns"], std::chrono::nanoseconds{world_.now().time_since_epoch()}.count());
}

TEST_F(RoutesOfARunningWorker, AreOneWithItsEndpointsWhereOneIsAskedFor) {
  const json said = answer({{"rule", "main/sick"}});
  ASSERT_EQ(said["routes"].size(), 1U);
  const json& services = said["routes"][0]["services"];
  ASSERT_EQ(services.size(), 1U);
  EXPECT_EQ(services[0]["endpoints"][0]["endpoint"], ProxyWorld::backend_endpoint(8002).text());
  EXPECT_EQ(said["routes"][0]["counters"]["requests"], 1);
}

TEST_F(RoutesOfARunningWorker, OfTlsComeLastAndSayThatTheyPassThrough) {
  model_.tls_routes.push_back(
      {"secret", {{"edge", std::nullopt}}, {"secret.example"}, {{"sick", 1}}});
  const json said = answer();
  ASSERT_EQ(said["routes"].size(), 6U);
  const json& row = said["routes"].back();
  EXPECT_EQ(row["route"], "secret");
  EXPECT_EQ(row["rule"], "1");
  EXPECT_EQ(row["answer"], "passthrough");
  EXPECT_EQ(row["matches"], json::array({"TLS"}));
  EXPECT_EQ(row["hostnames"], json::array({"secret.example"}));
  EXPECT_EQ(row["counters"]["requests"], 0);
  const json one = answer({{"rule", "secret/1"}});
  ASSERT_EQ(one["routes"].size(), 1U);
  EXPECT_EQ(one["routes"][0]["services"][0]["endpoints"][0]["endpoint"],
            ProxyWorld::backend_endpoint(8002).text());
}

TEST_F(RoutesOfARunningWorker, RefuseWhatTheyDoNotKnow) {
  const control::AdminReply unknown = reply({{"rule", "main/none"}});
  EXPECT_EQ(unknown.status, 404);
  EXPECT_NE(unknown.body.find("there is no rule 'main/none'"), std::string::npos) << unknown.body;
  const control::AdminReply wrong = reply({{"route", "main"}});
  EXPECT_EQ(wrong.status, 400);
  EXPECT_NE(wrong.body.find("the query has 'route'"), std::string::npos) << wrong.body;
}

TEST(TotalsOfWorkers, AreTheSumOfTheirReports) {
  proxy::RequestCounters cart{.name = "shop/cart"};
  cart.responses = {0, 0, 5, 0, 1, 2};
  cart.within = {4, 6, 7};
  cart.duration_us = 900;
  cart.failures = 2;
  proxy::RequestCounters other = cart;
  other.name = "shop/other";
  std::array<proxy::WorkerReport, 2> reports;
  for (proxy::WorkerReport& report : reports) {
    report.core.requests = 8;
    report.core.passed_through = 2;
    report.core.responses = {0, 0, 5, 0, 1, 2};
    report.core.connections = 3;
    report.log_dropped = 1;
    report.busy_time = 2ms;
    report.idle_time = 6ms;
    report.routes = {cart};
    report.services = {{.name = "cart", .responses = {0, 0, 5, 0, 1, 2}}};
  }
  reports[1].routes.push_back(other);
  const TrafficTotals totals = totals_of(reports, Instant{5s});
  EXPECT_EQ(totals.requests, 16U);
  EXPECT_EQ(totals.passed_through, 4U);
  EXPECT_EQ(totals.connections, 6U);
  EXPECT_EQ(totals.responses[2], 10U);
  EXPECT_EQ(totals.log_dropped, 2U);
  EXPECT_EQ(totals.busy_time, 4ms);
  EXPECT_EQ(totals.idle_time, 12ms);
  ASSERT_EQ(totals.services.size(), 1U);
  EXPECT_EQ(totals.services.at("cart").requests(), 16U);
  ASSERT_EQ(totals.routes.size(), 2U);
  EXPECT_EQ(named(totals.routes.at("shop/cart")), (NamedNumbers{{"requests", 16},
                                                                {"failures", 4},
                                                                {"duration_us", 1800},
                                                                {"responses_2xx", 10},
                                                                {"responses_3xx", 0},
                                                                {"responses_4xx", 2},
                                                                {"responses_5xx", 4},
                                                                {"within_10ms", 8},
                                                                {"within_100ms", 12},
                                                                {"within_1000ms", 14}}));
  EXPECT_EQ(totals.routes.at("shop/other").requests(), 8U);
}

}  // namespace
}  // namespace weir::l7
