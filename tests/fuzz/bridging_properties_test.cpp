#include "tests/fuzz/bridging_properties.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "l4/base/bytes.h"
#include "l4/base/random.h"
#include "tests/fuzz/bridging_messages.h"
#include "tests/l7/http/h2_vectors.h"
#include "tests/l7/http/wire_vectors.h"
#include "tests/support/h2_frames.h"

/// What the fuzzer holds, on every run of the unit tests: for the vectors, and damaged ones.
namespace weir::testing {
namespace {

constexpr std::uint64_t kSeed = 17;
constexpr int kDamagedEach = 3;
constexpr std::size_t kBytesMax = 4096;  // of what is damaged

struct Named {
  std::string name;
  std::string bytes;  ///< from the client, without HTTP/2's preface
  bool is_h2;
};

std::vector<Named> all_vectors() {
  std::vector<Named> all;
  for (const auto& vector : http::testing::load_vectors("requests.txt"))
    all.push_back({vector.name, vector.sends, false});
  for (const auto& vector : http::testing::load_h2_vectors("server.txt")) {
    std::string bytes = vector.bytes(true);
    if (bytes.starts_with(kH2ClientPreface)) bytes.erase(0, kH2ClientPreface.size());
    all.push_back({vector.name, bytes, true});
  }
  return all;
}

void check(std::string_view bytes, bool client_is_h2, bool same, unsigned piece) {
  std::string input;
  input += static_cast<char>((client_is_h2 ? 1 : 0) | (same ? 2 : 0));
  input += static_cast<char>(piece);
  input += bytes;
  check_bridging_input(as_bytes(input));
}

TEST(BridgingProperties, HoldForAllVectorsAndForDamagedOnes) {
  Random random{kSeed};
  for (const Named& vector : all_vectors()) {
    SCOPED_TRACE(vector.name);
    for (const bool same : {false, true})
      check(vector.bytes, vector.is_h2, same, 255);
    if (vector.bytes.empty() || vector.bytes.size() > kBytesMax) continue;
    for (int i = 0; i < kDamagedEach; ++i) {
      std::string damaged = vector.bytes;
      for (std::uint32_t k = random.below(3); k < 3; ++k)
        damaged[random.below(static_cast<std::uint32_t>(damaged.size()))] =
            static_cast<char>(random.below(256));
      check(damaged, vector.is_h2, random.below(4) == 0, random.below(256));
    }
  }
}

// What the readers are there to find, so that they cannot be blind.

void read(std::unique_ptr<EndpointReader> reader, std::string_view bytes) { reader->feed(bytes); }

TEST(BridgingReaders, EndTheProgramWhereHttp1HasTwoReadings) {
  const std::string head = "POST /a HTTP/1.1\r\nHost: a\r\n";
  const auto dies = [&](std::string_view rest, const char* why) {
    EXPECT_DEATH(read(endpoint_reader_h1(), head + std::string{rest}), why) << rest;
  };
  dies("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "two framings");
  dies("Transfer-Encoding: gzip, chunked\r\n\r\n", "a coding");
  dies("Content-Length: +1\r\n\r\n", "no length");
  dies("Host: b\r\n\r\n", "not one Host");
  dies("X-A: b\n: c\r\n\r\n", "no field");
  dies("X-A : b\r\n\r\n", "no field");
  dies("Keep-Alive: 5\r\n\r\n", "of the client's connection");
  dies("Transfer-Encoding: chunked\r\n\r\n1;x\r\na\r\n", "no size of a chunk");
  dies("Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", "no end of a chunk");
  dies("\r\nGET /a b HTTP/1.0\r\n\r\n", "no request line");
}

TEST(BridgingReaders, EndTheProgramWhereHttp2IsBroken) {
  const std::string begin{kH2ClientPreface};
  const auto dies = [&](std::string_view frame, const char* why) {
    EXPECT_DEATH(read(endpoint_reader_h2(), begin + h2_bytes(frame)), why) << frame;
  };
  const std::string usual = ":method: GET | :scheme: http | :path: / | :authority: a";
  dies("headers 1 end | :method: GET | :scheme: http | :authority: a", "not one of a pseudo field");
  dies("headers 1 end | x: y | " + usual, "pseudo fields elsewhere");
  dies("headers 1 end | " + usual + " | X-A: b", "no field");
  dies("headers 1 end | " + usual + " | x-a: b\\r\\nc", "no field");
  dies("headers 1 end | " + usual + " | transfer-encoding: chunked", "a field of HTTP/1");
  dies("headers 1 end | " + usual + " | content-length: 1", "a length that is not the body's");
  dies("data 1 end | a", "DATA of no body");
}

/// WEIR_WRITE_CORPUS=DIR writes the vectors as inputs for the fuzzer there.
TEST(BridgingProperties, VectorsAreInputsOfTheFuzzer) {
  const auto vectors = all_vectors();
  EXPECT_GT(vectors.size(), 400U);
  const char* const directory = std::getenv("WEIR_WRITE_CORPUS");
  if (directory == nullptr) return;
  for (const Named& vector : vectors) {
    if (vector.bytes.size() > kBytesMax) continue;
    std::ofstream file{std::filesystem::path{directory} / vector.name, std::ios::binary};
    file << (vector.is_h2 ? '\1' : '\0') << '\xff' << vector.bytes;
  }
}

}  // namespace
}  // namespace weir::testing
