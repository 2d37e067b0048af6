#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "l4/base/clock.h"
#include "l4/base/result.h"
#include "l4/control/health_check.h"
#include "l4/wire/address.h"

namespace weir::control {

/// One backend of one VIP that is asked again and again.
struct ProbeTarget {
  std::uint64_t id = 0;     ///< the caller's, unique among the targets; comes back with results
  HealthCheck check = {};   ///< of it the prober reads kind, interval, timeout and what is asked
  wire::IpAddress backend;  ///< where probes are sent
  wire::Port port;          ///< already chosen: `check.port` is not read; kIcmp has none
  wire::IpAddress vip;      ///< the default of Host, and the name that a certificate must have
  /// SO_MARK of the probe's sockets. 0: none. Another: l4/probe_path.h sends what has the mark to
  /// the VIP on this backend, through the VIP's own encapsulation.
  std::uint32_t mark = 0;

  friend bool operator==(const ProbeTarget&, const ProbeTarget&) = default;
};

struct ProbeResult {
  std::uint64_t id = 0;
  bool is_success = false;
  std::string reason;  ///< for a person: "connection refused", "status 200"
  Duration took{};     ///< from the start to the verdict, or to the timeout
};

/// Since the start, and of this moment. What the prober itself is short of is no failure of a
/// backend: such a probe waits, and is counted.
struct ProberCounters {
  std::uint64_t started = 0;
  std::uint64_t succeeded = 0;
  std::uint64_t failed = 0;            ///< timed out ones included
  std::uint64_t timed_out = 0;         ///< nothing decisive within the timeout
  std::uint64_t short_of_sockets = 0;  ///< probes that waited for a descriptor, port or memory
  std::uint64_t skipped = 0;           ///< turns that passed while the probe before was waiting
  std::uint64_t results_lost = 0;      ///< nobody took them for so long that no more were kept
  std::uint64_t targets = 0;           ///< now
  std::uint64_t in_flight = 0;         ///< now
};

/// Sends probes, one thread for all of them, and hands over what came of it. Each target has its
/// own phase within its interval, so that probes are spread evenly over time, and never two probes
/// at once. Connections are reset at their end, so none stays behind in TIME-WAIT.
///
/// The thread and every socket belong to the object and end with it. The thread inherits the
/// capabilities and the network namespace of the thread that calls start().
class Prober {
 public:
  /// Raises the process's limit of open descriptors to what it may be.
  static Result<Prober> start();
  Prober(Prober&&) noexcept;
  Prober& operator=(Prober&&) noexcept;
  ~Prober();

  /// From here on these and no others; from any thread. Those that are as before go on undisturbed;
  /// those that changed keep their phase, and a probe of theirs that is under way has no result. A
  /// new one is first probed within its interval. Of two with one id the first counts.
  void set_targets(std::vector<ProbeTarget> targets);

  /// Readable while results wait. Owned by the prober; only to be polled.
  [[nodiscard]] int fd() const;
  /// Everything that waits, in the order of the verdicts. Those of targets that are gone may be
  /// among them.
  [[nodiscard]] std::vector<ProbeResult> take_results();
  [[nodiscard]] ProberCounters counters() const;

 private:
  class Runner;
  explicit Prober(std::unique_ptr<Runner> runner);
  std::unique_ptr<Runner> runner_;
};

/// Whether the calling thread needs CAP_NET_RAW to send echo requests: where
/// net.ipv4.ping_group_range has its group, it does not.
[[nodiscard]] bool echo_needs_raw_sockets();

}  // namespace weir::control
