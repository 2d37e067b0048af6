#include "l4/control/probe_exchange.h"

#include <gtest/gtest.h>

#include "l4/base/bytes.h"
#include "l4/control/probe_grpc.h"
#include "l4/control/probe_http.h"
#include "tests/l4/control/probe_servers.h"

namespace weir::control {
namespace {

using testing::answers_grpc;
using testing::converse;
using testing::GrpcAnswer;
using testing::says;

constexpr std::size_t kWhole = 1'000'000;

// ---- HTTP --------------------------------------------------------------------------------------

struct HttpCase {
  std::string_view name;
  std::string answer;
  bool is_success;
  std::string_view reason;
};

class HttpAnswer : public ::testing::TestWithParam<HttpCase> {};

TEST_P(HttpAnswer, IsJudgedTheSameHoweverItIsCut) {
  for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, kWhole}) {
    const auto exchange = make_http_exchange({.kind = ProbeKind::kHttp}, "a.example");
    const ProbeVerdict verdict = converse(*exchange, says(GetParam().answer), piece);
    EXPECT_EQ(verdict.is_success, GetParam().is_success) << verdict.reason;
    EXPECT_EQ(verdict.reason.substr(0, GetParam().reason.size()), GetParam().reason)
        << "in pieces of " << piece;
  }
}

