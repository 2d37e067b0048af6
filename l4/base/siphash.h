#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace weir {

/// A 128-bit secret; two nodes that share it agree on every hash.
struct SipKey {
  std::array<std::uint64_t, 2> words{};
  friend bool operator==(const SipKey&, const SipKey&) = default;
};

/// SipHash-2-4 (Aumasson and Bernstein, 2012): short inputs whose hashes nobody without the key can
/// steer.
inline std::uint64_t siphash(const SipKey& key, std::span<const std::byte> bytes) {
  std::uint64_t v0 = key.words[0] ^ 0x736f6d6570736575;
  std::uint64_t v1 = key.words[1] ^ 0x646f72616e646f6d;
  std::uint64_t v2 = key.words[0] ^ 0x6c7967656e657261;
  std::uint64_t v3 = key.words[1] ^ 0x7465646279746573;
  const auto rounds = [&](int count) {
    for (int i = 0; i < count; ++i) {
      v0 += v1, v2 += v3;
      v1 = std::rotl(v1, 13) ^ v0;
      v3 = std::rotl(v3, 16) ^ v2;
      v0 = std::rotl(v0, 32);
      v2 += v1, v0 += v3;
      v1 = std::rotl(v1, 17) ^ v2;
      v3 = std::rotl(v3, 21) ^ v0;
      v2 = std::rotl(v2, 32);
    }
  };
  const auto absorb = [&](std::uint64_t word) {
    v3 ^= word;
    rounds(2);
    v0 ^= word;
  };
  std::uint64_t word = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    word |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * (i % 8));  // little-endian words
    if (i % 8 != 7) continue;
    absorb(word);
    word = 0;
  }
  absorb(word | (std::uint64_t{bytes.size()} << 56));
  v2 ^= 0xff;
  rounds(4);
  return v0 ^ v1 ^ v2 ^ v3;
}

}  // namespace weir
