#include "tests/support/memory_sockets.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>
#include <vector>

#include "l7/tcp/connection.h"

namespace weir::testing {
namespace {

using std::chrono::duration_cast;
using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr int kFirstNumber = 3;  // as in a fresh process
constexpr std::size_t kSocketsMax = 4096;

/// An address of a system call, or the errno that it deserves.
struct Parsed {
  int error = 0;
  wire::Endpoint endpoint;
};

Parsed parse_address(const sockaddr* address, socklen_t length) {
  if (address == nullptr) return {EFAULT, {}};
  if (address->sa_family == AF_INET && length >= sizeof(sockaddr_in)) {
    sockaddr_in in{};
    std::memcpy(&in, address, sizeof(in));
    std::array<std::uint8_t, 4> octets{};
    std::memcpy(octets.data(), &in.sin_addr, octets.size());
    return {0, {wire::IpAddress::v4(octets), wire::Port{ntohs(in.sin_port)}}};
  }
  if (address->sa_family == AF_INET6 && length >= sizeof(sockaddr_in6)) {
    sockaddr_in6 in{};
    std::memcpy(&in, address, sizeof(in));
    wire::IpAddress ip;
    std::memcpy(ip.bytes.data(), &in.sin6_addr, ip.bytes.size());
    return {0, {ip, wire::Port{ntohs(in.sin6_port)}}};
  }
  const bool known = address->sa_family == AF_INET || address->sa_family == AF_INET6;
  return {known ? EINVAL : EAFNOSUPPORT, {}};
}

void print_address(const wire::Endpoint& endpoint, bool is_v6, sockaddr* out, socklen_t* length) {
  if (out == nullptr || length == nullptr) return;
  sockaddr_storage storage{};
  socklen_t size = 0;
  if (is_v6) {
    sockaddr_in6 in{};
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(endpoint.port.value());
    std::memcpy(&in.sin6_addr, endpoint.address.bytes.data(), sizeof(in.sin6_addr));
    size = sizeof(in);
    std::memcpy(&storage, &in, size);
  } else {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(endpoint.port.value());
    std::memcpy(&in.sin_addr, endpoint.address.v4_octets().data(), sizeof(in.sin_addr));
    size = sizeof(in);
    std::memcpy(&storage, &in, size);
  }
  std::memcpy(out, &storage, std::min(*length, size));
  *length = size;
}

int errno_of(tcp::Failure failure) {
  switch (failure) {
    case tcp::Failure::kNone:
      return 0;
    case tcp::Failure::kRefused:
      return ECONNREFUSED;
    case tcp::Failure::kReset:
      return ECONNRESET;
    case tcp::Failure::kTimedOut:
      return ETIMEDOUT;
    case tcp::Failure::kUnreachable:
      return EHOSTUNREACH;
  }
  return EIO;
}

std::size_t size_of(std::span<const iovec> pieces) {
  std::size_t size = 0;
  for (const iovec& piece : pieces)
    size += piece.iov_len;
  return size;
}

unsigned flags_of(const tcp::Readiness& ready) {
  unsigned flags = 0;
  if (ready.accepted) flags |= WEIR_STACK_ACCEPTED;
  if (ready.connected) flags |= WEIR_STACK_CONNECTED;
  if (ready.readable) flags |= WEIR_STACK_READABLE;
  if (ready.writable) flags |= WEIR_STACK_WRITABLE;
  if (ready.closed) flags |= WEIR_STACK_CLOSED;
  if (ready.reset) flags |= WEIR_STACK_RESET;
  return flags;
}

/// Linux sets EPOLLERR and EPOLLHUP whether they are asked for or not.
short wanted(short asked) { return static_cast<short>(asked | POLLERR | POLLHUP); }

}  // namespace

MemorySockets::MemorySockets(const StackFlags& flags) : flags_{flags}, stack_{flags.stack} {
  for (const wire::IpAddress& address : flags.local)
    stack_.add_address(address);
}

MemorySockets::~MemorySockets() = default;

// ---- descriptors --------------------------------------------------------------------------------

MemorySockets::Socket* MemorySockets::find(int fd) {
  const auto found = by_fd_.find(fd);
  return found == by_fd_.end() ? nullptr : found->second;
}

/// The socket when it has, or has had, a connection; else the errno of a call that needs one.
MemorySockets::Socket* MemorySockets::find_connection(int fd, int& error) {
  Socket* socket = find(fd);
  error = socket == nullptr ? EBADF : socket->kind == Kind::kEpoll ? EINVAL : ENOTCONN;
  return socket != nullptr && socket->kind == Kind::kConnection ? socket : nullptr;
}

MemorySockets::Socket& MemorySockets::add(Kind kind) {
  Socket& socket = sockets_.emplace_back();
  socket.kind = kind;
  return socket;
}

int MemorySockets::give_number(Socket& socket) {
  socket.fd = kFirstNumber + static_cast<int>(by_fd_.size());
  by_fd_.emplace(socket.fd, &socket);
  return socket.fd;
}

int MemorySockets::open(int domain, int type, int protocol) {
  const Lock lock{mutex_};
  if (domain != AF_INET && domain != AF_INET6) return -EAFNOSUPPORT;
  if ((type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) != SOCK_STREAM) return -ESOCKTNOSUPPORT;
  if (protocol != 0 && protocol != IPPROTO_TCP) return -EPROTONOSUPPORT;
  if (sockets_.size() >= kSocketsMax) return -EMFILE;
  Socket& socket = add(Kind::kFresh);
  socket.is_v6 = domain == AF_INET6;
  socket.nonblocking = (type & SOCK_NONBLOCK) != 0;
  return give_number(socket);
}

int MemorySockets::bind(int fd, const sockaddr* address, socklen_t length) {
  const Lock lock{mutex_};
  Socket* socket = find(fd);
  if (socket == nullptr) return -EBADF;
  const Parsed parsed = parse_address(address, length);
  if (parsed.error != 0) return -parsed.error;
  if (socket->kind != Kind::kFresh || socket->bound) return -EINVAL;
  socket->bound = parsed.endpoint;
  if (flags_.local.empty() && !parsed.endpoint.address.is_unspecified() &&
      !stack_.has_address(parsed.endpoint.address))
    stack_.add_address(parsed.endpoint.address);
  return 0;
}

int MemorySockets::listen(int fd) {
  const Lock lock{mutex_};
  Socket* socket = find(fd);
  if (socket == nullptr) return -EBADF;
  if (socket->kind == Kind::kListener) return 0;
  if (socket->kind != Kind::kFresh || !socket->bound) return -EINVAL;
  if (!stack_.has_address(socket->bound->address)) return -EADDRNOTAVAIL;
  socket->kind = Kind::kListener;
  stack_.tcp().listen(*socket->bound, static_cast<tcp::UserData>(fd));
  return 0;
}

int MemorySockets::close(int fd) {
  const Lock lock{mutex_};
  Socket* socket = find(fd);
  if (socket == nullptr) return -EBADF;
  drop(*socket);
  after_call();
  return 0;
}

void MemorySockets::drop(Socket& socket) {
  by_fd_[socket.fd] = nullptr;  // the number stays taken
  std::erase(with_news_, &socket);
  if (socket.kind == Kind::kListener) {
    stack_.tcp().stop_listening(*socket.bound);
    for (Socket* waiting : socket.waiting)
      stack_.tcp().abort(waiting->id, stack_.now());
    socket.waiting.clear();
  }
  if (socket.kind == Kind::kConnection && socket.aborts_on_close) {
    stack_.tcp().abort(socket.id, stack_.now());
  } else if (socket.kind == Kind::kConnection) {
    stack_.tcp().release(socket.id);
  }
}

// ---- what the stack reports ---------------------------------------------------------------------

void MemorySockets::collect_one(const tcp::Readiness& ready) {
  Socket*& socket = by_connection_[ready.connection.raw()];
  if (ready.accepted) {
    Socket* listener = find(static_cast<int>(ready.user));
    if (listener == nullptr) return stack_.tcp().abort(ready.connection, stack_.now());
    socket = &add(Kind::kConnection);
    socket->is_v6 = listener->is_v6;
    socket->id = ready.connection;
    socket->connected = true;
    listener->waiting.push_back(socket);
    ++listener->activity;
  }
  if (socket == nullptr) return;
  if (ready.connected) socket->connected = true;
  if (ready.reset) {
    socket->error = errno_of(stack_.tcp().failure(ready.connection));
    socket->ended = true;
  }
  if (socket->news == 0) with_news_.push_back(socket);
  socket->news |= flags_of(ready);
  ++socket->activity;
}

void MemorySockets::collect() {
  while (const auto ready = stack_.tcp().poll())
    collect_one(*ready);
}

/// What every call ends with that may have changed something.
void MemorySockets::after_call() {
  if (!turn_is_open_) stack_.flush();
  collect();
  changed();
}

// ---- blocking -----------------------------------------------------------------------------------

void MemorySockets::changed() {
  ++generation_;
  sleepers_looked_ = 0;
  changed_.notify_all();
}

ssize_t MemorySockets::block(Lock& lock, bool may_block, Instant until,
                             const std::function<std::optional<ssize_t>()>& attempt) {
  if (const auto result = attempt()) return *result;
  if (!may_block) return -EAGAIN;
  ++sleepers_;
  for (;;) {
    const std::uint64_t seen = generation_;
    ++sleepers_looked_;
    asleep_.notify_all();
    changed_.wait(lock, [&] { return generation_ != seen; });
    const auto result = attempt();
    const bool late = stack_.now() >= until;
    if (!result && !late) continue;
    --sleepers_;
    asleep_.notify_all();
    return result ? *result : -EAGAIN;
  }
}

void MemorySockets::wait_for_sleepers(Lock& lock) {
  asleep_.wait(lock, [&] { return sleepers_looked_ == sleepers_; });
}

bool MemorySockets::may_block(const Socket& socket, int flags) const {
  return !socket.nonblocking && (flags & MSG_DONTWAIT) == 0;
}

Instant MemorySockets::deadline_of(int timeout_ms) const {
  return timeout_ms < 0 ? kNever : stack_.now() + milliseconds{timeout_ms};
}

// ---- opening ------------------------------------------------------------------------------------

int MemorySockets::accept(int fd, sockaddr* address, socklen_t* length) {
  Lock lock{mutex_};
  Socket* listener = find(fd);
  if (listener == nullptr) return -EBADF;
  if (listener->kind != Kind::kListener) return -EINVAL;
  const auto attempt = [&]() -> std::optional<ssize_t> {
    if (find(fd) != listener) return -EBADF;
    if (listener->waiting.empty()) return std::nullopt;
    Socket* accepted = std::exchange(listener->waiting.front(), nullptr);
    listener->waiting.pop_front();
    print_address(stack_.tcp().remote(accepted->id), accepted->is_v6, address, length);
    return give_number(*accepted);
  };
  return static_cast<int>(block(lock, may_block(*listener, 0), kNever, attempt));
}

int MemorySockets::connect(int fd, const sockaddr* address, socklen_t length) {
  Lock lock{mutex_};
  Socket* socket = find(fd);
  if (socket == nullptr) return -EBADF;
  const Parsed parsed = parse_address(address, length);
  if (parsed.error != 0) return -parsed.error;
  if (socket->kind == Kind::kListener) return -EISCONN;
  if (socket->kind == Kind::kConnection && socket->connected) return -EISCONN;
  if (socket->kind == Kind::kFresh) {
    wire::IpAddress local = socket->bound ? socket->bound->address : wire::IpAddress{};
    const auto matches = [&](const wire::IpAddress& own) {
      return own.family() == parsed.endpoint.address.family();
    };
    if (!socket->bound || local.is_unspecified()) {
      const auto own = std::ranges::find_if(flags_.local, matches);
      if (own == flags_.local.end()) return -EADDRNOTAVAIL;
      local = *own;
    }
    const auto id = stack_.tcp().connect(local, parsed.endpoint, 0, stack_.now());
    if (!id) return -EADDRNOTAVAIL;
    socket->kind = Kind::kConnection;
    socket->id = *id;
    by_connection_[id->raw()] = socket;
    after_call();
    if (socket->nonblocking) return -EINPROGRESS;
  } else if (socket->nonblocking && socket->error == 0) {
    return -EALREADY;
  }
  const auto attempt = [&]() -> std::optional<ssize_t> {
    if (socket->error != 0) return -std::exchange(socket->error, 0);
    return socket->connected ? std::optional<ssize_t>{0} : std::nullopt;
  };
  return static_cast<int>(block(lock, true, kNever, attempt));
}

int MemorySockets::peer_address(int fd, sockaddr* address, socklen_t* length) {
  const Lock lock{mutex_};
  int error = 0;
  Socket* socket = find_connection(fd, error);
  if (socket == nullptr) return -error;
  print_address(stack_.tcp().remote(socket->id), socket->is_v6, address, length);
  return 0;
}

// ---- bytes --------------------------------------------------------------------------------------

std::optional<ssize_t> MemorySockets::try_receive(Socket& socket, std::span<const iovec> pieces,
                                                  bool peek) {
  tcp::Stack& tcp = stack_.tcp();
  if (const std::size_t there = tcp.readable_bytes(socket.id); there > 0) {
    std::size_t total = 0;
    for (const iovec& piece : pieces) {
      std::size_t filled = 0;
      while (filled < piece.iov_len) {
        const auto bytes = tcp.peek(socket.id);
        const std::size_t take = std::min(bytes.size(), piece.iov_len - filled);
        if (take == 0) break;
        std::memcpy(static_cast<std::byte*>(piece.iov_base) + filled, bytes.data(), take);
        filled += take;
        if (peek) return static_cast<ssize_t>(filled);  // what lies in one piece is enough
        tcp.consume(socket.id, take);
      }
      total += filled;
    }
    after_call();
    return static_cast<ssize_t>(total);
  }
  if (socket.error != 0) return -std::exchange(socket.error, 0);
  if (socket.ended || socket.read_shut || tcp.at_end(socket.id)) return 0;
  return std::nullopt;
}

ssize_t MemorySockets::receive(int fd, std::span<const iovec> pieces, int flags) {
  Lock lock{mutex_};
  int error = 0;
  Socket* socket = find_connection(fd, error);
  if (socket == nullptr) return -error;
  return block(lock, may_block(*socket, flags), kNever, [&]() -> std::optional<ssize_t> {
    if (find(fd) != socket) return -EBADF;
    const bool all = (flags & MSG_WAITALL) != 0 && (flags & MSG_PEEK) == 0;
    const bool enough = stack_.tcp().readable_bytes(socket->id) >= size_of(pieces);
    const bool more_may_come =
        !socket->ended && !socket->read_shut && !stack_.tcp().at_end(socket->id);
    if (all && !enough && more_may_come && socket->error == 0) return std::nullopt;
    return try_receive(*socket, pieces, (flags & MSG_PEEK) != 0);
  });
}

std::optional<ssize_t> MemorySockets::try_send(Socket& socket, std::span<const std::byte> bytes) {
  if (socket.error != 0) return -std::exchange(socket.error, 0);
  if (socket.write_shut || socket.ended) return -EPIPE;
  if (!socket.connected && !flags_.early_write) return std::nullopt;
  const std::size_t taken = stack_.tcp().write(socket.id, bytes);
  if (taken == 0 && !bytes.empty()) return std::nullopt;
  after_call();
  return static_cast<ssize_t>(taken);
}

ssize_t MemorySockets::send(int fd, std::span<const iovec> pieces, int flags) {
  Lock lock{mutex_};
  int error = 0;
  Socket* socket = find_connection(fd, error);
  if (socket == nullptr) return error == ENOTCONN ? -EPIPE : -error;
  std::vector<std::byte> bytes;
  bytes.reserve(size_of(pieces));
  for (const iovec& piece : pieces) {
    const auto* from = static_cast<const std::byte*>(piece.iov_base);
    bytes.insert(bytes.end(), from, from + piece.iov_len);
  }
  // A blocking call returns when all has been taken (POSIX), another with what fits.
  std::size_t done = 0;
  const bool blocks = may_block(*socket, flags);
  const ssize_t result = block(lock, blocks, kNever, [&]() -> std::optional<ssize_t> {
    if (find(fd) != socket) return -EBADF;
    const auto taken = try_send(*socket, std::span{bytes}.subspan(done));
    if (!taken || *taken < 0) return taken;
    done += static_cast<std::size_t>(*taken);
    if (blocks && done < bytes.size()) return std::nullopt;
    return static_cast<ssize_t>(done);
  });
  return result < 0 && done > 0 ? static_cast<ssize_t>(done) : result;
}

int MemorySockets::shutdown(int fd, int how) {
  const Lock lock{mutex_};
  int error = 0;
  Socket* socket = find_connection(fd, error);
  if (socket == nullptr) return -error;
  if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR) return -EINVAL;
  if (how != SHUT_WR) socket->read_shut = true;
  if (how != SHUT_RD) {
    socket->write_shut = true;
    stack_.tcp().close_write(socket->id);
  }
  after_call();
  return 0;
}

