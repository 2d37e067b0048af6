#include <fmt/format.h>
#include <gtest/gtest.h>
#include <llhttp/llhttp.h>

#include <array>

#include "l4/base/bytes.h"
#include "l4/base/random.h"
#include "l7/http/h1.h"
#include "tests/l7/http/wire_vectors.h"

/// Weir's parser beside llhttp (strict mode), an independent reading of the same RFCs: what we
/// accept, it must accept, with the same meaning, but for the differences listed below.
namespace weir::http {
namespace {

using testing::WireVector;
using Outcome = ParseResult::Outcome;

/// What both sides can say about a request whose head is complete.
struct Reading {
  std::string method;
  std::string target;
  std::vector<std::pair<std::string, std::string>> fields;
  bool chunked = false;
  std::uint64_t length = 0;
  std::size_t head_bytes = 0;
  friend bool operator==(const Reading&, const Reading&) = default;
};

std::string text_of(const Reading& reading) {
  std::string text =
      fmt::format("{} bytes: {} {}\n", reading.head_bytes, reading.method, reading.target);
  for (const auto& [name, value] : reading.fields)
    text += fmt::format("[{}]=[{}]\n", name, value);
  return text + fmt::format("chunked {} length {}", reading.chunked, reading.length);
}

struct Oracle {
  Reading reading;
  bool head_complete = false;
};

Oracle& oracle_of(llhttp_t* parser) { return *static_cast<Oracle*>(parser->data); }

int on_target(llhttp_t* parser, const char* at, std::size_t size) {
  oracle_of(parser).reading.target.append(at, size);
  return 0;
}
int on_name(llhttp_t* parser, const char* at, std::size_t size) {
  auto& fields = oracle_of(parser).reading.fields;
  // A name goes on where no value has come yet: the whole input is given at once, so a name comes
  // in one piece, and each call starts a field.
  fields.emplace_back(std::string{at, size}, std::string{});
  return 0;
}
int on_value(llhttp_t* parser, const char* at, std::size_t size) {
  auto& fields = oracle_of(parser).reading.fields;
  if (!fields.empty()) fields.back().second.append(at, size);
  return 0;
}
int on_head(llhttp_t* parser) {
  Oracle& oracle = oracle_of(parser);
  oracle.head_complete = true;
  oracle.reading.method = llhttp_method_name(static_cast<llhttp_method_t>(parser->method));
  oracle.reading.chunked = (parser->flags & F_CHUNKED) != 0;
  oracle.reading.length = (parser->flags & F_CONTENT_LENGTH) != 0 ? parser->content_length : 0;
  return HPE_PAUSED;
}

/// llhttp's reading of the first request, or its error.
struct OracleAnswer {
  std::optional<Reading> reading;
  std::string error;
};
OracleAnswer ask_llhttp(std::string_view input) {
  llhttp_settings_t settings;
  llhttp_settings_init(&settings);
  settings.on_url = on_target;
  settings.on_header_field = on_name;
  settings.on_header_value = on_value;
  settings.on_headers_complete = on_head;
  llhttp_t parser;
  llhttp_init(&parser, HTTP_REQUEST, &settings);
  Oracle oracle;
  parser.data = &oracle;
  const llhttp_errno_t error = llhttp_execute(&parser, input.data(), input.size());
  if (!oracle.head_complete)
    return {std::nullopt, error == HPE_OK ? "incomplete" : llhttp_errno_name(error)};
  // Paused inside the last line end: its LF is already taken.
  oracle.reading.head_bytes =
      static_cast<std::size_t>(llhttp_get_error_pos(&parser) - input.data());
  for (auto& [name, value] : oracle.reading.fields)
    value = trim_white_space(value);
  // We drop an expectation of HTTP/1.0, which has none.
  if (parser.http_minor == 0)
    std::erase_if(oracle.reading.fields,
                  [](const auto& field) { return equals_ignoring_case(field.first, "expect"); });
  return {oracle.reading, {}};
}

std::optional<Reading> our_reading(std::string_view input) {
  RequestParser parser;
  const ParseResult result = parser.parse(as_bytes(input));
  if (result.outcome != Outcome::kComplete) return std::nullopt;
  Reading reading{.method = parser.head().method,
                  .target = parser.head().target,
                  .fields = {},
                  .chunked = parser.framing().body.kind == BodyKind::kChunked,
                  .length = parser.framing().body.length,
                  .head_bytes = result.consumed};
  for (const Field field : parser.head().fields)
    reading.fields.emplace_back(field.name, field.value);
  return reading;
}

/// Differences that are wanted. Each says why.
std::string_view justified_difference(const Reading& ours, std::string_view llhttp_error) {
  // RFC 9110, section 9.1: any token is a method; llhttp has a list.
  if (llhttp_error == "HPE_INVALID_METHOD") return "a method that llhttp does not know";
  // llhttp takes some known methods for other protocols' and wants their versions.
  if (llhttp_error == "HPE_INVALID_CONSTANT" && ours.method != "GET" && ours.method != "POST")
    return "a method of RTSP or ICE";
  // llhttp parses the target as a URI of its own idea; we do so later, in RequestUri.
  if (llhttp_error == "HPE_INVALID_URL") return "a target that RequestUri judges";
  return {};
}

/// Compares both readings; says what is wrong, or nothing.
std::string disagreement(std::string_view input) {
  const auto ours = our_reading(input);
  if (!ours) return {};  // refusing more than llhttp is what this parser is for
  // RFC 9110, section 5.5: a tab behind a value is white space. llhttp 8.1 takes it for a part of
  // a length or a coding, and refuses the request now or with its first body byte.
  const bool has_length_or_coding =
      ours->chunked || std::ranges::any_of(ours->fields, [](const auto& field) {
        return equals_ignoring_case(field.first, "content-length");
      });
  if (has_length_or_coding && input.find("\t\r\n") != std::string_view::npos) return {};
  const OracleAnswer theirs = ask_llhttp(input);
  if (!theirs.reading) {
    if (!justified_difference(*ours, theirs.error).empty()) return {};
    return fmt::format("llhttp: {}; ours: {}", theirs.error, text_of(*ours));
  }
  if (*theirs.reading == *ours) return {};
  return fmt::format("llhttp: {}; ours: {}", text_of(*theirs.reading), text_of(*ours));
}

TEST(Differential, WhatWeAcceptOfTheVectorsLlhttpReadsTheSame) {
  std::size_t accepted = 0;
  for (const WireVector& vector : testing::load_vectors("requests.txt")) {
    EXPECT_EQ(disagreement(vector.sends), "") << vector.name;
    accepted += our_reading(vector.sends).has_value() ? 1U : 0U;
  }
  EXPECT_GT(accepted, 100U);
}

/// One to three small damages: a byte changed, removed, doubled, or a piece put somewhere else.
std::string mutated(std::string text, Random& random) {
  static constexpr auto kPieces = std::to_array<std::string_view>(
      {"\r\n", "\n", "\r", " ", "\t", ":", ",", "\r\n ", "Content-Length: 1\r\n",
       "Transfer-Encoding: chunked\r\n", "Host: b\r\n", "chunked", "0", "+", "\x01", "\x80"});
  for (auto damages = 1 + random.below(3); damages > 0 && !text.empty(); --damages) {
    const std::size_t at = random.below(static_cast<std::uint32_t>(text.size()));
    switch (random.below(5)) {
      case 0:
        text[at] = static_cast<char>(random.below(256));
        break;
      case 1:
        text.erase(at, 1 + random.below(4));
        break;
      case 2:
        text.insert(at, 1, text[at]);
        break;
      case 3:
        text.insert(at, text.substr(random.below(static_cast<std::uint32_t>(text.size())),
                                    random.below(24)));
        break;
      default:
        text.insert(at, kPieces[random.below(static_cast<std::uint32_t>(kPieces.size()))]);
        break;
    }
  }
  return text;
}

TEST(Differential, WhatWeAcceptOfRandomDamageLlhttpReadsTheSame) {
  constexpr std::uint64_t kSeed = 42;
  constexpr int kRounds = 300'000;
  std::vector<std::string> seeds;
  for (const WireVector& vector : testing::load_vectors("requests.txt"))
    if (vector.sends.size() < 300) seeds.push_back(vector.sends);
  Random random{kSeed};
  int accepted = 0;
  for (int round = 0; round < kRounds; ++round) {
    const std::string input =
        mutated(seeds[random.below(static_cast<std::uint32_t>(seeds.size()))], random);
    accepted += our_reading(input).has_value() ? 1 : 0;
    ASSERT_EQ(disagreement(input), "") << "seed " << kSeed << ", round " << round << ": " << input;
  }
  // A comparison in which nothing is accepted would compare nothing.
  EXPECT_GT(accepted, kRounds / 20);
}

}  // namespace
}  // namespace weir::http
