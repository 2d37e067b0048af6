#include <cstdint>
#include <string>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"
#include "l7/http/h1.h"

/// Whatever comes as a chunked body: the same payload, trailers, end and error whole and in pieces.
namespace {

using namespace weir;
using State = http::BodyDecoder::State;

struct Decoded {
  State end = State::kNeedMore;
  std::string payload;
  std::size_t consumed = 0;
  std::string_view reason;
  std::string trailers;  // written anew
};

/// The end of a chunked body with all trailers that may be forwarded, as we write it.
std::string rewritten(const http::HeaderList& trailers) {
  std::string names;
  for (const http::Field field : trailers)
    if (http::may_be_trailer(field.name)) names.append(field.name).append(",");
  std::vector<std::byte> out;
  http::append_last_chunk(out, trailers, names);
  WEIR_ASSERT(out.size() <= http::kLastChunkBytesMax);
  return std::string{as_text(out)};
}

Decoded decode(std::span<const std::byte> input, std::size_t piece) {
  http::BodyDecoder decoder{{http::BodyKind::kChunked, 0}};
  Decoded decoded;
  std::size_t arrived = 0;
  for (;;) {
    const auto step = decoder.decode(input.subspan(decoded.consumed, arrived - decoded.consumed));
    decoded.consumed += step.consumed;
    WEIR_ASSERT(decoded.consumed <= arrived);
    decoded.payload += as_text(step.payload);
    decoded.end = step.state;
    decoded.reason = step.reason;
    if (step.state == State::kDone) decoded.trailers = rewritten(decoder.trailers());
    if (step.state == State::kPayload) continue;
    if (step.state != State::kNeedMore || arrived == input.size()) return decoded;
    arrived = std::min(input.size(), arrived + piece);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // The first byte chooses the size of the pieces.
  if (size == 0) return 0;
  const auto input = std::as_bytes(std::span{data, size}).subspan(1);
  const Decoded whole = decode(input, input.size() + 1);
  const Decoded pieces = decode(input, data[0] % 16 + 1U);
  WEIR_ASSERT(whole.end == pieces.end && whole.reason == pieces.reason);
  WEIR_ASSERT(whole.payload == pieces.payload);
  WEIR_ASSERT(whole.end == State::kError || whole.consumed == pieces.consumed);
  WEIR_ASSERT(whole.trailers == pieces.trailers);
  if (whole.end != State::kDone) return 0;
  // Whoever reads what we write sees the same trailers and no more.
  const Decoded again = decode(as_bytes(whole.trailers), whole.trailers.size() + 1);
  WEIR_ASSERT(again.end == State::kDone && again.trailers == whole.trailers);
  WEIR_ASSERT(again.consumed == whole.trailers.size());
  return 0;
}
