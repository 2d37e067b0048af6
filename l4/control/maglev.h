#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "l4/base/siphash.h"
#include "l4/base/strong.h"
#include "l4/wire/address.h"

namespace weir::control {

/// A backend within its VIP, or an endpoint within its service, from 1; 0 is "none". What slots
/// hold.
using MemberNumber = Strong<std::uint16_t, struct MemberNumberTag>;

/// A backend as the table sees it. Address and port are its identity: they alone, with the seed,
/// decide which slots it prefers, so every node builds the same table whatever numbers it gave out
/// and in whatever order backends were added.
struct MaglevMember {
  wire::IpAddress address;
  wire::Port port;           ///< 0: the client's
  std::uint32_t weight = 1;  ///< 0 takes no slot
  MemberNumber number;
};

/// Consistent-hashing table after Maglev (Eisenbud et al., NSDI 2016, section 3.4), with weights.
/// `size` is prime, so that every preference list visits every slot. Identities are distinct.
/// Slots are all zero if no member has weight.
///
/// With equal weights shares differ by at most one slot. Price: 65,537 slots for 1,000 members take
/// about 2 ms; bench/maglev_bench.cpp has the numbers.
std::vector<MemberNumber> build_maglev_table(std::span<const MaglevMember> members,
                                             std::uint32_t size, const SipKey& seed);

/// Equal on two nodes exactly if they choose alike (but for a collision of 2^-64): hashes size,
/// and per slot the identity instead of the number, which is local.
std::uint64_t maglev_digest(std::span<const MemberNumber> table,
                            std::span<const MaglevMember> members);

/// What tables and hashes of requests are made with: two words from the configuration's secret.
SipKey seed_of(const std::string& hash_seed);

}  // namespace weir::control