// ---- settings -----------------------------------------------------------------------------------

int MemorySockets::control_flags(int fd, int command, long argument) {
  const Lock lock{mutex_};
  Socket* socket = find(fd);
  if (socket == nullptr) return -EBADF;
  if (command == F_GETFL) return O_RDWR | (socket->nonblocking ? O_NONBLOCK : 0);
  if (command == F_GETFD || command == F_SETFD) return 0;
  if (command != F_SETFL) return -EINVAL;
  socket->nonblocking = (argument & O_NONBLOCK) != 0;
  return 0;
}

int MemorySockets::io_control(int fd, unsigned long request, int* argument) {
  const Lock lock{mutex_};
  Socket* socket = find(fd);
  if (socket == nullptr) return -EBADF;
  if (argument == nullptr) return -EFAULT;
  if (request == FIONBIO) {
    socket->nonblocking = *argument != 0;
    return 0;
  }
  if (socket->kind == Kind::kListener) return -EINVAL;
  if (request == FIONREAD) {
    *argument = static_cast<int>(stack_.tcp().readable_bytes(socket->id));
    return 0;
  }
  if (request == TIOCOUTQ) {
    *argument = static_cast<int>(stack_.tcp().unacknowledged_bytes(socket->id));
    return 0;
  }
  return -ENOTTY;
}

