#include "l7/tls/client_hello.h"

#include <algorithm>
#include <optional>

#include "l4/base/bytes.h"

namespace weir::tls {

namespace {

using Outcome = HelloResult::Outcome;

/// One cursor over bytes. What does not fit makes it broken, and everything after that is empty.
class Cursor {
 public:
  explicit Cursor(std::span<const std::byte> bytes) : rest_{bytes} {}

  std::uint32_t number(std::size_t size) {
    std::uint32_t value = 0;
    for (const std::byte byte : take(size))
      value = value << 8 | std::to_integer<std::uint32_t>(byte);
    return value;
  }
  std::span<const std::byte> take(std::size_t size) {
    if (broken_ || size > rest_.size()) {
      broken_ = true;
      return {};
    }
    const auto front = rest_.first(size);
    rest_ = rest_.subspan(size);
    return front;
  }
  /// A vector with its length in `size` bytes in front (RFC 8446, section 3.4).
  std::span<const std::byte> vector(std::size_t size, std::size_t minimum, std::size_t maximum) {
    const std::uint32_t length = number(size);
    if (length < minimum || length > maximum) broken_ = true;
    return take(length);
  }
  [[nodiscard]] bool broken() const { return broken_; }
  [[nodiscard]] bool at_end() const { return rest_.empty(); }

 private:
  std::span<const std::byte> rest_;
  bool broken_ = false;
};

HelloResult malformed(std::string_view problem) { return {Outcome::kMalformed, {}, problem}; }

bool is_host_character(std::byte byte) {
  const char c = static_cast<char>(byte);
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_' || c == '.';
}

/// The body of server_name; nothing when it is broken.
std::optional<std::string_view> read_server_name(std::span<const std::byte> body) {
  Cursor cursor{body};
  Cursor list{cursor.vector(2, 1, 0xffff)};
  const std::uint32_t type = list.number(1);
  const auto name = list.vector(2, 1, 255);
  // One name of the one type there is; more of a type are forbidden, and nobody has another type.
  constexpr std::uint32_t kHostName = 0;
  const bool good = !cursor.broken() && cursor.at_end() && !list.broken() && list.at_end() &&
                    type == kHostName && std::all_of(name.begin(), name.end(), is_host_character);
  return good ? std::optional{as_text(name)} : std::nullopt;
}

HelloResult read_extensions(std::span<const std::byte> bytes) {
  constexpr std::uint32_t kServerName = 0;
  Cursor cursor{bytes};
  HelloResult result{Outcome::kComplete, {}, {}};
  bool has_name = false;
  while (!cursor.at_end()) {
    const std::uint32_t type = cursor.number(2);
    const auto body = cursor.vector(2, 0, 0xffff);
    if (cursor.broken()) return malformed("an extension that is longer than the message");
    if (type != kServerName) continue;
    const auto name = read_server_name(body);
    if (!name || has_name) return malformed("a broken server_name");
    result.server_name = *name;
    has_name = true;
  }
  return result;
}

/// The message without its header.
HelloResult read_message(std::span<const std::byte> message) {
  Cursor cursor{message};
  const std::uint32_t version = cursor.number(2);
  cursor.take(32);          // random
  cursor.vector(1, 0, 32);  // session id
  const auto suites = cursor.vector(2, 2, 0xfffe);
  cursor.vector(1, 1, 0xff);  // compression methods
  if (cursor.broken() || suites.size() % 2 != 0) return malformed("a broken ClientHello");
  constexpr std::uint32_t kTls10 = 0x0301;
  constexpr std::uint32_t kTls12 = 0x0303;  // 1.3 says this here, too
  if (version < kTls10 || version > kTls12) return malformed("a version that is not TLS");
  if (cursor.at_end()) return {Outcome::kComplete, {}, {}};  // TLS 1.2 without extensions
  const auto extensions = cursor.vector(2, 0, 0xffff);
  if (cursor.broken() || !cursor.at_end()) return malformed("a broken list of extensions");
  return read_extensions(extensions);
}

constexpr std::size_t kRecordHeader = 5;
constexpr std::size_t kMessageHeader = 4;

/// How long the whole handshake message is, once its header is there; 0 before that. Nothing when
/// it is no ClientHello, or too long.
std::optional<std::size_t> message_size(std::span<const std::byte> message) {
  constexpr std::byte kClientHello{1};
  if (!message.empty() && message[0] != kClientHello) return std::nullopt;
  if (message.size() < kMessageHeader) return 0;
  Cursor cursor{message.subspan(1)};
  const std::size_t size = kMessageHeader + cursor.number(3);
  return size <= kHelloBytesMax ? std::optional{size} : std::nullopt;
}

}  // namespace

HelloResult read_client_hello(std::span<const std::byte> bytes,
                              std::span<std::byte, kHelloBytesMax> scratch) {
  // Handshake messages may be cut into records anywhere (RFC 8446, section 5.1).
  std::size_t gathered = 0;
  std::span<const std::byte> message;
  while (true) {
    constexpr std::byte kHandshake{22};
    if (!bytes.empty() && bytes[0] != kHandshake) return malformed("not a TLS handshake");
    if (bytes.size() > 1 && bytes[1] != std::byte{3}) return malformed("not a TLS record");
    if (bytes.size() < kRecordHeader) return {Outcome::kIncomplete, {}, {}};
    const std::size_t size =
        std::to_integer<std::size_t>(bytes[3]) << 8 | std::to_integer<std::size_t>(bytes[4]);
    constexpr std::size_t kRecordMax = 16 * 1024;
    if (size == 0 || size > kRecordMax) return malformed("a record of an impossible size");
    const auto piece =
        bytes.subspan(kRecordHeader).first(std::min(size, bytes.size() - kRecordHeader));
    if (gathered + piece.size() > scratch.size())
      return malformed("a ClientHello that is too large");
    std::copy(piece.begin(), piece.end(), scratch.begin() + static_cast<std::ptrdiff_t>(gathered));
    gathered += piece.size();
    message = scratch.first(gathered);
    const auto wanted = message_size(message);
    if (!wanted) return malformed("not a ClientHello, or one that is too large");
    if (*wanted != 0 && gathered > *wanted) return malformed("bytes behind the ClientHello");
    if (*wanted != 0 && gathered == *wanted && piece.size() == size)
      return read_message(message.subspan(kMessageHeader));
    if (piece.size() < size) return {Outcome::kIncomplete, {}, {}};
    bytes = bytes.subspan(kRecordHeader + size);
  }
}

}  // namespace weir::tls
