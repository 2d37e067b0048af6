#pragma once

#include <cstdint>

#include "l4/base/clock.h"

/// When probes start. Pure.
namespace weir::control {

/// Where within its interval a target is probed, as a part of 2^32. The golden ratio's multiples
/// are spread evenly however many there are (Knuth, The Art of Computer Programming, volume 3,
/// section 6.4), so targets that come later fall into the gaps.
constexpr std::uint32_t probe_phase(std::uint64_t ordinal) {
  return static_cast<std::uint32_t>(ordinal * 0x9e3779b97f4a7c15 >> 32);
}

/// The first start at or after `now`. `epoch` is the same for all targets and not after `now`.
inline Instant first_probe(Instant epoch, Duration interval, std::uint32_t phase, Instant now) {
  // In parts of 2^16, which are fine enough; multiplied first, a long interval would not fit.
  const Duration offset = interval / 0x10000 * (phase >> 16);
  const Duration since = now - (epoch + offset);
  if (since <= Duration{0}) return epoch + offset;
  const auto passed = (since + interval - Duration{1}) / interval;
  return epoch + offset + passed * interval;
}

struct NextProbe {
  Instant due;                ///< on the grid of the target's phase
  std::uint64_t skipped = 0;  ///< turns that have passed
};

/// After a turn that was due at `due` and is over `now`. One that is a little late, as after a
/// timeout as long as the interval, starts at once and stays on its grid; else turns are skipped.
inline NextProbe next_probe(Instant due, Duration interval, Instant now) {
  NextProbe next{due + interval, 0};
  if (next.due + interval / 2 >= now) return next;
  next.skipped = static_cast<std::uint64_t>((now - next.due + interval - Duration{1}) / interval);
  next.due += next.skipped * interval;
  return next;
}

}  // namespace weir::control
