#include "l7/tls/client_hello.h"

#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <array>
#include <string>
#include <vector>

#include "l4/base/bytes.h"
#include "l4/base/random.h"
#include "tests/l7/tls/memory_client.h"

namespace weir::tls {
namespace {

using namespace std::string_literals;
using Outcome = HelloResult::Outcome;
using testing::ClientOptions;
using testing::MemoryClient;

struct Reading {
  Outcome outcome;
  std::string name;
  std::string problem;
};

Reading read(std::string_view bytes) {
  std::array<std::byte, kHelloBytesMax> scratch;
  const HelloResult result = read_client_hello(as_bytes(bytes), scratch);
  return {result.outcome, std::string{result.server_name}, std::string{result.problem}};
}

/// What OpenSSL's client says first.
std::string hello_of(const ClientOptions& options) {
  MemoryClient client{options};
  SSL_do_handshake(client.ssl());
  std::string bytes(16 * 1024, '\0');
  const int size = BIO_read(SSL_get_wbio(client.ssl()), bytes.data(), 16 * 1024);
  bytes.resize(static_cast<std::size_t>(size));
  return bytes;
}

std::string number(std::size_t value, std::size_t size) {
  std::string text;
  for (std::size_t i = size; i-- > 0;)
    text.push_back(static_cast<char>(value >> (8 * i)));
  return text;
}
std::string counted(const std::string& text, std::size_t size) {
  return number(text.size(), size) + text;
}
std::string record(const std::string& message) { return "\x16\x03\x01" + counted(message, 2); }
std::string message(const std::string& body) { return "\x01" + counted(body, 3); }
std::string extension(std::size_t type, const std::string& body) {
  return number(type, 2) + counted(body, 2);
}
std::string name_extension(const std::string& name) {
  return extension(0, counted("\0"s + counted(name, 2), 2));
}
std::string body(const std::string& extensions) {
  return "\x03\x03" + std::string(32, 'r') + counted("", 1) + counted("\x13\x01", 2) +
         counted("\0"s, 1) + counted(extensions, 2);
}
std::string hello(const std::string& extensions) { return record(message(body(extensions))); }

TEST(ClientHello, TellsTheNameThatAClientAsksFor) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION})
    for (const std::string name : {"a.example", "xn--bcher-kva.Example", ""}) {
      const Reading reading = read(
          hello_of({.server_name = name, .max_version = version, .protocols = "\x08http/1.1"}));
      EXPECT_EQ(reading.outcome, Outcome::kComplete) << reading.problem;
      EXPECT_EQ(reading.name, name);
    }
}

TEST(ClientHello, IsIncompleteUntilItsLastByte) {
  const std::string bytes = hello_of({.server_name = "a.example"});
  for (std::size_t size = 0; size < bytes.size(); ++size)
    ASSERT_EQ(read(bytes.substr(0, size)).outcome, Outcome::kIncomplete) << size;
  EXPECT_EQ(read(bytes).name, "a.example");
}

TEST(ClientHello, MayBeCutIntoRecordsAnywhere) {
  const std::string whole = message(body(name_extension("a.example")));
  for (std::size_t at = 1; at < whole.size(); ++at) {
    const Reading reading = read(record(whole.substr(0, at)) + record(whole.substr(at)));
    ASSERT_EQ(reading.outcome, Outcome::kComplete) << at;
    ASSERT_EQ(reading.name, "a.example") << at;
  }
  std::string single;
  for (const char c : whole)
    single += record(std::string(1, c));
  EXPECT_EQ(read(single).name, "a.example");
}

TEST(ClientHello, WithoutExtensionsHasNoName) {
  std::string old = body("");
  old.resize(old.size() - 2);  // not even their length
  const Reading reading = read(record(message(old)));
  EXPECT_EQ(reading.outcome, Outcome::kComplete) << reading.problem;
  EXPECT_EQ(reading.name, "");
}

