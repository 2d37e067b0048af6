#include "l4/base/bytes.h"
#include "l7/proxy/core.h"

/// Clients of HTTP/1: one request after another.
namespace weir::proxy {
namespace {

Duration milliseconds(std::uint32_t count) { return std::chrono::milliseconds{count}; }

/// Whether the bytes begin like the preface of HTTP/2 (RFC 9113, section 3.4), whole or not.
bool may_be_preface(std::span<const std::byte> input) {
  const std::string_view text = as_text(input);
  return http::kH2Preface.starts_with(text.substr(0, http::kH2Preface.size()));
}

}  // namespace

void Core::await_request(ClientConnection& client, Instant now) {
  client.state = ClientConnection::State::kRequest;
  client.first_byte = {};
  // In a process that ends, a request that is on its way already is still answered.
  constexpr Duration kLastRequest = std::chrono::seconds{1};
  const Duration idle = milliseconds(client.facts.bind->limits.idle_timeout_ms);
  arm(client, now + (is_draining_ ? std::min(kLastRequest, idle) : idle));
}

bool Core::step_request(ClientId id, ClientConnection& client, Instant now) {
  Channel& channel = client.channel;
  bool moved = channel.fill();
  moved = channel.flush() || moved;
  if (channel.failed()) {
    drain(client, now);
    return true;
  }
  if (channel.input().empty()) {
    if (!channel.input_ended()) return moved;
    drain(client, now);
    return true;
  }
  if (client.first_byte == Instant{}) {
    client.first_byte = now;
    arm(client, now + milliseconds(client.facts.bind->limits.header_timeout_ms));
  }
  // Requests that are answered here must not outrun the client's reading of the answers.
  if (channel.output().room() < kReplyRoom) return moved;
  // By prior knowledge, in the clear; over TLS, ALPN would have said so (RFC 9113, section 3.3).
  if (client.requests == 0 && client.facts.tls == nullptr && may_be_preface(channel.input())) {
    if (channel.input().size() >= http::kH2Preface.size()) {
      start_h2(client, now);
      return true;
    }
    if (!channel.input_ended()) return moved;
  }
  const http::ParseResult parsed = client.parser.parse(channel.input());
  if (parsed.outcome == http::ParseResult::Outcome::kIncomplete) {
    if (!channel.input_ended()) return moved;
    drain(client, now);
    return true;
  }
  Exchange& exchange = begin_exchange(client, now);
  if (parsed.outcome == http::ParseResult::Outcome::kError) {
    exchange.keep_alive = false;
    end_exchange(id, client, exchanges_.refuse_head(exchange, parsed.refusal, now), now);
    return true;
  }
  channel.consume(parsed.consumed);
  end_exchange(id, client, exchanges_.start(exchange, now), now);
  return true;
}

Exchange& Core::begin_exchange(ClientConnection& client, Instant now) {
  ++client.requests;
  TimerWheel::cancel(client.timer);
  client.state = ClientConnection::State::kExchange;
  Exchange& exchange = *client.exchange;
  exchange.from_h1(client.channel, client.parser.head(), client.parser.framing());
  exchange.begin(GenerationRef{*current_}, client.facts, client.first_byte, now);
  exchange.tls_duration = std::exchange(client.handshake_time, Duration{});
  exchange.keep_alive = client.parser.framing().keep_alive && may_go_on(client, now);
  return exchange;
}

void Core::refuse_late_head(ClientId id, ClientConnection& client, Instant now) {
  Exchange& exchange = begin_exchange(client, now);
  exchange.keep_alive = false;
  end_exchange(id, client, exchanges_.refuse_late_head(exchange, now), now);
}

bool Core::step_exchange(ClientId id, ClientConnection& client, Instant now) {
  // A client that sends several requests and then its FIN waits for as many answers.
  const bool said_all = client.channel.input_ended() && client.channel.input().empty();
  Exchange& exchange = *client.exchange;
  if (said_all) exchange.keep_alive = false;
  // The head of the answer says whether the connection goes on; behind it, it is too late.
  if (!exchange.response_started() && exchange.keep_alive)
    exchange.keep_alive = may_go_on(client, now);
  const Exchanges::Outcome outcome = exchanges_.step(exchange, now);
  end_exchange(id, client, outcome, now);
  return outcome == Exchanges::Outcome::kMoved || outcome == Exchanges::Outcome::kDone;
}

/// What an exchange's outcome means for its connection.
void Core::end_exchange(ClientId id, ClientConnection& client, Exchanges::Outcome outcome,
                        Instant now) {
  switch (outcome) {
    case Exchanges::Outcome::kWaits:
    case Exchanges::Outcome::kMoved:
      return;
    case Exchanges::Outcome::kBroken:
      close_client(id, Ending::kReset, now);
      return;
    case Exchanges::Outcome::kDone:
      break;
  }
  if (client.exchange->tunnel_over()) {
    close_client(id, Ending::kInOrder, now);
    return;
  }
  if (!client.exchange->client_reusable()) {
    drain(client, now);
    return;
  }
  client.parser.reset();
  await_request(client, now);
}

}  // namespace weir::proxy
