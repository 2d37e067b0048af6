#pragma once

#include <cstddef>
#include <span>

namespace weir::testing {

/// What must hold for any bytes that a peer of HTTP/2 sends. The first byte chooses the side that
/// we are, the second how the rest is cut, and the bytes themselves what the owner does meanwhile.
/// Ends the program when something does not hold:
///
/// - what is taken for a message can be written as HTTP/1.1, and is then read as the same one,
/// whole
///   and alone: nothing is smuggled from one version into the other;
/// - memory stays within its limit, and all of it comes back;
/// - what we send are frames.
void check_h2_input(std::span<const std::byte> input);

}  // namespace weir::testing
