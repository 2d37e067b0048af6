#include "tests/support/link_losses.h"

#include <map>
#include <optional>
#include <utility>

#include "tests/support/frame_view.h"

namespace weir::testing {
namespace {

/// A flow by its ports: enough on a link between two hosts.
using Flow = std::pair<std::uint16_t, std::uint16_t>;

Flow flow_of(const tcp::SegmentView& segment) {
  return {segment.source_port, segment.destination_port};
}

}  // namespace

LossRule with_flags(std::uint8_t flags) {
  return [flags](std::uint64_t, std::span<const std::byte> frame) {
    const auto tcp = tcp_frame(frame);
    return tcp && (tcp->segment.flags & flags) == flags;
  };
}

LossRule covering_byte(std::uint32_t offset, unsigned times) {
  return [offset, left = times, starts = std::map<Flow, tcp::Seq>{}](
             std::uint64_t, std::span<const std::byte> frame) mutable {
    const auto tcp = tcp_frame(frame);
    if (!tcp) return false;
    const tcp::SegmentView& segment = tcp->segment;
    if (segment.syn()) starts.insert_or_assign(flow_of(segment), segment.seq + 1);
    const auto start = starts.find(flow_of(segment));
    if (start == starts.end() || segment.payload.empty()) return false;
    const tcp::Seq wanted = start->second + offset;
    const bool covers = segment.seq <= wanted && wanted < segment.end();
    if (!covers || left == 0) return false;
    --left;
    return true;
  };
}

LossRule retransmissions(unsigned times) {
  struct State {
    tcp::Seq highest;
    std::map<std::uint32_t, unsigned> lost;  // by first number
  };
  return [times, flows = std::map<Flow, State>{}](std::uint64_t,
                                                  std::span<const std::byte> frame) mutable {
    const auto tcp = tcp_frame(frame);
    if (!tcp || tcp->segment.length() == 0) return false;
    const tcp::SegmentView& segment = tcp->segment;
    const auto [found, is_new] = flows.try_emplace(flow_of(segment), State{segment.seq, {}});
    State& flow = found->second;
    const bool again = !is_new && segment.seq < flow.highest;
    flow.highest = tcp::later_of(flow.highest, segment.end());
    if (!again || segment.payload.empty()) return false;
    unsigned& lost = flow.lost[segment.seq.value()];
    return lost++ < times;
  };
}

LossRule first(unsigned times, LossRule rule) {
  return [left = times, rule = std::move(rule)](std::uint64_t number,
                                                std::span<const std::byte> frame) mutable {
    if (left == 0 || !rule(number, frame)) return false;
    --left;
    return true;
  };
}

LossRule either(LossRule one, LossRule other) {
  return [one = std::move(one), other = std::move(other)](
             std::uint64_t number, std::span<const std::byte> frame) mutable {
    const bool by_one = one(number, frame);
    return other(number, frame) || by_one;
  };
}

}  // namespace weir::testing
