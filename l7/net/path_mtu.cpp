#include "l7/net/path_mtu.h"

#include <algorithm>
#include <span>

namespace weir::net {

std::uint16_t next_lower_mtu(std::uint32_t length) {
  // RFC 1191, section 7.1, table 7-1, and 1492 of PPPoE is in it. What is below the floor is left
  // out: it would be raised again.
  static constexpr std::array<std::uint16_t, 8> kPlateaus{32000, 17914, 8166, 4352,
                                                          2002,  1492,  1006, kPathMtuMinIpv4};
  const auto* found =
      std::ranges::find_if(kPlateaus, [&](std::uint16_t plateau) { return plateau < length; });
  return found == kPlateaus.end() ? kPathMtuMinIpv4 : *found;
}

PathMtuCache::PathMtuCache(Random& random, Instant start)
    : key_{{random.next(), random.next()}}, sets_(kSets), now_{start}, last_until_{start} {}

std::size_t PathMtuCache::set_of(const wire::IpAddress& destination) const {
  return siphash<1, 3>(key_, std::as_bytes(std::span{destination.bytes})) & (kSets - 1);
}

bool PathMtuCache::lower(const wire::IpAddress& destination, std::uint16_t mtu, Instant now) {
  now_ = std::max(now_, now);
  mtu = std::max(mtu, destination.is_v4() ? kPathMtuMinIpv4 : kPathMtuMinIpv6);
  Set& set = sets_[set_of(destination)];
  auto* entry = std::ranges::find(set, destination, &Entry::destination);
  const bool is_known = entry != set.end() && entry->until > now_;
  if (is_known && mtu > entry->mtu) return false;
  if (entry == set.end()) {
    entry = std::ranges::min_element(set, {}, &Entry::until);  // what is over comes first
    if (entry->until > now_) ++evicted_;
  }
  *entry = {.destination = destination, .mtu = mtu, .until = now_ + kAge};
  last_until_ = entry->until;
  return true;
}

std::uint16_t PathMtuCache::mtu(const wire::IpAddress& destination,
                                std::uint16_t device_mtu) const {
  if (now_ >= last_until_) return device_mtu;
  const Set& set = sets_[set_of(destination)];
  const auto* entry = std::ranges::find(set, destination, &Entry::destination);
  if (entry == set.end() || entry->until <= now_) return device_mtu;
  return std::min(entry->mtu, device_mtu);
}

}  // namespace weir::net
