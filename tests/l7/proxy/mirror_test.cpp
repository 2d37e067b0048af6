#include "l7/proxy/mirror.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/l7/proxy/core_fixture.h"
#include "tests/support/h2_peer.h"

// Requests that are also sent to somebody else, whom the client knows nothing of.

namespace weir::proxy {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr std::uint16_t kMirrorPort = 8002;

class Mirrors : public ProxyCore {
 protected:
  /// The client's backend and, as a service of its own, whoever gets the copies.
  void serve_mirrored(testing::Handler copies, const control::Mirror& mirror = {"shadow"}) {
    shadow_ = &world_.add_backend(kMirrorPort, std::move(copies));
    install(mirror);
  }
  void install(const control::Mirror& mirror) {
    app_ = &serve_with([&](control::Model& model) {
      control::Service shadow = model.services[0];
      shadow.name = "shadow";
      shadow.endpoints = {{ProxyWorld::backend_endpoint(kMirrorPort)}};
      model.services.push_back(shadow);
      model.http_routes[0].rules[0].mirror = mirror;
      if (edit_) edit_(model);
    });
  }
  [[nodiscard]] MirrorCounters counters() const { return world_.report().core.mirrors; }
  /// Nobody but the client has been counted, and the line in the log is its own.
  void expect_one_request(std::string_view outcome) {
    EXPECT_EQ(outcomes(), outcome);
    const WorkerReport report = world_.report();
    EXPECT_EQ(report.core.requests, 1U);
    EXPECT_EQ(report.core.retries, 0U);
    EXPECT_EQ(report.routes.at(0).requests(), 1U);
    ASSERT_EQ(report.services.size(), 1U);  // not the shadow
    EXPECT_EQ(report.services[0].requests(), 1U);
  }

