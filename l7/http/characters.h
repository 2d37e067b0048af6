#pragma once

#include <array>
#include <cstdint>
#include <string_view>

/// The character classes of the HTTP grammar, one table for all parsers of this folder.
namespace weir::http {

inline constexpr std::uint8_t kTokenCharacter = 1;         ///< tchar, RFC 9110, section 5.6.2
inline constexpr std::uint8_t kTargetCharacter = 2;        ///< what a request target may hold
inline constexpr std::uint8_t kUnreserved = 4;             ///< RFC 3986, section 2.3
inline constexpr std::uint8_t kHostCharacter = 8;          ///< of a reg-name or IPv4 address
inline constexpr std::uint8_t kRequestNameCharacter = 32;  ///< tchar but the underscore
inline constexpr std::uint8_t kControlCharacter = 16;      ///< CTL but HTAB: never within a line

consteval std::array<std::uint8_t, 256> make_character_classes() {
  std::array<std::uint8_t, 256> classes{};
  const auto mark = [&](std::string_view characters, std::uint8_t bits) {
    for (const char c : characters)
      classes[static_cast<unsigned char>(c)] |= bits;
  };
  for (unsigned c = 0; c < 256; ++c) {
    const bool alphanumeric =
        (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    if (alphanumeric)
      classes[c] |= kTokenCharacter | kRequestNameCharacter | kUnreserved | kHostCharacter;
    // Browsers send some characters raw that RFC 3986 wants escaped ('|', '{', '"'), so all of
    // VCHAR passes, but for '#': a fragment never leaves an honest client.
    if (c > 0x20 && c < 0x7f && c != '#') classes[c] |= kTargetCharacter;
    if ((c < 0x20 && c != '\t') || c == 0x7f) classes[c] |= kControlCharacter;
  }
  mark("!#$%&'*+-.^_`|~", kTokenCharacter);
  mark("!#$%&'*+-.^`|~", kRequestNameCharacter);
  mark("-._~", kUnreserved);
  // RFC 3986 also allows sub-delims and escapes in a reg-name. No DNS name has them, and a host
  // that reads differently to two parsers is worth more to an attacker than to a user.
  mark("-._~", kHostCharacter);
  return classes;
}

inline constexpr std::array<std::uint8_t, 256> kCharacterClasses = make_character_classes();

constexpr bool is_in(char c, std::uint8_t class_bits) {
  return (kCharacterClasses[static_cast<unsigned char>(c)] & class_bits) != 0;
}

constexpr bool all_in(std::string_view text, std::uint8_t class_bits) {
  for (const char c : text)
    if (!is_in(c, class_bits)) return false;
  return true;
}

constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// The value of a hexadecimal digit, or -1.
constexpr int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

static_assert(is_in('!', kTokenCharacter) && !is_in(':', kTokenCharacter));
static_assert(!is_in(' ', kTargetCharacter) && !is_in('\x80', kTargetCharacter));
static_assert(!is_in('\t', kControlCharacter) && is_in('\r', kControlCharacter) &&
              is_in('\x7f', kControlCharacter));

}  // namespace weir::http
