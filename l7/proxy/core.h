#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "l4/base/clock.h"
#include "l4/base/random.h"
#include "l4/base/slab.h"
#include "l4/base/timer_wheel.h"
#include "l7/http/h1.h"
#include "l7/proxy/access_log.h"
#include "l7/proxy/channel.h"
#include "l7/proxy/exchange.h"
#include "l7/proxy/generation.h"
#include "l7/proxy/upstream_pool.h"
#include "l7/tcp/stack.h"

namespace weir::proxy {

/// One client's connection. Its states, with what holds in them:
///
///   handshake ──► request ◄──────────────┐   handshake: TLS is being set up
///                   │ head complete      │   request:   no exchange is active
///                   ▼                    │   exchange:  exchange.active()
///                exchange ──reusable─────┘   draining:  the last response is leaving
///                   │                        lingering: FIN sent; input is read and thrown away,
///                   so ▼                                   that no RST overtakes the response
///                draining ──► lingering ──► gone        (RFC 9112, section 9.6)
///
/// Where TLS is passed through, handshake reads whom the client asks for, and goes on to the one
/// exchange that the rest of the connection is.
struct ClientConnection {
  enum class State : std::uint8_t { kHandshake, kRequest, kExchange, kDraining, kLingering };

  ClientConnection(tcp::Stack& stack, tcp::ConnectionId connection, BufferPool& pool,
                   http::HeadLimits limits)
      : channel{stack, connection, pool}, parser{limits} {}

  Channel channel;
  http::RequestParser parser;
  http::RequestUri uri;
  GenerationRef generation;  ///< the one it was accepted under; owns its TLS context
  const Bind* bind = nullptr;
  wire::Endpoint vip;
  wire::Endpoint client;
  std::string client_text;  ///< the address, for X-Forwarded-For
  std::string server_name;  ///< of a connection that is passed through, in lower case
  State state = State::kRequest;
  Exchange exchange;
  Instant first_byte{};  ///< of the request that is being read; the epoch: none has come
  std::uint32_t requests = 0;
  bool queued = false;  ///< stands in the list of those to go on with in the next turn
  Timer timer;
};

struct ServiceCounters {
  std::string name;
  std::uint64_t requests = 0;
};

struct CoreCounters {
  std::uint64_t connections_accepted = 0;
  std::uint64_t connections_refused = 0;  ///< no slot, or no such listener any more
  std::uint64_t tls_handshakes = 0;
  std::uint64_t tls_failures = 0;
  std::uint64_t handshake_timeouts = 0;
  std::uint64_t passed_through = 0;  ///< connections of TLS listeners, when they have ended
  std::uint64_t requests = 0;
  std::uint64_t retries = 0;
  std::array<std::uint64_t, 6> responses{};  ///< by first digit of the status; 0: none was sent
  std::array<std::uint64_t, kReasonCount> reasons{};  ///< by Reason
  std::uint32_t connections = 0;                      ///< now
  std::uint32_t generations = 0;      ///< now, retired ones that are still in use included
  std::uint64_t buffer_refusals = 0;  ///< times the buffer pool was exhausted
  std::uint64_t buffers = 0;          ///< lent now
};

/// The proxy of one core: accepts, speaks TLS and HTTP with clients, routes, and speaks HTTP with
/// endpoints, all over one TCP stack. Reads no clock and performs no I/O.
class Core {
 public:
  Core(tcp::Stack& stack, Random random, Instant start);
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  /// Goes over to another configuration between two turns. Connections stay; their next request
  /// is answered by the new one.
  void install(std::unique_ptr<Generation> generation);
  /// Tickets of all configurations are sealed with these from now on.
  void set_ticket_keys(const tls::TicketKeySet& keys);
  /// Our own addresses, as source of connections to endpoints.
  void set_sources(std::vector<wire::IpAddress> sources);
  /// A generation that nothing refers to any more, to be destroyed off this core; or nothing.
  [[nodiscard]] std::unique_ptr<Generation> take_retired();

