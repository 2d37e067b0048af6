#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "l4/control/model.h"
#include "l7/http/message.h"

namespace weir::proxy {

/// A PathEdit's expression, compiled. May be shared by threads.
class PathPattern {
 public:
  /// The model's expressions have been compiled once before, so this cannot fail.
  explicit PathPattern(const control::PathEdit& edit);
  PathPattern(PathPattern&&) noexcept;
  PathPattern& operator=(PathPattern&&) noexcept;
  ~PathPattern();

  /// The path with what was captured put in; the path itself where the expression does not match.
  [[nodiscard]] std::string apply(std::string_view path) const;

 private:
  struct State;
  std::unique_ptr<const State> state_;
};

/// A path after an edit. `prefix_size` is how much of it the rule's prefix has matched; `pattern`
/// belongs to an edit of kind kRegex.
[[nodiscard]] std::string edited_path(const control::PathEdit& edit, const PathPattern* pattern,
                                      std::string_view path, std::size_t prefix_size);

/// Removes, then sets, then adds.
void edit_headers(http::HeaderList& fields, const control::HeaderEdits& edits);

}  // namespace weir::proxy
