#include <cstdint>
#include <string>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"
#include "l7/http/h1.h"

/// Whatever arrives: the same reading whole and in two pieces, and a head that can be forwarded
/// reads the same behind us.
namespace {

using namespace weir;
using Outcome = http::ParseResult::Outcome;

void check_cut(std::span<const std::byte> input, std::size_t cut, const http::ParseResult& whole,
               const http::RequestHead& head) {
  http::RequestParser parser;
  http::ParseResult result = parser.parse(input.first(cut));
  if (result.outcome == Outcome::kIncomplete) result = parser.parse(input);
  WEIR_ASSERT(result.outcome == whole.outcome);
  WEIR_ASSERT(result.consumed == whole.consumed);
  WEIR_ASSERT(result.refusal.status == whole.refusal.status);
  WEIR_ASSERT(result.refusal.reason == whole.refusal.reason);
  if (whole.outcome != Outcome::kComplete) return;
  WEIR_ASSERT(parser.head().target == head.target);
  WEIR_ASSERT(parser.head().fields.size() == head.fields.size());
}

void check_forwarding(http::RequestHead& head, http::BodyFraming body) {
  http::RequestUri uri;
  if (uri.resolve(head)) return;
  std::string path{uri.path()};
  if (path != "*") {
    WEIR_ASSERT(!http::normalize_path(path));
    WEIR_ASSERT(path == uri.path());
  }
  http::remove_hop_by_hop(head.fields);
  http::set_forwarded(head.fields, {"2001:db8::1", "https", uri.authority()});
  if (!uri.authority().empty()) head.fields.set("Host", uri.authority());
  head.target = uri.target();
  std::vector<std::byte> out;
  http::append_request_head(out, head, body);
  http::RequestParser next(
      {.header_bytes = 128 * 1024, .fields_max = 200, .target_bytes = 64 * 1024});
  if (uri.authority().empty()) return;  // HTTP/1.0 without a host is not forwarded
  const http::ParseResult result = next.parse(out);
  WEIR_ASSERT(result.outcome == Outcome::kComplete && result.consumed == out.size());
  WEIR_ASSERT(next.framing().body == body);
  WEIR_ASSERT(next.head().method == head.method && next.head().target == head.target);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // The first byte chooses where the input is cut.
  if (size == 0) return 0;
  const auto input = std::as_bytes(std::span{data, size}).subspan(1);
  http::RequestParser parser;
  const http::ParseResult whole = parser.parse(input);
  if (!input.empty()) check_cut(input, data[0] % input.size(), whole, parser.head());
  if (whole.outcome == Outcome::kComplete) check_forwarding(parser.head(), parser.framing().body);
  return 0;
}
