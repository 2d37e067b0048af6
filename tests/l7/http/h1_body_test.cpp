#include <fmt/format.h>
#include <gtest/gtest.h>

#include "l4/base/bytes.h"
#include "l4/base/random.h"
#include "l7/http/h1.h"

namespace weir::http {
namespace {

using namespace std::string_literals;
using State = BodyDecoder::State;

struct BodyVector {
  std::string_view name;
  BodyFraming framing;
  std::string input;
  State end;              ///< kNeedMore: the body is not over
  std::string payload{};  ///< with kError: what came before may be more or less
  std::size_t left_over = 0;
};

constexpr BodyFraming kChunked{BodyKind::kChunked, 0};

std::vector<BodyVector> body_vectors() {
  const std::string hello = "5\r\nhello\r\n";
  const std::string end = "0\r\n\r\n";
  const std::string long_extension(257, 'e');
  return {
      {"NoBodyIsDoneAtOnce", {}, "GET", State::kDone, "", 3},
      {"ALengthOfZeroIsDoneAtOnce", {BodyKind::kLength, 0}, "GET", State::kDone, "", 3},
      {"ALengthEndsWhereItSays", {BodyKind::kLength, 5}, "helloGET", State::kDone, "hello", 3},
      {"AShortBodyIsNotOver", {BodyKind::kLength, 5}, "hell", State::kNeedMore, "hell"},
      {"UntilCloseIsNeverOver", {BodyKind::kUntilClose, 0}, "hello", State::kNeedMore, "hello"},
      {"ChunksAreJoined", kChunked, hello + "6\r\n world\r\n" + end, State::kDone, "hello world"},
      {"BytesBehindTheLastChunkAreLeftAlone", kChunked, hello + end + "GET", State::kDone, "hello",
       3},
      {"AnEmptyBodyIsOneChunk", kChunked, end, State::kDone},
      {"SizesAreHexadecimalInBothCases", kChunked, "a\r\n0123456789\r\nA\r\nabcdefghij\r\n" + end,
       State::kDone, "0123456789abcdefghij"},
      {"SixteenDigitsAreAccepted", kChunked, "0000000000000005\r\nhello\r\n" + end, State::kDone,
       "hello"},
      {"SeventeenDigitsAreRefused", kChunked, "00000000000000005\r\nhello\r\n", State::kError},
      {"ASizeAbove63BitsIsRefused", kChunked, "8000000000000000\r\n", State::kError},
      {"ASizeOf63BitsIsAccepted", kChunked, "7fffffffffffffff\r\nx", State::kNeedMore, "x"},
      {"ALastChunkMayHaveManyZeros", kChunked, "0000\r\n\r\n", State::kDone},
      {"AnEmptySizeIsRefused", kChunked, "\r\n", State::kError},
      {"AnExtensionWithoutSizeIsRefused", kChunked, ";a=b\r\n", State::kError},
      {"ASignedSizeIsRefused", kChunked, "+5\r\nhello\r\n", State::kError},
      {"ANegativeSizeIsRefused", kChunked, "-5\r\nhello\r\n", State::kError},
      {"AHexadecimalPrefixIsRefused", kChunked, "0x5\r\nhello\r\n", State::kError},
      {"ASpaceBeforeTheSizeIsRefused", kChunked, " 5\r\nhello\r\n", State::kError},
      {"ASpaceAfterTheSizeIsRefused", kChunked, "5 \r\nhello\r\n", State::kError},
      {"ATabAfterTheSizeIsRefused", kChunked, "5\t\r\nhello\r\n", State::kError},
      {"AnUnderscoreInTheSizeIsRefused", kChunked, "1_0\r\n", State::kError},
      {"ALetterBeyondFIsRefused", kChunked, "g\r\n", State::kError},
      {"AnExtensionIsDropped", kChunked, "5;a=\"b c\"\r\nhello\r\n" + end, State::kDone, "hello"},
      {"AnExtensionOf256BytesIsAccepted", kChunked,
       "5;" + long_extension.substr(1) + "\r\nhello\r\n" + end, State::kDone, "hello"},
      {"AnExtensionOf257BytesIsRefused", kChunked, "5;" + long_extension + "\r\nhello\r\n",
       State::kError},
      {"ALfInAnExtensionIsRefused", kChunked, "5;a\nb\r\nhello\r\n", State::kError},
      {"ACrInAnExtensionIsRefused", kChunked, "5;a\rb\r\nhello\r\n", State::kError},
      {"ANulInAnExtensionIsRefused", kChunked, "5;a\0b\r\nhello\r\n"s, State::kError},
      {"ALfAloneAfterTheSizeIsRefused", kChunked, "5\nhello\r\n", State::kError},
      {"ACrAloneAfterTheSizeIsRefused", kChunked, "5\rhello\r\n", State::kError},
      {"DataLongerThanItsSizeIsRefused", kChunked, "5\r\nhello!\r\n", State::kError},
      {"DataThatEndsInLfAloneIsRefused", kChunked, "5\r\nhello\n", State::kError},
      {"DataThatEndsInCrAloneIsRefused", kChunked, "5\r\nhello\r5\r\n", State::kError},
      {"DataWithoutLineEndIsRefused", kChunked, "5\r\nhello5\r\n", State::kError},
      {"LineEndsInDataAreData", kChunked, "4\r\n\r\n\r\n\r\n" + end, State::kDone, "\r\n\r\n"},
      {"ACutSizeIsNotOver", kChunked, "5", State::kNeedMore},
      {"ACutChunkIsNotOver", kChunked, "5\r\nhel", State::kNeedMore, "hel"},
      {"AMissingLastChunkIsNotOver", kChunked, hello, State::kNeedMore, "hello"},
      {"AMissingLastLineIsNotOver", kChunked, hello + "0\r\n", State::kNeedMore, "hello"},
      {"TrailersAreNoPayload", kChunked, "0\r\nA: b\r\nC:\r\n\r\nX", State::kDone, "", 1},
      {"ATrailerWithoutColonIsRefused", kChunked, "0\r\nAb\r\n\r\n", State::kError},
      {"ATrailerWithoutNameIsRefused", kChunked, "0\r\n: b\r\n\r\n", State::kError},
      {"ATrailerWithASpaceBeforeTheColonIsRefused", kChunked, "0\r\nA : b\r\n\r\n", State::kError},
      {"AFoldedTrailerIsRefused", kChunked, "0\r\nA: b\r\n c\r\n\r\n", State::kError},
      {"ATrailerThatEndsInLfAloneIsRefused", kChunked, "0\r\nA: b\n\r\n", State::kError},
      {"ATrailerWithABareCrIsRefused", kChunked, "0\r\nA: b\rc\r\n\r\n", State::kError},
      {"ATrailerWithANulIsRefused", kChunked, "0\r\nA: \0\r\n\r\n"s, State::kError},
      {"ALfAloneAtTheEndIsRefused", kChunked, "0\r\n\n", State::kError},
      {"ACrAloneAtTheEndIsRefused", kChunked, "0\r\n\rX", State::kError},
      {"EndlessTrailersAreRefused", kChunked, "0\r\nA: " + std::string(9000, 'x'), State::kError},
  };
}

struct Decoded {
  State end;
  std::string payload;
  std::size_t consumed;
};

/// Feeds the input in pieces. Whatever the decoder does not take is offered again with the next.
template <typename NextCut>
Decoded decode_in_pieces(const BodyVector& vector, NextCut&& next_cut) {
  BodyDecoder decoder{vector.framing};
  const std::string_view input = vector.input;
  Decoded decoded{State::kNeedMore, {}, 0};
  std::size_t arrived = 0;
  for (;;) {
    const auto available = as_bytes(input.substr(decoded.consumed, arrived - decoded.consumed));
    const BodyDecoder::Step step = decoder.decode(available);
    EXPECT_LE(step.consumed, available.size());
    decoded.consumed += step.consumed;
    decoded.payload += as_text(step.payload);
    decoded.end = step.state;
    if (step.state == State::kPayload) {
      EXPECT_FALSE(step.payload.empty());
      continue;
    }
    EXPECT_EQ(decoder.done(), step.state == State::kDone);
    EXPECT_EQ(step.state == State::kError, !step.reason.empty());
    if (step.state != State::kNeedMore || arrived == input.size()) return decoded;
    EXPECT_EQ(decoded.consumed, arrived) << "more was asked for while bytes are left";
    arrived = std::min(input.size(), arrived + next_cut());
  }
}

class BodyVectors : public ::testing::TestWithParam<BodyVector> {};

TEST_P(BodyVectors, HaveOneReadingHoweverTheyAreCut) {
  constexpr std::uint64_t kSeed = 99;
  const BodyVector& vector = GetParam();
  Random random{kSeed};
  for (int round = 0; round < 10; ++round) {
    SCOPED_TRACE(fmt::format("seed {}, round {}", kSeed, round));
    const Decoded decoded = decode_in_pieces(vector, [&]() -> std::size_t {
      return round == 0 ? vector.input.size() : round == 1 ? 1 : 1 + random.below(9);
    });
    ASSERT_EQ(decoded.end, vector.end);
    if (vector.end == State::kError) continue;
    EXPECT_EQ(decoded.payload, vector.payload);
    EXPECT_EQ(decoded.consumed, vector.input.size() - vector.left_over);
  }
}

INSTANTIATE_TEST_SUITE_P(, BodyVectors, ::testing::ValuesIn(body_vectors()),
                         [](const auto& test) { return std::string{test.param.name}; });

TEST(BodyDecoder, StaysRefusedAfterAnError) {
  BodyDecoder decoder{kChunked};
  EXPECT_EQ(decoder.decode(as_bytes("x")).state, State::kError);
  EXPECT_EQ(decoder.decode(as_bytes("0\r\n\r\n")).state, State::kError);
  EXPECT_FALSE(decoder.done());
}

TEST(BodyDecoder, KnowsWhereAConnectionMayEnd) {
  EXPECT_TRUE(BodyDecoder{}.may_close_here());
  EXPECT_TRUE((BodyDecoder{{BodyKind::kUntilClose, 0}}.may_close_here()));
  EXPECT_FALSE((BodyDecoder{{BodyKind::kLength, 1}}.may_close_here()));
  EXPECT_FALSE(BodyDecoder{kChunked}.may_close_here());
}

TEST(BodyDecoder, ReadsWhatTheWriterWrote) {
  std::vector<std::byte> out;
  for (const std::string_view piece : {"a", "hello, world", "0123456789abcdef"}) {
    append_chunk_header(out, piece.size());
    const auto bytes = as_bytes(piece);
    out.insert(out.end(), bytes.begin(), bytes.end());
    append_chunk_end(out);
  }
  append_last_chunk(out, {}, "");
  const BodyVector written{"", kChunked, std::string{as_text(out)}, State::kDone};
  const Decoded decoded = decode_in_pieces(written, [] { return std::size_t{3}; });
  EXPECT_EQ(decoded.end, State::kDone);
  EXPECT_EQ(decoded.payload, "ahello, world0123456789abcdef");
}

TEST(BodyDecoder, KeepsTrailersApartAndForgetsThemWithTheNextBody) {
  BodyDecoder decoder{kChunked};
  const auto step = decoder.decode(as_bytes("0\r\nX-A:  1 \r\nx-b:\r\nX-A: 2\r\n\r\n"));
  ASSERT_EQ(step.state, State::kDone);
  const HeaderList& trailers = decoder.trailers();
  ASSERT_EQ(trailers.size(), 3U);
  EXPECT_EQ(trailers[0].name, "X-A");
  EXPECT_EQ(trailers[0].value, "1");
  EXPECT_EQ(trailers[1].name, "x-b");
  EXPECT_EQ(trailers[1].value, "");
  std::vector<std::byte> out;
  append_last_chunk(out, trailers, "x-a, X-C");
  EXPECT_EQ(as_text(out), "0\r\nX-A: 1\r\nX-A: 2\r\n\r\n");
  decoder.begin(kChunked);
  ASSERT_EQ(decoder.decode(as_bytes("0\r\n\r\n")).state, State::kDone);
  EXPECT_TRUE(decoder.trailers().empty());
}

}  // namespace
}  // namespace weir::http
