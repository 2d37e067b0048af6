#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "l4/base/bytes.h"
#include "l4/base/random.h"
#include "l7/http/h1.h"
#include "tests/l7/http/request_vectors.h"
#include "tests/support/alloc_guard.h"

namespace weir::http {
namespace {

using testing::RequestVector;
using Outcome = ParseResult::Outcome;

constexpr std::uint64_t kSeed = 20240611;

/// Everything that a caller can see of one parse, as text.
std::string describe(const ParseResult& result, const RequestParser& parser) {
  switch (result.outcome) {
    case Outcome::kIncomplete:
      return "incomplete";
    case Outcome::kError:
      return fmt::format("{} {}", number_of(result.refusal.status), result.refusal.reason);
    case Outcome::kComplete:
      break;
  }
  const RequestHead& head = parser.head();
  std::string text = fmt::format("{} bytes: {} {} 1.{}\n", result.consumed, head.method,
                                 head.target, head.minor_version);
  for (const Field field : head.fields)
    text += fmt::format("{}={}\n", field.name, field.value);
  const RequestFraming& framing = parser.framing();
  return text + fmt::format("body {} {} keep {} expect {} upgrade {}",
                            static_cast<int>(framing.body.kind), framing.body.length,
                            framing.keep_alive, framing.expects_continue, framing.upgrade);
}

/// Feeds growing prefixes, cut where `next_cut` says, each from memory of exactly its size, so
/// that the sanitizer sees a read behind it.
template <typename NextCut>
std::string parse_in_pieces(std::string_view input, NextCut&& next_cut) {
  RequestParser parser;
  std::size_t size = 0;
  for (;;) {
    size = std::min(input.size(), size + next_cut());
    const std::vector<std::byte> exact{as_bytes(input).begin(),
                                       as_bytes(input).begin() + static_cast<long>(size)};
    const ParseResult result = parser.parse(exact);
    if (result.outcome != Outcome::kIncomplete || size == input.size())
      return describe(result, parser);
  }
}

class RequestVectors : public ::testing::TestWithParam<RequestVector> {};

TEST_P(RequestVectors, HaveOneReadingHoweverTheyAreCut) {
  const RequestVector& vector = GetParam();
  const std::string_view input = vector.input;
  RequestParser parser;
  const ParseResult result = parser.parse(as_bytes(input));
  const std::string whole = describe(result, parser);

  if (vector.refusal) {
    ASSERT_EQ(result.outcome, Outcome::kError) << whole;
    EXPECT_EQ(number_of(result.refusal.status), number_of(*vector.refusal)) << whole;
    EXPECT_FALSE(result.refusal.reason.empty());
  } else if (vector.incomplete) {
    EXPECT_EQ(result.outcome, Outcome::kIncomplete) << whole;
  } else {
    ASSERT_EQ(result.outcome, Outcome::kComplete) << whole;
    EXPECT_EQ(result.consumed, input.size() - vector.left_over);
  }

  // A byte at a time is quadratic in this harness (each prefix is copied), so long ones skip it.
  if (input.size() < 4096) {
    EXPECT_EQ(parse_in_pieces(input, [] { return std::size_t{1}; }), whole);
  }
  Random random{kSeed};
  for (int round = 0; round < 8; ++round) {
    const auto longest = static_cast<std::uint32_t>(input.size() / 4 + 2);
    EXPECT_EQ(parse_in_pieces(input, [&] { return std::size_t{1} + random.below(longest); }), whole)
        << "seed " << kSeed << ", round " << round;
  }
}

INSTANTIATE_TEST_SUITE_P(, RequestVectors, ::testing::ValuesIn(testing::request_vectors()),
                         [](const auto& test) { return std::string{test.param.name}; });

constexpr std::string_view kRequest =
    "GET /a/b?c=d HTTP/1.1\r\nHost: a.example\r\nX-One:  1 \r\nx-one: 2\r\nAccept: */*\r\n\r\n";

TEST(RequestParser, KeepsOrderAndCaseOfFields) {
  RequestParser parser;
  ASSERT_EQ(parser.parse(as_bytes(kRequest)).outcome, Outcome::kComplete);
  const RequestHead& head = parser.head();
  EXPECT_EQ(head.method, "GET");
  EXPECT_EQ(head.target, "/a/b?c=d");
  EXPECT_EQ(head.minor_version, 1);
  ASSERT_EQ(head.fields.size(), 4U);
  EXPECT_EQ(head.fields[1].name, "X-One");
  EXPECT_EQ(head.fields[1].value, "1");
  EXPECT_EQ(head.fields[2].name, "x-one");
  EXPECT_EQ(head.fields.count("X-ONE"), 2U);
}

TEST(RequestParser, AnExpectationOfHttp10IsNotForwarded) {
  RequestParser parser;
  const std::string_view input = "POST / HTTP/1.0\r\nExpect: x\r\nA: b\r\n\r\n";
  ASSERT_EQ(parser.parse(as_bytes(input)).outcome, Outcome::kComplete);
  EXPECT_FALSE(parser.head().fields.contains("Expect"));
  EXPECT_TRUE(parser.head().fields.contains("A"));
}

TEST(RequestParser, TheHeadOutlivesTheBuffer) {
  RequestParser parser;
  {
    auto buffer = std::make_unique<std::string>(kRequest);
    ASSERT_EQ(parser.parse(as_bytes(*buffer)).outcome, Outcome::kComplete);
    buffer->assign(buffer->size(), '#');
  }
  EXPECT_EQ(parser.head().fields.find("host"), "a.example");
}

TEST(RequestParser, APipelineIsReadRequestByRequest) {
  std::string input;
  for (int i = 0; i < 3; ++i)
    input += fmt::format("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", i);
  RequestParser parser;
  std::string_view rest = input;
  for (int i = 0; i < 3; ++i) {
    const ParseResult result = parser.parse(as_bytes(rest));
    ASSERT_EQ(result.outcome, Outcome::kComplete);
    EXPECT_EQ(parser.head().target, fmt::format("/{}", i));
    rest.remove_prefix(result.consumed);
    parser.reset();
  }
  EXPECT_TRUE(rest.empty());
}

TEST(RequestParser, AHeadOfExactlyTheLimitIsAcceptedAndOneByteMoreIsNot) {
  for (const std::uint32_t limit : {200U, 4096U}) {
    std::string input = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
    input += std::string(limit - input.size() - 4, 'x') + "\r\n\r\n";
    ASSERT_EQ(input.size(), limit);
    RequestParser parser{{.header_bytes = limit}};
    EXPECT_EQ(parser.parse(as_bytes(input)).outcome, Outcome::kComplete);
    RequestParser tighter{{.header_bytes = limit - 1}};
    const ParseResult result = tighter.parse(as_bytes(input));
    ASSERT_EQ(result.outcome, Outcome::kError);
    EXPECT_EQ(result.refusal.status, Status::kHeaderFieldsTooLarge);
  }
}

TEST(RequestParser, TheFramingFollowsTheFields) {
  struct Case {
    std::string_view lines;
    RequestFraming framing;
  };
  const BodyFraming none{};
  const BodyFraming five{BodyKind::kLength, 5};
  const Case cases[] = {
      {"HTTP/1.1\r\n", {none, true, false, false}},
      {"HTTP/1.0\r\n", {none, false, false, false}},
      {"HTTP/1.0\r\nConnection: Keep-Alive\r\n", {none, true, false, false}},
      {"HTTP/1.1\r\nConnection: x , CLOSE\r\n", {none, false, false, false}},
      {"HTTP/1.1\r\nConnection: keep-alive, close\r\n", {none, false, false, false}},
      {"HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n", {five, true, true, false}},
      {"HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n", {five, false, false, false}},
      {"HTTP/1.1\r\nTransfer-Encoding: chunked\r\n", {{BodyKind::kChunked, 0}, true, false, false}},
      {"HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", {none, true, false, true}},
      {"HTTP/1.1\r\nUpgrade: websocket\r\n", {none, true, false, false}},
      {"HTTP/1.0\r\nUpgrade: websocket\r\nConnection: upgrade\r\n", {none, false, false, false}},
  };
  for (const Case& c : cases) {
    RequestParser parser;
    const std::string input = fmt::format("GET / {}Host: a\r\n\r\n", c.lines);
    ASSERT_EQ(parser.parse(as_bytes(input)).outcome, Outcome::kComplete) << c.lines;
    EXPECT_EQ(parser.framing().body, c.framing.body) << c.lines;
    EXPECT_EQ(parser.framing().keep_alive, c.framing.keep_alive) << c.lines;
    EXPECT_EQ(parser.framing().expects_continue, c.framing.expects_continue) << c.lines;
    EXPECT_EQ(parser.framing().upgrade, c.framing.upgrade) << c.lines;
  }
}

TEST(RequestParser, AllocatesNothingForTheSecondRequest) {
  RequestParser parser;
  RequestUri uri;
  std::vector<std::byte> out;
  const auto pass = [&] {
    ASSERT_EQ(parser.parse(as_bytes(kRequest)).outcome, Outcome::kComplete);
    ASSERT_FALSE(uri.resolve(parser.head()).has_value());
    RequestHead& head = parser.head();
    remove_hop_by_hop(head.fields);
    set_forwarded(head.fields, {"2001:db8::7", "https", uri.authority()});
    head.target = uri.target();
    append_request_head(out, head, parser.framing().body);
    out.clear();
    parser.reset();
  };
  pass();
  const weir::testing::AllocationGuard guard;
  pass();
  EXPECT_EQ(guard.allocations(), 0U);
  EXPECT_EQ(guard.deallocations(), 0U);
}

TEST(AllocationGuard, SeesAnAllocation) {
  const weir::testing::AllocationGuard guard;
  const auto memory = std::make_unique<std::string>(100, 'x');
  EXPECT_EQ(guard.allocations(), 2U);
  EXPECT_EQ(memory->size(), 100U);
}

}  // namespace
}  // namespace weir::http
