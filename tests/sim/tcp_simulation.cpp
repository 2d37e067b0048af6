#include "tests/sim/tcp_simulation.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "l4/base/bytes.h"
#include "l4/wire/headers.h"
#include "tests/sim/tcp_forgery.h"
#include "tests/sim/tcp_host.h"
#include "tests/sim/wire_oracle.h"
#include "tests/support/frame_view.h"

namespace weir::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::array<Side, 2> kSides = {Side::kA, Side::kB};
constexpr std::size_t index(Side side) { return static_cast<std::size_t>(side); }

/// Turns without time moving on: more is a loop that will never rest.
constexpr unsigned kTurnsPerInstantMax = 10'000;

/// A neighbour that nobody asks for is forgotten after ten minutes; nothing else takes so long.
constexpr Duration kForgetTime = std::chrono::minutes{12};

/// The delayed ACK, which a transfer through a small window waits for again and again.
constexpr Duration kDelayedAck = milliseconds{40};

/// Memory that never runs short in a run; less may close windows for good reasons.
constexpr std::uint32_t kPlentyPoolBytes = 4'000'000;
constexpr std::uint32_t kPlentyBuffers = 16'384;
/// The MSS of the smallest MTU there is here.
constexpr std::uint32_t kSegmentMin = 536;

/// How often peers take back what they have said, and what each time may cost: the time-outs until
/// a probe finds out, doubled by those before.
constexpr unsigned kFickleMax = 8;
constexpr unsigned kTimeOutsPerFickle = 8;

/// Sabotage: how far a selfish sender goes.
constexpr std::uint32_t kFarBeyondAnyWindow = 1 << 20;

class Simulation {
 public:
  explicit Simulation(const TcpSimulationOptions& options);
  TcpSimulation run();

 private:
  struct Read {
    tcp::ConnectionId id;
    std::uint16_t local;
    std::uint16_t remote;
  };

  static TcpConditions conditions_of(Random& random, const TcpSimulationOptions& options);
  static SimLink::Options link_options(const TcpConditions& conditions, std::uint64_t seed);
  [[nodiscard]] net::InterfaceConfig config(Side side) const;
  [[nodiscard]] tcp::StackOptions stack_options(Side side) const;
  void shape_link();

  void turn();
  void on_frame(const CapturedFrame& frame);
  void on_delivery(const DeliveredFrame& frame);
  void send_noise(const CapturedFrame& frame, const TcpFrame& tcp);
  void send_fickle_ack(const CapturedFrame& frame, const TcpFrame& tcp);
  void check_windows_told(Side side);
  void check_liveness();
  void sabotage_after(Side side);
  [[nodiscard]] Instant next_event() const;
  [[nodiscard]] bool only_memories_left();
  void check_time();

  [[nodiscard]] std::uint64_t lost_frames();
  [[nodiscard]] std::uint64_t frames_without_buffer();
  [[nodiscard]] Duration bound();
  void check_segments();
  void check_nothing_left();
  void violate(std::string text) {
    if (result_.violation.empty()) result_.violation = std::move(text);
  }
  void print(const CapturedFrame& frame, const TcpFrame& tcp) const;
  void mix(std::uint64_t value) {
    result_.transcript = (result_.transcript ^ value) * 0x9e3779b97f4a7c15;
    result_.transcript ^= result_.transcript >> 29;
  }

  TcpSimulationOptions options_;
  Random random_;
  TcpConditions conditions_;
  Instant now_{seconds{1000}};
  Instant start_ = now_;
  Instant finished_at_ = kNever;
  TcpSimulation result_;
  std::array<wire::IpAddress, 2> addresses_;
  SimLink link_;
  std::array<std::unique_ptr<TcpHost>, 2> hosts_;
  std::array<std::uint64_t, 2> tail_probes_{};  // that each had sent at its last frame
  std::unique_ptr<TcpUsers> users_;
  WireOracle oracle_;
  std::vector<Read> reads_;      // of the side whose turn it is
  std::vector<Instant> stalls_;  // of the link, the next one last
  Instant down_at_ = kNever;     // kVanish
  unsigned fickle_ = 0;          // ACKs that were forged
  port::Packet kept_;            // sabotage
  std::vector<std::byte> repeated_;
};

