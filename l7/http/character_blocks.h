#pragma once

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "l7/http/characters.h"

/// Bytes are classified sixteen at a time where the machine can, which is what makes the parser of
/// heads fast (README.md has the numbers).
namespace weir::http {

inline constexpr std::size_t kBlock = 16;
/// Bit n is set where byte n of a block belongs to a class.
using Members = std::uint32_t;
inline constexpr Members kAllMembers = 0xffff;

#if defined(__SSE2__)
/// Shifts the range to the upper end of the signed numbers, where one comparison finds it.
inline __m128i in_range(__m128i bytes, char first, char last) {
  const __m128i shifted = _mm_add_epi8(bytes, _mm_set1_epi8(static_cast<char>(127 - last)));
  return _mm_cmpgt_epi8(shifted, _mm_set1_epi8(static_cast<char>(126 - (last - first))));
}
inline __m128i is(__m128i bytes, char c) { return _mm_cmpeq_epi8(bytes, _mm_set1_epi8(c)); }
#endif

// The classes: one byte, and a block of them.

/// What nearly all lines are made of: VCHAR and spaces.
struct PlainText {
  static bool takes(char c) { return c >= ' ' && c <= '~'; }
#if defined(__SSE2__)
  static __m128i takes(__m128i bytes) { return in_range(bytes, ' ', '~'); }
#endif
};

/// What nearly all names of fields are made of: letters and '-'.
struct CommonName {
  static bool takes(char c) { return c == '-' || is_in_range(c | 0x20); }
#if defined(__SSE2__)
  static __m128i takes(__m128i bytes) {
    const __m128i letter = in_range(_mm_or_si128(bytes, _mm_set1_epi8(0x20)), 'a', 'z');
    return _mm_or_si128(letter, is(bytes, '-'));
  }
#endif
 private:
  static bool is_in_range(int lower) { return lower >= 'a' && lower <= 'z'; }
};

/// kTargetCharacter.
struct TargetText {
  static bool takes(char c) { return is_in(c, kTargetCharacter); }
#if defined(__SSE2__)
  static __m128i takes(__m128i bytes) {
    return _mm_andnot_si128(is(bytes, '#'), in_range(bytes, '!', '~'));
  }
#endif
};

/// kHostCharacter.
struct HostText {
  static bool takes(char c) { return is_in(c, kHostCharacter); }
#if defined(__SSE2__)
  static __m128i takes(__m128i bytes) {
    const __m128i letter = in_range(_mm_or_si128(bytes, _mm_set1_epi8(0x20)), 'a', 'z');
    const __m128i other = _mm_or_si128(_mm_or_si128(is(bytes, '-'), is(bytes, '.')),
                                       _mm_or_si128(is(bytes, '_'), is(bytes, '~')));
    return _mm_or_si128(_mm_or_si128(letter, other), in_range(bytes, '0', '9'));
  }
#endif
};

struct Dot {
  static bool takes(char c) { return c == '.'; }
#if defined(__SSE2__)
  static __m128i takes(__m128i bytes) { return is(bytes, '.'); }
#endif
};

template <typename Class>
Members members_one_by_one(std::string_view text, std::size_t at, std::size_t size) {
  Members members = 0;
  for (std::size_t i = 0; i < size; ++i)
    members |= static_cast<Members>(Class::takes(text[at + i]) ? 1 : 0) << i;
  return members;
}

/// Of the kBlock bytes at text[at], all of which are there.
template <typename Class>
Members members_of_block(std::string_view text, std::size_t at) {
#if defined(__SSE2__)
  // The cast is safe for an unaligned load of bytes that all lie within the text.
  const auto* const block = reinterpret_cast<const __m128i*>(text.data() + at);
  return static_cast<Members>(_mm_movemask_epi8(Class::takes(_mm_loadu_si128(block))));
#else
  return members_one_by_one<Class>(text, at, kBlock);
#endif
}

/// Of text[at, end), which is no longer than a block; what is behind it is no member.
template <typename Class>
Members members_of_rest(std::string_view text, std::size_t at, std::size_t end) {
  if (end < kBlock) return members_one_by_one<Class>(text, at, end - at);
  return members_of_block<Class>(text, end - kBlock) >> (kBlock - (end - at));
}

/// The first position from `at` on, but before the end, whose byte does not belong to the class;
/// the end, when all do.
template <typename Class>
std::size_t skip(std::string_view text, std::size_t at) {
  for (; at + kBlock <= text.size(); at += kBlock)
    if (const Members members = members_of_block<Class>(text, at); members != kAllMembers)
      return at + static_cast<std::size_t>(std::countr_one(members));
  if (at >= text.size()) return text.size();
  const Members members = members_of_rest<Class>(text, at, text.size());
  return at + static_cast<std::size_t>(std::countr_one(members));
}

}  // namespace weir::http
