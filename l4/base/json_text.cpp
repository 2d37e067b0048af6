#include "l4/base/json_text.h"

#include <fmt/format.h>

#include <cstddef>
#include <iterator>

namespace weir {
namespace {

constexpr unsigned byte_at(std::string_view text, std::size_t at) {
  return static_cast<unsigned char>(text[at]);
}

}  // namespace

// The second byte decides about forms that are longer than need be, surrogates and what is above
// U+10FFFF (RFC 3629, section 4).
std::size_t utf8_character_bytes(std::string_view text) {
  const unsigned first = byte_at(text, 0);
  if (first < 0x80) return 1;
  std::size_t length = 0;
  unsigned least = 0x80;
  unsigned most = 0xbf;
  if (first >= 0xc2 && first <= 0xdf) {
    length = 2;
  } else if (first >= 0xe0 && first <= 0xef) {
    length = 3;
    if (first == 0xe0) least = 0xa0;
    if (first == 0xed) most = 0x9f;
  } else if (first >= 0xf0 && first <= 0xf4) {
    length = 4;
    if (first == 0xf0) least = 0x90;
    if (first == 0xf4) most = 0x8f;
  }
  if (length == 0 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    const unsigned next = byte_at(text, i);
    if (next < (i == 1 ? least : 0x80U) || next > (i == 1 ? most : 0xbfU)) return 0;
  }
  return length;
}

void append_json_text(std::string& out, std::string_view text) {
  out += '"';
  while (!text.empty()) {
    const std::size_t length = utf8_character_bytes(text);
    const char c = text.front();
    if (length == 0) {
      fmt::format_to(std::back_inserter(out), "\\\\x{:02x}", byte_at(text, 0));
    } else if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (byte_at(text, 0) < 0x20 || c == 0x7f) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", byte_at(text, 0));
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  out += '"';
}

}  // namespace weir
