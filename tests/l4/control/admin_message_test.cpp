#include "l4/control/admin_message.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace weir::control {
namespace {

std::string with_host(std::string_view rest) {
  return "GET /v1/status HTTP/1.1\r\nHost: a\r\n" + std::string{rest} + "\r\n";
}
std::string post(std::string_view fields) {
  return "POST /v1/vips HTTP/1.1\r\nHost: a\r\n" + std::string{fields} + "\r\n";
}
std::string get(std::string_view target) {
  return "GET " + std::string{target} + " HTTP/1.1\r\nHost: a\r\n\r\n";
}

struct Refused {
  std::string_view name;
  std::string head;
  int status;
  std::string_view detail;
};

class RefusedHead : public ::testing::TestWithParam<Refused> {};

TEST_P(RefusedHead, GetsAProblemThatSaysWhy) {
  const auto parsed = parse_request_head(GetParam().head);
  const auto* reply = std::get_if<AdminReply>(&parsed);
  ASSERT_NE(reply, nullptr);
  EXPECT_EQ(reply->status, GetParam().status);
  EXPECT_EQ(reply->content_type, "application/problem+json");
  const auto json = nlohmann::json::parse(reply->body);
  EXPECT_EQ(json["status"], GetParam().status);
  EXPECT_NE(json["detail"].get<std::string>().find(GetParam().detail), std::string::npos) << json;
}

INSTANTIATE_TEST_SUITE_P(
    , RefusedHead,
    ::testing::Values(
        Refused{"NoVersion", "GET /\r\nHost: a\r\n\r\n", 400, "METHOD TARGET"},
        Refused{"NoTarget", "GET HTTP/1.1\r\n\r\n", 400, "METHOD TARGET"},
        Refused{"OnlyAnEmptyLine", "\r\n\r\n", 400, "METHOD TARGET"},
        Refused{"AnotherProtocol", "GET / HTTQ/1.1\r\nHost: a\r\n\r\n", 400, "METHOD TARGET"},
        Refused{"AVersionOfTwoDigits", "GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400, "METHOD TARGET"},
        Refused{"HttpTwo", "PRI * HTTP/2.0\r\n\r\n", 505, "HTTP/1.1"},
        Refused{"AMethodThatIsNoWord", "G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "no word"},
        Refused{"AnUnknownMethod", "BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501, "BREW"},
        Refused{"AMethodInLowerCase", "get / HTTP/1.1\r\nHost: a\r\n\r\n", 501, "get"},
        Refused{"ATargetOfTwoWords", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "encoded"},
        Refused{"ATargetThatIsNoPath", get("v1/status"), 400, "no path"},
        Refused{"ATargetWithAFragment", get("/v1#x"), 400, "encoded"},
        Refused{"ATargetWithRawBytes", get("/v1/\xc3\xa4"), 400, "encoded"},
        Refused{"AHalfEscape", get("/v1/%4"), 400, "escape"},
        Refused{"AnEscapeOfOtherLetters", get("/v1/%zz"), 400, "escape"},
        Refused{"AnEscapedNul", get("/v1/%00"), 400, "escape"},
        Refused{"AnEscapedNulInTheQuery", get("/v1?a=%00"), 400, "escape"},
        Refused{"AQueryWithTheSameNameTwice", get("/v1?vip=a&vip=b"), 400, "'vip' twice"},
        Refused{"ATargetThatIsTooLong", get("/" + std::string(kTargetBytesMax, 'a')), 414, "4096"},
        Refused{"ALoneLineFeed", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400, "CR LF"},
        Refused{"ALoneReturn", "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", 400, "CR LF"},
        Refused{"ANul", with_host(std::string_view{"X: a\0b\r\n", 8}), 400, "NUL"},
        Refused{"AControlCharacterInAValue", with_host("X: a\x01\r\n"), 400, "control"},
        Refused{"AFieldWithoutAColon", with_host("nonsense\r\n"), 400, "NAME: VALUE"},
        Refused{"ABlankBeforeTheColon", with_host("X : a\r\n"), 400, "NAME: VALUE"},
        Refused{"AFoldedLine", with_host("X: a\r\n b\r\n"), 400, "NAME: VALUE"},
        Refused{"AFieldWithoutAName", with_host(": a\r\n"), 400, "NAME: VALUE"},
        Refused{"NoHost", "GET / HTTP/1.1\r\n\r\n", 400, "Host"},
        Refused{"TwoHosts", with_host("host: b\r\n"), 400, "Host comes twice"},
        Refused{"TwoLengths", post("Content-Length: 2\r\nContent-Length: 2\r\n"), 400, "twice"},
        Refused{"ANegativeLength", post("Content-Length: -1\r\n"), 400, "no number"},
        Refused{"ALengthWithASign", post("Content-Length: +1\r\n"), 400, "no number"},
        Refused{"AnEmptyLength", post("Content-Length:\r\n"), 400, "no number"},
        Refused{"AListOfLengths", post("Content-Length: 1, 1\r\n"), 400, "no number"},
        Refused{"ALengthBeyondTheLimit", post("Content-Length: 17825793\r\n"), 413, "17825792"},
        Refused{"ALengthBeyond64Bits", post("Content-Length: 99999999999999999999\r\n"), 413,
                "larger"},
        Refused{"LengthAndChunks", post("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n"), 400,
                "exclude"},
        Refused{"AnotherTransferCoding", post("Transfer-Encoding: gzip, chunked\r\n"), 501,
                "coding"},
        Refused{"ChunksInHttp10", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400,
                "HTTP/1.0"},
        Refused{"AForm",
                post("Content-Length: 2\r\nContent-Type: application/x-www-form-urlencoded\r\n"),
                415, "form-urlencoded"},
        Refused{"APlainText", post("Content-Length: 2\r\nContent-Type: text/plain\r\n"), 415,
                "text"},
        Refused{"ACompressedBody", post("Content-Length: 2\r\nContent-Encoding: gzip\r\n"), 415,
                "gzip"},
        Refused{"AWebPage", post("Origin: https://elsewhere.example\r\n"), 403, "web pages"},
        Refused{"AnotherExpectation", post("Expect: tea\r\n"), 417, "100-continue"}),
    [](const auto& test) { return std::string{test.param.name}; });

TEST(RequestHead, MayHaveAHundredFieldsAndNoMore) {
  std::string fields;
  for (std::size_t i = 1; i < kFieldsMax; ++i)
    fields += "X: a\r\n";
  EXPECT_TRUE(std::holds_alternative<RequestHead>(parse_request_head(with_host(fields))));
  const auto parsed = parse_request_head(with_host(fields + "X: a\r\n"));
  ASSERT_TRUE(std::holds_alternative<AdminReply>(parsed));
  EXPECT_EQ(std::get<AdminReply>(parsed).status, 431);
}

TEST(RequestHead, IsReadWithPathQueryAndFraming) {
  const auto parsed = parse_request_head(
      "POST http://balancer:9443/v1/%76ips?vip=%5B::1%5D:80/tcp&a&&b=c=d HTTP/1.1\r\nHOST: a\r\n"
      "content-type:application/json; charset=utf-8\r\nCONTENT-LENGTH: \t17825792 \r\n"
      "Expect: 100-Continue\r\n\r\n");
  const auto* head = std::get_if<RequestHead>(&parsed);
  ASSERT_NE(head, nullptr);
  EXPECT_EQ(head->request.method, "POST");
  EXPECT_EQ(head->request.path, "/v1/vips");
  EXPECT_EQ(head->request.query,
            (std::map<std::string, std::string>{{"vip", "[::1]:80/tcp"}, {"a", ""}, {"b", "c=d"}}));
  EXPECT_EQ(head->content_length, kRequestBytesMax);
  EXPECT_TRUE(head->expects_continue);
  EXPECT_FALSE(head->is_chunked);
}

TEST(RequestHead, OfHeadIsThatOfGetWithoutABody) {
  const auto parsed = parse_request_head("HEAD / HTTP/1.0\r\n\r\n");
  const auto* head = std::get_if<RequestHead>(&parsed);
  ASSERT_NE(head, nullptr);
  EXPECT_EQ(head->request.method, "GET");
  EXPECT_FALSE(head->body_is_wanted);
  EXPECT_TRUE(head->is_http_1_0);
}

struct Chunks {
  std::string_view name;
  std::string bytes;
  ChunkedBody::State state;
  std::string_view body;
};

class ChunkedBodies : public ::testing::TestWithParam<Chunks> {};

TEST_P(ChunkedBodies, AreReadTheSameWholeAndByteByByte) {
  const Chunks& chunks = GetParam();
  ChunkedBody whole;
  EXPECT_EQ(whole.take(chunks.bytes), chunks.state);
  ChunkedBody single;
  auto state = ChunkedBody::State::kMore;
  for (std::size_t i = 0; i < chunks.bytes.size() && state == ChunkedBody::State::kMore; ++i)
    state = single.take(std::string_view{chunks.bytes}.substr(i, 1));
  EXPECT_EQ(state, chunks.state);
  if (state != ChunkedBody::State::kDone) return;
  EXPECT_EQ(whole.body(), chunks.body);
  EXPECT_EQ(single.body(), chunks.body);
}

using State = ChunkedBody::State;
INSTANTIATE_TEST_SUITE_P(
    , ChunkedBodies,
    ::testing::Values(Chunks{"Two", "3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n", State::kDone,
                             "abc0123456789"},
                      Chunks{"None", "0\r\n\r\n", State::kDone, ""},
                      Chunks{"WithATrailer", "1\r\na\r\n0\r\nX: y\r\n\r\n", State::kDone, "a"},
                      Chunks{"ThatEndEarly", "5\r\nabc", State::kMore, ""},
                      Chunks{"WithoutASize", "\r\nabc\r\n", State::kBroken, ""},
                      Chunks{"WithASizeThatIsNoNumber", "x\r\n", State::kBroken, ""},
                      Chunks{"WithASizeThatEndsInALineFeed", "3\nabc\r\n", State::kBroken, ""},
                      Chunks{"ThatAreLongerThanTheySay", "2\r\nabc\r\n", State::kBroken, ""},
                      Chunks{"WithASizeOfNineDigits", "000000001\r\na", State::kTooLarge, ""},
                      Chunks{"BeyondTheLimit", "1100001\r\n", State::kTooLarge, ""},
                      Chunks{"WithAnEndlessExtension", "1;" + std::string(kHeadBytesMax + 1, 'x'),
                             State::kTooLarge, ""},
                      Chunks{"WithEndlessTrailers", "0\r\n" + std::string(kHeadBytesMax + 1, 'x'),
                             State::kTooLarge, ""}),
    [](const auto& test) { return std::string{test.param.name}; });

TEST(Body, MayNestSoDeepAndNoDeeper) {
  EXPECT_FALSE(is_nested_too_deep(std::string(kBodyDepthMax, '[')));
  EXPECT_TRUE(is_nested_too_deep(std::string(kBodyDepthMax + 1, '[')));
  EXPECT_TRUE(is_nested_too_deep("{\"a\":" + std::string(kBodyDepthMax, '{')));
  // What stands in a string, or side by side, is not nested.
  EXPECT_FALSE(is_nested_too_deep("\"" + std::string(1000, '[') + "\""));
  EXPECT_FALSE(is_nested_too_deep("\"\\\"" + std::string(1000, '[')));
  std::string flat;
  for (int i = 0; i < 1000; ++i)
    flat += "[]{}";
  EXPECT_FALSE(is_nested_too_deep(flat + "]]]]"));
}

TEST(Reply, HasAWordForEveryStatusThatIsGiven) {
  for (const int status :
       {200, 204, 400, 403, 404, 405, 408, 409, 413, 414, 415, 417, 422, 431, 500, 501, 503, 505})
    EXPECT_NE(reason_phrase(status), "Unknown") << status;
}

}  // namespace
}  // namespace weir::control
