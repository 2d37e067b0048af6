#include <cstdint>
#include <string>
#include <vector>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"
#include "l7/http/proxy_protocol.h"

/// Whatever stands in front of a connection: more bytes never turn an answer into another one, and
/// the addresses that are read are the same when we write them.
namespace {

using namespace weir;
using Outcome = http::ProxyHeader::Outcome;

void check_same(const http::ProxyHeader& one, const http::ProxyHeader& other) {
  WEIR_ASSERT(one.outcome == other.outcome);
  if (one.outcome != Outcome::kComplete) return;
  WEIR_ASSERT(one.consumed == other.consumed && one.addresses == other.addresses);
}

void check_writing(const http::ProxyAddresses& addresses) {
  for (const auto append : {http::append_proxy_v1, http::append_proxy_v2}) {
    std::vector<std::byte> out;
    append(out, addresses);
    WEIR_ASSERT(out.size() <= http::kProxyHeaderWrittenMax);
    const http::ProxyHeader again = http::read_proxy_header(out);
    WEIR_ASSERT(again.outcome == Outcome::kComplete && again.consumed == out.size());
    WEIR_ASSERT(again.addresses == addresses);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // The first byte chooses where the input is cut.
  if (size == 0) return 0;
  const auto input = std::as_bytes(std::span{data, size}).subspan(1);
  const http::ProxyHeader whole = http::read_proxy_header(input);
  WEIR_ASSERT((whole.outcome == Outcome::kMalformed) == !whole.problem.empty());
  const http::ProxyHeader front =
      http::read_proxy_header(input.first(data[0] % (input.size() + 1)));
  if (front.outcome != Outcome::kIncomplete) check_same(front, whole);
  if (whole.outcome == Outcome::kIncomplete) WEIR_ASSERT(input.size() < http::kProxyHeaderBytesMax);
  if (whole.outcome != Outcome::kComplete) return 0;
  WEIR_ASSERT(whole.consumed <= input.size() && whole.consumed <= http::kProxyHeaderBytesMax);
  // What follows takes no part, and nothing of the header may be missing.
  check_same(http::read_proxy_header(input.first(whole.consumed)), whole);
  const auto shorter = http::read_proxy_header(input.first(whole.consumed - 1));
  WEIR_ASSERT(shorter.outcome == Outcome::kIncomplete);
  if (whole.addresses) check_writing(*whole.addresses);
  return 0;
}