  void on_ready(const tcp::Readiness& ready, Instant now);
  void advance(Instant now);
  /// Goes on with connections that had more to do than one turn allows. True if some are left.
  bool run_queued(Instant now);
  [[nodiscard]] Instant next_deadline() const { return timers_.next_deadline(); }

  [[nodiscard]] AccessLog& access_log() { return access_log_; }
  [[nodiscard]] std::uint64_t log_dropped() const { return access_log_.dropped(); }
  [[nodiscard]] CoreCounters counters() const;
  [[nodiscard]] UpstreamCounters upstream_counters() const { return upstreams_.counters(); }
  [[nodiscard]] std::vector<ServiceCounters> service_counters() const;

 private:
  void accept(tcp::ConnectionId connection, Instant now);
  void on_upstream(const tcp::Readiness& ready, Instant now);
  void run(ClientId id, Instant now);
  bool step(ClientId id, ClientConnection& client, Instant now);
  bool step_handshake(ClientId id, ClientConnection& client, Instant now);
  bool step_request(ClientId id, ClientConnection& client, Instant now);
  bool step_exchange(ClientId id, ClientConnection& client, Instant now);
  bool step_tunnel(ClientId id, ClientConnection& client, Instant now);
  bool step_draining(ClientConnection& client, Instant now);
  bool step_lingering(ClientId id, ClientConnection& client, Instant now);

  void begin_exchange(ClientId id, ClientConnection& client, Instant now);
  [[nodiscard]] bool choose_service(ClientConnection& client, Instant now);
  [[nodiscard]] bool find_route(ClientConnection& client, Instant now);
  void start_attempt(ClientId id, ClientConnection& client, Instant now);
  void attempt_failed(ClientId id, ClientConnection& client, Reason reason, Instant now);
  void drop_upstream(ClientConnection& client, Instant now);
  void finish_exchange(ClientConnection& client, Instant now);
  void fail_exchange(ClientId id, ClientConnection& client, Reason reason, Instant now);
  void refuse(ClientConnection& client, http::Status status, Reason reason, Instant now);
  void redirect(ClientConnection& client, Instant now);
  void finish_reply(ClientConnection& client, http::Status status, std::string_view location,
                    Instant now);
  [[nodiscard]] bool may_go_on(const ClientConnection& client) const;
  void reply(ClientConnection& client, http::Status status, std::string_view location,
             bool keep_alive);
  void record(const ClientConnection& client, Instant now);
  void client_lost(ClientId id, ClientConnection& client, Instant now);
  // In passthrough.cpp:
  bool step_hello(ClientId id, ClientConnection& client, Instant now);
  void begin_passthrough(ClientId id, ClientConnection& client, Instant now);
  void end_passthrough(ClientConnection& client, Instant now);
  enum class Ending : std::uint8_t { kInOrder, kReset };
  void close_client(ClientId id, Ending ending, Instant now);
  void on_client_timer(ClientId id, Instant now);
  void arm(ClientConnection& client, Instant deadline) { timers_.arm(client.timer, deadline); }
  void await_request(ClientConnection& client, Instant now);
  void drain(ClientConnection& client, Instant now);
  void requeue(ClientId id, ClientConnection& client);

  tcp::Stack& stack_;
  Random random_;
  TimerWheel timers_;
  BufferPool buffers_;
  tls::TicketKeySet ticket_keys_;  // none until they are set; contexts point at it
  // Before clients and endpoints, so that it outlives them: they refer to generations and their TLS
  // contexts.
  std::unique_ptr<Generation> current_;
  std::vector<std::unique_ptr<Generation>> retiring_;  // oldest first
  UpstreamPool upstreams_;
  Slab<ClientConnection> clients_;
  std::vector<ClientId> queued_;
  std::vector<ClientId> running_;
  std::vector<ServiceCounters> services_;  // by index of the current snapshot
  AccessLog access_log_;
  CoreCounters counters_;
  std::vector<std::byte> scratch_;
  http::ResponseHead reply_head_;
};

}  // namespace weir::proxy
