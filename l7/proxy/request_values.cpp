#include "l7/proxy/request_values.h"

#include <algorithm>

namespace weir::proxy {
namespace {

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/// Percent-encoding undone; a '%' that begins none stays.
std::string decoded(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int high = text[i] == '%' && i + 2 < text.size() ? hex_value(text[i + 1]) : -1;
    const int low = high < 0 ? -1 : hex_value(text[i + 2]);
    if (low < 0) {
      plain.push_back(text[i] == '+' ? ' ' : text[i]);
      continue;
    }
    plain.push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return plain;
}

/// What stands behind a name in a list such as "a=1&b=2"; the first of that name.
std::optional<std::string_view> value_in(std::string_view list, char separator,
                                         std::string_view name) {
  while (!list.empty()) {
    const std::size_t end = std::min(list.find(separator), list.size());
    std::string_view item = list.substr(0, end);
    list.remove_prefix(std::min(end + 1, list.size()));
    while (item.starts_with(' '))
      item.remove_prefix(1);
    if (!item.starts_with(name)) continue;
    if (item.size() == name.size()) return std::string_view{};
    if (item[name.size()] == '=') return item.substr(name.size() + 1);
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> query_value(std::string_view query, std::string_view name) {
  if (query.starts_with('?')) query.remove_prefix(1);
  const auto value = value_in(query, '&', name);
  return value ? std::optional{decoded(*value)} : std::nullopt;
}

std::optional<std::string_view> cookie_value(const http::HeaderList& fields,
                                             std::string_view name) {
  for (const http::Field field : fields.find_all("cookie"))
    if (const auto value = value_in(field.value, ';', name)) return value;
  return std::nullopt;
}

}  // namespace weir::proxy
