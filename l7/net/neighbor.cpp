#include "l7/net/neighbor.h"

#include <algorithm>

namespace weir::net {

NeighborCache::NeighborCache(NeighborOutput& output, Random random, Instant start)
    : output_{output}, random_{random}, wheel_{start} {
  index_.reserve(kEntriesMax);
}

std::optional<wire::MacAddress> NeighborCache::lookup(const wire::IpAddress& next_hop,
                                                      Instant now) {
  Entry* entry = find(next_hop);
  if (entry == nullptr) return std::nullopt;
  entry->last_used = now;
  settle(*entry, now);
  switch (entry->state) {
    case State::kReachable:
      return entry->mac;
    case State::kStale:
      if (entry->asked == 0) ask(*entry, now);
      return entry->mac;
    case State::kIncomplete:
    case State::kFailed:
      return std::nullopt;
  }
  return std::nullopt;
}

void NeighborCache::hold(const wire::IpAddress& next_hop, port::Packet packet, Instant now) {
  Entry* entry = find(next_hop);
  if (entry == nullptr) {
    entry = create(next_hop, now);
    if (entry == nullptr) {
      ++counters_.table_full;
      return;
    }
    ask(*entry, now);
  }
  if (entry->state == State::kFailed) {
    ++counters_.unreachable_dropped;
    return;
  }
  WEIR_ASSERT(entry->state == State::kIncomplete);  // lookup() has just found no address
  if (entry->waiting_count == kPendingPerEntry) {
    // The oldest goes: its sender is the closest to sending it again.
    std::ranges::move(entry->waiting.begin() + 1, entry->waiting.end(), entry->waiting.begin());
    --entry->waiting_count;
    --pending_;
    ++counters_.pending_dropped;
  } else if (pending_ == kPendingMax) {
    ++counters_.pending_dropped;
    return;
  }
  entry->waiting[entry->waiting_count++] = std::move(packet);
  ++pending_;
}

void NeighborCache::learn(const wire::IpAddress& address, const wire::MacAddress& mac,
                          Instant now) {
  Entry* entry = find(address);
  if (entry == nullptr) entry = create(address, now);
  if (entry == nullptr) {
    ++counters_.table_full;
    return;
  }
  // A question proves that they can reach us, not that we can reach them (RFC 4861, section 7.2.3).
  const bool known = entry->state == State::kReachable || entry->state == State::kStale;
  if (known && entry->mac == mac) return;
  entry->mac = mac;
  become_stale(*entry, now);
}

void NeighborCache::answer(const Answer& answer, Instant now) {
  Entry* entry = find(answer.address);
  if (entry == nullptr) return;
  settle(*entry, now);
  const bool known = entry->state == State::kReachable || entry->state == State::kStale;
  if (!known) {
    if (!answer.mac) return;
    entry->mac = *answer.mac;
    answer.solicited ? become_reachable(*entry, now) : become_stale(*entry, now);
    return;
  }
  const bool differs = answer.mac && *answer.mac != entry->mac;
  if (differs && !answer.overrides) {
    // Somebody else claims the address but does not insist: find out by asking.
    if (entry->state == State::kReachable) become_stale(*entry, now);
    return;
  }
  if (differs) entry->mac = *answer.mac;
  if (answer.solicited)
    become_reachable(*entry, now);
  else if (differs)
    become_stale(*entry, now);
}

void NeighborCache::confirm(const wire::IpAddress& address, const wire::MacAddress& mac,
                            Instant now) {
  Entry* entry = find(address);
  if (entry == nullptr || entry->mac != mac) return;
  if (entry->state == State::kReachable || entry->state == State::kStale)
    become_reachable(*entry, now);
}

void NeighborCache::advance(Instant now) {
  wheel_.advance(now, [&](Timer& timer) { on_timer(EntryId::from_raw(timer.user), now); });
}

std::optional<NeighborCache::State> NeighborCache::state(const wire::IpAddress& address,
                                                         Instant now) {
  Entry* entry = find(address);
  if (entry == nullptr) return std::nullopt;
  settle(*entry, now);
  return entry->state;
}

NeighborCache::Entry* NeighborCache::find(const wire::IpAddress& address) {
  const auto found = index_.find(address);
  return found == index_.end() ? nullptr : entries_.get(found->second);
}

NeighborCache::Entry* NeighborCache::create(const wire::IpAddress& address, Instant now) {
  if (entries_.size() == entries_.capacity() && !evict_one()) return nullptr;
  const EntryId id = entries_.emplace();
  Entry* entry = entries_.get(id);
  entry->address = address;
  entry->last_used = now;
  entry->timer.user = id.raw();
  index_.emplace(address, id);
  return entry;
}

/// Gives up the entry that has been unused for longest. Those that are known to work stay, so that
/// a flood from made-up sources on the link cannot push out the router. Walks the whole table, but
/// only for a new neighbour while it is full.
bool NeighborCache::evict_one() {
  EntryId victim;
  Instant oldest = kNever;
  entries_.for_each([&](EntryId id, const Entry& entry) {
    if (entry.state == State::kReachable || entry.last_used >= oldest) return;
    victim = id;
    oldest = entry.last_used;
  });
  if (!victim) return false;
  ++counters_.evicted;
  erase(victim);
  return true;
}

void NeighborCache::erase(EntryId id) {
  Entry& entry = *entries_.get(id);
  drop_waiting(entry, counters_.pending_dropped);
  index_.erase(entry.address);
  entries_.erase(id);
}

/// Reachability ends by time; it is noticed when somebody looks.
void NeighborCache::settle(Entry& entry, Instant now) {
  if (entry.state == State::kReachable && now >= entry.reachable_until) {
    entry.state = State::kStale;
    entry.asked = 0;
  }
}

void NeighborCache::ask(Entry& entry, Instant now) {
  ++entry.asked;
  ++counters_.solicitations_sent;
  std::optional<wire::MacAddress> known;
  if (entry.state == State::kStale) known = entry.mac;
  wheel_.arm(entry.timer, now + kRetry);
  output_.solicit(entry.address, known);
}

void NeighborCache::become_reachable(Entry& entry, Instant now) {
  const bool was_unknown = entry.state == State::kIncomplete || entry.state == State::kFailed;
  if (was_unknown) ++counters_.resolved;
  entry.state = State::kReachable;
  entry.asked = 0;
  // Between half and one and a half times (RFC 4861, section 6.3.2), so that neighbours which
  // started together do not ask together for ever.
  const auto half_ms = static_cast<std::uint32_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(kReachableTime).count() / 2);
  entry.reachable_until = now + std::chrono::milliseconds{half_ms + random_.below(2 * half_ms)};
  wheel_.arm(entry.timer, now + kIdleTime);
  deliver_waiting(entry);
}

