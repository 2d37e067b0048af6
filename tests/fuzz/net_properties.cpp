#include "tests/fuzz/net_properties.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "l4/base/bytes.h"
#include "l7/port/heap_pool.h"
#include "tests/fuzz/net_frames.h"

namespace weir::testing {
namespace {

using namespace net_world;
using net::InterfaceCounters;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using wire::IpAddress;

constexpr std::size_t kFramesMax = 4096;
constexpr std::uint64_t kQuestionsPerPacket = 3;  // NeighborCache::kAttempts
constexpr std::size_t kErrorsMax = 64;
constexpr std::size_t kQueueMax = 1024;
constexpr Duration kHeldLongest = seconds{4};  // three questions, a second apart
constexpr std::uint16_t kPathMtuMin = 552;
constexpr std::uint16_t kPathMtuMin6 = 1280;

/// What the control byte of a frame says.
struct Control {
  explicit Control(std::uint8_t byte)
      : time{kTimes[byte & 7U]},
        tunnels{(byte & 8U) != 0},
        transport_answers{(byte & 16U) != 0},
        no_buffers{(byte & 32U) != 0},
        port_refuses{(byte & 64U) != 0},
        repair{(byte & 128U) != 0} {}

  Duration time;
  bool tunnels;
  bool transport_answers;
  bool no_buffers;
  bool port_refuses;
  bool repair;

  static constexpr std::array<Duration, 8> kTimes = {Duration{},       Duration{}, microseconds{1},
                                                     milliseconds{20}, seconds{1}, seconds{4},
                                                     seconds{40},      minutes{11}};
};

/// Memory to send from and to: what leaves is looked at by the owner.
class MemoryPort final : public port::PacketPort {
 public:
  [[nodiscard]] const port::PortCapabilities& capabilities() const override {
    return capabilities_;
  }
  [[nodiscard]] port::PortCounters counters() const override { return {}; }
  [[nodiscard]] std::size_t receive(std::span<port::Packet>) override { return 0; }
  [[nodiscard]] std::size_t send(std::span<port::Packet> burst) override {
    if (refuses) return 0;
    for (port::Packet& packet : burst) {
      const auto bytes = std::as_const(packet).bytes();
      sent.emplace_back(bytes.begin(), bytes.end());
      packet.reset();
    }
    return burst.size();
  }
  [[nodiscard]] port::Packet allocate() override {
    return has_buffers ? pool.allocate(kMtu) : port::Packet{};
  }
  void reap() override {}
  void wait(Duration, int) override {}

  port::HeapPool pool{4096};
  bool refuses = false;
  bool has_buffers = true;
  std::vector<std::vector<std::byte>> sent;

 private:
  port::PortCapabilities capabilities_{.mac = kMac, .mtu = kMtu};
};

net::InterfaceConfig config_of(std::uint8_t byte) {
  net::InterfaceConfig config{.addresses = {{kOwn, 24}}, .vips = {kVip}};
  config.accept_partial_checksums = (byte & 1U) != 0;
  config.speaks = (byte & 2U) == 0;
  const bool has_gateways = (byte & 4U) == 0;
  if (has_gateways) config.gateway_v4 = kRouter;
  if ((byte & 8U) != 0) return config;  // no IPv6
  config.addresses.push_back({kOwn6, 64});
  config.vips.push_back(kVip6);
  if (has_gateways) config.gateway_v6 = kRouter6;
  return config;
}

/// What says what became of a frame: exactly one of these, where anything is said.
std::uint64_t ends(const InterfaceCounters& c) {
  return c.segments_delivered + c.dropped_link_broadcast + c.dropped_ether_type +
         c.dropped_truncated + c.dropped_malformed_ip + c.dropped_ip_checksum + c.dropped_ttl +
         c.dropped_source + c.dropped_destination + c.dropped_fragment + c.dropped_extension +
         c.dropped_protocol + c.dropped_checksum + c.dropped_malformed_arp +
         c.dropped_malformed_ndp + c.dropped_malformed_icmp + c.dropped_icmp_type +
         c.dropped_icmp_quote + c.dropped_error_queue + c.dropped_udp + c.address_conflicts +
         c.dropped_tunnel_source + c.dropped_tunnel_malformed + c.dropped_tunnel_destination +
         c.dropped_tunnel_ecn + c.questions_left + c.arp_answered + c.ndp_answered +
         c.echo_answered + c.limited_echo;
}

std::uint64_t answers(const InterfaceCounters& c) {
  return c.arp_answered + c.ndp_answered + c.echo_answered + c.unreachable_sent +
         c.address_defended;
}

/// What was made to be sent and then dropped.
std::uint64_t not_sent(const InterfaceCounters& c) {
  return c.dropped_no_buffer + c.dropped_no_route + c.dropped_no_source + c.dropped_too_big +
         c.dropped_send_queue + c.neighbor.pending_dropped + c.neighbor.unreachable_dropped +
         c.neighbor.table_full;
}

class World {
 public:
  explicit World(std::span<const std::uint8_t> input);
  NetOutcome run();

