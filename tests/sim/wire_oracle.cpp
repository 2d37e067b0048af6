#include "tests/sim/wire_oracle.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <span>

namespace weir::testing {
namespace {

using tcp::SegmentView;
using tcp::Seq;

/// RFC 6928: ten segments, at most 14600 bytes; here without the part that depends on the MSS.
constexpr std::uint64_t kInitialWindowMax = 14600;

/// RttEstimator::kMax, and what coarse clocks and refused frames may add.
constexpr Duration kSilenceMax = std::chrono::seconds{61};

constexpr std::size_t index(Side side) { return static_cast<std::size_t>(side); }

bool is_ack_alone(const SegmentView& segment) {
  return segment.has_ack() && segment.length() == 0 && !segment.rst();
}

}  // namespace

WireOracle::Flow& WireOracle::flow(Side side, std::uint16_t local_port, std::uint16_t remote_port) {
  return side == Side::kA ? flows_[{local_port, remote_port}] : flows_[{remote_port, local_port}];
}

void WireOracle::violate(Side side, const SegmentView& segment, std::string_view what) {
  if (!violation_.empty()) return;
  violation_ =
      fmt::format("{} {}>{} flags {:02x} seq {}+{} ack {}: {}", side == Side::kA ? "A" : "B",
                  segment.source_port, segment.destination_port, segment.flags, segment.seq.value(),
                  segment.payload.size(), segment.ack.value(), what);
}

// ---- what is sent -------------------------------------------------------------------------------

void WireOracle::on_sent(Side from, const TcpFrame& frame, bool arrives, Instant now) {
  const SegmentView& segment = frame.segment;
  side_ = from;
  Flow& flow = this->flow(from, segment.source_port, segment.destination_port);
  Half& half = flow.halves[index(from)];
  const Half& peer = flow.halves[1 - index(from)];
  half.quiet_since = now;
  count_loss(half, peer, segment, arrives);
  if (segment.rst()) {
    half.reset = true;
    return;
  }
  if (segment.syn() && half.initial == segment.seq) syn_was_repeated_ = true;
  if (segment.syn() && half.initial != segment.seq) {
    // A listener that has forgotten a connection takes an old duplicate of its SYN for a new one.
    if (half.initial) flow.mixed = true;
    half.initial = segment.seq;
    half.scale = segment.options.window_scale;
    half.sent_end = segment.seq;
  }
  if (flow.mixed) return;
  check_order(half, segment);
  check_text(half, segment);
  if (segment.has_ack() && (!peer.initial || segment.ack > peer.sent_end))
    violate(from, segment, "acknowledges what was never sent");
  if (!half.initial) return;
  if (segment.has_ack()) {
    const Seq edge = edge_of(segment, half, peer);
    half.told_ack = half.told ? tcp::later_of(half.told_ack, segment.ack) : segment.ack;
    half.told = tcp::later_of(half.told.value_or(edge), edge);
  }
  half.sent_new_text = !segment.payload.empty() && segment.end() > half.sent_end;
  if (segment.length() > 0 && segment.seq < half.sent_end) {
    half.repaired = half.sent_end;
    half.repeated = tcp::later_of(half.repeated.value_or(segment.end()), segment.end());
  }
  half.sent_end = tcp::later_of(half.sent_end, segment.end());
  half.text_max = std::max(half.text_max, static_cast<std::uint32_t>(segment.payload.size()));
  check_ack_cause(half, segment, now);
}

void WireOracle::count_loss(Half& half, const Half& peer, const SegmentView& segment,
                            bool arrives) {
  const bool again = segment.seq.value() == half.last_seq &&
                     (segment.length() > 0 || segment.ack.value() == half.last_ack);
  half.last_seq = segment.seq.value();
  half.last_ack = segment.ack.value();
  if (!again) half.losses_in_a_row = half.lasting_losses;
  if (arrives) return;
  ++losses_[std::min<std::size_t>(half.losses_in_a_row + peer.losses_in_a_row, losses_.size() - 1)];
  ++half.losses_in_a_row;
}

/// An ACK that moves on arrives. With a time stamp it always tells the round trip (RFC 7323,
/// section 4), else only if all that it acknowledges was sent once.
void WireOracle::note_sample(Half& half, const Half& peer, const SegmentView& segment) {
  const bool sent_once = !half.repeated || *half.acknowledged >= *half.repeated;
  const bool is_sample = segment.options.timestamps || sent_once;
  half.lasting_losses = is_sample ? 0 : half.losses_in_a_row + peer.losses_in_a_row;
}

double WireOracle::time_outs(double most) const {
  double sum = 0;
  for (std::size_t before = 0; before < losses_.size(); ++before)
    sum += static_cast<double>(losses_[before]) *
           std::min(most, static_cast<double>(std::uint64_t{1} << before));
  return sum;
}

void WireOracle::check_order(Half& half, const SegmentView& segment) {
  if (!half.initial) return violate(side_, segment, "sent before a SYN");
  // A SYN-ACK is repeated by who has refused a wrong ACK (RFC 9293, section 3.10.7.4).
  if (half.reset && !segment.syn()) return violate(side_, segment, "sent after a RST");
  if (segment.seq < *half.initial) return violate(side_, segment, "sent from before its SYN");
}

void WireOracle::check_text(Half& half, const SegmentView& segment) {
  if (segment.syn() || segment.length() == 0) return;
  if (!half.edge || !half.acknowledged)
    return violate(side_, segment, "text before the handshake is over");
  if (segment.end() > *half.edge && segment.length() > 1)
    return violate(side_, segment,
                   fmt::format("goes beyond the window, which ends at {}", half.edge->value()));
  const Seq text_end = segment.seq + static_cast<std::uint32_t>(segment.payload.size());
  if (half.fin && text_end > *half.fin) return violate(side_, segment, "text behind the FIN");
  if (!segment.fin()) {
    const std::uint64_t acknowledged = (*half.initial).distance_to(*half.acknowledged);
    const std::uint64_t flight = half.acknowledged->distance_to(
        tcp::later_of(tcp::later_of(segment.end(), half.sent_end), *half.acknowledged));
    std::uint64_t sacked = 0;
    for (const auto& [start, end] : half.sacked)
      sacked += end - start;
    const std::uint64_t most =
        kInitialWindowMax + 2 * acknowledged + sacked + (3 + half.duplicates) * half.text_max;
    if (flight > most)
      return violate(side_, segment, fmt::format("{} bytes in flight, {} at most", flight, most));
    return;
  }
  if (half.fin && *half.fin != text_end) return violate(side_, segment, "the FIN has moved");
  if (half.sent_end > text_end && !half.fin)
    return violate(side_, segment, "a FIN in front of text that was sent");
  half.fin = text_end;
}

void WireOracle::check_ack_cause(Half& half, const SegmentView& segment, Instant now) {
  if (!is_ack_alone(segment)) return;
  if (half.causes > 0) {
    --half.causes;
    return;
  }
  const double seconds = std::chrono::duration<double>(now - half.trickle_at).count();
  half.trickle = std::min(kTrickleMax, half.trickle + seconds * kTricklePerSecond);
  half.trickle_at = now;
  half.trickle -= 1;
  if (half.trickle < 0) violate(side_, segment, "one of many ACKs without a cause");
}

// ---- what arrives -------------------------------------------------------------------------------

void WireOracle::on_delivered(Side to, const TcpFrame& frame, Instant now) {
  const SegmentView& segment = frame.segment;
  Flow& flow = this->flow(to, segment.destination_port, segment.source_port);
  Half& half = flow.halves[index(to)];
  const Half& peer = flow.halves[1 - index(to)];
  half.quiet_since = now;
  if (segment.length() > 0) ++half.causes;
  if (!segment.has_ack() || segment.rst()) return;
  const Seq edge = edge_of(segment, peer, half);
  const bool moves_on = !half.acknowledged || segment.ack > *half.acknowledged;
  half.in_order = segment.options.sack_count == 0 && (moves_on || half.in_order);
  if (!moves_on && segment.length() == 0 && edge <= *half.edge) {  // RFC 5681, section 2
    ++half.duplicates;
    half.in_order = half.in_order && half.sent_end == segment.ack;
  }
  half.edge = tcp::later_of(half.edge.value_or(edge), edge);
  if (moves_on && half.acknowledged) note_sample(half, peer, segment);
  half.acknowledged = tcp::later_of(half.acknowledged.value_or(segment.ack), segment.ack);
  take_sacks(half, segment);
}

Seq WireOracle::edge_of(const SegmentView& segment, const Half& from, const Half& to) {
  const bool scaled = from.scale && to.scale && !segment.syn();
  return segment.ack + (std::uint32_t{segment.window} << (scaled ? *from.scale : 0));
}

void WireOracle::take_sacks(Half& half, const SegmentView& segment) {
  if (!half.initial) return;
  const std::uint64_t acknowledged = half.initial->distance_to(*half.acknowledged);
  for (const tcp::SackBlock& block :
       std::span{segment.options.sack}.first(segment.options.sack_count)) {
    if (block.start < *half.acknowledged || block.end <= block.start) continue;
    std::uint64_t start = half.initial->distance_to(block.start);
    std::uint64_t end = half.initial->distance_to(block.end);
    for (auto at = half.sacked.begin(); at != half.sacked.end();) {
      const bool touches = at->first <= end && at->second >= start;
      if (touches) {
        start = std::min(start, at->first);
        end = std::max(end, at->second);
      }
      at = touches ? half.sacked.erase(at) : std::next(at);
    }
    half.sacked[start] = end;
  }
  std::erase_if(half.sacked, [&](const auto& range) { return range.second <= acknowledged; });
}

void WireOracle::on_read(Side side, std::uint16_t local_port, std::uint16_t remote_port) {
  ++flow(side, local_port, remote_port).halves[index(side)].causes;
}

void WireOracle::check_window_told(Side side, std::uint16_t local_port, std::uint16_t remote_port,
                                   std::uint32_t room) {
  const Half& half = flow(side, local_port, remote_port).halves[index(side)];
  if (!half.told || !violation_.empty()) return;
  const std::uint32_t told = half.told_ack.distance_to(*half.told);
  if (told < room)
    violation_ = fmt::format("{} {}>{}: has room for {} and has told of {}",
                             side == Side::kA ? "A" : "B", local_port, remote_port, room, told);
}

void WireOracle::check_liveness(Side side, std::uint16_t local_port, std::uint16_t remote_port,
                                Instant now) {
  const Half& half = flow(side, local_port, remote_port).halves[index(side)];
  const Duration silent = now - half.quiet_since;
  if (!half.initial || silent <= kSilenceMax || !violation_.empty()) return;
  violation_ = fmt::format("{} {}>{}: silent for {:.1f} s with text that is not acknowledged",
                           side == Side::kA ? "A" : "B", local_port, remote_port,
                           std::chrono::duration<double>(silent).count());
}

std::optional<Seq> WireOracle::sent_end(Side side, std::uint16_t local_port,
                                        std::uint16_t remote_port) {
  const Half& half = flow(side, local_port, remote_port).halves[index(side)];
  return half.initial ? std::optional{half.sent_end} : std::nullopt;
}

void WireOracle::check_congestion(Side side, std::uint16_t local_port, std::uint16_t remote_port,
                                  std::uint64_t window) {
  const Half& half = flow(side, local_port, remote_port).halves[index(side)];
  if (!half.acknowledged || !half.in_order || !half.sent_new_text) return;
  // What a sender thinks lost is not in the network, and only the sender knows it.
  if (half.repaired && *half.acknowledged < *half.repaired) return;
  const std::uint64_t flight = half.acknowledged->distance_to(half.sent_end);
  // Limited transmit sends two more (RFC 3042); FIN is one number beyond.
  const std::uint64_t most = window + std::uint64_t{2} * half.text_max + 1;
  if (flight > most && violation_.empty())
    violation_ = fmt::format("{} {}>{}: {} bytes in flight, but the congestion window is {}",
                             side == Side::kA ? "A" : "B", local_port, remote_port, flight, window);
}

}  // namespace weir::testing
