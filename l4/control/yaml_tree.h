#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "l4/control/config.h"

/// YAML text as a tree that keeps what the configuration's reader needs and its library's does not:
/// the place of every value, keys that appear twice, scalars exactly as they were written.
namespace weir::control {

enum class YamlKind : std::uint8_t { kNull, kScalar, kList, kMap };

/// Text and children belong to the tree.
struct YamlNode {
  YamlKind kind = YamlKind::kNull;
  Position at;
  std::string_view text;               ///< of a scalar
  std::span<const YamlNode> children;  ///< of a list; of a map: key, value, key, value, …
};

/// In few large pieces: a file of 10,000 routes has 280,000 nodes, and what is asked for one by one
/// is also freed one by one.
class YamlTree {
 public:
  /// What a text of so many bytes begins with; nodes of dense YAML take some ten times its size.
  explicit YamlTree(std::size_t text_bytes)
      : memory_{std::make_unique<std::pmr::monotonic_buffer_resource>(4 * text_bytes + 1024)} {}

  YamlNode root;

  /// Copies that live as long as the tree.
  std::string_view keep(std::string_view text);
  std::span<const YamlNode> keep(std::span<const YamlNode> nodes);

 private:
  std::unique_ptr<std::pmr::monotonic_buffer_resource> memory_;
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

/// One document; an empty text is a null node. An alias shares its anchor's children; readers see
/// it as a copy, and the limits count it as one.
std::variant<YamlTree, YamlProblem> parse_yaml(std::string_view text);

}  // namespace weir::control