/// The kernel's numbers (include/net/tcp_states.h).
int kernel_state(tcp::ConnectionState state) {
  switch (state) {
    case tcp::ConnectionState::kClosed:
      return TCP_CLOSE;
    case tcp::ConnectionState::kSynSent:
      return TCP_SYN_SENT;
    case tcp::ConnectionState::kSynReceived:
      return TCP_SYN_RECV;
    case tcp::ConnectionState::kEstablished:
      return TCP_ESTABLISHED;
    case tcp::ConnectionState::kFinWait1:
      return TCP_FIN_WAIT1;
    case tcp::ConnectionState::kFinWait2:
      return TCP_FIN_WAIT2;
    case tcp::ConnectionState::kCloseWait:
      return TCP_CLOSE_WAIT;
    case tcp::ConnectionState::kClosing:
      return TCP_CLOSING;
    case tcp::ConnectionState::kLastAck:
      return TCP_LAST_ACK;
    case tcp::ConnectionState::kTimeWait:
      return TCP_TIME_WAIT;
  }
  return TCP_CLOSE;
}

tcp_info MemorySockets::kernel_info(const Socket& socket) {
  tcp_info info{};
  info.tcpi_state = socket.kind == Kind::kListener ? TCP_LISTEN : TCP_CLOSE;
  const auto ours = stack_.tcp().info(socket.id);
  if (!ours) return info;
  const auto us = [](Duration duration) {
    return static_cast<std::uint32_t>(duration_cast<microseconds>(duration).count());
  };
  const std::uint32_t mss = std::max(ours->send_mss, 1U);
  info.tcpi_state = static_cast<std::uint8_t>(kernel_state(ours->state));
  info.tcpi_snd_mss = ours->send_mss;
  info.tcpi_snd_cwnd = ours->congestion_window / mss;
  info.tcpi_snd_ssthresh = ours->slow_start_threshold / mss;
  info.tcpi_unacked = (ours->in_flight + mss - 1) / mss;
  info.tcpi_rtt = us(ours->smoothed_rtt);
  info.tcpi_rto = us(ours->retransmission_timeout);
  return info;
}

