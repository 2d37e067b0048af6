#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"
#include "l7/tls/client_hello.h"

/// Whatever arrives: more bytes never turn an answer into another one, and a name is one.
namespace {

using namespace weir;
using Outcome = tls::HelloResult::Outcome;

struct Reading {
  Outcome outcome;
  std::string name;
};

Reading read(std::span<const std::byte> bytes) {
  std::array<std::byte, tls::kHelloBytesMax> scratch;
  const tls::HelloResult result = tls::read_client_hello(bytes, scratch);
  WEIR_ASSERT((result.outcome == Outcome::kMalformed) == !result.problem.empty());
  return {result.outcome, std::string{result.server_name}};
}

bool is_name(const std::string& name) {
  return name.size() <= 255 && std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '-' || c == '_' || c == '.';
         });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // The first byte chooses where the input is cut.
  if (size == 0) return 0;
  const auto input = std::as_bytes(std::span{data, size}).subspan(1);
  const Reading whole = read(input);
  WEIR_ASSERT(is_name(whole.name));
  WEIR_ASSERT(whole.outcome == Outcome::kComplete || whole.name.empty());
  if (input.empty()) return 0;
  const Reading front = read(input.first(data[0] % input.size()));
  if (whole.outcome == Outcome::kIncomplete) WEIR_ASSERT(front.outcome == Outcome::kIncomplete);
  if (front.outcome == Outcome::kMalformed) WEIR_ASSERT(whole.outcome == Outcome::kMalformed);
  return 0;
}
