#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace weir {

/// Bytes of the UTF-8 character (RFC 3629) that `text`, which is not empty, begins with; 0 where
/// that is none.
std::size_t utf8_character_bytes(std::string_view text);

/// Appends a JSON string, quotes included (RFC 8259, section 7). Control characters are escaped; a
/// byte that is no UTF-8 (RFC 3629) becomes the four characters \xNN, since JSON has no bytes: so
/// the result is always valid, on one line, and says what was there.
void append_json_text(std::string& out, std::string_view text);

}  // namespace weir
