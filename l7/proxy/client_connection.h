#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "l4/base/clock.h"
#include "l4/base/timer_wheel.h"
#include "l7/http/h1.h"
#include "l7/http/h2_session.h"
#include "l7/proxy/channel.h"
#include "l7/proxy/exchange.h"
#include "l7/proxy/generation.h"
#include "l7/proxy/source_counts.h"

namespace weir::proxy {

/// One client's connection. Its states, with what holds in them:
///
/// proxy header (from those who must send one)
///       ▼
///   handshake ──► request ◄──────────────┐   handshake: TLS is being set up
///       │           │ head complete      │   request:   HTTP/1, no exchange is active
///       │           ▼                    │   exchange:  exchange->active()
///       │        exchange ──reusable─────┘   h2:        `session` speaks, by ALPN or a preface
///       ▼           │                        draining:  the last response is leaving
///      h2           │                        lingering: FIN sent; input is read and thrown away,
///       └───────so ▼                                   that no RST overtakes the response
///                draining ──► lingering ──► gone        (RFC 9112, section 9.6)
///
/// Where TLS is passed through, handshake reads whom the client asks for, and goes on to the one
/// exchange that the rest of the connection is.
struct ClientConnection {
  enum class State : std::uint8_t {
    kProxyHeader,
    kHandshake,
    kRequest,
    kExchange,
    kH2,
    kDraining,
    kLingering,
  };

  ClientConnection(tcp::Stack& stack, tcp::ConnectionId connection, BufferPool& pool,
                   http::HeadLimits limits)
      : channel{stack, connection, pool}, parser{limits} {}

  Channel channel;
  GenerationRef generation;  ///< the one it was accepted under; owns its TLS context
  ClientFacts facts;
  SourceCounts::Ticket ticket;  ///< once it is known whose it is
  State state = State::kRequest;
  std::uint32_t requests = 0;
  Instant ages_at = kNever;  ///< then the next response is its last
  bool retired = false;      ///< the response to the request that has begun is its last
  bool queued = false;       ///< stands in the list of those to go on with in the next turn
  Timer timer;               ///< of the states but `exchange`: an exchange has its own
  Instant told_at{};         ///< by GOAWAY that it should leave; the epoch: not yet
  Instant handshake_began{};
  Duration handshake_time{};  ///< until its first request is told of it
  Instant first_byte{};       ///< of the head that is being read; the epoch: none has come

  // HTTP/1
  http::RequestParser parser;
  Exchange* exchange = nullptr;  ///< for all its requests, one after another

  // HTTP/2
  std::unique_ptr<http::H2Session> session{};
  std::vector<ExchangeId> streams;  ///< exchanges that are active
  Instant idle_since{};             ///< without one
  bool touched = false;             ///< stands in the list of those to be run before the turn ends
};

inline http::HeadLimits head_limits(const control::GatewayLimits& limits) {
  // A head must fit one buffer beside what is read with it.
  constexpr std::uint32_t kHeaderBytesMax = kBufferBytes / 2;
  return {.header_bytes = std::min(limits.header_bytes, kHeaderBytesMax),
          .fields_max = limits.header_count};
}

}  // namespace weir::proxy
