#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "l4/base/clock.h"
#include "l4/base/fd.h"
#include "l4/base/mailbox.h"
#include "l4/base/random.h"
#include "l7/net/interface.h"
#include "l7/port/port.h"
#include "l7/proxy/core.h"
#include "l7/proxy/generation.h"
#include "l7/tcp/stack.h"

namespace weir::proxy {

/// Everything that one worker counts, copied at one moment between two turns.
struct WorkerReport {
  port::PortCounters port;
  net::InterfaceCounters network;
  tcp::StackCounters tcp;
  CoreCounters core;
  UpstreamCounters upstream;
  std::vector<ServiceCounters> services;
  std::uint64_t log_dropped = 0;
  std::uint64_t turns = 0;
  std::uint64_t busy_turns = 0;  ///< turns that found something to do
  std::uint64_t sleeps = 0;
  std::uint64_t revision = 0;  ///< of the configuration in use; 0: none yet
};

/// One core's share of the L7 plane: port, interface, TCP stack and proxy, run to completion turn
/// by turn. Nothing of it is shared with another worker. turn() is deterministic in its arguments
/// and the port, so that a simulation can drive whole workers; run() is turn() on the real clock.
///
/// The control thread speaks to it only by install() and report(), through mailboxes.
class Worker {
 public:
  static Result<std::unique_ptr<Worker>> create(port::PacketPort& port,
                                                const net::InterfaceConfig& config,
                                                const tcp::StackOptions& options, Random random,
                                                Instant start);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// One turn of the loop; true if there was anything to do.
  bool turn(Instant now);
  /// Nothing needs to be done before this instant unless a frame or a message arrives.
  [[nodiscard]] Instant next_deadline() const;
  /// Turns until `stop`: busy while there is work, asleep on the port when there is none.
  void run(const std::atomic<bool>& stop);
  /// The counters as they are between two turns, for whoever calls turn().
  [[nodiscard]] std::unique_ptr<WorkerReport> make_report() const;

  // The control thread's side; one thread at a time, which the worker never waits for.

  /// Hands over a configuration. False when the mailbox is full because the worker hangs.
  [[nodiscard]] bool install(const net::InterfaceConfig& config,
                             std::unique_ptr<Generation> generation);
  /// Asks for the counters and waits for them, at most `longest`.
  [[nodiscard]] std::optional<WorkerReport> report(Duration longest);
  /// Destroys what the worker has let go of.
  void destroy_retired();
  /// Wakes the worker, for example to see `stop`.
  void wake();
  [[nodiscard]] AccessLog& access_log() { return core_.access_log(); }

 private:
  struct Command {
    net::InterfaceConfig config;
    std::unique_ptr<Generation> generation;  ///< none: a report is wanted
  };

  Worker(port::PacketPort& port, const net::InterfaceConfig& config,
         const tcp::StackOptions& options, Random random, Instant start, UniqueFd wake_fd);
  bool take_commands();
  bool receive(Instant now);
  void clear_wake() const;

  port::PacketPort& port_;
  net::Interface interface_;
  tcp::Stack stack_;
  Core core_;
  UniqueFd wake_fd_;  // eventfd: the control thread writes, the sleeping worker polls
  std::vector<port::Packet> burst_;
  Mailbox<Command> commands_;
  Mailbox<std::unique_ptr<WorkerReport>> reports_;
  Mailbox<std::unique_ptr<Generation>> retired_;
  std::uint64_t turns_ = 0;
  std::uint64_t busy_turns_ = 0;
  std::uint64_t sleeps_ = 0;
  std::uint64_t revision_ = 0;
};

}  // namespace weir::proxy
