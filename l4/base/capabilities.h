#pragma once

#include <initializer_list>

#include "l4/base/result.h"

/// Linux capabilities of the calling thread, by their number in <linux/capability.h>.
namespace weir {

[[nodiscard]] bool has_capability(int capability);

/// Gives up every other capability for good, and with them every way to gain some by executing a
/// program. Threads started afterwards inherit it; threads that exist keep what they have.
Result<void> keep_only_capabilities(std::initializer_list<int> capabilities);

}  // namespace weir
