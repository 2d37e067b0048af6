#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "l4/base/clock.h"
#include "l4/base/random.h"
#include "l7/net/interface.h"
#include "l7/port/port.h"
#include "l7/tcp/stack.h"

namespace weir::bench {

/// What runs on a StackHost, in the place of the proxy. Called from the host's turn only, so it may
/// call the stack at any time.
class Application {
 public:
  virtual ~Application() = default;
  /// Once, before the first turn.
  virtual void start(Instant now) { static_cast<void>(now); }
  virtual void on_ready(const tcp::Readiness& ready, Instant now) = 0;
  /// Once per turn, after the stack's own timers.
  virtual void advance(Instant now) { static_cast<void>(now); }
  [[nodiscard]] virtual Instant next_deadline() const { return kNever; }
  [[nodiscard]] virtual bool is_finished() const { return false; }
};

enum class Polling : std::uint8_t {
  kAlways,   ///< never sleeps: what a latency is measured with
  kAdaptive  ///< as a worker of weir-l7: 50 µs after the last work it sleeps
};

/// Our stack as a host with one port: the turn and the loop of proxy::Worker without the proxy. It
/// is measured in the place of a worker, so that what it does for a frame is what a worker does.
class StackHost {
 public:
  StackHost(port::PacketPort& port, const net::InterfaceConfig& config,
            const tcp::StackOptions& options, Random random, Instant start);
  StackHost(const StackHost&) = delete;
  StackHost& operator=(const StackHost&) = delete;

  [[nodiscard]] tcp::Stack& stack() { return stack_; }
  [[nodiscard]] const tcp::Stack& stack() const { return stack_; }
  [[nodiscard]] const net::Interface& interface() const { return interface_; }

  /// Takes one frame up to the connection; a part of turn(), for whoever measures it alone.
  void input(port::Packet frame, Instant now);
  /// One turn of the loop; true if there was anything to do.
  bool turn(Application& application, Instant now);
  /// Turns until the application, which has been started, is finished or `stop` is set; `wake_fd`
  /// (or -1) tells a sleeper.
  void run(Application& application, const std::atomic<bool>& stop, Polling polling, int wake_fd);

  [[nodiscard]] std::uint64_t turns() const { return turns_; }
  [[nodiscard]] std::uint64_t sleeps() const { return sleeps_; }

 private:
  bool receive(Instant now);

  port::PacketPort& port_;
  net::Interface interface_;
  tcp::Stack stack_;
  std::vector<port::Packet> burst_;
  std::uint64_t turns_ = 0;
  std::uint64_t sleeps_ = 0;
};

}  // namespace weir::bench
