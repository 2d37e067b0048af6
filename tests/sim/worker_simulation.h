#pragma once

#include <cstdint>
#include <string>

namespace weir::testing {

/// What one simulated run of a whole worker came to.
struct WorkerSimulation {
  std::string violation;         ///< of which oracle, or empty
  std::uint64_t transcript = 0;  ///< hash of every frame with its time
  std::uint64_t requests = 0;    ///< that clients have sent, at least in part
  std::uint64_t answered = 0;    ///< by a backend, whole
  std::uint64_t refused = 0;     ///< by the proxy itself
  std::uint64_t broken = 0;      ///< visibly: no answer, or half of one
  std::uint64_t frames = 0;
  double virtual_seconds = 0;
};

/// A few clients send random requests through a proxy::Worker to a few backends, over a link that
/// loses, repeats and reorders; both sides pause, read slowly and break connections, and the
/// configuration changes meanwhile. Everything follows from the seed.
///
/// Oracles: a backend sees every request with the body that the client has sent, and none twice
/// that must not be; a client sees the answer that was given to this very request, or an answer of
/// the proxy's own, or a connection that is visibly broken; where nothing fails on purpose or on
/// the way, every request is answered; every run ends; and at the end nothing is left over.
[[nodiscard]] WorkerSimulation simulate_worker(std::uint64_t seed, bool print = false);

}  // namespace weir::testing
