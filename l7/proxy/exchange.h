#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "l4/base/clock.h"
#include "l4/base/timer_wheel.h"
#include "l7/http/h1.h"
#include "l7/proxy/access_log.h"
#include "l7/proxy/generation.h"
#include "l7/proxy/leg.h"
#include "l7/proxy/minimum_rate.h"
#include "l7/proxy/trace_context.h"
#include "l7/proxy/upstream_pool.h"

namespace weir::proxy {

struct ClientConnection;
struct MirrorRequest;
using ClientId = Handle<ClientConnection>;

/// Who asks, over which connection. Lives longer than the connection's exchanges.
struct ClientFacts {
  const Bind* bind = nullptr;
  wire::Endpoint vip;
  wire::Endpoint client;                ///< who has connected, or whom a PROXY header has named
  std::optional<wire::Endpoint> proxy;  ///< who has connected, when it has named the client
  wire::Endpoint destination;           ///< where the client has connected to: a VIP, ours or not
  std::string client_text;              ///< its address, for X-Forwarded-For
  const tls::Session* tls = nullptr;    ///< none in the clear
  std::string server_name;              ///< whom TLS that is passed through asks for, in lower case
};

/// What a pump has done.
struct PumpResult {
  bool moved = false;            ///< bytes or state went forward: call again
  Reason failure = Reason::kOk;  ///< anything else ends the exchange
  bool unwanted = false;         ///< an answer has come that `rejects` covers; it is not passed on
};

/// Why an exchange is at no endpoint.
enum class Pause : std::uint8_t {
  kNone,     ///< it is at one
  kBackoff,  ///< before it tries again
  kQueue,    ///< until one has room
  kFault,    ///< its rule delays it; it has chosen no service yet
};

/// Endpoints that an exchange has been at, the first of them. No memory of its own.
class TriedEndpoints {
 public:
  void add(EndpointIndex index) {
    if (size_ < indexes_.size()) indexes_[size_++] = index;
  }
  void clear() { size_ = 0; }
  [[nodiscard]] std::span<const EndpointIndex> all() const {
    return std::span{indexes_}.first(size_);
  }
  [[nodiscard]] bool contains(EndpointIndex index) const {
    return std::ranges::find(all(), index) != all().end();
  }

 private:
  std::array<EndpointIndex, 16> indexes_{};
  std::size_t size_ = 0;
};

/// One request and its response. It moves bytes between two legs and knows neither their versions
/// of HTTP nor their connections; who is connected, and for how long, is its owner's business. A
/// connection of HTTP/1 keeps one for all its requests, a stream of HTTP/2 has one of its own.
///
///   request:   head to be written ──► body streaming ──► complete
///   response:  head awaited (interim heads pass) ──► body streaming ──► complete
///                   └── a WebSocket that was asked for ──► tunnel, until both have ended
///
/// CONNECT, and TLS that is passed through, are tunnels once the endpoint's connection stands: it
/// is sent no message.
///
/// Both run at once; each stops where its destination is full.
class Exchange {
 public:
  explicit Exchange(ClientId from) : client_id{from} {}

  // Before a request: over what it has come, and what its head says.
  void from_h1(Channel& channel, http::RequestHead& head, const http::RequestFraming& framing);
  void from_h2(http::H2Session& session, http::H2Stream& stream);
  /// `generation` is the configuration that answers it.
  void begin(GenerationRef generation, const ClientFacts& facts, Instant first_byte, Instant now);
  /// What nobody waits for: instead of the above, with a head that is ready to go to an endpoint.
  void begin_mirror(Leg& source, http::RequestHead& head, const http::RequestFraming& framing,
                    const ClientFacts& facts, const Exchange& original, Instant now);
  [[nodiscard]] bool is_mirror() const { return is_mirror_; }
  void end();
  [[nodiscard]] bool active() const { return active_; }

  /// Turns the head into what goes to an endpoint, for good. `random` is for what a WebSocket's
  /// client would have made up, had it come over HTTP/1.
  /// `scratch` only keeps its capacity.
  void prepare_request(const std::optional<tls::ClientIdentity>& identity, Random& random,
                       std::string& scratch);

  /// Over what it goes on; the head is written anew, to another endpoint, while replayable().
  void to_h1(Channel& channel, http::ResponseParser& parser);
  void to_h2(http::H2Session& session);
  /// Nothing of the body has been taken from the client and nothing of an answer has come, so that
  /// the same request can be made elsewhere.
  [[nodiscard]] bool replayable() const { return !body_taken_ && !answered_; }

