#include "l7/proxy/core.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "tests/l7/proxy/core_fixture.h"
#include "tests/support/allocation_counter.h"

namespace weir::proxy {
namespace {

constexpr std::string_view kNoContent = "HTTP/1.1 204 No Content\r\n\r\n";
constexpr std::size_t kLargeBytes = 1 << 20;

/// With every limit of this test's TCP buffers and of the proxy's, twice over for overheads.
constexpr std::size_t kInFlightMax = 2 * (16 + 64 + 64 + 64 + 64 + 16) * 1024;

// ---- one connection after another ---------------------------------------------------------------

TEST_F(ProxyCore, TwoRequestsOnOneConnectionShareOneUpstreamConnection) {
  Backend& app = serve(answering(std::string{kOk}));
  Peer& client = connect_and_send(request());
  world_.run_for(10ms);
  client.send(request());
  world_.run_for(10ms);
  EXPECT_EQ(client.received, std::string{kOk} + std::string{kOk});
  EXPECT_EQ(app.connections.size(), 1U);
  EXPECT_EQ(app.received(), at_backend() + at_backend());
  EXPECT_EQ(outcomes(), "200 ok, 200 ok");
  const UpstreamCounters upstream = world_.report().upstream;
  EXPECT_EQ(upstream.opened, 1U);
  EXPECT_EQ(upstream.reused, 1U);
  EXPECT_EQ(upstream.idle, 1U);
  EXPECT_EQ(world_.report().services[0].requests(), 2U);
}

/// Answers with the path that was asked for.
void echo_path(Peer& peer) {
  while (const auto message = first_message(std::string_view{peer.received}.substr(peer.handled))) {
    peer.handled += message->size;
    const std::string path = message->head.substr(4, message->head.find(' ', 4) - 4);
    peer.send(fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", path.size(), path));
  }
}

std::string get(std::string_view path) {
  return fmt::format("GET {} HTTP/1.1\r\nHost: shop.example\r\n\r\n", path);
}
std::string path_answer(std::string_view path) {
  return fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", path.size(), path);
}

TEST_F(ProxyCore, PipelinedRequestsAreAnsweredInOrder) {
  serve(echo_path);
  Peer& client = connect_and_send(get("/1") + get("/22") + get("/333"));
  world_.run_for(100ms);
  EXPECT_EQ(client.received, path_answer("/1") + path_answer("/22") + path_answer("/333"));
  EXPECT_EQ(world_.report().upstream.opened, 1U);
  EXPECT_EQ(outcomes(), "200 ok, 200 ok, 200 ok");
}

TEST_F(ProxyCore, ManyPipelinedRequestsGoOnBeyondOneTurnsShare) {
  serve(echo_path);
  std::string requests;
  std::string answers;
  for (int i = 0; i < 100; ++i) {
    // Every other one is answered by the proxy itself, without a pause.
    requests += i % 2 == 0 ? get(fmt::format("/{}", i)) : get("/%2f");
    if (i % 2 == 0) answers += path_answer(fmt::format("/{}", i));
    if (i % 2 == 1) break;
  }
  for (int i = 0; i < 100; ++i) {
    requests.insert(0, get("/x"));
    answers.insert(0, path_answer("/x"));
  }
  Peer& client = connect_and_send(requests);
  world_.run_for(1s);
  EXPECT_EQ(client.received, answers + last_answer("400 Bad Request"));
  EXPECT_EQ(log().size(), 102U);
}

TEST_F(ProxyCore, PipelinedRequestsBeforeAFinAreAllAnswered) {
  serve(echo_path);
  Peer& client = connect_and_send(get("/1") + get("/22"));
  client.finish();
  world_.run_for(100ms);
  EXPECT_TRUE(client.received.starts_with(path_answer("/1"))) << client.received;
  EXPECT_TRUE(client.received.ends_with("/22")) << client.received;
  EXPECT_TRUE(client.ended());
  EXPECT_EQ(outcomes(), "200 ok, 200 ok");
}

TEST_F(ProxyCore, ARequestThatComesByteByByteIsTheSame) {
  Backend& app = serve(answering(std::string{kOk}));
  Peer& client = world_.connect();
  for (const char c : request("POST", "Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n")) {
    client.send({&c, 1});
    world_.run_for(1ms);
  }
  world_.run_for(10ms);
  const auto seen = first_message(app.received());
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->body, "abc");
  EXPECT_EQ(client.received, kOk);
}

TEST_F(ProxyCore, AClientThatHalfClosesStillGetsItsWholeAnswer) {
  const std::string body = pattern_text(kLargeBytes);
  serve(
      answering(fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", body.size(), body)));
  Peer& client = connect_and_send(request());
  client.finish();
  EXPECT_TRUE(world_.run_until([&] { return client.ended(); }));
  const auto answer = first_message(client.received);
  ASSERT_TRUE(answer);
  EXPECT_TRUE(answer->body == body);
  EXPECT_EQ(answer->field("Connection"), "close");
  EXPECT_EQ(outcomes(), "200 ok");
}

TEST_F(ProxyCore, AFinBehindTheLastAnswerEndsTheConnectionAtOnce) {
  serve(answering(std::string{kOk}));
  Peer& client = connect_and_send(request());
  world_.run_for(10ms);
  EXPECT_FALSE(client.ended());
  client.finish();
  world_.run_for(10ms);
  EXPECT_TRUE(client.ended() && !client.was_reset());
  EXPECT_EQ(client.received, kOk);
}

TEST_F(ProxyCore, AConnectionThatNeverAsksIsNotLogged) {
  serve(answering(std::string{kOk}));
  Peer& client = world_.connect();
  client.finish();
  world_.run_for(100ms);
  EXPECT_TRUE(client.ended());
  EXPECT_EQ(outcomes(), "");
}

// ---- expectations -------------------------------------------------------------------------------

TEST_F(ProxyCore, TheProxyItselfAnswersAnExpectation) {
  Backend& app = serve(answering(std::string{kOk}));
  Peer& client = connect_and_send(request("POST", "Expect: 100-continue\r\nContent-Length: 3\r\n"));
  world_.run_for(10ms);
  EXPECT_EQ(client.received, "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("abc");
  world_.run_for(10ms);
  EXPECT_EQ(client.received, "HTTP/1.1 100 Continue\r\n\r\n" + std::string{kOk});
  EXPECT_EQ(app.received(), at_backend("POST", "", "Content-Length: 3\r\n", "abc"));
}

TEST_F(ProxyCore, AnExpectationThatCannotBeMetIsRefusedAtOnce) {
  world_.install(ProxyWorld::model_for({}));
  Peer& client = connect_and_send(request("POST", "Expect: 100-continue\r\nContent-Length: 3\r\n"));
  world_.run_for(10ms);
  EXPECT_EQ(client.received, last_answer("503 Service Unavailable"));
  EXPECT_EQ(outcomes(), "503 no_endpoint");
}

// ---- limits and time-outs -----------------------------------------------------------------------

TEST_F(ProxyCore, ABodyThatTurnsOutTooLargeIsRefusedAndItsBackendReset) {
  Backend& app = world_.add_backend(8001, answering(std::string{kOk}));
  control::Model model = ProxyWorld::model_for({app.endpoint});
  model.gateways[0].limits.body_bytes = 10;
  world_.install(model);
  Peer& client =
      connect_and_send(request("POST", "Transfer-Encoding: chunked\r\n", "8\r\n12345678\r\n"));
  world_.run_for(10ms);
  EXPECT_EQ(client.received, "");
  client.send("3\r\n123\r\n");
  world_.run_for(10ms);
  EXPECT_EQ(client.received, last_answer("413 Content Too Large"));
  EXPECT_EQ(outcomes(), "413 body_too_large");
  ASSERT_EQ(app.connections.size(), 1U);
  EXPECT_TRUE(app.connections[0]->was_reset());
  EXPECT_FALSE(first_message(app.received()));
}

TEST_F(ProxyCore, AChunkThatSaysItselfThatItIsTooLargeIsRefusedAtOnce) {
  serve_with([](control::Model& model) { model.gateways[0].limits.body_bytes = 100'000; });
  Peer& client =
      connect_and_send(request("POST", "Transfer-Encoding: chunked\r\n", "7fffffffffffffff\r\nx"));
  world_.run_for(10ms);
  EXPECT_EQ(client.received, last_answer("413 Content Too Large"));
  EXPECT_EQ(outcomes(), "413 body_too_large");
}

TEST_F(ProxyCore, WhatIsWrongWithABodyIsSaid) {
  serve(answering(std::string{kOk}));
  connect_and_send(request("POST", "Transfer-Encoding: chunked\r\n", "5\r\nhello!\r\n"));
  world_.run_for(10ms);
  const auto lines = log();
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0]["reason"], "bad_request");
  EXPECT_EQ(lines[0]["detail"], "a chunk is longer than its size or does not end in CRLF");
}

TEST_F(ProxyCore, UserInformationIsNamedAsWhatIsWrong) {
  serve(answering(std::string{kOk}));
  connect_and_send("GET http://u:p@shop.example/ HTTP/1.1\r\nHost: shop.example\r\n\r\n");
  world_.run_for(10ms);
  const auto lines = log();
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0]["detail"], "user information in front of the host");
}

TEST_F(ProxyCore, AHeadThatDoesNotEndInTimeGets408) {
  serve(answering(std::string{kOk}));
  Peer& client = connect_and_send("GET /app HTTP/1.1\r\n");
  world_.run_for(9900ms);
  EXPECT_EQ(client.received, "");
  world_.run_for(200ms);
  EXPECT_EQ(client.received, last_answer("408 Request Timeout"));
  EXPECT_TRUE(client.ended());
  EXPECT_EQ(outcomes(), "408 header_timeout");
}

TEST_F(ProxyCore, AnIdleConnectionIsClosedInOrderAndInSilence) {
  serve(answering(std::string{kOk}));
  Peer& fresh = world_.connect();
  Peer& used = connect_and_send(request());
  world_.run_for(74900ms);
  EXPECT_FALSE(fresh.ended());
  EXPECT_FALSE(used.ended());
  world_.run_for(300ms);
  EXPECT_TRUE(fresh.ended());
  EXPECT_TRUE(used.ended());
  EXPECT_EQ(fresh.received, "");
  EXPECT_EQ(used.received, kOk);
  EXPECT_EQ(outcomes(), "200 ok");
}

TEST_F(ProxyCore, AnIdleUpstreamConnectionIsClosedAfterAWhile) {
  Backend& app = serve(answering(std::string{kOk}));
  connect_and_send(request());
  world_.run_for(54s);
  EXPECT_EQ(world_.report().upstream.idle, 1U);
  EXPECT_FALSE(app.connections[0]->ended());
  world_.run_for(2s);
  EXPECT_EQ(world_.report().upstream.idle, 0U);
  EXPECT_EQ(world_.report().upstream.idle_closed, 1U);
  EXPECT_TRUE(app.connections[0]->ended());
}

/// A backend that never says anything.
void stay_silent(Peer&) {}

TEST_F(ProxyCore, ASilentBackendIs504AfterTheBackendTimeOut) {
  Backend& app = world_.add_backend(8001, stay_silent);
  control::Model model = ProxyWorld::model_for({app.endpoint});
  model.http_routes[0].rules[0].timeouts.backend_request_ms = 200;
  world_.install(model);
  Peer& client = connect_and_send(request());
  world_.run_for(195ms);
  EXPECT_EQ(client.received, "");
  world_.run_for(10ms);
  EXPECT_EQ(client.received, own_answer("504 Gateway Timeout"));
  EXPECT_EQ(outcomes(), "504 upstream_timeout");
  EXPECT_TRUE(app.connections[0]->was_reset());
}

TEST_F(ProxyCore, TheTimeForTheWholeRequestEndsIt) {
  Backend& app = world_.add_backend(8001, stay_silent);
  control::Model model = ProxyWorld::model_for({app.endpoint});
  model.http_routes[0].rules[0].timeouts = {.request_ms = 150, .backend_request_ms = 200};
  world_.install(model);
  Peer& client = connect_and_send(request());
  world_.run_for(160ms);
  EXPECT_EQ(client.received, own_answer("504 Gateway Timeout"));
  EXPECT_EQ(outcomes(), "504 request_timeout");
}

TEST_F(ProxyCore, WithoutTimeOutsASilentBackendIsGivenUpAfterHalfAMinute) {
  serve(stay_silent);
  Peer& client = connect_and_send(request());
  world_.run_for(29s);
  EXPECT_EQ(client.received, "");
  world_.run_for(2s);
  EXPECT_EQ(client.received, own_answer("504 Gateway Timeout"));
  EXPECT_EQ(outcomes(), "504 upstream_timeout");
}

TEST_F(ProxyCore, AClientThatStopsInItsBodyGets408AndNotItsBackendTheBlame) {
  Backend& app = serve(answering(std::string{kOk}));
  Peer& client = connect_and_send(request("POST", "Content-Length: 9\r\n", "12345"));
  world_.run_for(29s);
  EXPECT_EQ(client.received, "");
  world_.run_for(2s);
  EXPECT_EQ(client.received, last_answer("408 Request Timeout"));
  EXPECT_EQ(outcomes(), "408 body_too_slow");
  EXPECT_TRUE(app.connections[0]->was_reset());
}

TEST_F(ProxyCore, AClientThatDoesNotReadIsGivenUpAfterHalfAMinute) {
  const std::string body = pattern_text(kLargeBytes);
  Backend& app = serve(
      answering(fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", body.size(), body)));
  Peer& client = connect_and_send(request());
  client.read_limit = 0;
  world_.run_for(29s);
  EXPECT_FALSE(client.was_reset());
  world_.run_for(3s);
  EXPECT_TRUE(client.was_reset());
  EXPECT_TRUE(app.connections[0]->was_reset());
  EXPECT_EQ(outcomes(), "200 client_timeout");
}

// ---- backends that fail -------------------------------------------------------------------------

TEST_F(ProxyCore, ARefusedRequestGoesToAnotherEndpoint) {
  Backend& app = world_.add_backend(8002, answering(std::string{kOk}));
  world_.install(ProxyWorld::model_for({ProxyWorld::backend_endpoint(8001), app.endpoint}));
  Peer& client = connect_and_send(request("POST", "Content-Length: 3\r\n", "abc"));
  world_.run_for(100ms);
  EXPECT_EQ(client.received, kOk);
  EXPECT_EQ(app.received(), at_backend("POST", "", "Content-Length: 3\r\n", "abc"));
  const auto lines = log();
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0]["attempts"], 2);
  EXPECT_EQ(lines[0]["endpoint"], app.endpoint.text());
  EXPECT_EQ(world_.report().core.retries, 1U);
  EXPECT_EQ(world_.report().upstream.connect_failed, 1U);
}

TEST_F(ProxyCore, AfterThreeRefusalsItIs503) {
  world_.install(ProxyWorld::model_for({ProxyWorld::backend_endpoint(8001)}));
  Peer& client = connect_and_send(request());
  world_.run_for(100ms);
  EXPECT_EQ(client.received, own_answer("503 Service Unavailable"));
  const auto lines = log();
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0]["attempts"], 3);
  EXPECT_EQ(lines[0]["reason"], "connect_failed");
  EXPECT_EQ(world_.report().upstream.connect_failed, 3U);
}

TEST_F(ProxyCore, AnEndpointThatIsNotThereIsLikeARefusal) {
  Backend& app = world_.add_backend(8002, answering(std::string{kOk}));
  world_.install(ProxyWorld::model_for({*wire::Endpoint::parse("10.0.0.99:80"), app.endpoint}));
  Peer& client = connect_and_send(request());
  world_.run_for(5s);
  EXPECT_EQ(client.received, kOk);
  EXPECT_EQ(log()[0]["attempts"], 2);
}

/// Answers the first request of each connection; at the second, the connection ends instead.
class ForgetfulBackend {
 public:
  ForgetfulBackend(ProxyWorld& world, bool by_reset) : world_{world}, by_reset_{by_reset} {}
  void operator()(Peer& peer) const {
    if (peer.requests == 0) return answering(std::string{kOk})(peer);
    if (peer.received.size() == peer.handled) return;
    if (by_reset_)
      peer.reset(world_.now());
    else
      peer.finish();
  }

