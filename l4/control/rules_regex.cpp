#include <fmt/format.h>
#include <re2/re2.h>

#include "l4/control/rules.h"

namespace weir::control {
namespace {

constexpr std::size_t kRegexMax = 1024;
/// Instructions of the compiled expression; nested counts grow by multiplication.
constexpr int kRegexProgramMax = 10'000;

}  // namespace

MaybeObjection object_to_regex(std::string_view pattern) {
  constexpr std::string_view kWanted = "an RE2 expression for the whole text, such as /v[0-9]+/.*";
  if (pattern.empty() || pattern.size() > kRegexMax)
    return Objection{fmt::format("an expression of {} characters", pattern.size()),
                     fmt::format("1 to {} characters", kRegexMax)};
  re2::RE2::Options options{re2::RE2::Latin1};
  options.set_log_errors(false);
  const re2::RE2 expression{re2::StringPiece{pattern.data(), pattern.size()}, options};
  if (!expression.ok())
    return Objection{fmt::format("'{}': {}", pattern, expression.error()), std::string{kWanted}};
  if (expression.ProgramSize() > kRegexProgramMax)
    return Objection{
        fmt::format("'{}', which compiles to {} steps", pattern, expression.ProgramSize()),
        fmt::format("at most {}: smaller counts in {{}}", kRegexProgramMax)};
  return std::nullopt;
}

MaybeObjection object_to_substitution(std::string_view value, std::string_view pattern) {
  re2::RE2::Options options{re2::RE2::Latin1};
  options.set_log_errors(false);
  const re2::RE2 expression{re2::StringPiece{pattern.data(), pattern.size()}, options};
  std::string why;
  if (!expression.CheckRewriteString(re2::StringPiece{value.data(), value.size()}, &why))
    return Objection{fmt::format("'{}': {}", value, why), "\\1 to \\9 for groups that there are"};
  std::string plain;
  for (std::size_t i = 0; i < value.size(); ++i) {
    if (value[i] == '\\') {
      ++i;  // what it stands for is part of a path already
      continue;
    }
    plain.push_back(value[i]);
  }
  if (!value.starts_with('/')) return Objection{fmt::format("'{}'", value), "a path, from '/' on"};
  const bool fits = plain.find_first_of("?# ") == std::string::npos;
  if (fits) return object_to_header_value(value);
  return Objection{fmt::format("'{}'", value), "a path without query, '#' and blanks"};
}

}  // namespace weir::control
