#include <algorithm>
#include <utility>

#include "l4/base/assert.h"
#include "l7/tcp/connection.h"
#include "l7/tcp/handshake.h"
#include "l7/tcp/stamp.h"

namespace weir::tcp {
namespace {

using wire::TcpHeader;

constexpr Duration kDelayedAck = std::chrono::milliseconds{40};

// RFC 7323, section 5.5: after 24 days without a segment the order of time stamps says nothing.
constexpr Duration kStampsOutdated = std::chrono::hours{24 * 24};

// Between two answers to segments without text that are not acceptable (RFC 5961, section 7): two
// sides that are apart by a number would otherwise answer each other at the speed of the link.
constexpr Duration kBareAnswerInterval = std::chrono::milliseconds{500};

}  // namespace

void Connection::input(Context& context, const SegmentView& segment) {
  switch (state_) {
    case ConnectionState::kSynSent:
      return input_syn_sent(context, segment);
    case ConnectionState::kSynReceived:
    case ConnectionState::kEstablished:
    case ConnectionState::kFinWait1:
    case ConnectionState::kFinWait2:
    case ConnectionState::kCloseWait:
    case ConnectionState::kClosing:
    case ConnectionState::kLastAck:
      return input_synchronized(context, segment);
    case ConnectionState::kTimeWait:
    case ConnectionState::kClosed:
      WEIR_ASSERT(false);  // not in the flow table any more
  }
}

// ---- handshake ----------------------------------------------------------------------------------

void Connection::learn_from_syn(Context& context, const SegmentView& syn) {
  irs_ = syn.seq;
  rcv_nxt_ = rcv_edge_ = last_ack_sent_ = syn.seq + 1;
  send_mss_ =
      std::min<std::uint32_t>(send_mss_, peer_mss(syn.options, key_.remote_address.family()));
  sack_permitted_ = syn.options.sack_permitted;
  scaling_ = syn.options.window_scale.has_value();
  send_shift_ = syn.options.window_scale.value_or(0);
  if (!scaling_) receive_shift_ = 0;
  stamping_ = context.options.timestamps && syn.options.timestamps.has_value();
  if (stamping_) {
    stamp_recent_ = syn.options.timestamps->value;
    stamp_recent_at_ = context.now;
  }
  // RFC 3168, section 6.1.1: both bits on a SYN ask, ECE alone on its answer agrees.
  const bool ece = (syn.flags & TcpHeader::kEce) != 0;
  const bool cwr = (syn.flags & TcpHeader::kCwr) != 0;
  ecn_ = syn.has_ack() ? ecn_offered_ && ece && !cwr : context.options.ecn && ece && cwr;
  snd_wnd_ = snd_wnd_max_ = syn.window;  // not scaled in a SYN
  snd_wl1_ = syn.seq;
  snd_wl2_ = syn.has_ack() ? syn.ack : iss_;
}

/// RFC 9293, section 3.10.7.3.
void Connection::input_syn_sent(Context& context, const SegmentView& segment) {
  const bool ack_acceptable = segment.has_ack() && segment.ack == iss_ + 1;
  if (segment.has_ack() && !ack_acceptable) return answer_with_reset(context, key_, segment);
  if (segment.rst()) {
    if (!ack_acceptable) return;
    ++context.counters.resets_received;
    ++context.counters.failed_connects;
    return fail(Failure::kRefused);
  }
  if (!segment.syn()) return;
  // Text or FIN on a SYN is not taken: it costs the rare peer who does that one retransmission and
  // spares a path that would hardly ever be tested.
  learn_from_syn(context, segment);
  if (!ack_acceptable) {
    state_ = ConnectionState::kSynReceived;  // simultaneous open
    syn_due_ = wants_output_ = true;
    return;
  }
  snd_una_ = snd_nxt_ = snd_max_ = segment.ack;
  establish(context, syn_answered_at());
  ack_now_ = true;
}

bool Connection::complete_handshake(Context& context, const SegmentView& segment) {
  if (segment.ack != iss_ + 1) {
    answer_with_reset(context, key_, segment);
    return false;
  }
  snd_una_ = segment.ack;
  establish(context, syn_answered_at());
  return true;
}

// ---- checks -------------------------------------------------------------------------------------

/// RFC 9293, section 3.10.7.4, steps 1 to 8.
void Connection::input_synchronized(Context& context, const SegmentView& segment) {
  SegmentView view = segment;
  if (state_ == ConnectionState::kSynReceived && view.syn() && view.seq == irs_ && !view.rst()) {
    if (!view.has_ack()) {
      syn_due_ = wants_output_ = true;  // our answer was lost
      return;
    }
    // The second half of a simultaneous open: the SYN is known, its ACK is news.
    view.seq += 1;
    view.window = static_cast<std::uint16_t>(view.window >> send_shift_);  // a SYN's is not scaled
    view.flags &= static_cast<std::uint8_t>(~TcpHeader::kSyn);
  }
  if (is_old_duplicate(view, context.now)) {
    ++context.counters.old_duplicates;
    return answer_unacceptable(context, view);
  }
  if (!acceptable(view)) return answer_unacceptable(context, view);
  if (view.rst()) return input_reset(context, view);
  if (view.syn()) return challenge(context);  // RFC 5961, section 4.2
  if (!view.has_ack()) return;
  if (state_ == ConnectionState::kSynReceived && !complete_handshake(context, view)) return;
  if (!input_ack(context, view)) return;
  remember_stamp(view, context.now);  // not before the ACK was found possible: who guesses has none
  if (view.length() == 0 || state_ == ConnectionState::kClosed) return;
  note_congestion_marks(context, view);
  receive_text(context, view);
}

/// PAWS (RFC 7323, section 5.3, R1). A segment without the option is let in although section 3.2
/// asks to drop it: older systems leave it out of some ACKs. RST is judged by its number alone.
bool Connection::is_old_duplicate(const SegmentView& segment, Instant now) const {
  if (!stamping_ || !segment.options.timestamps || segment.rst()) return false;
  return stamp_before(segment.options.timestamps->value, stamp_recent_) &&
         now - stamp_recent_at_ < kStampsOutdated;
}

/// Section 4.3, (2), and section 5.3, R3: only from segments that our last ACK had asked for.
void Connection::remember_stamp(const SegmentView& segment, Instant now) {
  if (!stamping_ || !segment.options.timestamps || segment.rst()) return;
  if (segment.seq > last_ack_sent_) return;
  const std::uint32_t value = segment.options.timestamps->value;
  if (stamp_before(value, stamp_recent_) && now - stamp_recent_at_ < kStampsOutdated) return;
  stamp_recent_ = value;
  stamp_recent_at_ = now;
}

bool Connection::acceptable(const SegmentView& segment) const {
  // More generous than the table in section 3.10.7.4 by one position: a segment that begins just
  // behind the window is let in, so that the ACK on a probe of a closed window is heard. Its text
  // is cut off later.
  const bool not_old = segment.length() > 0 ? segment.end() > rcv_nxt_ : segment.seq >= rcv_nxt_;
  return not_old && segment.seq <= rcv_edge_;
}

void Connection::answer_unacceptable(Context& context, const SegmentView& segment) {
  if (segment.rst()) return;
  // What carries text or a FIN is sent by someone who waits for an ACK; it is never held back. The
  // number in front of what is expected is that of keep-alives, and of Linux's probes of a closed
  // window: both come again.
  if (segment.payload.empty() && !segment.fin()) {
    if (segment.syn() || segment.seq + 1 != rcv_nxt_) return challenge(context);
    return static_cast<void>(send_bare_answer(context));
  }
  ++context.counters.duplicate_segments;
  if (!segment.payload.empty() && segment.end() <= rcv_nxt_)
    note_duplicate(segment.seq, segment.end());
  // Delivered text means that our last ACK may be lost.
  if (!send_ack(context)) ack_now_ = wants_output_ = true;
}

/// RFC 5961, section 3.2: only the exact number resets, a near miss is asked to try again.
void Connection::input_reset(Context& context, const SegmentView& segment) {
  if (segment.seq != rcv_nxt_) return challenge(context);
  ++context.counters.resets_received;
  const bool connecting = state_ == ConnectionState::kSynReceived;
  if (connecting) ++context.counters.failed_connects;
  fail(connecting ? Failure::kRefused : Failure::kReset);
}

void Connection::challenge(Context& context) {
  if (send_bare_answer(context)) ++context.counters.challenge_acks;
}

bool Connection::send_bare_answer(Context& context) {
  if (context.now < bare_answer_after_) {
    ++context.counters.acks_held_back;
    return false;
  }
  bare_answer_after_ = context.now + kBareAnswerInterval;
  return send_ack(context);
}

// ---- acknowledgments ----------------------------------------------------------------------------

bool Connection::input_ack(Context& context, const SegmentView& segment) {
  // RFC 5961, section 5.2: neither ahead of what was sent nor further back than a window.
  if (segment.ack > snd_max_ || segment.ack < snd_una_ - snd_wnd_max_) {
    challenge(context);
    return false;
  }
  // After a pause the peer starts slowly again, and waits for every ACK.
  if (context.now - last_received_at_ > rtt_.timeout()) quick_acks_ = kQuickAcks;
  last_received_at_ = context.now;
  keepalives_ = 0;
  if (segment.ack >= snd_una_ && !is_text_alone(segment)) accept_ack(context, segment);
  if (state_ == ConnectionState::kClosed) return false;
  if (segment.ack >= snd_una_) update_send_window(segment);
  // A closed window is the peer's right as long as it answers (RFC 9293, section 3.8.6.1); how long
  // to bear with it is for the user to say, and once he is gone, for the user time-out.
  if (is_window_closed() && !released_ && progress_deadline_ != kNever)
    progress_deadline_ = context.now + context.options.user_timeout;
  return true;
}

/// Text for one who has nothing under way, which is all that the receiver of a stream sees: its ACK
/// is the one that has been taken before. Spares a quarter of a segment in order.
bool Connection::is_text_alone(const SegmentView& segment) const {
  return segment.ack == snd_una_ && segment.length() > 0 && segment.options.sack_count == 0 &&
         sent_.empty() && repair_ == Repair::kNone && !tail_probe_end_;
}

void Connection::our_fin_acknowledged(Context& context) {
  switch (state_) {
    case ConnectionState::kFinWait1:
      state_ = ConnectionState::kFinWait2;
      // A user who has closed only his direction may read for as long as he likes.
      state_deadline_ = released_ ? context.now + context.options.fin_timeout : kNever;
      return;
    case ConnectionState::kClosing:
      state_ = ConnectionState::kTimeWait;
      news.closed = true;
      return;
    case ConnectionState::kLastAck:
      news.closed = true;
      finish();
      return;
    case ConnectionState::kFinWait2:  // acknowledged before
    case ConnectionState::kSynSent:
    case ConnectionState::kSynReceived:
    case ConnectionState::kEstablished:
    case ConnectionState::kCloseWait:
    case ConnectionState::kTimeWait:
    case ConnectionState::kClosed:
      return;  // no FIN is out in these
  }
}

void Connection::update_send_window(const SegmentView& segment) {
  // Only from segments at least as new as the last that told us (RFC 9293, section 3.10.7.4).
  // An ACK beyond that one's is newer whatever its number, which a repetition has from before: the
  // edge must not move with SND.UNA alone.
  const bool is_newer = segment.ack > snd_wl2_ || snd_wl1_ < segment.seq ||
                        (snd_wl1_ == segment.seq && snd_wl2_ == segment.ack);
  if (!is_newer) return;
  const std::uint32_t window = std::uint32_t{segment.window} << send_shift_;
  if (window > snd_wnd_) wants_output_ = true;
  snd_wnd_ = window;
  snd_wnd_max_ = std::max(snd_wnd_max_, window);
  snd_wl1_ = later_of(snd_wl1_, segment.seq);
  snd_wl2_ = later_of(snd_wl2_, segment.ack);
}

/// RFC 3168, section 6.1.3: a mark is echoed with every ACK until the peer has said CWR.
void Connection::note_congestion_marks(Context& context, const SegmentView& segment) {
  if (!ecn_) return;
  if ((segment.flags & TcpHeader::kCwr) != 0) ecn_echo_ = false;
  if (segment.ecn != net::Ecn::kCongested) return;
  ++context.counters.congestion_marks;
  // The first of a row is news that the sender waits for.
  if (!std::exchange(ecn_echo_, true)) ack_now_ = wants_output_ = true;
}

// ---- text and FIN -------------------------------------------------------------------------------

void Connection::receive_text(Context& context, const SegmentView& segment) {
  if (!accepts_text()) {  // the peer has ended its stream: this repeats what we have
    ack_now_ = wants_output_ = true;
    return;
  }
  const Seq fin_at = segment.seq + static_cast<std::uint32_t>(segment.payload.size());
  if (segment.fin() && fin_at <= rcv_edge_ && !peer_fin_) peer_fin_ = fin_at;

  std::span<const std::byte> text = segment.payload;
  Seq start = segment.seq;
  if (start < rcv_nxt_) {
    const std::size_t old = std::min<std::size_t>(start.distance_to(rcv_nxt_), text.size());
    if (old > 0) note_duplicate(start, start + static_cast<std::uint32_t>(old));
    text = text.subspan(old);
    start += static_cast<std::uint32_t>(old);
  }
  const Seq limit = earlier_of(rcv_edge_, peer_fin_.value_or(rcv_edge_));
  const std::size_t room = start <= limit ? start.distance_to(limit) : 0;
  if (text.size() > room) {
    text = text.first(room);
    ack_now_ = wants_output_ = true;  // a probe of a closed window, or a sender who overruns it
  }
  if (released_) {
    discard_text(context, start, text.size());
  } else if (text.empty()) {
    // a FIN alone, or nothing left of the text
  } else if (start == rcv_nxt_) {
    receive_in_order(context, text);
  } else {
    receive_ahead(context, start, text);
  }
  if (state_ == ConnectionState::kClosed) return;
  if (peer_fin_ && *peer_fin_ == rcv_nxt_) {
    receive_fin();
  } else if (start > rcv_nxt_ && text.empty()) {
    send_ack(context);  // a FIN behind a gap
  }
}

void Connection::receive_in_order(Context& context, std::span<const std::byte> text) {
  std::size_t taken = receive_queue_.append(text);
  if (taken < text.size() && !reassembly_.empty()) {
    // What came early must not keep out what it waits for: nobody would ever get memory back. The
    // sender still has it (RFC 2018, section 8).
    drop_early(context);
    ack_now_ = true;  // a gap was closed (RFC 5681, section 4.2), and what was behind it is to come
    taken += receive_queue_.append(text.subspan(taken));
  }
  if (taken < text.size()) {
    ++context.counters.dropped_no_memory;
    ack_now_ = true;
  }
  Seq next = rcv_nxt_ + static_cast<std::uint32_t>(taken);
  if (!reassembly_.empty()) {
    Seq filled = reassembly_.advance(next);
    // A peer that has sent text beyond its own FIN has ended its stream there.
    if (peer_fin_) filled = earlier_of(filled, later_of(next, *peer_fin_));
    receive_queue_.extend(next.distance_to(filled));
    next = filled;
    ack_now_ = true;  // a gap was filled: the sender may be in recovery (RFC 5681, section 4.2)
    await_missing(context.now);
  }
  context.counters.bytes_received += rcv_nxt_.distance_to(next);
  rcv_nxt_ = next;
  // The window may have been moved on by as much as the scale's rounding hides.
  rcv_edge_ = later_of(rcv_edge_, rcv_nxt_);
  news.readable = taken > 0 || news.readable;
  const auto size = static_cast<std::uint32_t>(text.size());
  largest_received_ = std::max(largest_received_, size);
  unacknowledged_ += size;
  // RFC 9293, section 3.8.6.3: at least every second full segment, full being what this peer sends.
  if (unacknowledged_ >= 2 * largest_received_ || quick_acks_ > 0) ack_now_ = true;
  if (ack_now_) {
    wants_output_ = true;
  } else {
    ack_deadline_ = std::min(ack_deadline_, context.now + kDelayedAck);
  }
}

void Connection::receive_ahead(Context& context, Seq start, std::span<const std::byte> text) {
  ++context.counters.out_of_order_segments;
  const Seq end = start + static_cast<std::uint32_t>(text.size());
  if (reassembly_.covers(start, end)) {
    note_duplicate(start, end);
    ++context.counters.duplicate_segments;
  }
  const bool room = !receive_queue_.is_short() && reassembly_.fits(start, end) &&
                    receive_queue_.write_ahead(rcv_nxt_.distance_to(start), text);
  if (room) {
    reassembly_.insert(start, end);
    if (early_since_ == kNever) await_missing(context.now);
  } else {
    ++context.counters.dropped_no_memory;
    if (reassembly_.empty()) receive_queue_.drop_ahead();  // the part that found memory
  }
  // At once and one for each: the sender counts them (RFC 5681, section 4.2).
  if (!send_ack(context)) ack_now_ = wants_output_ = true;
}

/// From now on, for what is missing in front of what came early, if something did.
void Connection::await_missing(Instant now) { early_since_ = reassembly_.empty() ? kNever : now; }

void Connection::drop_early(Context& context) {
  ++context.counters.early_text_dropped;
  reassembly_.clear();
  receive_queue_.drop_ahead();
  await_missing(context.now);
}

/// RFC 2883: told with the next ACK, and only the first of several.
void Connection::note_duplicate(Seq start, Seq end) {
  if (sack_permitted_ && !duplicate_) duplicate_ = SackBlock{start, end};
}

/// After release() the peer may still be talking while our last bytes travel. It is heard out, up
/// to one buffer, so that a RST does not overtake what we have sent; RFC 9293, section 3.6.1, would
/// reset at the first byte.
void Connection::discard_text(Context& context, Seq start, std::size_t count) {
  if (start != rcv_nxt_) {
    if (start > rcv_nxt_ && count > 0) send_ack(context);
    return;
  }
  discarded_ += static_cast<std::uint32_t>(count);
  rcv_nxt_ += static_cast<std::uint32_t>(count);
  if (discarded_ > context.options.receive_buffer_bytes) {
    send_reset(context);
    return fail(Failure::kReset);
  }
  if (count > 0) ack_now_ = wants_output_ = true;
}

void Connection::receive_fin() {
  rcv_nxt_ += 1;
  rcv_edge_ = later_of(rcv_edge_, rcv_nxt_);
  fin_received_ = true;
  news.readable = true;
  ack_now_ = wants_output_ = true;
  switch (state_) {
    case ConnectionState::kEstablished:
      state_ = ConnectionState::kCloseWait;
      return;
    case ConnectionState::kFinWait1:
      state_ = ConnectionState::kClosing;
      return;
    case ConnectionState::kFinWait2:
      state_ = ConnectionState::kTimeWait;
      news.closed = true;
      return;
    case ConnectionState::kSynSent:
    case ConnectionState::kSynReceived:
    case ConnectionState::kCloseWait:
    case ConnectionState::kClosing:
    case ConnectionState::kLastAck:
    case ConnectionState::kTimeWait:
    case ConnectionState::kClosed:
      WEIR_ASSERT(false);  // accepts_text() lets only the three above in
  }
}

// ---- ICMP ---------------------------------------------------------------------------------------

void Connection::on_error(Context& context, const net::TransportError& error) {
  // Whoever cannot see our segments cannot quote a number that is in flight (RFC 5927, section 4).
  const Seq quoted{error.sequence};
  if (quoted < snd_una_ || quoted >= snd_max_) return;
  switch (error.kind) {
    case net::TransportError::Kind::kUnreachable:
      // Hard only where nothing is lost by believing it (RFC 5461, section 4.1): an established
      // connection waits for the path to come back, bounded by the user time-out.
      if (state_ != ConnectionState::kSynSent) return;
      ++context.counters.failed_connects;
      return fail(Failure::kUnreachable);
    case net::TransportError::Kind::kTimeExceeded:
      return;
    case net::TransportError::Kind::kPacketTooBig: {
      context.output.lower_path_mtu(key_.remote_address, error.mtu, context.now);
      const std::uint32_t mss = context.output.segment_size(key_.remote_address) -
                                static_cast<std::uint32_t>(sizeof(TcpHeader));
      if (mss >= send_mss_) return;
      path_mss_top_ = path_mss_max_ = 0;  // told, and not to be searched for
      if (state_ != ConnectionState::kSynSent && state_ != ConnectionState::kSynReceived)
        return shrink_segments(mss);
      send_mss_ = mss;
      congestion_.set_mss(mss);
      return;
    }
  }
}

}  // namespace weir::tcp
