#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "l4/base/clock.h"
#include "l4/base/random.h"
#include "l4/base/siphash.h"
#include "l4/wire/address.h"

namespace weir::net {

/// What a "packet too big" cannot lower the path MTU below. IPv6 guarantees 1280 (RFC 8201, section
/// 4). IPv4 guarantees 68, with which an attacker who guessed a sequence number could make us send
/// a header for every few bytes; 552, 512 bytes and the longest headers, is what Linux uses.
inline constexpr std::uint16_t kPathMtuMinIpv4 = 552;
inline constexpr std::uint16_t kPathMtuMinIpv6 = 1280;

/// The next smaller MTU that networks have, for routers that do not say theirs (RFC 1191, section
/// 7.1); `length` is that of the packet that was too big.
[[nodiscard]] std::uint16_t next_lower_mtu(std::uint32_t length);

/// Path MTUs that are smaller than the device's, by destination (RFC 1191, RFC 8201). Only what a
/// transport has recognised as an answer to a packet of its own in flight may be entered (RFC 5927,
/// section 7.2); a path MTU is never raised, but forgotten after ten minutes (RFC 8201, section 4),
/// since the path may have become wider.
///
/// A table of sets of four, by a keyed hash, so that nobody can choose whose entry to push out.
/// Where a set is full the oldest entry goes: what is lost is one more packet, and the ICMP error
/// that it causes enters the path again. No memory is taken after construction. One core owns it.
class PathMtuCache {
 public:
  static constexpr std::size_t kEntriesMax = 4096;
  static constexpr Duration kAge = std::chrono::minutes{10};

  PathMtuCache(Random& random, Instant start);

  /// Enters a smaller MTU, floored as above. False when nothing came of it: a larger one is known
  /// to be wrong, or to be an old packet's.
  bool lower(const wire::IpAddress& destination, std::uint16_t mtu, Instant now);

  /// The MTU towards `destination`, at most `device_mtu`.
  [[nodiscard]] std::uint16_t mtu(const wire::IpAddress& destination,
                                  std::uint16_t device_mtu) const;

  /// Time for mtu(), which is asked where none is at hand. Costs nothing.
  void advance(Instant now) { now_ = now; }

  [[nodiscard]] std::uint64_t evicted() const { return evicted_; }

 private:
  struct Entry {
    wire::IpAddress destination;
    std::uint16_t mtu = 0;
    Instant until{};  // the entry is none from here on
  };
  static constexpr std::size_t kWays = 4;
  using Set = std::array<Entry, kWays>;
  static constexpr std::size_t kSets = kEntriesMax / kWays;
  static_assert((kSets & (kSets - 1)) == 0);

  [[nodiscard]] std::size_t set_of(const wire::IpAddress& destination) const;

  SipKey key_;
  std::vector<Set> sets_;
  Instant now_;
  Instant last_until_;  // of all entries: most of the time there is none, and no set to look at
  std::uint64_t evicted_ = 0;
};

}  // namespace weir::net
