#include "l7/proxy/path_edit.h"

#include <fmt/format.h>

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

std::string redirect_location(const control::Redirect& redirect, const PathPattern* pattern,
                              const RedirectFrom& from) {
  const std::string_view as_came = from.tls ? "https" : "http";
  const std::string_view scheme = redirect.scheme ? std::string_view{*redirect.scheme} : as_came;
  const std::uint16_t well_known = scheme == "https" ? 443 : 80;
  // Without a port: that of the scheme if it is given, else the listener's (Gateway API).
  const std::uint16_t port = redirect.port     ? redirect.port->value()
                             : redirect.scheme ? well_known
                                               : from.port;
  return fmt::format("{}://{}{}{}{}", scheme,
                     redirect.hostname ? std::string_view{*redirect.hostname} : from.host,
                     port == well_known ? "" : fmt::format(":{}", port),
                     edited_path(redirect.path, pattern, from.path, from.prefix_size), from.query);
}

control::Redirect https_redirect(wire::Port port, std::string_view method) {
  control::Redirect redirect;
  redirect.scheme = "https";
  redirect.port = port;
  // 301 lets clients turn POST into GET; 308 does not (RFC 9110, section 15.4.9).
  redirect.status =
      http::number_of(method == "GET" || method == "HEAD" ? http::Status::kMovedPermanently
                                                          : http::Status::kPermanentRedirect);
  return redirect;
}

}  // namespace weir::proxy
