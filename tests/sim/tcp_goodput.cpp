#include "tests/sim/tcp_goodput.h"

#include <algorithm>
#include <array>
#include <vector>

#include "l4/base/random.h"
#include "tests/sim/tcp_conditions.h"
#include "tests/sim/tcp_host.h"

namespace weir::testing {
namespace {

constexpr std::uint16_t kPort = 80;
constexpr Duration kLongest = std::chrono::hours{1};
constexpr Duration kTick = std::chrono::microseconds{1};

SimLink::Options link_options(const GoodputCase& conditions) {
  SimLink::Options options;
  for (LinkOptions* link : {&options.a_to_b, &options.b_to_a}) {
    link->delay = conditions.round_trip / 2;
    link->rate_bits_per_s = 1'000'000'000;
    link->loss = conditions.loss;
  }
  options.seed = conditions.seed;
  return options;
}

tcp::StackOptions stack_options(const GoodputCase& conditions) {
  tcp::StackOptions options;
  options.connections_max = options.time_wait_max = 16;
  options.receive_buffer_bytes = options.send_buffer_bytes = conditions.buffer_bytes;
  options.connect_timeout = options.user_timeout = kLongest;
  options.rack = conditions.rack;
  return options;
}

net::InterfaceConfig config(const wire::IpAddress& address) {
  return {.addresses = {{address, 24}}};
}

class Transfer {
 public:
  explicit Transfer(const GoodputCase& conditions);
  std::optional<Duration> run();

 private:
  void write();
  void read();

  GoodputCase conditions_;
  Instant start_{std::chrono::seconds{1000}};
  SimLink link_;
  Random random_;
  std::array<wire::IpAddress, 2> addresses_ = {wire::IpAddress::v4(192, 0, 2, 1),
                                               wire::IpAddress::v4(192, 0, 2, 2)};
  TcpHost sender_;
  TcpHost receiver_;
  tcp::ConnectionId from_;
  tcp::ConnectionId to_;
  std::uint64_t written_ = 0;
  std::uint64_t received_ = 0;
  std::vector<std::byte> text_ = std::vector<std::byte>(65'536);
};

Transfer::Transfer(const GoodputCase& conditions)
    : conditions_{conditions},
      link_{link_options(conditions), start_},
      random_{conditions.seed},
      sender_{link_, Side::kA, config(addresses_[0]), stack_options(conditions), kTick, random_},
      receiver_{link_, Side::kB, config(addresses_[1]), stack_options(conditions), kTick, random_} {
  receiver_.stack().listen({addresses_[1], wire::Port{kPort}}, 0);
}

void Transfer::write() {
  while (sender_.stack().poll()) {
  }
  while (written_ < conditions_.bytes) {
    const auto wanted = std::min<std::uint64_t>(text_.size(), conditions_.bytes - written_);
    const std::size_t taken = sender_.stack().write(from_, std::span{text_}.first(wanted));
    written_ += taken;
    if (taken < wanted) return;
  }
}

void Transfer::read() {
  tcp::Stack& stack = receiver_.stack();
  while (const auto news = stack.poll())
    if (news->accepted) to_ = news->connection;
  while (true) {
    const auto piece = stack.peek(to_);
    if (piece.empty()) return;
    received_ += piece.size();
    stack.consume(to_, piece.size());
  }
}

std::optional<Duration> Transfer::run() {
  const auto id =
      sender_.stack().connect(addresses_[0], {addresses_[1], wire::Port{kPort}}, 0, start_);
  from_ = *id;
  for (Instant now = start_; now - start_ < kLongest;) {
    link_.advance_to(now);
    sender_.begin_turn(now);
    write();
    sender_.end_turn(now);
    receiver_.begin_turn(now);
    read();
    receiver_.end_turn(now);
    if (received_ == conditions_.bytes) return now - start_;
    now = std::max(
        now, std::min({link_.next_event(), sender_.next_deadline(), receiver_.next_deadline()}));
  }
  return std::nullopt;
}

}  // namespace

std::optional<Duration> transfer_time(const GoodputCase& conditions) {
  return Transfer{conditions}.run();
}

}  // namespace weir::testing