  [[nodiscard]] PumpResult pump_request();
  /// `date` is given to an answer without one; empty: to none.
  [[nodiscard]] PumpResult pump_response(Instant now, std::string_view date);
  [[nodiscard]] bool passes_through() const { return facts->bind->passthrough; }
  void begin_passthrough(Instant now);
  /// A tunnel is asked for: its endpoint is told nothing.
  [[nodiscard]] bool is_connect() const { return !passes_through() && head_->method == "CONNECT"; }
  /// Moves bytes, and the end of each direction. Complete once both directions have ended.
  [[nodiscard]] PumpResult pump_tunnel();
  [[nodiscard]] bool tunnel() const { return tunnel_; }
  [[nodiscard]] bool tunnel_over() const {
    return tunnel_ && request_complete_ && response_complete_;
  }

  [[nodiscard]] Leg& client() { return *client_; }
  [[nodiscard]] const Leg& client() const { return *client_; }
  [[nodiscard]] Leg& endpoint_leg() { return *upstream_; }
  [[nodiscard]] bool is_h2() const { return client_ == &client_h2_; }
  /// Of a client of HTTP/2.
  [[nodiscard]] http::H2Stream& stream() const { return client_h2_.stream(); }
  [[nodiscard]] bool is_to_h2() const { return upstream_ == &upstream_h2_; }
  [[nodiscard]] bool has_leg() const { return upstream_ != nullptr; }
  void forget_leg() {
    upstream_ = nullptr;
    if (replayable()) head_sent_ = request_complete_ = false;
  }
  /// The endpoint's stream is let go of.
  void release_stream();
  /// The endpoint has refused it before it did anything about it.
  [[nodiscard]] bool stream_was_refused() const;

  [[nodiscard]] http::RequestHead& head() { return *head_; }
  [[nodiscard]] const http::RequestHead& head() const { return *head_; }
  [[nodiscard]] const http::RequestFraming& framing() const { return *framing_; }
  [[nodiscard]] std::string_view protocol() const;

  [[nodiscard]] bool is_head_request() const { return head_->method == "HEAD"; }
  [[nodiscard]] bool is_grpc() const { return grpc_; }
  /// It may be silent for long without anything being wrong.
  [[nodiscard]] bool is_quiet() const { return grpc_ || tunnel_ || event_stream_; }
  [[nodiscard]] bool head_sent() const { return head_sent_; }
  /// It is the client that the request waits for: all that has come of its body has gone on.
  [[nodiscard]] bool waits_for_body() const {
    return head_sent_ && !send_continue_ && !request_complete_ && client_->input_empty();
  }
  [[nodiscard]] bool request_complete() const { return request_complete_; }
  [[nodiscard]] bool response_started() const { return response_started_; }
  /// How much more is worth reading from the endpoint's own connection. What a stream cannot take
  /// stays in TCP, so that a client with a hundred streams that it does not read holds no buffer
  /// for each.
  [[nodiscard]] std::size_t wanted() {
    return is_h2() && response_started_ ? client_->room() : kBufferBytes;
  }
  [[nodiscard]] bool response_complete() const { return response_complete_; }
  /// After the response, as far as the two messages go, both connections can carry another
  /// exchange.
  [[nodiscard]] bool upstream_reusable() const { return upstream_reusable_; }
  [[nodiscard]] bool client_reusable() const { return client_reusable_; }
  void set_client_reusable(bool reusable) { client_reusable_ = reusable; }

