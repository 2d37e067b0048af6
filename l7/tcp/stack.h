#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "l4/base/clock.h"
#include "l4/base/random.h"
#include "l4/base/slab.h"
#include "l4/wire/address.h"
#include "l7/net/transport.h"
#include "l7/tcp/congestion.h"
#include "l7/tcp/connection_info.h"
#include "l7/tcp/counters.h"
#include "l7/tcp/unknown_flow.h"

namespace weir::tcp {

class Connection;
using ConnectionId = Handle<Connection>;

/// Chosen by the user of the stack and handed back with every readiness report of the connection.
using UserData = std::uint64_t;

/// What has become possible for one connection since it was last reported.
struct Readiness {
  ConnectionId connection;
  UserData user = 0;
  bool accepted = false;   ///< new, from a listener; `user` is the listener's until set_user()
  bool connected = false;  ///< an active open has completed
  bool readable = false;   ///< bytes, or the end of the peer's stream, can be read
  bool writable = false;   ///< room in the send buffer after write() had come up short
  bool closed = false;     ///< both directions ended in order, all our bytes acknowledged
  bool reset = false;      ///< ended by RST, time-out or refusal: see failure()
};

enum class Failure : std::uint8_t { kNone, kRefused, kReset, kTimedOut, kUnreachable };

struct StackOptions {
  std::uint32_t connections_max = 65536;
  std::uint32_t half_open_max = 4096;                   ///< records of SYNs; then cookies
  std::uint32_t accept_queue_max = 4096;                ///< accepted and not yet fetched by poll()
  std::uint32_t receive_buffer_bytes = 256 * 1024;      ///< per connection, the largest window
  std::uint32_t send_buffer_bytes = 256 * 1024;         ///< per connection
  std::uint32_t buffer_pool_bytes = 256 * 1024 * 1024;  ///< of all connections together
  Duration retransmission_timeout_min = std::chrono::milliseconds{200};
  Duration time_wait = std::chrono::seconds{60};
  Duration connect_timeout = std::chrono::seconds{3};
  std::uint16_t ephemeral_first = 32768;
  std::uint16_t ephemeral_last = 60999;
  std::uint32_t worker = 0;   ///< connections are opened from the ports of this worker (ports.h)
  std::uint32_t workers = 1;  ///< of so many
  std::uint32_t time_wait_max = 65536;               ///< records; then the oldest gives way
  Duration user_timeout = std::chrono::seconds{30};  ///< for data without progress
  Duration fin_timeout = std::chrono::seconds{60};   ///< FIN-WAIT-1, FIN-WAIT-2, CLOSING
  Duration last_ack_timeout = std::chrono::seconds{30};
  CongestionAlgorithm congestion = CongestionAlgorithm::kCubic;
  bool rack = true;           ///< losses by time (RFC 8985); else by counting SACKs (RFC 6675)
  bool timestamps = true;     ///< offered by connect(), and accepted (RFC 7323)
  bool ecn = true;            ///< agreed to when a peer asks (RFC 3168)
  bool ecn_active = false;    ///< asked for by connect()
  bool pacing = true;         ///< where the round trip is longer than a millisecond
  bool path_probing = true;   ///< smaller segments when none arrive (RFC 4821)
  Duration keepalive_idle{};  ///< silence before the first probe (RFC 1122, 4.2.3.6); zero: never
  Duration keepalive_interval = std::chrono::seconds{75};
  std::uint32_t keepalive_probes = 9;                   ///< unanswered ones that end a connection
  Duration linger_timeout = std::chrono::seconds{120};  ///< a released connection's whole rest
};

/// TCP over IPv4 and IPv6 (RFC 9293) for one core. Performs no I/O and reads no clock: segments,
/// time and randomness come in as arguments, segments leave through SegmentOutput. Nothing here
/// calls back into the user: what happened is collected and fetched with poll().
///
/// One turn of the owner's loop: input() for every received segment, advance(now), then poll()
/// until empty with reads and writes, then flush(now), which sends what the turn has made ready.
///
/// A connection belongs to its user until release(). Released connections finish by themselves:
/// queued bytes and the FIN are delivered, bounded by time-outs.
class Stack {
 public:
  Stack(const StackOptions& options, net::SegmentOutput& output, Random random, Instant start);
  ~Stack();
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  /// Accepts connections to `local`; `user` is reported with each. Listening twice changes `user`.
  void listen(const wire::Endpoint& local, UserData user);
  /// Stops accepting; connections that are open stay.
  void stop_listening(const wire::Endpoint& local);

  /// Starts an active open from a free ephemeral port. Fails when no port or slot is left; refusal
  /// and time-out are reported later as `reset`.
  [[nodiscard]] Result<ConnectionId> connect(const wire::IpAddress& local,
                                             const wire::Endpoint& remote, UserData user,
                                             Instant now);

  /// Whom to ask before a segment of no known flow is answered with RST; nullptr: nobody.
  void set_unknown_flow(UnknownFlow* unknown);

  void input(net::Segment segment, Instant now);
  void error(const net::TransportError& error, Instant now);
  void advance(Instant now);
  void flush(Instant now);
  [[nodiscard]] Instant next_deadline() const;

  /// The next connection with news, each at most once until something new happens to it.
  [[nodiscard]] std::optional<Readiness> poll();

  /// poll() returns it once more, as readable and writable: its owner could not go on before.
  void remind(ConnectionId id);
  void set_user(ConnectionId id, UserData user);

  /// The bytes at the front of the receive buffer that lie in one piece; empty when there are none.
  [[nodiscard]] std::span<const std::byte> peek(ConnectionId id) const;
  [[nodiscard]] std::size_t readable_bytes(ConnectionId id) const;
  /// Removes bytes from the front; may announce a larger window with the next flush().
  void consume(ConnectionId id, std::size_t count);
  /// True when the peer has sent FIN and everything before it has been consumed.
  [[nodiscard]] bool at_end(ConnectionId id) const;

  /// Copies as much as the send buffer takes and says how much. After a short write `writable` is
  /// reported once half of the buffer is free.
  std::size_t write(ConnectionId id, std::span<const std::byte> bytes);
  [[nodiscard]] std::size_t writable_bytes(ConnectionId id) const;
  /// Bytes accepted by write() that the peer has not acknowledged yet.
  [[nodiscard]] std::size_t unacknowledged_bytes(ConnectionId id) const;

  /// Sends FIN after the queued bytes; reading goes on.
  void close_write(ConnectionId id);
  /// Gives the connection up: close_write() and then everything else without the user.
  void release(ConnectionId id);
  /// Sends RST and forgets the connection at once.
  void abort(ConnectionId id, Instant now);

  [[nodiscard]] bool exists(ConnectionId id) const;
  [[nodiscard]] wire::Endpoint local(ConnectionId id) const;
  [[nodiscard]] wire::Endpoint remote(ConnectionId id) const;
  [[nodiscard]] Failure failure(ConnectionId id) const;
  /// How the connection is doing; nothing when it does not exist.
  [[nodiscard]] std::optional<ConnectionInfo> info(ConnectionId id) const;
  /// Nagle's algorithm (RFC 9293, section 3.7.4) is off unless asked for: whoever writes here
  /// writes whole messages.
  void set_nagle(ConnectionId id, bool on);
  [[nodiscard]] const StackCounters& counters() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace weir::tcp
