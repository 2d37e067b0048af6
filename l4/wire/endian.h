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
  explicit constexpr BigEndian(Value host_order) {
    for (std::size_t i = 0; i < sizeof(Value); ++i)
      bytes_[i] = static_cast<std::uint8_t>(host_order >> (8 * (sizeof(Value) - 1 - i)));
  }

  [[nodiscard]] constexpr Value host() const {
    Value value = 0;
    for (const std::uint8_t byte : bytes_)
      value = static_cast<Value>((value << 8) | byte);
    return value;
  }

  friend constexpr bool operator==(const BigEndian&, const BigEndian&) = default;

 private:
  std::array<std::uint8_t, sizeof(Value)> bytes_{};
};

using be16 = BigEndian<std::uint16_t>;
using be32 = BigEndian<std::uint32_t>;
using be64 = BigEndian<std::uint64_t>;

static_assert(sizeof(be16) == 2 && alignof(be16) == 1);
static_assert(be16{0x1234}.host() == 0x1234);
static_assert(be32{0xdeadbeef}.host() == 0xdeadbeef);

}  // namespace weir::wire
