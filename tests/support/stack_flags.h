#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tests/support/memory_stack.h"

namespace weir::testing {

/// What a text of flags asks for; their names are in stack_entry.h.
struct StackFlags {
  MemoryStack::Options stack;
  std::vector<wire::IpAddress> local;
  Duration receive_wait = std::chrono::seconds{130};  ///< beyond two of the longest time-outs
  Duration clock_step = std::chrono::microseconds{1};
  bool early_write = false;
  std::string complaint;  ///< empty, or the flag that was not understood
};

[[nodiscard]] StackFlags parse_stack_flags(std::string_view text);

}  // namespace weir::testing
