#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "l7/tcp/connection.h"

// How large a segment the path carries: told by ICMP (RFC 1191, RFC 8201), or found out where ICMP
// does not come through (RFC 4821).
//
// Two time-outs in a row for a segment that is larger than what every path carries are the sign of
// a black hole: smaller segments from there on. Then the size is searched upwards with single
// segments of real data, whose loss means nothing for the congestion window (section 7.6.2).

namespace weir::tcp {
namespace {

/// What segments come down to after so many time-outs in a row of a larger one.
struct BaseSize {
  std::uint32_t mss;
  unsigned timeouts;
};
// RFC 4821, section 7.2, with IPv4's share of tunnels in mind; what Linux starts from, too. Where
// that does not get through either, what every host must take (RFC 791, section 3.1: 576 bytes).
constexpr std::array<BaseSize, 2> kBasesV4{{{1024, 2}, {512, 4}}};
constexpr std::array<BaseSize, 1> kBasesV6{{{1220, 2}}};

// The search narrows down to this. A pass that has won nothing ends it for ten minutes, since paths
// change (RFC 4821, section 7.3; RFC 8899, section 5.1.1); after one that has won something there
// is another, because a path that loses anything loses probes that would have fitted.
constexpr std::uint32_t kSearchStep = 32;
constexpr Duration kSearchAgain = std::chrono::minutes{10};
constexpr Duration kAfterFailure = std::chrono::seconds{1};

}  // namespace

void Connection::shrink_segments(std::uint32_t mss) {
  send_mss_ = mss;
  path_probe_mss_ = 0;
  congestion_.set_mss(mss);
  // What was too big is gone, and not by congestion: again, smaller, at the same pace.
  for (SentSegment* at = sent_.first(); at != nullptr; at = at->by_sequence.next)
    if (at->length > payload_max() + (fin_queued_ && at == sent_.last() ? 1U : 0U))
      sent_.mark_lost(*at);
  if (sent_.bytes_lost() > 0 && repair_ == Repair::kNone) {
    begin_episode(Repair::kTimeout);
    may_undo_ = false;
  }
  wants_output_ = true;
}

void Connection::suspect_black_hole(Context& context) {
  if (!context.options.path_probing || sent_.first() == nullptr) return;
  const std::uint32_t lost = std::min(sent_.first()->length, send_mss_);
  const std::span<const BaseSize> bases =
      key_.remote_address.is_v4() ? std::span<const BaseSize>{kBasesV4} : kBasesV6;
  const auto base =
      std::ranges::find_if(bases, [&](const BaseSize& size) { return size.mss < lost; });
  if (base == bases.end() || rtt_.backoff() < base->timeouts) return;
  ++context.counters.black_holes;
  path_mss_top_ = std::max(path_mss_top_, send_mss_);
  path_mss_max_ = send_mss_;
  path_probe_after_ = context.now + kAfterFailure;
  shrink_segments(base->mss);
}

/// The payload of a probe that may leave now; 0: none.
std::uint32_t Connection::path_probe_length(Instant now) {
  if (path_mss_top_ <= send_mss_ || path_probe_mss_ != 0 || now < path_probe_after_) return 0;
  if (repair_ != Repair::kNone) return 0;
  if (path_mss_max_ <= send_mss_) path_mss_max_ = path_mss_top_;  // the search begins anew
  // The top is the likeliest size of all. Any other bound is one byte below what has failed.
  const bool top = path_mss_max_ == path_mss_top_ && path_mss_max_ - send_mss_ < 2 * kSearchStep;
  const std::uint32_t size = top ? path_mss_max_ : (send_mss_ + path_mss_max_ + 1) / 2;
  return payload_max() + (size - send_mss_);
}

void Connection::on_path_probe_sent(SentSegment& segment, std::uint32_t length) {
  segment.path_probe = true;
  path_probe_mss_ = send_mss_ + (length - payload_max());
}

void Connection::on_path_probe_delivered(Instant now) {
  if (path_probe_mss_ == 0) return;
  send_mss_ = std::max(send_mss_, path_probe_mss_);
  congestion_.set_mss(send_mss_);
  path_probe_mss_ = 0;
  path_probe_after_ = now;
  path_pass_won_ = true;
  end_path_pass(now);
}

/// The loss of a probe alone says that it was too large: the same bytes leave in pieces, and the
/// window stays.
void Connection::on_path_probe_lost(Context& context, SentSegment& segment) {
  path_probe_failed(segment, context.now);
  const Seq end = segment.end();
  for (SentSegment* at = &segment; at != nullptr && at->start < end; at = at->by_sequence.next)
    if (!send_again(context, *at)) return;  // then it counts as lost
}

/// To be asked of any segment that is sent again: nothing happens unless it is a probe, and one
/// that still counts, which it does no more since the segments were cut.
void Connection::path_probe_failed(SentSegment& segment, Instant now) {
  if (!std::exchange(segment.path_probe, false) || path_probe_mss_ == 0) return;
  path_mss_max_ = std::max(path_probe_mss_, send_mss_ + 1) - 1;
  path_probe_mss_ = 0;
  path_probe_after_ = now + kAfterFailure;
  end_path_pass(now);
}

/// When what is proven and what has failed are so close that the difference is not worth the next
/// lost segment.
void Connection::end_path_pass(Instant now) {
  if (path_mss_max_ == path_mss_top_ || path_mss_max_ - send_mss_ >= kSearchStep) return;
  path_mss_max_ = send_mss_;  // the next one begins at the top
  path_probe_after_ = now + (std::exchange(path_pass_won_, false) ? kAfterFailure : kSearchAgain);
}

}  // namespace weir::tcp
