#include "tests/l7/http/wire_vectors.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "l4/base/bytes.h"
#include "l4/base/random.h"
#include "l7/http/h1.h"

/// Every vector through the parsers alone: one reading, however the bytes are cut.
namespace weir::http {
namespace {

using testing::WireVector;
using Outcome = ParseResult::Outcome;
using State = BodyDecoder::State;

constexpr std::uint64_t kSeed = 11;

/// How the bytes of a vector arrive: more of them with each call, each time in memory that ends
/// where they do, so that a sanitizer sees who reads further.
class Arrival {
 public:
  Arrival(std::string_view input, int round) : input_{input}, round_{round} {}

  [[nodiscard]] bool complete() const { return arrived_ == input_.size(); }
  void more() {
    const auto longest = static_cast<std::uint32_t>(input_.size() / 4 + 2);
    // Round 0 is the whole input, round 1 single bytes, the others random pieces.
    const std::size_t piece = round_ == 0   ? input_.size()
                              : round_ == 1 ? 1
                                            : std::size_t{1} + random_.below(longest);
    arrived_ = std::min(input_.size(), arrived_ + piece);
  }
  [[nodiscard]] std::span<const std::byte> since(std::size_t from) {
    const auto bytes = as_bytes(input_.substr(from, arrived_ - from));
    exact_.assign(bytes.begin(), bytes.end());
    exact_.shrink_to_fit();
    return exact_;
  }

 private:
  std::string_view input_;
  int round_;
  std::size_t arrived_ = 0;
  Random random_{kSeed};
  std::vector<std::byte> exact_;
};

/// Reads a body from `at` on; the state it ends in.
State read_body(BodyDecoder& decoder, Arrival& arrival, std::size_t& at, std::string& body) {
  for (;;) {
    const auto step = decoder.decode(arrival.since(at));
    at += step.consumed;
    body += as_text(step.payload);
    if (step.state == State::kPayload) continue;
    if (step.state != State::kNeedMore || arrival.complete()) return step.state;
    arrival.more();
  }
}

/// In the words of a vector's "expect".
struct Reading {
  std::string outcome;
  std::string reads{};
  std::vector<std::string> fields{};
  std::string body{};
  std::size_t left = 0;
};

Reading read_request(const WireVector& vector, int round) {
  Arrival arrival{vector.sends, round};
  RequestParser parser;
  ParseResult head;
  do {
    arrival.more();
    head = parser.parse(arrival.since(0));
  } while (head.outcome == Outcome::kIncomplete && !arrival.complete());
  if (head.outcome == Outcome::kIncomplete) return {.outcome = "incomplete"};
  const auto refused = [](Refusal refusal) {
    EXPECT_FALSE(refusal.reason.empty());
    return Reading{.outcome = fmt::format("{}", number_of(refusal.status))};
  };
  if (head.outcome == Outcome::kError) return refused(head.refusal);
  RequestUri uri;
  if (const auto refusal = uri.resolve(parser.head())) return refused(*refusal);
  Reading reading{.outcome = "ok"};
  reading.reads = fmt::format("{} {}", parser.head().method,
                              uri.target().empty() ? uri.authority() : uri.target());
  for (const Field field : parser.head().fields)
    reading.fields.push_back(fmt::format("{}: {}", field.name, field.value));
  BodyDecoder decoder{parser.framing().body};
  std::size_t at = head.consumed;
  const State end = read_body(decoder, arrival, at, reading.body);
  if (end == State::kError) return {.outcome = "400"};
  if (end == State::kNeedMore) return {.outcome = "incomplete"};
  reading.left = vector.sends.size() - at;
  return reading;
}

Reading read_answer(const WireVector& vector, int round) {
  Arrival arrival{vector.answers, round};
  ResponseParser parser;
  std::size_t at = 0;
  do {
    parser.reset();
    ParseResult head = parser.parse(arrival.since(at), vector.method);
    while (head.outcome == Outcome::kIncomplete && !arrival.complete()) {
      arrival.more();
      head = parser.parse(arrival.since(at), vector.method);
    }
    if (head.outcome != Outcome::kComplete) return {.outcome = "502"};
    at += head.consumed;
  } while (parser.framing().interim);
  // Nobody asks for another protocol here.
  if (parser.head().status == Status::kSwitchingProtocols) return {.outcome = "502"};
  Reading reading{.outcome = fmt::format("{}", number_of(parser.head().status))};
  BodyDecoder decoder{parser.framing().body};
  const State end = read_body(decoder, arrival, at, reading.body);
  const bool is_whole = end == State::kDone || (decoder.may_close_here() && vector.closes);
  if (end == State::kError || !is_whole) return {.outcome = "broken"};
  return reading;
}

constexpr int kRounds = 8;
/// A byte at a time is quadratic here, since each prefix is copied: long ones skip that round.
bool skips(std::size_t size, int round) { return round == 1 && size > 4096; }

class RequestVectors : public ::testing::TestWithParam<WireVector> {};

TEST_P(RequestVectors, HaveOneReadingHoweverTheyAreCut) {
  const WireVector& vector = GetParam();
  for (int round = 0; round < kRounds; ++round) {
    if (skips(vector.sends.size(), round)) continue;
    SCOPED_TRACE(fmt::format("seed {}, round {}", kSeed, round));
    const Reading reading = read_request(vector, round);
    ASSERT_EQ(reading.outcome, vector.expect);
    EXPECT_EQ(reading.reads, vector.reads);
    if (!vector.fields.empty()) {
      EXPECT_EQ(reading.fields, vector.fields);
    }
    EXPECT_EQ(reading.body, vector.body);
    EXPECT_EQ(reading.left, vector.left);
  }
}

class AnswerVectors : public ::testing::TestWithParam<WireVector> {};

TEST_P(AnswerVectors, HaveOneReadingHoweverTheyAreCut) {
  const WireVector& vector = GetParam();
  for (int round = 0; round < kRounds; ++round) {
    if (skips(vector.answers.size(), round)) continue;
    SCOPED_TRACE(fmt::format("seed {}, round {}", kSeed, round));
    const Reading reading = read_answer(vector, round);
    ASSERT_EQ(reading.outcome, vector.expect);
    EXPECT_EQ(reading.body, vector.body);
  }
}

std::string name_of(const ::testing::TestParamInfo<WireVector>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(, RequestVectors,
                         ::testing::ValuesIn(testing::load_vectors("requests.txt")), name_of);
INSTANTIATE_TEST_SUITE_P(, AnswerVectors,
                         ::testing::ValuesIn(testing::load_vectors("responses.txt")), name_of);

TEST(WireVectorFiles, HoldMoreThanTwoHundredVectorsEachWithANameOfItsOwn) {
  std::vector<std::string> names;
  for (const char* file : {"requests.txt", "responses.txt"})
    for (const WireVector& vector : testing::load_vectors(file))
      names.push_back(file + vector.name);
  EXPECT_GT(names.size(), 300U);
  std::ranges::sort(names);
  EXPECT_EQ(std::ranges::adjacent_find(names), names.end());
}

}  // namespace
}  // namespace weir::http
