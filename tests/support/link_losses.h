#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

/// Which frames a simulated link loses on purpose: values for LinkOptions::lose_if. Each keeps its
/// own count, so use a fresh one for each direction.
namespace weir::testing {

using LossRule = std::function<bool(std::uint64_t number, std::span<const std::byte> frame)>;

/// TCP segments that have all of these flags set.
[[nodiscard]] LossRule with_flags(std::uint8_t flags);
/// TCP segments whose text covers the byte at `offset` of its stream; offset 0 is the first byte
/// after the SYN, which the rule must have seen. The first `times` such segments.
[[nodiscard]] LossRule covering_byte(std::uint32_t offset, unsigned times = 1);
/// Text that was sent before: the first `times` retransmissions of each byte range.
[[nodiscard]] LossRule retransmissions(unsigned times = 1);
/// The first `times` frames that `rule` would lose.
[[nodiscard]] LossRule first(unsigned times, LossRule rule);
/// Frames that either would lose; both see all frames.
[[nodiscard]] LossRule either(LossRule one, LossRule other);

}  // namespace weir::testing
