#include <fmt/format.h>
#include <gtest/gtest.h>

#include "l4/base/bytes.h"
#include "l4/base/random.h"
#include "l7/http/h1.h"

namespace weir::http {
namespace {

using namespace std::string_literals;
using Outcome = ParseResult::Outcome;

struct ResponseVector {
  std::string_view name;
  std::string input;
  bool is_refused = false;
  BodyFraming body{};
  bool keep_alive = true;
  bool interim = false;
  std::string_view method = "GET";
};

constexpr bool kRefused = true;
constexpr BodyFraming kUntilClose{BodyKind::kUntilClose, 0};
constexpr BodyFraming kChunked{BodyKind::kChunked, 0};
constexpr BodyFraming kFive{BodyKind::kLength, 5};
constexpr BodyFraming kNone{};

std::string ok(const std::string& lines) { return "HTTP/1.1 200 OK\r\n" + lines + "\r\n"; }

std::vector<ResponseVector> response_vectors() {
  const std::string five = "Content-Length: 5\r\n";
  const std::string chunked = "Transfer-Encoding: chunked\r\n";
  std::string fields;
  for (int i = 0; i < 101; ++i)
    fields += "X: 1\r\n";
  return {
      {"ALengthIsFollowed", ok(five), false, kFive},
      {"ChunkedIsFollowed", ok(chunked), false, kChunked},
      {"NeitherMeansUntilClose", ok(""), false, kUntilClose, false},
      {"CloseEndsTheConnection", ok(five + "Connection: close\r\n"), false, kFive, false},
      {"Http10DoesNotPersist", "HTTP/1.0 200 OK\r\n" + five + "\r\n", false, kFive, false},
      {"Http10PersistsWhenItSaysSo",
       "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + five + "\r\n", false, kFive},
      {"AnAnswerToHeadHasNoBody", ok(five), false, kNone, true, false, "HEAD"},
      {"AnAnswerToHeadWithoutLengthPersists", ok(""), false, kNone, true, false, "HEAD"},
      {"NoContentHasNoBody", "HTTP/1.1 204 No Content\r\n" + five + "\r\n", false, kNone},
      {"NotModifiedHasNoBody", "HTTP/1.1 304 Not Modified\r\n" + five + "\r\n", false, kNone},
      {"ContinueIsInterim", "HTTP/1.1 100 Continue\r\n\r\n", false, kNone, true, true},
      {"EarlyHintsAreInterim", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", false, kNone, true,
       true},
      {"SwitchingProtocolsIsFinal", "HTTP/1.1 101 Switching Protocols\r\n\r\n", false, kNone},
      {"AReasonMayBeEmpty", "HTTP/1.1 200 \r\n" + five + "\r\n", false, kFive},
      {"AReasonMayBeMissing", "HTTP/1.1 200\r\n" + five + "\r\n", false, kFive},
      {"AReasonMayHaveSpacesAndHighBytes", "HTTP/1.1 200 a \xc3\xa9 b\r\n" + five + "\r\n", false,
       kFive},
      {"UnderscoresInNamesAreTheBackendsBusiness", ok(five + "X_Y: a\r\n"), false, kFive},
      {"AnUnknownStatusIsPassed", "HTTP/1.1 599 x\r\n" + five + "\r\n", false, kFive},
      {"LengthAndChunkedAreRefused", ok(five + chunked), kRefused},
      {"TwoLengthsAreRefused", ok(five + five), kRefused},
      {"ASignedLengthIsRefused", ok("Content-Length: +5\r\n"), kRefused},
      {"AnUnknownCodingIsRefused", ok("Transfer-Encoding: gzip, chunked\r\n"), kRefused},
      {"ChunkedInHttp10IsRefused", "HTTP/1.0 200 OK\r\n" + chunked + "\r\n", kRefused},
      {"AFoldedLineIsRefused", ok("X: a\r\n b\r\n"), kRefused},
      {"ASpaceBeforeTheColonIsRefused", ok("X : a\r\n"), kRefused},
      {"ABareLfIsRefused", "HTTP/1.1 200 OK\nX: a\r\n\r\n", kRefused},
      {"ABareCrIsRefused", ok("X: a\rb\r\n"), kRefused},
      {"ANulIsRefused", ok("X: a\0b\r\n"s), kRefused},
      {"AStatusOfTwoDigitsIsRefused", "HTTP/1.1 20 OK\r\n\r\n", kRefused},
      {"AStatusOfFourDigitsIsRefused", "HTTP/1.1 2000 OK\r\n\r\n", kRefused},
      {"AStatusBelow100IsRefused", "HTTP/1.1 099 x\r\n\r\n", kRefused},
      {"AStatusAbove599IsRefused", "HTTP/1.1 600 x\r\n\r\n", kRefused},
      {"AStatusWithLettersIsRefused", "HTTP/1.1 2xx OK\r\n\r\n", kRefused},
      {"TwoSpacesBeforeTheStatusAreRefused", "HTTP/1.1  200 OK\r\n\r\n", kRefused},
      {"Http2IsRefused", "HTTP/2.0 200 OK\r\n\r\n", kRefused},
      {"AnotherProtocolIsRefused", "ICY 200 OK\r\n\r\n", kRefused},
      {"AnEmptyLineBeforeTheStatusIsRefused", "\r\nHTTP/1.1 200 OK\r\n\r\n", kRefused},
      {"TooManyFieldsAreRefused", ok(fields), kRefused},
      {"AnEndlessHeadIsRefused", "HTTP/1.1 200 " + std::string(40000, 'x'), kRefused},
  };
}

class ResponseVectors : public ::testing::TestWithParam<ResponseVector> {};

TEST_P(ResponseVectors, HaveOneReadingHoweverTheyAreCut) {
  constexpr std::uint64_t kSeed = 7;
  const ResponseVector& vector = GetParam();
  const std::string_view input = vector.input;
  Random random{kSeed};
  // Round 0 is the whole input, round 1 single bytes, the others random pieces.
  for (int round = 0; round < 10; ++round) {
    SCOPED_TRACE(fmt::format("seed {}, round {}", kSeed, round));
    const auto longest = static_cast<std::uint32_t>(input.size() / 4 + 2);
    ResponseParser parser;
    ParseResult result;
    std::size_t size = 0;
    while (size < input.size() && result.outcome == Outcome::kIncomplete) {
      size += round == 0 ? input.size() : round == 1 ? 1 : 1 + random.below(longest);
      size = std::min(size, input.size());
      result = parser.parse(as_bytes(input.substr(0, size)), vector.method);
    }
    if (vector.is_refused) {
      ASSERT_EQ(result.outcome, Outcome::kError);
      EXPECT_EQ(result.refusal.status, Status::kBadGateway);
      continue;
    }
    ASSERT_EQ(result.outcome, Outcome::kComplete) << result.refusal.reason;
    EXPECT_EQ(result.consumed, input.size());
    EXPECT_EQ(parser.framing().body, vector.body);
    EXPECT_EQ(parser.framing().keep_alive, vector.keep_alive);
    EXPECT_EQ(parser.framing().interim, vector.interim);
  }
}

INSTANTIATE_TEST_SUITE_P(, ResponseVectors, ::testing::ValuesIn(response_vectors()),
                         [](const auto& test) { return std::string{test.param.name}; });

TEST(ResponseParser, TakesTheStatusLineApart) {
  ResponseParser parser;
  ASSERT_EQ(parser.parse(as_bytes("HTTP/1.0 404 Not  Here \r\nX: y\r\n\r\n"), "GET").outcome,
            Outcome::kComplete);
  EXPECT_EQ(parser.head().status, Status::kNotFound);
  EXPECT_EQ(parser.head().reason, "Not  Here ");
  EXPECT_EQ(parser.head().minor_version, 0);
  EXPECT_EQ(parser.head().fields.find("x"), "y");
}

TEST(ResponseParser, AnInterimResponseIsFollowedByTheNextHead) {
  const std::string input = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
  ResponseParser parser;
  const ParseResult first = parser.parse(as_bytes(input), "POST");
  ASSERT_TRUE(parser.framing().interim);
  parser.reset();
  const std::string_view rest = std::string_view{input}.substr(first.consumed);
  EXPECT_EQ(parser.parse(as_bytes(rest), "POST").outcome, Outcome::kComplete);
  EXPECT_EQ(parser.head().status, Status::kOk);
}

}  // namespace
}  // namespace weir::http
