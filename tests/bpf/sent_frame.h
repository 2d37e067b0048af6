#pragma once

#include "tests/bpf/verdict_case.h"

namespace weir::testing {

/// What becomes of a frame under each verdict, whatever is in it. Read back by a decoder that
/// shares no code with what writes:
///
///     passed, handed to L7   untouched
///     ipip, gue, l2          MAC addresses and tags of the backend; inside, the packet as it came,
///                            one hop further, without what followed it in the frame
///     nat                    one hop further, with a right header checksum if it had one
///     answers                addresses of both layers exchanged, the tags it came with
///
/// Nothing is asked of what is dropped.
void expect_sent_frame(const VerdictCase& expected, const std::vector<std::byte>& frame,
                       const RunResult& result);

}  // namespace weir::testing
