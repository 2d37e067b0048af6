#include "l7/tcp/listener.h"

#include <algorithm>
#include <array>

#include "l7/tcp/handshake.h"
#include "l7/tcp/stamp.h"

namespace weir::tcp {
namespace {

using wire::TcpHeader;

// Answers to segments that nobody waits for an answer to (RFC 5961, section 7), of all half-open
// connections together: they have no record of their own for it.
constexpr std::uint32_t kChallengesPerSecond = 1000;
constexpr std::uint32_t kChallengeBurst = 100;

std::array<std::uint64_t, 2> draw(Random& random) { return {random.next(), random.next()}; }

}  // namespace

/// What a SYN-ACK consists of, whether it is remembered or not.
struct Listener::Answer {
  FlowKey key;
  Seq iss;
  Seq irs;
  PeerOptions agreed;
  std::uint32_t stamp = 0;
  std::uint32_t stamp_echo = 0;
};

Listener::Listener(const StackOptions& options, Random& random, const FlowHash& stamp_secret,
                   Instant start)
    : stamp_secret_{stamp_secret},
      queue_{std::min(options.half_open_max, SynQueue::kCapacityMax), draw(random)},
      cookies_{draw(random), draw(random)},
      challenge_limit_{kChallengesPerSecond, kChallengeBurst, start} {}

PeerOptions Listener::read_options(const StackOptions& options, const FlowKey& key,
                                   const SegmentView& syn) {
  // RFC 3168, section 6.1.1: both bits on a SYN ask for ECN.
  constexpr std::uint8_t kAsksForEcn = TcpHeader::kEce | TcpHeader::kCwr;
  return {.mss = peer_mss(syn.options, key.remote_address.family()),
          .window_scale = syn.options.window_scale,
          .sack_permitted = syn.options.sack_permitted,
          .timestamps = options.timestamps && syn.options.timestamps.has_value(),
          .ecn = options.ecn && (syn.flags & kAsksForEcn) == kAsksForEcn};
}

bool Listener::on_syn(Context& context, const FlowKey& key, std::uint64_t hash,
                      const SegmentView& syn, UserData user, Seq iss, bool must_remember) {
  const PeerOptions peer = read_options(context.options, key, syn);
  const std::uint32_t stamp_received = peer.timestamps ? syn.options.timestamps->value : 0;
  if (!queue_.full() && !queue_.prefix_is_over(key)) {
    HalfOpen record;
    record.user = user;
    record.key = key;
    record.iss = iss;
    record.irs = syn.seq;
    record.ts_recent = stamp_received;
    record.peer = peer;
    record.window = syn.window;
    send_record(context, queue_.add(hash, record, context.now));
    return true;
  }
  if (must_remember) {
    ++context.counters.dropped_backlog;
    return false;
  }
  ++context.counters.cookies_sent;
  Answer answer;
  answer.key = key;
  answer.irs = syn.seq;
  answer.iss = cookies_.make(key, syn.seq, peer, context.now);
  answer.agreed = SynCookie::remembered(peer, key.remote_address.family());
  answer.stamp = SynCookie::stamp(stamp_at(stamp_offset(stamp_secret_, key), context.now), peer);
  answer.stamp_echo = stamp_received;
  send_syn_ack(context, answer);
  return true;
}

void Listener::send_record(Context& context, const HalfOpen& record) {
  send_syn_ack(context, {.key = record.key,
                         .iss = record.iss,
                         .irs = record.irs,
                         .agreed = record.peer,
                         .stamp = stamp_at(stamp_offset(stamp_secret_, record.key), context.now),
                         .stamp_echo = record.ts_recent});
}

void Listener::send_syn_ack(Context& context, const Answer& answer) {
  SegmentHeader header;
  header.seq = answer.iss;
  header.ack = answer.irs + 1;
  header.flags = TcpHeader::kSyn | TcpHeader::kAck;
  if (answer.agreed.ecn) header.flags |= TcpHeader::kEce;
  header.window = syn_window(context.options);
  header.options.mss = receive_mss(context.output, answer.key);
  header.options.sack_permitted = answer.agreed.sack_permitted;
  // An answer confirms only what the peer has offered (RFC 7323, section 1.3; RFC 2018, section 2).
  if (answer.agreed.window_scale) header.options.window_scale = receive_shift(context.options);
  if (answer.agreed.timestamps)
    header.options.timestamps = Timestamps{answer.stamp, answer.stamp_echo};
  // Without a buffer it is as good as lost: a record is sent again, a client repeats its SYN.
  static_cast<void>(send_control_segment(context, answer.key, header));
}

std::optional<Accepted> Listener::on_segment(Context& context, std::uint64_t hash, HalfOpen& record,
                                             const SegmentView& segment) {
  if (segment.syn() && segment.seq == record.irs && !segment.rst()) {
    if (segment.has_ack()) return std::nullopt;
    // Our answer was lost, or the SYN for what it asked for: then it comes without that (RFC 3168,
    // section 6.1.1.1). Its stamp is newer.
    record.peer.ecn = record.peer.ecn && read_options(context.options, record.key, segment).ecn;
    if (record.peer.timestamps && segment.options.timestamps)
      record.ts_recent = segment.options.timestamps->value;
    queue_.renew(hash, record.key, context.now);
    send_record(context, record);
    return std::nullopt;
  }
  const Seq next = record.irs + 1;
  const bool in_window =
      next <= segment.seq && segment.seq <= next + std::uint32_t{syn_window(context.options)};
  if (segment.rst()) {
    if (segment.seq == next) {
      ++context.counters.resets_received;
      queue_.remove(hash, record.key);
    } else if (in_window) {
      challenge(context, record);
    }
    return std::nullopt;
  }
  const bool is_old = record.peer.timestamps && segment.options.timestamps &&
                      stamp_before(segment.options.timestamps->value, record.ts_recent);
  if (is_old) ++context.counters.old_duplicates;
  if (!in_window || is_old || segment.syn()) {
    challenge(context, record);
    return std::nullopt;
  }
  if (!segment.has_ack()) return std::nullopt;
  if (segment.ack != record.iss + 1) {
    answer_with_reset(context, record.key, segment);
    return std::nullopt;
  }
  Accepted accepted{.record = record, .answered_at = std::nullopt};
  if (record.retransmissions == 0) accepted.answered_at = SynQueue::last_sent(record);
  return accepted;
}

void Listener::challenge(Context& context, const HalfOpen& record) {
  if (!challenge_limit_.take(context.now)) return;
  ++context.counters.challenge_acks;
  SegmentHeader ack;
  ack.seq = record.iss + 1;
  ack.ack = record.irs + 1;
  ack.flags = TcpHeader::kAck;
  ack.window = syn_window(context.options);
  if (record.peer.timestamps)
    ack.options.timestamps = Timestamps{
        stamp_at(stamp_offset(stamp_secret_, record.key), context.now), record.ts_recent};
  static_cast<void>(send_control_segment(context, record.key, ack));
}

std::optional<Accepted> Listener::check_cookie(const Context& context, const FlowKey& key,
                                               const SegmentView& segment, UserData user) {
  if (!segment.has_ack() || segment.syn() || segment.rst()) return std::nullopt;
  std::optional<std::uint32_t> echoed;
  if (segment.options.timestamps) echoed = segment.options.timestamps->echo;
  const Seq irs = segment.seq - 1;
  const Seq iss = segment.ack - 1;
  const auto peer = cookies_.check(key, irs, iss, context.now, echoed);
  if (!peer) return std::nullopt;
  Accepted accepted;
  accepted.record.user = user;
  accepted.record.key = key;
  accepted.record.iss = iss;
  accepted.record.irs = irs;
  accepted.record.peer = *peer;
  if (peer->timestamps) accepted.record.ts_recent = segment.options.timestamps->value;
  // The window of the SYN is forgotten; this segment's, which the connection reads next, counts.
  accepted.record.window = segment.window;
  return accepted;
}

void Listener::advance(Context& context) {
  context.counters.half_open_expired += queue_.advance(context.now, [&](const HalfOpen& record) {
    ++context.counters.retransmission_timeouts;
    ++context.counters.retransmitted_segments;
    send_record(context, record);
  });
}

}  // namespace weir::tcp
