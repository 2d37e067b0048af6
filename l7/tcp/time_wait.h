#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "l4/base/clock.h"
#include "l7/tcp/flow_key.h"
#include "l7/tcp/flow_table.h"
#include "l7/tcp/index_list.h"
#include "l7/tcp/segment.h"
#include "l7/tcp/seq.h"

namespace weir::tcp {

/// Where the time stamps of a connection stood, each in its sender's units (RFC 7323).
struct TimeWaitStamps {
  std::uint32_t received = 0;  ///< TS.Recent: the peer's last
  std::uint32_t sent = 0;      ///< our last TSval
  friend bool operator==(const TimeWaitStamps&, const TimeWaitStamps&) = default;
};

/// What is left of a connection in TIME-WAIT (RFC 9293, section 3.6.1): enough to answer a repeated
/// FIN and to recognise a newer connection of the same four numbers.
struct TimeWaitRecord {
  FlowKey key;
  Seq send_next;
  Seq receive_next;
  std::optional<TimeWaitStamps> stamps{};  ///< only when both sides had agreed to use them
  Instant since{};                         ///< the table's: when the wait began, or began again
};

// ---- who may follow -----------------------------------------------------------------------------

/// Whether a SYN from the peer may open the next connection of these four numbers (RFC 6191,
/// section 2, which refines RFC 9293, section 3.6.1, MAY-2). `stamps`: of the SYN, if we agree to
/// use them. The new connection's own numbers: see sequence_after().
[[nodiscard]] bool may_reuse_for_syn(const TimeWaitRecord& record, Seq seq,
                                     const std::optional<Timestamps>& stamps);

/// Whether we may open the next connection of these four numbers ourselves, with `tsval` in the
/// SYN. Only with time stamps: the peer then drops what is left of the old connection on its way
/// (RFC 7323, section 5), and so do we. The second gives a peer whose last FIN we have not answered
/// successfully, time to repeat it, and moves our clock on.
[[nodiscard]] bool may_reuse_for_connect(const TimeWaitRecord& record, Instant now,
                                         std::uint32_t tsval);

/// The initial sequence number of the next connection: `fresh`, or what lies beyond all that the
/// old one has sent and may still be on its way (RFC 9293, section 3.6.1; RFC 1122, section
/// 4.2.2.13).
[[nodiscard]] Seq sequence_after(const TimeWaitRecord& record, Seq fresh);

// ---- the table ----------------------------------------------------------------------------------

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

  /// Starts the wait again, for a FIN that was repeated. `stamps`: those of the FIN and of the ACK
  /// in answer; they count where they are newer, and not at all for a connection without.
  void restart(std::uint64_t hash, const FlowKey& key, Instant now,
               const std::optional<TimeWaitStamps>& stamps = std::nullopt);
  void remove(std::uint64_t hash, const FlowKey& key);
  void expire(Instant now);

  [[nodiscard]] Instant next_expiry() const;
  [[nodiscard]] std::uint32_t size() const { return table_.size(); }

 private:
  struct Entry {
    TimeWaitRecord record;
    IndexLinks links;       // newer: the next free entry while the entry is free
    std::uint32_t tag = 0;  // the hash's part that the table uses
  };
  static_assert(sizeof(Entry) == 80);

  [[nodiscard]] std::uint32_t index_of(std::uint64_t hash, const FlowKey& key) const;
  void remove_at(std::uint32_t index);

  Duration lifetime_;
  std::uint32_t records_max_;
  FlowTable table_;
  std::vector<Entry> entries_;
  std::uint32_t free_ = kNoIndex;
  IndexList<Entry, &Entry::links> waiting_;
};

}  // namespace weir::tcp