int MemorySockets::get_socket_option(Socket& socket, int name) {
  switch (name) {
    case SO_ERROR:
      return std::exchange(socket.error, 0);
    case SO_TYPE:
      return SOCK_STREAM;
    case SO_PROTOCOL:
      return IPPROTO_TCP;
    case SO_DOMAIN:
      return socket.is_v6 ? AF_INET6 : AF_INET;
    case SO_ACCEPTCONN:
      return socket.kind == Kind::kListener ? 1 : 0;
    case SO_REUSEADDR:
      return 1;
    case SO_SNDBUF:
      return static_cast<int>(flags_.stack.stack.send_buffer_bytes);
    case SO_RCVBUF:
      return static_cast<int>(flags_.stack.stack.receive_buffer_bytes);
    default:
      return -ENOPROTOOPT;
  }
}

int MemorySockets::get_option(int fd, int level, int name, void* value, socklen_t* length) {
  const Lock lock{mutex_};
  Socket* socket = find(fd);
  if (socket == nullptr) return -EBADF;
  if (value == nullptr || length == nullptr) return -EFAULT;
  if (level == IPPROTO_TCP && name == TCP_INFO) {
    const tcp_info info = kernel_info(*socket);
    *length = std::min<socklen_t>(*length, sizeof(info));
    std::memcpy(value, &info, *length);
    return 0;
  }
  if (level == SOL_SOCKET && name == SO_LINGER) {
    const linger answer{.l_onoff = socket->aborts_on_close ? 1 : 0, .l_linger = 0};
    *length = std::min<socklen_t>(*length, sizeof(answer));
    std::memcpy(value, &answer, *length);
    return 0;
  }
  int answer = -ENOPROTOOPT;
  if (level == SOL_SOCKET) answer = get_socket_option(*socket, name);
  if (level == IPPROTO_TCP && name == TCP_NODELAY) answer = socket->nagle ? 0 : 1;
  if (answer < 0) return answer;
  *length = std::min<socklen_t>(*length, sizeof(answer));
  std::memcpy(value, &answer, *length);
  return 0;
}

