#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/l7/proxy/core_fixture.h"

// Variables in texts of the configuration: in header edits, and in lines of the access log.

namespace weir::proxy {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

/// The value of a field of the last message in `bytes`; "(none)" without one.
std::string field_of(std::string_view bytes, std::string_view name) {
  const auto message = first_message(bytes);
  if (!message) return "(no message)";
  return message->field(name).value_or("(none)");
}

class Values : public ProxyCore {
 protected:
  Backend& edit_rule(const std::function<void(control::RouteRule&)>& edit) {
    return serve_with([&](control::Model& model) { edit(model.http_routes[0].rules[0]); });
  }
  std::string ask(std::string_view target, std::string_view fields = "") {
    Peer& client = connect_and_send(
        fmt::format("GET {} HTTP/1.1\r\nHost: Shop.example\r\n{}\r\n", target, fields));
    world_.run_for(10ms);
    return client.received;
  }
};

// ---- in header edits ---------------------------------------------------------------------------

TEST_F(Values, OfARequestReachTheBackend) {
  Backend& backend = edit_rule([](control::RouteRule& rule) {
    rule.name = "all";
    rule.request_headers.set = {
        {"X-Who", "${client.address} by ${request.scheme} ${request.protocol}"},
        {"X-What", "${request.method} ${request.host}${request.path}${request.query}"},
        {"X-Where", "${listener} ${route} ${rule} ${service}"},
        {"X-Tls", "${tls.version}${tls.serverName}"},
        {"X-Plain", "$5 and $${request.path}"}};
  });
  ask("/a//b?c=%20d");
  const std::string seen = backend.received();
  EXPECT_EQ(field_of(seen, "X-Who"), "10.0.0.100 by http HTTP/1.1");
  EXPECT_EQ(field_of(seen, "X-What"), "GET shop.example/a/b?c=%20d");
  EXPECT_EQ(field_of(seen, "X-Where"), "edge/http main all app");
  EXPECT_EQ(field_of(seen, "X-Tls"), "");
  EXPECT_EQ(field_of(seen, "X-Plain"), "$5 and ${request.path}");
}

TEST_F(Values, AHeaderCanBeRenamed) {
  Backend& backend = edit_rule([](control::RouteRule& rule) {
    rule.request_headers.set = {{"X-New", "${request.header.x-old}"}};
    rule.request_headers.remove = {"X-Old"};
  });
  ask("/", "X-Old: kept\r\nX-New: forged\r\n");
  EXPECT_EQ(field_of(backend.received(), "X-New"), "kept");
  EXPECT_EQ(field_of(backend.received(), "X-Old"), "(none)");
}

TEST_F(Values, OfAnAnswerReachTheClient) {
  Backend& backend = edit_rule([](control::RouteRule& rule) {
    rule.response_headers.set = {{"X-From", "${service} ${endpoint} ${response.status}"}};
  });
  EXPECT_EQ(field_of(ask("/"), "X-From"), "app " + backend.endpoint.text() + " 200");
}

TEST_F(Values, WhatAClientSendsStaysWithinItsField) {
  Backend& backend = edit_rule([](control::RouteRule& rule) {
    rule.request_headers.set = {{"X-Copy", "<${request.header.x-raw}>"}};
  });
  ask("/", "X-Raw: a\tb\xc3\xa9 \x80;\"%0d%0a\r\n");
  EXPECT_EQ(field_of(backend.received(), "X-Copy"), "<a%09b%C3%A9 %80;\"%0d%0a>");
}

TEST_F(Values, BlanksAroundAValueAreNone) {
  Backend& backend = edit_rule([](control::RouteRule& rule) {
    rule.request_headers.set = {{"X-A", "${request.header.x-none} end"},
                                {"X-B", "begin ${request.header.x-none}"}};
  });
  ask("/");
  EXPECT_THAT(backend.received(), HasSubstr("\r\nX-A: end\r\n"));
  EXPECT_THAT(backend.received(), HasSubstr("\r\nX-B: begin\r\n"));
}

TEST_F(Values, ForWhichThereIsNoRoomLeaveTheirFieldOut) {
  Backend& backend = edit_rule([](control::RouteRule& rule) {
    rule.request_headers.set = {{"X-Long", "${request.path}${request.path}"},
                                {"X-Short", "${request.method}"}};
    rule.request_headers.add = {{"X-Added", "${request.path}${request.path}"}};
  });
  ask("/" + std::string(2100, 'a'), "X-Long: forged\r\n");
  EXPECT_EQ(field_of(backend.received(), "X-Long"), "(none)");
  EXPECT_EQ(field_of(backend.received(), "X-Short"), "GET");
  EXPECT_EQ(field_of(backend.received(), "X-Added"), "(none)");
  EXPECT_EQ(world_.report().core.header_values_left_out, 2U);
}

TEST_F(Values, ARequestHasOneIdForAllWhoAreTold) {
  Backend& backend = edit_rule([](control::RouteRule& rule) {
    rule.request_headers.set = {{"X-Request-Id", "${request.id}"}};
    rule.response_headers.set = {{"X-Request-Id", "${request.id}"}};
  });
  std::set<std::string> ids;
  for (int i = 0; i < 3; ++i) {
    const std::string id = field_of(ask("/"), "X-Request-Id");
    EXPECT_THAT(id, MatchesRegex("[0-9a-f]{32}"));
    EXPECT_THAT(backend.received(), HasSubstr("X-Request-Id: " + id));
    EXPECT_EQ(log().at(0)["request_id"], id);
    ids.insert(id);
  }
  EXPECT_EQ(ids.size(), 3U);
}

TEST_F(Values, WhereNobodyIsToldARequestHasNoId) {
  serve(answering(std::string{kOk}));
  ask("/");
  EXPECT_FALSE(log().at(0).contains("request_id"));
}

TEST_F(Values, OfAClientThatAProxyNamesAreItsOwn) {
  Backend& backend = serve_with([](control::Model& model) {
    model.gateways[0].forwarded.hops = 1;
    model.http_routes[0].rules[0].request_headers.set = {
        {"X-Who", "${client.address}:${client.port}"}};
  });
  ask("/", "X-Forwarded-For: 192.0.2.7\r\n");
  EXPECT_EQ(field_of(backend.received(), "X-Who"), "192.0.2.7:");
}

// ---- in the access log -------------------------------------------------------------------------

class LogLines : public Values {
 protected:
  void log_as(const control::AccessLogPolicy& policy) {
    serve_with([&](control::Model& model) { model.gateways[0].access_log = policy; });
  }
  bool answers_ = true;
};

TEST_F(LogLines, AreAsTheGatewayWantsThem) {
  log_as({.format = "${client.address} \"${request.method} ${request.path}${request.query}\" "
                    "${response.status} ${reason} ${request.bytes}/${response.bytes} "
                    "\"${request.header.user-agent}\" ${tls.version} ${attempts}"});
  ask("/a?b", "User-Agent: cli \"2\"\\\t\r\n");
  EXPECT_EQ(world_.drain_log(), "10.0.0.100 \"GET /a?b\" 200 ok 0/5 \"cli \\\"2\\\"\\\\\" - 1\n");
}

TEST_F(LogLines, CannotBeForgedByAClient) {
  log_as({.format = "${request.header.x-a} ${response.status} \"${request.header.x-b}\""});
  ask("/", "X-A: 1 200 ok\r\nX-B: \" 500 \xe2\x80\xa8\x1b[0m\r\n");
  const std::string text = world_.drain_log();
  // The control character is no part of a field's value: the request is refused, and says so.
  EXPECT_EQ(text, "- 400 \"\"\n");
  ask("/", "X-A: 1 200 ok\r\nX-B: \" 500 \xe2\x80\xa8\r\n");
  EXPECT_EQ(world_.drain_log(), "1\\u0020200\\u0020ok 200 \"\\\" 500 \\u00e2\\u0080\\u00a8\"\n");
}

TEST_F(LogLines, HoldATimeAndDurationsInSeconds) {
  log_as({.format = "${time} ${duration}"});
  ask("/");
  EXPECT_THAT(world_.drain_log(), MatchesRegex("- 0\\.[0-9]{6}\n"));
  world_.worker().set_wall_clock(std::chrono::seconds{1'700'000'000} - 1000s);
  ask("/");
  EXPECT_THAT(world_.drain_log(),
              MatchesRegex("2023-11-14T22:13:2[0-9]\\.[0-9]{3}Z 0\\.[0-9]{6}\n"));
}

TEST_F(LogLines, OfTooMuchTextAreCutInTheirValues) {
  log_as({.format = "\"${request.path}\""});
  ask("/" + std::string(5000, 'x'));
  EXPECT_EQ(world_.drain_log(), "\"/" + std::string(1023, 'x') + "\\u2026\"\n");
}

TEST_F(LogLines, OfASampleAreThatManyAndTheRestIsCounted) {
  log_as({.sample = 25'000});
  Peer& client = world_.connect();
  for (int i = 0; i < 400; ++i) {
    client.send(request());
    world_.run_for(5ms);
  }
  const std::size_t lines = log().size();
  EXPECT_NEAR(static_cast<double>(lines), 100, 40);
  EXPECT_EQ(world_.report().core.log_left_out, 400 - lines);
  EXPECT_EQ(world_.report().core.requests, 400U);
}

TEST_F(LogLines, OfFailuresAreThereWhateverTheSample) {
  serve_with([](control::Model& model) {
    model.gateways[0].access_log = {.sample = 0, .always_status = 500};
    control::RouteRule broken = model.http_routes[0].rules[0];
    broken.matches = {{control::PathMatchKind::kExact, "/broken", std::nullopt, {}}};
    broken.respond = control::FixedResponse{500, "", ""};
    broken.backends.clear();
    model.http_routes[0].rules.push_back(broken);
  });
  ask("/well");
  EXPECT_EQ(outcomes(), "");
  ask("/broken");
  EXPECT_EQ(outcomes(), "500 fixed_response");
}

TEST_F(LogLines, OfWhatIsSlowAreThereWhateverTheSample) {
  Backend& backend = world_.add_backend(8001, [this](Peer& peer) {
    if (answers_) answering(std::string{kOk})(peer);
  });
  control::Model model = ProxyWorld::model_for({backend.endpoint});
  model.gateways[0].access_log = {.sample = 0, .always_duration_ms = 500};
  world_.install(model);
  ask("/quick");
  EXPECT_EQ(outcomes(), "");
  answers_ = false;
  Peer& client = connect_and_send(request());
  world_.run_for(600ms);
  backend.connections.back()->send(kOk);
  world_.run_for(10ms);
  EXPECT_THAT(client.received, HasSubstr("200 OK"));
  EXPECT_EQ(outcomes(), "200 ok");
}

TEST_F(LogLines, OfHeadsThatBreakRulesHaveTheGatewaysFormat) {
  log_as({.format = "${response.status} ${reason} ${request.header.host} ${route}"});
  connect_and_send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
  world_.run_for(10ms);
  EXPECT_EQ(world_.drain_log(), "400 bad_request - -\n");
}

}  // namespace
}  // namespace weir::proxy
