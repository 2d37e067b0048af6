#include "tests/fuzz/h2_properties.h"

#include <gtest/gtest.h>

#include <vector>

#include "l4/base/bytes.h"
#include "l4/base/random.h"
#include "tests/l7/http/h2_vectors.h"
#include "tests/support/h2_frames.h"

namespace weir::testing {
namespace {

constexpr std::uint64_t kSeed = 13;
constexpr int kDamagedEach = 40;

/// A vector as an input: side, cut, and what the peer sends behind its preface.
std::vector<std::byte> input_of(const http::testing::H2Vector& vector, bool from_client) {
  std::string bytes{from_client ? '\0' : '\1', '\xff'};
  std::string sent = vector.bytes(from_client);
  if (from_client && sent.starts_with(kH2ClientPreface)) sent.erase(0, kH2ClientPreface.size());
  bytes += sent;
  const auto view = as_bytes(bytes);
  return {view.begin(), view.end()};
}

void check_file(std::string_view file, bool from_client) {
  Random random{kSeed};
  for (const auto& vector : http::testing::load_h2_vectors(file)) {
    SCOPED_TRACE(vector.name);
    const std::vector<std::byte> input = input_of(vector, from_client);
    check_h2_input(input);
    if (input.size() > 4096) continue;
    for (int i = 0; i < kDamagedEach; ++i) {
      std::vector<std::byte> damaged = input;
      damaged[1] = std::byte(random.below(256));
      for (std::uint32_t k = random.below(4); k < 4 && damaged.size() > 2; ++k)
        damaged[2 + random.below(static_cast<std::uint32_t>(damaged.size() - 2))] =
            std::byte(random.below(256));
      check_h2_input(damaged);
    }
  }
}

TEST(H2Properties, HoldForAllThatClientsSendAndForDamagedOnesOfThat) {
  check_file("server.txt", true);
}
TEST(H2Properties, HoldForAllThatServersSendAndForDamagedOnesOfThat) {
  check_file("client.txt", false);
}

}  // namespace
}  // namespace weir::testing