void NeighborCache::become_stale(Entry& entry, Instant now) {
  const bool was_unknown = entry.state == State::kIncomplete || entry.state == State::kFailed;
  if (was_unknown) ++counters_.resolved;
  entry.state = State::kStale;
  entry.asked = 0;
  wheel_.arm(entry.timer, now + kIdleTime);
  deliver_waiting(entry);
}

void NeighborCache::deliver_waiting(Entry& entry) {
  const std::size_t count = std::exchange(entry.waiting_count, 0);
  pending_ -= count;
  for (std::size_t i = 0; i < count; ++i)
    output_.deliver(std::move(entry.waiting[i]), entry.address, entry.mac);
}

void NeighborCache::drop_waiting(Entry& entry, std::uint64_t& counter) {
  counter += entry.waiting_count;
  pending_ -= entry.waiting_count;
  for (std::size_t i = 0; i < entry.waiting_count; ++i)
    entry.waiting[i].reset();
  entry.waiting_count = 0;
}

void NeighborCache::on_timer(EntryId id, Instant now) {
  Entry* entry = entries_.get(id);
  WEIR_ASSERT(entry != nullptr);  // erasing an entry takes its timer off the wheel
  settle(*entry, now);
  switch (entry->state) {
    case State::kIncomplete:
      if (entry->asked < kAttempts) return ask(*entry, now);
      ++counters_.failed;
      entry->state = State::kFailed;
      drop_waiting(*entry, counters_.unreachable_dropped);
      wheel_.arm(entry->timer, now + kHoldDown);
      return;
    case State::kFailed:
      return erase(id);
    case State::kStale:
      if (entry->asked >= kAttempts) {
        // Gone, or moved to another station: the next packet asks everybody.
        ++counters_.lost;
        return erase(id);
      }
      if (entry->asked > 0) return ask(*entry, now);
      [[fallthrough]];
    case State::kReachable:
      if (now - entry->last_used >= kIdleTime) return erase(id);
      wheel_.arm(entry->timer, entry->last_used + kIdleTime);
      return;
  }
}

}  // namespace weir::net
