#include "l7/proxy/regex.h"

#include <re2/re2.h>

#include <algorithm>
#include <array>

#include "l4/base/assert.h"

namespace weir::proxy {

struct Regex::State {
  explicit State(std::string_view pattern)
      : expression{re2::StringPiece{pattern.data(), pattern.size()}, options()} {}

  static re2::RE2::Options options() {
    // Bytes, as paths and fields are; as the rules of the configuration compile it.
    re2::RE2::Options options{re2::RE2::Latin1};
    options.set_log_errors(false);
    return options;
  }

  re2::RE2 expression;
};

Regex::Regex(std::string_view pattern) : state_{std::make_unique<State>(pattern)} {
  WEIR_ASSERT(state_->expression.ok());  // object_to_regex() has looked at it
}
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

bool Regex::matches(std::string_view text) const {
  return re2::RE2::FullMatch(re2::StringPiece{text.data(), text.size()}, state_->expression);
}

std::optional<std::string> Regex::substituted(std::string_view text, std::string_view by) const {
  std::string result;
  const re2::StringPiece whole{text.data(), text.size()};
  const int groups = 1 + state_->expression.NumberOfCapturingGroups();
  std::array<re2::StringPiece, 10> captured;
  const int wanted = std::min<int>(groups, static_cast<int>(captured.size()));
  if (!state_->expression.Match(whole, 0, whole.size(), re2::RE2::ANCHOR_BOTH, captured.data(),
                                wanted) ||
      !state_->expression.Rewrite(&result, re2::StringPiece{by.data(), by.size()}, captured.data(),
                                  wanted))
    return std::nullopt;
  return result;
}

}  // namespace weir::proxy
