#include "l4/wire/checksum.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace weir::wire {
namespace {

// Two 64-bit sums side by side: what every 64-bit machine that Weir runs on adds in one
// instruction.
using Pair = std::uint64_t __attribute__((vector_size(16)));

/// The sum of the 32-bit halves of `blocks` pieces of 32 bytes, in memory order. Four sums that do
/// not wait for each other take half the time of one: 70 ns against 140 for 1448 bytes (2026-11, on
/// a shared core).
std::uint64_t sum_of_blocks(const std::byte* at, std::size_t blocks) {
  const Pair mask{0xffffffff, 0xffffffff};
  Pair low_a{};
  Pair low_b{};
  Pair high_a{};
  Pair high_b{};
  for (; blocks > 0; --blocks, at += 32) {
    Pair a;
    Pair b;
    std::memcpy(&a, at, sizeof(a));
    std::memcpy(&b, at + sizeof(a), sizeof(b));
    low_a += a & mask;
    high_a += a >> 32;
    low_b += b & mask;
    high_b += b >> 32;
  }
  const Pair sum = (low_a + low_b) + (high_a + high_b);  // no piece is so long that one wraps
  return sum[0] + sum[1];
}

}  // namespace

ChecksumSum& ChecksumSum::add(std::span<const std::byte> bytes) {
  // The sum does not depend on byte order (RFC 1071, section 2 (B)), so 32-bit words are added in
  // memory order, and the folded result is swapped once.
  const std::size_t blocks = bytes.size() / 32;
  std::uint64_t sum = sum_of_blocks(bytes.data(), blocks);
  for (bytes = bytes.subspan(blocks * 32); !bytes.empty();
       bytes = bytes.subspan(std::min<std::size_t>(bytes.size(), 8))) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data(), std::min<std::size_t>(bytes.size(), 8));
    sum += (word & 0xffffffff) + (word >> 32);
  }
  while ((sum >> 16) != 0)
    sum = (sum & 0xffff) + (sum >> 16);
  auto folded = static_cast<std::uint16_t>(sum);
  if constexpr (std::endian::native == std::endian::little)
    folded = static_cast<std::uint16_t>((folded << 8) | (folded >> 8));
  sum_ += folded;
  return *this;
}

std::uint16_t ChecksumSum::finish() const {
  std::uint64_t sum = sum_;
  while ((sum >> 16) != 0)
    sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum);
}

ChecksumSum pseudo_header_sum(const IpAddress& source, const IpAddress& destination,
                              IpProtocol protocol, std::size_t length) {
  WEIR_ASSERT(source.family() == destination.family());
  const std::size_t skip = source.is_v4() ? 12 : 0;
  ChecksumSum sum;
  sum.add(std::as_bytes(std::span{source.bytes}.subspan(skip)));
  sum.add(std::as_bytes(std::span{destination.bytes}.subspan(skip)));
  sum.add(static_cast<std::uint16_t>(length >> 16));
  sum.add(static_cast<std::uint16_t>(length));
  sum.add(static_cast<std::uint16_t>(protocol));
  return sum;
}

}  // namespace weir::wire
