#pragma once

#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <string>
#include <string_view>

#include "l4/control/admin.h"

namespace weir::testing {

/// "GET /v1/status" and so on: what an OpenAPI description has.
inline std::set<std::string> described_operations(std::string_view document) {
  std::set<std::string> names;
  const auto json = nlohmann::json::parse(document);
  for (const auto& [path, item] : json.at("paths").items()) {
    for (const auto& [method, operation] : item.items()) {
      std::string name = method;
      for (char& c : name)
        c = static_cast<char>(c - 'a' + 'A');
      names.insert(name + " " + path);
    }
  }
  return names;
}

inline std::set<std::string> served_operations(std::span<const control::AdminOperation> all) {
  std::set<std::string> names;
  for (const control::AdminOperation& operation : all)
    names.insert(std::string{operation.method} + " " + std::string{operation.path});
  return names;
}

}  // namespace weir::testing
