#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "l7/http/message.h"

namespace weir::proxy {

/// Decoded; the first parameter of that name. `query` begins with '?' or is empty.
std::optional<std::string> query_value(std::string_view query, std::string_view name);

/// RFC 6265, section 5.4. A client of HTTP/2 may send several fields (RFC 9113, section 8.2.3).
std::optional<std::string_view> cookie_value(const http::HeaderList& fields, std::string_view name);

}  // namespace weir::proxy
