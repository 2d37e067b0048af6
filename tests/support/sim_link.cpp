#include "tests/support/sim_link.h"

#include <algorithm>

namespace weir::testing {
namespace {

constexpr std::size_t kEthernetBytes = 14;
constexpr std::size_t kInboxMax = 2048;  // like the ring of a real port

constexpr Side other(Side side) { return side == Side::kA ? Side::kB : Side::kA; }

}  // namespace

SimLink::End::End(SimLink& link, Side side, const LinkOptions& direction, std::uint32_t buffers,
                  Random source)
    : port{link, side}, pool{buffers}, options{direction}, random{source} {
  const std::uint8_t last = side == Side::kA ? 0x0a : 0x0b;
  capabilities.mac = wire::MacAddress{{0x02, 0, 0, 0, 0, last}};
  capabilities.mtu = direction.mtu;
}

SimLink::SimLink(const Options& options, Instant start)
    : now_{start},
      ends_{End{*this, Side::kA, options.a_to_b, options.buffers_per_port, Random{options.seed}},
            End{*this, Side::kB, options.b_to_a, options.buffers_per_port, Random{~options.seed}}} {
}

Instant SimLink::next_event() const {
  return flights_.empty() ? kNever : flights_.begin()->first.first;
}

void SimLink::advance_to(Instant now) {
  while (next_event() <= now) {
    auto first = flights_.extract(flights_.begin());
    now_ = std::max(now_, first.key().first);
    arrive(first.mapped());
  }
  now_ = std::max(now_, now);
}

void SimLink::offer(Side from, std::span<const std::byte> frame) {
  End& sender = end(from);
  const LinkOptions& options = sender.options;
  LinkCounters& counters = sender.counters;
  const std::uint64_t number = counters.offered++;
  // All four are drawn for every frame, so that changing one probability does not move the others.
  const bool by_chance = sender.random.chance(options.loss);
  const bool reorder = sender.random.chance(options.reorder);
  const bool duplicate = sender.random.chance(options.duplicate);
  const bool corrupt = sender.random.chance(options.corrupt);
  const std::uint64_t where = sender.random.next();

  while (!sender.departures.empty() && sender.departures.front() <= now_)
    sender.departures.pop_front();
  const bool by_choice = std::ranges::count(options.lose_numbers, number) > 0 ||
                         (options.lose_if && options.lose_if(number, frame));
  bool lost = true;
  if (frame.size() > kEthernetBytes + options.mtu)
    ++counters.lost_mtu;
  else if (by_choice)
    ++counters.lost_by_choice;
  else if (by_chance)
    ++counters.lost_by_chance;
  else if (sender.departures.size() >= options.queue_frames_max)
    ++counters.lost_queue;
  else
    lost = false;
  if (capture_)
    capture_({.at = now_, .from = from, .number = number, .lost = lost, .bytes = frame});
  if (lost) return;

  Instant departure = now_;
  if (options.rate_bits_per_s > 0) {
    const std::uint64_t bits = frame.size() * 8;
    departure =
        std::max(now_, sender.busy_until) +
        Duration{static_cast<Duration::rep>(bits * 1'000'000'000 / options.rate_bits_per_s)};
    sender.busy_until = departure;
    sender.departures.push_back(departure);
  }
  std::vector<std::byte> bytes{frame.begin(), frame.end()};
  if (corrupt && bytes.size() > kEthernetBytes) {
    ++counters.corrupted;
    const std::size_t at = kEthernetBytes + (where >> 3) % (bytes.size() - kEthernetBytes);
    bytes[at] ^= std::byte{1} << (where & 7);
  }
  Instant arrival = departure + options.delay;
  if (duplicate) {
    ++counters.duplicated;
    launch(from, bytes, arrival);
  }
  if (reorder) {
    ++counters.reordered;
    arrival += options.reorder_delay;
  }
  launch(from, std::move(bytes), arrival);
}

void SimLink::launch(Side from, std::vector<std::byte> frame, Instant arrival) {
  flights_.emplace(std::pair{arrival, launched_++}, Flight{other(from), std::move(frame)});
}

void SimLink::arrive(const Flight& flight) {
  End& receiver = end(flight.to);
  LinkCounters& counters = end(other(flight.to)).counters;
  if (receiver.inbox.size() >= kInboxMax) {
    ++receiver.port_counters.receive_overflow;
    ++counters.lost_receiver;
    return;
  }
  port::Packet packet = receiver.pool.copy_of(flight.bytes);
  if (!packet) {
    ++receiver.port_counters.receive_no_buffer;
    ++counters.lost_receiver;
    return;
  }
  ++counters.delivered;
  receiver.inbox.push_back(std::move(packet));
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
  const std::size_t refused = std::min(here.refuse, burst.size());
  here.refuse -= refused;
  here.port_counters.send_refused += refused;
  const std::size_t taken = burst.size() - refused;
  for (port::Packet& packet : burst.first(taken)) {
    ++here.port_counters.sent_frames;
    here.port_counters.sent_bytes += packet.size();
    link_.offer(side_, std::as_const(packet).bytes());
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
