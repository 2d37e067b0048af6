#pragma once

#include <cstdint>
#include <optional>

#include "l4/base/clock.h"

namespace weir::testing {

/// One transfer over a link of 1 Gbit/s.
struct GoodputCase {
  double loss = 0;  ///< of frames, in both directions
  Duration round_trip{};
  std::uint32_t buffer_bytes = 0;  ///< of sender and receiver
  std::uint64_t bytes = 4'000'000;
  std::uint64_t seed = 1;
  bool rack = true;  ///< loss detection by time, where the stack has it
};

/// From the first SYN to the last byte read. Nothing when it does not end within an hour.
[[nodiscard]] std::optional<Duration> transfer_time(const GoodputCase& conditions);

/// Whether `rack` makes a difference in this stack.

}  // namespace weir::testing
