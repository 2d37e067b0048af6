#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "l4/base/random.h"

namespace weir::testing {

using Steering = std::function<std::uint32_t(std::span<const std::byte>)>;

/// As the balancer does it (bpf/handoff.h), for the untagged IPv4 frames of a ProxyWorld: TCP to an
/// own address by destination port, TCP to a VIP by a hash of its flow, all else to worker 0.
inline Steering right_steering(std::uint32_t workers) {
  return [workers](std::span<const std::byte> frame) -> std::uint32_t {
    const auto octet = [&](std::size_t at) { return std::to_integer<std::uint32_t>(frame[at]); };
    constexpr std::size_t kPorts = 14 + 20;
    constexpr std::uint32_t kTcp = 6;
    const bool is_ipv4_tcp =
        frame.size() > kPorts + 4 && octet(12) == 8 && octet(13) == 0 && octet(23) == kTcp;
    if (!is_ipv4_tcp) return 0;
    const std::uint32_t source_port = octet(kPorts) << 8 | octet(kPorts + 1);
    const std::uint32_t destination_port = octet(kPorts + 2) << 8 | octet(kPorts + 3);
    constexpr std::uint32_t kOwnNetwork = 10;  // VIPs are elsewhere
    if (octet(30) == kOwnNetwork) return destination_port % workers;
    return (source_port * 0x9e3779b1U >> 16) % workers;
  };
}

/// Any worker for any frame.
inline Steering random_steering(std::uint32_t workers, std::uint64_t seed) {
  return [workers, random = Random{seed}](std::span<const std::byte>) mutable {
    return random.below(workers);
  };
}

}  // namespace weir::testing
