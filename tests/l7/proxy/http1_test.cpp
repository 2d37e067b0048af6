#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "tests/l7/proxy/core_fixture.h"

/// What HTTP/1.1 asks of a gateway beyond one request and its answer: trailers, the way into a
/// WebSocket and out of it, and what must not be taken for either.
namespace weir::proxy {
namespace {

// ---- trailers -----------------------------------------------------------------------------------

constexpr std::string_view kChunkedWithTrailers =
    "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"
    "X-Sum: 12\r\nHost: evil.example\r\nX-Other: 1\r\nX-SUM:34\r\n\r\n";

TEST_F(ProxyCore, AnnouncedTrailersOfARequestAreForwardedBehindItsBody) {
  Backend& app = serve(answering(std::string{kOk}));
  connect_and_send("POST /app HTTP/1.1\r\nHost: shop.example\r\nTrailer: x-sum, Host, X_Sum\r\n" +
                   std::string{kChunkedWithTrailers});
  world_.run_for(10ms);
  EXPECT_EQ(app.received(),
            at_backend("POST", "Trailer: x-sum\r\n", "Transfer-Encoding: chunked\r\n",
                       "5\r\nhello\r\n0\r\nX-Sum: 12\r\nX-SUM: 34\r\n\r\n"));
  EXPECT_EQ(outcomes(), "200 ok");
}

TEST_F(ProxyCore, TrailersThatNobodyAnnouncedAreDropped) {
  Backend& app = serve(answering(std::string{kOk}));
  connect_and_send(
      "POST /app HTTP/1.1\r\nHost: shop.example\r\nConnection: X-Other\r\n"
      "Trailer: X-Other\r\n" +
      std::string{kChunkedWithTrailers});
  world_.run_for(10ms);
  EXPECT_EQ(app.received(),
            at_backend("POST", "", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"));
}

TEST_F(ProxyCore, TrailersOfAnAnswerGoToAClientThatTakesThem) {
  const std::string answer =
      "HTTP/1.1 200 OK\r\nTrailer: X-Sum, Content-Length\r\n" + std::string{kChunkedWithTrailers};
  Backend& app = serve(answering(answer));
  Peer& takes = connect_and_send(request("GET", "Connection: TE\r\nTE: gzip, trailers\r\n"));
  Peer& does_not = connect_and_send(request());
  world_.run_for(10ms);
  EXPECT_EQ(takes.received,
            "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
            "5\r\nhello\r\n0\r\nX-Sum: 12\r\nX-SUM: 34\r\n\r\n");
  EXPECT_EQ(does_not.received,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
  EXPECT_TRUE(app.received().find("Connection: TE\r\nTE: trailers\r\n") != std::string::npos);
}

TEST_F(ProxyCore, LargeTrailersWaitForRoomAndArriveWhole) {
  const std::string body = pattern_text(300'000);
  const std::string sum = pattern_text(8000);
  serve(
      answering(fmt::format("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n"
                            "\r\n{:x}\r\n{}\r\n0\r\nX-Sum: {}\r\n\r\n",
                            body.size(), body, sum)));
  Peer& client = connect_and_send(request("GET", "TE: trailers\r\n"));
  for (std::size_t limit = 1000; limit < 400'000; limit += 7000) {
    client.read_limit = limit;
    world_.run_for(5ms);
  }
  EXPECT_TRUE(client.received.ends_with(fmt::format("0\r\nX-Sum: {}\r\n\r\n", sum)));
  EXPECT_EQ(outcomes(), "200 ok");
}

// ---- WebSocket ----------------------------------------------------------------------------------

constexpr std::string_view kSwitching =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
std::string upgrade(std::string_view fields = "") {
  return request(
      "GET", fmt::format("Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n{}", fields));
}

/// Agrees to the upgrade when `answer` is 101, and then sends back what comes.
testing::Handler echoing(std::string_view answer = kSwitching) {
  return [answer](Peer& peer) {
    const std::size_t head = peer.received.find("\r\n\r\n");
    if (head == std::string::npos) return;
    if (peer.requests++ == 0) {
      peer.handled = head + 4;
      peer.send(answer);
    }
    peer.send(std::string_view{peer.received}.substr(peer.handled));
    peer.handled = peer.received.size();
  };
}

TEST_F(ProxyCore, AWebSocketCarriesBytesBothWaysPastTheTimeForARequest) {
  Backend& app = world_.add_backend(8001, echoing());
  control::Model model = ProxyWorld::model_for({app.endpoint});
  model.http_routes[0].rules[0].timeouts = {.request_ms = 150, .backend_request_ms = 100};
  world_.install(model);
  Peer& client = connect_and_send(upgrade("Sec-WebSocket-Key: abc\r\n"));
  world_.run_for(10ms);
  EXPECT_EQ(client.received, kSwitching);
  EXPECT_EQ(app.received(), at_backend("GET",
                                       "Sec-WebSocket-Key: abc\r\nConnection: Upgrade\r\n"
                                       "Upgrade: websocket\r\n"));
  client.received.clear();
  const std::string message = pattern_text(200'000);
  client.send(message);
  ASSERT_TRUE(world_.run_until([&] { return client.received.size() == message.size(); }));
  EXPECT_TRUE(client.received == message);
  world_.run_for(40s);
  client.send("ping");
  world_.run_for(40s);
  EXPECT_TRUE(client.received.ends_with("ping"));
  EXPECT_EQ(outcomes(), "");
  client.finish();
  world_.run_for(1s);
  EXPECT_TRUE(app.connections[0]->ended());
  EXPECT_FALSE(app.connections[0]->was_reset());
  EXPECT_TRUE(client.ended());
  EXPECT_FALSE(client.was_reset());
  const auto lines = log();
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0]["status"], 101);
  EXPECT_EQ(lines[0]["reason"], "ok");
  EXPECT_EQ(lines[0]["request_bytes"], message.size() + 4);
  EXPECT_EQ(lines[0]["response_bytes"], message.size() + 4);
  EXPECT_EQ(world_.report().upstream.open, 0U);
  EXPECT_EQ(world_.report().core.connections, 0U);
  EXPECT_EQ(world_.report().core.buffers, 0U);
}

TEST_F(ProxyCore, WhatABackendSaysRightBehindIts101IsPassedOn) {
  Backend& eager = serve([](Peer& peer) {
    if (peer.requests++ == 0) peer.send(std::string{kSwitching} + "hello");
  });
  Peer& client = connect_and_send(upgrade());
  world_.run_for(10ms);
  EXPECT_EQ(client.received, std::string{kSwitching} + "hello");
  eager.connections[0]->finish();
  world_.run_for(10ms);
  EXPECT_TRUE(client.ended());
  EXPECT_EQ(outcomes(), "101 ok");
}

TEST_F(ProxyCore, AWebSocketWhoseOtherSideIsResetIsReset) {
  Backend& app = serve(echoing());
  for (const bool by_backend : {false, true}) {
    SCOPED_TRACE(by_backend);
    Peer& client = connect_and_send(upgrade());
    world_.run_for(10ms);
    Peer& backend = *app.connections.back();
    (by_backend ? backend : client).reset(world_.now());
    world_.run_for(10ms);
    EXPECT_TRUE((by_backend ? client : backend).was_reset());
    EXPECT_EQ(outcomes(), by_backend ? "101 upstream_reset" : "101 client_reset");
  }
}

TEST_F(ProxyCore, AHalfClosedWebSocketIsNotKeptForAnHour) {
  Backend& app = serve(echoing());
  Peer& client = connect_and_send(upgrade());
  world_.run_for(10ms);
  app.connections[0]->closes_with_peer = false;
  client.finish();
  world_.run_for(29s);
  EXPECT_EQ(outcomes(), "");
  world_.run_for(2s);
  EXPECT_EQ(outcomes(), "101 upstream_timeout");
  EXPECT_TRUE(client.was_reset());
}

struct UpgradeCase {
  std::string_view name;
  std::string request;
  std::string answer;
  std::string backend_receives;
  std::string client_receives;
  std::string outcome;
};
class Upgrade : public CoreFixture, public ::testing::TestWithParam<UpgradeCase> {};

TEST_P(Upgrade, LeadsNowhereWhereThereAreTwoReadings) {
  const UpgradeCase& c = GetParam();
  Backend& app = serve([&](Peer& peer) {
    while (const auto seen = first_message(std::string_view{peer.received}.substr(peer.handled))) {
      peer.handled += seen->size;
      peer.send(c.answer);
    }
  });
  Peer& client = connect_and_send(c.request);
  world_.run_for(100ms);
  EXPECT_EQ(app.received(), c.backend_receives);
  EXPECT_EQ(client.received, c.client_receives);
  EXPECT_EQ(outcomes(), c.outcome);
  // A connection over which something else may be spoken is not kept.
  if (c.answer.starts_with("HTTP/1.1 101")) {
    EXPECT_EQ(world_.report().upstream.idle, 0U);
  }
  check_nothing_is_left();
}

const std::string kUpgradeAtBackend =
    at_backend("GET", "Connection: Upgrade\r\nUpgrade: websocket\r\n");

INSTANTIATE_TEST_SUITE_P(
    , Upgrade,
    ::testing::Values(
        UpgradeCase{"AnAnswerThatIsNo101IsPlainHttp", upgrade() + request(), std::string{kOk},
                    kUpgradeAtBackend + at_backend(), std::string{kOk} + std::string{kOk},
                    "200 ok, 200 ok"},
        UpgradeCase{"ARequestBehindItIsNotForwardedIntoTheTunnel", upgrade() + request(),
                    std::string{kSwitching}, kUpgradeAtBackend, last_answer("400 Bad Request"),
                    "400 bad_request"},
        UpgradeCase{"AFrameBehindItIsNotForwardedIntoTheTunnel", upgrade() + "\x81\x01x",
                    std::string{kSwitching}, kUpgradeAtBackend, last_answer("400 Bad Request"),
                    "400 bad_request"},
        UpgradeCase{"AnUpgradeWithABodyIsNone", upgrade("Content-Length: 3\r\n") + "abc",
                    std::string{kOk}, at_backend("GET", "", "Content-Length: 3\r\n", "abc"),
                    std::string{kOk}, "200 ok"},
        UpgradeCase{"AnUpgradeByPostIsNone",
                    request("POST", "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
                    std::string{kSwitching}, at_backend("POST"), own_answer("502 Bad Gateway"),
                    "502 upstream_protocol"},
        UpgradeCase{"AnUpgradeToCleartextHttp2IsNone",
                    request("GET",
                            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                            "HTTP2-Settings: AAMAAABk\r\n"),
                    std::string{kOk}, at_backend(), std::string{kOk}, "200 ok"},
        UpgradeCase{"AChoiceOfProtocolsIsNone", upgrade("Upgrade: h2c\r\n"), std::string{kOk},
                    at_backend(), std::string{kOk}, "200 ok"},
        UpgradeCase{"AnUpgradeThatConnectionDoesNotNameIsNone",
                    request("GET", "Upgrade: websocket\r\n"), std::string{kOk}, at_backend(),
                    std::string{kOk}, "200 ok"},
        UpgradeCase{
            "A101ToAnotherProtocolIs502", upgrade(),
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
            kUpgradeAtBackend, own_answer("502 Bad Gateway"), "502 upstream_protocol"},
        UpgradeCase{"A101InHttp10Is502", upgrade(),
                    "HTTP/1.0 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
                    kUpgradeAtBackend, own_answer("502 Bad Gateway"), "502 upstream_protocol"}),
    [](const auto& param) { return std::string{param.param.name}; });

TEST_F(ProxyCore, ABackendThatOnlyEverSaysWaitIsGivenUp) {
  std::string hints;
  for (int i = 0; i < 65; ++i)
    hints += "HTTP/1.1 103 Early Hints\r\n\r\n";
  serve(answering(hints));
  Peer& client = connect_and_send(request());
  world_.run_for(10ms);
  EXPECT_TRUE(client.received.ends_with(own_answer("502 Bad Gateway")));
  EXPECT_EQ(outcomes(), "502 upstream_protocol");
}

TEST_F(ProxyCore, AnExpectationWithoutABodyIsNotAnswered) {
  serve(answering(std::string{kOk}));
  Peer& client = connect_and_send(request("GET", "Expect: 100-continue\r\n"));
  world_.run_for(10ms);
  EXPECT_EQ(client.received, kOk);
}

TEST_F(ProxyCore, EveryRefusalOfAHeadHasItsStatusAndItsCounter) {
  serve(answering(std::string{kOk}));
  const struct {
    std::string request;
    std::string_view status;
    Reason reason;
  } cases[] = {
      {"GET /" + std::string(9000, 'x'), "414 URI Too Long", Reason::kHeaderTooLarge},
      {"GET / HTTP/1.1\r\nX: " + std::string(33'000, 'x'), "431 Request Header Fields Too Large",
       Reason::kHeaderTooLarge},
      {"GET / HTTP/1.2\r\n\r\n", "505 HTTP Version Not Supported", Reason::kNotSupported},
      {request("GET", "Expect: x\r\n"), "417 Expectation Failed", Reason::kNotSupported},
      {request("POST", "Transfer-Encoding: gzip, chunked\r\n"), "501 Not Implemented",
       Reason::kNotSupported},
      {request("GET", "X_User: root\r\n"), "400 Bad Request", Reason::kBadRequest},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.status);
    const std::uint64_t before = count(c.reason);
    Peer& client = connect_and_send(c.request);
    world_.run_for(100ms);
    EXPECT_EQ(client.received, last_answer(c.status));
    EXPECT_TRUE(client.ended());
    EXPECT_EQ(count(c.reason), before + 1);
  }
}

}  // namespace
}  // namespace weir::proxy
