#include "bench/stack_lab/kernel_loop.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace weir::bench {
namespace {

constexpr int kEventsMax = 256;
constexpr int kBacklog = 4096;
constexpr Duration kSleepMax = std::chrono::seconds{1};

struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;
  [[nodiscard]] const sockaddr* get() const {
    return reinterpret_cast<const sockaddr*>(&storage);  // what the socket calls take
  }
};

Address address_of(const wire::Endpoint& endpoint) {
  Address address;
  if (endpoint.address.is_v4()) {
    sockaddr_in four{};
    four.sin_family = AF_INET;
    four.sin_port = htons(endpoint.port.value());
    std::memcpy(&four.sin_addr, endpoint.address.v4_octets().data(), sizeof(four.sin_addr));
    std::memcpy(&address.storage, &four, sizeof(four));
    address.length = sizeof(four);
  } else {
    sockaddr_in6 six{};
    six.sin6_family = AF_INET6;
    six.sin6_port = htons(endpoint.port.value());
    std::memcpy(&six.sin6_addr, endpoint.address.bytes.data(), sizeof(six.sin6_addr));
    std::memcpy(&address.storage, &six, sizeof(six));
    address.length = sizeof(six);
  }
  return address;
}

}  // namespace

Result<KernelLoop> KernelLoop::create() {
  UniqueFd epoll{::epoll_create1(EPOLL_CLOEXEC)};
  if (!epoll) return Error::from_errno("making an epoll descriptor");
  return KernelLoop{std::move(epoll)};
}

Result<void> KernelLoop::add(int fd, std::uint64_t user) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.u64 = user;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return Error::from_errno("adding a socket to epoll");
  return {};
}

void KernelLoop::run(KernelApplication& application, const std::atomic<bool>& stop, bool poll) {
  std::array<epoll_event, kEventsMax> events;
  while (!stop.load(std::memory_order_relaxed)) {
    application.advance(monotonic_now());
    if (application.is_finished()) return;
    const Duration left = application.next_deadline() - monotonic_now();
    const Duration sleep = poll ? Duration{0} : std::clamp(left, Duration{0}, kSleepMax);
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(sleep);
    const timespec timeout{seconds.count(), (sleep - seconds).count()};
    const int count = ::epoll_pwait2(epoll_.get(), events.data(), kEventsMax, &timeout, nullptr);
    const Instant now = monotonic_now();
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events[static_cast<std::size_t>(i)];
      application.on_event(event.data.u64, event.events, now);
    }
  }
}

void set_no_delay(int fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

Result<UniqueFd> make_socket(wire::Family family) {
  const int domain = family == wire::Family::kIpv4 ? AF_INET : AF_INET6;
  UniqueFd socket{::socket(domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  if (!socket) return Error::from_errno("making a socket");
  set_no_delay(socket.get());
  return socket;
}

Result<UniqueFd> listen_on(const wire::Endpoint& local) {
  Result<UniqueFd> socket = make_socket(local.address.family());
  if (!socket) return socket;
  const int on = 1;
  ::setsockopt(socket->get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  const Address address = address_of(local);
  if (::bind(socket->get(), address.get(), address.length) != 0 ||
      ::listen(socket->get(), kBacklog) != 0)
    return Error::from_errno(fmt::format("listening on {}", local.text()));
  return socket;
}

UniqueFd begin_connect(const wire::Endpoint& peer) {
  Result<UniqueFd> socket = make_socket(peer.address.family());
  if (!socket) return {};
  const Address address = address_of(peer);
  if (::connect(socket->get(), address.get(), address.length) != 0 && errno != EINPROGRESS)
    return {};
  return std::move(*socket);
}

}  // namespace weir::bench
