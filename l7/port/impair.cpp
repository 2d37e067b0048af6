#include "l7/port/impair.h"

#include <algorithm>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"
#include "l4/wire/checksum.h"
#include "l4/wire/headers.h"

namespace weir::port {
namespace {

constexpr std::size_t kEthernetBytes = sizeof(wire::EthernetHeader);
constexpr std::size_t kSlotsPerBlock = 64;
constexpr std::uint64_t kNanosecondsPerSecond = 1'000'000'000;

}  // namespace

Impairment::Impairment(const Limits& limits, std::uint64_t seed)
    : limits_{limits}, random_{seed}, burst_random_{seed ^ 0x6275727374} {}

// ---- chance ---------------------------------------------------------------------------------

Impairment::Draw Impairment::draw(const ImpairOptions& options) {
  Draw drawn{};
  drawn.lost = random_.chance(options.loss);
  drawn.reorder = random_.chance(options.reorder);
  drawn.duplicate = random_.chance(options.duplicate);
  drawn.corrupt = random_.chance(options.corrupt);
  drawn.where = random_.next();
  const bool changes = burst_random_.chance(in_burst_ ? options.burst.end : options.burst.begin);
  if (changes) in_burst_ = !in_burst_;
  drawn.burst_lost = burst_random_.chance(options.burst.loss) && in_burst_;
  return drawn;
}

Fate Impairment::judge(const ImpairOptions& options, const Draw& drawn, std::size_t bytes) const {
  if (bytes > std::min(kEthernetBytes + options.mtu, limits_.frame_bytes_max)) return Fate::kTooBig;
  if (drawn.lost) return Fate::kLostByChance;
  if (drawn.burst_lost) return Fate::kLostInBurst;
  if (departures_.size() >= options.queue_frames_max) return Fate::kLostQueue;
  return Fate::kPasses;
}

void Impairment::count(Fate fate) {
  switch (fate) {
    case Fate::kPasses:
      return;
    case Fate::kCorrupted:
      ++counters_.corrupted;
      return;
    case Fate::kLostByChance:
      ++counters_.lost_by_chance;
      return;
    case Fate::kLostInBurst:
      ++counters_.lost_in_burst;
      return;
    case Fate::kLostQueue:
      ++counters_.lost_queue;
      return;
    case Fate::kTooBig:
      ++counters_.lost_mtu;
      return;
    case Fate::kStoreFull:
      ++counters_.lost_in_flight_max;
      return;
  }
}

// ---- frames in ------------------------------------------------------------------------------

Fate Impairment::offer(const ImpairOptions& options, std::span<const std::byte> frame,
                       Instant now) {
  ++counters_.offered;
  const Draw drawn = draw(options);
  departures_.drop_until(now);
  Fate fate = judge(options, drawn, frame.size());
  std::optional<std::uint32_t> kept;
  if (fate == Fate::kPasses) {
    kept = store(frame);
    if (!kept)
      fate = Fate::kStoreFull;
    else if (drawn.corrupt && frame.size() > kEthernetBytes)
      fate = Fate::kCorrupted;
  }
  count(fate);
  if (!kept) return fate;

  const auto length = static_cast<std::uint32_t>(frame.size());
  Flight flight{
      .at = {}, .order = 0, .slot = *kept, .length = length, .corrupted = fate == Fate::kCorrupted};
  if (flight.corrupted) {
    const std::size_t at = kEthernetBytes + (drawn.where >> 3) % (length - kEthernetBytes);
    slot(*kept)[at] ^= std::byte{1} << (drawn.where & 7);
  }
  const Instant arrival = depart(options, length, now) + options.delay;
  if (drawn.duplicate) {
    if (const auto copy = store(slot(*kept).first(length))) {
      ++counters_.duplicated;
      Flight second = flight;
      second.slot = *copy;
      launch(second, arrival);
    }
  }
  if (drawn.reorder) ++counters_.reordered;
  launch(flight, arrival + (drawn.reorder ? options.reorder_delay : Duration{}));
  return fate;
}

void Impairment::pass_over(const ImpairOptions& options) {
  ++counters_.offered;
  static_cast<void>(draw(options));
}

bool Impairment::insert(std::span<const std::byte> frame, Instant release_at) {
  const auto kept = frame.size() <= limits_.frame_bytes_max ? store(frame) : std::nullopt;
  if (!kept) {
    ++counters_.lost_in_flight_max;
    return false;
  }
  ++counters_.inserted;
  const auto length = static_cast<std::uint32_t>(frame.size());
  launch({.at = {}, .order = 0, .slot = *kept, .length = length, .corrupted = false}, release_at);
  return true;
}

/// When the last bit of a frame has left, which takes its place in the queue until then.
Instant Impairment::depart(const ImpairOptions& options, std::size_t bytes, Instant now) {
  Instant departure = std::max(now, stalled_until_);
  if (options.rate_bits_per_s > 0) {
    const std::uint64_t bits = bytes * 8;  // of a frame below 64 KiB: the product below fits
    departure = std::max(departure, busy_until_) +
                Duration{static_cast<Duration::rep>(bits * kNanosecondsPerSecond /
                                                    options.rate_bits_per_s)};
    busy_until_ = departure;
  }
  if (departure > now) departures_.push(departure);
  return departure;
}

// ---- frames out -----------------------------------------------------------------------------

Instant Impairment::next_release() const { return flights_.empty() ? kNever : flights_.front().at; }

std::optional<Impairment::Released> Impairment::release(Instant now) {
  if (released_slot_) free_slots_.push_back(*released_slot_);
  released_slot_.reset();
  if (next_release() > now) return std::nullopt;
  std::ranges::pop_heap(flights_, is_later);
  const Flight flight = flights_.back();
  flights_.pop_back();
  released_slot_ = flight.slot;
  ++counters_.released;
  return Released{flight.at, flight.corrupted, slot(flight.slot).first(flight.length)};
}

void Impairment::launch(Flight flight, Instant at) {
  flight.at = at;
  flight.order = launched_++;
  flights_.push_back(flight);
  std::ranges::push_heap(flights_, is_later);
}

bool Impairment::is_later(const Flight& a, const Flight& b) {
  return a.at != b.at ? a.at > b.at : a.order > b.order;
}

// ---- the store ------------------------------------------------------------------------------

std::span<std::byte> Impairment::slot(std::uint32_t index) {
  return {
      blocks_[index / kSlotsPerBlock].get() + (index % kSlotsPerBlock) * limits_.frame_bytes_max,
      limits_.frame_bytes_max};
}

std::optional<std::uint32_t> Impairment::store(std::span<const std::byte> frame) {
  if (free_slots_.empty()) {
    const std::size_t made = blocks_.size() * kSlotsPerBlock;
    if (made >= limits_.frames_max) return std::nullopt;
    blocks_.push_back(
        std::make_unique_for_overwrite<std::byte[]>(kSlotsPerBlock * limits_.frame_bytes_max));
    const std::size_t added = std::min(kSlotsPerBlock, limits_.frames_max - made);
    // As many flights and free slots as slots: neither grows anywhere else.
    flights_.reserve(made + added);
    free_slots_.reserve(made + added);
    for (std::size_t i = added; i > 0; --i)
      free_slots_.push_back(static_cast<std::uint32_t>(made + i - 1));
  }
  const std::uint32_t index = free_slots_.back();
  free_slots_.pop_back();
  std::ranges::copy(frame, slot(index).begin());
  return index;
}

void Impairment::Departures::push(Instant departure) {
  if (size_ == ring_.size()) {
    std::ranges::rotate(ring_, ring_.begin() + static_cast<std::ptrdiff_t>(first_));
    first_ = 0;
    ring_.resize(std::max<std::size_t>(16, 2 * ring_.size()));
  }
  ring_[(first_ + size_) % ring_.size()] = departure;
  ++size_;
}

void Impairment::Departures::drop_until(Instant now) {
  while (size_ > 0 && ring_[first_] <= now) {
    first_ = (first_ + 1) % ring_.size();
    --size_;
  }
}

// ---- "packet too big" -----------------------------------------------------------------------

namespace {

constexpr std::uint8_t kTimeToLive = 64;
constexpr std::uint8_t kIcmpUnreachable = 3;  // RFC 792
constexpr std::uint8_t kIcmpFragmentationNeeded = 4;
constexpr std::uint8_t kIcmpEchoRequest = 8;
constexpr std::uint8_t kIcmpEchoReply = 0;
constexpr std::uint8_t kIcmpv6TooBig = 2;             // RFC 4443
constexpr std::uint8_t kIcmpv6Errors = 128;           // types below are errors
constexpr std::size_t kQuoteIpv4Max = 576 - 20 - 8;   // RFC 1812, section 4.3.2.3
constexpr std::size_t kQuoteIpv6Max = 1280 - 40 - 8;  // RFC 4443, section 2.4

std::size_t write_too_big_v4(const wire::EthernetHeader& back, std::span<const std::byte> packet,
                             std::uint16_t mtu, std::span<std::byte> out) {
  const auto header = ByteReader{packet}.take<wire::Ipv4Header>();
  if (!header || (header->flags_and_offset.host() & wire::Ipv4Header::kDontFragment) == 0) return 0;
  if (header->protocol == static_cast<std::uint8_t>(wire::IpProtocol::kIcmp) &&
      packet.size() > sizeof(*header)) {
    const auto type = std::to_integer<std::uint8_t>(packet[sizeof(*header)]);
    if (type != kIcmpEchoRequest && type != kIcmpEchoReply) return 0;
  }
  const auto quote = packet.first(std::min(packet.size(), kQuoteIpv4Max));
  wire::Ipv4Header ip;
  ip.total_length =
      wire::be16{static_cast<std::uint16_t>(sizeof(ip) + sizeof(wire::IcmpHeader) + quote.size())};
  ip.time_to_live = kTimeToLive;
  ip.protocol = static_cast<std::uint8_t>(wire::IpProtocol::kIcmp);
  ip.source = header->destination;
  ip.destination = header->source;
  ip.checksum = wire::be16{wire::ChecksumSum{}.add(std::as_bytes(std::span{&ip, 1})).finish()};
  const wire::IcmpHeader icmp{kIcmpUnreachable, kIcmpFragmentationNeeded, {}, wire::be32{mtu}};

  store(out, back);
  store(out.subspan(sizeof(back)), ip);
  const auto message = out.subspan(sizeof(back) + sizeof(ip), sizeof(icmp) + quote.size());
  store(message, icmp);
  std::ranges::copy(quote, message.subspan(sizeof(icmp)).begin());
  store(message.subspan(2), wire::be16{wire::ChecksumSum{}.add(message).finish()});
  return sizeof(back) + sizeof(ip) + message.size();
}

std::size_t write_too_big_v6(const wire::EthernetHeader& back, std::span<const std::byte> packet,
                             std::uint16_t mtu, std::span<std::byte> out) {
  const auto header = ByteReader{packet}.take<wire::Ipv6Header>();
  if (!header) return 0;
  if (header->next_header == static_cast<std::uint8_t>(wire::IpProtocol::kIcmpv6) &&
      packet.size() > sizeof(*header) &&
      std::to_integer<std::uint8_t>(packet[sizeof(*header)]) < kIcmpv6Errors)
    return 0;
  const auto quote = packet.first(std::min(packet.size(), kQuoteIpv6Max));
  wire::Ipv6Header ip;
  ip.payload_length =
      wire::be16{static_cast<std::uint16_t>(sizeof(wire::IcmpHeader) + quote.size())};
  ip.next_header = static_cast<std::uint8_t>(wire::IpProtocol::kIcmpv6);
  ip.hop_limit = kTimeToLive;
  ip.source = header->destination;
  ip.destination = header->source;
  const wire::IcmpHeader icmp{kIcmpv6TooBig, 0, {}, wire::be32{mtu}};

  store(out, back);
  store(out.subspan(sizeof(back)), ip);
  const auto message = out.subspan(sizeof(back) + sizeof(ip), sizeof(icmp) + quote.size());
  store(message, icmp);
  std::ranges::copy(quote, message.subspan(sizeof(icmp)).begin());
  const auto sum =
      wire::pseudo_header_sum(wire::IpAddress::v6(ip.source), wire::IpAddress::v6(ip.destination),
                              wire::IpProtocol::kIcmpv6, message.size())
          .add(message)
          .finish();
  store(message.subspan(2), wire::be16{sum});
  return sizeof(back) + sizeof(ip) + message.size();
}

}  // namespace

std::size_t write_too_big(std::span<const std::byte> frame, std::uint16_t mtu,
                          std::span<std::byte> out) {
  WEIR_ASSERT(out.size() >= kTooBigBytesMax);  // callers have a buffer of that size
  const auto ethernet = ByteReader{frame}.take<wire::EthernetHeader>();
  if (!ethernet || ethernet->destination.is_multicast()) return 0;
  const wire::EthernetHeader back{ethernet->source, ethernet->destination, ethernet->type};
  const auto packet = frame.subspan(sizeof(*ethernet));
  switch (wire::EtherType{ethernet->type.host()}) {
    case wire::EtherType::kIpv4:
      return write_too_big_v4(back, packet, mtu, out);
    case wire::EtherType::kIpv6:
      return write_too_big_v6(back, packet, mtu, out);
    case wire::EtherType::kArp:
      return 0;
  }
  return 0;  // any other number is not one of the enumerators
}

}  // namespace weir::port
