#include <cstdint>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"
#include "l7/http/h1.h"

/// Whatever a backend answers: the same reading whole and in two pieces, and what we write for the
/// client is well formed.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace weir;
  using Outcome = http::ParseResult::Outcome;
  // The first byte chooses where the input is cut and which method is answered.
  if (size < 2) return 0;
  const auto input = std::as_bytes(std::span{data, size}).subspan(1);
  const std::string_view method = data[0] % 2 == 0 ? "GET" : "HEAD";
  http::ResponseParser parser;
  const http::ParseResult whole = parser.parse(input, method);

  http::ResponseParser cut;
  http::ParseResult result = cut.parse(input.first(data[0] % input.size()), method);
  if (result.outcome == Outcome::kIncomplete) result = cut.parse(input, method);
  WEIR_ASSERT(result.outcome == whole.outcome && result.consumed == whole.consumed);
  WEIR_ASSERT(result.refusal.reason == whole.refusal.reason);
  if (whole.outcome != Outcome::kComplete) return 0;

  http::ResponseHead& head = parser.head();
  http::remove_hop_by_hop(head.fields);
  std::vector<std::byte> out;
  const http::BodyFraming body = http::reframed_for_client(parser.framing().body, 1);
  http::append_response_head(out, head, body);
  http::ResponseParser client({.header_bytes = 128 * 1024});
  const http::ParseResult again = client.parse(out, method);
  WEIR_ASSERT(again.outcome == Outcome::kComplete && again.consumed == out.size());
  WEIR_ASSERT(client.head().status == head.status);
  WEIR_ASSERT(client.framing().body == body);
  return 0;
}
