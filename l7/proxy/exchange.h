#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "l4/base/clock.h"
#include "l7/http/h1.h"
#include "l7/proxy/access_log.h"
#include "l7/proxy/channel.h"
#include "l7/proxy/generation.h"
#include "l7/proxy/upstream_pool.h"

namespace weir::proxy {

/// What a pump has done.
struct PumpResult {
  bool moved = false;            ///< bytes or state went forward: call again
  Reason failure = Reason::kOk;  ///< anything else ends the exchange
};

/// One request and its response. It moves bytes between two channels and knows their framing; who
/// is connected, and for how long, is its owner's business. Reused for the next request of the same
/// client connection.
///
///   request:   head to be written ──► body streaming ──► complete
///   response:  head awaited (interim heads pass) ──► body streaming ──► complete
///                   └── 101 that was asked for ──► tunnel: bytes both ways, until both have ended
///
/// Both run at once; each stops where its destination is full.
class Exchange {
 public:
  /// After a complete head; `generation` is the configuration that answers it.
  void begin(GenerationRef generation, Instant first_byte, Instant now);
  void end();
  [[nodiscard]] bool active() const { return active_; }

  /// Writes the head that goes to a backend into memory, so that another endpoint can be tried.
  /// Edits the parsed head for good.
  void prepare_request(http::RequestParser& parser, const http::RequestUri& uri,
                       std::string_view client_address, bool tls,
                       const std::optional<tls::ClientIdentity>& identity);

  /// The head goes out again, to another endpoint. Only while replayable().
  void restart_request();
  /// Nothing of the body has been taken from the client and nothing of an answer has come, so that
  /// the same request can be made elsewhere.
  [[nodiscard]] bool replayable() const { return !body_taken_ && !answered_; }

  [[nodiscard]] PumpResult pump_request(Channel& client, UpstreamConnection& upstream);
  [[nodiscard]] PumpResult pump_response(UpstreamConnection& upstream, Channel& client,
                                         bool keep_alive, Instant now);

  /// Instead of messages: what the client sends is passed on from its first byte.
  void begin_passthrough();
  /// After 101 or begin_passthrough(): moves bytes, and the end of each direction, between the two
  /// connections. True if anything moved. Complete once both directions have ended.
  [[nodiscard]] bool pump_tunnel(Channel& client, Channel& backend);
  [[nodiscard]] bool tunnel() const { return tunnel_; }

  [[nodiscard]] bool request_complete() const { return request_complete_; }
  [[nodiscard]] bool response_started() const { return response_started_; }
  [[nodiscard]] bool response_complete() const { return response_complete_; }
  /// After the response, as far as the two messages go, both connections can carry another
  /// exchange.
  [[nodiscard]] bool upstream_reusable() const { return upstream_reusable_; }
  [[nodiscard]] bool client_reusable() const { return client_reusable_; }

  GenerationRef generation;
  const ListenerEntry* listener = nullptr;
  const Rule* rule = nullptr;
  const ServiceEntry* service = nullptr;
  ServiceIndex service_index = 0;
  UpstreamId upstream;
  wire::Endpoint endpoint;
  std::uint32_t attempts = 0;
  std::uint64_t body_bytes_max = 0;  ///< 0: no limit
  int status = 0;
  Reason reason = Reason::kOk;
  std::string_view detail;     ///< lives as long as the process; empty where the reason says it all
  Instant first_byte{};        ///< of the request
  Instant request_deadline{};  ///< kNever without one
  Instant attempt_deadline{};  ///< kNever without one
  Instant last_progress{};
  Instant attempt_started{};
  Duration upstream_duration{};
  std::uint64_t request_bytes = 0;
  std::uint64_t response_bytes = 0;

 private:
  PumpResult forward_response_head(UpstreamConnection& upstream, Channel& client, bool keep_alive,
                                   Instant now);
  void set_hop_by_hop(http::HeaderList& fields) const;
  PumpResult begin_tunnel(UpstreamConnection& upstream, Channel& client, Instant now);
  void write_final_head(UpstreamConnection& upstream, Channel& client, bool keep_alive);

  bool active_ = false;
  bool head_request_ = false;  // HEAD
  int client_minor_version_ = 1;
  bool send_continue_ = false;  // the client waits for 100 before its body
  bool head_sent_ = false;
  bool body_taken_ = false;  // framing counts too: a new decoder would not find it again
  bool answered_ = false;    // a head, interim or final, has come
  bool request_complete_ = false;
  bool response_started_ = false;  // a final head has been put into the client's output
  bool response_complete_ = false;
  bool upstream_reusable_ = false;
  bool client_reusable_ = false;
  bool upgrade_ = false;         // the client has asked for a WebSocket
  bool tunnel_ = false;          // and the backend has agreed
  bool wants_trailers_ = false;  // the client has said so with TE
  std::uint32_t interim_heads_ = 0;
  std::string request_trailers_;   // announced, and forwarded
  std::string response_trailers_;  // likewise
  std::string method_;
  std::vector<std::byte> request_head_;
  std::vector<std::byte> scratch_;
  http::BodyFraming request_framing_;
  http::BodyFraming response_framing_;  // towards the client
  http::BodyDecoder request_body_;
  http::BodyDecoder response_body_;
};

/// Whether a method may be made twice without harm (RFC 9110, section 9.2.2).
bool is_idempotent(std::string_view method);

}  // namespace weir::proxy
