#pragma once

#include <cstdio>
#include <cstdlib>

namespace weir {

/// Ends the process with the place and the text of a broken invariant.
[[noreturn]] inline void assertion_failed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "weir: internal error: %s:%d: assertion failed: %s\n", file, line,
               expression);
  std::abort();
}

}  // namespace weir

/// For what only our own code can break; stays on in release. What the network, the configuration
/// or the kernel can cause is handled, never asserted.
#define WEIR_ASSERT(expression) \
  ((expression) ? static_cast<void>(0) : ::weir::assertion_failed(#expression, __FILE__, __LINE__))
