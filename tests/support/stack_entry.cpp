#include "tests/support/stack_entry.h"

#include <fcntl.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <memory>

#include "tests/support/memory_sockets.h"
#include "tests/support/stack_flags.h"

// The C table over MemorySockets: arguments become spans, negative results become errno.

namespace weir::testing {
namespace {

template <typename Result>
Result with_errno(Result result) {
  if (result >= 0) return result;
  errno = static_cast<int>(-result);
  return -1;
}

/// Calls `act` with the sockets, or fails when init did.
template <typename Act>
auto on(void* userdata, Act&& act) {
  using Result = decltype(act(*static_cast<MemorySockets*>(nullptr)));
  if (userdata == nullptr) return with_errno(static_cast<Result>(-EINVAL));
  return with_errno(act(*static_cast<MemorySockets*>(userdata)));
}

std::span<const iovec> pieces_of(const iovec* pieces, std::size_t count) { return {pieces, count}; }

void entry_free(void* userdata) {
  const std::unique_ptr<MemorySockets> owner{static_cast<MemorySockets*>(userdata)};
}

int entry_socket(void* userdata, int domain, int type, int protocol) {
  return on(userdata, [=](MemorySockets& sockets) { return sockets.open(domain, type, protocol); });
}

int entry_bind(void* userdata, int fd, const sockaddr* address, socklen_t length) {
  return on(userdata, [=](MemorySockets& sockets) { return sockets.bind(fd, address, length); });
}

int entry_listen(void* userdata, int fd, int /*backlog*/) {
  return on(userdata, [=](MemorySockets& sockets) { return sockets.listen(fd); });
}

int entry_accept(void* userdata, int fd, sockaddr* address, socklen_t* length) {
  return on(userdata, [=](MemorySockets& sockets) { return sockets.accept(fd, address, length); });
}

int entry_connect(void* userdata, int fd, const sockaddr* address, socklen_t length) {
  return on(userdata, [=](MemorySockets& sockets) { return sockets.connect(fd, address, length); });
}

ssize_t entry_recv(void* userdata, int fd, void* buffer, std::size_t size, int flags) {
  const iovec piece{buffer, size};
  return on(userdata, [&](MemorySockets& sockets) {
    return sockets.receive(fd, pieces_of(&piece, 1), flags);
  });
}

ssize_t entry_read(void* userdata, int fd, void* buffer, std::size_t size) {
  return entry_recv(userdata, fd, buffer, size, 0);
}

ssize_t entry_readv(void* userdata, int fd, const iovec* pieces, int count) {
  if (count < 0) return with_errno<ssize_t>(-EINVAL);
  return on(userdata, [&](MemorySockets& sockets) {
    return sockets.receive(fd, pieces_of(pieces, static_cast<std::size_t>(count)), 0);
  });
}

ssize_t entry_recvfrom(void* userdata, int fd, void* buffer, std::size_t size, int flags,
                       sockaddr* address, socklen_t* length) {
  const ssize_t result = entry_recv(userdata, fd, buffer, size, flags);
  if (result >= 0)
    on(userdata, [&](MemorySockets& sockets) { return sockets.peer_address(fd, address, length); });
  return result;
}

ssize_t entry_recvmsg(void* userdata, int fd, msghdr* message, int flags) {
  if (message == nullptr) return with_errno<ssize_t>(-EFAULT);
  message->msg_controllen = 0;
  message->msg_flags = 0;
  return on(userdata, [&](MemorySockets& sockets) {
    return sockets.receive(fd, pieces_of(message->msg_iov, message->msg_iovlen), flags);
  });
}

ssize_t entry_send(void* userdata, int fd, const void* buffer, std::size_t size, int flags) {
  // An iovec has no const form; what is sent is only read.
  const iovec piece{const_cast<void*>(buffer), size};
  return on(userdata,
            [&](MemorySockets& sockets) { return sockets.send(fd, pieces_of(&piece, 1), flags); });
}

ssize_t entry_write(void* userdata, int fd, const void* buffer, std::size_t size) {
  return entry_send(userdata, fd, buffer, size, 0);
}

ssize_t entry_writev(void* userdata, int fd, const iovec* pieces, int count) {
  if (count < 0) return with_errno<ssize_t>(-EINVAL);
  return on(userdata, [&](MemorySockets& sockets) {
    return sockets.send(fd, pieces_of(pieces, static_cast<std::size_t>(count)), 0);
  });
}

ssize_t entry_sendto(void* userdata, int fd, const void* buffer, std::size_t size, int flags,
                     const sockaddr* /*address*/, socklen_t /*length*/) {
  return entry_send(userdata, fd, buffer, size, flags);  // Linux ignores it on a connected stream
}

ssize_t entry_sendmsg(void* userdata, int fd, const msghdr* message, int flags) {
  if (message == nullptr) return with_errno<ssize_t>(-EFAULT);
  return on(userdata, [&](MemorySockets& sockets) {
    return sockets.send(fd, pieces_of(message->msg_iov, message->msg_iovlen), flags);
  });
}

int entry_fcntl(void* userdata, int fd, int command, ...) {
  std::va_list arguments;
  va_start(arguments, command);
  // Commands without an argument do not look at it.
  const long argument = command == F_SETFL || command == F_SETFD ? va_arg(arguments, int) : 0;
  va_end(arguments);
  return on(userdata,
            [=](MemorySockets& sockets) { return sockets.control_flags(fd, command, argument); });
}

int entry_ioctl(void* userdata, int fd, unsigned long request, ...) {
  std::va_list arguments;
  va_start(arguments, request);
  int* const argument = va_arg(arguments, int*);
  va_end(arguments);
  return on(userdata,
            [=](MemorySockets& sockets) { return sockets.io_control(fd, request, argument); });
}

int entry_close(void* userdata, int fd) {
  return on(userdata, [=](MemorySockets& sockets) { return sockets.close(fd); });
}

int entry_shutdown(void* userdata, int fd, int how) {
  return on(userdata, [=](MemorySockets& sockets) { return sockets.shutdown(fd, how); });
}

int entry_getsockopt(void* userdata, int fd, int level, int name, void* value, socklen_t* length) {
  return on(userdata, [=](MemorySockets& sockets) {
    return sockets.get_option(fd, level, name, value, length);
  });
}

int entry_setsockopt(void* userdata, int fd, int level, int name, const void* value,
                     socklen_t length) {
  return on(userdata, [=](MemorySockets& sockets) {
    return sockets.set_option(fd, level, name, value, length);
  });
}

int entry_poll(void* userdata, pollfd* fds, nfds_t count, int timeout_ms) {
  return on(userdata, [=](MemorySockets& sockets) {
    return sockets.poll({fds, static_cast<std::size_t>(count)}, timeout_ms);
  });
}

int entry_netdev_send(void* userdata, const void* packet, std::size_t size) {
  return on(userdata, [=](MemorySockets& sockets) {
    return sockets.packet_in({static_cast<const std::byte*>(packet), size});
  });
}

int entry_netdev_receive(void* userdata, void* packet, std::size_t* size, long long* time_us) {
  if (packet == nullptr || size == nullptr || time_us == nullptr) return with_errno(-EFAULT);
  return on(userdata, [=](MemorySockets& sockets) {
    std::int64_t at = 0;
    const int result = sockets.packet_out({static_cast<std::byte*>(packet), *size}, size, &at);
    *time_us = at;
    return result;
  });
}

int entry_usleep(void* userdata, useconds_t duration_us) {
  return on(userdata, [=](MemorySockets& sockets) { return sockets.sleep_us(duration_us); });
}

int entry_gettimeofday(void* userdata, timeval* now, struct timezone* /*zone*/) {
  return on(userdata, [=](MemorySockets& sockets) {
    constexpr std::int64_t kMicrosPerSecond = 1'000'000;
    const std::int64_t us = sockets.clock_us();
    now->tv_sec = us / kMicrosPerSecond;
    now->tv_usec = us % kMicrosPerSecond;
    return 0;
  });
}

int entry_epoll_create(void* userdata, int /*size*/) {
  return on(userdata, [](MemorySockets& sockets) { return sockets.epoll_open(); });
}

int entry_epoll_ctl(void* userdata, int epoll_fd, int operation, int fd, epoll_event* event) {
  return on(userdata, [=](MemorySockets& sockets) {
    return sockets.epoll_control(epoll_fd, operation, fd, event);
  });
}

int entry_epoll_wait(void* userdata, int epoll_fd, epoll_event* events, int events_max,
                     int timeout_ms) {
  if (events_max <= 0) return with_errno(-EINVAL);
  return on(userdata, [=](MemorySockets& sockets) {
    return sockets.epoll_wait(epoll_fd, {events, static_cast<std::size_t>(events_max)}, timeout_ms);
  });
}

int entry_pipe(void* /*userdata*/, int* /*fds*/) { return with_errno(-ENOSYS); }

int entry_splice(void* /*userdata*/, int, loff_t*, int, loff_t*, std::size_t, unsigned int) {
  return with_errno(-ENOSYS);
}

int extra_news(void* userdata, weir_stack_news* news) {
  return on(userdata, [=](MemorySockets& sockets) { return sockets.news(news); });
}

int extra_counter(void* userdata, const char* name, std::uint64_t* value) {
  return on(userdata, [=](MemorySockets& sockets) { return sockets.counter(name, value); });
}

int extra_exists(void* userdata, int fd) {
  return on(userdata, [=](MemorySockets& sockets) { return sockets.exists(fd); });
}

int extra_local_port(void* userdata, int fd) {
  return on(userdata, [=](MemorySockets& sockets) { return sockets.local_port(fd); });
}

int extra_set_buffers(void* userdata, int available) {
  return on(userdata, [=](MemorySockets& sockets) {
    sockets.set_buffers(available != 0);
    return 0;
  });
}

int extra_open_turn(void* userdata) {
  return on(userdata, [](MemorySockets& sockets) {
    sockets.open_turn();
    return 0;
  });
}

int extra_close_turn(void* userdata) {
  return on(userdata, [](MemorySockets& sockets) {
    sockets.close_turn();
    return 0;
  });
}

/// The sockets of one instance; null, with a word on stderr, when the flags are not understood.
void* make_sockets(const char* text) {
  const StackFlags flags = parse_stack_flags(text == nullptr ? "" : text);
  if (!flags.complaint.empty()) {
    std::fprintf(stderr, "weir_stack_entry: %s\n", flags.complaint.c_str());
    return nullptr;
  }
  return std::make_unique<MemorySockets>(flags).release();  // comes back in entry_free()
}

}  // namespace
}  // namespace weir::testing

