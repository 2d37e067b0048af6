#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace weir::proxy {

/// A regular expression of RE2's syntax (github.com/google/re2, wiki "Syntax"): matched in time
/// proportional to the text, whatever the expression. Case matters; the whole text must match. May
/// be shared by threads.
class Regex {
 public:
  /// The model's expressions have been compiled once before, so this cannot fail.
  explicit Regex(std::string_view pattern);
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

  [[nodiscard]] bool matches(std::string_view text) const;
  /// `by` with what the groups \1 to \9 have captured; nothing where the text does not match.
  [[nodiscard]] std::optional<std::string> substituted(std::string_view text,
                                                       std::string_view by) const;

 private:
  struct State;
  std::unique_ptr<const State> state_;
};

}  // namespace weir::proxy
