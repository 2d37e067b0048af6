#pragma once

#include <cstdint>
#include <optional>

#include "l4/base/random.h"
#include "l7/net/token_bucket.h"
#include "l7/tcp/control_segment.h"
#include "l7/tcp/flow_key.h"
#include "l7/tcp/segment.h"
#include "l7/tcp/syn_cookie.h"
#include "l7/tcp/syn_queue.h"

namespace weir::tcp {

/// A passive open that has come to its third segment.
struct Accepted {
  HalfOpen record;
  /// When the SYN-ACK left that is being answered; nothing when it was sent more than once or as a
  /// cookie, and measures nothing (Karn).
  std::optional<Instant> answered_at;
};

/// SYN-RECEIVED of passive opens (RFC 9293, section 3.10.7.4, RFC 5961, RFC 4987): a record of 96
/// bytes for each, or, when the queue is full or one network fills too much of it, a cookie and
/// nothing at all. A Connection is made by the stack from what on_segment() returns.
///
/// One per stack. No I/O but what the lent Context offers.
class Listener {
 public:
  /// `stamp_secret` is the stack's, for time stamps that agree with those of its connections.
  Listener(const StackOptions& options, Random& random, const FlowHash& stamp_secret,
           Instant start);

  /// A SYN for a listening endpoint. `iss`: what a record is to start from. With `must_remember`,
  /// as for a pair in TIME-WAIT, there is no cookie: its numbers would not lie beyond the old ones.
  /// False when the SYN was dropped.
  bool on_syn(Context& context, const FlowKey& key, std::uint64_t hash, const SegmentView& syn,
              UserData user, Seq iss, bool must_remember);

  /// The record of a connection that is half open, or nullptr.
  [[nodiscard]] HalfOpen* find(std::uint64_t hash, const FlowKey& key) {
    return queue_.find(hash, key);
  }

  /// A segment for a half-open connection: what it opens, if it does. The record stays until
  /// remove(), for the case that there is no place for the connection yet.
  [[nodiscard]] std::optional<Accepted> on_segment(Context& context, std::uint64_t hash,
                                                   HalfOpen& record, const SegmentView& segment);
  void remove(std::uint64_t hash, const FlowKey& key) { queue_.remove(hash, key); }

  /// Whether a segment of an unknown flow answers a cookie of ours.
  [[nodiscard]] std::optional<Accepted> check_cookie(const Context& context, const FlowKey& key,
                                                     const SegmentView& segment, UserData user);

  void advance(Context& context);
  [[nodiscard]] Instant next_deadline() const { return queue_.next_deadline(); }
  [[nodiscard]] std::uint32_t half_open() const { return queue_.size(); }

 private:
  struct Answer;
  [[nodiscard]] static PeerOptions read_options(const StackOptions& options, const FlowKey& key,
                                                const SegmentView& syn);
  void send_syn_ack(Context& context, const Answer& answer);
  void send_record(Context& context, const HalfOpen& record);
  void challenge(Context& context, const HalfOpen& record);

  FlowHash stamp_secret_;
  SynQueue queue_;
  SynCookie cookies_;
  net::TokenBucket challenge_limit_;
};

}  // namespace weir::tcp
