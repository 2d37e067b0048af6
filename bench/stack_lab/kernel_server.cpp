#include "bench/stack_lab/kernel_server.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>

namespace weir::bench {
namespace {

constexpr std::size_t kBufferBytes = 64 * 1024;
constexpr std::uint64_t kListener = std::uint64_t{1} << 32;  // above any descriptor

}  // namespace

KernelServer::KernelServer(KernelLoop& loop, const LoadOptions& options)
    : loop_{loop},
      options_{options},
      reply_{options.websocket             ? websocket_frame(options.reply_bytes, false)
             : options.role == Role::kHttp ? http_reply(options.reply_bytes)
                                           : std::string(options.reply_bytes, 'w')},
      buffer_(kBufferBytes) {
  do {
    for (const char letter : reply_)
      replies_.push_back(std::byte(letter));
  } while (replies_.size() < kBufferBytes);
}

Result<void> KernelServer::start() {
  for (std::uint32_t i = 0; i < options_.ports; ++i) {
    const auto port = static_cast<std::uint16_t>(options_.port + i);
    auto listener = listen_on({options_.local, wire::Port{port}});
    if (!listener) return std::move(listener).error();
    if (auto added = loop_.add(listener->get(), kListener | std::uint64_t(listener->get())); !added)
      return added;
    listeners_.push_back(std::move(*listener));
  }
  return {};
}

void KernelServer::on_event(std::uint64_t user, std::uint32_t events, Instant) {
  if ((user & kListener) != 0) return accept_all(static_cast<int>(user & ~kListener));
  if (user >= connections_.size() || !connections_[user].fd) return;
  Connection& connection = connections_[user];
  if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
    connection = {};
    return;
  }
  if ((events & EPOLLRDHUP) != 0) connection.has_ended = true;
  if (connection.is_paused && (events & EPOLLOUT) != 0) {
    connection.is_paused = false;
    events |= EPOLLIN;  // requests may have waited behind the unpaid ones
  }
  if (options_.role == Role::kSource) pay(connection);
  if (connection.fd && (events & (EPOLLIN | EPOLLRDHUP)) != 0) read(connection);
}

void KernelServer::accept_all(int listener) {
  while (true) {
    UniqueFd fd{::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)};
    if (!fd) return;
    set_no_delay(fd.get());
    const auto index = static_cast<std::size_t>(fd.get());
    if (connections_.size() <= index) connections_.resize(index + 1024);
    if (!loop_.add(fd.get(), index)) continue;
    ++accepted_;
    Connection& connection = connections_[index];
    connection = {.fd = std::move(fd)};
    if (options_.role == Role::kSource)
      connection.owed = options_.bytes > 0 ? options_.bytes : UINT64_MAX;
  }
}

void KernelServer::read(Connection& connection) {
  const bool replies = options_.role == Role::kEcho || options_.role == Role::kHttp;
  while (!replies || pay(connection)) {
    const ssize_t count = ::recv(connection.fd.get(), buffer_.data(), buffer_.size(), 0);
    if (count == 0 || (count < 0 && errno != EAGAIN)) {
      connection = {};
      return;
    }
    if (count < 0) return;
    const auto bytes = std::span{buffer_}.first(static_cast<std::size_t>(count));
    bytes_ += bytes.size();
    // A short read has emptied the socket, and what comes later is another event; but the end may
    // have come with these bytes, and then it is in this one.
    const bool is_empty = bytes.size() < buffer_.size() && !connection.has_ended;
    if (!replies || !pass_handshake(bytes, connection)) {
      if (is_empty) return;
      continue;
    }
    const std::uint32_t requests = take_requests(bytes, connection);
    requests_ += requests;
    connection.owed += std::uint64_t{requests} * reply_.size();
    if (is_empty) {
      pay(connection);
      return;
    }
  }
}

bool KernelServer::pass_handshake(std::span<const std::byte> bytes, Connection& connection) {
  if (!options_.websocket || connection.is_upgraded) return true;
  HeadEnds ends{static_cast<std::uint8_t>(connection.partial)};
  connection.is_upgraded = ends.count(bytes) > 0;
  connection.partial = connection.is_upgraded ? 0 : ends.matched();
  const std::string reply = websocket_reply();
  // Cannot come up short: nothing was sent on this connection before.
  if (connection.is_upgraded) ::send(connection.fd.get(), reply.data(), reply.size(), MSG_NOSIGNAL);
  return false;
}

bool KernelServer::pay(Connection& connection) {
  if (connection.is_paused) return false;
  while (connection.owed > 0) {
    const std::size_t skip = (reply_.size() - connection.owed % reply_.size()) % reply_.size();
    const std::size_t length = std::min<std::size_t>(connection.owed, replies_.size() - skip);
    const ssize_t taken = ::send(connection.fd.get(), replies_.data() + skip, length, MSG_NOSIGNAL);
    if (taken < 0) {
      connection.is_paused = errno == EAGAIN;
      if (!connection.is_paused) connection = {};
      return false;
    }
    connection.owed -= static_cast<std::uint64_t>(taken);
    if (options_.role == Role::kSource) bytes_ += static_cast<std::uint64_t>(taken);
  }
  if (options_.role == Role::kSource) ::shutdown(connection.fd.get(), SHUT_WR);
  return true;
}

std::uint32_t KernelServer::take_requests(std::span<const std::byte> bytes, Connection& from) {
  if (options_.role == Role::kHttp) {
    HeadEnds ends{static_cast<std::uint8_t>(from.partial)};
    const std::uint32_t count = ends.count(bytes);
    from.partial = ends.matched();
    return count;
  }
  const std::size_t total = from.partial + bytes.size();
  from.partial = static_cast<std::uint32_t>(total % options_.request_bytes);
  return static_cast<std::uint32_t>(total / options_.request_bytes);
}

}  // namespace weir::bench
