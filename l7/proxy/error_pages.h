#pragma once

#include <memory>
#include <vector>

#include "l4/control/model.h"
#include "l7/http/message.h"

namespace weir::proxy {

using control::ErrorPage;

/// What a route, a listener or a gateway has to say in answers of Weir's own. Copies share it.
class ErrorPages {
 public:
  ErrorPages() = default;
  explicit ErrorPages(const std::vector<ErrorPage>& pages);

  /// The page for a status, or nothing: those that name it go before those of its class; of several
  /// the one whose type the client likes best, and of equals, or when it likes none, the first.
  /// `fields` are the request's, if they can be read.
  [[nodiscard]] const ErrorPage* find(int status, const http::HeaderList* fields) const;
  [[nodiscard]] bool empty() const { return pages_ == nullptr; }

 private:
  std::shared_ptr<const std::vector<ErrorPage>> pages_;
};

/// How much a client wants a media type, in thousandths (RFC 9110, section 12.5.1): 1000 where it
/// says nothing.
[[nodiscard]] int accepted_quality(const http::HeaderList& fields, std::string_view type);

}  // namespace weir::proxy