TEST(ClientHello, ThatIsBrokenIsMalformed) {
  const std::string list = counted("\0"s + counted("a.example", 2), 2);
  std::string version = body("");
  version[0] = 2;
  const std::string good = body("");
  struct Case {
    std::string_view name;
    std::string bytes;
  };
  for (const Case& c : {
           Case{"HTTP", "GET / HTTP/1.1\r\n\r\n"},
           Case{"SSL 2", "\x80\x2e\x01\x03\x01"},
           Case{"an alert", "\x15\x03\x03\x00\x02\x02\x28"s},
           Case{"an empty record", record("")},
           Case{"a record that is too long", "\x16\x03\x01\x40\x01"s},
           Case{"a ServerHello", record("\x02" + counted(good, 3))},
           Case{"a message that is too large", record("\x01\x00\x40\x00"s)},
           Case{"bytes behind the message", record(message(good) + "x")},
           Case{"bytes behind the extensions", record(message(good + "x"))},
           Case{"a version below TLS", record(message(version))},
           Case{
               "a session id of 33 bytes",
               record(message("\x03\x03" + std::string(32, 'r') + counted(std::string(33, 's'), 1) +
                              counted("\x13\x01", 2) + counted("\0"s, 1)))},
           Case{"no cipher suites",
                record(message("\x03\x03" + std::string(32, 'r') + counted("", 1) + counted("", 2) +
                               counted("\0"s, 1) + counted("", 2)))},
           Case{"half a cipher suite",
                record(message("\x03\x03" + std::string(32, 'r') + counted("", 1) +
                               counted("\x13\x01\x13", 2) + counted("\0"s, 1) + counted("", 2)))},
           Case{"no compression method",
                record(message("\x03\x03" + std::string(32, 'r') + counted("", 1) +
                               counted("\x13\x01", 2) + counted("", 1) + counted("", 2)))},
           Case{"nothing", record(message(""))},
           Case{"half an extension", hello("\0\0\0"s)},
           Case{"an extension that is too long", hello("\0\x05\0\x02x"s)},
           Case{"two names", hello(name_extension("a.example") + name_extension("b.example"))},
           Case{"two names in one list",
                hello(extension(0, counted("\0"s + counted("a", 2) + "\0"s + counted("b", 2), 2)))},
           Case{"an empty list", hello(extension(0, counted("", 2)))},
           Case{"an empty extension", hello(extension(0, ""))},
           Case{"an empty name", hello(name_extension(""))},
           Case{"a name of 256 bytes", hello(name_extension(std::string(256, 'a')))},
           Case{"a name with a NUL", hello(name_extension("a\0.example"s))},
           Case{"a name with a line end", hello(name_extension("a\r\nb"))},
           Case{"a name with a slash", hello(name_extension("a/b"))},
           Case{"another type of name", hello(extension(0, counted("\x01" + counted("a", 2), 2)))},
           Case{"bytes behind the list", hello(extension(0, list + "x"))},
       }) {
    const Reading reading = read(c.bytes);
    EXPECT_EQ(reading.outcome, Outcome::kMalformed) << c.name;
    EXPECT_FALSE(reading.problem.empty()) << c.name;
    EXPECT_EQ(reading.name, "") << c.name;
  }
}

TEST(ClientHello, OfTheLargestSizeIsRead) {
  const std::string name = name_extension("a.example");
  const std::size_t rest = message(body(name)).size() + 4;
  const std::string large =
      message(body(name + extension(21, std::string(kHelloBytesMax - rest, 0))));
  ASSERT_EQ(large.size(), kHelloBytesMax);
  EXPECT_EQ(read(record(large)).name, "a.example");
  EXPECT_EQ(read(record(large.substr(0, 100)) + record(large.substr(100))).name, "a.example");
}

/// Any bytes whatever get an answer, and a name is one.
TEST(ClientHello, DamageIsNeverMoreThanAnotherAnswer) {
  constexpr std::uint64_t kSeed = 5;
  Random random{kSeed};
  const std::vector<std::string> seeds{hello_of({.server_name = "a.example"}),
                                       hello(name_extension("a.example"))};
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = seeds[random.below(2)];
    for (auto i = 1 + random.below(4); i > 0; --i)
      bytes[random.below(static_cast<std::uint32_t>(bytes.size()))] =
          static_cast<char>(random.below(256));
    bytes.resize(random.below(static_cast<std::uint32_t>(bytes.size() + 1)));
    const std::string copy{bytes};  // on the heap, without room behind it
    const Reading reading = read(copy);
    EXPECT_TRUE(reading.name.empty() || reading.outcome == Outcome::kComplete) << round;
    EXPECT_EQ(reading.name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                             "0123456789-_."),
              std::string::npos);
  }
}

}  // namespace
}  // namespace weir::tls