  const ClientId client_id;
  ExchangeId id;  ///< its own
  const ClientFacts* facts = nullptr;
  http::RequestUri uri;
  Timer timer;
  /// The client's connection, as far as its owner knows, can go on behind this exchange.
  bool keep_alive = false;
  GenerationRef generation;
  const ListenerEntry* listener = nullptr;
  std::optional<wire::IpAddress> forwarded_for;  ///< whom trusted proxies have named, if they have
  const Rule* rule = nullptr;
  std::size_t prefix_size = 0;                ///< of the path, that the rule's prefix has matched
  std::optional<std::uint32_t> max_forwards;  ///< to be written for the endpoint
  const ServiceEntry* service = nullptr;
  ServiceIndex service_index = 0;
  UpstreamId upstream;
  wire::Endpoint endpoint;
  EndpointIndex endpoint_index = 0;
  bool holds_endpoint = false;          ///< and is counted among its exchanges
  std::optional<EndpointIndex> sticky;  ///< where the client's session is
  std::optional<std::uint64_t> hash;    ///< where its service hashes
  TriedEndpoints tried;
  std::uint32_t attempts = 0;
  std::uint32_t retries = 0;      ///< of them, by the route's policy
  std::uint32_t stale_tries = 0;  ///< and those after a connection that was just closed
  bool retrying = false;          ///< and is counted among the service's retries
  Pause pause = Pause::kNone;
  Instant resume_at{};  ///< with kBackoff; with kQueue it gives up then
  /// Answers that another endpoint is asked for instead; none while no retry is left.
  const control::RetryPolicy* rejects = nullptr;
  bool gives_session = false;        ///< the answer tells the client where it belongs
  std::uint64_t body_bytes_max = 0;  ///< 0: no limit
  MinimumRate body_rate;             ///< of the request's body
  bool body_is_due = false;          ///< and the client is who it waits for
  bool only_listens = false;         ///< the client has ended its side, of what may be silent
  int status = 0;
  Reason reason = Reason::kOk;
  std::string_view detail;     ///< lives as long as the process; empty where the reason says it all
  Instant first_byte{};        ///< of the request
  Instant request_deadline{};  ///< kNever without one
  Instant attempt_deadline{};  ///< kNever without one
  Instant connect_deadline{};
  Instant last_progress{};
  Instant attempt_started{};
  Duration upstream_duration{};
  Duration tls_duration{};      ///< of the client's handshake, with its first request
  Duration wait_duration{};     ///< in queues and between attempts
  Duration connect_duration{};  ///< of the last attempt; 0 where there was a connection
  Instant paused_at{};          ///< the epoch: it waits for nothing
  std::optional<TraceContext> trace;
  std::optional<std::array<std::uint64_t, 2>> request_id;  ///< where somebody is told
  std::uint32_t values_left_out = 0;  ///< header fields for whose values there was no room
  bool is_aborted = false;            ///< behind its delay; by its rule's fault
  MirrorRequest* mirror = nullptr;    ///< waits for this one's body
  std::uint64_t request_bytes = 0;
  std::uint64_t response_bytes = 0;

 private:
  void restart_request();
  void rewrite_target(http::RequestHead& head) const;
  PumpResult forward_response_head(Instant now, std::string_view date);
  void set_hop_by_hop(http::HeaderList& fields, Random& random) const;
  PumpResult begin_tunnel(Instant now);
  PumpResult begin_connect(Instant now);
  bool has_spoken_early();
  void enter_tunnel(http::Status told);
  void write_final_head(std::string_view date);

  Leg* client_ = nullptr;
  Leg* upstream_ = nullptr;
  H1Leg client_h1_;
  H1Leg upstream_h1_;
  H2Leg client_h2_;
  H2Leg upstream_h2_;
  http::RequestHead* head_ = nullptr;
  const http::RequestFraming* framing_ = nullptr;

  bool active_ = false;
  bool is_mirror_ = false;
  bool grpc_ = false;
  bool send_continue_ = false;  // the client waits for 100 before its body
  bool head_sent_ = false;
  bool body_taken_ = false;  // framing counts too: a new decoder would not find it again
  bool answered_ = false;    // a head, interim or final, has come
  bool request_complete_ = false;
  bool response_started_ = false;  // a final head has been given to the client's leg
  bool response_complete_ = false;
  bool upstream_reusable_ = false;
  bool client_reusable_ = false;
  bool upgrade_ = false;         // the client has asked for a WebSocket
  bool tunnel_ = false;          // and the backend has agreed; or TLS is passed through
  bool event_stream_ = false;    // is being answered with
  bool wants_trailers_ = false;  // the client has said so with TE
  std::uint32_t interim_heads_ = 0;
  int client_minor_version_ = 1;
  std::string request_trailers_;   // announced, and forwarded
  std::string response_trailers_;  // likewise
  std::string method_;
  http::BodyFraming request_framing_;
  http::BodyFraming response_framing_;  // towards the client
};

/// Whether a method may be made twice without harm (RFC 9110, section 9.2.2).
bool is_idempotent(std::string_view method);

}  // namespace weir::proxy
