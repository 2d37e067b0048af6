#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "l7/proxy/error_pages.h"
#include "tests/l7/proxy/core_fixture.h"

// Answers that the configuration has prepared: injected faults, and pages for errors.

namespace weir::proxy {
namespace {

using control::kShareWhole;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// ---- faults ------------------------------------------------------------------------------------

class Faults : public ProxyCore {
 protected:
  Backend& serve_with_fault(const control::FaultInjection& fault, std::uint32_t request_ms = 0) {
    return serve_with([&](control::Model& model) {
      model.http_routes[0].rules[0].fault = fault;
      model.http_routes[0].rules[0].timeouts.request_ms = request_ms;
    });
  }
};

TEST_F(Faults, AnAbortAnswersInsteadOfTheBackend) {
  Backend& backend = serve_with_fault({.abort_status = 503, .abort_share = kShareWhole});
  Peer& client = connect_and_send(request() + request());
  world_.run_for(10ms);
  EXPECT_EQ(client.received,
            own_answer("503 Service Unavailable") + own_answer("503 Service Unavailable"));
  EXPECT_EQ(backend.received(), "");
  EXPECT_EQ(outcomes(), "503 fault, 503 fault");
}

TEST_F(Faults, ADelayHoldsTheRequestAndThenLetsItGo) {
  Backend& backend = serve_with_fault({.delay_ms = 2000, .delay_share = kShareWhole});
  Peer& client = connect_and_send(request("POST", "Content-Length: 4\r\n", "body"));
  world_.run_for(1990ms);
  EXPECT_EQ(backend.received(), "");
  world_.run_for(20ms);
  EXPECT_THAT(backend.received(), HasSubstr("\r\n\r\nbody"));
  EXPECT_THAT(client.received, StartsWith("HTTP/1.1 200 OK"));
  const auto lines = log();
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0]["detail"], "delayed by the rule's fault");
  EXPECT_GE(lines[0]["wait_us"].get<int>(), 2'000'000);
  EXPECT_EQ(world_.report().core.delays, 1U);
}

TEST_F(Faults, WhatIsDelayedCanBeAbortedBehindIt) {
  Backend& backend = serve_with_fault({.delay_ms = 500,
                                       .delay_share = kShareWhole,
                                       .abort_status = 429,
                                       .abort_share = kShareWhole});
  Peer& client = connect_and_send(request());
  world_.run_for(490ms);
  EXPECT_EQ(client.received, "");
  world_.run_for(20ms);
  EXPECT_THAT(client.received, StartsWith("HTTP/1.1 429 "));
  EXPECT_EQ(backend.received(), "");
  EXPECT_EQ(outcomes(), "429 fault");
}

TEST_F(Faults, ADelayCountsAgainstTheTimeThatARequestHas) {
  serve_with_fault({.delay_ms = 2000, .delay_share = kShareWhole}, 500);
  Peer& client = connect_and_send(request());
  world_.run_for(600ms);
  EXPECT_THAT(client.received, StartsWith("HTTP/1.1 504 "));
  EXPECT_EQ(outcomes(), "504 request_timeout");
}

TEST_F(Faults, AClientThatLeavesDuringADelayIsForgotten) {
  Backend& backend = serve_with_fault({.delay_ms = 2000, .delay_share = kShareWhole});
  Peer& client = connect_and_send(request());
  world_.run_for(100ms);
  client.reset(world_.now());
  world_.run_for(3s);
  EXPECT_EQ(backend.received(), "");
  EXPECT_EQ(outcomes(), "0 client_reset");
}

TEST_F(Faults, TheConfigurationMayChangeDuringADelay) {
  Backend& backend = serve_with_fault({.delay_ms = 500, .delay_share = kShareWhole});
  Peer& client = connect_and_send(request());
  world_.run_for(100ms);
  world_.install(ProxyWorld::model_for({backend.endpoint}));
  world_.run_for(500ms);
  EXPECT_THAT(client.received, StartsWith("HTTP/1.1 200 OK"));
}

