#include "bench/stack_lab/stack_client.h"

#include <utility>

namespace weir::bench {

StackClient::StackClient(tcp::Stack& stack, const LoadOptions& options)
    : stack_{stack},
      options_{options},
      connections_(std::size_t{options.connections} + options.idle),
      client_{make_client(*this, options)} {
  WEIR_ASSERT(client_ != nullptr);  // made for client roles only
}

void StackClient::on_ready(const tcp::Readiness& ready, Instant now) {
  const auto slot = static_cast<std::uint32_t>(ready.user);  // we gave it: a slot
  if (ready.reset || ready.closed) {
    stack_.release(ready.connection);
    connections_[slot] = {};
    return client_->on_lost(slot, now);
  }
  if (ready.connected) client_->on_connected(slot, now);
  if (ready.writable) client_->on_writable(slot);
  if (!ready.readable) return;
  client_->on_readable(slot, now);
  // The peer has closed first, unless this very reply has made the client close.
  if (!(connections_[slot] == ready.connection) || !stack_.at_end(ready.connection)) return;
  close(slot);
  client_->on_lost(slot, now);
}

bool StackClient::connect(std::uint32_t slot, const wire::Endpoint& peer, Instant now) {
  const auto opened = stack_.connect(options_.local, peer, slot, now);
  if (opened) connections_[slot] = *opened;
  return static_cast<bool>(opened);
}

std::size_t StackClient::write(std::uint32_t slot, std::span<const std::byte> bytes) {
  return stack_.write(connections_[slot], bytes);
}

std::size_t StackClient::discard(std::uint32_t slot) {
  const std::size_t count = stack_.readable_bytes(connections_[slot]);
  stack_.consume(connections_[slot], count);
  return count;
}

std::size_t StackClient::unacknowledged(std::uint32_t slot) const {
  return stack_.unacknowledged_bytes(connections_[slot]);
}

void StackClient::close(std::uint32_t slot) {
  stack_.release(std::exchange(connections_[slot], {}));
}

void StackClient::abort(std::uint32_t slot, Instant now) {
  stack_.abort(std::exchange(connections_[slot], {}), now);
}

}  // namespace weir::bench