TcpConditions Simulation::conditions_of(Random& random, const TcpSimulationOptions& options) {
  TcpConditions conditions{random};
  for (const AppliedSetting& applied : options.settings)
    applied.setting->apply(conditions, applied.value);
  return conditions;
}

SimLink::Options Simulation::link_options(const TcpConditions& conditions, std::uint64_t seed) {
  return {.a_to_b = conditions.link[0],
          .b_to_a = conditions.link[1],
          .seed = seed,
          .buffers = conditions.buffers};
}

Simulation::Simulation(const TcpSimulationOptions& options)
    : options_{options},
      random_{options.seed},
      conditions_{conditions_of(random_, options)},
      addresses_{*wire::IpAddress::parse(conditions_.ipv6 ? "2001:db8::a" : "192.0.2.10"),
                 *wire::IpAddress::parse(conditions_.ipv6 ? "2001:db8::b" : "192.0.2.11")},
      link_{link_options(conditions_, random_.next()), now_} {
  shape_link();
  for (const Side side : kSides)
    hosts_[index(side)] = std::make_unique<TcpHost>(link_, side, config(side), stack_options(side),
                                                    conditions_.tick[index(side)], random_);
  users_ = std::make_unique<TcpUsers>(conditions_, std::array{hosts_[0].get(), hosts_[1].get()},
                                      addresses_, Random{random_.next()}, now_);
  users_->on_read = [this](const TcpUser& user) {
    const tcp::Stack& stack = hosts_[index(user.side)]->stack();
    const std::uint16_t local = stack.local(user.id).port.value();
    const std::uint16_t remote = stack.remote(user.id).port.value();
    oracle_.on_read(user.side, local, remote);
    reads_.push_back({user.id, local, remote});
  };
  if (conditions_.plot != Plot::kCrossing)
    hosts_[1]->stack().listen({addresses_[1], wire::Port{TcpUsers::kPort}}, 0);
}