/// What the stack has a setting for, per connection, or already does; all else is refused, so that
/// a script does not believe it was heard.
int MemorySockets::set_option(int fd, int level, int name, const void* value, socklen_t length) {
  const Lock lock{mutex_};
  Socket* socket = find(fd);
  if (socket == nullptr) return -EBADF;
  if (value == nullptr) return -EFAULT;
  if (level == SOL_SOCKET && name == SO_LINGER) {
    linger asked{};
    if (length < sizeof(asked)) return -EINVAL;
    std::memcpy(&asked, value, sizeof(asked));
    if (asked.l_onoff != 0 && asked.l_linger != 0) return -ENOPROTOOPT;  // a close() that waits
    socket->aborts_on_close = asked.l_onoff != 0;
    return 0;
  }
  int asked = 0;
  if (length < sizeof(asked)) return -EINVAL;
  std::memcpy(&asked, value, sizeof(asked));
  if (level == SOL_SOCKET && name == SO_REUSEADDR) return 0;
  if (level == IPPROTO_TCP && name == TCP_NODELAY) {
    socket->nagle = asked == 0;
    stack_.tcp().set_nagle(socket->id, socket->nagle);
    return 0;
  }
  return -ENOPROTOOPT;
}

// ---- waiting ------------------------------------------------------------------------------------

