#include "l4/control/maglev.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <tuple>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"

namespace weir::control {
namespace {

std::uint64_t identity_hash(const SipKey& key, const MaglevMember& member, std::uint8_t purpose) {
  std::array<std::byte, 19> bytes{};
  std::memcpy(bytes.data(), member.address.bytes.data(), 16);
  bytes[16] = static_cast<std::byte>(member.port.value() >> 8);
  bytes[17] = static_cast<std::byte>(member.port.value() & 0xff);
  bytes[18] = static_cast<std::byte>(purpose);
  return siphash(key, bytes);
}

/// Slots already taken. A bit each, so that the many probes stay in the first-level cache.
class TakenSlots {
 public:
  explicit TakenSlots(std::uint32_t size) : words_((size + 63) / 64) {}
  [[nodiscard]] bool contains(std::uint32_t slot) const {
    return ((words_[slot / 64] >> (slot % 64)) & 1) != 0;
  }
  void add(std::uint32_t slot) { words_[slot / 64] |= std::uint64_t{1} << (slot % 64); }

 private:
  std::vector<std::uint64_t> words_;
};

/// A member's place in its preference list: offset, offset + skip, offset + 2 skip … mod size.
struct Walker {
  MemberNumber number;
  std::uint32_t position = 0;
  std::uint32_t skip = 0;
  std::uint64_t stride = 0;  ///< time between two turns, inverse to the weight
  std::uint64_t next_turn = 0;
};

// Times are fixed-point. 2^36 keeps time x total weight below 2^63 for 4096 backends of weight
// 10000, and the rounding of a stride below one part in a million.
constexpr std::uint64_t kTimeUnit = std::uint64_t{1} << 36;

std::vector<Walker> make_walkers(std::span<const MaglevMember> members, std::uint32_t size,
                                 const SipKey& seed) {
  std::vector<MaglevMember> ordered;
  for (const MaglevMember& member : members) {
    if (member.weight > 0) ordered.push_back(member);
  }
  std::ranges::sort(ordered, [](const MaglevMember& a, const MaglevMember& b) {
    return std::tie(a.address, a.port) < std::tie(b.address, b.port);
  });
  std::vector<Walker> walkers;
  walkers.reserve(ordered.size());
  for (const MaglevMember& member : ordered) {
    const std::uint64_t stride = kTimeUnit / member.weight;
    walkers.push_back(
        {.number = member.number,
         .position = static_cast<std::uint32_t>(identity_hash(seed, member, 0) % size),
         .skip = static_cast<std::uint32_t>(identity_hash(seed, member, 1) % (size - 1) + 1),
         .stride = stride,
         .next_turn = stride / 2});
  }
  return walkers;
}

/// Who takes a slot next. A member of weight w has its turns at 0.5/w, 1.5/w, 2.5/w …, so the order
/// of two members' turns depends on no third one: that keeps a change of one from moving the
/// others. The half makes shares round to the nearest slot; without it they round down and the
/// heaviest member collects what is left (Sainte-Laguë against D'Hondt). Turns are kept in buckets
/// of time, as many as slots, so that a turn costs O(1); a heap took twice the time of the whole
/// construction.
class TurnQueue {
 public:
  TurnQueue(std::vector<Walker>& walkers, std::uint32_t size, std::uint64_t total_weight)
      : walkers_{walkers},
        total_weight_{total_weight},
        // Up to bucket b at least b - walkers turns lie, so this many hold `size` turns.
        heads_(size + walkers.size() + 1, kEnd),
        next_(walkers.size(), kEnd) {
    for (std::uint32_t i = 0; i < walkers.size(); ++i)
      insert(i);
  }

  void insert(std::uint32_t walker) {
    const std::uint64_t bucket = walkers_[walker].next_turn * total_weight_ / kTimeUnit;
    if (bucket >= heads_.size()) return;  // the table is full before this turn comes
    next_[walker] = heads_[bucket];
    heads_[bucket] = walker;
  }

