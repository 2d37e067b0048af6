#pragma once

#include <cstdint>

#include "l4/base/clock.h"
#include "l4/base/random.h"
#include "l7/net/interface.h"
#include "l7/tcp/stack.h"
#include "tests/support/sim_link.h"

namespace weir::testing {

/// One end of a simulated link as a worker has it: port, net::Interface, tcp::Stack. A turn is
/// begin_turn(), then whatever the users do, then end_turn(), as in proxy::Worker::turn().
///
/// The stack lives on a clock of its own, which is coarser than the simulation's: it is told the
/// time of the last tick.
class TcpHost {
 public:
  TcpHost(SimLink& link, Side side, const net::InterfaceConfig& config,
          const tcp::StackOptions& options, Duration tick, Random& random);

  [[nodiscard]] tcp::Stack& stack() { return stack_; }
  [[nodiscard]] const tcp::Stack& stack() const { return stack_; }
  [[nodiscard]] net::Interface& interface() { return interface_; }
  /// What this host's clock shows.
  [[nodiscard]] Instant clock(Instant now) const;

  void begin_turn(Instant now);
  void end_turn(Instant now);
  /// When the next turn is due at the latest, on the simulation's clock.
  [[nodiscard]] Instant next_deadline() const;

 private:
  port::PacketPort& port_;
  Duration tick_;
  net::Interface interface_;
  tcp::Stack stack_;
  Instant send_again_ = kNever;  // the port has refused frames
};

}  // namespace weir::testing
