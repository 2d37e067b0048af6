#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
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
#include "l7/proxy/mail.h"
#include "l7/tcp/ports.h"
#include "l7/tcp/stack.h"

namespace weir::proxy {

/// Everything that one worker counts, copied at one moment between two turns.
struct WorkerReport {
  port::PortCounters port;
  net::InterfaceCounters network;
  tcp::StackCounters tcp;
  CoreCounters core;
  UpstreamCounters upstream;
  std::vector<RequestCounters> services;  ///< that have had requests
  std::vector<RequestCounters> routes;    ///< likewise: rules
  MailCounters mail;
  std::uint64_t log_dropped = 0;
  std::uint64_t turns = 0;
  std::uint64_t busy_turns = 0;  ///< turns that found something to do
  Duration busy_time{};          ///< from the beginning of such turns to that of the next
  Duration idle_time{};          ///< likewise of the others, and what was slept behind them
  std::uint64_t sleeps = 0;
  std::uint64_t revision = 0;  ///< of the configuration in use; 0: none yet
};

/// Which of a node's workers this is, and how it speaks to the others.
struct Colleagues {
  MailRoom* room = nullptr;  ///< outlives the worker; none: it is alone
  std::uint32_t index = 0;
};

/// One core's share of the L7 plane: port, interface, TCP stack and proxy, run to completion turn
/// by turn. Nothing of it is shared with another worker. turn() is deterministic in its arguments
/// and the port, so that a simulation can drive whole workers; run() is turn() on the real clock.
///
/// The control thread speaks to it only by install() and report(), through mailboxes, and so do its
/// colleagues (mail.h). With several workers, the balancer steers each flow to one of them; what
/// arrives at the wrong one is not reset but passed on:
///
///   to an own address, port of a connection that we open   to the port's owner (ports.h)
///   to a VIP, of a flow unknown here and not a SYN          round, until one knows it; the last
///                                                           that has seen it answers with RST
///   ICMP error about one of our own ports                   to the port's owner
///   ARP and NDP                                             used here, and a copy to all others
///
/// While another process has connections that came before this one took over, its predecessor, it
/// is treated as one more worker, behind the last: it gets segments of flows that nobody here
/// knows, and copies of ARP, NDP and ICMP errors.
class Worker final : private tcp::UnknownFlow {
 public:
  static Result<std::unique_ptr<Worker>> create(port::PacketPort& port,
                                                const net::InterfaceConfig& config,
                                                const tcp::StackOptions& options, Random random,
                                                Instant start, Colleagues colleagues = {});
  ~Worker() override;
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// One turn of the loop; true if there was anything to do.
  bool turn(Instant now);
  /// Nothing needs to be done before this instant unless a frame or a message arrives.
  [[nodiscard]] Instant next_deadline() const;
  /// Turns until `stop`: busy while there is work, asleep on the port when there is none.
  void run(const std::atomic<bool>& stop);
  /// What is to be added to an instant for the time since 1970; run() does it by itself.
  void set_wall_clock(Duration to_unix) { core_.set_wall_clock(to_unix); }
  /// The counters as they are between two turns, for whoever calls turn().
  [[nodiscard]] std::unique_ptr<WorkerReport> make_report() const;

  // The control side's; any thread but the worker's, which never waits for them.

  /// Hands over a configuration. False when the mailbox is full because the worker hangs.
  [[nodiscard]] bool install(const net::InterfaceConfig& config,
                             std::unique_ptr<Generation> generation);
  /// Hands over other endpoints for the configuration that was handed over last. False as above.
  [[nodiscard]] bool install_endpoints(std::unique_ptr<Generation> generation);
  /// Hands over the keys of TLS tickets, before the first configuration and whenever they change.
  [[nodiscard]] bool install(const tls::TicketKeySet& keys);
  /// Core::begin_drain(). False as for install().
  [[nodiscard]] bool begin_drain(DrainKind kind);
  /// Whether there is a predecessor now. False as for install().
  [[nodiscard]] bool set_predecessor(bool exists);
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
    std::unique_ptr<Generation> generation;  ///< none: keys, or a report is wanted
    std::unique_ptr<tls::TicketKeySet> ticket_keys{};
    std::optional<DrainKind> drain{};
    std::optional<bool> predecessor{};
    bool endpoints_only = false;  ///< of `generation`: all else is as it was
  };

  Worker(port::PacketPort& port, const net::InterfaceConfig& config,
         const tcp::StackOptions& options, Random random, Instant start, Colleagues colleagues,
         UniqueFd wake_fd);
  void account(Instant now);
  /// From any thread. False when the mailbox is full.
  [[nodiscard]] bool command(Command command);
  bool take_commands(Instant now);
  void configure(const net::InterfaceConfig& config);
  void take_endpoints(std::unique_ptr<Generation> generation);
  bool receive(Instant now);
  void sleep(Duration longest);
  void clear_wake() const;

  // Colleagues (worker_mail.cpp).
  [[nodiscard]] bool is_alone() const { return colleagues_.room == nullptr; }
  void input(net::Segment segment, Instant now);
  void input_error(const net::TransportError& error, Instant now);
  void show_if_neighbor(const port::Packet& frame);
  void show_predecessor(const port::Packet& frame);
  bool take_letters(Instant now);
  void open_letter(Postbox& box, Instant now);
  void open_segment(const SegmentLetter& letter, std::span<const std::byte> bytes, Instant now);
  void ring_colleagues();
  [[nodiscard]] port::Packet copy_of(std::span<const std::byte> bytes);
  [[nodiscard]] bool post(std::uint32_t to, Letter letter, std::span<const std::byte> bytes);
  [[nodiscard]] std::optional<std::uint32_t> owner_of(const wire::IpAddress& local,
                                                      std::uint16_t port) const;
  // tcp::UnknownFlow
  [[nodiscard]] bool take(net::Segment& segment, Instant now) override;

  port::PacketPort& port_;
  net::Interface interface_;
  tcp::Stack stack_;
  Core core_;
  UniqueFd wake_fd_;  // eventfd: the control thread writes, the sleeping worker polls
  std::vector<port::Packet> burst_;
  std::mutex control_;  // whoever speaks to the worker: the mailboxes know one at a time
  Mailbox<Command> commands_;
  Mailbox<std::unique_ptr<WorkerReport>> reports_;
  Mailbox<std::unique_ptr<Generation>> retired_;
  Colleagues colleagues_;
  tcp::PortShare ports_;
  std::vector<wire::IpAddress> own_addresses_;
  bool has_predecessor_ = false;
  std::uint64_t posted_to_ = 0;  // a bit for each colleague, in this turn
  // Of the segment that is with the stack: who has looked for its flow, us included, and whether
  // we have looked in vain.
  std::uint32_t seen_ = 1;
  bool unknown_ = false;
  MailCounters mail_counters_;
  std::uint64_t turns_ = 0;
  std::uint64_t busy_turns_ = 0;
  // Each turn is charged when the next one begins, whose time is known anyway.
  Duration busy_time_{};
  Duration idle_time_{};
  Instant turn_began_;
  bool was_busy_ = false;
  std::uint64_t sleeps_ = 0;
  std::uint64_t revision_ = 0;
};

}  // namespace weir::proxy