INSTANTIATE_TEST_SUITE_P(
    , HttpAnswer,
    ::testing::Values(
        HttpCase{"AnExpectedStatusIsASuccess", "HTTP/1.1 200 OK\r\nServer: x\r\n\r\nbody", true,
                 "status 200"},
        HttpCase{"Http10IsTaken", "HTTP/1.0 204 No Content\r\n\r\n", true, "status 204"},
        HttpCase{"ARedirectCountsAndIsNotFollowed",
                 "HTTP/1.1 302 Found\r\nLocation: http://else.example/\r\n\r\n", true,
                 "status 302"},
        HttpCase{"AStatusWithoutAReasonIsTaken", "HTTP/1.1 200\r\n\r\n", true, "status 200"},
        HttpCase{"AnotherStatusIsAFailure", "HTTP/1.1 503 Busy\r\n\r\n", false,
                 "status 503, expected 200-399"},
        HttpCase{"AnInterimAnswerIsNotTheAnswer",
                 "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 500 Oh\r\n\r\n", false,
                 "status 500, expected 200-399"},
        HttpCase{"SwitchingProtocolsIsFinal", "HTTP/1.1 101 S\r\n\r\n", false,
                 "status 101, expected 200-399"},
        HttpCase{"TooManyInterimAnswersAreAFailure",
                 [] {
                   std::string answer;
                   for (int i = 0; i < 9; ++i)
                     answer += "HTTP/1.1 100 Continue\r\n\r\n";
                   return answer;
                 }(),
                 false, "more than 8 interim answers"},
        HttpCase{"AnotherProtocolIsToldAtOnce", "SSH-2.0-OpenSSH_9.2\r\n", false,
                 "the answer is not HTTP/1.1: 'S"},
        HttpCase{"AnotherVersionIsAFailure", "HTTP/2.0 200 OK\r\n\r\n", false,
                 "the answer is not HTTP/1.1: 'HTTP/2"},
        HttpCase{"AStatusOfTwoDigitsIsMalformed", "HTTP/1.1 20 OK\r\n\r\n", false,
                 "the answer has no HTTP/1.1 status line: 'HTTP/1.1 20 OK'"},
        HttpCase{"AStatusOfFourDigitsIsMalformed", "HTTP/1.1 2000 OK\r\n\r\n", false,
                 "the answer has no HTTP/1.1 status line"},
        HttpCase{"AStatusBelow100IsMalformed", "HTTP/1.1 099 OK\r\n\r\n", false,
                 "the answer has no HTTP/1.1 status line"},
        HttpCase{"ASignInTheStatusIsMalformed", "HTTP/1.1 +20 OK\r\n\r\n", false,
                 "the answer has no HTTP/1.1 status line"},
        HttpCase{"TwoSpacesAreMalformed", "HTTP/1.1  200 OK\r\n\r\n", false,
                 "the answer has no HTTP/1.1 status line"},
        HttpCase{"ABareLineFeedIsMalformed", "HTTP/1.1 200 OK\n\n", false,
                 "a line of the answer does not end in CR LF"},
        HttpCase{"ACarriageReturnWithinALineIsMalformed", "HTTP/1.1 200 O\rK\r\n\r\n", false,
                 "the answer has no HTTP/1.1 status line"},
        HttpCase{"AFieldWithoutAColonIsMalformed", "HTTP/1.1 200 OK\r\nServer\r\n\r\n", false,
                 "malformed header field in the answer: 'Server'"},
        HttpCase{"AFieldWithoutANameIsMalformed", "HTTP/1.1 200 OK\r\n: x\r\n\r\n", false,
                 "malformed header field in the answer"},
        HttpCase{"ASpaceBeforeTheColonIsMalformed", "HTTP/1.1 200 OK\r\nServer : x\r\n\r\n", false,
                 "malformed header field in the answer"},
        HttpCase{"AFoldedLineIsMalformed", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", false,
                 "malformed header field in the answer"},
        HttpCase{"ANulInAValueIsMalformed", std::string{"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", 25},
                 false, "malformed header field in the answer"},
        HttpCase{"AnEndWithinTheHeaderIsAFailure", "HTTP/1.1 200 OK\r\nA: b\r\n", false,
                 "the connection was closed within the header of the answer"},
        HttpCase{"AnEndlessLineIsAFailure", "HTTP/1.1 200 " + std::string(20'000, 'x'), false,
                 "the header of the answer is longer than 16384 bytes"}),
    [](const auto& test) { return std::string{test.param.name}; });

TEST(HttpExchange, AClosedConnectionWithoutAnAnswerSaysSo) {
  const auto exchange = make_http_exchange({.kind = ProbeKind::kHttp}, "a.example");
  EXPECT_EQ(converse(*exchange, testing::is_silent(), kWhole).reason,
            "the connection was closed without an answer");
}

TEST(HttpExchange, AsksForThePathOfTheHost) {
  const auto exchange =
      make_http_exchange({.kind = ProbeKind::kHttp, .path = "/healthz?a=b"}, "[2001:db8::1]:8080");
  EXPECT_EQ(exchange->take_output(),
            "GET /healthz?a=b HTTP/1.1\r\nHost: [2001:db8::1]:8080\r\nUser-Agent: weir-health\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(exchange->take_output(), "");
}

TEST(HttpExchange, NamesTheRangesThatAreExpected) {
  const HealthCheck check{.kind = ProbeKind::kHttp, .statuses = {{200, 204}, {401, 401}}};
  const auto exchange = make_http_exchange(check, "a.example");
  EXPECT_EQ(converse(*exchange, says("HTTP/1.1 301 Moved\r\n\r\n"), kWhole).reason,
            "status 301, expected 200-204, 401");
}

// ---- gRPC --------------------------------------------------------------------------------------

std::string framed(std::string_view message) {
  return std::string(4, '\0') + static_cast<char>(message.size()) + std::string{message};
}

struct GrpcCase {
  std::string_view name;
  GrpcAnswer answer;
  bool is_success;
  std::string_view reason;
};

class GrpcHealth : public ::testing::TestWithParam<GrpcCase> {};

TEST_P(GrpcHealth, IsJudgedTheSameHoweverItIsCut) {
  for (const std::size_t piece : {std::size_t{1}, kWhole}) {
    const auto exchange = make_grpc_exchange({.kind = ProbeKind::kGrpc}, "a.example");
    const ProbeVerdict verdict = converse(*exchange, answers_grpc(GetParam().answer), piece);
    EXPECT_EQ(verdict.is_success, GetParam().is_success) << verdict.reason;
    EXPECT_EQ(verdict.reason, GetParam().reason) << "in pieces of " << piece;
  }
}

INSTANTIATE_TEST_SUITE_P(
    , GrpcHealth,
    ::testing::Values(
        GrpcCase{"ServingIsASuccess", {.body = framed("\x08\x01")}, true, "SERVING"},
        GrpcCase{"NotServingIsAFailure",
                 {.body = framed("\x08\x02")},
                 false,
                 "status NOT_SERVING, expected SERVING"},
        GrpcCase{"AMessageWithoutAStatusIsUnknown",
                 {.body = framed("")},
                 false,
                 "status UNKNOWN, expected SERVING"},
        GrpcCase{"AStatusThatWeDoNotKnowIsAFailure",
                 {.body = framed("\x08\x09")},
                 false,
                 "status 9, expected SERVING"},
        GrpcCase{"AServerWithoutHealthServiceIsAFailure",
                 {.grpc_status = "12", .grpc_message = "unknown service"},
                 false,
                 "grpc-status 12 (UNIMPLEMENTED: there is no health service), 'unknown service'"},
        GrpcCase{"AnAnswerWithoutGrpcStatusIsAFailure",
                 {.body = framed("\x08\x01"), .grpc_status = ""},
                 false,
                 "the answer has no sound grpc-status: ''"},
        GrpcCase{"AGrpcStatusThatIsNoNumberIsAFailure",
                 {.body = framed("\x08\x01"), .grpc_status = "0x"},
                 false,
                 "the answer has no sound grpc-status: '0x'"},
        GrpcCase{"AnotherHttpStatusIsAFailure",
                 {.http_status = "503"},
                 false,
                 "HTTP status 503, expected 200"},
        GrpcCase{"AnotherContentTypeIsAFailure",
                 {.content_type = "text/html", .body = framed("\x08\x01")},
                 false,
                 "the answer is not gRPC, but 'text/html'"},
        GrpcCase{"NoMessageIsMalformed", {}, false, "malformed HealthCheckResponse: ''"},
        GrpcCase{
            "AResetIsAFailure", {.is_reset = true}, false, "the request was reset: REFUSED_STREAM"},
        GrpcCase{"AnEndlessMessageIsAFailure",
                 {.body = std::string(10'000, 'x')},
                 false,
                 "the answer is longer than 4096 bytes"}),
    [](const auto& test) { return std::string{test.param.name}; });

TEST(GrpcExchange, AnotherProtocolIsAFailure) {
  const auto exchange = make_grpc_exchange({.kind = ProbeKind::kGrpc}, "a.example");
  const ProbeVerdict verdict =
      converse(*exchange, says("HTTP/1.1 400 Bad Request\r\n\r\n"), kWhole);
  EXPECT_FALSE(verdict.is_success);
  EXPECT_NE(verdict.reason, "");
}

TEST(GrpcMessages, TheRequestNamesTheService) {
  EXPECT_EQ(grpc_health_request(""), std::string(5, '\0'));
  EXPECT_EQ(grpc_health_request("cart"), (std::string{"\0\0\0\0\x06\x0a\x04", 7} + "cart"));
  const std::string service(300, 's');
  EXPECT_EQ(grpc_health_request(service).substr(3, 5), (std::string{"\x01\x2f\x0a\xac\x02", 5}));
}

struct MessageCase {
  std::string_view name;
  std::string bytes;
  std::optional<std::uint64_t> status;
};

class GrpcMessage : public ::testing::TestWithParam<MessageCase> {};

TEST_P(GrpcMessage, IsReadStrictly) {
  EXPECT_EQ(grpc_health_status(as_bytes(GetParam().bytes)), GetParam().status);
}

INSTANTIATE_TEST_SUITE_P(
    , GrpcMessage,
    ::testing::Values(
        MessageCase{"AStatus", framed("\x08\x01"), 1},
        MessageCase{"TheLastOfTwoCounts", framed("\x08\x01\x08\x02"), 2},
        MessageCase{"UnknownFieldsArePassedOver",
                    framed("\x10\x05\x1a\x02xy\x21"
                           "12345678\x2d"
                           "1234\x08\x01"),
                    1},
        MessageCase{"NothingIsMalformed", "", std::nullopt},
        MessageCase{"AHeadAloneIsMalformed", std::string(4, '\0'), std::nullopt},
        MessageCase{"ACompressedOneIsRefused", "\x01" + framed("\x08\x01").substr(1), std::nullopt},
        MessageCase{"ALengthBeyondTheEndIsMalformed", framed("\x08\x01").substr(0, 6),
                    std::nullopt},
        MessageCase{"BytesAfterTheMessageAreMalformed", framed("\x08\x01") + "x", std::nullopt},
        MessageCase{"ATagWithoutAValueIsMalformed", framed("\x08"), std::nullopt},
        MessageCase{"FieldZeroIsMalformed", framed(std::string_view{"\x00\x01", 2}), std::nullopt},
        MessageCase{"AGroupIsMalformed", framed("\x0b"), std::nullopt},
        MessageCase{"AStringBeyondTheEndIsMalformed", framed("\x12\x7fx"), std::nullopt},
        MessageCase{"AFixedFieldBeyondTheEndIsMalformed", framed("\x15xyz"), std::nullopt},
        MessageCase{"AnEndlessVarintIsMalformed", framed("\x08" + std::string(11, '\xff')),
                    std::nullopt}),
    [](const auto& test) { return std::string{test.param.name}; });

TEST(QuotedStart, EscapesWhatDoesNotPrintAndIsBounded) {
  EXPECT_EQ(quoted_start("a'\n\x7f"), "'a\\x27\\x0a\\x7f'");
  EXPECT_EQ(quoted_start(std::string(41, 'x')), "'" + std::string(40, 'x') + "…'");
}

}  // namespace
}  // namespace weir::control
