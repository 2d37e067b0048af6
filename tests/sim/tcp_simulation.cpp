#include "tests/sim/tcp_simulation.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <queue>
#include <vector>

#include "l4/base/random.h"
#include "l7/port/heap_pool.h"
#include "l7/tcp/segment.h"
#include "l7/tcp/stack.h"

namespace weir::testing {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint16_t kPort = 443;

/// What the seed decides about a run.
struct Conditions {
  bool ipv6 = false;
  double loss = 0;
  double duplication = 0;
  double reordering = 0;
  double no_buffer = 0;  // how often a stack asks for a packet buffer in vain
  Duration delay{};
  Duration reorder_delay{};
  std::array<std::uint16_t, 2> segment_size{};
  std::array<tcp::StackOptions, 2> options;
  unsigned connections = 1;
  Duration pause_max{};

  explicit Conditions(Random& random) {
    ipv6 = random.chance(0.5);
    if (random.chance(0.8)) loss = random.below(100) / 1000.0;
    if (random.chance(0.5)) duplication = random.below(50) / 1000.0;
    if (random.chance(0.5)) reordering = random.below(200) / 1000.0;
    if (random.chance(0.2)) no_buffer = random.below(50) / 1000.0;
    const std::array<int, 4> delays_us = {20, 500, 5'000, 40'000};
    delay = microseconds{delays_us[random.below(4)]};
    reorder_delay = delay * random.below(4) + microseconds{10};
    for (int side = 0; side < 2; ++side) {
      segment_size[side] =
          static_cast<std::uint16_t>(random.chance(0.5) ? 1440 : 576 + random.below(900));
      options[side] = options_of(random);
    }
    connections = 1 + random.below(4);
    pause_max = milliseconds{random.chance(0.5) ? 0 : random.below(200)};
  }

 private:
  static tcp::StackOptions options_of(Random& random) {
    const std::array<std::uint32_t, 5> sizes = {2'000, 5'000, 20'000, 64'000, 256'000};
    tcp::StackOptions options;
    options.connections_max = 64;
    options.time_wait_max = 64;
    options.receive_buffer_bytes = sizes[random.below(sizes.size())];
    options.send_buffer_bytes = sizes[random.below(sizes.size())];
    // Sometimes far less memory than the buffers of all connections promise.
    options.buffer_pool_bytes = random.chance(0.3) ? 32 * 4096 : 1024 * 4096;
    // With every tenth segment lost, some handshakes take long; here none may fail.
    options.connect_timeout = seconds{200};
    options.user_timeout = seconds{600};
    options.linger_timeout = seconds{600};
    options.fin_timeout = seconds{300};
    options.last_ack_timeout = seconds{300};
    return options;
  }
};

std::byte text_byte(unsigned connection, int side, std::uint64_t offset) {
  return static_cast<std::byte>(offset * 31 + (offset >> 8) * 7 + connection * 3 +
                                static_cast<unsigned>(side) * 101);
}

class Simulation;

/// One direction of the link, and what the stack at its start sees of the network.
class Direction final : public net::SegmentOutput {
 public:
  Direction(Simulation& simulation, int side) : simulation_{simulation}, side_{side} {}
  port::Packet allocate() override;
  void send(port::Packet segment, const wire::IpAddress& source, const wire::IpAddress& destination,
            Instant now) override;
  std::uint16_t segment_size(const wire::IpAddress& destination) const override;

 private:
  Simulation& simulation_;
  int side_;
};

/// One end of one connection, and its user.
struct User {
  tcp::ConnectionId id;
  unsigned connection = 0;
  int side = 0;
  bool open = false;
  bool finished = false;
  bool releases_early = false;  // lets go once everything is written
  std::uint64_t to_send = 0;
  std::uint64_t sent = 0;
  std::uint64_t to_receive = 0;
  std::uint64_t received = 0;
  bool closed_write = false;
  bool saw_end = false;
  bool saw_closed = false;
  Instant next_action = kNever;
};

struct InFlight {
  Instant at;
  std::uint64_t order = 0;
  int to = 0;
  mutable net::Segment segment;  // moved out of the queue's top
  bool operator<(const InFlight& other) const {
    return at != other.at ? at > other.at : order > other.order;
  }
};

class Simulation {
 public:
  Simulation(std::uint64_t seed, bool print_segments);
  TcpSimulation run();