TEST_F(Faults, ServicesMayGoDuringADelayAndTheOneThatStaysIsCounted) {
  Backend& backend = world_.add_backend(8001, answering(std::string{kOk}));
  control::Model model = ProxyWorld::model_for({backend.endpoint});
  const control::Model few = model;
  for (int i = 0; i < 1000; ++i) {
    control::Service other = model.services[0];
    other.name = fmt::format("a{}", i);
    model.services.insert(model.services.begin(), other);
  }
  model.http_routes[0].rules[0].fault = {.delay_ms = 500, .delay_share = kShareWhole};
  world_.install(model);
  Peer& client = connect_and_send(request());
  world_.run_for(100ms);
  world_.install(few);
  world_.run_for(500ms);
  EXPECT_THAT(client.received, StartsWith("HTTP/1.1 200 OK"));
  const WorkerReport report = world_.report();
  ASSERT_EQ(report.services.size(), 1U);
  EXPECT_EQ(report.services[0].name, "app");
  EXPECT_EQ(report.services[0].requests(), 1U);
}

TEST_F(Faults, MeetTheShareOfRequestsThatIsWanted) {
  serve_with_fault({.abort_status = 503, .abort_share = kShareWhole / 5});
  Peer& client = world_.connect();
  for (int i = 0; i < 500; ++i) {
    client.send(request());
    world_.run_for(5ms);
  }
  EXPECT_NEAR(static_cast<double>(count(Reason::kFault)), 100, 30);
  EXPECT_EQ(count(Reason::kFault) + count(Reason::kOk), 500U);
}

