#include <algorithm>

#include "l7/proxy/core.h"

/// Clients of HTTP/2: a session, and an exchange for each of its streams.
namespace weir::proxy {
namespace {

/// How long a client may take to answer the first GOAWAY.
constexpr Duration kNoticeTime = std::chrono::seconds{1};

/// Owner of a stream whose exchange is over, while its last bytes leave.
constexpr std::uint64_t kAnswered = ~std::uint64_t{0};
constexpr int kStepsAtOnce = 16;

Duration milliseconds(std::uint32_t count) { return std::chrono::milliseconds{count}; }

}  // namespace

void Core::start_h2(ClientConnection& client, Instant now) {
  exchanges_.destroy(*client.exchange);
  client.exchange = nullptr;
  client.state = ClientConnection::State::kH2;
  const control::GatewayLimits& limits = client.facts.bind->limits;
  client.session =
      std::make_unique<http::H2Session>(http::H2Options{.role = http::H2Role::kServer,
                                                        .secure = client.facts.tls != nullptr,
                                                        .limits = head_limits(limits),
                                                        .streams_max = limits.h2_streams},
                                        h2_, now);
  client.first_byte = {};
  client.idle_since = now;
  if (is_draining_) tell_to_leave(client, now);
  arm_h2(client, now);
}

/// GOAWAY in two steps (RFC 9113, section 6.8); the second without the client's answer to the first
/// where that does not come.
void Core::tell_to_leave(ClientConnection& client, Instant now) {
  if (client.told_at == Instant{}) {
    client.told_at = now;
    if (!client.session->draining()) client.session->drain();
  } else if (now - client.told_at >= kNoticeTime) {
    client.session->drain();
  }
}

bool Core::step_h2(ClientId id, ClientConnection& client, Instant now) {
  Channel& channel = client.channel;
  http::H2Session& session = *client.session;
  bool moved = channel.fill();
  if (channel.failed()) {
    abandon_streams(client, Reason::kClientReset, now);
    drain(client, now);  // the alert, if there is one
    return true;
  }
  // What is answered here must not outrun the client's reading of the answers.
  if (!channel.input().empty() && channel.output().room() >= kReplyRoom) {
    session.receive(channel.input(), now);
    channel.consume(channel.input().size());
    moved = true;
  }
  if (session.failure() && !client.streams.empty())
    abandon_streams(client, Reason::kBadRequest, now);
  moved = run_streams(id, client, now) || moved;
  while (channel.output().room() > http::H2Session::kPieceMax) {
    const auto piece = session.output(now);
    if (piece.empty()) break;
    channel.output().append(piece);
    moved = true;
  }
  moved = channel.flush() || moved;
  // Without the client's frames a stream has neither windows nor an end: FIN is the connection's
  // end for both sides, but for what has been answered already. A tunnel would wait for ever.
  const bool said_all = channel.input_ended() && channel.input().empty();
  if (said_all && !client.streams.empty()) {
    abandon_streams(client, Reason::kClientReset, now);
    moved = true;
  }
  // What is left then waits for windows, which nobody opens any more.
  const bool all_said = session.over() || (said_all && !session.wants_output());
  if (all_said && channel.output().empty()) {
    // With a client's GOAWAY before it, the last answer's end is the session's: it was given.
    run_streams(id, client, now);
    abandon_streams(client, Reason::kClientReset, now);
    drain(client, now);
    return true;
  }
  arm_h2(client, now);
  return moved;
}

bool Core::run_streams(ClientId id, ClientConnection& client, Instant now) {
  http::H2Session& session = *client.session;
  bool any = false;
  // Each stream stands in the list once, but running one can put it there again: the rest waits.
  for (std::size_t i = 2 * session.streams() + 1; i > 0; --i) {
    http::H2Stream* const stream = session.next_ready();
    if (stream == nullptr) return any;
    any = true;
    if (stream->owner == kAnswered) {
      if (stream->sent_all || stream->closed) session.release(*stream);
    } else if (stream->owner != 0) {
      Exchange* const exchange = exchanges_.get(ExchangeId::from_raw(stream->owner));
      WEIR_ASSERT(exchange != nullptr && exchange->active());  // or the owner were another
      step_stream(client, *exchange, now);
    } else if (stream->closed || session.failure()) {
      session.release(*stream);  // nothing was begun for it
    } else if (stream->head_complete && !stream->malformed) {
      start_stream(id, client, *stream, now);
    }
  }
  return any;
}

void Core::start_stream(ClientId id, ClientConnection& client, http::H2Stream& stream,
                        Instant now) {
  http::H2Session& session = *client.session;
  Exchange* const exchange = exchanges_.create(id);
  if (exchange == nullptr) {
    session.release(stream, http::H2Code::kRefusedStream);
    return;
  }
  ++client.requests;
  if (!may_go_on(client, now)) tell_to_leave(client, now);
  stream.owner = exchange->id.raw();
  client.streams.push_back(exchange->id);
  exchange->from_h2(session, stream);
  exchange->begin(GenerationRef{*current_}, client.facts, now, now);
  exchange->tls_duration = std::exchange(client.handshake_time, Duration{});
  exchange->keep_alive = true;
  const Exchanges::Outcome outcome = stream.refusal
                                         ? exchanges_.refuse_head(*exchange, *stream.refusal, now)
                                         : exchanges_.start(*exchange, now);
  if (outcome == Exchanges::Outcome::kMoved)
    step_stream(client, *exchange, now);
  else
    end_stream(client, *exchange, outcome, now);
}

void Core::step_stream(ClientConnection& client, Exchange& exchange, Instant now) {
  for (int i = 0; i < kStepsAtOnce; ++i) {
    const Exchanges::Outcome outcome = exchanges_.step(exchange, now);
    if (outcome == Exchanges::Outcome::kMoved) continue;
    end_stream(client, exchange, outcome, now);
    return;
  }
  client.session->remind(exchange.stream());
}

/// What an exchange's outcome means for its stream.
void Core::end_stream(ClientConnection& client, Exchange& exchange, Exchanges::Outcome outcome,
                      Instant now) {
  if (outcome == Exchanges::Outcome::kWaits || outcome == Exchanges::Outcome::kMoved) return;
  http::H2Stream& stream = exchange.stream();
  // An answer that has begun and cannot be ended is reset, and a tunnel says that it was its other
  // end (RFC 9113, section 8.5). One of ours may still have to leave.
  if (outcome == Exchanges::Outcome::kBroken)
    client.session->release(
        stream, exchange.is_connect() ? http::H2Code::kConnectError : http::H2Code::kInternalError);
  else if (stream.sent_all || stream.closed)
    client.session->release(stream);
  else
    stream.owner = kAnswered;
  std::erase(client.streams, exchange.id);
  exchanges_.destroy(exchange);
  if (client.streams.empty()) client.idle_since = now;
}

void Core::abandon_streams(ClientConnection& client, Reason reason, Instant now) {
  for (const ExchangeId id : client.streams) {
    Exchange* const exchange = exchanges_.get(id);
    WEIR_ASSERT(exchange != nullptr && exchange->active());  // or it would not be in the list
    exchanges_.abandon(*exchange, reason, now);
    client.session->release(exchange->stream());
    exchanges_.destroy(*exchange);
  }
  client.streams.clear();
  client.idle_since = now;
}

/// A connection is given time while it has streams: those have timers of their own.
void Core::arm_h2(ClientConnection& client, Instant now) {
  const control::GatewayLimits& limits = client.facts.bind->limits;
  if (client.session->within_head()) {
    if (client.first_byte == Instant{}) client.first_byte = now;
    arm(client, client.first_byte + milliseconds(limits.header_timeout_ms));
    return;
  }
  client.first_byte = {};
  const Instant leaves_at = client.told_at == Instant{} ? kNever : client.told_at + kNoticeTime;
  if (client.streams.empty())
    arm(client, std::min(client.idle_since + milliseconds(limits.idle_timeout_ms),
                         std::max(leaves_at, client.idle_since)));
  else
    TimerWheel::cancel(client.timer);
}

/// A request whose head never ended has had no exchange: it gets one for its line in the log.
void Core::record_late_head(ClientId id, ClientConnection& client, Instant now) {
  http::H2Stream* const stream = client.session->begun();
  Exchange* const exchange = stream != nullptr ? exchanges_.create(id) : nullptr;
  if (exchange == nullptr) return;
  exchange->from_h2(*client.session, *stream);
  exchange->begin(GenerationRef{*current_}, client.facts, client.first_byte, now);
  exchange->tls_duration = std::exchange(client.handshake_time, Duration{});
  exchanges_.abandon(*exchange, Reason::kHeaderTimeout, now);
  exchanges_.destroy(*exchange);
}

void Core::on_h2_timer(ClientId id, ClientConnection& client, Instant now) {
  const bool within_head = client.session->within_head();
  if (within_head) {
    record_late_head(id, client, now);
    abandon_streams(client, Reason::kHeaderTimeout, now);
  }
  client.session->terminate(within_head ? http::H2Code::kEnhanceYourCalm : http::H2Code::kNoError);
  run(id, now);
  // Whoever does not even read that is given no more time.
  ClientConnection* const still = clients_.get(id);
  if (still != nullptr && still->state == ClientConnection::State::kH2) drain(*still, now);
}

}  // namespace weir::proxy
