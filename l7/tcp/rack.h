#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "l4/base/clock.h"
#include "l7/tcp/sent_list.h"
#include "l7/tcp/seq.h"

namespace weir::tcp {

/// Loss detection by time (RFC 8985, section 6): a segment is lost when one that was sent later has
/// arrived and the time that reordering may take has passed. Keeps what the RFC calls RACK.*; the
/// connection asks after each ACK, and again when it was told to.
class Rack {
 public:
  /// Below this no reordering window says anything: timers tick in 100 µs, and a worker that is
  /// busy for a turn stamps what it sends and receives a turn apart.
  static constexpr Duration kWindowMin = std::chrono::milliseconds{1};
  static constexpr unsigned kDuplicateThreshold = 3;

  /// `segment` has just left the network (step 2, and step 3 against `high`, one past the highest
  /// byte delivered so far). `before_repeat`: the time stamp echo shows that the answer is to an
  /// earlier sending than the last.
  void on_delivered(const SentSegment& segment, Instant now, Duration min_rtt, bool before_repeat) {
    if (!high_ || segment.end() > *high_) {
      high_ = segment.end();
    } else if (!segment.repeated && segment.end() < *high_) {
      reordering_seen_ = true;
    }
    const Duration rtt = now - segment.sent_at;
    if (segment.repeated && (before_repeat || rtt < min_rtt)) return;
    rtt_ = rtt;
    if (sent_after(segment.sent_at, segment.end(), sent_at_, end_)) {
      sent_at_ = segment.sent_at;
      end_ = segment.end();
    }
  }

  /// A D-SACK: something was sent again in vain, so the window was too short (step 4). At most once
  /// a round trip.
  void on_duplicate(Seq una, Seq next) {
    if (duplicate_round_ && una < *duplicate_round_) return;
    duplicate_round_ = next;
    if (multiplier_ < kMultiplierMax) ++multiplier_;
    persist_ = kPersistRecoveries;
  }
  /// A round that is over is forgotten before its numbers come round again.
  void on_progress(Seq una) {
    if (duplicate_round_ && una >= *duplicate_round_) duplicate_round_.reset();
  }
  void on_recovery_end() {
    if (persist_ > 0) --persist_;
    if (persist_ == 0) multiplier_ = 1;
  }

  [[nodiscard]] Duration window(bool recovering, std::uint32_t segments_sacked, Duration min_rtt,
                                Duration smoothed) const {
    if (!reordering_seen_ && (recovering || segments_sacked >= kDuplicateThreshold))
      return Duration{0};
    return std::max(kWindowMin, std::min(multiplier_ * min_rtt / 4, smoothed));
  }

  /// Step 5: marks what is lost by now and returns when the next one will be, or kNever. Looks at
  /// what it marks and one more: in the order of sending, the next to be lost comes first.
  Instant detect(SentList& sent, Duration window, Instant now) const {
    SentSegment* at = sent.oldest_sent();
    while (at != nullptr && sent_after(sent_at_, end_, at->sent_at, at->end())) {
      SentSegment* const next = at->by_time.next;
      const Instant lost_at = at->sent_at + rtt_ + window;
      if (lost_at > now) return lost_at;
      sent.mark_lost(*at);
      at = next;
    }
    return kNever;
  }

  /// At a retransmission time-out: the first segment, and what RACK would have given up by now
  /// (section 6.3).
  void mark_at_timeout(SentList& sent, Duration window, Instant now) const {
    if (sent.first() != nullptr) sent.mark_lost(*sent.first());
    SentSegment* at = sent.oldest_sent();
    while (at != nullptr) {
      SentSegment* const next = at->by_time.next;
      if (at->sent_at + rtt_ + window <= now) sent.mark_lost(*at);
      at = next;
    }
  }

  [[nodiscard]] Duration rtt() const { return rtt_; }
  /// Everything is acknowledged: numbers from here on may be 2^31 further.
  void on_all_acknowledged() {
    high_.reset();
    duplicate_round_.reset();
    sent_at_ = Instant{};
  }

 private:
  static constexpr int kMultiplierMax = 64;  // a window beyond one round trip is cut anyway
  static constexpr std::uint8_t kPersistRecoveries = 16;

  static bool sent_after(Instant a, Seq a_end, Instant b, Seq b_end) {
    return a > b || (a == b && a_end > b_end);
  }

  Instant sent_at_;  // of the segment sent last among those delivered
  Duration rtt_{};
  Seq end_;
  std::optional<Seq> high_;
  std::optional<Seq> duplicate_round_;
  int multiplier_ = 1;
  std::uint8_t persist_ = 0;
  bool reordering_seen_ = false;
};

}  // namespace weir::tcp
