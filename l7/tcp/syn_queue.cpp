#include "l7/tcp/syn_queue.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <span>

#include "l4/base/assert.h"

namespace weir::tcp {
namespace {

// RFC 6298, section 2.1; doubled with each retransmission (section 5.5).
constexpr Duration kFirstTimeout = std::chrono::seconds{1};

constexpr Duration timeout_after(std::uint8_t retransmissions) {
  return kFirstTimeout * (1U << retransmissions);
}

// The part of a source that one site owns: what somebody can spoof from behind one's own router.
// Lengths in bytes of the 16-byte form: /24 and /64.
constexpr std::size_t kPrefixBytesV4 = 15;
constexpr std::size_t kPrefixBytesV6 = 8;

// Below that a quarter is a handful of clients behind one address.
constexpr std::uint32_t kSharesFrom = 64;
constexpr std::uint32_t kShareDivisor = 4;

}  // namespace

SynQueue::SynQueue(std::uint32_t capacity, std::array<std::uint64_t, 2> prefix_secret)
    : capacity_{std::clamp<std::uint32_t>(capacity, 1, kCapacityMax)},
      prefix_key_{prefix_secret},
      table_{capacity_} {
  static_assert(std::has_single_bit(kPrefixBuckets));
  entries_.reserve(capacity_);  // address space only, until it is used
}

std::uint16_t SynQueue::prefix_bucket(const FlowKey& key) const {
  wire::IpAddress prefix = key.remote_address;
  const std::size_t length = prefix.is_v4() ? kPrefixBytesV4 : kPrefixBytesV6;
  std::fill(prefix.bytes.begin() + length, prefix.bytes.end(), std::uint8_t{0});
  const std::uint64_t hash = siphash<1, 3>(prefix_key_, std::as_bytes(std::span{prefix.bytes}));
  return static_cast<std::uint16_t>(hash & (kPrefixBuckets - 1));
}

bool SynQueue::prefix_is_over(const FlowKey& key) const {
  if (capacity_ < kSharesFrom) return false;
  return held_[prefix_bucket(key)] > capacity_ / kShareDivisor;
}

std::uint32_t SynQueue::index_of(std::uint64_t hash, const FlowKey& key) const {
  return table_.find(hash, [&](std::uint32_t index) { return entries_[index].record.key == key; })
      .value_or(kNoIndex);
}

void SynQueue::schedule(std::uint32_t index, Instant now) {
  HalfOpen& record = entries_[index].record;
  record.deadline = now + timeout_after(record.retransmissions);
  waiting_[record.retransmissions].append(entries_, index);
}

void SynQueue::back_off(std::uint32_t index, Instant now) {
  HalfOpen& record = entries_[index].record;
  waiting_[record.retransmissions].unlink(entries_, index);
  ++record.retransmissions;
  schedule(index, now);
}

void SynQueue::remove_at(std::uint32_t index) {
  Entry& entry = entries_[index];
  waiting_[entry.record.retransmissions].unlink(entries_, index);
  table_.erase(entry.tag, index);
  --held_[entry.bucket];
  entry.links.newer = free_;
  free_ = index;
}

HalfOpen& SynQueue::add(std::uint64_t hash, const HalfOpen& record, Instant now) {
  WEIR_ASSERT(!full());  // the caller has asked, and sent a cookie otherwise
  std::uint32_t index = free_;
  if (index != kNoIndex) {
    free_ = entries_[index].links.newer;
  } else {
    index = static_cast<std::uint32_t>(entries_.size());
    entries_.emplace_back();  // within what was reserved: as many as the table takes
  }
  Entry& entry = entries_[index];
  entry.record = record;
  entry.record.retransmissions = 0;
  entry.tag = static_cast<std::uint32_t>(hash);
  entry.bucket = prefix_bucket(record.key);
  ++held_[entry.bucket];  // cannot overflow: kCapacityMax
  table_.insert(hash, index);
  schedule(index, now);
  return entry.record;
}

HalfOpen* SynQueue::find(std::uint64_t hash, const FlowKey& key) {
  const std::uint32_t index = index_of(hash, key);
  return index == kNoIndex ? nullptr : &entries_[index].record;
}

void SynQueue::renew(std::uint64_t hash, const FlowKey& key, Instant now) {
  const std::uint32_t index = index_of(hash, key);
  WEIR_ASSERT(index != kNoIndex);  // the caller has just found it
  HalfOpen& record = entries_[index].record;
  // Counted like our own repetitions, so that who repeats a SYN for ever holds no place for ever.
  if (record.retransmissions == kRetransmissionsMax) return;
  waiting_[record.retransmissions].unlink(entries_, index);
  ++record.retransmissions;
  schedule(index, now);
}

void SynQueue::remove(std::uint64_t hash, const FlowKey& key) {
  const std::uint32_t index = index_of(hash, key);
  WEIR_ASSERT(index != kNoIndex);  // the caller has just found it
  remove_at(index);
}

Instant SynQueue::last_sent(const HalfOpen& record) {
  return record.deadline - timeout_after(record.retransmissions);
}

std::uint32_t SynQueue::earliest() const {
  std::uint32_t found = kNoIndex;
  for (const auto& list : waiting_) {
    if (list.empty()) continue;
    const std::uint32_t index = list.oldest();
    if (found == kNoIndex || entries_[index].record.deadline < entries_[found].record.deadline)
      found = index;
  }
  return found;
}

Instant SynQueue::next_deadline() const {
  const std::uint32_t index = earliest();
  return index == kNoIndex ? kNever : entries_[index].record.deadline;
}

}  // namespace weir::tcp