TEST_F(Faults, OfNoShareMeetNobody) {
  serve_with_fault({.delay_ms = 60'000, .delay_share = 0, .abort_status = 503, .abort_share = 0});
  connect_and_send(request());
  world_.run_for(10ms);
  EXPECT_EQ(outcomes(), "200 ok");
}

// ---- error pages -------------------------------------------------------------------------------

http::HeaderList accepting(std::string_view value) {
  http::HeaderList fields;
  if (!value.empty()) fields.add("Accept", value);
  return fields;
}

TEST(Accept, WeighsATypeByItsMostExactRange) {
  const auto quality = [](std::string_view accept, std::string_view type) {
    return accepted_quality(accepting(accept), type);
  };
  EXPECT_EQ(quality("", "text/html"), 1000);
  EXPECT_EQ(quality("text/html", "text/html; charset=utf-8"), 1000);
  EXPECT_EQ(quality("TEXT/HTML;level=1", "text/html"), 1000);
  EXPECT_EQ(quality("application/json", "text/html"), 0);
  EXPECT_EQ(quality("*/*;q=0.5", "text/html"), 500);
  EXPECT_EQ(quality("*/*;q=0.5, text/*;q=0.25", "text/html"), 250);
  EXPECT_EQ(quality("text/*, text/html;q=0", "text/html"), 0);
  EXPECT_EQ(quality("text/html; q=0.123", "text/html"), 123);
  EXPECT_EQ(quality("text/html;q=0", "text/html"), 0);
  EXPECT_EQ(quality("text/html;q=nonsense", "text/html"), 1000);
  EXPECT_EQ(quality("tex/*", "text/html"), 0);
}

TEST(ErrorPages, OfAStatusGoBeforeThoseOfItsClass) {
  const ErrorPages pages{{{{{5}}, "text/html", "class"}, {{{503}, {404}}, "text/html", "exact"}}};
  const http::HeaderList none;
  EXPECT_EQ(pages.find(503, &none)->body, "exact");
  EXPECT_EQ(pages.find(404, &none)->body, "exact");
  EXPECT_EQ(pages.find(502, &none)->body, "class");
  EXPECT_EQ(pages.find(403, &none), nullptr);
  EXPECT_EQ(pages.find(200, &none), nullptr);
}

TEST(ErrorPages, AreChosenByWhatTheClientLikesBest) {
  const ErrorPages pages{{{{{5}}, "text/html", "html"}, {{{5}}, "application/json", "json"}}};
  const auto body = [&](std::string_view accept) {
    const http::HeaderList fields = accepting(accept);
    return pages.find(500, &fields)->body;
  };
  EXPECT_EQ(body(""), "html");
  EXPECT_EQ(body("*/*"), "html");
  EXPECT_EQ(body("application/json"), "json");
  EXPECT_EQ(body("text/html;q=0.5, application/json;q=0.9"), "json");
  EXPECT_EQ(body("image/png"), "html");
  EXPECT_EQ(pages.find(500, nullptr)->body, "html");
}

class Pages : public ProxyCore {
 protected:
  static control::ErrorPage page(std::uint16_t status, std::string body) {
    return {{{status}}, "text/html", std::move(body)};
  }
  std::string ask(std::string_view method, std::string_view path) {
    Peer& client =
        connect_and_send(fmt::format("{} {} HTTP/1.1\r\nHost: shop.example\r\n\r\n", method, path));
    world_.run_for(10ms);
    return client.received;
  }
};

TEST_F(Pages, OfTheNearestPlaceAreGiven) {
  serve_with([](control::Model& model) {
    model.gateways[0].error_pages = {page(4, "gateway 4xx"), page(404, "gateway 404"),
                                     page(5, "gateway 5xx")};
    model.gateways[0].listeners[0].error_pages = {page(404, "listener 404")};
    model.http_routes[0].error_pages = {page(5, "route 5xx")};
    control::RouteRule& rule = model.http_routes[0].rules[0];
    rule.matches = {{control::PathMatchKind::kPrefix, "/app", std::nullopt, {}}};
    rule.fault = control::FaultInjection{.abort_status = 503, .abort_share = kShareWhole};
  });
  EXPECT_EQ(ask("GET", "/nowhere"),
            "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 12\r\n\r\n"
            "listener 404");
  EXPECT_THAT(ask("GET", "/app"), HasSubstr("Content-Length: 9\r\n\r\nroute 5xx"));
  EXPECT_THAT(ask("GET", "/%"), HasSubstr("\r\n\r\ngateway 4xx"));
}

TEST_F(Pages, HaveTheirLengthButNoBodyInAnAnswerToHead) {
  serve_with([](control::Model& model) {
    model.gateways[0].error_pages = {page(404, "nothing here")};
    model.http_routes.clear();
  });
  EXPECT_EQ(ask("HEAD", "/"),
            "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 12\r\n\r\n");
}

TEST_F(Pages, AreNotForAnswersOfEndpointsAndRoutes) {
  const std::string busy = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";
  serve_with(
      [](control::Model& model) {
        model.gateways[0].error_pages = {page(5, "page"), page(4, "page")};
        control::RouteRule teapot = model.http_routes[0].rules[0];
        teapot.matches = {{control::PathMatchKind::kExact, "/tea", std::nullopt, {}}};
        teapot.respond = control::FixedResponse{418, "text/plain", "no"};
        teapot.backends.clear();
        model.http_routes[0].rules.push_back(teapot);
      },
      answering(busy));
  EXPECT_THAT(ask("GET", "/app"), HasSubstr("\r\n\r\nbusy"));
  EXPECT_THAT(ask("GET", "/tea"), HasSubstr("\r\n\r\nno"));
}

TEST_F(Pages, OfTheLargestSizeFitTheAnswer) {
  serve_with([](control::Model& model) {
    model.gateways[0].error_pages = {page(404, std::string(16 * 1024, 'p'))};
    model.http_routes.clear();
  });
  EXPECT_TRUE(ask("GET", "/").ends_with(std::string(16 * 1024, 'p')));
}

}  // namespace
}  // namespace weir::proxy