short MemorySockets::ready_events(const Socket& socket) {
  if (socket.kind == Kind::kListener) return socket.waiting.empty() ? 0 : POLLIN;
  if (socket.kind != Kind::kConnection) return POLLOUT | POLLHUP;  // as Linux says of a fresh one
  const tcp::Stack& tcp = stack_.tcp();
  const bool ended = tcp.at_end(socket.id);
  int events = 0;
  if (tcp.readable_bytes(socket.id) > 0 || ended || socket.ended || socket.read_shut)
    events |= POLLIN;
  if (ended || socket.ended || socket.read_shut) events |= POLLRDHUP;
  if (socket.ended || (socket.connected && tcp.writable_bytes(socket.id) > 0)) events |= POLLOUT;
  if (socket.ended || (ended && socket.write_shut)) events |= POLLHUP;
  if (socket.error != 0) events |= POLLERR;
  return static_cast<short>(events);
}

int MemorySockets::poll(std::span<pollfd> fds, int timeout_ms) {
  Lock lock{mutex_};
  const auto attempt = [&]() -> std::optional<ssize_t> {
    ssize_t ready = 0;
    for (pollfd& entry : fds) {
      entry.revents = 0;
      if (entry.fd < 0) continue;
      const Socket* socket = find(entry.fd);
      entry.revents = socket == nullptr
                          ? static_cast<short>(POLLNVAL)
                          : static_cast<short>(ready_events(*socket) & wanted(entry.events));
      if (entry.revents != 0) ++ready;
    }
    return ready > 0 ? std::optional{ready} : std::nullopt;
  };
  const ssize_t result = block(lock, timeout_ms != 0, deadline_of(timeout_ms), attempt);
  return result == -EAGAIN ? 0 : static_cast<int>(result);
}

