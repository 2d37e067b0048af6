#include "bench/stack_lab/kernel_client.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <utility>

namespace weir::bench {
namespace {

constexpr std::size_t kBufferBytes = 256 * 1024;

}  // namespace

KernelClient::KernelClient(KernelLoop& loop, const LoadOptions& options, std::string congestion)
    : loop_{loop},
      congestion_{std::move(congestion)},
      sockets_(std::size_t{options.connections} + options.idle),
      buffer_(kBufferBytes),
      client_{make_client(*this, options)} {
  WEIR_ASSERT(client_ != nullptr);  // made for client roles only
}

void KernelClient::on_event(std::uint64_t user, std::uint32_t events, Instant now) {
  const auto slot = static_cast<std::uint32_t>(user);
  const auto generation = static_cast<std::uint32_t>(user >> 32);
  Socket& socket = sockets_[slot];
  const auto is_current = [&] { return socket.fd && socket.generation == generation; };
  if (!is_current()) return;
  if ((events & EPOLLERR) != 0) return lose(slot, now);
  if (!socket.is_connected) {
    if ((events & EPOLLOUT) == 0) return;
    socket.is_connected = true;
    client_->on_connected(slot, now);
  } else if (socket.is_full && (events & EPOLLOUT) != 0) {
    socket.is_full = false;
    client_->on_writable(slot);
  }
  if (is_current() && (events & EPOLLIN) != 0) client_->on_readable(slot, now);
  // Behind everything that was there to be read.
  if (is_current() && (events & EPOLLRDHUP) != 0) lose(slot, now);
}

void KernelClient::lose(std::uint32_t slot, Instant now) {
  sockets_[slot].fd.reset();
  client_->on_lost(slot, now);
}

bool KernelClient::connect(std::uint32_t slot, const wire::Endpoint& peer, Instant) {
  UniqueFd fd = begin_connect(peer);
  if (!fd) return false;
  if (!congestion_.empty() &&
      ::setsockopt(fd.get(), IPPROTO_TCP, TCP_CONGESTION, congestion_.data(),
                   static_cast<socklen_t>(congestion_.size())) != 0)
    return false;  // kernel_peer has checked the name before
  const std::uint32_t generation = sockets_[slot].generation + 1;
  if (!loop_.add(fd.get(), (std::uint64_t{generation} << 32) | slot)) return false;
  sockets_[slot] = {.fd = std::move(fd), .generation = generation};
  return true;
}

std::size_t KernelClient::write(std::uint32_t slot, std::span<const std::byte> bytes) {
  Socket& socket = sockets_[slot];
  const ssize_t sent = ::send(socket.fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  const std::size_t taken = sent < 0 ? 0 : static_cast<std::size_t>(sent);
  socket.is_full = taken < bytes.size();
  return taken;
}

std::size_t KernelClient::discard(std::uint32_t slot) {
  Socket& socket = sockets_[slot];
  std::size_t total = 0;
  while (true) {
    const ssize_t count = ::recv(socket.fd.get(), buffer_.data(), buffer_.size(), 0);
    if (count <= 0) return total;
    total += static_cast<std::size_t>(count);
    // A short read has emptied the socket.
    if (static_cast<std::size_t>(count) < buffer_.size()) return total;
  }
}

std::size_t KernelClient::unacknowledged(std::uint32_t slot) const {
  int queued = 0;
  ::ioctl(sockets_[slot].fd.get(), SIOCOUTQ, &queued);
  return static_cast<std::size_t>(queued);
}

void KernelClient::abort(std::uint32_t slot, Instant) {
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(sockets_[slot].fd.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  sockets_[slot].fd.reset();
}

}  // namespace weir::bench
