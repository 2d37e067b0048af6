#include "tests/sim/tcp_host.h"

#include <algorithm>
#include <array>
#include <utility>

namespace weir::testing {
namespace {

// A worker whose port has refused frames stays awake; this is its idea of soon.
constexpr Duration kSendAgainAfter = std::chrono::microseconds{20};

Instant floor_to(Duration tick, Instant time) { return time - time.time_since_epoch() % tick; }

}  // namespace

TcpHost::TcpHost(SimLink& link, Side side, const net::InterfaceConfig& config,
                 const tcp::StackOptions& options, Duration tick, Random& random)
    : port_{link.port(side)},
      tick_{tick},
      interface_{config, port_, Random{random.next()}, floor_to(tick, link.now())},
      stack_{options, interface_, Random{random.next()}, floor_to(tick, link.now())} {}

Instant TcpHost::clock(Instant now) const { return floor_to(tick_, now); }

void TcpHost::begin_turn(Instant now) {
  const Instant time = clock(now);
  std::array<port::Packet, 64> burst;
  for (std::size_t count = burst.size(); count == burst.size();) {
    count = port_.receive(burst);
    for (port::Packet& frame : std::span{burst}.first(count))
      if (auto segment = interface_.input(std::move(frame), time))
        stack_.input(std::move(*segment), time);
  }
  while (const auto error = interface_.poll_error())
    stack_.error(*error, time);
  interface_.advance(time);
  stack_.advance(time);
}

void TcpHost::end_turn(Instant now) {
  stack_.flush(clock(now));
  send_again_ = interface_.flush(clock(now)) > 0 ? now + kSendAgainAfter : kNever;
  port_.reap();
}

Instant TcpHost::next_deadline() const {
  const Instant due = std::min(interface_.next_deadline(), stack_.next_deadline());
  if (due == kNever) return send_again_;
  // The first tick that does not lie before the deadline.
  const Instant tick = floor_to(tick_, due + tick_ - Duration{1});
  return std::min(tick, send_again_);
}

}  // namespace weir::testing
