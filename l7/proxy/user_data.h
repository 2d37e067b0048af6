#pragma once

#include <cstdint>

#include "l4/base/assert.h"
#include "l4/base/slab.h"
#include "l7/tcp/stack.h"

namespace weir::proxy {

/// Whose connection, timer or listener it is: two bits beside a slab handle in one word. Slab
/// indexes stay below 2^28, so the top bits of the index are free.
enum class Owner : std::uint32_t { kListener = 0, kClient = 1, kUpstream = 2, kExchange = 3 };

inline constexpr unsigned kOwnerShift = 28;
inline constexpr std::uint32_t kIndexMask = (1U << kOwnerShift) - 1;

template <typename Tag>
tcp::UserData user_data(Owner owner, Handle<Tag> handle) {
  WEIR_ASSERT(handle.index <= kIndexMask);  // slab capacities are far below
  handle.index |= static_cast<std::uint32_t>(owner) << kOwnerShift;
  return handle.raw();
}

inline Owner owner_of(tcp::UserData user) {
  return static_cast<Owner>((user & 0xffffffff) >> kOwnerShift);
}

template <typename Tag>
Handle<Tag> handle_of(tcp::UserData user) {
  Handle<Tag> handle = Handle<Tag>::from_raw(user);
  handle.index &= kIndexMask;
  return handle;
}

}  // namespace weir::proxy
