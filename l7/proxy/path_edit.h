#pragma once

#include <cstddef>
#include <cstdint>
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

/// Where a request came to that is sent elsewhere.
struct RedirectFrom {
  bool tls = false;
  std::uint16_t port = 0;  ///< of the listener
  std::string_view host;
  std::string_view path;
  std::string_view query;  ///< from '?' on
  std::size_t prefix_size = 0;
};
/// The value of Location (Gateway API, HTTPRequestRedirectFilter).
[[nodiscard]] std::string redirect_location(const control::Redirect& redirect,
                                            const PathPattern* pattern, const RedirectFrom& from);
/// What a listener that only sends clients to its HTTPS port does with a request.
[[nodiscard]] control::Redirect https_redirect(wire::Port port, std::string_view method);

}  // namespace weir::proxy
