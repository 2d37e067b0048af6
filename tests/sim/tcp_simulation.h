#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "tests/sim/tcp_conditions.h"
#include "tests/sim/tcp_users.h"

namespace weir::testing {

/// What one simulated run of two hosts came to.
struct TcpSimulation {
  std::string violation;         ///< of which oracle, or empty
  std::uint64_t transcript = 0;  ///< hash of every frame with its time and fate
  Plot plot = Plot::kTransfer;
  std::uint64_t segments = 0;
  std::uint64_t retransmissions = 0;
  std::uint64_t lost = 0;        ///< frames, wherever
  unsigned completed = 0;        ///< streams that were read to their end
  double virtual_seconds = 0;    ///< until the last user had finished
  double share_of_bound = 0;     ///< of the time that the run might have taken
  double share_of_segments = 0;  ///< of the segments that it might have sent
};

struct TcpSimulationOptions {
  std::uint64_t seed = 1;
  bool print_segments = false;
  std::span<const AppliedSetting> settings{};  ///< over what the seed says
};

/// Two hosts, each with port, net::Interface and tcp::Stack, on a bad link, with restless users.
/// Delays, losses, clocks, memory, and what the users do and when: all of it follows from the seed.
/// ARP and NDP really happen.
///
/// Oracles:
/// - each byte arrives once and in order, the end where the peer has ended, no reset without a
///   reason;
/// - progress: a run ends within a bound that is computed from what happened to it, see bound();
/// - no storms: segments are bounded by a multiple of what a perfect link would need and what this
///   one has lost; ACKs have causes;
/// - every segment obeys the rules of WireOracle; a reader who makes room says so;
/// - at the end no connection, record, chunk, timer or packet buffer is left, on either host.
[[nodiscard]] TcpSimulation simulate_tcp(const TcpSimulationOptions& options);

}  // namespace weir::testing
