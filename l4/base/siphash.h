#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace weir {

/// A 128-bit secret; two nodes that share it agree on every hash.
struct SipKey {
  std::array<std::uint64_t, 2> words{};
  friend bool operator==(const SipKey&, const SipKey&) = default;
};

/// SipHash-c-d (Aumasson and Bernstein, 2012): short inputs whose hashes nobody without the key can
/// steer. 2-4 rounds are the authors' choice; 1-3 is for hash tables on the hot path, where nobody
/// sees the hash itself.
template <int kRoundsPerWord = 2, int kRoundsAtEnd = 4>
std::uint64_t siphash(const SipKey& key, std::span<const std::byte> bytes) {
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
    rounds(kRoundsPerWord);
    v0 ^= word;
  };
  static_assert(std::endian::native == std::endian::little);  // as SipHash reads words
  std::span<const std::byte> rest = bytes;
  std::uint64_t word = 0;
  for (; rest.size() >= sizeof(word); rest = rest.subspan(sizeof(word))) {
    std::memcpy(&word, rest.data(), sizeof(word));
    absorb(word);
  }
  word = std::uint64_t{bytes.size()} << 56;  // of the length only the last byte counts
  for (std::size_t i = 0; i < rest.size(); ++i)
    word |= std::to_integer<std::uint64_t>(rest[i]) << (8 * i);
  absorb(word);
  v2 ^= 0xff;
  rounds(kRoundsAtEnd);
  return v0 ^ v1 ^ v2 ^ v3;
}

}  // namespace weir
