#include <algorithm>
#include <utility>

#include "l4/base/assert.h"
#include "l7/tcp/connection.h"
#include "l7/tcp/stamp.h"

// What has arrived at the peer, what is lost, and what that means for the congestion window.
//
// One ACK, in order: the scoreboard (take_ack), the clock (measure), ECN, losses (detect_losses),
// whether a repair begins, was in vain or is over, and last the window (move_window).

namespace weir::tcp {
namespace {

constexpr std::uint32_t kDuplicateThreshold = Rack::kDuplicateThreshold;

// RFC 8985, section 7.2: how long a peer may sit on the ACK of a single segment. Linux waits 40 to
// 44 ms; a peer that takes longer costs one segment that was not needed, and D-SACK says so.
constexpr Duration kTailProbeAckDelay = std::chrono::milliseconds{50};
constexpr Duration kAckDelayMax = std::chrono::milliseconds{500};  // RFC 1122, section 4.2.3.2
constexpr Duration kTailProbeUnmeasured = std::chrono::seconds{1};

}  // namespace

struct Connection::AckReport {
  std::uint32_t in_flight_before = 0;
  std::uint32_t outstanding_before = 0;  ///< RFC 5681's FlightSize
  std::uint32_t acked = 0;               ///< SND.UNA has moved by
  std::uint32_t delivered = 0;  ///< left the network: acknowledged or SACKed for the first time
  bool round_started = false;
  bool window_limited = false;
  bool original = false;   ///< something of before the repair that was sent once has arrived
  bool repeated = false;   ///< something that was sent again has arrived
  bool sacked = false;     ///< a SACK block with ack
  bool duplicate = false;  ///< D-SACK: the peer had it already
  bool marked = false;     ///< the peer echoes congestion (RFC 3168)
  bool bare = false;       ///< nothing but an ACK number that was known
  bool plain = false;      ///< bare, with data in flight: a duplicate ACK (RFC 5681, section 2)
  std::optional<Instant> newest_sacked;  ///< when it was sent, of what is new in SACK blocks and
                                         ///< was sent once
  std::optional<SackBlock> duplicate_block;
  std::optional<Instant> oldest_sent;  ///< of what is acknowledged and was sent once
  std::optional<Instant> newest_sent;
};

std::uint32_t Connection::in_flight() const {
  // A peer without SACK says with each duplicate ACK that one more segment has arrived, though not
  // which (RFC 5681, section 3.2).
  const std::uint32_t bytes = sent_.bytes_in_flight();
  return bytes - std::min(bytes, duplicates_ * send_mss_);
}

void Connection::accept_ack(Context& context, const SegmentView& segment) {
  AckReport ack = take_ack(context, segment);
  ack.marked = ecn_ && (segment.flags & wire::TcpHeader::kEce) != 0 && !segment.syn();
  measure(context, segment, ack);
  take_congestion_echo(context, ack);
  take_tail_probe_answer(ack);
  if (sent_.empty()) {
    duplicates_ = 0;
    rack_.on_all_acknowledged();
  }
  const std::uint32_t newly_lost = detect_losses(context, ack);
  if (is_spurious(segment, ack)) undo(context);
  if (repair_ == Repair::kTimeout) follow_timeout(ack);
  if (repair_ != Repair::kNone && repair_point_ && snd_una_ >= *repair_point_) finish_repair();
  if (repair_ == Repair::kNone && sent_.bytes_lost() > 0) start_recovery(context, ack);
  move_window(context, ack, newly_lost);
  if (repair_ == Repair::kNone && repair_point_ && snd_una_ > *repair_point_)
    repair_point_.reset();  // further back than 2^31 it would look like the future
  if (ack.acked > 0) {
    after_progress(context);
  } else if (ack.delivered > 0) {
    wants_output_ = true;
  }
  if (ack.acked > 0 || probe_deadline_ == kNever) set_probe_timer(context);
  if (fin_acknowledged_) our_fin_acknowledged(context);
}

// ---- the scoreboard -----------------------------------------------------------------------------

Connection::AckReport Connection::take_ack(Context& context, const SegmentView& segment) {
  AckReport ack;
  ack.in_flight_before = in_flight();
  ack.outstanding_before = outstanding();
  const Seq before = snd_una_;
  const auto delivered = [&](const SentSegment& arrived) {
    on_delivered(context, segment, arrived, ack);
  };
  if (segment.ack > snd_una_) {
    ack.acked = snd_una_.distance_to(segment.ack);
    sent_.acknowledge(segment.ack, delivered);
    const auto text = std::min(ack.acked, static_cast<std::uint32_t>(send_queue_.size()));
    send_queue_.consume(text);
    if (ack.acked > text) fin_acknowledged_ = true;  // one more than the text: ack <= snd_max_
    snd_una_ = segment.ack;
    snd_nxt_ = later_of(snd_nxt_, segment.ack);
    ack.round_started = segment.ack > round_end_;
    if (ack.round_started) round_end_ = snd_nxt_;
    ack.window_limited =
        before < limited_end_ ||
        (congestion_.in_slow_start() && ack.in_flight_before >= congestion_.window() / 2);
    if (limited_end_ < snd_una_) limited_end_ = snd_una_;
    if (burst_end_ < snd_una_)
      burst_end_ = snd_una_;  // or half the numbers later it would be ahead
    rack_.on_progress(snd_una_);
    if (!sack_permitted_) {
      // The first of these segments is the one that was missing; the others, duplicate ACKs have
      // counted before.
      const std::uint32_t segments = (ack.acked + send_mss_ - 1) / std::max(send_mss_, 1U);
      const std::uint32_t counted = std::min(duplicates_, segments - 1);
      ack.delivered = ack.acked - std::min(ack.acked, counted * send_mss_);
      duplicates_ -= counted;
    }
  } else {
    ack.bare = segment.length() == 0 && std::uint32_t{segment.window} << send_shift_ == snd_wnd_;
    ack.plain = ack.bare && !sent_.empty();
  }
  if (sack_permitted_) {
    take_sacks(context, segment, ack);
  } else if (ack.plain) {
    take_duplicate_without_sack(ack);
  }
  return ack;
}

void Connection::on_delivered(Context& context, const SegmentView& segment,
                              const SentSegment& arrived, AckReport& ack) {
  if (sack_permitted_) ack.delivered += arrived.length;
  if (arrived.repeated) {
    ack.repeated = true;
  } else {
    ack.original = ack.original || !repair_point_ || arrived.end() <= *repair_point_;
    ack.oldest_sent = std::min(ack.oldest_sent.value_or(kNever), arrived.sent_at);
    ack.newest_sent = std::max(ack.newest_sent.value_or(arrived.sent_at), arrived.sent_at);
  }
  if (arrived.path_probe) on_path_probe_delivered(context.now);
  const bool before_repeat = stamping_ && segment.options.timestamps &&
                             stamp_before(segment.options.timestamps->echo, stamp(arrived.sent_at));
  rack_.on_delivered(arrived, context.now, min_rtt_.value(), before_repeat);
}

void Connection::take_sacks(Context& context, const SegmentView& segment, AckReport& ack) {
  const SegmentOptions& options = segment.options;
  for (std::size_t i = 0; i < options.sack_count; ++i) {
    const SackBlock block = options.sack[i];
    if (!(block.start < block.end)) continue;
    // RFC 2883, section 4: only the first block can report a duplicate: it lies below the ACK, or
    // within the second block.
    const bool below = block.end <= segment.ack;
    const bool within = i == 0 && options.sack_count > 1 && block.start >= options.sack[1].start &&
                        block.end <= options.sack[1].end;
    if (i == 0 && (below || within)) {
      // Older than what the peer could still have been sent, it reports nothing of ours.
      if (block.start < snd_una_ - snd_wnd_max_ || block.end > snd_nxt_) continue;
      ack.duplicate = true;
      ack.duplicate_block = block;
      rack_.on_duplicate(snd_una_, snd_nxt_);
      if (repeats_unexplained_ > 0 && block.end <= episode_end_) --repeats_unexplained_;
      if (below) continue;
    }
    if (block.start < snd_una_ || block.end > snd_nxt_) continue;  // not ours, or old
    sent_.sack(block.start, block.end, [&](const SentSegment& arrived) {
      ack.sacked = true;
      if (!arrived.repeated)
        ack.newest_sacked = std::max(ack.newest_sacked.value_or(arrived.sent_at), arrived.sent_at);
      on_delivered(context, segment, arrived, ack);
    });
  }
}

void Connection::take_duplicate_without_sack(AckReport& ack) {
  // After a time-out they answer our own repetitions (RFC 6582, section 3.2, step 4).
  if (repair_ == Repair::kTimeout) return;
  if (duplicates_ * send_mss_ >= sent_.bytes_in_flight()) return;  // more than was sent
  ++duplicates_;
  ack.delivered = send_mss_;
}

// ---- time and marks -----------------------------------------------------------------------------

void Connection::measure(Context& context, const SegmentView& segment, const AckReport& ack) {
  if (ack.newest_sent) min_rtt_.sample(context.now - *ack.newest_sent, context.now);
  if (ack.acked == 0 || ack.repeated) {
    // What has come beyond a gap is acknowledged at once (RFC 5681, section 4.2), and what was sent
    // once has one round trip. Without this a time-out that has backed off would stay as long as
    // each ACK that moves covers a repetition.
    if (ack.newest_sacked) return rtt_.sample(context.now - *ack.newest_sacked);
    // What follows a repetition has waited for it, and its age is no round trip either (Karn). The
    // echo says which sending the ACK answers (RFC 7323, section 4); not when it answers what the
    // peer had already, for then it is that of the lost ACK (section 5.3, R2 before R3).
    if (ack.acked == 0 || ack.duplicate || !stamping_ || !segment.options.timestamps) return;
    const Duration rtt =
        std::chrono::milliseconds{stamp(context.now) - segment.options.timestamps->echo};
    if (rtt < RttEstimator::kMax) rtt_.sample(rtt);
  } else if (ack.oldest_sent) {
    // The oldest, since a time-out has to bear with a peer that delays its ACKs; but not for longer
    // than peers do: then the ACK of the first was lost, and its age is no round trip.
    const bool one_flight = *ack.newest_sent - *ack.oldest_sent <= kAckDelayMax;
    rtt_.sample(context.now - (one_flight ? *ack.oldest_sent : *ack.newest_sent));
  }
}

/// RFC 3168, section 6.1.2: like a loss, once in a window.
void Connection::take_congestion_echo(Context& context, const AckReport& ack) {
  // Beyond the point, not at it: only then has the peer seen CWR and stopped to echo.
  if (reduced_point_ && snd_una_ > *reduced_point_) reduced_point_.reset();
  if (!ack.marked) return;
  if (repair_ != Repair::kNone || reduced_point_ || ack.acked == 0) return;
  ++context.counters.congestion_echoes;
  congestion_.on_congestion(ack.outstanding_before, CongestionSignal::kEcnEcho);
  may_undo_ = false;
  congestion_.leave_recovery();
  reduced_point_ = snd_nxt_;
  ecn_reduced_ = true;
}

/// RFC 8985, section 7.4.2.
void Connection::take_tail_probe_answer(const AckReport& ack) {
  if (!tail_probe_end_ || snd_una_ < *tail_probe_end_) return;
  const bool known_duplicate = ack.duplicate_block && ack.duplicate_block->end == *tail_probe_end_;
  if (!tail_probe_repeats_ || known_duplicate) {
    tail_probe_end_.reset();  // new data, or the original had arrived
  } else if (snd_una_ > *tail_probe_end_) {
    // The probe has repaired the loss of the last segment; the congestion remains.
    tail_probe_end_.reset();
    if (repair_ != Repair::kNone) return;
    congestion_.on_congestion(ack.outstanding_before);
    congestion_.leave_recovery();
    may_undo_ = false;
    if (ecn_) ecn_reduced_ = true;
  } else if (ack.bare && !ack.sacked) {
    tail_probe_end_.reset();  // two ACKs for two arrivals
  }
}

// ---- losses -------------------------------------------------------------------------------------

std::uint32_t Connection::detect_losses(Context& context, const AckReport& ack) {
  const std::uint32_t before = sent_.bytes_lost();
  if (uses_rack(context.options)) {
    const Duration window = rack_.window(repair_ != Repair::kNone, sent_.segments_sacked(),
                                         min_rtt_.value(), rtt_.smoothed());
    const Instant again = rack_.detect(sent_, window, context.now);
    if (reorder_timer_ || again != kNever) probe_deadline_ = again;
    reorder_timer_ = again != kNever;
  } else if (sack_permitted_) {
    detect_by_sacks();
  } else {
    detect_without_sack(ack);
  }
  if (path_probe_mss_ != 0 && sent_.bytes_lost() > before) {
    SentSegment* const lost = sent_.first_lost();
    if (lost->path_probe) on_path_probe_lost(context, *lost);
  }
  return sent_.bytes_lost() - std::min(before, sent_.bytes_lost());
}

/// RFC 6675, section 4, IsLost(): three segments, or more bytes than two, are SACKed above it.
void Connection::detect_by_sacks() {
  if (sent_.segments_sacked() == 0) return;
  std::uint32_t segments = 0;
  std::uint32_t bytes = 0;
  for (SentSegment* at = sent_.last(); at != nullptr; at = at->by_sequence.previous) {
    if (at->state == SentSegment::State::kSacked) {
      ++segments;
      bytes += at->length;
    } else if (!at->repeated &&
               (segments >= kDuplicateThreshold || bytes > (kDuplicateThreshold - 1) * send_mss_)) {
      sent_.mark_lost(*at);
    }
  }
}

/// RFC 6582: the first segment, on the third duplicate ACK and with every partial ACK after it.
void Connection::detect_without_sack(const AckReport& ack) {
  if (sent_.empty()) return;
  const bool partial =
      repair_ == Repair::kRecovery && ack.acked > 0 && repair_point_ && snd_una_ < *repair_point_;
  // Duplicates at or below the last point come from our own repetitions (section 3.2, step 2).
  const bool third = repair_ == Repair::kNone && duplicates_ >= kDuplicateThreshold &&
                     (!repair_point_ || snd_una_ > *repair_point_);
  if ((third || partial) && !sent_.first()->repeated) sent_.mark_lost(*sent_.first());
}

void Connection::begin_episode(Repair repair) {
  repair_ = repair;
  repair_point_ = episode_end_ = snd_nxt_;
  repeats_ = repeats_unexplained_ = 0;
  has_repeat_stamp_ = false;
  forward_step_ = 0;
  tail_probe_end_.reset();
}

void Connection::start_recovery(Context& context, const AckReport& ack) {
  ++context.counters.fast_retransmits;
  begin_episode(Repair::kRecovery);
  // A window that has just been reduced for a mark is not reduced again for a loss in it.
  may_undo_ = !reduced_point_ || snd_una_ >= *reduced_point_;
  if (may_undo_) {
    congestion_.on_congestion(ack.outstanding_before);
    if (ecn_) ecn_reduced_ = true;
  }
  reduced_point_ = snd_nxt_;
  prr_.start(ack.in_flight_before);
  wants_output_ = true;
}

/// Three ways to learn that nothing had been lost.
bool Connection::is_spurious(const SegmentView& segment, const AckReport& ack) {
  if (!may_undo_) return false;
  // Eifel (RFC 3522): the first ACK of what was repeated answers the original.
  if (stamping_ && segment.options.timestamps && has_repeat_stamp_ && ack.acked > 0 &&
      ack.repeated && stamp_before(segment.options.timestamps->echo, repeat_stamp_))
    return true;
  // RFC 3708: every repetition has been reported as a duplicate.
  // That may come when the repair is over, a round trip after the repetition.
  if (ack.duplicate && repeats_ > 0 && repeats_unexplained_ == 0) return true;
  if (repair_ == Repair::kNone) return false;
  // F-RTO (RFC 5682, section 3, with SACK's help): what was sent once, before the time-out,
  // arrives.
  // Without SACK the first ACK after it may cover what came before it as well.
  return repair_ == Repair::kTimeout && forward_step_ != 0 && ack.original &&
         (sack_permitted_ || !ack.repeated);
}

void Connection::undo(Context& context) {
  ++context.counters.spurious_repairs;
  congestion_.undo();
  may_undo_ = false;
  sent_.forget_losses();
  rtt_.undo_back_off();
  reduced_point_.reset();
  duplicates_ = 0;
  repair_ = Repair::kNone;
  forward_step_ = 0;
  wants_output_ = true;
}

/// F-RTO, steps 2 and 3: after the first ACK that moves, new data instead of repetitions;
/// duplicates after that mean that the time-out was right.
void Connection::follow_timeout(const AckReport& ack) {
  if (forward_step_ == 0) return;
  if (forward_step_ == 2 || ack.acked == 0) {
    if (ack.plain || ack.sacked || ack.acked > 0) forward_step_ = 0;
    return;
  }
  const bool has_new = outstanding() < send_queue_.size() && snd_wnd_ > outstanding();
  forward_step_ = has_new ? 2 : 0;
}

void Connection::finish_repair() {
  if (repair_ == Repair::kRecovery) {
    congestion_.leave_recovery();
    rack_.on_recovery_end();
  }
  repair_ = Repair::kNone;
  forward_step_ = 0;
  duplicates_ = 0;
}

void Connection::move_window(Context& context, const AckReport& ack, std::uint32_t newly_lost) {
  if (repair_ == Repair::kRecovery) {
    std::uint32_t window = prr_.window({.delivered = ack.delivered,
                                        .in_flight = in_flight(),
                                        .threshold = congestion_.threshold(),
                                        .mss = send_mss_,
                                        .safe = ack.acked > 0 && newly_lost == 0});
    // What a partial ACK has uncovered leaves at once (RFC 6582, section 3.2, step 3): without SACK
    // nothing else would bring the next ACK about.
    if (!sack_permitted_ && newly_lost > 0) window = std::max(window, in_flight() + send_mss_);
    congestion_.set_window_in_recovery(window);
    return;
  }
  // What is echoed holds the window where it is (RFC 3168, section 6.1.2).
  if (ack.acked == 0 || (ack.marked && repair_ == Repair::kNone)) return;
  congestion_.on_ack({.acked = ack.acked,
                      .window_limited = ack.window_limited,
                      .rtt = ack.newest_sent ? context.now - *ack.newest_sent : Duration{0},
                      .smoothed_rtt = rtt_.smoothed(),
                      .now = context.now,
                      .round_started = ack.round_started});
}

void Connection::after_progress(Context& context) {
  // With everything acknowledged and nothing queued there is nothing that emit() could do: between
  // a request and its reply that is every ACK.
  if (!send_queue_.empty() || !sent_.empty() || fin_queued_) wants_output_ = true;
  const bool all = snd_una_ == snd_max_;
  progress_deadline_ = all ? kNever : context.now + context.options.user_timeout;
  // RFC 6298, sections 5.2 and 5.3; emit() arms it again for what it sends.
  persisting_ = false;
  probes_ = 0;
  // A chunk's worth counts: memory comes back in nothing smaller, and who takes a byte now and then
  // would hold it for ever.
  const bool has_taken =
      send_queue_.empty() || stalled_from_.distance_to(snd_una_) >= Chunk::kBytes;
  if (stalled_since_ != kNever && has_taken) {
    stalled_since_ = kNever;
    ListLink<StalledList>::unlink();  // who has moved on comes back behind the others
  }
  retransmission_deadline_ = sent_.empty() ? kNever : context.now + rtt_.timeout();
  if (!wants_writable_) return;
  if (!send_queue_.is_starved() &&
      writable_bytes(context.options) >= send_limit(context.options) / 2) {
    wants_writable_ = starved_ = false;
    news.writable = true;
  } else {
    starved_ = send_queue_.empty();
  }
}

// ---- timers -------------------------------------------------------------------------------------

void Connection::on_retransmission_timer(Context& context) {
  retransmission_deadline_ = kNever;
  wants_output_ = true;
  if (state_ == ConnectionState::kSynSent || state_ == ConnectionState::kSynReceived)
    return retransmit_syn(context);
  if (persisting_) return probe_window(context);
  on_retransmission_timeout(context);
}

/// RFC 6298, sections 5.4 to 5.6; RFC 5681, section 3.1.
void Connection::on_retransmission_timeout(Context& context) {
  ++context.counters.retransmission_timeouts;
  // In a row of time-outs for the same segment, only the first says something new.
  const bool first = repair_ != Repair::kTimeout || sent_.empty() || !sent_.first()->repeated;
  const bool was_open = repair_ == Repair::kNone;
  rtt_.back_off();
  probe_deadline_ = kNever;
  reorder_timer_ = false;
  // The first leaves again whatever the peer had said of it (RFC 2018, section 8).
  if (sent_.first() != nullptr && sent_.first()->state == SentSegment::State::kSacked) {
    ++context.counters.reneged;
    sent_.forget_sacks();
  }
  // The peer has shrunk its window: not congestion, and the first is our probe.
  if (snd_wnd_ == 0) {
    sent_.mark_all_lost();
    forward_step_ = 0;  // no new data can tell whether the time-out was right
    if (repair_ == Repair::kNone) {
      begin_episode(Repair::kTimeout);
      may_undo_ = false;
    }
    return;
  }
  suspect_black_hole(context);
  congestion_.on_timeout(outstanding(), first);
  if (uses_rack(context.options)) {
    const Duration window = rack_.window(true, 0, min_rtt_.value(), rtt_.smoothed());
    rack_.mark_at_timeout(sent_, window, context.now);
  } else {
    sent_.mark_all_lost();
  }
  duplicates_ = 0;
  if (first) {
    begin_episode(Repair::kTimeout);
    may_undo_ = true;
    forward_step_ = was_open && path_probe_mss_ == 0 ? 1 : 0;
    if (ecn_) ecn_reduced_ = true;
  } else {
    repair_ = Repair::kTimeout;
    repair_point_ = snd_nxt_;
    forward_step_ = 0;
  }
  reduced_point_.reset();
  tail_probe_end_.reset();
}

void Connection::on_probe_timer(Context& context) {
  probe_deadline_ = kNever;
  if (!std::exchange(reorder_timer_, false)) return send_tail_probe(context);
  AckReport nothing;
  nothing.in_flight_before = in_flight();
  nothing.outstanding_before = outstanding();
  if (detect_losses(context, nothing) > 0) {
    if (repair_ == Repair::kNone) start_recovery(context, nothing);
    move_window(context, nothing, 1);
    wants_output_ = true;
  }
}

/// RFC 8985, section 7.3: new data when there is some, else the last segment once more.
void Connection::send_tail_probe(Context& context) {
  if (sent_.empty() || repair_ != Repair::kNone || sent_.segments_sacked() > 0) return;
  const auto queued = static_cast<std::uint32_t>(send_queue_.size());
  const std::uint32_t unsent = queued - std::min(queued, outstanding());
  const std::uint32_t room = snd_wnd_ - std::min(snd_wnd_, outstanding());
  const std::uint32_t length = std::min({unsent, payload_max(), room});
  // The window has closed under the last segment: it would not be taken, and is for the time-out.
  if (length == 0 && sent_.last()->end() > snd_una_ + snd_wnd_) return;
  tail_probe_repeats_ = length == 0;
  // Before it is cut, or both pieces would be probes.
  if (length == 0) path_probe_failed(*sent_.last(), context.now);
  // A segment from before the path became narrower is cut, and its end is what is wanted.
  if (length == 0 && sent_.last()->length > payload_max() + 1 &&
      !sent_.split(*sent_.last(), sent_.last()->length - payload_max()))
    return;
  const bool sent =
      length > 0 ? send_new(context, length, false) : send_again(context, *sent_.last());
  if (sent) {
    ++context.counters.tail_probes;
    tail_probe_end_ = snd_nxt_;
  }
  retransmission_deadline_ = context.now + rtt_.timeout();
}

/// Section 7.2. Called when something new was sent, and after each ACK.
void Connection::set_probe_timer(Context& context) {
  if (reorder_timer_) return;
  const bool probing = uses_rack(context.options) && repair_ == Repair::kNone && !sent_.empty() &&
                       !tail_probe_end_ && sent_.segments_sacked() == 0 && snd_wnd_ > 0;
  if (!probing) {
    probe_deadline_ = kNever;
    return;
  }
  Duration wait = rtt_.measured() ? 2 * rtt_.smoothed() : kTailProbeUnmeasured;
  if (sent_.segments() == 1) wait += kTailProbeAckDelay;
  wait = std::max(wait, Rack::kWindowMin);
  // Never later than the time-out that it is to spare.
  probe_deadline_ = std::min(context.now + wait, retransmission_deadline_);
}

void Connection::set_retransmission_timer(Context& context) {
  const bool unsent = outstanding() < send_queue_.size() + (fin_queued_ && !fin_acknowledged_);
  if (!sent_.empty()) {
    if (persisting_ || retransmission_deadline_ == kNever)
      retransmission_deadline_ = context.now + rtt_.timeout();
    persisting_ = false;
  } else if (unsent && retry_deadline_ == kNever) {
    // Nothing in flight, neither buffers nor pace hold us back, and still nothing may leave: the
    // peer's window is closed or silly.
    if (!persisting_) {
      retransmission_deadline_ = context.now + rtt_.timeout();
      probes_ = 0;
    }
    persisting_ = true;
  } else {
    retransmission_deadline_ = kNever;
    persisting_ = false;
  }
}

}  // namespace weir::tcp
