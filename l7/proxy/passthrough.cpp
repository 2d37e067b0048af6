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
  scratch_.resize(tls::kHelloBytesMax);
  const tls::HelloResult hello = tls::read_client_hello(
      client.channel.input(), std::span{scratch_}.first<tls::kHelloBytesMax>());
  switch (hello.outcome) {
    case tls::HelloResult::Outcome::kIncomplete:
      if (!client.channel.input_ended()) return moved;
      [[fallthrough]];
    case tls::HelloResult::Outcome::kMalformed:
      ++counters_.tls_failures;
      drain(client, now);
      return true;
    case tls::HelloResult::Outcome::kComplete:
      client.server_name = hello.server_name;
      // Names are ASCII: the parser has let nothing else through.
      std::transform(
          client.server_name.begin(), client.server_name.end(), client.server_name.begin(),
          [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
      begin_passthrough(id, client, now);
      return true;
  }
  return false;
}

void Core::begin_passthrough(ClientId id, ClientConnection& client, Instant now) {
  Exchange& exchange = client.exchange;
  exchange.begin(GenerationRef{*current_}, now, now);
  exchange.begin_passthrough();
  client.state = ClientConnection::State::kExchange;
  const Snapshot& snapshot = exchange.generation->snapshot();
  if (const Bind* bind = find_passthrough(snapshot, client.vip))
    exchange.listener = snapshot.listener_for(*bind, client.server_name);
  const http::HeaderList none;
  const auto rule = exchange.listener != nullptr
                        ? exchange.listener->router.match({"", client.server_name, "/", none})
                        : std::nullopt;
  if (!rule) {
    refuse(client, http::Status::kNotFound, Reason::kNoRoute, now);
    return;
  }
  exchange.rule = &snapshot.rules[*rule];
  if (choose_service(client, now)) start_attempt(id, client, now);
}

/// Before a byte of the endpoint has reached the client; it may still understand why.
void Core::end_passthrough(ClientConnection& client, Instant now) {
  const bool unknown = client.exchange.reason == Reason::kNoRoute;
  const auto alert = alert_record(unknown ? Alert::kUnrecognizedName : Alert::kInternalError);
  ByteBuffer& output = client.channel.output();
  if (output.room() >= alert.size()) output.append(alert);
  record(client, now);
  client.exchange.end();
  drain(client, now);
}

}  // namespace weir::proxy
