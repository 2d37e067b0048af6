#include "l7/proxy/upstream_pool.h"

#include <fmt/format.h>

#include <algorithm>

#include "l7/proxy/user_data.h"

namespace weir::proxy {

UpstreamPool::UpstreamPool(tcp::Stack& stack, BufferPool& buffers, TimerWheel& timers)
    : stack_{stack}, buffers_{buffers}, timers_{timers} {}

std::optional<UpstreamId> UpstreamPool::take_idle(const wire::Endpoint& endpoint,
                                                  const ServiceEntry& service, ClientId client,
                                                  Instant now) {
  const auto state = endpoints_.find(endpoint);
  if (state == endpoints_.end()) return std::nullopt;
  std::vector<UpstreamId>& idle = state->second.idle;
  const ServiceEntry* const secured_for = service.tls ? &service : nullptr;
  for (std::size_t i = idle.size(); i-- > 0;) {
    const UpstreamId id = idle[i];
    UpstreamConnection* connection = connections_.get(id);
    if (connection != nullptr && connection->secured_for != secured_for) continue;
    idle.erase(idle.begin() + static_cast<std::ptrdiff_t>(i));  // nearly always the last
    if (connection == nullptr) continue;                        // dropped while it was idle
    // What has arrived meanwhile answers no request: most likely the endpoint is closing.
    const tcp::ConnectionId tcp = connection->channel.connection();
    if (stack_.readable_bytes(tcp) > 0 || stack_.at_end(tcp) ||
        stack_.failure(tcp) != tcp::Failure::kNone) {
      ++counters_.idle_closed;
      drop(id, now);
      continue;
    }
    TimerWheel::cancel(connection->timer);
    connection->reused = true;
    connection->client = client;
    ++state->second.busy;
    ++counters_.reused;
    --counters_.idle;
    return id;
  }
  return std::nullopt;
}

Result<UpstreamId> UpstreamPool::open(const wire::Endpoint& endpoint, const ServiceEntry& service,
                                      const GenerationRef& generation, ClientId client,
                                      Instant now) {
  const auto source = std::find_if(sources_.begin(), sources_.end(), [&](const auto& address) {
    return address.family() == endpoint.address.family();
  });
  if (source == sources_.end())
    return Error{ErrorCode::kUnavailable,
                 fmt::format("connecting to {}: L7 has no address of that family", endpoint.text()),
                 "add one to node.l7.addresses"};
  Result<tcp::ConnectionId> connection = stack_.connect(*source, endpoint, 0, now);
  if (!connection) return std::move(connection).error();
  const UpstreamId id = connections_.emplace(stack_, *connection, buffers_, endpoint);
  if (!id) {
    stack_.abort(*connection, now);
    return Error{ErrorCode::kUnavailable, "all upstream connection slots are in use"};
  }
  if (const tls::ClientContext* context = generation->upstream_context(service)) {
    // Without a name it must be the address that the certificate is for.
    const std::string& sni = service.tls->sni;
    Result<tls::Session> session =
        tls::Session::connect(*context, sni.empty() ? endpoint.address.text() : sni);
    if (!session) {
      connections_.erase(id);
      stack_.abort(*connection, now);
      return std::move(session).error();
    }
    UpstreamConnection& secured = *connections_.get(id);
    secured.channel.secure(std::move(*session));
    secured.generation = generation;
    secured.secured_for = &service;
  }
  const tcp::UserData user = user_data(Owner::kUpstream, id);
  stack_.set_user(*connection, user);
  UpstreamConnection* opened = connections_.get(id);
  opened->client = client;
  opened->timer.user = user;
  ++endpoints_[endpoint].busy;
  ++counters_.opened;
  ++counters_.open;
  return id;
}

void UpstreamPool::give_back(UpstreamId id, Instant now) {
  UpstreamConnection* connection = connections_.get(id);
  WEIR_ASSERT(connection != nullptr && connection->client);  // only the exchange gives it back
  EndpointState& state = endpoints_[connection->endpoint];
  if (state.idle.size() >= kIdlePerEndpoint)
    std::erase_if(state.idle, [&](UpstreamId other) { return connections_.get(other) == nullptr; });
  if (state.idle.size() >= kIdlePerEndpoint) {
    drop(id, now);
    return;
  }
  connection->client = {};
  connection->parser.reset();
  --state.busy;
  state.idle.push_back(id);
  ++counters_.idle;
  timers_.arm(connection->timer, now + kIdleTime);
}

void UpstreamPool::drop(UpstreamId id, Instant now) {
  UpstreamConnection* connection = connections_.get(id);
  WEIR_ASSERT(connection != nullptr);
  if (connection->client)
    --endpoints_[connection->endpoint].busy;
  else
    --counters_.idle;
  const tcp::ConnectionId tcp = connection->channel.connection();
  if (stack_.exists(tcp)) {
    // In the middle of an exchange a FIN would look like its orderly end.
    if (connection->client && !connection->ended_in_order)
      stack_.abort(tcp, now);
    else
      stack_.release(tcp);
  }
  connections_.erase(id);
  --counters_.open;
}

std::uint32_t UpstreamPool::load(const wire::Endpoint& endpoint) const {
  const auto state = endpoints_.find(endpoint);
  return state == endpoints_.end() ? 0 : state->second.busy;
}

UpstreamCounters UpstreamPool::counters() const { return counters_; }

}  // namespace weir::proxy