 private:
  ProxyWorld& world_;
  bool by_reset_;
};

struct StaleCase {
  std::string_view name;
  bool by_reset;
  std::string request;
  std::string outcome;
  std::uint64_t connections;
};
class StaleConnection : public CoreFixture, public ::testing::TestWithParam<StaleCase> {};

TEST_P(StaleConnection, IsTriedAgainOnlyWhereThatDoesNoHarm) {
  const StaleCase& c = GetParam();
  Backend& app = serve(ForgetfulBackend{world_, c.by_reset});
  Peer& client = connect_and_send(request());
  world_.run_for(10ms);
  EXPECT_EQ(outcomes(), "200 ok");
  client.received.clear();
  client.send(c.request);
  world_.run_for(100ms);
  EXPECT_EQ(outcomes(), c.outcome);
  EXPECT_EQ(app.connections.size(), c.connections);
  if (c.connections == 2) {
    const auto seen = first_message(app.connections[1]->received);
    ASSERT_TRUE(seen) << app.connections[1]->received;
    EXPECT_EQ(seen->size, app.connections[1]->received.size());
    EXPECT_EQ(client.received, kOk);
  }
  EXPECT_EQ(world_.report().core.retries, c.connections - 1);
  // Whatever became of it, the connection is in step: the next request is understood.
  if (!client.ended()) {
    client.send(request());
    world_.run_for(100ms);
    EXPECT_EQ(outcomes(), "200 ok");
  }
  check_nothing_is_left();
}

INSTANTIATE_TEST_SUITE_P(
    , StaleConnection,
    ::testing::Values(
        StaleCase{"AGetAfterAResetIsTriedAgain", true, request(), "200 ok", 2},
        StaleCase{"AGetAfterAFinIsTriedAgain", false, request(), "200 ok", 2},
        StaleCase{"APostIsNot", true, request("POST", "Content-Length: 0\r\n"),
                  "502 upstream_reset", 1},
        StaleCase{"APostWithoutABodyIsNotEither", true, request("POST"), "502 upstream_reset", 1},
        StaleCase{"APutWithABodyThatHasLeftIsNot", true,
                  request("PUT", "Content-Length: 3\r\n", "abc"), "502 upstream_reset", 1},
        StaleCase{"APutWhoseLastChunkHasLeftIsNot", true,
                  request("PUT", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
                  "502 upstream_reset", 1},
        StaleCase{"ADeleteWithoutABodyIsTriedAgain", false, request("DELETE"), "200 ok", 2}),
    [](const auto& param) { return std::string{param.param.name}; });

TEST_F(ProxyCore, ARequestWhoseFirstChunkSizeWasTakenIsNotMadeAgainWithoutIt) {
  Backend& app = serve(ForgetfulBackend{world_, true});
  Peer& client = connect_and_send(request());
  world_.run_for(10ms);
  client.send(request("PUT", "Transfer-Encoding: chunked\r\n", "5\r\n"));
  world_.run_for(10ms);
  client.send("abcde\r\n0\r\n\r\n");
  world_.run_for(10ms);
  EXPECT_EQ(outcomes(), "200 ok, 502 upstream_reset");
  EXPECT_EQ(app.connections.size(), 1U);
  EXPECT_EQ(client.received, std::string{kOk} + last_answer("502 Bad Gateway"));
}

TEST_F(ProxyCore, AnIdleConnectionThatIsKnownToEndIsNotUsed) {
  for (const bool by_reset : {false, true}) {
    SCOPED_TRACE(by_reset ? "by RST" : "by FIN");
    Backend& app = serve(answering(std::string{kOk}));
    Peer& client = connect_and_send(request());
    world_.run_for(10ms);
    outcomes();
    // Both arrive in one turn of the worker, the request first.
    client.send(request("POST", "Content-Length: 0\r\n"));
    world_.turn();
    if (by_reset)
      app.connections[0]->reset(world_.now());
    else
      app.connections[0]->finish();
    world_.run_for(10ms);
    EXPECT_EQ(outcomes(), "200 ok");
    EXPECT_EQ(app.connections.size(), 2U);
    client.finish();
    world_.run_for(60s);
  }
}

struct BrokenCase {
  std::string_view name;
  std::string answer;
  bool by_reset;
};
class BrokenAnswer : public CoreFixture, public ::testing::TestWithParam<BrokenCase> {};

TEST_P(BrokenAnswer, BreaksTheClientsConnectionToo) {
  Backend& app = serve([](Peer& peer) {
    if (peer.requests++ == 0) peer.send(GetParam().answer);
  });
  Peer& client = connect_and_send(request());
  world_.run_for(10ms);
  EXPECT_TRUE(client.received.starts_with("HTTP/1.1 200 OK\r\n")) << client.received;
  EXPECT_FALSE(client.was_reset());
  if (GetParam().by_reset)
    app.connections[0]->reset(world_.now());
  else
    app.connections[0]->finish();
  world_.run_for(10ms);
  EXPECT_TRUE(client.was_reset());
  EXPECT_FALSE(client.ended());
  EXPECT_EQ(outcomes(), "200 upstream_reset");
  EXPECT_EQ(count(Reason::kUpstreamReset), 1U);
  check_nothing_is_left();
}

INSTANTIATE_TEST_SUITE_P(
    , BrokenAnswer,
    ::testing::Values(
        BrokenCase{"ByResetWithinALength", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
                   true},
        BrokenCase{"ByFinWithinALength", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
                   false},
        BrokenCase{"ByFinBetweenChunks",
                   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false},
        BrokenCase{"ByResetBeforeTheEndOfTheConnection", "HTTP/1.1 200 OK\r\n\r\nhello", true}),
    [](const auto& param) { return std::string{param.param.name}; });

TEST_F(ProxyCore, AChunkedAnswerThatBreaksItsFramingBreaksTheClientsConnection) {
  serve(answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX"));
  Peer& client = connect_and_send(request());
  world_.run_for(100ms);
  EXPECT_TRUE(client.was_reset());
  EXPECT_EQ(outcomes(), "200 upstream_protocol");
}

TEST_F(ProxyCore, BytesBehindAnAnswerAreNotTheNextAnswer) {
  Backend& app = serve(answering(std::string{kOk} + "HTTP/1.1 200 OK\r\n"));
  Peer& client = connect_and_send(request());
  world_.run_for(10ms);
  client.send(request());
  world_.run_for(10ms);
  EXPECT_EQ(client.received, std::string{kOk} + std::string{kOk});
  EXPECT_EQ(app.connections.size(), 2U);
}

TEST_F(ProxyCore, AnEndAfterTheWholeAnswerDoesNotHurtASlowClient) {
  for (const bool by_reset : {false, true}) {
    SCOPED_TRACE(by_reset ? "by RST" : "by FIN");
    // More than the client's TCP holds, less than the proxy holds for it.
    const std::string body = pattern_text(120 * 1024);
    Backend& app = serve(answering(
        fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", body.size(), body)));
    Peer& client = connect_and_send(request());
    client.read_limit = 0;
    world_.run_for(1s);
    EXPECT_EQ(outcomes(), "");
    ASSERT_EQ(app.connections.back()->unsent(), 0U);
    if (by_reset)
      app.connections.back()->reset(world_.now());
    else
      app.connections.back()->finish();
    world_.run_for(1s);
    client.read_limit = SIZE_MAX;
    world_.run_for(1s);
    const auto answer = first_message(client.received);
    ASSERT_TRUE(answer);
    EXPECT_TRUE(answer->body == body);
    EXPECT_FALSE(client.was_reset());
    EXPECT_EQ(outcomes(), "200 ok");
    // The connection that has ended is not kept for the next.
    EXPECT_EQ(world_.report().upstream.open, 0U);
    client.finish();
  }
}

// ---- clients that fail --------------------------------------------------------------------------

TEST_F(ProxyCore, AClientThatResetsTakesItsUpstreamConnectionAlong) {
  Backend& app = serve([](Peer& peer) {
    if (peer.requests++ == 0) peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello");
  });
  Peer& client = connect_and_send(request());
  world_.run_for(10ms);
  client.reset(world_.now());
  world_.run_for(10ms);
  EXPECT_TRUE(app.connections[0]->was_reset());
  EXPECT_EQ(outcomes(), "200 client_reset");
  EXPECT_EQ(world_.report().upstream.open, 0U);
  EXPECT_EQ(world_.report().core.connections, 0U);
}

TEST_F(ProxyCore, ABodyThatIsCutShortNeverLooksComplete) {
  Backend& app = serve(answering(std::string{kOk}));
  Peer& client = connect_and_send(request("POST", "Content-Length: 9\r\n", "12345"));
  world_.run_for(10ms);
  ASSERT_EQ(app.connections.size(), 1U);
  client.finish();
  world_.run_for(100ms);
  EXPECT_EQ(client.received, last_answer("400 Bad Request"));
  EXPECT_EQ(outcomes(), "400 client_reset");
  EXPECT_TRUE(app.connections[0]->was_reset());
}

TEST_F(ProxyCore, ABrokenChunkGets400AndNeverLooksComplete) {
  Backend& app = serve(answering(std::string{kOk}));
  Peer& client =
      connect_and_send(request("POST", "Transfer-Encoding: chunked\r\n", "5\r\nhelloXX0\r\n\r\n"));
  world_.run_for(100ms);
  EXPECT_EQ(client.received, last_answer("400 Bad Request"));
  EXPECT_EQ(outcomes(), "400 bad_request");
  EXPECT_FALSE(first_message(app.received()));
}

TEST_F(ProxyCore, ABrokenChunkIsTheFaultOfWhoSentItEvenWhenItClosesBehindIt) {
  Backend& app = serve([](Peer& peer) {
    if (!first_message(peer.received)) return;
    peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX");
    peer.finish();
  });
  Peer& bad_client =
      connect_and_send(request("POST", "Transfer-Encoding: chunked\r\n", "5\r\nhelloXX"));
  bad_client.finish();
  world_.run_for(100ms);
  EXPECT_EQ(bad_client.received, last_answer("400 Bad Request"));
  EXPECT_EQ(outcomes(), "400 bad_request");
  Peer& client = connect_and_send(request());
  world_.run_for(100ms);
  EXPECT_TRUE(client.was_reset());
  EXPECT_EQ(outcomes(), "200 upstream_protocol");
  EXPECT_FALSE(app.connections.empty());
}

TEST_F(ProxyCore, AnEarlyAnswerReachesAClientThatIsStillSending) {
  constexpr std::string_view kRefusal =
      "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno";
  Backend& app = serve([&](Peer& peer) {
    if (peer.requests++ == 0) peer.send(kRefusal);
  });
  Peer& client = connect_and_send(request("POST", "Content-Length: 500000\r\n"));
  client.send(pattern_text(100'000));
  client.closes_with_peer = false;
  world_.run_for(100ms);
  const auto answer = first_message(client.received);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status(), 413);
  EXPECT_EQ(answer->field("Connection"), "close");
  EXPECT_EQ(answer->body, "no");
  EXPECT_TRUE(client.ended());
  EXPECT_FALSE(client.was_reset());  // what still comes is read and thrown away for a while
  client.send(pattern_text(10'000));
  world_.run_for(100ms);
  EXPECT_FALSE(client.was_reset());
  EXPECT_EQ(client.unsent(), 0U);
  EXPECT_EQ(outcomes(), "413 ok");
  EXPECT_TRUE(app.connections[0]->was_reset());
}

TEST_F(ProxyCore, AnAnswerThatBeginsBeforeItsRequestHasEndedIsTheLastOfItsConnection) {
  Backend& app = serve([](Peer& peer) {
    if (peer.requests++ == 0) peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
    if (peer.received.ends_with("the rest")) peer.send("llo");
  });
  Peer& client = connect_and_send(request("POST", "Content-Length: 14\r\n"));
  client.send("first ");
  world_.run_for(10ms);
  client.send("the rest");
  client.send(request());
  world_.run_for(10ms);
  const auto answer = first_message(client.received);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->field("Connection"), "close");
  EXPECT_EQ(answer->body, "hello");
  EXPECT_EQ(answer->size, client.received.size());
  EXPECT_TRUE(client.ended() && !client.was_reset());
  EXPECT_EQ(app.received(), at_backend("POST", "", "Content-Length: 14\r\n", "first the rest"));
  EXPECT_EQ(outcomes(), "200 ok");
}

TEST_F(ProxyCore, AnAnswerBehindAWholeBodyLeavesItsConnectionOpen) {
  serve(answering(std::string{kOk}));
  Peer& client = connect_and_send(request("POST", "Content-Length: 14\r\n", "first "));
  world_.run_for(10ms);
  client.send("the rest");
  world_.run_for(10ms);
  client.send(request());
  world_.run_for(10ms);
  EXPECT_EQ(client.received, std::string{kOk} + std::string{kOk});
  EXPECT_EQ(outcomes(), "200 ok, 200 ok");
}

// ---- slowness -----------------------------------------------------------------------------------

TEST_F(ProxyCore, ASlowClientSlowsItsBackendAndCostsBoundedMemory) {
  const std::string body = pattern_text(kLargeBytes);
  Backend& app = serve(
      answering(fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", body.size(), body)));
  Peer& client = connect_and_send(request());
  client.read_limit = 0;
  world_.run_for(5s);
  EXPECT_GT(app.connections[0]->unsent(), kLargeBytes - kInFlightMax);
  EXPECT_LE(world_.report().tcp.buffer_chunks * 4096, kInFlightMax);
  const std::uint64_t stuck_at = app.connections[0]->sent();
  world_.run_for(5s);
  EXPECT_EQ(app.connections[0]->sent(), stuck_at);

  for (int i = 1; i <= 10; ++i) {
    client.read_limit = static_cast<std::size_t>(i) * 50'000;
    world_.run_for(50ms);
    EXPECT_LE(world_.report().tcp.buffer_chunks * 4096, kInFlightMax);
  }
  client.read_limit = SIZE_MAX;
  ASSERT_TRUE(world_.run_until([&] { return first_message(client.received).has_value(); }, 30s));
  EXPECT_TRUE(first_message(client.received)->body == body);
  EXPECT_EQ(outcomes(), "200 ok");
}

TEST_F(ProxyCore, ASlowBackendSlowsItsClientAndCostsBoundedMemory) {
  const std::string body = pattern_text(kLargeBytes);
  Backend& app = serve([](Peer& peer) {
    if (peer.received.empty()) peer.read_limit = 0;
    answering(std::string{kOk})(peer);
  });
  Peer& client =
      connect_and_send(request("POST", fmt::format("Content-Length: {}\r\n", body.size()), body));
  world_.run_for(5s);
  ASSERT_EQ(app.connections.size(), 1U);
  EXPECT_GT(client.unsent(), kLargeBytes - kInFlightMax);
  EXPECT_LE(world_.report().tcp.buffer_chunks * 4096, kInFlightMax);
  for (std::size_t limit = 50'000; limit <= 500'000; limit += 50'000) {
    app.connections[0]->read_limit = limit;
    world_.run_for(50ms);
    EXPECT_LE(world_.report().tcp.buffer_chunks * 4096, kInFlightMax);
  }
  app.connections[0]->read_limit = SIZE_MAX;
  ASSERT_TRUE(world_.run_until([&] { return !client.received.empty(); }, 30s));
  const auto seen = first_message(app.received());
  ASSERT_TRUE(seen);
  EXPECT_TRUE(seen->body == body);
  EXPECT_EQ(outcomes(), "200 ok");
}

TEST_F(ProxyCore, LargeChunkedBodiesPassBothWaysAtOnce) {
  const std::string body = pattern_text(kLargeBytes);
  // Sends back whatever comes while it comes.
  Backend& app = serve([](Peer& peer) {
    if (peer.requests == 0 && peer.received.find("\r\n\r\n") != std::string::npos) {
      peer.handled = peer.received.find("\r\n\r\n") + 4;
      peer.requests = 1;
      peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    }
    if (peer.requests == 0) return;
    peer.send(std::string_view{peer.received}.substr(peer.handled));
    peer.handled = peer.received.size();
  });
  std::string chunks;
  for (std::size_t at = 0; at < body.size(); at += 3000) {
    const std::string piece = body.substr(at, 3000);
    chunks += fmt::format("{:x}\r\n{}\r\n", piece.size(), piece);
  }
  Peer& client = connect_and_send(request("POST", "Transfer-Encoding: chunked\r\n", chunks));
  client.send("0\r\n\r\n");
  ASSERT_TRUE(world_.run_until([&] { return !outcomes().empty(); }, 30s));
  world_.run_for(100ms);
  const auto seen = first_message(app.received());
  ASSERT_TRUE(seen);
  EXPECT_TRUE(seen->body == body);
  const auto answer = first_message(client.received);
  ASSERT_TRUE(answer);
  EXPECT_TRUE(answer->body == body);
}

// ---- configuration ------------------------------------------------------------------------------

TEST_F(ProxyCore, TheNextRequestOnAnOldConnectionFollowsTheNewRoutes) {
  Backend& old_app = world_.add_backend(8001, answering(std::string{kOk}));
  Backend& new_app = world_.add_backend(8002, answering(std::string{kNoContent}));
  world_.install(ProxyWorld::model_for({old_app.endpoint}));
  Peer& client = connect_and_send(request());
  world_.run_for(10ms);
  world_.install(ProxyWorld::model_for({new_app.endpoint}));
  client.send(request());
  world_.run_for(10ms);
  EXPECT_EQ(client.received, std::string{kOk} + std::string{kNoContent});
  EXPECT_EQ(old_app.received(), at_backend());
  EXPECT_EQ(new_app.received(), at_backend());
  EXPECT_EQ(world_.report().revision, 2U);
  EXPECT_EQ(world_.report().services[0].requests(), 2U);
  // The connection was accepted under the old generation and keeps it; no longer than it lives.
  EXPECT_EQ(world_.report().core.generations, 2U);
  client.finish();
  world_.run_for(10ms);
  EXPECT_EQ(world_.report().core.generations, 1U);
}

TEST_F(ProxyCore, AnExchangeEndsUnderTheConfigurationItBeganWith) {
  Backend& app = serve(stay_silent);
  Peer& client = connect_and_send(request());
  world_.run_for(10ms);
  control::Model model = ProxyWorld::model_for({});
  model.http_routes.clear();
  world_.install(model);
  app.connections[0]->send(kOk);
  world_.run_for(10ms);
  EXPECT_EQ(client.received, kOk);
  const auto lines = log();
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0]["route"], "main");
  EXPECT_EQ(lines[0]["service"], "app");
  client.received.clear();
  client.send(request());
  world_.run_for(10ms);
  EXPECT_EQ(client.received, own_answer("404 Not Found"));
}

TEST_F(ProxyCore, AListenerThatIsGoneAcceptsNothingMore) {
  serve(answering(std::string{kOk}));
  Peer& before = world_.connect();
  world_.run_for(10ms);
  world_.install({});
  Peer& after = world_.connect();
  before.send(request());
  world_.run_for(10ms);
  EXPECT_EQ(before.received, own_answer("404 Not Found"));
  EXPECT_TRUE(after.was_reset());
}

// ---- cost ---------------------------------------------------------------------------------------

class ProxyCost : public ProxyCore {
 protected:
  /// What 100 requests on a kept connection allocate once another 100 have been answered.
  std::size_t allocations() {
    Peer& client = world_.connect();
    const auto ask = [&] {
      client.received.clear();
      client.send(request("POST",
                          "Transfer-Encoding: chunked\r\nX-Long: " + pattern_text(500) + "\r\n",
                          "3\r\nabc\r\n0\r\n\r\n"));
      ASSERT_TRUE(world_.run_until([&] { return first_message(client.received).has_value(); }));
      world_.run_for(1ms);
    };
    return testing::allocations_of_a_hundred(world_, ask);
  }
  const std::string body_ = pattern_text(20'000);
  const std::string answer_ =
      fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", body_.size(), body_);
};

TEST_F(ProxyCost, ARequestOnAKeptConnectionAllocatesNothing) {
  serve(answering(answer_));
  EXPECT_EQ(allocations(), 0U);
  EXPECT_EQ(log().size(), 200U);
}

TEST_F(ProxyCost, VariablesInHeadersAndInTheLogAllocateNothing) {
  serve_with(
      [](control::Model& model) {
        model.gateways[0].access_log.format = "${request.id} ${client.address} ${duration}";
        control::RouteRule& rule = model.http_routes[0].rules[0];
        rule.request_headers.set = {{"X-Copy", "${request.header.x-long} ${request.id}"}};
        rule.response_headers.add = {{"X-From", "${endpoint} ${response.status}"}};
      },
      answering(answer_));
  EXPECT_EQ(allocations(), 0U);
  const std::string lines = world_.drain_log();
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 200);
}

}  // namespace
}  // namespace weir::proxy
