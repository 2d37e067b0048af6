#include "l7/tcp/time_wait.h"

#include <algorithm>

#include "l4/base/assert.h"

namespace weir::tcp {

TimeWaitTable::TimeWaitTable(std::uint32_t records_max, Duration lifetime)
    : lifetime_{lifetime},
      records_max_{std::max<std::uint32_t>(records_max, 1)},
      table_{records_max_} {
  entries_.reserve(records_max_);  // address space only, until it is used
}

std::uint32_t TimeWaitTable::index_of(std::uint64_t hash, const FlowKey& key) const {
  return table_.find(hash, [&](std::uint32_t index) { return entries_[index].record.key == key; })
      .value_or(kNone);
}

void TimeWaitTable::append(std::uint32_t index) {
  Entry& entry = entries_[index];
  entry.older = newest_;
  entry.newer = kNone;
  (newest_ == kNone ? oldest_ : entries_[newest_].newer) = index;
  newest_ = index;
}

void TimeWaitTable::unlink(std::uint32_t index) {
  const Entry& entry = entries_[index];
  (entry.older == kNone ? oldest_ : entries_[entry.older].newer) = entry.newer;
  (entry.newer == kNone ? newest_ : entries_[entry.newer].older) = entry.older;
}

void TimeWaitTable::remove_at(std::uint32_t index) {
  unlink(index);
  table_.erase(entries_[index].tag, index);
  entries_[index].newer = free_;
  free_ = index;
}

bool TimeWaitTable::add(std::uint64_t hash, const TimeWaitRecord& record, Instant now) {
  const bool evict = table_.size() == records_max_;
  if (evict) remove_at(oldest_);
  std::uint32_t index = free_;
  if (index != kNone) {
    free_ = entries_[index].newer;
  } else {
    index = static_cast<std::uint32_t>(entries_.size());
    entries_.emplace_back();
  }
  entries_[index] = {.record = record,
                     .older = kNone,
                     .newer = kNone,
                     .tag = static_cast<std::uint32_t>(hash),
                     .expiry = now + lifetime_};
  table_.insert(hash, index);
  append(index);
  return evict;
}

const TimeWaitRecord* TimeWaitTable::find(std::uint64_t hash, const FlowKey& key) const {
  const std::uint32_t index = index_of(hash, key);
  return index == kNone ? nullptr : &entries_[index].record;
}

void TimeWaitTable::restart(std::uint64_t hash, const FlowKey& key, Instant now) {
  const std::uint32_t index = index_of(hash, key);
  WEIR_ASSERT(index != kNone);  // the caller has just found it
  unlink(index);
  entries_[index].expiry = now + lifetime_;
  append(index);
}

void TimeWaitTable::remove(std::uint64_t hash, const FlowKey& key) {
  const std::uint32_t index = index_of(hash, key);
  WEIR_ASSERT(index != kNone);  // the caller has just found it
  remove_at(index);
}

void TimeWaitTable::expire(Instant now) {
  while (oldest_ != kNone && entries_[oldest_].expiry <= now)
    remove_at(oldest_);
}

Instant TimeWaitTable::next_expiry() const {
  return oldest_ == kNone ? kNever : entries_[oldest_].expiry;
}

}  // namespace weir::tcp