int MemorySockets::epoll_open() {
  const Lock lock{mutex_};
  return give_number(add(Kind::kEpoll));
}

int MemorySockets::epoll_control(int epoll_fd, int operation, int fd, const epoll_event* event) {
  const Lock lock{mutex_};
  Socket* epoll = find(epoll_fd);
  const Socket* socket = find(fd);
  if (epoll == nullptr || socket == nullptr) return -EBADF;
  if (epoll->kind != Kind::kEpoll || socket->kind == Kind::kEpoll) return -EINVAL;
  const bool watched = epoll->watched.contains(fd);
  if (operation == EPOLL_CTL_ADD && watched) return -EEXIST;
  if (operation != EPOLL_CTL_ADD && !watched) return -ENOENT;
  if (operation == EPOLL_CTL_DEL) {
    epoll->watched.erase(fd);
    return 0;
  }
  if (operation != EPOLL_CTL_ADD && operation != EPOLL_CTL_MOD) return -EINVAL;
  if (event == nullptr) return -EFAULT;
  epoll->watched[fd] = Watch{.event = *event};
  changed();
  return 0;
}

int MemorySockets::epoll_wait(int epoll_fd, std::span<epoll_event> events, int timeout_ms) {
  Lock lock{mutex_};
  Socket* epoll = find(epoll_fd);
  if (epoll == nullptr) return -EBADF;
  if (epoll->kind != Kind::kEpoll || events.empty()) return -EINVAL;
  const auto attempt = [&]() -> std::optional<ssize_t> {
    std::size_t count = 0;
    for (auto& [fd, watch] : epoll->watched) {
      const Socket* socket = find(fd);
      if (count == events.size()) break;
      if (socket == nullptr || !watch.armed) continue;
      const std::uint32_t asked = watch.event.events;
      const auto ready = static_cast<std::uint32_t>(ready_events(*socket)) &
                         static_cast<std::uint32_t>(wanted(static_cast<short>(asked & 0x7fff)));
      const bool seen = (asked & EPOLLET) != 0 && watch.seen == socket->activity + 1;
      if (ready == 0 || seen) continue;
      watch.seen = socket->activity + 1;
      watch.armed = (asked & EPOLLONESHOT) == 0;
      events[count] = watch.event;
      events[count++].events = ready;
    }
    return count > 0 ? std::optional{static_cast<ssize_t>(count)} : std::nullopt;
  };
  const ssize_t result = block(lock, timeout_ms != 0, deadline_of(timeout_ms), attempt);
  return result == -EAGAIN ? 0 : static_cast<int>(result);
}

// ---- packets and time ---------------------------------------------------------------------------

