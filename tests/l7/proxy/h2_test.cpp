#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/l7/proxy/core_fixture.h"
#include "tests/support/allocation_counter.h"
#include "tests/support/h2_peer.h"

/// HTTP/2 on both sides, and between the versions: what each of them sees.
namespace weir::proxy {
namespace {

using testing::h2_answering;
using testing::H2Answer;
using testing::H2Backend;
using testing::H2Client;
using testing::H2Request;

constexpr std::string_view kHead =
    ":method: GET | :scheme: http | :authority: shop.example | :path: /app";
constexpr std::string_view kPostHead =
    ":method: POST | :scheme: http | :authority: shop.example | :path: /app";

std::string at_h1_backend(std::string_view method = "GET", std::string_view fields = "",
                          std::string_view framing = "", std::string_view body = "") {
  return fmt::format("{} /app HTTP/1.1\r\nHost: shop.example\r\n{}{}{}\r\n{}", method, fields,
                     forwarded("http", "2"), framing, body);
}

class ProxyH2 : public ProxyCore {
 protected:
  /// Everything goes to one backend of HTTP/2.
  H2Backend& serve_h2(H2Answer answer, std::string settings = "") {
    h2_backend_.emplace(std::move(answer), std::move(settings));
    Backend& backend = world_.add_backend(8002, h2_backend_->handler());
    control::Model model = ProxyWorld::model_for({backend.endpoint});
    model.services[0].protocol = control::ServiceProtocol::kH2c;
    world_.install(model);
    return *h2_backend_;
  }
  H2Client& connect_h2(std::string_view settings = "") {
    return *clients_.emplace_back(std::make_unique<H2Client>(world_.connect(), settings));
  }
  void get(H2Client& client, std::uint32_t stream, std::string_view more = "") {
    client.send(fmt::format("headers {} end | {} {}", stream, kHead, more));
  }
  void post(H2Client& client, std::uint32_t stream, std::string_view more = "") {
    client.send(fmt::format("headers {} | {} {}", stream, kPostHead, more));
  }
  /// Of one request, which the endpoint does not answer well.
  nlohmann::json line_of_a_502() {
    H2Client& client = connect_h2();
    get(client, 1);
    world_.run_for(50ms);
    EXPECT_EQ(client.status(1), "502");
    client.peer().finish();
    const auto lines = log();
    EXPECT_EQ(lines.size(), 1U);
    return lines.empty() ? nlohmann::json::object() : lines[0];
  }
  [[nodiscard]] http::H2Counters counters() const { return world_.report().core.h2; }

  void TearDown() override {
    check_nothing_is_left();
    const CoreCounters core = world_.report().core;
    EXPECT_EQ(core.h2.streams, 0U);
    EXPECT_EQ(core.h2.sessions, 0U);
    EXPECT_EQ(core.h2.memory_bytes, 0U);
    EXPECT_EQ(core.exchanges, 0U);
    EXPECT_EQ(core.buffers, 0U);
  }

  std::optional<H2Backend> h2_backend_;
  std::vector<std::unique_ptr<H2Client>> clients_;
};

// ---- a client of HTTP/2, an endpoint of HTTP/1 --------------------------------------------------

TEST_F(ProxyH2, AGetReachesABackendOfHttp1) {
  Backend& app = serve(answering(std::string{kOk}));
  H2Client& client = connect_h2();
  get(client, 1, "| accept: */* | cookie: a=1 | cookie: b=2");
  world_.run_for(10ms);
  EXPECT_EQ(app.received(), at_h1_backend("GET", "accept: */*\r\nCookie: a=1; b=2\r\n"));
  EXPECT_EQ(client.read().heads(1), ":status: 200\ncontent-type: text/plain\ncontent-length: 5\n");
  EXPECT_EQ(client.read().body(1), "hello");
  EXPECT_TRUE(client.read().ended(1));
  const auto lines = log();
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0]["protocol"], "HTTP/2");
  EXPECT_EQ(lines[0]["status"], 200);
  EXPECT_EQ(lines[0]["reason"], "ok");
  EXPECT_EQ(lines[0]["response_bytes"], 5);
  EXPECT_EQ(world_.report().core.requests_h2, 1U);
  EXPECT_EQ(counters().streams, 0U);
}

TEST_F(ProxyH2, ThePrefaceMayComeInPieces) {
  Backend& app = serve(answering(std::string{kOk}));
  Peer& peer = world_.connect();
  const std::string bytes = testing::h2_bytes("preface") + testing::h2_bytes("settings") +
                            testing::h2_bytes(fmt::format("headers 1 end | {}", kHead));
  for (const char c : bytes) {
    peer.send({&c, 1});
    world_.turn();
    world_.turn();
  }
  world_.run_for(10ms);
  EXPECT_EQ(app.received(), at_h1_backend());
  peer.finish();
}

TEST_F(ProxyH2, WhatOnlyBeginsLikeAPrefaceIsHttp1) {
  Backend& app = serve(answering(std::string{kOk}));
  Peer& client = connect_and_send("PR");
  world_.run_for(10ms);
  client.send("OPFIND /app HTTP/1.1\r\nHost: shop.example\r\n\r\n");
  world_.run_for(10ms);
  EXPECT_EQ(client.received, kOk);
  EXPECT_TRUE(app.received().starts_with("PROPFIND /app"));
}

TEST_F(ProxyH2, AHeadThatDoesNotEndInTimeIsLoggedAndCounted) {
  serve(answering(std::string{kOk}));
  H2Client& client = connect_h2();
  client.send(fmt::format("headers 1 end more | {}", kHead));
  world_.run_for(200s);
  EXPECT_EQ(client.read().first(7, 0), "GOAWAY 0 1 ENHANCE_YOUR_CALM");
  const auto lines = log();
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0]["reason"], "header_timeout");
  EXPECT_EQ(lines[0]["status"], 0);
  EXPECT_EQ(lines[0]["protocol"], "HTTP/2");
  EXPECT_EQ(count(Reason::kHeaderTimeout), 1U);
  client.peer().finish();
}

