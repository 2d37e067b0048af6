#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "l4/base/random.h"
#include "l4/control/probe_exchange.h"
#include "l4/control/probe_icmp.h"
#include "l4/control/probe_socket.h"
#include "l4/control/probe_tls.h"
#include "l4/control/prober.h"

namespace weir::control {

class Probe;

/// What came of starting a probe: one that is under way, or a verdict at once, or neither, where
/// this node is short of what a probe takes.
struct ProbeStart {
  std::unique_ptr<Probe> probe;
  std::optional<ProbeVerdict> verdict;
};

/// One probe that is under way: its socket, and what is said over it.
///
///   start() ─► connecting ──writable──► talking ──answer judged──► verdict
///                  │ error, timeout        │ error, end, timeout      ▲
///                  └───────────────────────┴──────────────────────────┘
///
/// Datagrams begin in talking. Whoever has a verdict destroys the probe, and with it the socket.
class Probe {
 public:
  /// `tls` outlives the probe.
  static ProbeStart start(const ProbeTarget& target, TlsProbes& tls, Random& random);

  [[nodiscard]] int fd() const { return socket_.get(); }
  /// The socket may be read or written, or has an error: everything that can be done now is done,
  /// so that edge-triggered events suffice.
  std::optional<ProbeVerdict> on_ready();
  /// Nothing decisive has come in time.
  [[nodiscard]] ProbeVerdict on_timeout() const;

 private:
  Probe(const ProbeTarget& target, UniqueFd socket) : socket_{std::move(socket)}, target_{target} {}

  static ProbeStart start_stream(const ProbeTarget& target, TlsProbes& tls);
  static ProbeStart start_datagram(const ProbeTarget& target, Random& random);
  std::optional<ProbeVerdict> on_stream();
  std::optional<ProbeVerdict> on_datagrams();
  std::optional<ProbeVerdict> send_output();
  [[nodiscard]] std::optional<ProbeVerdict> judge_datagram(std::span<const std::byte> bytes) const;

  UniqueFd socket_;
  const ProbeTarget& target_;                // of the slot that owns this probe
  std::unique_ptr<ProbeExchange> exchange_;  // none for kTcp, kUdp, kIcmp
  bool is_connected_ = false;                // streams
  std::string unsent_;
  std::size_t received_bytes_ = 0;
  EchoRequest echo_;     // kIcmp
  bool is_raw_ = false;  // kIcmp
};

}  // namespace weir::control
