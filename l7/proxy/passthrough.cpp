/// TLS that is passed on as it comes: the name in the ClientHello chooses the route, and from there
/// on two TCP connections are one stream in both directions. Weir holds no key and speaks no TLS
/// but the alert that says why it goes no further.

#include <algorithm>
#include <array>

#include "l7/proxy/core.h"
#include "l7/tls/client_hello.h"

namespace weir::proxy {
namespace {

/// RFC 8446, section 6.
enum class Alert : std::uint8_t { kInternalError = 80, kUnrecognizedName = 112 };

std::array<std::byte, 7> alert_record(Alert alert) {
  constexpr std::byte kAlertRecord{21};
  constexpr std::byte kFatal{2};
  return {kAlertRecord,
          std::byte{3},
          std::byte{3},
          std::byte{0},
          std::byte{2},
          kFatal,
          std::byte(static_cast<std::uint8_t>(alert))};
}

const Bind* find_passthrough(const Snapshot& snapshot, const wire::Endpoint& endpoint) {
  const auto bind = std::find_if(
      snapshot.binds.begin(), snapshot.binds.end(),
      [&](const Bind& other) { return other.endpoint == endpoint && other.passthrough; });
  return bind == snapshot.binds.end() ? nullptr : &*bind;
}

}  // namespace

bool Core::step_hello(ClientId id, ClientConnection& client, Instant now) {
  const bool moved = client.channel.fill();
  std::array<std::byte, tls::kHelloBytesMax> scratch;
  const tls::HelloResult hello = tls::read_client_hello(client.channel.input(), scratch);
  switch (hello.outcome) {
    case tls::HelloResult::Outcome::kIncomplete:
      if (!client.channel.input_ended()) return moved;
      [[fallthrough]];
    case tls::HelloResult::Outcome::kMalformed:
      ++counters_.tls_failures;
      drain(client, now);
      return true;
    case tls::HelloResult::Outcome::kComplete:
      begin_passthrough(id, client, hello.server_name, now);
      return true;
  }
  return false;
}

void Core::begin_passthrough(ClientId id, ClientConnection& client, std::string_view server_name,
                             Instant now) {
  TimerWheel::cancel(client.timer);
  client.state = ClientConnection::State::kExchange;
  std::string& name = client.facts.server_name;
  name = server_name;
  // Names are ASCII: the parser has let nothing else through.
  std::transform(name.begin(), name.end(), name.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  Exchange& exchange = *client.exchange;
  exchange.from_h1(client.channel, client.parser.head(), client.parser.framing());
  exchange.begin(GenerationRef{*current_}, client.facts, now, now);
  end_exchange(id, client, exchanges_.start_passthrough(exchange, now), now);
}

Exchanges::Outcome Exchanges::start_passthrough(Exchange& exchange, Instant now) {
  const Snapshot& snapshot = exchange.generation->snapshot();
  const std::string& name = exchange.facts->server_name;
  if (const Bind* bind = find_passthrough(snapshot, exchange.facts->vip))
    exchange.listener = snapshot.listener_for(*bind, name);
  const http::HeaderList none;
  const auto choice = exchange.listener != nullptr
                          ? exchange.listener->router.match({"", name, "/", "", none})
                          : std::nullopt;
  if (!choice) return refuse(exchange, http::Status::kNotFound, Reason::kNoRoute, now);
  exchange.rule = &snapshot.rules[choice->rule];
  if (const auto ended = choose_service(exchange, now)) return *ended;
  return start_attempt(exchange, now);
}

/// Before a byte of the endpoint has reached the client, which may still understand why.
void Exchanges::write_alert(Exchange& exchange) {
  if (exchange.response_complete()) return;  // our FIN has left
  const bool unknown = exchange.reason == Reason::kNoRoute;
  const auto alert = alert_record(unknown ? Alert::kUnrecognizedName : Alert::kInternalError);
  if (exchange.client().room() >= alert.size()) exchange.client().write(alert);
}

}  // namespace weir::proxy
