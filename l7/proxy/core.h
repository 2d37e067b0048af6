#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "l4/base/clock.h"
#include "l4/base/random.h"
#include "l4/base/slab.h"
#include "l4/base/timer_wheel.h"
#include "l7/http/h2_session.h"
#include "l7/proxy/channel.h"
#include "l7/proxy/client_connection.h"
#include "l7/proxy/exchanges.h"
#include "l7/proxy/generation.h"
#include "l7/proxy/source_counts.h"
#include "l7/tcp/stack.h"

namespace weir::proxy {

struct CoreCounters : ExchangeCounters {
  std::uint64_t connections_accepted = 0;
  std::uint64_t connections_refused = 0;     ///< no slot, or no such listener any more
  std::uint64_t connections_over_limit = 0;  ///< reset: their source had as many as it may
  std::uint64_t proxy_headers = 0;
  std::uint64_t proxy_header_failures = 0;  ///< from those who must send one: none, or a broken one
  std::uint64_t closed_after_requests = 0;  ///< as many as a connection may have; told so
  std::uint64_t closed_after_age = 0;       ///< likewise, for its age
  std::uint64_t tls_handshakes = 0;
  std::uint64_t tls_failures = 0;
  std::uint64_t handshake_timeouts = 0;
  std::uint32_t connections = 0;      ///< now
  std::uint32_t exchanges = 0;        ///< now; a connection of HTTP/1 keeps one
  std::uint32_t generations = 0;      ///< now, retired ones that are still in use included
  std::uint64_t buffer_refusals = 0;  ///< times the buffer pool was exhausted
  std::uint64_t buffers = 0;          ///< lent now
  http::H2Counters h2;                ///< of clients and endpoints
};

enum class DrainKind : std::uint8_t {
  kPrompt,  ///< somebody waits for the end: idle connections of HTTP/1 are closed at once
  /// They are not, since a client that sends a request at that moment would lose it: they end with
  /// their next answer, or by their idle time-out.
  kPatient,
};

/// The proxy of one core: accepts, speaks TLS and HTTP with clients, routes, and speaks HTTP with
/// endpoints, all over one TCP stack. Reads no clock and performs no I/O.
class Core {
 public:
  Core(tcp::Stack& stack, Random random, Instant start);
  ~Core();
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  /// Goes over to another configuration between two turns. Connections stay; their next request
  /// is answered by the new one.
  void install(std::unique_ptr<Generation> generation);
  /// The same configuration goes on with other endpoints: to connections nothing has changed.
  void install_endpoints(std::unique_ptr<Generation> generation);
  /// From here on connections end with the request that they carry, and new ones are refused. There
  /// is no way back: the process is about to end.
  void begin_drain(DrainKind kind, Instant now);
  /// Tickets of all configurations are sealed with these from now on.
  void set_ticket_keys(const tls::TicketKeySet& keys);
  /// What is to be added to an instant for the time since 1970. Until it is known, answers of our
  /// own have no Date.
  void set_wall_clock(Duration to_unix) { exchanges_.set_wall_clock(to_unix); }
  /// Our own addresses, as source of connections to endpoints.
  void set_sources(std::vector<wire::IpAddress> sources);
  /// A generation that nothing refers to any more, to be destroyed off this core; or nothing.
  [[nodiscard]] std::unique_ptr<Generation> take_retired();

  void on_ready(const tcp::Readiness& ready, Instant now);
  void advance(Instant now);
  /// Goes on with connections that had more to do than one turn allows. True if some are left.
  bool run_queued(Instant now);
  [[nodiscard]] Instant next_deadline() const { return timers_.next_deadline(); }

  [[nodiscard]] AccessLog& access_log() { return exchanges_.access_log(); }
  [[nodiscard]] std::uint64_t log_dropped() const { return exchanges_.access_log().dropped(); }
  [[nodiscard]] CoreCounters counters() const;
  [[nodiscard]] UpstreamCounters upstream_counters() const {
    return exchanges_.upstreams().counters();
  }
  [[nodiscard]] std::vector<RequestCounters> service_counters() const;
  [[nodiscard]] std::vector<RequestCounters> route_counters() const;

