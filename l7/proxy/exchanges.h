#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "l4/base/random.h"
#include "l4/base/slab.h"
#include "l7/http/date.h"
#include "l7/proxy/exchange.h"
#include "l7/proxy/mirror.h"

namespace weir::proxy {

struct ExchangeCounters {
  std::uint64_t requests = 0;
  std::uint64_t requests_h2 = 0;     ///< of them, over HTTP/2
  std::uint64_t passed_through = 0;  ///< connections of TLS listeners, when they have ended
  std::uint64_t retries = 0;
  std::uint64_t ejections = 0;               ///< of endpoints, by what requests have met
  std::uint64_t delays = 0;                  ///< by faults of rules; aborts are a reason
  std::uint64_t header_values_left_out = 0;  ///< fields for whose variables there was no room
  std::uint64_t log_left_out = 0;            ///< requests that no sample has taken
  MirrorCounters mirrors;
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

  /// Whose exchanges can go on is appended to `changed`, whatever is called.
  Exchanges(tcp::Stack& stack, BufferPool& buffers, TimerWheel& timers, http::H2Shared& h2,
            ChangedExchanges& changed, Random random);

  /// Counts of services that are still there go on.
  void install(Generation& generation);

  /// What is to be added to an instant for the time since 1970.
  void set_wall_clock(Duration to_unix) { to_unix_ = to_unix; }

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
  /// An exchange of ours, that has no client: the owner of clients only hears of it.
  void run_mirror(Exchange& exchange, Instant now);
  /// It has ended by itself.
  void end_mirror(Exchange& exchange);
  /// Ends those that are under way; nobody misses them.
  void drop_mirrors(Instant now);
  /// The client is gone, or its connection.
  void abandon(Exchange& exchange, Reason reason, Instant now);

  /// What an endpoint's connection has to say.
  void on_upstream(const tcp::Readiness& ready, Instant now);
  void on_upstream_timer(UpstreamId id, Instant now);

  [[nodiscard]] UpstreamPool& upstreams() { return upstreams_; }
  [[nodiscard]] const UpstreamPool& upstreams() const { return upstreams_; }
  [[nodiscard]] AccessLog& access_log() { return access_log_; }
  [[nodiscard]] const AccessLog& access_log() const { return access_log_; }
  [[nodiscard]] const ExchangeCounters& counters() const { return counters_; }
  [[nodiscard]] const std::vector<RequestCounters>& services() const { return services_; }
  [[nodiscard]] const std::vector<RequestCounters>& routes() const { return routes_; }
  [[nodiscard]] std::uint32_t size() const { return exchanges_.size(); }

 private:
  static constexpr std::uint32_t kExchangesMax = 131'072;

  [[nodiscard]] std::optional<Outcome> find_route(Exchange& exchange, Instant now);
  [[nodiscard]] std::optional<Outcome> check_connect(Exchange& exchange, Instant now);
  [[nodiscard]] bool is_ready(Exchange& exchange, UpstreamConnection& upstream);
  [[nodiscard]] Outcome step_tunnel(Exchange& exchange, UpstreamConnection& upstream, Instant now);
  [[nodiscard]] Outcome finish(Exchange& exchange, Instant now);
  [[nodiscard]] Outcome fail(Exchange& exchange, Reason reason, Instant now);
  void set_deadlines(Exchange& exchange, Instant now);
  /// When an exchange that stands still is given up, or its attempt.
  [[nodiscard]] static Instant deadline_of(const Exchange& exchange);
  void watch_client(Exchange& exchange, Instant now);
  void watch_listener(Exchange& exchange, Instant now);
  void watch_body(Exchange& exchange, Instant now);
  [[nodiscard]] Outcome forward(Exchange& exchange, Instant now);
  [[nodiscard]] static bool must_make_room(const Exchange& exchange);
  void end(Exchange& exchange, Instant now);

  // recording.cpp
  void record(Exchange& exchange, Instant now);
  void count_traffic(const Exchange& exchange, Duration duration);
  [[nodiscard]] bool is_logged(const Exchange& exchange, Duration duration);
  void write_log(Exchange& exchange, Instant now);
  void name_request(Exchange& exchange);

  // faults.cpp
  [[nodiscard]] bool chance(std::uint32_t share);
  [[nodiscard]] std::optional<Outcome> inject_fault(Exchange& exchange, Instant now);
  [[nodiscard]] Outcome abort_by_fault(Exchange& exchange, Instant now);
  [[nodiscard]] Outcome end_delay(Exchange& exchange, Instant now);

