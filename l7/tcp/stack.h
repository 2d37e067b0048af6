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
  std::uint32_t half_open_max = 4096;                   ///< connections in SYN-RECEIVED
  std::uint32_t receive_buffer_bytes = 256 * 1024;      ///< per connection, the largest window
  std::uint32_t send_buffer_bytes = 256 * 1024;         ///< per connection
  std::uint32_t buffer_pool_bytes = 256 * 1024 * 1024;  ///< of all connections together
  Duration retransmission_timeout_min = std::chrono::milliseconds{200};
  Duration time_wait = std::chrono::seconds{60};
  Duration connect_timeout = std::chrono::seconds{3};
  std::uint16_t ephemeral_first = 32768;
  std::uint16_t ephemeral_last = 60999;
  std::uint32_t time_wait_max = 65536;               ///< records; then the oldest gives way
  Duration user_timeout = std::chrono::seconds{30};  ///< for data without progress
  Duration fin_timeout = std::chrono::seconds{60};   ///< FIN-WAIT-1, FIN-WAIT-2, CLOSING
  Duration last_ack_timeout = std::chrono::seconds{30};
  Duration linger_timeout = std::chrono::seconds{120};  ///< a released connection's whole rest
};

struct StackCounters {
  std::uint64_t segments_received = 0;
  std::uint64_t segments_sent = 0;
  std::uint64_t bytes_received = 0;  ///< payload, in order, once
  std::uint64_t bytes_sent = 0;      ///< payload, without retransmissions
  std::uint64_t retransmitted_segments = 0;
  std::uint64_t fast_retransmits = 0;
  std::uint64_t retransmission_timeouts = 0;
  std::uint64_t duplicate_segments = 0;
  std::uint64_t out_of_order_segments = 0;
  std::uint64_t dropped_malformed = 0;
  std::uint64_t dropped_no_memory = 0;  ///< a limit of this stack was reached
  std::uint64_t dropped_backlog = 0;    ///< half_open_max was reached
  std::uint64_t resets_sent = 0;
  std::uint64_t resets_received = 0;
  std::uint64_t challenge_acks = 0;
  std::uint64_t accepted = 0;
  std::uint64_t connected = 0;
  std::uint64_t failed_connects = 0;
  std::uint64_t time_wait_evicted = 0;
  std::uint32_t connections = 0;    ///< now
  std::uint32_t half_open = 0;      ///< now
  std::uint32_t time_wait = 0;      ///< now
  std::uint32_t buffer_chunks = 0;  ///< now, 4 KiB each, of buffer_pool_bytes
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

  void input(net::Segment segment, Instant now);
  void error(const net::TransportError& error, Instant now);
  void advance(Instant now);
  void flush(Instant now);
  [[nodiscard]] Instant next_deadline() const;

  /// The next connection with news, each at most once until something new happens to it.
  [[nodiscard]] std::optional<Readiness> poll();

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
  [[nodiscard]] const StackCounters& counters() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace weir::tcp