void Simulation::shape_link() {
  for (const Side side : kSides) {
    link_.delay_completions(side, conditions_.completion_delay);
    if (conditions_.plot == Plot::kPathMtu || conditions_.plot == Plot::kBlackHole) {
      link_.direction(side).mtu = conditions_.path_mtu;
      link_.direction(side).answer_too_big = conditions_.plot == Plot::kPathMtu;
    }
  }
  for (unsigned i = 0; i < conditions_.stalls; ++i)
    stalls_.push_back(start_ + milliseconds{random_.below(5'000)});
  std::ranges::sort(stalls_, std::greater{});
  if (conditions_.plot == Plot::kVanish) down_at_ = start_ + milliseconds{random_.below(2'000)};
  link_.on_frame([this](const CapturedFrame& frame) { on_frame(frame); });
  link_.on_delivery([this](const DeliveredFrame& frame) { on_delivery(frame); });
}

net::InterfaceConfig Simulation::config(Side side) const {
  return {.addresses = {
              {addresses_[index(side)], static_cast<std::uint8_t>(conditions_.ipv6 ? 64 : 24)}}};
}

tcp::StackOptions Simulation::stack_options(Side side) const {
  tcp::StackOptions options = conditions_.stack[index(side)];
  if (conditions_.plot == Plot::kCrossing)
    options.ephemeral_first = options.ephemeral_last = TcpUsers::kCrossingPorts[index(side)];
  return options;
}

// ---- what the link sees -------------------------------------------------------------------------

void Simulation::on_frame(const CapturedFrame& frame) {
  mix(static_cast<std::uint64_t>(frame.at.time_since_epoch().count()));
  mix(frame.bytes.size() * 4 + (frame.lost ? 2 : 0) + index(frame.from));
  ByteReader reader{frame.bytes};
  struct Word {
    std::array<std::byte, 8> bytes;
  };
  while (const auto word = reader.take<Word>())
    mix(std::bit_cast<std::uint64_t>(word->bytes));
  for (const std::byte byte : reader.rest())
    mix(static_cast<std::uint64_t>(byte));

  const auto tcp = tcp_frame(frame.bytes);
  if (!tcp) return;
  ++result_.segments;
  if (options_.print_segments) print(frame, *tcp);
  oracle_.on_sent(frame.from, *tcp, !frame.lost && !frame.corrupted, frame.at);
  const tcp::SegmentView& segment = tcp->segment;
  if (const TcpUser* user =
          users_->find(frame.from, segment.source_port, segment.destination_port)) {
    const tcp::Stack& stack = hosts_[index(frame.from)]->stack();
    const auto info = stack.info(user->id);
    // A tail loss probe leaves whatever the window (RFC 8985, section 7.3); and what the port has
    // refused leaves later, when the window may be another.
    const std::uint64_t probes = stack.counters().tail_probes;
    const bool probed = std::exchange(tail_probes_[index(frame.from)], probes) != probes;
    if (info && !probed && conditions_.refuse == 0 && fickle_ == 0)
      oracle_.check_congestion(frame.from, segment.source_port, segment.destination_port,
                               info->congestion_window);
  }
  const bool is_ack = segment.length() == 0 && !segment.rst();
  if (conditions_.sabotage == Sabotage::kAckStorm && frame.from == Side::kB && is_ack &&
      repeated_.empty())
    repeated_.assign(frame.bytes.begin(), frame.bytes.end());
  if (conditions_.sabotage == Sabotage::kSelfishSender && !segment.payload.empty() &&
      repeated_.empty() && frame.from == Side::kA)
    repeated_.assign(frame.bytes.begin(), frame.bytes.end());
  if (!segment.syn() && random_.chance(conditions_.icmp_noise)) send_noise(frame, *tcp);
  if (frame.from == conditions_.fickle_side && fickle_ < kFickleMax &&
      random_.chance(conditions_.fickle))
    send_fickle_ack(frame, *tcp);
}

void Simulation::on_delivery(const DeliveredFrame& frame) {
  const auto tcp = tcp_frame(frame.bytes, frame.corrupted ? Checksums::kVerify : Checksums::kTrust);
  if (tcp) oracle_.on_delivered(frame.to, *tcp, frame.at);
}

/// ICMP errors that must not harm.
void Simulation::send_noise(const CapturedFrame& frame, const TcpFrame& tcp) {
  const auto error =
      random_.chance(0.5) ? guessed_too_big(frame.bytes, tcp) : unreachable_about(frame.bytes, tcp);
  if (!error.empty()) link_.inject(frame.from, error);
}

/// A peer takes back what it has just SACKed, and its window: all of it, or all but the first.
void Simulation::send_fickle_ack(const CapturedFrame& frame, const TcpFrame& tcp) {
  const tcp::SegmentView& segment = tcp.segment;
  if (!segment.has_ack() || segment.syn() || segment.fin() || segment.rst()) return;
  const Side to = frame.from == Side::kA ? Side::kB : Side::kA;
  const auto end = oracle_.sent_end(to, segment.destination_port, segment.source_port);
  if (!end || *end <= segment.ack) return;  // there is nothing to take back
  const tcp::Seq first = segment.ack + (random_.chance(0.5) ? 0 : kSegmentMin);
  link_.inject(to, fickle_ack(frame.bytes, tcp, first, *end));
  ++fickle_;
}

void Simulation::print(const CapturedFrame& frame, const TcpFrame& tcp) const {
  const tcp::SegmentView& view = tcp.segment;
  fmt::print("{:12.6f} {} {}>{} flags {:02x} seq {}+{} ack {} win {} sacks {}{}\n",
             std::chrono::duration<double>(frame.at - start_).count(),
             frame.from == Side::kA ? "A" : "B", view.source_port, view.destination_port,
             view.flags, view.seq.value(), view.payload.size(), view.ack.value(), view.window,
             view.options.sack_count, frame.lost ? " lost" : "");
}

// ---- time ---------------------------------------------------------------------------------------

void Simulation::turn() {
  while (!stalls_.empty() && stalls_.back() <= now_) {
    stalls_.pop_back();
    for (const Side side : kSides)
      link_.stall(side, conditions_.stall);
  }
  if (down_at_ <= now_) {
    down_at_ = kNever;
    for (const Side side : kSides)
      link_.direction(side).loss = 1;
  }
  for (const Side side : kSides) {
    if (random_.chance(conditions_.refuse)) link_.refuse_sends(side, 1 + random_.below(40));
    TcpHost& host = *hosts_[index(side)];
    host.begin_turn(now_);
    users_->turn(side, now_);
    host.end_turn(now_);
    check_windows_told(side);
    if (conditions_.sabotage != Sabotage::kNone) sabotage_after(side);
  }
}

/// Whoever has read everything and has memory must have said so.
void Simulation::check_windows_told(Side side) {
  const tcp::StackOptions& options = conditions_.stack[index(side)];
  const bool plenty = options.buffer_pool_bytes >= kPlentyPoolBytes && conditions_.refuse == 0 &&
                      conditions_.buffers[index(side)] >= kPlentyBuffers;
  const tcp::Stack& stack = hosts_[index(side)]->stack();
  for (const Read& read : reads_)
    if (plenty && stack.exists(read.id) && stack.readable_bytes(read.id) == 0 &&
        !stack.at_end(read.id))
      oracle_.check_window_told(side, read.local, read.remote,
                                std::min(2 * kSegmentMin, options.receive_buffer_bytes / 2));
  reads_.clear();
}

void Simulation::check_liveness() {
  for (const TcpUser& user : users_->all()) {
    const tcp::Stack& stack = hosts_[index(user.side)]->stack();
    if (user.open && stack.exists(user.id) && stack.unacknowledged_bytes(user.id) > 0)
      oracle_.check_liveness(user.side, stack.local(user.id).port.value(),
                             stack.remote(user.id).port.value(), now_);
  }
}

void Simulation::sabotage_after(Side side) {
  if (conditions_.sabotage == Sabotage::kKeptPacket && !kept_) kept_ = link_.port(side).allocate();
  if (repeated_.empty()) return;
  const unsigned copies = conditions_.sabotage == Sabotage::kAckStorm ? 50 : 1;
  const std::size_t sequence =
      sizeof(wire::EthernetHeader) +
      (conditions_.ipv6 ? sizeof(wire::Ipv6Header) : sizeof(wire::Ipv4Header)) +
      offsetof(wire::TcpHeader, sequence);
  // The stack did not write this one, so its checksum is wrong: the oracle sees it all the same.
  if (conditions_.sabotage == Sabotage::kSelfishSender && repeated_.size() > sequence) {
    const auto field = std::span{repeated_}.subspan(sequence);
    store(field, wire::be32{ByteReader{field}.take<wire::be32>()->host() + kFarBeyondAnyWindow});
  }
  const Side from = conditions_.sabotage == Sabotage::kAckStorm ? Side::kB : Side::kA;
  const std::vector<std::byte> bytes = std::exchange(repeated_, {std::byte{}});
  if (bytes.size() < sizeof(wire::EthernetHeader)) return;
  for (unsigned i = 0; i < copies; ++i) {
    port::Packet copy = link_.pool(from).copy_of(bytes);
    static_cast<void>(link_.port(from).send({&copy, 1}));
  }
}

Instant Simulation::next_event() const {
  Instant next = std::min(link_.next_event(), users_->next_action());
  for (const auto& host : hosts_)
    next = std::min(next, host->next_deadline());
  if (!stalls_.empty() && !users_->all_finished()) next = std::min(next, stalls_.back());
  return std::min(next, down_at_);
}

/// All that is left is TIME-WAIT, for a minute, and what hosts know of each other's link addresses,
/// for ten; most runs do not wait for that.
bool Simulation::only_memories_left() {
  if (conditions_.forgets || finished_at_ == kNever || link_.next_event() != kNever) return false;
  return std::ranges::all_of(kSides, [this](Side side) {
    return hosts_[index(side)]->stack().counters().connections == 0 &&
           link_.pool(side).in_use() == 0;
  });
}

void Simulation::check_time() {
  if (finished_at_ == kNever) {
    const Duration most = bound();
    if (now_ - start_ > most)
      violate(fmt::format("no end after {:.1f} s:{}", std::chrono::duration<double>(most).count(),
                          users_->unfinished()));
    return;
  }
  Duration longest{};
  for (const tcp::StackOptions& options : conditions_.stack)
    longest = std::max(longest, options.linger_timeout + options.fin_timeout +
                                    options.last_ack_timeout + 2 * options.time_wait);
  if (now_ - finished_at_ > longest + kForgetTime) violate("a timer goes on for ever");
}

TcpSimulation Simulation::run() {
  result_.plot = conditions_.plot;
  unsigned turns_at_once = 0;
  unsigned steps = 0;
  for (Instant next = now_; next != kNever && result_.violation.empty(); next = next_event()) {
    turns_at_once = next <= now_ ? turns_at_once + 1 : 0;
    if (turns_at_once > kTurnsPerInstantMax) violate("turns without end at one moment");
    now_ = std::max(now_, next);
    link_.advance_to(now_);
    turn();
    if (finished_at_ == kNever && users_->all_finished()) {
      finished_at_ = now_;
      const double share = std::chrono::duration<double>(now_ - start_) / bound();
      if (share > 1) violate(fmt::format("took {:.2f} times as long as it may", share));
      // Where things fail, patience decides and the share says nothing.
      if (conditions_.must_complete()) result_.share_of_bound = share;
    }
    if (++steps % 64 == 0) {
      check_time();
      check_liveness();
    }
    if (!users_->violation().empty()) violate(users_->violation());
    if (!oracle_.violation().empty()) violate(oracle_.violation());
    if (only_memories_left()) break;
  }
  const Instant end = finished_at_ == kNever ? now_ : finished_at_;
  result_.virtual_seconds = std::chrono::duration<double>(end - start_).count();
  result_.completed = users_->completed();
  result_.lost = lost_frames();
  for (const auto& host : hosts_)
    result_.retransmissions += host->stack().counters().retransmitted_segments;
  if (result_.violation.empty() && finished_at_ == kNever)
    violate("nothing happens any more:" + users_->unfinished());
  if (result_.violation.empty()) check_segments();
  if (result_.violation.empty()) check_nothing_left();
  kept_.reset();
  return result_;
}

// ---- bounds -------------------------------------------------------------------------------------

/// What the link has lost, or as good as lost.
std::uint64_t Simulation::lost_frames() {
  std::uint64_t lost = frames_without_buffer();
  for (const Side side : kSides) {
    const LinkCounters link = link_.counters(side);
    lost += link.lost() + link.corrupted - link.lost_receiver;
  }
  return lost;
}

/// What hosts have lost for want of memory, ARP and NDP included.
std::uint64_t Simulation::frames_without_buffer() {
  std::uint64_t lost = 0;
  for (const Side side : kSides) {
    lost += link_.counters(side).lost_receiver;
    const net::InterfaceCounters net = hosts_[index(side)]->interface().counters();
    lost += net.dropped_send_queue + net.dropped_no_buffer + net.neighbor.pending_dropped +
            net.neighbor.unreachable_dropped + net.neighbor.failed;
    lost += hosts_[index(side)]->stack().counters().dropped_no_memory;
  }
  return lost;
}

/// How long the users may take at most:
///
///     3 pauses + 12 stalls + bytes / rate + rounds (RTT + delayed ACK) + 2 RTO (time-outs + 8)
///
/// RTT is the longest possible, with full queues; RTO = max(1 s, 3 RTT), with 3 s for the first if
/// a SYN was lost (RFC 6298, section 5.7). Who has waited for t finds a timer that has backed off
/// by up to 2 t; a stall besides is a sample of the round trip, whose time-out of up to 3 t may
/// double before there is another. rounds = windowfuls that the largest stream takes, of half of
/// the smaller buffer, and 20 for handshake, slow start and close. A loss costs a time-out, of
/// which those of the same segment in a row double, up to a minute (WireOracle::time_outs); so does
/// a frame that finds no buffer. Twice that, because the estimate of the RTT is somewhere between;
/// and 8 in advance for what was not foreseen. Where things may fail, whoever has waited for long
/// gives up; see TcpUsers::kPatience.
Duration Simulation::bound() {
  if (!conditions_.must_complete()) return TcpUsers::kPatience + milliseconds{500};
  const Duration round = conditions_.round_trip_max();
  const Duration timeout_min = seconds{oracle_.syn_was_repeated() ? 3 : 1};
  const Duration timeout = std::max(timeout_min, 3 * round);
  double bytes = 0;
  double rounds = 20;
  for (const TcpUser& user : users_->all()) {
    const std::size_t side = index(user.side);
    const double window = std::min({conditions_.stack[1 - side].receive_buffer_bytes,
                                    conditions_.stack[side].send_buffer_bytes,
                                    conditions_.stack[0].buffer_pool_bytes / 16,
                                    conditions_.stack[1].buffer_pool_bytes / 16}) /
                          2.0;
    bytes += static_cast<double>(user.to_send);
    rounds = std::max(rounds, 20 + static_cast<double>(user.to_send) / window);
  }
  double serial_s = 0;
  for (const LinkOptions& link : conditions_.link)
    if (link.rate_bits_per_s > 0)
      serial_s += 2 * bytes * 8 / static_cast<double>(link.rate_bits_per_s);
  Duration all = 3 * users_->paused() + 12 * conditions_.stalls * conditions_.stall;
  all += std::chrono::duration_cast<Duration>(std::chrono::duration<double>(
      serial_s + rounds * std::chrono::duration<double>(round + kDelayedAck).count()));
  const double timeout_s = std::chrono::duration<double>(timeout).count();
  const double time_outs = oracle_.time_outs(60 / timeout_s) +
                           static_cast<double>(frames_without_buffer()) + 8 +
                           static_cast<double>(fickle_ * kTimeOutsPerFickle);
  return all + std::chrono::duration_cast<Duration>(
                   std::chrono::duration<double>(2 * timeout_s * time_outs));
}

/// Ideal: one segment for each piece that fits segment and window, one ACK for each. Allowed: a
/// multiple of that, something for each handshake and close, three for each loss, and a few per
/// second for probes.
void Simulation::check_segments() {
  double ideal = 0;
  for (const TcpUser& user : users_->all()) {
    const std::size_t side = index(user.side);
    const double piece = std::min<double>(
        std::min(link_.direction(Side::kA).mtu, link_.direction(Side::kB).mtu) - 100.0,
        conditions_.stack[1 - side].receive_buffer_bytes / 2.0);
    ideal += 2.0 * static_cast<double>(user.to_send) / piece + 10;
  }
  const double allowed =
      4.0 * ideal + 3.0 * static_cast<double>(result_.lost) + 10.0 * result_.virtual_seconds + 20.0;
  result_.share_of_segments = static_cast<double>(result_.segments) / allowed;
  if (result_.share_of_segments > 1)
    violate(fmt::format("storm: {} segments, {:.0f} would be ideal, {} frames were lost",
                        result_.segments, ideal, result_.lost));
}

void Simulation::check_nothing_left() {
  // Buffers that the driver still has come back with the next look at it.
  link_.advance_to(now_ + conditions_.completion_delay);
  for (const Side side : kSides) {
    TcpHost& host = *hosts_[index(side)];
    link_.port(side).reap();
    const tcp::StackCounters& counters = host.stack().counters();
    if (counters.connections != 0 || counters.half_open != 0 || counters.buffer_chunks != 0 ||
        counters.time_wait > (conditions_.forgets ? 0 : conditions_.connections))
      violate(fmt::format("left over: {} connections, {} half open, {} in time wait, {} chunks",
                          counters.connections, counters.half_open, counters.time_wait,
                          counters.buffer_chunks));
    if (conditions_.forgets && host.next_deadline() != kNever) violate("a timer is left");
    if (const auto buffers = link_.pool(side).in_use(); buffers != 0)
      violate(fmt::format("{} packet buffers are left", buffers));
  }
}

}  // namespace

TcpSimulation simulate_tcp(const TcpSimulationOptions& options) {
  return Simulation{options}.run();
}

}  // namespace weir::testing
