#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "l4/base/clock.h"
#include "l4/base/siphash.h"
#include "l7/tcp/flow_key.h"
#include "l7/tcp/flow_table.h"
#include "l7/tcp/index_list.h"
#include "l7/tcp/seq.h"
#include "l7/tcp/stack.h"
#include "l7/tcp/syn_cookie.h"

namespace weir::tcp {

/// A passive open that waits for its third segment: all that a Connection will need to know of the
/// first two.
struct HalfOpen {
  UserData user = 0;  ///< the listener's
  Instant deadline;   ///< the queue's: when the SYN-ACK is sent again, or the record dropped
  FlowKey key;
  Seq iss;
  Seq irs;
  std::uint32_t ts_recent = 0;       ///< TSval of the SYN; only with peer.timestamps
  PeerOptions peer;                  ///< peer.ecn: and we have agreed
  std::uint16_t window = 0;          ///< of the SYN, so never scaled (RFC 7323, section 2.2)
  std::uint8_t retransmissions = 0;  ///< the queue's: of the SYN-ACK
};

/// Connections in SYN-RECEIVED of one stack (RFC 9293, section 3.10.7.2), before they are
/// Connections. It has a fixed size and allocates nothing once it is made. When it is full nobody
/// is pushed out: whoever was first may be honest, and a flood would otherwise keep it empty of
/// honest records. Whoever comes then gets a cookie (syn_cookie.h).
///
/// So does a SYN from a network that fills more than its share (prefix_is_over()): one that answers
/// nothing cannot spoil the queue for the others.
///
/// The SYN-ACK is sent again after 1 s, 2 s, 4 s, 8 s and 16 s (RFC 6298, sections 2.1 and 5.5),
/// and 32 s after the last the record is dropped. RFC 9293, section 3.8.3, wants three minutes for
/// a SYN: that is for the side that opens, which repeats its SYN anyhow. Since time-outs depend
/// only on the number of retransmissions, each number has a list in the order of its deadlines, and
/// there are no timers.
///
/// On a SYN: find() first, which may be a repetition; then, unless full() or prefix_is_over(),
/// add() and send the SYN-ACK. On an ACK that fits a record: make the Connection, remove(). One
/// per stack, on its core; `now` never goes back.
class SynQueue {
 public:
  static constexpr std::uint8_t kRetransmissionsMax = 5;
  /// Records that one advance() deals with; each may cost a segment. The rest is due at once again.
  static constexpr unsigned kAdvanceMax = 256;
  /// More would be 6 MB of strangers' requests; it also keeps the counters below in 16 bits.
  static constexpr std::uint32_t kCapacityMax = UINT16_MAX;
  static constexpr std::uint32_t kPrefixBuckets = 4096;

  /// `prefix_secret` is drawn at start: with a known hash a client could have others limited.
  SynQueue(std::uint32_t capacity, std::array<std::uint64_t, 2> prefix_secret);

  [[nodiscard]] std::uint32_t size() const { return table_.size(); }
  [[nodiscard]] std::uint32_t capacity() const { return capacity_; }
  [[nodiscard]] bool full() const { return table_.size() == capacity_; }

  /// True when the source's network (/24 of IPv4, /64 of IPv6), or one that shares its bucket,
  /// holds more than a quarter of the queue. A small queue has no shares.
  [[nodiscard]] bool prefix_is_over(const FlowKey& key) const;

  /// Takes over a record whose SYN-ACK leaves now. Not full(), and the key is not in the queue.
  /// Valid until the next change.
  HalfOpen& add(std::uint64_t hash, const HalfOpen& record, Instant now);

  /// The record with this key, or nullptr; valid until the next change.
  [[nodiscard]] HalfOpen* find(std::uint64_t hash, const FlowKey& key);
  void remove(std::uint64_t hash, const FlowKey& key);

  /// The peer has repeated its SYN, and the SYN-ACK leaves again now: it is there, so the wait for
  /// it begins anew, without a measure of the round trip.
  void renew(std::uint64_t hash, const FlowKey& key, Instant now);

  /// When the queue itself last had the SYN-ACK sent. A measure of the round trip only without
  /// retransmissions (RFC 6298, section 3).
  [[nodiscard]] static Instant last_sent(const HalfOpen& record);

  [[nodiscard]] Instant next_deadline() const;

  /// Calls resend(HalfOpen&) for what is due, at most kAdvanceMax records in the order of their
  /// deadlines, and drops those that were sent often enough. Returns how many were dropped.
  /// resend() may change what the next SYN-ACK offers; it must not call the queue.
  template <typename Resend>
  std::uint32_t advance(Instant now, Resend&& resend) {
    std::uint32_t expired = 0;
    for (unsigned work = 0; work < kAdvanceMax && size() > 0; ++work) {
      const std::uint32_t index = earliest();
      if (index == kNoIndex || entries_[index].record.deadline > now) break;
      if (entries_[index].record.retransmissions == kRetransmissionsMax) {
        remove_at(index);
        ++expired;
        continue;
      }
      back_off(index, now);
      resend(entries_[index].record);
    }
    return expired;
  }

  /// For whoever wants to see how the sources are spread: where a source is counted, and how many
  /// records are counted there.
  [[nodiscard]] std::uint16_t prefix_bucket(const FlowKey& key) const;
  [[nodiscard]] std::uint16_t held_by(std::uint16_t bucket) const { return held_[bucket]; }

 private:
  struct Entry {
    HalfOpen record;
    IndexLinks links;  // newer: the next free entry while the entry is free
    std::uint32_t tag = 0;
    std::uint16_t bucket = 0;
  };
  static_assert(sizeof(Entry) <= 96);  // what one SYN costs us at most

  [[nodiscard]] std::uint32_t index_of(std::uint64_t hash, const FlowKey& key) const;
  [[nodiscard]] std::uint32_t earliest() const;
  void schedule(std::uint32_t index, Instant now);
  void back_off(std::uint32_t index, Instant now);
  void remove_at(std::uint32_t index);

  std::uint32_t capacity_;
  SipKey prefix_key_;
  FlowTable table_;
  std::vector<Entry> entries_;
  std::uint32_t free_ = kNoIndex;
  // By number of retransmissions; each in the order of its deadlines.
  std::array<IndexList<Entry, &Entry::links>, kRetransmissionsMax + 1> waiting_;
  std::array<std::uint16_t, kPrefixBuckets> held_{};
};

}  // namespace weir::tcp
