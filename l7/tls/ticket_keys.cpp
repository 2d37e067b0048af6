#include "l7/tls/ticket_keys.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <span>

#include "l4/base/bytes.h"
#include "l4/base/fd.h"
#include "l4/base/file.h"

namespace weir::tls {

namespace {

// The file: a line that says what it is, then for each key, the newest first, the second it was
// made in, its name and its two secrets in hexadecimal.
constexpr std::string_view kFirstLine = "weir-ticket-keys 1";
constexpr std::size_t kFileBytesMax = 4096;
constexpr mode_t kMode = S_IRUSR | S_IWUSR;

/// Text with secrets in it: wiped when it goes.
struct SecretText {
  SecretText() { text.reserve(kFileBytesMax); }  // it must not move and leave copies behind
  SecretText(const SecretText&) = delete;
  SecretText& operator=(const SecretText&) = delete;
  ~SecretText() { OPENSSL_cleanse(text.data(), text.capacity()); }
  std::string text;
};

void append_hex(std::string& text, std::span<const unsigned char> bytes) {
  for (const unsigned char byte : bytes)
    fmt::format_to(std::back_inserter(text), "{:02x}", byte);
}

std::optional<unsigned char> hex_digit(char c) {
  if (c >= '0' && c <= '9') return static_cast<unsigned char>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<unsigned char>(c - 'a' + 10);
  return std::nullopt;
}

bool read_hex(std::string_view text, std::span<unsigned char> bytes) {
  if (text.size() != 2 * bytes.size()) return false;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto high = hex_digit(text[2 * i]);
    const auto low = hex_digit(text[2 * i + 1]);
    if (!high || !low) return false;
    bytes[i] = static_cast<unsigned char>(*high << 4 | *low);
  }
  return true;
}

/// The text up to `end`, which is taken off with it; nothing when there is none.
std::optional<std::string_view> take_until(std::string_view& text, char end) {
  const std::size_t at = text.find(end);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view front = text.substr(0, at);
  text.remove_prefix(at + 1);
  return front;
}

std::optional<TicketKey> parse_key(std::string_view line) {
  TicketKey key;
  const auto created = take_until(line, ' ');
  const auto name = take_until(line, ' ');
  const auto cipher = take_until(line, ' ');
  if (!created || !name || !cipher) return std::nullopt;
  const char* const end = created->data() + created->size();
  const auto [stop, error] = std::from_chars(created->data(), end, key.created_s);
  const bool good = error == std::errc{} && stop == end && read_hex(*name, key.name) &&
                    read_hex(*cipher, key.cipher) && read_hex(line, key.mac);
  return good ? std::optional{key} : std::nullopt;
}

/// Nothing where the text is damaged.
std::optional<TicketKeySet> parse_keys(std::string_view text) {
  if (take_until(text, '\n') != kFirstLine) return std::nullopt;
  TicketKeySet set;
  while (!text.empty()) {
    const auto line = take_until(text, '\n');
    const auto key = line ? parse_key(*line) : std::nullopt;
    if (!key || set.count == kTicketKeysMax) return std::nullopt;
    set.keys[set.count++] = *key;
  }
  return set.count > 0 ? std::optional{set} : std::nullopt;
}

Error file_error(const std::string& path, std::string_view problem, std::string_view remedy) {
  return Error{ErrorCode::kInvalid, fmt::format("TLS ticket keys in {}: {}", path, problem),
               std::string{remedy}};
}

constexpr std::string_view kRemoveIt =
    "remove the file; a new one is made, and clients shake hands in full once";

Result<std::optional<TicketKeySet>> read_keys(const std::string& path) {
  const UniqueFd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)};
  if (!fd && errno == ENOENT) return std::optional<TicketKeySet>{};
  if (!fd) return Error::from_errno(fmt::format("opening the TLS ticket keys {}", path));
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0)
    return Error::from_errno(fmt::format("looking at the TLS ticket keys {}", path));
  if (!S_ISREG(status.st_mode)) return file_error(path, "not a regular file", kRemoveIt);
  if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0)
    return file_error(path, fmt::format("mode {:04o} lets others at it", status.st_mode & 07777U),
                      "remove the file, since others may know the keys; a new one is made");
  SecretText content;
  content.text.resize(kFileBytesMax);
  const ssize_t size = ::read(fd.get(), content.text.data(), content.text.size());
  if (size < 0) return Error::from_errno(fmt::format("reading the TLS ticket keys {}", path));
  const std::string_view text{content.text.data(), static_cast<std::size_t>(size)};
  auto keys = parse_keys(text);
  if (!keys) return file_error(path, "damaged, or not written by weir-l7", kRemoveIt);
  return keys;
}

/// Stays within reserve(): a line is below 200 bytes.
void append_key(std::string& text, const TicketKey& key) {
  fmt::format_to(std::back_inserter(text), "{} ", key.created_s);
  append_hex(text, key.name);
  text.push_back(' ');
  append_hex(text, key.cipher);
  text.push_back(' ');
  append_hex(text, key.mac);
  text.push_back('\n');
}

Result<TicketKey> make_key(std::int64_t now_s) {
  TicketKey key;
  key.created_s = now_s;
  if (RAND_bytes(key.name.data(), static_cast<int>(key.name.size())) != 1 ||
      RAND_priv_bytes(key.cipher.data(), static_cast<int>(key.cipher.size())) != 1 ||
      RAND_priv_bytes(key.mac.data(), static_cast<int>(key.mac.size())) != 1)
    return Error{ErrorCode::kUnavailable, "no random bytes for a TLS ticket key"};
  return key;
}

}  // namespace

TicketKeySet::~TicketKeySet() { OPENSSL_cleanse(keys.data(), sizeof keys); }

Result<TicketKeyFile> TicketKeyFile::open(std::string path, std::int64_t now_s) {
  auto kept = read_keys(path);
  if (!kept) return std::move(kept).error();
  TicketKeyFile file{std::move(path), kept->value_or(TicketKeySet{})};
  // A node that was away for long does not open what is older than any ticket.
  constexpr auto kOldest = static_cast<std::int64_t>(kTicketKeysMax) * kTicketKeyTimeS;
  while (file.keys_.count > 0 && file.keys_.keys[file.keys_.count - 1].created_s < now_s - kOldest)
    --file.keys_.count;
  if (file.is_due(now_s))
    if (auto rotated = file.rotate(now_s); !rotated) return std::move(rotated).error();
  return file;
}

bool TicketKeyFile::is_due(std::int64_t now_s) const {
  if (keys_.count == 0) return true;
  // A key from the future was made before the clock was set back: it would seal for too long.
  const std::int64_t age_s = now_s - keys_.keys[0].created_s;
  return age_s >= kTicketKeyTimeS || age_s < -kTicketKeyTimeS;
}

Result<void> TicketKeyFile::rotate(std::int64_t now_s) {
  const auto key = make_key(now_s);
  if (!key) return Error{key.error()};
  TicketKeySet next;
  next.keys[0] = *key;
  next.count = std::min(keys_.count + 1, kTicketKeysMax);
  std::copy_n(keys_.keys.begin(), next.count - 1, next.keys.begin() + 1);
  SecretText content;
  content.text.append(kFirstLine).push_back('\n');
  for (std::size_t i = 0; i < next.count; ++i)
    append_key(content.text, next.keys[i]);
  if (auto written = write_file_durably(path_, content.text, kMode); !written)
    return std::move(written)
        .error()
        .while_doing("writing the TLS ticket keys")
        .with_remedy("make room in the state directory and let this process write there");
  keys_ = next;
  return {};
}

}  // namespace weir::tls
