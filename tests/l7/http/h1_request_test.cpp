#include <fmt/format.h>
#include <gtest/gtest.h>

#include <memory>

#include "l4/base/bytes.h"
#include "l7/http/h1.h"
#include "tests/support/alloc_guard.h"

namespace weir::http {
namespace {

using Outcome = ParseResult::Outcome;

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
