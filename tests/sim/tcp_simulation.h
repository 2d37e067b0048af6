#pragma once

#include <cstdint>
#include <string>

namespace weir::testing {

/// What one simulated run of two TCP stacks came to.
struct TcpSimulation {
  std::string violation;         ///< of which oracle, or empty
  std::uint64_t transcript = 0;  ///< hash of every segment with its time
  std::uint64_t segments = 0;
  std::uint64_t retransmissions = 0;
  double virtual_seconds = 0;
};

/// Two tcp::Stacks on a bad link with restless users. Everything (delays, loss, buffer sizes, what
/// the users do and when) follows from the seed.
///
/// Oracles: every byte arrives once and in order; every transfer ends, within a bound; the number
/// of segments is bounded by a multiple of what a perfect link would need; at the end no
/// connection, record, chunk or timer is left.
[[nodiscard]] TcpSimulation simulate_tcp(std::uint64_t seed, bool print_segments = false);

}  // namespace weir::testing
