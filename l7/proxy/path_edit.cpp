#include "l7/proxy/path_edit.h"

#include "l7/proxy/regex.h"

namespace weir::proxy {

struct PathPattern::State {
  Regex expression;
  std::string substitution;
};

PathPattern::PathPattern(const control::PathEdit& edit)
    : state_{std::make_unique<const State>(Regex{edit.pattern}, edit.value)} {}
PathPattern::PathPattern(PathPattern&&) noexcept = default;
PathPattern& PathPattern::operator=(PathPattern&&) noexcept = default;
PathPattern::~PathPattern() = default;

std::string PathPattern::apply(std::string_view path) const {
  return state_->expression.substituted(path, state_->substitution).value_or(std::string{path});
}

std::string edited_path(const control::PathEdit& edit, const PathPattern* pattern,
                        std::string_view path, std::size_t prefix_size) {
  switch (edit.kind) {
    case control::PathEdit::Kind::kKeep:
      return std::string{path};
    case control::PathEdit::Kind::kFull:
      return edit.value;
    case control::PathEdit::Kind::kPrefix: {
      // As the table of the Gateway API has it (HTTPPathModifier): one slash where the two meet,
      // and none lost.
      std::string_view prefix = edit.value;
      if (prefix.ends_with('/')) prefix.remove_suffix(1);
      std::string result{prefix};
      result.append(path.substr(prefix_size));
      return result.empty() ? "/" : result;
    }
    case control::PathEdit::Kind::kRegex:
      return pattern->apply(path);
  }
  return std::string{path};
}

void edit_headers(http::HeaderList& fields, const control::HeaderEdits& edits) {
  for (const std::string& name : edits.remove)
    fields.remove(name);
  for (const auto& [name, value] : edits.set)
    fields.set(name, value);
  for (const auto& [name, value] : edits.add)
    fields.add(name, value);
}

}  // namespace weir::proxy
