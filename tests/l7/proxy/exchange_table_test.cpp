#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "tests/l7/proxy/core_fixture.h"

namespace weir::proxy {
namespace {

constexpr std::uint64_t kBodyBytesMax = 1000;

/// One request on a connection of its own, and what each of the three sees of it.
struct Case {
  std::string_view name{};
  std::string client_sends{};
  std::string backend_answers{};  ///< to each request
  Then then = Then::kStay;
  std::string backend_receives{};
  std::string client_receives{};
  bool client_is_closed = false;
  std::string outcome = "200 ok";
  std::uint64_t request_bytes = 0;
  std::uint64_t response_bytes = 0;
};

class OneExchange : public CoreFixture, public ::testing::TestWithParam<Case> {};

TEST_P(OneExchange, IsSeenByBackendClientAndLogAsItShould) {
  const Case& c = GetParam();
  Backend& app = world_.add_backend(8001, answering(c.backend_answers, c.then));
  control::Model model = ProxyWorld::model_for({app.endpoint});
  model.gateways[0].listeners[0].hostname = "shop.example";
  model.gateways[0].limits.body_bytes = kBodyBytesMax;
  model.http_routes[0].rules[0].matches[0].path = "/app";
  world_.install(model);
  Peer& client = connect_and_send(c.client_sends);
  world_.run_for(1s);

  EXPECT_EQ(app.received(), c.backend_receives);
  EXPECT_EQ(client.received, c.client_receives);
  EXPECT_EQ(client.ended(), c.client_is_closed);
  EXPECT_FALSE(client.was_reset());
  const auto lines = log();
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(
      fmt::format("{} {}", lines[0]["status"].get<int>(), lines[0]["reason"].get<std::string>()),
      c.outcome);
  EXPECT_EQ(lines[0]["request_bytes"], c.request_bytes);
  EXPECT_EQ(lines[0]["response_bytes"], c.response_bytes);
  EXPECT_EQ(lines[0]["attempts"], c.backend_receives.empty() ? 0 : 1);
  const CoreCounters core = world_.report().core;
  EXPECT_EQ(core.requests, 1U);
  EXPECT_EQ(core.connections_accepted, 1U);
  EXPECT_EQ(core.connections_refused, 0U);
  EXPECT_EQ(core.retries, 0U);
  EXPECT_EQ(core.responses[static_cast<std::size_t>(c.outcome[0] - '0')], 1U);
  check_nothing_is_left();
}

std::string name_of(const ::testing::TestParamInfo<Case>& param) {
  return std::string{param.param.name};
}

INSTANTIATE_TEST_SUITE_P(
    Requests, OneExchange,
    ::testing::Values(
        Case{.name = "AGetIsForwardedWithWhatWeKnowOfTheClient",
             .client_sends = request(),
             .backend_answers = std::string{kOk},
             .backend_receives = at_backend(),
             .client_receives = std::string{kOk},
             .response_bytes = 5},
        Case{.name = "ABodyOfKnownLengthKeepsIt",
             .client_sends = request("POST", "Content-Length: 5\r\n", "12345"),
             .backend_answers = std::string{kOk},
             .backend_receives = at_backend("POST", "", "Content-Length: 5\r\n", "12345"),
             .client_receives = std::string{kOk},
             .request_bytes = 5,
             .response_bytes = 5},
        Case{.name = "AnEmptyBodyOfKnownLengthIsABody",
             .client_sends = request("POST", "Content-Length: 0\r\n"),
             .backend_answers = std::string{kOk},
             .backend_receives = at_backend("POST", "", "Content-Length: 0\r\n"),
             .client_receives = std::string{kOk},
             .response_bytes = 5},
        Case{.name = "AChunkedBodyIsChunkedAnewWithoutExtensionsAndTrailers",
             .client_sends = request("POST", "Transfer-Encoding: chunked\r\n",
                                     "005;x=y\r\n12345\r\n1\r\n6\r\n0\r\nX-T: 1\r\n\r\n"),
             .backend_answers = std::string{kOk},
             .backend_receives = at_backend("POST", "", "Transfer-Encoding: chunked\r\n",
                                            "5\r\n12345\r\n1\r\n6\r\n0\r\n\r\n"),
             .client_receives = std::string{kOk},
             .request_bytes = 6,
             .response_bytes = 5},
        Case{.name = "FieldsForTheNextHopEndHere",
             .client_sends = request("GET",
                                     "Connection: X-Secret, Host\r\nX-Secret: 1\r\n"
                                     "Keep-Alive: 5\r\nTE: trailers\r\nUpgrade: h2c\r\n"
                                     "X-Kept: 2\r\n"),
             .backend_answers = std::string{kOk},
             .backend_receives = at_backend("GET",
                                            "X-Kept: 2\r\nConnection: TE\r\nTE: trailers\r\n"),
             .client_receives = std::string{kOk},
             .response_bytes = 5},
        Case{.name = "MaxForwardsIsCountedDown",
             .client_sends = request("OPTIONS", "Max-Forwards: 10\r\n"),
             .backend_answers = std::string{kOk},
             .backend_receives = at_backend("OPTIONS", "Max-Forwards: 9\r\n"),
             .client_receives = std::string{kOk},
             .response_bytes = 5},
        Case{.name = "MaxForwardsMayBecome0AndIsNoFieldForTheNextHopAlone",
             .client_sends = request("OPTIONS", "Max-Forwards: 1\r\nConnection: Max-Forwards\r\n"),
             .backend_answers = std::string{kOk},
             .backend_receives = at_backend("OPTIONS", "Max-Forwards: 0\r\n"),
             .client_receives = std::string{kOk},
             .response_bytes = 5},
        Case{.name = "MaxForwardsBeyondWhatIsCountedIsTheMost",
             .client_sends = request("TRACE", "Max-Forwards: 99999999999\r\n"),
             .backend_answers = std::string{kOk},
             .backend_receives = at_backend("TRACE", "Max-Forwards: 4294967294\r\n"),
             .client_receives = std::string{kOk},
             .response_bytes = 5},
        Case{.name = "MaxForwardsMeansNothingToOtherMethods",
             .client_sends = request("GET", "Max-Forwards: 0\r\n"),
             .backend_answers = std::string{kOk},
             .backend_receives = at_backend("GET", "Max-Forwards: 0\r\n"),
             .client_receives = std::string{kOk},
             .response_bytes = 5},
        Case{.name = "ForwardingFieldsOfTheClientAreReplaced",
             .client_sends = request("GET",
                                     "X-Forwarded-Proto: https\r\nX-Real-IP: 1.2.3.4\r\n"
                                     "X-Kept: 2\r\n"),
             .backend_answers = std::string{kOk},
             .backend_receives = fmt::format(
                 "GET /app HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-Proto: http\r"
                 "\nX-Kept: 2\r\nVia: 1.1 weir\r\nX-Forwarded-For: 10.0.0.100\r\n"
                 "X-Forwarded-Host: shop.example\r\n"
                 "Forwarded: for=10.0.0.100;host=\"shop.example\";proto=http\r\n\r\n"),
             .client_receives = std::string{kOk},
             .response_bytes = 5},
        Case{.name = "WhatIsForwardedIsTheNormalisedTarget",
             .client_sends = "GET http://SHOP.example/x/../app/%7eme?a=%2f HTTP/1.1\r\n"
                             "Host: other.example\r\n\r\n",
             .backend_answers = std::string{kOk},
             .backend_receives = fmt::format(
                 "GET /app/~me?a=%2f HTTP/1.1\r\nHost: shop.example\r\n{}\r\n", forwarded()),
             .client_receives = std::string{kOk},
             .response_bytes = 5}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Responses, OneExchange,
    ::testing::Values(
        Case{.name = "AChunkedAnswerStaysChunked",
             .client_sends = request(),
             .backend_answers = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                "5;x\r\nhello\r\n6\r\n world\r\n0\r\nX-T: 1\r\n\r\n",
             .backend_receives = at_backend(),
             .client_receives = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
             .response_bytes = 11},
        Case{.name = "AnAnswerThatEndsWithItsConnectionBecomesChunked",
             .client_sends = request(),
             .backend_answers = "HTTP/1.1 200 OK\r\n\r\nhello",
             .then = Then::kClose,
             .backend_receives = at_backend(),
             .client_receives = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                "5\r\nhello\r\n0\r\n\r\n",
             .response_bytes = 5},
        Case{.name = "ForAClientOf10ItEndsWithTheConnection",
             .client_sends = "GET /app HTTP/1.0\r\nHost: shop.example\r\n\r\n",
             .backend_answers = "HTTP/1.1 200 OK\r\n\r\nhello",
             .then = Then::kClose,
             .backend_receives = at_backend_from_10(),
             .client_receives = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
             .client_is_closed = true,
             .response_bytes = 5},
        Case{.name = "ForAClientOf10ChunksEndWithTheConnection",
             .client_sends =
                 "GET /app HTTP/1.0\r\nHost: shop.example\r\nConnection: keep-alive\r\n\r\n",
             .backend_answers = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                "5\r\nhello\r\n0\r\n\r\n",
             .backend_receives = at_backend_from_10(),
             .client_receives = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
             .client_is_closed = true,
             .response_bytes = 5},
        Case{.name = "AClientOf10MayKeepItsConnection",
             .client_sends =
                 "GET /app HTTP/1.0\r\nHost: shop.example\r\nConnection: keep-alive\r\n\r\n",
             .backend_answers = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
             .backend_receives = at_backend_from_10(),
             .client_receives = "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n"
                                "\r\nhello",
             .response_bytes = 5},
        Case{.name = "TheAnswerToHeadHasALengthAndNoBody",
             .client_sends = request("HEAD"),
             .backend_answers = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
             .backend_receives = at_backend("HEAD"),
             .client_receives = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"},
        Case{.name = "NoContentHasNeitherBodyNorLength",
             .client_sends = request(),
             .backend_answers = "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
             .backend_receives = at_backend(),
             .client_receives = "HTTP/1.1 204 No Content\r\n\r\n",
             .outcome = "204 ok"},
        Case{.name = "NotModifiedKeepsTheLengthOfWhatItDoesNotSend",
             .client_sends = request(),
             .backend_answers = "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
             .backend_receives = at_backend(),
             .client_receives = "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
             .outcome = "304 ok"},
        Case{.name = "AnInterimAnswerIsPassedOn",
             .client_sends = request(),
             .backend_answers = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + std::string{kOk},
             .backend_receives = at_backend(),
             .client_receives = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + std::string{kOk},
             .response_bytes = 5},
        Case{.name = "AClientOf10SeesNoInterimAnswer",
             .client_sends = "GET /app HTTP/1.0\r\nHost: shop.example\r\n\r\n",
             .backend_answers = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
             .backend_receives = at_backend_from_10(),
             .client_receives = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
             .client_is_closed = true,
             .outcome = "204 ok"},
        Case{.name = "A100ThatNobodyAskedForIsSwallowed",
             .client_sends = request(),
             .backend_answers = "HTTP/1.1 100 Continue\r\n\r\n" + std::string{kOk},
             .backend_receives = at_backend(),
             .client_receives = std::string{kOk},
             .response_bytes = 5},
        Case{.name = "TheClientIsClosedWhenItAsks",
             .client_sends = request("GET", "Connection: close\r\n"),
             .backend_answers = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
             .backend_receives = at_backend(),
             .client_receives =
                 "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
             .client_is_closed = true,
             .response_bytes = 2},
        Case{.name = "ABackendThatClosesDoesNotCloseTheClient",
             .client_sends = request(),
             .backend_answers = "HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n"
                                "Content-Length: 2\r\n\r\nok",
             .then = Then::kClose,
             .backend_receives = at_backend(),
             .client_receives = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
             .response_bytes = 2}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Refusals, OneExchange,
    ::testing::Values(
        Case{.name = "ABadRequestGets400AndTheEnd",
             .client_sends = "GET /app HTTP/1.1\r\nHost : shop.example\r\n\r\n",
             .client_receives = last_answer("400 Bad Request"),
             .client_is_closed = true,
             .outcome = "400 bad_request"},
        Case{.name = "WhatIsNoHttpGets400AndTheEnd",
             .client_sends = "\x16\x03\x01\x02",
             .client_receives = last_answer("400 Bad Request"),
             .client_is_closed = true,
             .outcome = "400 bad_request"},
        Case{.name = "AnotherVersionGets505",
             .client_sends = "GET /app HTTP/2.0\r\nHost: shop.example\r\n\r\n",
             .client_receives = last_answer("505 HTTP Version Not Supported"),
             .client_is_closed = true,
             .outcome = "505 not_supported"},
        Case{.name = "OptionsWithMaxForwards0EndHere",
             .client_sends = request("OPTIONS", "Max-Forwards: 0\r\n"),
             .client_receives = last_answer("501 Not Implemented"),
             .client_is_closed = true,
             .outcome = "501 not_supported"},
        Case{.name = "TraceWithMaxForwards0EndsHere",
             .client_sends = request("TRACE", "Max-Forwards: 0\r\n"),
             .client_receives = last_answer("501 Not Implemented"),
             .client_is_closed = true,
             .outcome = "501 not_supported"},
        Case{.name = "MaxForwardsTwiceIsRefused",
             .client_sends = request("OPTIONS", "Max-Forwards: 5\r\nMax-Forwards: 5\r\n"),
             .client_receives = last_answer("400 Bad Request"),
             .client_is_closed = true,
             .outcome = "400 bad_request"},
        Case{.name = "MaxForwardsWithMoreBehindItIsRefused",
             .client_sends = request("OPTIONS", "Max-Forwards: 5x\r\n"),
             .client_receives = last_answer("400 Bad Request"),
             .client_is_closed = true,
             .outcome = "400 bad_request"},
        Case{.name = "MaxForwardsThatIsNoNumberIsRefused",
             .client_sends = request("TRACE", "Max-Forwards: -1\r\n"),
             .client_receives = last_answer("400 Bad Request"),
             .client_is_closed = true,
             .outcome = "400 bad_request"},
        Case{.name = "ConnectIsNotDoneHere",
             .client_sends = "CONNECT shop.example:443 HTTP/1.1\r\nHost: shop.example\r\n\r\n",
             .client_receives = last_answer("501 Not Implemented"),
             .client_is_closed = true,
             .outcome = "501 not_supported"},
        Case{.name = "AnUnknownHostGets404AndMayGoOn",
             .client_sends = "GET /app HTTP/1.1\r\nHost: other.example\r\n\r\n",
             .client_receives = own_answer("404 Not Found"),
             .outcome = "404 no_route"},
        Case{.name = "AnUnknownPathGets404AndMayGoOn",
             .client_sends = "GET /other HTTP/1.1\r\nHost: shop.example\r\n\r\n",
             .client_receives = own_answer("404 Not Found"),
             .outcome = "404 no_route"},
        Case{.name = "TheBodyOfARefusalIsNotSentToHead",
             .client_sends = "HEAD /other HTTP/1.1\r\nHost: shop.example\r\n\r\n",
             .client_receives = "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\n"
                                "Content-Length: 14\r\n\r\n",
             .outcome = "404 no_route"},
        Case{.name = "ABodyThatSaysItIsTooLargeIsNotAskedFor",
             .client_sends = request("POST", "Content-Length: 1001\r\n"),
             .client_receives = last_answer("413 Content Too Large"),
             .client_is_closed = true,
             .outcome = "413 body_too_large"},
        Case{.name = "ABackendThatSpeaksSomethingElseIs502",
             .client_sends = request(),
             .backend_answers = "SSH-2.0-OpenSSH\r\n\r\n",
             .backend_receives = at_backend(),
             .client_receives = own_answer("502 Bad Gateway"),
             .outcome = "502 upstream_protocol"},
        Case{.name = "ABackendThatClosesWithoutAnAnswerIs502",
             .client_sends = request(),
             .backend_answers = "HTTP/1.1 20",
             .then = Then::kClose,
             .backend_receives = at_backend(),
             .client_receives = own_answer("502 Bad Gateway"),
             .outcome = "502 upstream_reset"},
        Case{.name = "AnUpgradeNobodyAskedForIs502",
             .client_sends = request(),
             .backend_answers = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
             .backend_receives = at_backend(),
             .client_receives = own_answer("502 Bad Gateway"),
             .outcome = "502 upstream_protocol"}),
    name_of);

}  // namespace
}  // namespace weir::proxy
