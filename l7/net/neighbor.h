#pragma once

#include <cstdint>

namespace weir::net {

struct NeighborCounters {
  std::uint64_t solicitations_sent = 0;
  std::uint64_t resolved = 0;
  std::uint64_t failed = 0;           ///< no answer to any solicitation
  std::uint64_t pending_dropped = 0;  ///< waited for an address; pushed out by newer packets
  std::uint64_t unreachable_dropped = 0;  ///< for a neighbour that does not answer
  std::uint64_t table_full = 0;           ///< no entry could be made
};

}  // namespace weir::net