  testing::H2Backend copies_{testing::h2_answering({"headers # end | :status: 204"})};
  std::function<void(control::Model&)> edit_;
  Backend* app_ = nullptr;
  Backend* shadow_ = nullptr;
};

TEST_F(Mirrors, GetWhatTheEndpointGetsAndTheirAnswerIsDiscarded) {
  edit_ = [](control::Model& model) {
    control::RouteRule& rule = model.http_routes[0].rules[0];
    rule.rewrite.emplace();
    rule.rewrite->path = {control::PathEdit::Kind::kFull, "/new", {}};
    rule.request_headers.set = {{"X-Client", "${client.address}"}};
  };
  serve_mirrored(answering("HTTP/1.1 500 No\r\nX-Secret: s\r\nContent-Length: 4\r\n\r\nshad"));
  Peer& client = connect_and_send(request());
  world_.run_for(50ms);
  EXPECT_EQ(client.received, kOk);
  EXPECT_THAT(app_->received(), StartsWith("GET /new HTTP/1.1\r\n"));
  EXPECT_THAT(app_->received(), HasSubstr("X-Client: 10.0.0.100\r\n"));
  EXPECT_EQ(shadow_->received(), app_->received());
  EXPECT_EQ(counters().sent, 1U);
  EXPECT_EQ(counters().answered, 1U);
  expect_one_request("200 ok");
}

TEST_F(Mirrors, GetBodiesWhateverTheirFraming) {
  serve_mirrored(answering(std::string{kOk}));
  const std::string body = pattern_text(5000);
  connect_and_send(request("POST", "Content-Length: 5000\r\n", body));
  world_.run_for(50ms);
  EXPECT_EQ(shadow_->received(), app_->received());
  connect_and_send(request("POST", "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n",
                           "3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n"));
  world_.run_for(50ms);
  EXPECT_THAT(shadow_->received(), HasSubstr("\r\nContent-Length: 5\r\n\r\nabcde"));
  EXPECT_THAT(shadow_->received(), Not(HasSubstr("X-Sum")));
  EXPECT_EQ(counters().answered, 2U);
}

TEST_F(Mirrors, DoNotGetBodiesBeyondTheBound) {
  serve_mirrored(answering(std::string{kOk}), {.service = "shadow", .body_bytes = 100});
  Peer& known = connect_and_send(request("POST", "Content-Length: 101\r\n", pattern_text(101)));
  world_.run_for(50ms);
  Peer& unknown = connect_and_send(request("POST", "Transfer-Encoding: chunked\r\n",
                                           "65\r\n" + pattern_text(101) + "\r\n0\r\n\r\n"));
  world_.run_for(50ms);
  EXPECT_EQ(known.received, kOk);
  EXPECT_EQ(unknown.received, kOk);
  EXPECT_EQ(shadow_->received(), "");
  EXPECT_EQ(counters().too_large, 2U);
  EXPECT_EQ(counters().sent, 0U);
  connect_and_send(request("POST", "Content-Length: 100\r\n", pattern_text(100)));
  world_.run_for(50ms);
  EXPECT_EQ(counters().sent, 1U);
}

TEST_F(Mirrors, ThatSayNothingKeepNobodyWaiting) {
  serve_mirrored([](Peer&) {});
  Peer& client = connect_and_send(request());
  const Instant asked = world_.now();
  ASSERT_TRUE(world_.run_until([&] { return client.received == kOk; }));
  EXPECT_LT(world_.now() - asked, 10ms);
  expect_one_request("200 ok");
  world_.run_for(9s);
  EXPECT_EQ(counters().failed, 0U);
  world_.run_for(2s);
  EXPECT_EQ(counters().failed, 1U);
  EXPECT_EQ(outcomes(), "");
}

TEST_F(Mirrors, ThatCannotBeReachedTouchNobody) {
  install({"shadow"});
  Peer& client = connect_and_send(request());
  world_.run_for(50ms);
  EXPECT_EQ(client.received, kOk);
  EXPECT_EQ(counters().sent, 1U);
  EXPECT_EQ(counters().failed, 1U);
  expect_one_request("200 ok");
}

TEST_F(Mirrors, ThatFailTakeNoEndpointFromClients) {
  edit_ = [](control::Model& model) {
    model.services[1].outlier.consecutive_failures = 1;
    model.services[1].endpoints.push_back({ProxyWorld::backend_endpoint(8003)});
  };
  install({"shadow"});
  for (int i = 0; i < 4; ++i) {
    connect_and_send(request());
    world_.run_for(20ms);
  }
  EXPECT_EQ(counters().failed, 4U);
  EXPECT_EQ(world_.report().core.ejections, 0U);
}

TEST_F(Mirrors, OfARequestThatEndsWithinItsBodyAreNotSent) {
  serve_mirrored(answering(std::string{kOk}));
  Peer& client = connect_and_send(request("POST", "Content-Length: 10\r\n", "half"));
  world_.run_for(20ms);
  client.reset(world_.now());
  world_.run_for(20ms);
  EXPECT_EQ(shadow_->received(), "");
  EXPECT_EQ(counters().cut, 1U);
  EXPECT_EQ(outcomes(), "0 client_reset");
}

TEST_F(Mirrors, GoOnWhenTheClientHasLeft) {
  serve_mirrored([](Peer& peer) {
    if (peer.received.find("\r\n\r\n") != std::string::npos && peer.requests++ == 0)
      peer.send(kOk.substr(0, 20));
  });
  Peer& client = connect_and_send(request());
  world_.run_for(20ms);
  client.reset(world_.now());
  world_.run_for(20ms);
  ASSERT_EQ(shadow_->connections.size(), 1U);
  shadow_->connections[0]->send(kOk.substr(20));
  world_.run_for(20ms);
  EXPECT_EQ(counters().answered, 1U);
}

TEST_F(Mirrors, OutliveTheConfigurationTheyCameFrom) {
  serve_mirrored([](Peer&) {});
  connect_and_send(request());
  world_.run_for(20ms);
  world_.install(ProxyWorld::model_for({app_->endpoint}));
  world_.run_for(20ms);
  ASSERT_EQ(shadow_->connections.size(), 1U);
  shadow_->connections[0]->send(kOk);
  world_.run_for(20ms);
  EXPECT_EQ(counters().answered, 1U);
}

TEST_F(Mirrors, AreTakenOfAShare) {
  serve_mirrored(answering(std::string{kOk}), {.service = "shadow", .share = 25'000});
  Peer& client = world_.connect();
  for (int i = 0; i < 400; ++i) {
    client.send(request());
    world_.run_for(5ms);
  }
  EXPECT_NEAR(static_cast<double>(counters().sent), 100, 40);
  EXPECT_EQ(counters().answered, counters().sent);
  EXPECT_EQ(world_.report().core.requests, 400U);
}

TEST_F(Mirrors, AreNoMoreAtOnceThanMayBe) {
  serve_mirrored([](Peer&) {});
  Peer& client = world_.connect();
  const auto most = static_cast<unsigned>(MirrorPool::kMirrorsMax);
  for (unsigned i = 0; i < most + 10; ++i) {
    client.send(request());
    world_.run_for(2ms);
  }
  EXPECT_EQ(counters().sent, most);
  EXPECT_EQ(counters().crowded, 10U);
  EXPECT_EQ(world_.report().core.responses[2], most + 10);
  world_.run_for(11s);
  client.send(request());
  world_.run_for(10ms);
  EXPECT_EQ(counters().sent, most + 1);
}

TEST_F(Mirrors, AreNotWaitedForByAProcessThatEnds) {
  serve_mirrored([](Peer&) {});
  Peer& client = connect_and_send(request());
  world_.run_for(20ms);
  ASSERT_TRUE(world_.worker().begin_drain(DrainKind::kPrompt));
  world_.run_for(200ms);
  client.finish();
  world_.run_for(200ms);
  EXPECT_EQ(counters().failed, 1U);
  EXPECT_EQ(world_.report().upstream.open, 0U);
}

TEST_F(Mirrors, SpeakWhatTheirServiceSpeaksWhateverTheClientDoes) {
  edit_ = [](control::Model& model) {
    model.services[1].protocol = control::ServiceProtocol::kH2c;
  };
  serve_mirrored(copies_.handler());
  testing::H2Client client{world_.connect()};
  client.send("headers 1 | :method: POST | :scheme: http | :authority: shop.example | :path: /app");
  client.send("data 1 end | hello");
  world_.run_for(20ms);
  connect_and_send(request("PUT", "Content-Length: 4\r\n", "body"));
  world_.run_for(20ms);
  EXPECT_EQ(client.status(1), "200");
  EXPECT_EQ(copies_.reader().body(1), "hello");
  EXPECT_THAT(copies_.reader().heads(1), HasSubstr(":method: POST\n"));
  EXPECT_EQ(copies_.reader().body(3), "body");
  EXPECT_EQ(counters().sent, 2U);
  EXPECT_EQ(counters().answered, 2U);
}

TEST_F(Mirrors, OfWebSocketsAreNone) {
  serve_mirrored(answering(std::string{kOk}));
  connect_and_send(request("GET",
                           "Connection: Upgrade\r\nUpgrade: websocket\r\n"
                           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                           "Sec-WebSocket-Version: 13\r\n"));
  world_.run_for(20ms);
  EXPECT_EQ(shadow_->received(), "");
}

}  // namespace
}  // namespace weir::proxy
