#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "l4/base/random.h"
#include "l4/base/slab.h"
#include "l7/proxy/exchange.h"

namespace weir::proxy {

struct ServiceCounters {
  std::string name;
  std::uint64_t requests = 0;
};

struct ExchangeCounters {
  std::uint64_t requests = 0;
  std::uint64_t requests_h2 = 0;     ///< of them, over HTTP/2
  std::uint64_t passed_through = 0;  ///< connections of TLS listeners, when they have ended
  std::uint64_t retries = 0;
  std::array<std::uint64_t, 6> responses{};  ///< by first digit of the status; 0: none was sent
  std::array<std::uint64_t, kReasonCount> reasons{};  ///< by Reason
};

/// The exchanges of one worker, from a request's head to its line in the log: routing, attempts,
/// time-outs, answers of our own. Knows endpoints and their connections, but not those of clients:
/// their owner calls, and is told what has become of it.
class Exchanges {
 public:
  enum class Outcome : std::uint8_t {
    kWaits,   ///< for one of its sides
    kMoved,   ///< call again
    kDone,    ///< answered and recorded
    kBroken,  ///< recorded; the client must learn that its answer has no end
  };

  Exchanges(tcp::Stack& stack, BufferPool& buffers, TimerWheel& timers, http::H2Shared& h2,
            Random random);

  /// Counts of services that are still there go on.
  void install(const Snapshot& snapshot);

  /// For a client, or nothing when there are too many.
  [[nodiscard]] Exchange* create(ClientId client);
  void destroy(Exchange& exchange) { exchanges_.erase(exchange.id); }
  [[nodiscard]] Exchange* get(ExchangeId id) { return exchanges_.get(id); }

  // The exchange's legs and head are set, and begin() has been called, before one of these.
  /// A whole head: finds its route and an endpoint.
  [[nodiscard]] Outcome start(Exchange& exchange, Instant now);
  /// A name that TLS asks for, which is in the facts; likewise.
  [[nodiscard]] Outcome start_passthrough(Exchange& exchange, Instant now);
  /// A head that breaks a rule; and one that has not come.
  [[nodiscard]] Outcome refuse_head(Exchange& exchange, const http::Refusal& refusal, Instant now);
  [[nodiscard]] Outcome refuse_late_head(Exchange& exchange, Instant now);

  [[nodiscard]] Outcome step(Exchange& exchange, Instant now);
  [[nodiscard]] Outcome on_timer(Exchange& exchange, Instant now);
  /// The client is gone, or its connection.
  void abandon(Exchange& exchange, Reason reason, Instant now);

  /// What an endpoint's connection has to say; whose exchanges it concerns is appended.
  void on_upstream(const tcp::Readiness& ready, ChangedExchanges& changed, Instant now);
  void on_upstream_timer(UpstreamId id, Instant now);

  [[nodiscard]] UpstreamPool& upstreams() { return upstreams_; }
  [[nodiscard]] const UpstreamPool& upstreams() const { return upstreams_; }
  [[nodiscard]] AccessLog& access_log() { return access_log_; }
  [[nodiscard]] const AccessLog& access_log() const { return access_log_; }
  [[nodiscard]] const ExchangeCounters& counters() const { return counters_; }
  [[nodiscard]] const std::vector<ServiceCounters>& services() const { return services_; }
  [[nodiscard]] std::uint32_t size() const { return exchanges_.size(); }

 private:
  static constexpr std::uint32_t kExchangesMax = 131'072;

  [[nodiscard]] std::optional<Outcome> find_route(Exchange& exchange, Instant now);
  [[nodiscard]] std::optional<Outcome> choose_service(Exchange& exchange, Instant now);
  [[nodiscard]] Outcome start_attempt(Exchange& exchange, Instant now);
  [[nodiscard]] bool find_connection(Exchange& exchange, Instant now);
  [[nodiscard]] bool is_ready(Exchange& exchange, UpstreamConnection& upstream);
  [[nodiscard]] Outcome step_tunnel(Exchange& exchange, UpstreamConnection& upstream, Instant now);
  [[nodiscard]] Outcome attempt_failed(Exchange& exchange, Reason reason, Instant now);
  [[nodiscard]] Outcome finish(Exchange& exchange, Instant now);
  [[nodiscard]] Outcome fail(Exchange& exchange, Reason reason, Instant now);
  [[nodiscard]] Outcome refuse(Exchange& exchange, http::Status status, Reason reason, Instant now);
  [[nodiscard]] Outcome redirect_to_https(Exchange& exchange, Instant now);
  [[nodiscard]] Outcome redirect(Exchange& exchange, Instant now);
  [[nodiscard]] Outcome send_to(Exchange& exchange, const control::Redirect& redirect,
                                const PathPattern* pattern, Instant now);
  [[nodiscard]] Outcome respond(Exchange& exchange, Instant now);
  [[nodiscard]] Outcome reply(Exchange& exchange, http::Status status, std::string_view location,
                              Instant now);
  void write_reply(Exchange& exchange, http::Status status, std::string_view location);
  static void write_alert(Exchange& exchange);
  void write_grpc_reply(Exchange& exchange, http::Status status);
  void set_deadlines(Exchange& exchange, Instant now);
  void drop_upstream(Exchange& exchange, Instant now);
  void record(Exchange& exchange, Instant now);
  void end(Exchange& exchange, Instant now);

  Random random_;
  TimerWheel& timers_;
  UpstreamPool upstreams_;
  Slab<Exchange> exchanges_{kExchangesMax};
  std::vector<ServiceCounters> services_;  // by index of the current snapshot
  AccessLog access_log_;
  ExchangeCounters counters_;
  http::ResponseHead reply_head_;
};

}  // namespace weir::proxy
