#pragma once

#include <cstdint>

namespace weir::tcp {

/// A 32-bit TCP sequence number (RFC 9293, section 3.4). Order is circular: it is only meaningful
/// between numbers less than 2^31 apart, which the largest window (2^30) guarantees.
class Seq {
 public:
  constexpr Seq() = default;
  explicit constexpr Seq(std::uint32_t value) : value_{value} {}
  [[nodiscard]] constexpr std::uint32_t value() const { return value_; }

  friend constexpr Seq operator+(Seq seq, std::uint32_t count) { return Seq{seq.value_ + count}; }
  friend constexpr Seq operator-(Seq seq, std::uint32_t count) { return Seq{seq.value_ - count}; }
  constexpr Seq& operator+=(std::uint32_t count) {
    value_ += count;
    return *this;
  }

  /// How far `this` is behind `later`, which must not be before it.
  [[nodiscard]] constexpr std::uint32_t distance_to(Seq later) const {
    return later.value_ - value_;
  }

  friend constexpr bool operator==(Seq, Seq) = default;
  friend constexpr bool operator<(Seq a, Seq b) { return a.difference(b) < 0; }
  friend constexpr bool operator>(Seq a, Seq b) { return b < a; }
  friend constexpr bool operator<=(Seq a, Seq b) { return a.difference(b) <= 0; }
  friend constexpr bool operator>=(Seq a, Seq b) { return b <= a; }

 private:
  // Conversion of an unsigned value beyond the range is modulo 2^32 since C++20.
  [[nodiscard]] constexpr std::int32_t difference(Seq other) const {
    return static_cast<std::int32_t>(value_ - other.value_);
  }

  std::uint32_t value_ = 0;
};

constexpr Seq later_of(Seq a, Seq b) { return a < b ? b : a; }
constexpr Seq earlier_of(Seq a, Seq b) { return a < b ? a : b; }

static_assert(Seq{0xfffffff0} < Seq{0x10});
static_assert(Seq{0xfffffff0}.distance_to(Seq{0x10}) == 0x20);

}  // namespace weir::tcp
