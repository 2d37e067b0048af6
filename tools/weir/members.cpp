#include "tools/weir/members.h"

namespace weir::cli {

const Json& at(const Json& object, const std::string& key) {
  static const Json kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

std::string text_at(const Json& object, const std::string& key) {
  const Json& value = at(object, key);
  return value.is_string() ? value.get<std::string>() : std::string{};
}

std::optional<double> number_at(const Json& object, const std::string& key) {
  const Json& value = at(object, key);
  return value.is_number() ? std::optional{value.get<double>()} : std::nullopt;
}

Json list_at(const Json& object, const std::string& key) {
  const Json& value = at(object, key);
  return value.is_array() ? value : Json::array();
}

}  // namespace weir::cli
