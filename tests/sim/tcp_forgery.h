#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "l7/tcp/seq.h"
#include "tests/support/frame_view.h"

namespace weir::testing {

/// Frames that neither host has sent, made of what one of them has.

/// "Host unreachable" about a segment that is under way, to who has sent `frame`: it must not end a
/// connection that stands (RFC 5461, section 4.1). Empty when nothing can be said about the frame.
[[nodiscard]] std::vector<std::byte> unreachable_about(std::span<const std::byte> frame,
                                                       const TcpFrame& tcp);

/// "Too big" from somebody who has to guess, about a segment that was never sent (RFC 5927, section
/// 4.1). Empty when nothing can be said about the frame.
[[nodiscard]] std::vector<std::byte> guessed_too_big(std::span<const std::byte> frame,
                                                     const TcpFrame& tcp);

/// Behind `frame`, what a host says that has [first, end) of its peer's text beyond a gap or not,
/// is so short of memory that it will keep none of it (RFC 2018, section 8), and closes its window.
/// The host itself has not said so: the text is missing indeed, and nobody will tell that the
/// window is open.
[[nodiscard]] std::vector<std::byte> fickle_ack(std::span<const std::byte> frame,
                                                const TcpFrame& tcp, tcp::Seq first, tcp::Seq end);

}  // namespace weir::testing
