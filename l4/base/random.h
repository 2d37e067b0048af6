#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <random>

namespace weir {

/// Seeded pseudo-random source (xoshiro256**, Blackman and Vigna 2018), passed to protocol code as
/// an argument so that a simulation repeats exactly. Not for keys: those come from the kernel.
class Random {
 public:
  explicit Random(std::uint64_t seed) {
    for (auto& word : state_)
      word = split_mix(seed);
  }

  /// Seeded by the operating system, for a running process.
  static Random from_system() {
    std::random_device device;
    return Random{(std::uint64_t{device()} << 32) | device()};
  }

  std::uint64_t next() {
    const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const std::uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }

  /// Uniform in [0, bound), bound > 0; the bias of the multiplication is below 2^-32 here.
  std::uint32_t below(std::uint32_t bound) {
    return static_cast<std::uint32_t>(((next() >> 32) * bound) >> 32);
  }

  /// True with the given probability.
  bool chance(double probability) {
    return static_cast<double>(next() >> 11) * 0x1.0p-53 < probability;
  }

 private:
  static std::uint64_t split_mix(std::uint64_t& seed) {
    seed += 0x9e3779b97f4a7c15;
    std::uint64_t z = seed;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

  std::array<std::uint64_t, 4> state_{};
};

}  // namespace weir
