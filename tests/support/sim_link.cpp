#include "tests/support/sim_link.h"

#include <algorithm>

namespace weir::testing {
namespace {

constexpr std::size_t kEthernetBytes = 14;
constexpr std::size_t kFrameBytesMin = kEthernetBytes + 1500;
constexpr std::size_t kInboxMax = 2048;  // like the ring of a real port

constexpr Side other(Side side) { return side == Side::kA ? Side::kB : Side::kA; }

}  // namespace

SimLink::End::End(SimLink& link, Side side, const LinkOptions& direction, std::uint32_t buffers,
                  std::uint64_t seed)
    : port{link, side},
      pool{buffers},
      options{direction},
      impairment{{.frame_bytes_max = std::max(kFrameBytesMin, kEthernetBytes + direction.mtu)},
                 seed} {
  const std::uint8_t last = side == Side::kA ? 0x0a : 0x0b;
  capabilities.mac = wire::MacAddress{{0x02, 0, 0, 0, 0, last}};
  capabilities.mtu = direction.mtu;
}

SimLink::SimLink(const Options& options, Instant start)
    : now_{start},
      ends_{End{*this, Side::kA, options.a_to_b, options.buffers[0], options.seed},
            End{*this, Side::kB, options.b_to_a, options.buffers[1], ~options.seed}} {}

LinkCounters SimLink::counters(Side from) {
  const End& sender = end(from);
  LinkCounters counters;
  static_cast<port::ImpairCounters&>(counters) = sender.impairment.counters();
  counters.delivered = sender.delivered;
  counters.lost_by_choice = sender.lost_by_choice;
  counters.lost_receiver = sender.lost_receiver;
  return counters;
}

Instant SimLink::next_event() const {
  return std::min(ends_[0].impairment.next_release(), ends_[1].impairment.next_release());
}

void SimLink::advance_to(Instant now) {
  while (next_event() <= now) {
    const bool from_a = ends_[0].impairment.next_release() <= ends_[1].impairment.next_release();
    const Side from = from_a ? Side::kA : Side::kB;
    const auto frame = end(from).impairment.release(now);
    now_ = std::max(now_, frame->at);
    arrive(other(from), *frame);
  }
  now_ = std::max(now_, now);
}

void SimLink::offer(Side from, std::span<const std::byte> frame) {
  End& sender = end(from);
  const std::uint64_t number = sender.offered++;
  const bool by_choice = std::ranges::count(sender.options.lose_numbers, number) > 0 ||
                         (sender.options.lose_if && sender.options.lose_if(number, frame));
  port::Fate fate = port::Fate::kLostByChance;
  if (by_choice) {
    ++sender.lost_by_choice;
    sender.impairment.pass_over(sender.options);
  } else {
    fate = sender.impairment.offer(sender.options, frame, now_);
  }
  if (capture_)
    capture_({.at = now_,
              .from = from,
              .number = number,
              .lost = fate != port::Fate::kPasses && fate != port::Fate::kCorrupted,
              .corrupted = fate == port::Fate::kCorrupted,
              .bytes = frame});
  if (fate == port::Fate::kTooBig && sender.options.answer_too_big) answer_too_big(from, frame);
}

void SimLink::answer_too_big(Side from, std::span<const std::byte> frame) {
  std::array<std::byte, port::kTooBigBytesMax> answer;
  const std::size_t length = port::write_too_big(frame, end(from).options.mtu, answer);
  if (length == 0) return;
  end(from).impairment.count_too_big_answer();
  inject(from, std::span{answer}.first(length));
}

void SimLink::inject(Side to, std::span<const std::byte> frame) {
  End& sender = end(other(to));
  static_cast<void>(sender.impairment.insert(frame, now_ + sender.options.delay));
}

void SimLink::arrive(Side to, const port::Impairment::Released& frame) {
  End& receiver = end(to);
  End& sender = end(other(to));
  if (delivery_)
    delivery_({.at = now_, .to = to, .corrupted = frame.corrupted, .bytes = frame.bytes});
  if (receiver.inbox.size() >= kInboxMax) {
    ++receiver.port_counters.receive_overflow;
    ++sender.lost_receiver;
    return;
  }
  port::Packet packet = receiver.pool.copy_of(frame.bytes);
  if (!packet) {
    ++receiver.port_counters.receive_no_buffer;
    ++sender.lost_receiver;
    return;
  }
  ++sender.delivered;
  receiver.inbox.push_back(std::move(packet));
}

void SimLink::complete(End& end) {
  while (!end.completing.empty() && end.completing.front().first <= now_)
    end.completing.pop_front();
}

const port::PortCapabilities& SimLink::Port::capabilities() const {
  return link_.end(side_).capabilities;
}

port::PortCounters SimLink::Port::counters() const { return link_.end(side_).port_counters; }

std::size_t SimLink::Port::receive(std::span<port::Packet> burst) {
  End& here = link_.end(side_);
  std::size_t count = 0;
  for (; count < burst.size() && !here.inbox.empty(); ++count) {
    burst[count] = std::move(here.inbox.front());
    here.inbox.pop_front();
    ++here.port_counters.received_frames;
    here.port_counters.received_bytes += burst[count].size();
  }
  return count;
}

std::size_t SimLink::Port::send(std::span<port::Packet> burst) {
  End& here = link_.end(side_);
  link_.complete(here);
  const std::size_t refused = std::min(here.refuse, burst.size());
  here.refuse -= refused;
  here.port_counters.send_refused += refused;
  const std::size_t taken = burst.size() - refused;
  for (port::Packet& packet : burst.first(taken)) {
    ++here.port_counters.sent_frames;
    here.port_counters.sent_bytes += packet.size();
    link_.offer(side_, std::as_const(packet).bytes());
    if (here.completion_delay > Duration{})
      here.completing.emplace_back(link_.now_ + here.completion_delay, std::move(packet));
    packet.reset();
  }
  return taken;
}

port::Packet SimLink::Port::allocate() {
  End& here = link_.end(side_);
  port::Packet packet = here.pool.allocate(here.capabilities.mtu);
  if (!packet) ++here.port_counters.pool_exhausted;
  return packet;
}

}  // namespace weir::testing
