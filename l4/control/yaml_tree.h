#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "l4/control/config.h"

/// YAML text as a tree that keeps what the configuration's reader needs and its library's does not:
/// the place of every value, keys that appear twice, scalars exactly as they were written.
namespace weir::control {

enum class YamlKind : std::uint8_t { kNull, kScalar, kList, kMap };

struct YamlNode {
  YamlKind kind = YamlKind::kNull;
  Position at;
  std::string text;                ///< of a scalar
  std::vector<YamlNode> children;  ///< of a list; of a map: key, value, key, value, …
  std::size_t nodes = 1;           ///< of this subtree, itself included
  std::size_t text_bytes = 0;      ///< of all scalars of this subtree
  std::size_t height = 1;          ///< levels of this subtree
};

struct YamlProblem {
  Position at;
  std::string message;
  std::string expectation;
  std::string hint;
};

/// Limits on what a file may expand to: aliases multiply.
inline constexpr std::size_t kYamlNodesMax = 4'000'000;
inline constexpr std::size_t kYamlTextBytesMax = 2 * kConfigBytesMax;
inline constexpr std::size_t kYamlDepthMax = 32;

/// One document; an empty text is a null node. Aliases are expanded.
std::variant<YamlNode, YamlProblem> parse_yaml(std::string_view text);

}  // namespace weir::control
