#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "l7/tcp/segment.h"
#include "l7/tcp/seq.h"

namespace weir::tcp {

/// Which bytes beyond the next expected one have arrived: disjoint ranges in order, not touching
/// each other, at most kRangesMax. The bytes lie in the receive queue; their number is bounded by
/// the window. When a further gap would need one range too many it is refused, and the sender
/// repeats that segment later.
class Reassembly {
 public:
  static constexpr std::size_t kRangesMax = 15;

  [[nodiscard]] bool empty() const { return count_ == 0; }
  [[nodiscard]] std::size_t ranges() const { return count_; }

  /// Whether all of [start, end) is there already.
  [[nodiscard]] bool covers(Seq start, Seq end) const;

  /// Whether insert() would succeed.
  [[nodiscard]] bool fits(Seq start, Seq end) const;

  /// Adds [start, end), start < end. False, and nothing changed, when it does not fit.
  bool insert(Seq start, Seq end);

  /// The data up to `next` has arrived in order: removes what is covered and returns how far the
  /// ranges continue it.
  Seq advance(Seq next);

  /// Writes the ranges as SACK blocks, the one that grew last first and the others by how lately
  /// they did (RFC 2018, section 4), as many as `out` takes; says how many.
  std::size_t sack_blocks(std::span<SackBlock> out) const;

  void clear() { count_ = recent_count_ = 0; }

 private:
  void note_recent(const SackBlock& range);

  std::array<SackBlock, kRangesMax> ranges_{};
  std::uint8_t count_ = 0;
  std::uint8_t recent_count_ = 0;
  std::array<Seq, kSackBlocksMax> recent_{};  // starts of what came last, the latest first
};

}  // namespace weir::tcp