extern "C" void packetdrill_interface_init(const char* flags, weir_stack_entry* entry) {
  using namespace weir::testing;
  *entry = weir_stack_entry{.userdata = make_sockets(flags),
                            .free = entry_free,
                            .socket = entry_socket,
                            .bind = entry_bind,
                            .listen = entry_listen,
                            .accept = entry_accept,
                            .connect = entry_connect,
                            .read = entry_read,
                            .readv = entry_readv,
                            .recv = entry_recv,
                            .recvfrom = entry_recvfrom,
                            .recvmsg = entry_recvmsg,
                            .write = entry_write,
                            .writev = entry_writev,
                            .send = entry_send,
                            .sendto = entry_sendto,
                            .sendmsg = entry_sendmsg,
                            .fcntl = entry_fcntl,
                            .ioctl = entry_ioctl,
                            .close = entry_close,
                            .shutdown = entry_shutdown,
                            .getsockopt = entry_getsockopt,
                            .setsockopt = entry_setsockopt,
                            .poll = entry_poll,
                            .netdev_send = entry_netdev_send,
                            .netdev_receive = entry_netdev_receive,
                            .usleep = entry_usleep,
                            .gettimeofday = entry_gettimeofday,
                            .epoll_create = entry_epoll_create,
                            .epoll_ctl = entry_epoll_ctl,
                            .epoll_wait = entry_epoll_wait,
                            .pipe = entry_pipe,
                            .splice = entry_splice};
}

extern "C" const weir_stack_extras* weir_stack_entry_extras(void) {
  using namespace weir::testing;
  static constexpr weir_stack_extras kExtras = {.news = extra_news,
                                                .counter = extra_counter,
                                                .exists = extra_exists,
                                                .local_port = extra_local_port,
                                                .set_buffers = extra_set_buffers,
                                                .open_turn = extra_open_turn,
                                                .close_turn = extra_close_turn};
  return &kExtras;
}
