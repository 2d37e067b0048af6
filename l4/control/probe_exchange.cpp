#include "l4/control/probe_exchange.h"

#include <fmt/format.h>

namespace weir::control {

std::string quoted_start(std::string_view answer) {
  constexpr std::size_t kShownMax = 40;
  std::string out = "'";
  for (const char character : answer.substr(0, kShownMax)) {
    const auto byte = static_cast<unsigned char>(character);
    if (byte >= 0x20 && byte < 0x7f && character != '\'' && character != '\\') {
      out += character;
    } else {
      out += fmt::format("\\x{:02x}", byte);
    }
  }
  return out + (answer.size() > kShownMax ? "…'" : "'");
}

}  // namespace weir::control
