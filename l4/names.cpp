#include "l4/names.h"

namespace weir::l4 {

Names Names::of(const Plane& plane) {
  Names names;
  names.revision = plane.desired().revision;
  for (const auto& [key, installed] : plane.installed()) {
    names.vips[installed.id.value()] = {control::vip_text(key), installed.vip.name};
    for (const InstalledBackend& entry : installed.backends)
      names.backends[entry.id.value()] = {entry.backend.address.text(), entry.backend.name};
  }
  return names;
}

std::optional<std::vector<std::byte>> bytes_of(std::string_view hex) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  if (hex.size() % 2 != 0) return std::nullopt;
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    const std::size_t high = kDigits.find(hex[i]);
    const std::size_t low = kDigits.find(hex[i + 1]);
    if (high == std::string_view::npos || low == std::string_view::npos) return std::nullopt;
    bytes.push_back(static_cast<std::byte>(high << 4 | low));
  }
  return bytes;
}

}  // namespace weir::l4
