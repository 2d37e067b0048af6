#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tests/fuzz/balancer_world.h"

namespace weir::testing {

/// One frame of an input, and when and where it comes in.
struct InputFrame {
  std::uint8_t control = 0;  ///< see advance_ticks() and ingress()
  std::vector<std::byte> bytes;

  /// From the frame before: 0, 1 ms, 2 s or 100 s.
  [[nodiscard]] std::uint64_t advance_ticks() const;
  [[nodiscard]] std::uint32_t ingress() const;
};

/// What the fuzzer's bytes mean: a byte of options, then for each frame its length in two bytes,
/// little-endian, a byte of control, and the frame. What is missing at the end is missing.
struct BalancerInput {
  std::uint8_t options = 0;
  std::vector<InputFrame> frames;

  [[nodiscard]] WorldOptions world_options() const;
};

inline constexpr std::size_t kInputFramesMax = 16;
inline constexpr std::size_t kInputFrameBytesMax = 2000;

BalancerInput read_input(std::span<const std::uint8_t> bytes);
std::vector<std::uint8_t> write_input(const BalancerInput& input);

}  // namespace weir::testing
