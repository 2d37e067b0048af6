#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace weir::wire {

/// An unsigned integer in network byte order, as it lies in a packet. It has no arithmetic and no
/// implicit conversion: host order exists only after host(). Alignment is 1, so structures made of
/// these have no padding.
template <typename Value>
class BigEndian {
  static_assert(std::is_unsigned_v<Value>);

 public:
  constexpr BigEndian() = default;
  explicit constexpr BigEndian(Value host_order)
      : bytes_{std::bit_cast<std::array<std::uint8_t, sizeof(Value)>>(swapped(host_order))} {}

  [[nodiscard]] constexpr Value host() const { return swapped(std::bit_cast<Value>(bytes_)); }

  friend constexpr bool operator==(const BigEndian&, const BigEndian&) = default;

 private:
  /// One instruction. Of a loop over bytes GCC 12 makes shifts of each byte as soon as a value lies
  /// beside others: 180 instructions instead of 85 to write a TCP header.
  static constexpr Value swapped(Value value) {
    static_assert(std::endian::native == std::endian::little);
    if constexpr (sizeof(Value) == 2) return __builtin_bswap16(value);
    if constexpr (sizeof(Value) == 4) return __builtin_bswap32(value);
    if constexpr (sizeof(Value) == 8) return __builtin_bswap64(value);
    return value;
  }

  std::array<std::uint8_t, sizeof(Value)> bytes_{};
};

using be16 = BigEndian<std::uint16_t>;
using be32 = BigEndian<std::uint32_t>;
using be64 = BigEndian<std::uint64_t>;

static_assert(sizeof(be16) == 2 && alignof(be16) == 1);
static_assert(be16{0x1234}.host() == 0x1234);
static_assert(be32{0xdeadbeef}.host() == 0xdeadbeef);

}  // namespace weir::wire