int MemorySockets::packet_in(std::span<const std::byte> packet) {
  Lock lock{mutex_};
  wait_for_sleepers(lock);
  if (flags_.local.empty() && packet.size() >= sizeof(wire::Ipv4Header)) {
    const bool is_v4 = std::to_integer<unsigned>(packet[0]) >> 4 == 4;
    wire::IpAddress to;
    if (is_v4) {
      std::array<std::uint8_t, 4> octets{};
      std::memcpy(octets.data(), packet.data() + 16, octets.size());
      to = wire::IpAddress::v4(octets);
    } else if (packet.size() >= sizeof(wire::Ipv6Header)) {
      std::memcpy(to.bytes.data(), packet.data() + 24, to.bytes.size());
    }
    if (!to.is_unspecified() && !to.is_multicast() && !stack_.has_address(to))
      stack_.add_address(to);
  }
  stack_.input(packet);
  after_call();
  return 0;
}

int MemorySockets::packet_out(std::span<std::byte> room, std::size_t* size, std::int64_t* time_us) {
  Lock lock{mutex_};
  *size = 0;
  const Instant limit = stack_.now() + flags_.receive_wait;
  wait_for_sleepers(lock);
  const bool waits = flags_.receive_wait > Duration{};
  while (waits && stack_.sent().empty() && stack_.next_deadline() <= limit) {
    if (!stack_.advance_to(stack_.next_deadline())) return -EIO;
    after_call();
    wait_for_sleepers(lock);
  }
  const auto packet = stack_.take_sent();
  if (!packet) return 0;
  *size = std::min(room.size(), packet->bytes.size());
  std::ranges::copy(std::span{packet->bytes}.first(*size), room.begin());
  *time_us = duration_cast<microseconds>(packet->at.time_since_epoch()).count();
  return 0;
}

int MemorySockets::sleep_us(std::int64_t duration_us) {
  Lock lock{mutex_};
  const Instant target = stack_.now() + microseconds{duration_us};
  // Timer by timer: a call that one of them wakes acts at that time and not at the end.
  wait_for_sleepers(lock);
  while (sleepers_ > 0 && stack_.next_deadline() < target) {
    if (!stack_.advance_to(stack_.next_deadline())) return -EIO;
    after_call();
    wait_for_sleepers(lock);
  }
  if (!stack_.advance_to(target)) return -EIO;
  after_call();
  wait_for_sleepers(lock);
  return 0;
}

std::int64_t MemorySockets::clock_us() {
  const Lock lock{mutex_};
  stack_.tick(flags_.clock_step);
  return duration_cast<microseconds>(stack_.now().time_since_epoch()).count();
}

// ---- extras -------------------------------------------------------------------------------------

int MemorySockets::news(weir_stack_news* news) {
  const Lock lock{mutex_};
  collect();
  if (with_news_.empty()) return 0;
  Socket* socket = with_news_.front();
  with_news_.pop_front();
  news->fd = socket->fd;
  news->flags = std::exchange(socket->news, 0U);
  news->remote_port = stack_.tcp().remote(socket->id).port.value();
  return 1;
}

int MemorySockets::counter(std::string_view name, std::uint64_t* value) {
  const Lock lock{mutex_};
  const tcp::StackCounters& counters = stack_.tcp().counters();
  for (const auto& [known, field] : tcp::kStackEvents) {
    if (known != name) continue;
    *value = counters.*field;
    return 0;
  }
  for (const auto& [known, field] : tcp::kStackLevels) {
    if (known != name) continue;
    *value = counters.*field;
    return 0;
  }
  return -ENOENT;
}

int MemorySockets::exists(int fd) {
  const Lock lock{mutex_};
  const auto socket = std::ranges::find(sockets_, fd, &Socket::fd);
  if (socket == sockets_.end()) return -EBADF;
  return stack_.tcp().exists(socket->id) ? 1 : 0;
}

int MemorySockets::local_port(int fd) {
  const Lock lock{mutex_};
  const Socket* socket = find(fd);
  if (socket == nullptr) return -EBADF;
  if (socket->kind == Kind::kConnection) return stack_.tcp().local(socket->id).port.value();
  return socket->bound ? socket->bound->port.value() : -EINVAL;
}

void MemorySockets::set_buffers(bool available) {
  const Lock lock{mutex_};
  stack_.set_buffers(available);
}

void MemorySockets::open_turn() {
  const Lock lock{mutex_};
  turn_is_open_ = true;
}

void MemorySockets::close_turn() {
  const Lock lock{mutex_};
  turn_is_open_ = false;
  after_call();
}

}  // namespace weir::testing