TEST_F(ProxyH2, ADetailSaysHowTheEndpointEndedAStream) {
  serve_h2(h2_answering({"rst # 2"}));
  const nlohmann::json line = line_of_a_502();
  EXPECT_EQ(line["reason"], "upstream_reset");
  EXPECT_EQ(line["detail"], "RST_STREAM INTERNAL_ERROR");
}

TEST_F(ProxyH2, ADetailSaysWhatWasWrongWithAnAnswerOfHttp1) {
  serve(answering("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"));
  const nlohmann::json line = line_of_a_502();
  EXPECT_EQ(line["reason"], "upstream_protocol");
  EXPECT_NE(line["detail"], "");
}

TEST_F(ProxyH2, ASlowAnswerDoesNotHoldTheOthersUp) {
  Peer* slow = nullptr;
  Backend& app = serve([&](Peer& peer) {
    const auto message = first_message(std::string_view{peer.received}.substr(peer.handled));
    if (!message) return;
    peer.handled += message->size;
    if (message->head.starts_with("GET /slow"))
      slow = &peer;
    else
      peer.send(kOk);
  });
  H2Client& client = connect_h2();
  client.send(
      "headers 1 end | :method: GET | :scheme: http | :authority: shop.example | :path: /slow");
  for (std::uint32_t stream = 3; stream < 43; stream += 2)
    get(client, stream);
  world_.run_for(50ms);
  EXPECT_EQ(client.status(1), "");
  for (std::uint32_t stream = 3; stream < 43; stream += 2) {
    EXPECT_EQ(client.status(stream), "200") << stream;
    EXPECT_EQ(client.read().body(stream), "hello") << stream;
  }
  ASSERT_NE(slow, nullptr);
  slow->send(kOk);
  world_.run_for(10ms);
  EXPECT_EQ(client.status(1), "200");
  EXPECT_EQ(app.connections.size(), 21U);
  EXPECT_EQ(log().size(), 21U);
}

TEST_F(ProxyH2, AnAnswerBehindTheClientsGoawayIsAsWholeAsAnyOther) {
  Backend& app = serve([](Peer&) {});
  H2Client& client = connect_h2();
  get(client, 1);
  client.send("goaway 0 0");
  world_.run_for(10ms);
  ASSERT_EQ(app.connections.size(), 1U);
  app.connections[0]->send(kOk);
  world_.run_for(10ms);
  EXPECT_EQ(client.read().body(1), "hello");
  EXPECT_TRUE(client.read().ended(1));
  EXPECT_EQ(outcomes(), "200 ok");
  EXPECT_TRUE(client.peer().ended());
  EXPECT_EQ(world_.report().upstream.idle, 1U);
}

TEST_F(ProxyH2, ABodyOfKnownLengthKeepsIt) {
  Backend& app = serve(answering(std::string{kOk}));
  H2Client& client = connect_h2();
  post(client, 1, "| content-length: 10");
  client.send("data 1 | hello");
  client.send("data 1 end | world");
  world_.run_for(10ms);
  EXPECT_EQ(app.received(), at_h1_backend("POST", "", "Content-Length: 10\r\n", "helloworld"));
  EXPECT_EQ(client.status(1), "200");
  EXPECT_EQ(log()[0]["request_bytes"], 10);
}

TEST_F(ProxyH2, ABodyOfUnknownLengthBecomesChunkedWithItsAnnouncedTrailers) {
  Backend& app = serve(answering(std::string{kOk}));
  H2Client& client = connect_h2();
  post(client, 1, "| trailer: x-sum");
  client.send("data 1 | hello");
  client.send("headers 1 end | x-sum: 12 | x-other: 1 | host: evil");
  world_.run_for(10ms);
  EXPECT_EQ(app.received(),
            at_h1_backend("POST", "Trailer: x-sum\r\n", "Transfer-Encoding: chunked\r\n",
                          "5\r\nhello\r\n0\r\nx-sum: 12\r\n\r\n"));
}

TEST_F(ProxyH2, AChunkedAnswerWithTrailersIsDataWithTrailers) {
  serve(
      answering("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n"
                "Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\r\n"
                "5\r\nhello\r\n0\r\nX-Sum: 12\r\nX-Other: 1\r\n\r\n"));
  H2Client& client = connect_h2();
  get(client, 1);
  world_.run_for(10ms);
  EXPECT_EQ(client.read().heads(1), ":status: 200\ntrailer: X-Sum\nx-sum: 12\n");
  EXPECT_EQ(client.read().body(1), "hello");
  EXPECT_TRUE(client.read().ended(1));
}

TEST_F(ProxyH2, AnAnswerUntilTheEndOfItsConnectionIsWhole) {
  serve(answering("HTTP/1.1 200 OK\r\n\r\nhello", Then::kClose));
  H2Client& client = connect_h2();
  get(client, 1);
  world_.run_for(10ms);
  EXPECT_EQ(client.read().heads(1), ":status: 200\n");
  EXPECT_EQ(client.read().body(1), "hello");
  EXPECT_TRUE(client.read().ended(1));
}