 private:
  friend class Direction;
  static constexpr Duration kTimeMax = seconds{1800};

  void open_connections();
  void turn(int side);
  void act(User& user);
  void read(User& user);
  void write(User& user);
  void settle(User& user);
  [[nodiscard]] Instant next_event() const;
  [[nodiscard]] bool everybody_finished() const;
  void check_segments();
  void check_nothing_left();
  void violate(std::string text) {
    if (result_.violation.empty()) result_.violation = std::move(text);
  }
  [[nodiscard]] Duration pause() {
    const auto bound = static_cast<std::uint32_t>(conditions_.pause_max / microseconds{1});
    return microseconds{1 + (bound == 0 ? 0 : random_.below(bound))};
  }

  void print(int side, std::span<const std::byte> bytes, std::string_view fate) const;

  bool print_segments_;
  Random random_;
  Conditions conditions_;
  Instant now_{seconds{1000}};
  Instant start_ = now_;
  TcpSimulation result_;
  port::HeapPool pool_{100'000};
  std::priority_queue<InFlight> link_;
  std::uint64_t order_ = 0;
  std::array<Direction, 2> directions_;
  std::array<wire::IpAddress, 2> address_;
  std::array<std::unique_ptr<tcp::Stack>, 2> stacks_;
  std::vector<User> users_;  // side 0 and side 1 of every connection
  std::map<std::uint16_t, unsigned> connection_of_port_;
};

port::Packet Direction::allocate() { return simulation_.pool_.allocate(2048); }

void Direction::send(port::Packet segment, const wire::IpAddress& source,
                     const wire::IpAddress& destination, Instant now) {
  Simulation& sim = simulation_;
  const auto bytes = std::as_const(segment).bytes();
  if (bytes.size() > sim.conditions_.segment_size[static_cast<std::size_t>(side_)])
    sim.violate(fmt::format("a segment of {} bytes", bytes.size()));
  ++sim.result_.segments;
  const auto mix = [&](std::uint64_t value) {
    sim.result_.transcript = (sim.result_.transcript ^ value) * 0x100000001b3;
  };
  mix(static_cast<std::uint64_t>(now.time_since_epoch().count()));
  for (const std::byte byte : bytes)
    mix(static_cast<std::uint64_t>(byte));

  const unsigned copies = sim.random_.chance(sim.conditions_.duplication) ? 2 : 1;
  for (unsigned i = 0; i < copies; ++i) {
    const bool lost = sim.random_.chance(sim.conditions_.loss);
    if (sim.print_segments_) sim.print(side_, bytes, lost ? "lost" : i > 0 ? "again" : "");
    if (lost) continue;
    Duration delay = sim.conditions_.delay;
    if (sim.random_.chance(sim.conditions_.reordering)) delay += sim.conditions_.reorder_delay;
    sim.link_.push(
        {now + delay, sim.order_++, 1 - side_,
         net::Segment{source, destination, wire::IpProtocol::kTcp, sim.pool_.copy_of(bytes)}});
  }
}

void Simulation::print(int side, std::span<const std::byte> bytes, std::string_view fate) const {
  const auto view = tcp::parse_segment(bytes);
  fmt::print("{:12.6f} {} {}>{} flags {:02x} seq {}+{} ack {} win {} sacks {} {}\n",
             std::chrono::duration<double>(now_ - start_).count(), side, view->source_port,
             view->destination_port, view->flags, view->seq.value(), view->payload.size(),
             view->ack.value(), view->window, view->options.sack_count, fate);
}

std::uint16_t Direction::segment_size(const wire::IpAddress&) const {
  return simulation_.conditions_.segment_size[static_cast<std::size_t>(side_)];
}

Simulation::Simulation(std::uint64_t seed, bool print_segments)
    : print_segments_{print_segments},
      random_{seed},
      conditions_{random_},
      directions_{Direction{*this, 0}, Direction{*this, 1}},
      address_{*wire::IpAddress::parse(conditions_.ipv6 ? "2001:db8::a" : "192.0.2.10"),
               *wire::IpAddress::parse(conditions_.ipv6 ? "2001:db8::b" : "192.0.2.11")} {
  for (std::size_t side = 0; side < 2; ++side)
    stacks_[side] = std::make_unique<tcp::Stack>(conditions_.options[side], directions_[side],
                                                 Random{random_.next()}, now_);
  stacks_[1]->listen({address_[1], wire::Port{kPort}}, 1);
}

void Simulation::open_connections() {
  for (unsigned i = 0; i < conditions_.connections; ++i) {
    const auto id = stacks_[0]->connect(address_[0], {address_[1], wire::Port{kPort}}, i, now_);
    if (!id) return violate(id.error().text());
    connection_of_port_[stacks_[0]->local(*id).port.value()] = i;
    const std::array<std::uint64_t, 2> bytes = {random_.chance(0.2) ? 0 : random_.below(60'000),
                                                random_.chance(0.2) ? 0 : random_.below(60'000)};
    for (int side = 0; side < 2; ++side) {
      User user;
      user.connection = i;
      user.side = side;
      user.to_send = bytes[static_cast<std::size_t>(side)];
      user.to_receive = bytes[static_cast<std::size_t>(1 - side)];
      // Who lets go early must not be sent more than is heard out afterwards.
      user.releases_early = random_.chance(0.2) && user.to_receive < 1000;
      users_.push_back(user);
    }
    users_[i * 2].id = *id;
  }
}

void Simulation::read(User& user) {
  tcp::Stack& stack = *stacks_[static_cast<std::size_t>(user.side)];
  std::size_t budget = random_.chance(0.5) ? 1'000'000 : random_.below(4000);
  while (budget > 0) {
    const auto piece = stack.peek(user.id);
    const std::size_t count = std::min(budget, piece.size());
    if (count == 0) break;
    for (std::size_t i = 0; i < count; ++i)
      if (piece[i] != text_byte(user.connection, 1 - user.side, user.received + i))
        return violate(
            fmt::format("connection {}: wrong byte at {}", user.connection, user.received + i));
    stack.consume(user.id, count);
    user.received += count;
    budget -= count;
  }
  if (user.received > user.to_receive) violate("more bytes than were sent");
  if (stack.at_end(user.id)) user.saw_end = true;
}

void Simulation::write(User& user) {
  tcp::Stack& stack = *stacks_[static_cast<std::size_t>(user.side)];
  if (user.sent < user.to_send) {
    std::vector<std::byte> bytes(
        std::min<std::uint64_t>(user.to_send - user.sent, 1 + random_.below(20'000)));
    for (std::size_t i = 0; i < bytes.size(); ++i)
      bytes[i] = text_byte(user.connection, user.side, user.sent + i);
    user.sent += stack.write(user.id, bytes);
  }
  if (user.sent == user.to_send && !user.closed_write) {
    user.closed_write = true;
    stack.close_write(user.id);
  }
}

void Simulation::settle(User& user) {
  tcp::Stack& stack = *stacks_[static_cast<std::size_t>(user.side)];
  const bool done = user.closed_write && (user.releases_early || (user.saw_end && user.saw_closed));
  if (!done) return;
  if (!user.releases_early && user.received != user.to_receive)
    violate(fmt::format("connection {}: end after {} of {} bytes", user.connection, user.received,
                        user.to_receive));
  stack.release(user.id);
  user.open = false;
  user.finished = true;
  user.next_action = kNever;
}

void Simulation::act(User& user) {
  read(user);
  write(user);
  settle(user);
  const bool restless = !user.finished && (!user.saw_end || !user.closed_write);
  user.next_action = restless ? now_ + pause() + milliseconds{20} : kNever;
}

void Simulation::turn(int side) {
  tcp::Stack& stack = *stacks_[static_cast<std::size_t>(side)];
  stack.advance(now_);
  while (const auto news = stack.poll()) {
    User* user = nullptr;
    if (news->accepted) {
      const unsigned i = connection_of_port_.at(stack.remote(news->connection).port.value());
      user = &users_[i * 2 + 1];
      user->id = news->connection;
      stack.set_user(news->connection, i);
    } else {
      user = &users_[news->user * 2 + static_cast<unsigned>(side)];
    }
    if (news->reset)
      violate(fmt::format("connection {} side {}: reset ({})", user->connection, side,
                          static_cast<int>(stack.failure(news->connection))));
    if (news->accepted || news->connected) user->open = true;
    if (news->closed) user->saw_closed = true;
    // Often at once, sometimes much later.
    const Instant soon = random_.chance(0.7) ? now_ : now_ + pause();
    user->next_action = std::min(user->next_action, soon);
  }
  for (User& user : users_)
    if (user.side == side && user.open && user.next_action <= now_) act(user);
  stack.flush(now_);
}

Instant Simulation::next_event() const {
  Instant next = link_.empty() ? kNever : link_.top().at;
  for (const auto& stack : stacks_)
    next = std::min(next, stack->next_deadline());
  for (const User& user : users_)
    if (user.open) next = std::min(next, user.next_action);
  return next;
}

bool Simulation::everybody_finished() const {
  return std::all_of(users_.begin(), users_.end(), [](const User& user) { return user.finished; });
}

/// Ideal: one segment for each piece that fits segment and window, one ACK for each. Allowed: a
/// multiple of that, something for each handshake and close, and a few per second for probes.
void Simulation::check_segments() {
  double ideal = 0;
  for (const User& user : users_) {
    const auto side = static_cast<std::size_t>(user.side);
    const double piece =
        std::min<double>(std::min(conditions_.segment_size[0], conditions_.segment_size[1]) - 80.0,
                         conditions_.options[1 - side].receive_buffer_bytes / 2.0);
    ideal += 2.0 * static_cast<double>(user.to_send) / piece + 10;
  }
  const double allowed = 4.0 * ideal + 10.0 * result_.virtual_seconds;
  if (static_cast<double>(result_.segments) > allowed)
    violate(fmt::format("storm: {} segments, {:.0f} would be ideal", result_.segments, ideal));
}

void Simulation::check_nothing_left() {
  for (const auto& stack : stacks_) {
    const tcp::StackCounters& counters = stack->counters();
    result_.retransmissions += counters.retransmitted_segments;
    if (counters.connections != 0 || counters.half_open != 0 || counters.time_wait != 0 ||
        counters.buffer_chunks != 0)
      violate(fmt::format("left over: {} connections, {} half open, {} in time wait, {} chunks",
                          counters.connections, counters.half_open, counters.time_wait,
                          counters.buffer_chunks));
    if (stack->next_deadline() != kNever) violate("a timer is left");
  }
}

TcpSimulation Simulation::run() {
  open_connections();
  Instant all_finished_at = kNever;
  for (Instant next = now_; next != kNever && result_.violation.empty(); next = next_event()) {
    now_ = std::max(now_, next);
    if (now_ - start_ > kTimeMax) {
      std::string stuck;
      for (const User& user : users_)
        if (!user.finished)
          stuck += fmt::format(" [{}.{} sent {}/{} received {}/{} end {} closed {}]",
                               user.connection, user.side, user.sent, user.to_send, user.received,
                               user.to_receive, user.saw_end, user.saw_closed);
      violate("no end:" + stuck);
    }
    while (!link_.empty() && link_.top().at <= now_) {
      const int to = link_.top().to;
      net::Segment segment = std::move(link_.top().segment);
      link_.pop();
      stacks_[static_cast<std::size_t>(to)]->input(std::move(segment), now_);
    }
    turn(0);
    turn(1);
    if (all_finished_at == kNever && everybody_finished()) all_finished_at = now_;
  }
  const Instant end = all_finished_at == kNever ? now_ : all_finished_at;
  result_.virtual_seconds = std::chrono::duration<double>(end - start_).count();
  if (result_.violation.empty()) {
    check_segments();
    check_nothing_left();
  }
  return result_;
}

}  // namespace

TcpSimulation simulate_tcp(std::uint64_t seed, bool print_segments) {
  return Simulation{seed, print_segments}.run();
}

}  // namespace weir::testing