  /// The walkers of the next bucket that has any, in the order of their turns.
  const std::vector<std::uint32_t>& take_bucket() {
    while (heads_[current_] == kEnd)
      ++current_;  // ends: see heads_
    due_.clear();
    for (std::uint32_t i = heads_[current_]; i != kEnd; i = next_[i])
      due_.push_back(i);
    heads_[current_] = kEnd;
    std::ranges::reverse(due_);  // inserted at the head; mostly in order afterwards
    const auto turn = [this](std::uint32_t i) { return std::pair{walkers_[i].next_turn, i}; };
    if (!std::ranges::is_sorted(due_, {}, turn)) std::ranges::sort(due_, {}, turn);
    return due_;
  }

 private:
  static constexpr std::uint32_t kEnd = ~std::uint32_t{0};
  std::vector<Walker>& walkers_;
  std::uint64_t total_weight_;
  std::vector<std::uint32_t> heads_;
  std::vector<std::uint32_t> next_;
  std::vector<std::uint32_t> due_;
  std::size_t current_ = 0;
};

std::uint32_t take_free_slot(Walker& walker, const TakenSlots& taken, std::uint32_t size) {
  // Ends: size is prime, so the walk meets every slot, and the caller knows that one is free.
  for (;;) {
    const std::uint32_t slot = walker.position;
    walker.position += walker.skip;
    if (walker.position >= size) walker.position -= size;
    if (!taken.contains(slot)) return slot;
  }
}

}  // namespace

std::vector<MemberNumber> build_maglev_table(std::span<const MaglevMember> members,
                                             std::uint32_t size, const SipKey& seed) {
  WEIR_ASSERT(size > 1 && size < (1U << 31));  // the model admits primes up to 1,048,573 only
  std::vector<MemberNumber> table(size);
  std::vector<Walker> walkers = make_walkers(members, size, seed);
  if (walkers.empty()) return table;

  std::uint64_t total_weight = 0;
  for (const MaglevMember& member : members)
    total_weight += member.weight;
  TurnQueue turns{walkers, size, total_weight};
  TakenSlots taken{size};
  std::uint32_t filled = 0;
  while (filled < size) {
    for (const std::uint32_t index : turns.take_bucket()) {
      if (filled == size) break;
      Walker& walker = walkers[index];
      const std::uint32_t slot = take_free_slot(walker, taken, size);
      taken.add(slot);
      table[slot] = walker.number;
      ++filled;
      walker.next_turn += walker.stride;
      turns.insert(index);
    }
  }
  return table;
}

std::uint64_t maglev_digest(std::span<const MemberNumber> table,
                            std::span<const MaglevMember> members) {
  // Not a secret: digests are compared between nodes and shown, so the key is a constant.
  constexpr SipKey kPublic{{0x77656972, 0x6d61676c6576}};
  std::vector<std::uint64_t> identities;
  for (const MaglevMember& member : members) {
    const std::size_t number = member.number.value();
    if (identities.size() <= number) identities.resize(number + 1);
    identities[number] = identity_hash(kPublic, member, 2);
  }
  std::uint64_t digest = table.size();
  for (const MemberNumber number : table) {
    const std::size_t index = number.value();
    const std::uint64_t identity = index < identities.size() ? identities[index] : 0;
    digest = (digest ^ identity) * 0x9e3779b97f4a7c15;
    digest ^= digest >> 29;
  }
  return digest;
}

SipKey seed_of(const std::string& hash_seed) {
  // Public constants: they stretch the secret to two words, they are none themselves.
  constexpr SipKey kFirst{{0x77656972206f6e65, 1}};
  constexpr SipKey kSecond{{0x776569722074776f, 2}};
  return {{siphash(kFirst, as_bytes(hash_seed)), siphash(kSecond, as_bytes(hash_seed))}};
}

}  // namespace weir::control