 private:
  void violate(std::string text) {
    if (violation_.empty()) violation_ = std::move(text);
  }
  std::optional<std::span<const std::uint8_t>> take(std::size_t count);
  void start();
  void configure(bool tunnels);
  void pass(Duration time);
  void flush();
  void next_frame();
  void give(std::vector<std::byte> frame, const Control& control);
  void check_segment(const net::Segment& segment, std::span<const std::byte> frame);
  void check_tunnel(const Datagram& outer, const Datagram& inner);
  void check_outcome(const InterfaceCounters& before, std::span<const std::byte> frame);
  void check_probe(std::span<const std::byte> frame);
  void answer(const net::Segment& segment);
  void take_errors();
  void check_path(const net::TransportError& error);
  void wait_for_the_end();
  void check_sent();
  void check_ledger();

  std::span<const std::uint8_t> input_;
  MemoryPort port_;
  Instant now_{seconds{1'000'000}};
  bool waits_for_the_end_;
  net::InterfaceConfig config_;
  net::Interface interface_;
  std::string violation_;
  bool tunnels_ = false;
  std::vector<std::vector<std::byte>> given_;
  std::array<std::uint64_t, static_cast<std::size_t>(SentKind::kFaulty)> left_{};  // by kind
  std::uint64_t announced_ = 0;  // when it started
  std::uint64_t transport_sent_ = 0;
  std::uint64_t errors_expected_ = 0;  // frames that no counter speaks of, and that are errors
};

World::World(std::span<const std::uint8_t> input)
    : input_{input.empty() ? input : input.subspan(1)},
      waits_for_the_end_{!input.empty() && (input[0] & 16U) != 0},
      config_{config_of(input.empty() ? 0 : input[0])},
      interface_{config_, port_, Random{7}, now_} {}

std::optional<std::span<const std::uint8_t>> World::take(std::size_t count) {
  if (input_.size() < count) return std::nullopt;
  const auto taken = input_.first(count);
  input_ = input_.subspan(count);
  return taken;
}

void World::flush() {
  interface_.flush(now_);
  check_sent();
}

/// In steps of what is due.
void World::pass(Duration time) {
  const Instant end = now_ + time;
  for (int i = 0; i < 200 && now_ < end; ++i) {
    now_ = std::min(end, std::max(now_ + milliseconds{1}, interface_.next_deadline()));
    interface_.advance(now_);
    flush();
  }
  now_ = end;
  interface_.advance(now_);
  flush();
}

void World::start() {
  pass(seconds{5});
  const std::size_t own6 = config_.addresses.size() > 1 ? 2 : 0;  // and the link-local one
  announced_ = config_.speaks ? 2 + 3 * own6 : 0;
  if (interface_.counters().frames_sent != announced_) violate("other announcements than expected");
}

void World::configure(bool tunnels) {
  if (tunnels == tunnels_) return;
  tunnels_ = tunnels;
  config_.tunnel_sources = tunnels ? kBalancers : std::vector<wire::Prefix>{};
  interface_.configure(config_);
}

void World::next_frame() {
  const auto head = take(3);
  if (!head) {
    input_ = {};
    return;
  }
  const Control control{(*head)[0]};
  const std::size_t said = std::size_t{(*head)[1]} << 8 | (*head)[2];
  const auto rest = *take(std::min(said, input_.size()));
  const auto bytes = std::as_bytes(rest).first(std::min(rest.size(), kFrameMax));
  std::vector<std::byte> frame{bytes.begin(), bytes.end()};
  if (control.repair) repair_checksums(frame);
  if (control.time > Duration{}) {
    port_.refuses = false;
    take_errors();
    flush();
    pass(control.time);
  }
  port_.refuses = control.port_refuses;
  port_.has_buffers = !control.no_buffers;
  configure(control.tunnels);
  give(std::move(frame), control);
}

void World::give(std::vector<std::byte> frame, const Control& control) {
  given_.push_back(std::move(frame));
  const InterfaceCounters before = interface_.counters();
  const auto segment = interface_.input(port_.pool.copy_of(given_.back()), now_);
  check_outcome(before, given_.back());
  if (port_.pool.in_use() > net::NeighborCache::kPendingMax + kQueueMax + 1)
    violate("too much is queued");
  const InterfaceCounters after = interface_.counters();
  if (segment.has_value() != (after.segments_delivered == before.segments_delivered + 1))
    violate("a segment that is not counted, or the other way round");
  if (segment) {
    check_segment(*segment, given_.back());
    if (control.transport_answers) answer(*segment);
  }
}

/// The segment is in the frame's own buffer, so its place is known by the room on both sides.
void World::check_segment(const net::Segment& segment, std::span<const std::byte> frame) {
  const std::size_t begin = segment.packet.headroom() - port::kHeadroom;
  const std::size_t end = frame.size() - segment.packet.tailroom();
  if (begin > end || end > frame.size()) return violate("a segment outside of its frame");
  if (!std::ranges::equal(segment.packet.bytes(), frame.subspan(begin, end - begin)))
    return violate("a segment with other bytes than its frame");
  if ((std::to_integer<unsigned>(frame[0]) & 1U) != 0) violate("a segment to all stations");
  const std::vector<Datagram> datagrams = read_datagrams(frame);
  if (datagrams.empty()) return violate("a segment of no packet");
  const Datagram& found = datagrams.back();
  if (found.payload != begin || found.end != end || found.protocol != 6 || !found.is_whole)
    return violate("a segment from elsewhere in the packet");
  if (found.source != segment.source || found.destination != segment.destination ||
      found.source.is_v4() != found.is_v4 || found.destination.is_v4() != found.is_v4)
    return violate("a segment between other addresses");
  if (!is_one_host(found.source) || is_ours(found.source) || !is_ours(found.destination))
    violate("a segment that nobody may send us");
  if (end - begin < sizeof(wire::TcpHeader) || found.hops == 0) violate("a segment that is short");
  for (const Datagram& datagram : datagrams)
    if (!has_right_ip_checksum(frame, datagram)) violate("a segment of a damaged header");
  if (!config_.accept_partial_checksums && !has_right_checksum(frame, found))
    violate("a damaged segment");
  if (datagrams.size() > 1) return check_tunnel(datagrams[0], found);
  if (static_cast<unsigned>(segment.ecn) != found.ecn) violate("other marks than the packet's");
}

void World::check_tunnel(const Datagram& outer, const Datagram& inner) {
  if (!tunnels_) violate("a tunnel that is not allowed");
  if (!std::ranges::any_of(
          kBalancers, [&](const wire::Prefix& prefix) { return prefix.contains(outer.source); }))
    violate("a tunnel of a stranger");
  if (!is_own(outer.destination) || !outer.is_whole || outer.hops == 0)
    violate("a tunnel that does not end here");
  if (is_own(inner.destination)) violate("a tunnel to an own address");
}

void World::check_outcome(const InterfaceCounters& before, std::span<const std::byte> frame) {
  const InterfaceCounters after = interface_.counters();
  if (after.frames_received != before.frames_received + 1) violate("a frame that is not counted");
  const std::uint64_t ended = ends(after) - ends(before);
  if (ended > 1) violate(fmt::format("a frame with {} ends", ended));
  if (answers(after) - answers(before) > 1) violate("a frame with two answers");
  if (after.neighbor.solicitations_sent - before.neighbor.solicitations_sent > 1)
    violate("a frame that makes us ask twice");
  const std::uint64_t unpacked = after.decapsulated_ipip - before.decapsulated_ipip +
                                 after.decapsulated_gue - before.decapsulated_gue;
  if (unpacked > (tunnels_ ? 1U : 0U)) violate("a tunnel too many");
  if (after.partial_checksums - before.partial_checksums >
      after.segments_delivered - before.segments_delivered)
    violate("a checksum that was forgiven for nothing");
  if (after.address_defended - before.address_defended >
      after.address_conflicts - before.address_conflicts)
    violate("a defence against nobody");
  // A refused datagram is answered, or held back by the limit, or there is no buffer.
  const std::uint64_t refused = after.dropped_udp - before.dropped_udp;
  const std::uint64_t refusals = after.unreachable_sent - before.unreachable_sent +
                                 after.limited_unreachable - before.limited_unreachable;
  if (refusals > refused || (refused > refusals && port_.has_buffers))
    violate("a refusal of nothing, or none");
  if (after.ndp_answered > before.ndp_answered) check_probe(frame);
  if (ended == 1) return;
  // Nothing is said of what is learnt from: ARP, advertisements, and errors for the transport.
  const auto ethernet = ByteReader{frame}.take<wire::EthernetHeader>();
  if (ethernet && ethernet->type == wire::be16{0x0806}) return;
  const std::vector<Datagram> datagrams = read_datagrams(frame);
  if (datagrams.empty()) return violate("a frame that nobody speaks of");
  const Datagram& last = datagrams.back();
  if (last.payload == last.end) return violate("a packet of nothing that nobody speaks of");
  const auto type = std::to_integer<unsigned>(frame[last.payload]);
  if (last.protocol == 58 && type == 136) return;
  if (last.protocol != (last.is_v4 ? 1 : 58)) return violate("a packet that nobody speaks of");
  ++errors_expected_;
}

/// RFC 4861, section 7.1.1: who has no address yet asks the group of the one that it looks for.
void World::check_probe(std::span<const std::byte> frame) {
  const Datagram asked = read_datagrams(frame).at(0);
  if (!asked.source.is_unspecified()) return;
  const IpAddress group = wire::solicited_node_group(asked.destination);
  if (asked.destination != group) violate("a probe to another group");
}

/// As a transport would: a segment back, from where this one was sent to.
void World::answer(const net::Segment& segment) {
  port::Packet packet = interface_.allocate();
  if (!packet) return;
  store(packet.append(sizeof(wire::TcpHeader)), wire::TcpHeader{});
  ++transport_sent_;
  interface_.send(std::move(packet), segment.destination, segment.source, net::Ecn::kCapable0,
                  now_);
}

void World::take_errors() {
  std::uint64_t count = 0;
  while (const auto error = interface_.poll_error()) {
    ++count;
    const bool is_v4 = error->local.address.is_v4();
    if (!is_ours(error->local.address) || error->remote.address.is_v4() != is_v4)
      violate("an error about nothing of ours");
    if (error->kind == net::TransportError::Kind::kPacketTooBig) check_path(*error);
  }
  if (count != errors_expected_ || count > kErrorsMax) violate("other errors than those that came");
  errors_expected_ = 0;
}

void World::check_path(const net::TransportError& error) {
  const IpAddress& remote = error.remote.address;
  const std::uint16_t floor = remote.is_v4() ? kPathMtuMin : kPathMtuMin6;
  const std::uint16_t header = remote.is_v4() ? 20 : 40;
  if (error.mtu < floor) violate(fmt::format("an MTU of {}", error.mtu));
  const std::uint16_t known = interface_.segment_size(remote);
  interface_.lower_path_mtu(remote, error.mtu, now_);
  const std::uint16_t lowered = interface_.segment_size(remote);
  if (lowered > known || lowered + header < floor || lowered + header > kMtu ||
      lowered + header > std::max(error.mtu, floor))
    violate(fmt::format("{} bytes of a segment after {}", lowered, known));
}

void World::check_sent() {
  for (const std::vector<std::byte>& frame : std::exchange(port_.sent, {})) {
    const SentFrame sent = read_sent(frame);
    if (sent.kind == SentKind::kFaulty) return violate(fmt::format("sent: {}", sent.fault));
    ++left_[static_cast<std::size_t>(sent.kind)];
    if (sent.quotes.empty()) continue;
    const bool was_said = std::ranges::any_of(given_, [&](const std::vector<std::byte>& given) {
      return !std::ranges::search(given, sent.quotes).empty();
    });
    if (!was_said) return violate("sent: a quote of what nobody has said");
  }
  check_ledger();
}

void World::check_ledger() {
  const InterfaceCounters c = interface_.counters();
  const auto left = [&](SentKind kind) { return left_[static_cast<std::size_t>(kind)]; };
  if (left(SentKind::kArpReply) > c.arp_answered || left(SentKind::kEchoReply) > c.echo_answered ||
      left(SentKind::kUnreachable) > c.unreachable_sent || left(SentKind::kTcp) > transport_sent_ ||
      left(SentKind::kArpQuestion) + left(SentKind::kSolicitation) > c.neighbor.solicitations_sent)
    violate("more has left than was made");
  const std::uint64_t packets =
      c.ndp_answered + c.echo_answered + c.unreachable_sent + transport_sent_;
  if (c.neighbor.solicitations_sent > kQuestionsPerPacket * packets)
    violate("questions for nobody's sake");
  const std::size_t waiting = port_.pool.in_use();
  if (waiting > net::NeighborCache::kPendingMax) violate("too much waits");
  if (announced_ == 0 && config_.speaks) return;  // it is just starting
  const std::uint64_t made = announced_ + c.arp_answered + c.ndp_answered + c.echo_answered +
                             c.dropped_udp - c.limited_unreachable + c.address_defended +
                             c.neighbor.solicitations_sent + transport_sent_;
  const std::uint64_t found = c.frames_sent + not_sent(c) + waiting;
  // A full table counts also what was to be learnt, and no frame.
  if (made > found || (made < found && c.neighbor.table_full == 0))
    violate(fmt::format("{} frames were made, {} are known of", made, found));
}

/// Until all neighbours are forgotten, which is most of the time that an input takes.
void World::wait_for_the_end() {
  for (int i = 0; i < 3; ++i)
    pass(minutes{11});
  if (interface_.next_deadline() != kNever) violate("a timer is left");
}

NetOutcome World::run() {
  start();
  for (std::size_t i = 0; i < kFramesMax && !input_.empty() && violation_.empty(); ++i)
    next_frame();
  port_.refuses = false;
  port_.has_buffers = true;
  if (violation_.empty()) {
    take_errors();
    flush();
    pass(kHeldLongest);
    if (port_.pool.in_use() != 0) violate("a buffer is left");
    if (waits_for_the_end_) wait_for_the_end();
  }
  return {violation_, interface_.counters()};
}

}  // namespace

NetOutcome check_net_properties(std::span<const std::uint8_t> input) {
  World world{input};
  return world.run();
}

}  // namespace weir::testing
