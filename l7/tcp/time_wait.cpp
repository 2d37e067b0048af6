#include "l7/tcp/time_wait.h"

#include <algorithm>

#include "l4/base/assert.h"

namespace weir::tcp {
namespace {

// How far the next connection's numbers start beyond the old ones: more than a window of old
// duplicates without time stamps (RFC 9293, section 3.4.3).
constexpr std::uint32_t kReuseGap = 64 * 1024;

constexpr Duration kConnectAgain = std::chrono::seconds{1};

/// Time stamps are compared like sequence numbers (RFC 7323, section 5.2).
bool is_newer(std::uint32_t stamp, std::uint32_t than) { return Seq{stamp} > Seq{than}; }

}  // namespace

bool may_reuse_for_syn(const TimeWaitRecord& record, Seq seq,
                       const std::optional<Timestamps>& stamps) {
  // RFC 6191 says "greater than the last sequence number seen", which is that of the peer's FIN,
  // just before receive_next. One more is asked for: it costs a new connection in 2^31, and the old
  // one's last ACK does not acknowledge the new SYN.
  const bool seq_is_beyond = seq > record.receive_next;
  // Neither old nor new stamps, or a new connection that does without: the sequence number decides.
  if (!stamps) return seq_is_beyond;
  // Stamps only now: what is left of the old connection lacks them and stands out from the new one
  // (RFC 7323, section 3.2), as far as that does not forgive segments without.
  if (!record.stamps) return true;
  if (is_newer(stamps->value, record.stamps->received)) return true;
  // A peer's clock may tick slower than it opens connections.
  return stamps->value == record.stamps->received && seq_is_beyond;
}

bool may_reuse_for_connect(const TimeWaitRecord& record, Instant now, std::uint32_t tsval) {
  if (!record.stamps || now - record.since < kConnectAgain) return false;
  // A peer in TIME-WAIT, after both sides have closed at once, applies RFC 6191 to our SYN.
  return is_newer(tsval, record.stamps->sent);
}

Seq sequence_after(const TimeWaitRecord& record, Seq fresh) {
  return later_of(fresh, record.send_next + kReuseGap);
}

TimeWaitTable::TimeWaitTable(std::uint32_t records_max, Duration lifetime)
    : lifetime_{lifetime},
      records_max_{std::max<std::uint32_t>(records_max, 1)},
      table_{records_max_} {
  entries_.reserve(records_max_);  // address space only, until it is used
}

std::uint32_t TimeWaitTable::index_of(std::uint64_t hash, const FlowKey& key) const {
  return table_.find(hash, [&](std::uint32_t index) { return entries_[index].record.key == key; })
      .value_or(kNoIndex);
}

void TimeWaitTable::remove_at(std::uint32_t index) {
  waiting_.unlink(entries_, index);
  table_.erase(entries_[index].tag, index);
  entries_[index].links.newer = free_;
  free_ = index;
}

bool TimeWaitTable::add(std::uint64_t hash, const TimeWaitRecord& record, Instant now) {
  const bool evict = table_.size() == records_max_;
  if (evict) remove_at(waiting_.oldest());
  std::uint32_t index = free_;
  if (index != kNoIndex) {
    free_ = entries_[index].links.newer;
  } else {
    index = static_cast<std::uint32_t>(entries_.size());
    entries_.emplace_back();
  }
  entries_[index].record = record;
  entries_[index].record.since = now;
  entries_[index].tag = static_cast<std::uint32_t>(hash);
  table_.insert(hash, index);
  waiting_.append(entries_, index);
  return evict;
}

const TimeWaitRecord* TimeWaitTable::find(std::uint64_t hash, const FlowKey& key) const {
  const std::uint32_t index = index_of(hash, key);
  return index == kNoIndex ? nullptr : &entries_[index].record;
}

void TimeWaitTable::restart(std::uint64_t hash, const FlowKey& key, Instant now,
                            const std::optional<TimeWaitStamps>& stamps) {
  const std::uint32_t index = index_of(hash, key);
  WEIR_ASSERT(index != kNoIndex);  // the caller has just found it
  TimeWaitRecord& record = entries_[index].record;
  record.since = now;
  if (record.stamps && stamps) {
    TimeWaitStamps& known = *record.stamps;
    if (is_newer(stamps->received, known.received)) known.received = stamps->received;
    if (is_newer(stamps->sent, known.sent)) known.sent = stamps->sent;
  }
  waiting_.unlink(entries_, index);
  waiting_.append(entries_, index);
}

void TimeWaitTable::remove(std::uint64_t hash, const FlowKey& key) {
  const std::uint32_t index = index_of(hash, key);
  WEIR_ASSERT(index != kNoIndex);  // the caller has just found it
  remove_at(index);
}

void TimeWaitTable::expire(Instant now) {
  while (!waiting_.empty() && next_expiry() <= now)
    remove_at(waiting_.oldest());
}

Instant TimeWaitTable::next_expiry() const {
  return waiting_.empty() ? kNever : entries_[waiting_.oldest()].record.since + lifetime_;
}

}  // namespace weir::tcp