TEST_F(ProxyH2, InterimHeadsPass) {
  serve(
      answering("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
  H2Client& client = connect_h2();
  get(client, 1);
  world_.run_for(10ms);
  EXPECT_EQ(client.read().heads(1), ":status: 103\nlink: </a>\n:status: 200\ncontent-length: 0\n");
  EXPECT_TRUE(client.read().ended(1));
}

TEST_F(ProxyH2, ExpectationsAreAnsweredHere) {
  Backend& app = serve(answering(std::string{kOk}));
  H2Client& client = connect_h2();
  post(client, 1, "| content-length: 5 | expect: 100-continue");
  world_.run_for(10ms);
  EXPECT_EQ(client.read().heads(1), ":status: 100\n");
  client.send("data 1 end | hello");
  world_.run_for(10ms);
  EXPECT_EQ(client.status(1), "200");
  EXPECT_EQ(app.received(), at_h1_backend("POST", "", "Content-Length: 5\r\n", "hello"));
}

TEST_F(ProxyH2, AnAnswerToHeadHasALengthAndNoBody) {
  Backend& app = serve([](Peer& peer) {
    if (peer.requests++ == 0) peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
  });
  H2Client& client = connect_h2();
  client.send(
      "headers 1 end | :method: HEAD | :scheme: http | :authority: shop.example | :path: /app");
  world_.run_for(10ms);
  EXPECT_EQ(client.read().heads(1), ":status: 200\ncontent-length: 5\n");
  EXPECT_EQ(client.read().first(0, 1), "");
  EXPECT_TRUE(client.read().ended(1));
  EXPECT_EQ(app.connections.size(), 1U);
}

// ---- what goes wrong ----------------------------------------------------------------------------

TEST_F(ProxyH2, OurOwnAnswersLeaveTheConnectionOpen) {
  Backend& app = world_.add_backend(8001, answering(std::string{kOk}));
  control::Model model = ProxyWorld::model_for({app.endpoint});
  model.http_routes[0].rules[0].matches[0].path = "/app";
  world_.install(model);
  H2Client& client = connect_h2();
  client.send(
      "headers 1 end | :method: GET | :scheme: http | :authority: shop.example | :path: /other");
  client.send(
      "headers 3 end | :method: HEAD | :scheme: http | :authority: shop.example | :path: /other");
  client.send(
      "headers 5 end | :method: GET | :scheme: http | :authority: shop.example | :path: /%00");
  client.send(fmt::format("headers 7 end | {} | x_y: 1", kHead));
  client.send("headers 9 | :method: CONNECT | :authority: shop.example:443");
  get(client, 11);
  world_.run_for(10ms);
  EXPECT_EQ(client.read().heads(1), ":status: 404\ncontent-type: text/plain\ncontent-length: 14\n");
  EXPECT_EQ(client.read().body(1), "404 Not Found\n");
  EXPECT_EQ(client.read().heads(3), ":status: 404\ncontent-type: text/plain\ncontent-length: 14\n");
  EXPECT_EQ(client.read().first(0, 3), "");
  EXPECT_EQ(client.status(5), "400");
  EXPECT_EQ(client.status(7), "400");
  EXPECT_EQ(client.status(9), "501");
  EXPECT_EQ(client.status(11), "200");
  EXPECT_EQ(app.received(), at_h1_backend());
  EXPECT_EQ(outcomes(),
            "404 no_route, 404 no_route, 400 bad_request, 400 bad_request, 501 not_supported, "
            "200 ok");
  EXPECT_EQ(client.read().first(7, 0), "");
}

TEST_F(ProxyH2, AnAnswerThatBreaksOffResetsItsStreamAlone) {
  Backend& app = serve([](Peer& peer) {
    const auto message = first_message(std::string_view{peer.received}.substr(peer.handled));
    if (!message) return;
    peer.handled += message->size;
    peer.send(message->head.starts_with("GET /broken")
                  ? "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhel"
                  : kOk);
    if (message->head.starts_with("GET /broken")) peer.finish();
  });
  H2Client& client = connect_h2();
  client.send(
      "headers 1 end | :method: GET | :scheme: http | :authority: shop.example | :path: /broken");
  world_.run_for(10ms);
  get(client, 3);
  world_.run_for(10ms);
  EXPECT_EQ(client.read().first(3, 1), "RST_STREAM 1 INTERNAL_ERROR");
  EXPECT_FALSE(client.read().ended(1));
  EXPECT_EQ(client.read().body(3), "hello");
  EXPECT_EQ(outcomes(), "200 upstream_reset, 200 ok");
  EXPECT_EQ(app.connections.size(), 2U);
}

TEST_F(ProxyH2, AStreamThatTheClientResetsIsCancelledAtTheBackend) {
  Backend& app = serve([](Peer&) {});
  H2Client& client = connect_h2();
  get(client, 1);
  world_.run_for(10ms);
  ASSERT_EQ(app.connections.size(), 1U);
  client.send("rst 1 8");
  world_.run_for(10ms);
  EXPECT_TRUE(app.connections[0]->was_reset());
  EXPECT_EQ(outcomes(), "0 client_reset");
  EXPECT_EQ(counters().streams, 0U);
  EXPECT_EQ(world_.report().upstream.open, 0U);
}

TEST_F(ProxyH2, ResetsThatNeverEndAreCancelledAndEndTheConnection) {
  Backend& app = serve([](Peer&) {});
  H2Client& client = connect_h2();
  for (std::uint32_t stream = 1; stream < 1000; stream += 2) {
    get(client, stream);
    client.send(fmt::format("rst {} 8", stream));
  }
  world_.run_for(1s);
  EXPECT_TRUE(client.read().first(7, 0).ends_with("ENHANCE_YOUR_CALM"));
  EXPECT_TRUE(client.peer().ended());
  EXPECT_EQ(counters().abuse[static_cast<std::size_t>(http::H2Abuse::kRapidReset)], 1U);
  EXPECT_LE(app.connections.size(), 210U);
  EXPECT_EQ(world_.report().upstream.open, 0U);
}

TEST_F(ProxyH2, AClientThatIsGoneCancelsAllItsStreams) {
  Backend& app = serve([](Peer&) {});
  H2Client& client = connect_h2();
  for (std::uint32_t stream = 1; stream < 21; stream += 2)
    get(client, stream);
  world_.run_for(10ms);
  EXPECT_EQ(app.connections.size(), 10U);
  client.peer().reset(world_.now());
  world_.run_for(10ms);
  EXPECT_EQ(log().size(), 10U);
  EXPECT_EQ(count(Reason::kClientReset), 10U);
  EXPECT_EQ(counters().sessions, 0U);
  EXPECT_EQ(world_.report().upstream.open, 0U);
}

TEST_F(ProxyH2, ABodyBeyondItsLimitIsRefused) {
  Backend& app = world_.add_backend(8001, answering(std::string{kOk}));
  control::Model model = ProxyWorld::model_for({app.endpoint});
  model.gateways[0].limits.body_bytes = 1000;
  world_.install(model);
  H2Client& client = connect_h2();
  post(client, 1, "| content-length: 1001");
  post(client, 3);
  client.send("data 3 | \\{1001*x}");
  world_.run_for(10ms);
  EXPECT_EQ(client.status(1), "413");
  EXPECT_EQ(client.status(3), "413");
  EXPECT_EQ(outcomes(), "413 body_too_large, 413 body_too_large");
}

TEST_F(ProxyH2, ARequestAndItsAnswerStandStillOnlySoLong) {
  serve([](Peer&) {});
  H2Client& client = connect_h2();
  get(client, 1);
  world_.run_for(31s);
  EXPECT_EQ(client.status(1), "504");
  post(client, 3);
  world_.run_for(61s);
  EXPECT_EQ(client.status(3), "408");
  EXPECT_EQ(outcomes(), "504 upstream_timeout, 408 body_too_slow");
}

// ---- flow control -------------------------------------------------------------------------------

TEST_F(ProxyH2, ALargeAnswerGoesAsFastAsItsReaderAndNoFurther) {
  const std::string body = pattern_text(1 << 20);
  std::size_t sent = 0;
  Backend& app = serve([&](Peer& peer) {
    if (peer.requests++ > 0) return;
    peer.send(fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", body.size(), body));
  });
  H2Client& client = connect_h2();
  get(client, 1);
  world_.run_for(1s);
  // The client's window, what waits behind it, and what TCP holds on the way.
  EXPECT_EQ(client.read().body(1).size(), 65'535U);
  sent = app.connections[0]->sent();
  EXPECT_LE(sent, 65'535U + 2 * 64 * 1024 + 64 * 1024 + 2 * 64 * 1024);
  for (int i = 0; i < 1100; ++i) {
    client.send("window 1 1000");
    client.send("window 0 1000");
    world_.run_for(1ms);
  }
  EXPECT_TRUE(client.read().ended(1));
  EXPECT_TRUE(client.read().body(1) == body);
  EXPECT_EQ(outcomes(), "200 ok");
}

TEST_F(ProxyH2, ALargeBodyWaitsForASlowBackend) {
  Backend& app = serve(answering(std::string{kOk}));
  H2Client& client = connect_h2();
  post(client, 1);
  world_.run_for(10ms);
  ASSERT_EQ(app.connections.size(), 1U);
  app.connections[0]->read_limit = 1000;
  // As much as the window allows.
  for (int i = 0; i < 4; ++i)
    client.send(fmt::format("data 1 | \\{{{}*x}}", i < 3 ? 16384 : 16383));
  world_.run_for(100ms);
  std::uint64_t granted = 65'535;
  const auto grant = [&] {
    granted = 65'535;
    for (const auto& frame : client.read().frames)
      if (frame.type == 8 && frame.stream == 1)
        granted += std::stoul(frame.text().substr(frame.text().rfind(' ')));
    return granted;
  };
  // What went into the buffers on the way was given back, and no more.
  EXPECT_LE(grant(), 3U * 65'536);
  std::uint64_t sent = 65'535;
  app.connections[0]->read_limit = SIZE_MAX;
  for (int i = 0; i < 1000 && sent < (1 << 20); ++i) {
    world_.run_for(1ms);
    while (grant() - sent >= 10'000 && sent < (1 << 20)) {
      client.send("data 1 | \\{10000*x}");
      sent += 10'000;
    }
  }
  client.send("data 1 end");
  world_.run_for(50ms);
  EXPECT_EQ(client.status(1), "200");
  EXPECT_EQ(log()[0]["request_bytes"], sent);
}

TEST_F(ProxyH2, StreamsThatNobodyReadsHoldNoBufferEach) {
  const std::string body = pattern_text(1 << 20);
  serve(
      answering(fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", body.size(), body)));
  H2Client& client = connect_h2("4=0");
  for (std::uint32_t stream = 1; stream < 41; stream += 2)
    get(client, stream);
  world_.run_for(5s);
  EXPECT_EQ(client.status(39), "200");
  EXPECT_LE(world_.report().core.buffers, 2U) << "of 20 connections to the endpoint";
  client.peer().reset(world_.now());
  world_.run_for(10ms);
}

TEST_F(ProxyH2, ADeafClientLosesItsAnswerAndNothingElse) {
  const std::string body = pattern_text(1 << 20);
  serve(
      answering(fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", body.size(), body)));
  H2Client& client = connect_h2("4=0");
  get(client, 1);
  world_.run_for(40s);
  EXPECT_EQ(client.status(1), "200");
  EXPECT_EQ(client.read().first(3, 1), "RST_STREAM 1 INTERNAL_ERROR");
  EXPECT_EQ(outcomes(), "200 client_timeout");
  EXPECT_EQ(world_.report().upstream.open, 0U);
  EXPECT_EQ(counters().streams, 0U);
}

// ---- the end of a connection --------------------------------------------------------------------

TEST_F(ProxyH2, AnIdleConnectionIsToldToGo) {
  serve(answering(std::string{kOk}));
  H2Client& client = connect_h2();
  get(client, 1);
  world_.run_for(74s);
  EXPECT_EQ(client.status(1), "200");
  EXPECT_EQ(client.read().first(7, 0), "");
  world_.run_for(2s);
  EXPECT_EQ(client.read().first(7, 0), "GOAWAY 0 1 NO_ERROR");
  EXPECT_TRUE(client.peer().ended());
  EXPECT_FALSE(client.peer().was_reset());
}

TEST_F(ProxyH2, AHeadThatDoesNotEndIsGivenUp) {
  serve(answering(std::string{kOk}));
  H2Client& client = connect_h2();
  client.send(fmt::format("headers 1 end more | {}", kHead));
  world_.run_for(11s);
  EXPECT_EQ(client.read().first(7, 0), "GOAWAY 0 1 ENHANCE_YOUR_CALM");
  EXPECT_TRUE(client.peer().ended());
}

TEST_F(ProxyH2, AFinOfTheClientEndsAllItsStreams) {
  Backend& app = serve([](Peer&) {});
  H2Client& client = connect_h2();
  get(client, 1);
  post(client, 3);
  client.send("data 3 | some");
  world_.run_for(10ms);
  ASSERT_EQ(app.connections.size(), 2U);
  client.peer().finish();
  world_.run_for(10ms);
  EXPECT_TRUE(app.connections[0]->was_reset());
  EXPECT_TRUE(app.connections[1]->was_reset());
  EXPECT_TRUE(client.peer().ended());
  EXPECT_EQ(outcomes(), "0 client_reset, 0 client_reset");
}

TEST_F(ProxyH2, AFinOfTheClientTakesNoAnswerThatWasGiven) {
  serve(answering(std::string{kOk}));
  H2Client& client = connect_h2();
  get(client, 1);
  world_.run_for(10ms);
  client.peer().finish();
  world_.run_for(10ms);
  EXPECT_EQ(client.read().body(1), "hello");
  EXPECT_TRUE(client.peer().ended() && !client.peer().was_reset());
  EXPECT_EQ(outcomes(), "200 ok");
}

TEST_F(ProxyH2, AFinOfTheClientEndsAConnectionWhoseAnswersWaitForWindows) {
  Backend& app = world_.add_backend(8001, answering(std::string{kOk}));
  control::Model model = ProxyWorld::model_for({app.endpoint});
  model.http_routes[0].rules[0].matches[0].path = "/other";
  world_.install(model);
  H2Client& client = connect_h2("4=9");
  get(client, 1);
  world_.run_for(10ms);
  EXPECT_EQ(client.read().body(1), "404 Not F");
  EXPECT_FALSE(client.peer().ended());
  client.peer().finish();
  world_.run_for(10ms);
  EXPECT_TRUE(client.peer().ended() && !client.peer().was_reset());
  EXPECT_EQ(counters().streams, 0U);
  EXPECT_EQ(outcomes(), "404 no_route");
}

TEST_F(ProxyH2, ManyRequestsOverOneConnectionEndItInOrder) {
  serve(answering("HTTP/1.1 204 No Content\r\n\r\n"));
  H2Client& client = connect_h2();
  std::uint32_t stream = 1;
  std::size_t lines = 0;
  for (int i = 0; i < 10'000; ++i, stream += 2) {
    get(client, stream);
    if (i % 50 == 49) world_.run_for(1ms);
    if (i % 1000 == 999) lines += log().size();
  }
  world_.run_for(50ms);
  EXPECT_EQ(client.read().first(7, 0), "GOAWAY 0 2147483647 NO_ERROR");
  get(client, stream);
  client.send("ping ack");
  world_.run_for(50ms);
  EXPECT_EQ(client.status(stream), "204");
  EXPECT_TRUE(client.peer().ended());
  EXPECT_FALSE(client.peer().was_reset());
  EXPECT_EQ(world_.report().core.responses[2], 10'001U);
  EXPECT_EQ(lines + log().size(), 10'001U);
}

// ---- endpoints of HTTP/2 ------------------------------------------------------------------------

TEST_F(ProxyH2, AClientOfHttp1ReachesABackendOfHttp2) {
  H2Backend& app =
      serve_h2(h2_answering({"headers # | :status: 200 | x-a: b", "data # end | hello"}));
  Peer& client = connect_and_send(request("GET", "X-Kept: 1\r\nConnection: X-Hop\r\nX-Hop: 1\r\n"));
  world_.run_for(10ms);
  EXPECT_EQ(
      client.received,
      "HTTP/1.1 200 OK\r\nx-a: b\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
  EXPECT_EQ(app.reader().heads(1),
            ":method: GET\n:scheme: http\n:authority: shop.example\n:path: /app\n"
            "x-kept: 1\nvia: 1.1 weir\nx-forwarded-for: 10.0.0.100\nx-forwarded-proto: http\n"
            "x-forwarded-host: shop.example\n"
            "forwarded: for=10.0.0.100;host=\"shop.example\";proto=http\n");
  const auto lines = log();
  EXPECT_EQ(lines[0]["protocol"], "HTTP/1.1");
  EXPECT_EQ(lines[0]["reason"], "ok");
}

TEST_F(ProxyH2, AnAnswerWithoutABodySaysSoToAClientOfHttp1) {
  serve_h2(h2_answering({"headers # end | :status: 200"}));
  Peer& client = connect_and_send(request() + request());
  world_.run_for(10ms);
  const std::string_view empty = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
  EXPECT_EQ(client.received, std::string{empty} + std::string{empty});
}

TEST_F(ProxyH2, AChunkedBodyIsDataForABackendOfHttp2) {
  H2Backend& app = serve_h2(h2_answering({"headers # end | :status: 204"}));
  Peer& client =
      connect_and_send(request("POST", "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n",
                               "5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n"));
  world_.run_for(10ms);
  EXPECT_EQ(client.received, "HTTP/1.1 204 No Content\r\n\r\n");
  EXPECT_EQ(app.reader().body(1), "hello");
  EXPECT_TRUE(app.reader().heads(1).ends_with("x-sum: 1\n")) << app.reader().heads(1);
  EXPECT_EQ(app.reader().heads(1).find("transfer-encoding"), std::string::npos);
}

TEST_F(ProxyH2, StreamsOfManyClientsShareAConnection) {
  H2Backend& app = serve_h2(h2_answering({"headers # | :status: 200", "data # end | hello"}));
  for (int i = 0; i < 20; ++i)
    connect_and_send(request());
  H2Client& client = connect_h2();
  for (std::uint32_t stream = 1; stream < 41; stream += 2)
    get(client, stream);
  world_.run_for(50ms);
  EXPECT_EQ(app.connections(), 1U);
  for (std::uint32_t stream = 1; stream < 41; stream += 2)
    EXPECT_EQ(client.read().body(stream), "hello");
  EXPECT_EQ(world_.report().core.responses[2], 40U);
  EXPECT_EQ(world_.report().upstream.opened, 1U);
  EXPECT_EQ(world_.report().upstream.idle, 1U);
}

TEST_F(ProxyH2, MoreRequestsThanABackendTakesAtOnceWait) {
  H2Backend& app =
      serve_h2(h2_answering({"headers # | :status: 200", "data # end | hello"}), "3=2");
  H2Client& client = connect_h2();
  for (std::uint32_t stream = 1; stream < 61; stream += 2)
    get(client, stream);
  world_.run_for(100ms);
  for (std::uint32_t stream = 1; stream < 61; stream += 2)
    EXPECT_EQ(client.read().body(stream), "hello") << stream;
  EXPECT_EQ(app.reader().first(3, 1), "");
  EXPECT_EQ(world_.report().core.responses[2], 30U);
}

TEST_F(ProxyH2, TrailersPassBetweenTwoSidesOfHttp2) {
  H2Backend& app = serve_h2(h2_answering({"headers # | :status: 200", "data # | hello",
                                          "headers # end | grpc-status: 0 | host: evil"}));
  H2Client& client = connect_h2();
  post(client, 1, "| te: trailers");
  client.send("data 1 | abc");
  client.send("headers 1 end | x-sum: 1");
  world_.run_for(10ms);
  EXPECT_EQ(client.read().heads(1), ":status: 200\ngrpc-status: 0\n");
  EXPECT_EQ(client.read().body(1), "hello");
  EXPECT_EQ(app.reader().body(1), "abc");
  EXPECT_TRUE(app.reader().heads(1).ends_with("x-sum: 1\n"));
  EXPECT_NE(app.reader().heads(1).find("te: trailers\n"), std::string::npos);
}

TEST_F(ProxyH2, AStreamThatWasRefusedIsMadeAgain) {
  std::size_t refused = 0;
  H2Backend& app = serve_h2([&](const H2Request& request) -> std::vector<std::string> {
    if (!request.ended()) return {};
    if (refused++ == 0) return {"rst # 7"};
    return {"headers # end | :status: 204"};
  });
  H2Client& client = connect_h2();
  client.send(fmt::format("headers 1 end | {}", kPostHead));
  world_.run_for(10ms);
  EXPECT_EQ(client.status(1), "204");
  EXPECT_EQ(app.connections(), 1U);
  EXPECT_EQ(log()[0]["attempts"], 2);
  EXPECT_EQ(world_.report().core.retries, 1U);
}

TEST_F(ProxyH2, ManyClientsWhoBreakOffAreNoAttackOnTheBackend) {
  H2Backend& app = serve_h2([](const H2Request& request) -> std::vector<std::string> {
    if (request.calls > 0) return {};
    return {"headers # | :status: 200", "data # | some"};  // no answer ends
  });
  H2Client& patient = connect_h2();
  get(patient, 1);
  world_.run_for(10ms);
  for (int i = 0; i < 250; ++i) {
    H2Client& client = connect_h2();
    get(client, 1);
    world_.run_for(1ms);
    client.send("rst 1 8");
    world_.run_for(1ms);
  }
  EXPECT_EQ(app.connections(), 3U);
  EXPECT_EQ(world_.report().upstream.open, 2U);  // the one of the patient, and the newest
  EXPECT_EQ(patient.read().body(1), "some");
  EXPECT_EQ(patient.read().first(3, 1), "");  // not reset
  H2Client& last = connect_h2();
  get(last, 1);
  world_.run_for(10ms);
  EXPECT_EQ(last.status(1), "200");
  EXPECT_EQ(app.connections(), 3U);
}

TEST_F(ProxyH2, AStreamThatBreaksWithinItsAnswerBreaksThatAnswerAlone) {
  serve_h2([](const H2Request& request) -> std::vector<std::string> {
    if (!request.ended()) return {};
    if (request.stream == 1)
      return {"headers # | :status: 200 | content-length: 10", "data # | hel", "rst # 2"};
    return {"headers # end | :status: 204"};
  });
  Peer& broken = connect_and_send(request());
  world_.run_for(10ms);
  Peer& whole = connect_and_send(request());
  world_.run_for(10ms);
  EXPECT_TRUE(broken.was_reset());
  EXPECT_EQ(broken.received.find("0\r\n\r\n"), std::string::npos);
  EXPECT_EQ(whole.received, "HTTP/1.1 204 No Content\r\n\r\n");
  EXPECT_EQ(outcomes(), "200 upstream_reset, 204 ok");
}

TEST_F(ProxyH2, AnAnswerThatBreaksTheRulesIsABadGateway) {
  serve_h2(h2_answering({"headers # end | :status: 200 | connection: close"}));
  Peer& client = connect_and_send(request());
  world_.run_for(10ms);
  EXPECT_TRUE(client.received.starts_with("HTTP/1.1 502")) << client.received;
  EXPECT_EQ(outcomes(), "502 upstream_protocol");
}

TEST_F(ProxyH2, ABackendThatGoesAwayLosesNoRequest) {
  std::size_t calls = 0;
  H2Backend& app = serve_h2([&](const H2Request& request) -> std::vector<std::string> {
    if (!request.ended()) return {};
    // The first one is answered behind the goodbye, the second is refused by it.
    if (calls++ == 0) return {"headers # | :status: 200", "goaway 1 0", "data # end | hello"};
    return {"headers # end | :status: 204"};
  });
  H2Client& client = connect_h2();
  get(client, 1);
  get(client, 3);
  world_.run_for(50ms);
  EXPECT_EQ(client.status(1), "200");
  EXPECT_EQ(client.status(3), "204");
  EXPECT_EQ(app.connections(), 2U);
}

TEST_F(ProxyH2, ABackendThatSpeaksHttp1InsteadIsABadGateway) {
  Backend& app = world_.add_backend(8001, [](Peer& peer) {
    if (peer.requests++ == 0) peer.send("HTTP/1.1 400 Bad Request\r\n\r\n");
  });
  control::Model model = ProxyWorld::model_for({app.endpoint});
  model.services[0].protocol = control::ServiceProtocol::kH2c;
  world_.install(model);
  Peer& client = connect_and_send(request());
  world_.run_for(50ms);
  EXPECT_TRUE(client.received.starts_with("HTTP/1.1 502")) << client.received;
}

TEST_F(ProxyH2, ABackendThatRefusesConnectionsIsUnavailable) {
  control::Model model = ProxyWorld::model_for({ProxyWorld::backend_endpoint(8009)});
  model.services[0].protocol = control::ServiceProtocol::kH2c;
  world_.install(model);
  H2Client& client = connect_h2();
  get(client, 1);
  world_.run_for(50ms);
  EXPECT_EQ(client.status(1), "503");
  EXPECT_EQ(outcomes(), "503 connect_failed");
  EXPECT_EQ(world_.report().upstream.open, 0U);
}

TEST_F(ProxyH2, AnAnswerThatIsNotReadHoldsNoOtherStreamUp) {
  serve_h2([](const H2Request& request) -> std::vector<std::string> {
    if (!request.ended() || request.calls > 0) return {};
    std::vector<std::string> frames{"headers # | :status: 200"};
    for (int i = 0; i < 3; ++i)
      frames.push_back("data # | \\{16384*x}");
    frames.push_back("data # end | \\{16000*x}");
    return frames;
  });
  H2Client& deaf = connect_h2("4=0");
  for (std::uint32_t stream = 1; stream < 41; stream += 2)
    get(deaf, stream);
  world_.run_for(50ms);
  Peer& client = connect_and_send(request());
  ASSERT_TRUE(world_.run_until([&] { return client.received.ends_with("0\r\n\r\n"); }, 1s));
  deaf.peer().reset(world_.now());
}

TEST_F(ProxyH2, AnIdleBackendConnectionEndsWithAGoodbye) {
  H2Backend& app = serve_h2(h2_answering({"headers # end | :status: 204"}));
  connect_and_send(request());
  world_.run_for(60s);
  EXPECT_EQ(app.reader().first(7, 0), "GOAWAY 0 0 NO_ERROR");
  EXPECT_TRUE(app.peer().ended());
  EXPECT_FALSE(app.peer().was_reset());
  EXPECT_EQ(world_.report().upstream.open, 0U);
}

// ---- gRPC ---------------------------------------------------------------------------------------

constexpr std::string_view kCall =
    ":method: POST | :scheme: http | :authority: shop.example | :path: /app.Shop/Buy | "
    "te: trailers | content-type: application/grpc+proto";

TEST_F(ProxyH2, ACallInBothDirectionsStreamsMessagesAsTheyCome) {
  H2Backend& app = serve_h2([](const H2Request& request) -> std::vector<std::string> {
    if (request.calls == 0) return {"headers # | :status: 200 | content-type: application/grpc"};
    if (request.ended()) return {"headers # end | grpc-status: 0 | grpc-message: fine"};
    return {fmt::format("data # | answer {}", request.calls)};
  });
  H2Client& client = connect_h2();
  client.send(fmt::format("headers 1 | {}", kCall));
  world_.run_for(10ms);
  EXPECT_EQ(client.status(1), "200");
  client.send("data 1 | one");
  world_.run_for(10ms);
  EXPECT_EQ(client.read().body(1), "answer 1");
  // A silent call is not given up.
  world_.run_for(10min);
  client.send("data 1 | two");
  world_.run_for(10ms);
  EXPECT_EQ(client.read().body(1), "answer 1answer 2");
  client.send("data 1 end");
  world_.run_for(10ms);
  EXPECT_TRUE(client.read().heads(1).ends_with("grpc-status: 0\ngrpc-message: fine\n"));
  EXPECT_TRUE(client.read().ended(1));
  EXPECT_EQ(app.reader().body(1), "onetwo");
  EXPECT_EQ(outcomes(), "200 ok");
}

TEST_F(ProxyH2, ACallThatEndsWithItsHeadStaysOne) {
  serve_h2(h2_answering(
      {"headers # end | :status: 200 | content-type: application/grpc | grpc-status: 5"}));
  H2Client& client = connect_h2();
  client.send(fmt::format("headers 1 end | {}", kCall));
  world_.run_for(10ms);
  EXPECT_EQ(client.read().heads(1),
            ":status: 200\ncontent-type: application/grpc\ngrpc-status: 5\n");
}

TEST_F(ProxyH2, ACallsDeadlineIsKept) {
  serve_h2([](const H2Request&) -> std::vector<std::string> { return {}; });
  H2Client& client = connect_h2();
  client.send(fmt::format("headers 1 end | {} | grpc-timeout: 500m", kCall));
  world_.run_for(490ms);
  EXPECT_EQ(client.status(1), "");
  world_.run_for(20ms);
  EXPECT_EQ(client.read().heads(1),
            ":status: 200\ncontent-type: application/grpc\ngrpc-status: 4\n"
            "grpc-message: request_timeout\n");
  EXPECT_TRUE(client.read().ended(1));
  EXPECT_EQ(outcomes(), "200 request_timeout");
}

TEST_F(ProxyH2, OurOwnErrorsAreStatusesOfACall) {
  control::Model model = ProxyWorld::model_for({ProxyWorld::backend_endpoint(8009)});
  model.services[0].protocol = control::ServiceProtocol::kH2c;
  model.http_routes[0].rules[0].matches[0].path = "/app.Shop";
  world_.install(model);
  H2Client& client = connect_h2();
  client.send(fmt::format("headers 1 end | {}", kCall));
  client.send(
      "headers 3 end | :method: POST | :scheme: http | :authority: a | :path: /other/Call | "
      "content-type: application/grpc");
  world_.run_for(50ms);
  EXPECT_EQ(client.read().heads(1),
            ":status: 200\ncontent-type: application/grpc\ngrpc-status: 14\n"
            "grpc-message: connect_failed\n");
  EXPECT_EQ(client.read().heads(3),
            ":status: 200\ncontent-type: application/grpc\ngrpc-status: 12\n"
            "grpc-message: no_route\n");
}

// ---- WebSocket ----------------------------------------------------------------------------------

constexpr std::string_view kWebSocket =
    ":method: CONNECT | :protocol: websocket | :scheme: http | :authority: shop.example | "
    ":path: /app | sec-websocket-version: 13 | origin: http://shop.example";

TEST_F(ProxyH2, AWebSocketOverAStreamReachesABackendOfHttp1) {
  Backend& app = serve([](Peer& peer) {
    const std::size_t head = peer.received.find("\r\n\r\n");
    if (head == std::string::npos) return;
    if (peer.requests++ == 0) {
      peer.handled = head + 4;
      peer.send(
          "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
          "Sec-WebSocket-Accept: xyz\r\nSec-WebSocket-Protocol: chat\r\n\r\n");
    }
    peer.send(std::string_view{peer.received}.substr(peer.handled));
    peer.handled = peer.received.size();
  });
  H2Client& client = connect_h2();
  client.send(fmt::format("headers 1 | {}", kWebSocket));
  world_.run_for(10ms);
  EXPECT_EQ(client.read().heads(1), ":status: 200\nsec-websocket-protocol: chat\n");
  const std::string head = app.received();
  EXPECT_TRUE(
      head.starts_with("GET /app HTTP/1.1\r\nHost: shop.example\r\n"
                       "sec-websocket-version: 13\r\norigin: http://shop.example\r\n"
                       "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: "))
      << head;
  const std::size_t key = head.find("Sec-WebSocket-Key: ") + 19;
  EXPECT_EQ(head.find("\r\n", key) - key, 24U);
  EXPECT_EQ(head.substr(key + 22, 2), "==");
  client.send("data 1 | ping");
  world_.run_for(40min);
  client.send("data 1 | pong");
  world_.run_for(10ms);
  EXPECT_EQ(client.read().body(1), "pingpong");
  client.send("data 1 end");
  world_.run_for(1s);
  EXPECT_TRUE(client.read().ended(1));
  EXPECT_TRUE(app.connections[0]->ended());
  EXPECT_FALSE(app.connections[0]->was_reset());
  EXPECT_EQ(outcomes(), "200 ok");
}

TEST_F(ProxyH2, AWebSocketThatABackendDoesNotWantIsAnAnswer) {
  serve(answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nhello"));
  H2Client& client = connect_h2();
  client.send(fmt::format("headers 1 | {}", kWebSocket));
  world_.run_for(10ms);
  EXPECT_EQ(client.status(1), "403");
  EXPECT_EQ(client.read().body(1), "hello");
  EXPECT_TRUE(client.read().ended(1));
}

TEST_F(ProxyH2, SuccessWithoutAWebSocketIsNoneToItsClient) {
  serve(answering(std::string{kOk}));
  H2Client& client = connect_h2();
  client.send(fmt::format("headers 1 | {}", kWebSocket));
  world_.run_for(10ms);
  EXPECT_EQ(client.status(1), "502") << "RFC 8441, section 5: 200 says that it stands";
  EXPECT_EQ(outcomes(), "502 upstream_protocol");
}

TEST_F(ProxyH2, AWebSocketThatItsClientResetsIsResetAtTheBackend) {
  Backend& app = serve([](Peer& peer) {
    if (peer.requests++ == 0)
      peer.send(
          "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
  });
  H2Client& client = connect_h2();
  client.send(fmt::format("headers 1 | {}", kWebSocket));
  world_.run_for(10ms);
  client.send("rst 1 8");
  world_.run_for(10ms);
  EXPECT_TRUE(app.connections[0]->was_reset());
  EXPECT_EQ(outcomes(), "200 client_reset");
}

TEST_F(ProxyH2, AWebSocketToABackendOfHttp2IsRefused) {
  serve_h2(h2_answering({"headers # end | :status: 204"}));
  H2Client& client = connect_h2();
  client.send(fmt::format("headers 1 | {}", kWebSocket));
  world_.run_for(10ms);
  EXPECT_EQ(client.status(1), "501");
}

// A stream is a new object each time, with heads of its own. nghttp2's memory is not counted: its
// calls of malloc go past the guard.
TEST_F(ProxyH2, ARequestOnAKeptConnectionAllocatesWhatItsStreamIsMadeOf) {
  serve(answering(std::string{kOk}));
  constexpr std::size_t kAllocationsOfAStream = 13;
  H2Client& client = connect_h2();
  std::uint32_t stream = 1;
  const auto ask = [&] {
    get(client, stream, "| accept: */*");
    world_.run_for(3ms);
    ASSERT_TRUE(client.read().ended(stream));
    stream += 2;
  };
  EXPECT_LE(testing::allocations_of_a_hundred(world_, ask), 100 * kAllocationsOfAStream);
}

}  // namespace
}  // namespace weir::proxy