  // mirroring.cpp
  void take_mirror(Exchange& exchange);
  void send_mirror(Exchange& exchange, Instant now);
  void give_up_mirror(Exchange& exchange, std::uint64_t& counter);
  void watch_mirror(Exchange& exchange, Instant now);
  void record_mirror(const Exchange& exchange);

  // replies.cpp
  [[nodiscard]] Outcome refuse(Exchange& exchange, http::Status status, Reason reason, Instant now);
  [[nodiscard]] Outcome refuse(Exchange& exchange, const http::Refusal& refusal, Instant now);
  [[nodiscard]] Outcome refuse(Exchange& exchange, Reason reason, Instant now);
  [[nodiscard]] Outcome redirect_to_https(Exchange& exchange, Instant now);
  [[nodiscard]] Outcome redirect(Exchange& exchange, Instant now);
  [[nodiscard]] Outcome send_to(Exchange& exchange, const control::Redirect& redirect,
                                const PathPattern* pattern, Instant now);
  [[nodiscard]] Outcome respond(Exchange& exchange, Instant now);
  [[nodiscard]] Outcome reply(Exchange& exchange, http::Status status, std::string_view location,
                              Instant now);
  [[nodiscard]] bool write_reply(Exchange& exchange, http::Status status, std::string_view location,
                                 Instant now);
  static void write_alert(Exchange& exchange);
  void write_grpc_reply(Exchange& exchange, http::Status status, Instant now);
  [[nodiscard]] std::string_view date(Instant now);

  // attempts.cpp
  /// By weight or by the client's session; an outcome where none can take the exchange.
  [[nodiscard]] std::optional<Outcome> choose_service(Exchange& exchange, Instant now);
  void leave_service(Exchange& exchange);
  static void end_retry(Exchange& exchange);
  void take_endpoint(Exchange& exchange, EndpointIndex index);
  void release_endpoint(Exchange& exchange);
  void drop_upstream(Exchange& exchange, Instant now);
  [[nodiscard]] Outcome start_attempt(Exchange& exchange, Instant now);
  [[nodiscard]] Outcome begin_attempt(Exchange& exchange, EndpointIndex index, Instant now);
  enum class Found : std::uint8_t { kYes, kFull, kNo };
  [[nodiscard]] Found find_connection(Exchange& exchange, EndpointIndex index, Instant now);
  [[nodiscard]] Result<UpstreamId> open_connection(Exchange& exchange,
                                                   const EndpointEntry& endpoint, Instant now);
  void count_answer(Exchange& exchange, Instant now);
  void count_failed_attempt(Exchange& exchange, Reason reason, Instant now);
  [[nodiscard]] bool may_try_again(const Exchange& exchange) const;
  [[nodiscard]] Outcome attempt_failed(Exchange& exchange, Reason reason, Instant now);
  [[nodiscard]] Outcome attempt_unwanted(Exchange& exchange, Instant now);
  [[nodiscard]] Outcome try_again(Exchange& exchange, bool untouched, Instant now);
  [[nodiscard]] Outcome enqueue(Exchange& exchange, Instant now);
  void arm_pause(Exchange& exchange, Instant now);
  void leave_queue(Exchange& exchange);
  void wake_one(const ServiceState& state);
  [[nodiscard]] Outcome step_pause(Exchange& exchange, Instant now);
  [[nodiscard]] Outcome resume(Exchange& exchange, Instant now);
  [[nodiscard]] Outcome on_pause_timer(Exchange& exchange, Instant now);

  Random random_;
  TimerWheel& timers_;
  ChangedExchanges& changed_;
  UpstreamPool upstreams_;
  MirrorPool mirrors_;  // before exchanges, which refer to it
  Slab<Exchange> exchanges_{kExchangesMax};
  const Snapshot* current_ = nullptr;
  std::vector<RequestCounters> services_;  // by index of the current snapshot
  std::vector<RequestCounters> routes_;    // likewise, by index of the rule
  /// Who waits for an endpoint with room, first come first; of each service that has any.
  std::unordered_map<const ServiceState*, std::deque<ExchangeId>> queues_;
  AccessLog access_log_;
  ExchangeCounters counters_;
  http::ResponseHead reply_head_;
  std::optional<Duration> to_unix_;  // nobody has said yet what time it is
  http::DateText date_;
  std::string scratch_;
  std::vector<std::byte> announcement_;  // of the connection that is being opened
};

}  // namespace weir::proxy
