#pragma once

#include <cstdint>
#include <vector>

#include "l4/base/clock.h"
#include "l7/tcp/flow_key.h"
#include "l7/tcp/flow_table.h"
#include "l7/tcp/seq.h"

namespace weir::tcp {

/// What is left of a connection in TIME-WAIT (RFC 9293, section 3.6.1): enough to answer a repeated
/// FIN and to recognise a newer connection of the same four numbers.
struct TimeWaitRecord {
  FlowKey key;
  Seq send_next;
  Seq receive_next;
};

/// All records of one stack. Every record lives equally long, so their order of expiry is the order
/// of insertion: a list and no timers. When the table is full the oldest record gives way; that
/// costs protection against a very late duplicate, while refusing would cost new connections.
class TimeWaitTable {
 public:
  TimeWaitTable(std::uint32_t records_max, Duration lifetime);

  /// True when the oldest record had to be evicted. The key is not in the table.
  bool add(std::uint64_t hash, const TimeWaitRecord& record, Instant now);

  /// The record with this key, or nullptr; valid until the next change.
  [[nodiscard]] const TimeWaitRecord* find(std::uint64_t hash, const FlowKey& key) const;

  /// Starts the wait again, for a FIN that was repeated.
  void restart(std::uint64_t hash, const FlowKey& key, Instant now);
  void remove(std::uint64_t hash, const FlowKey& key);
  void expire(Instant now);

  [[nodiscard]] Instant next_expiry() const;
  [[nodiscard]] std::uint32_t size() const { return table_.size(); }

 private:
  static constexpr std::uint32_t kNone = UINT32_MAX;
  struct Entry {
    TimeWaitRecord record;
    std::uint32_t older = kNone;
    std::uint32_t newer = kNone;  // next free entry while the entry is free
    std::uint32_t tag = 0;        // the hash's part that the table uses
    Instant expiry;
  };
  static_assert(sizeof(Entry) == 64);

  [[nodiscard]] std::uint32_t index_of(std::uint64_t hash, const FlowKey& key) const;
  void append(std::uint32_t index);
  void unlink(std::uint32_t index);
  void remove_at(std::uint32_t index);

  Duration lifetime_;
  std::uint32_t records_max_;
  FlowTable table_;
  std::vector<Entry> entries_;
  std::uint32_t free_ = kNone;
  std::uint32_t oldest_ = kNone;
  std::uint32_t newest_ = kNone;
};

}  // namespace weir::tcp