 private:
  // core.cpp: what all connections have in common.
  void accept(tcp::ConnectionId connection, Instant now);
  bool admit(ClientId id, ClientConnection& client, Instant now);
  void run(ClientId id, Instant now);
  bool step(ClientId id, ClientConnection& client, Instant now);
  bool step_proxy_header(ClientId id, ClientConnection& client, Instant now);
  bool step_handshake(ClientId id, ClientConnection& client, Instant now);
  bool step_draining(ClientConnection& client, Instant now);
  bool step_lingering(ClientId id, ClientConnection& client, Instant now);
  void run_exchange(ExchangeId id, Instant now);
  void on_client_timer(ClientId id, Instant now);
  void on_exchange_timer(ExchangeId id, Instant now);
  void settle(Instant now);
  [[nodiscard]] bool may_go_on(ClientConnection& client, Instant now);
  void client_lost(ClientId id, ClientConnection& client, Instant now);
  enum class Ending : std::uint8_t { kInOrder, kReset };
  void close_client(ClientId id, Ending ending, Instant now);
  void arm(ClientConnection& client, Instant deadline) { timers_.arm(client.timer, deadline); }
  void drain(ClientConnection& client, Instant now);
  void requeue(ClientId id, ClientConnection& client);

  // client_h1.cpp
  void await_request(ClientConnection& client, Instant now);
  Exchange& begin_exchange(ClientConnection& client, Instant now);
  void record_late_head(ClientId id, ClientConnection& client, Instant now);
  void refuse_late_head(ClientId id, ClientConnection& client, Instant now);
  bool step_request(ClientId id, ClientConnection& client, Instant now);
  bool step_exchange(ClientId id, ClientConnection& client, Instant now);
  void end_exchange(ClientId id, ClientConnection& client, Exchanges::Outcome outcome, Instant now);

  // passthrough.cpp
  bool step_hello(ClientId id, ClientConnection& client, Instant now);
  void begin_passthrough(ClientId id, ClientConnection& client, std::string_view server_name,
                         Instant now);

  // client_h2.cpp
  void tell_to_leave(ClientConnection& client, Instant now);
  void start_h2(ClientConnection& client, Instant now);
  bool step_h2(ClientId id, ClientConnection& client, Instant now);
  bool run_streams(ClientId id, ClientConnection& client, Instant now);
  void start_stream(ClientId id, ClientConnection& client, http::H2Stream& stream, Instant now);
  void step_stream(ClientConnection& client, Exchange& exchange, Instant now);
  void end_stream(ClientConnection& client, Exchange& exchange, Exchanges::Outcome outcome,
                  Instant now);
  void abandon_streams(ClientConnection& client, Reason reason, Instant now);
  void arm_h2(ClientConnection& client, Instant now);
  void on_h2_timer(ClientId id, ClientConnection& client, Instant now);

  tcp::Stack& stack_;
  TimerWheel timers_;
  BufferPool buffers_;
  tls::TicketKeySet ticket_keys_;  // none until they are set; contexts point at it
  // Before clients and endpoints, so that it outlives them: they refer to generations and their TLS
  // contexts.
  std::unique_ptr<Generation> current_;
  std::vector<std::unique_ptr<Generation>> retiring_;  // oldest first
  http::H2Shared h2_;                                  // likewise
  ChangedExchanges changed_;
  Exchanges exchanges_;
  Random random_;
  SourceCounts sources_;  // before clients, who hold tickets
  Slab<ClientConnection> clients_;
  std::vector<ClientId> queued_;
  std::vector<ClientId> running_;
  std::vector<ClientId> touched_;  // of HTTP/2: something was put into a stream
  bool is_draining_ = false;
  CoreCounters counters_;
};

}  // namespace weir::proxy
