#pragma once

#include <string_view>

namespace weir::l7 {

/// openapi.json, as GET /v1/openapi.json gives it. The build makes its source of the file.
extern const std::string_view kOpenapi;

}  // namespace weir::l7
