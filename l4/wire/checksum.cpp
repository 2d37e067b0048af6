#include "l4/wire/checksum.h"

#include <bit>
#include <cstring>

namespace weir::wire {

ChecksumSum& ChecksumSum::add(std::span<const std::byte> bytes) {
  // The sum does not depend on byte order (RFC 1071, section 2 (B)), so eight bytes are added at a
  // time as two 32-bit halves in memory order, and the folded result is swapped once.
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  const std::byte* at = bytes.data();
  std::size_t left = bytes.size();
  for (; left >= 8; left -= 8, at += 8) {
    std::uint64_t word;
    std::memcpy(&word, at, 8);
    low += word & 0xffffffff;
    high += word >> 32;
  }
  std::uint64_t tail = 0;
  if (left > 0) std::memcpy(&tail, at, left);
  std::uint64_t sum = low + high + (tail & 0xffffffff) + (tail >> 32);
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
