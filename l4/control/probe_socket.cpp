#include "l4/control/probe_socket.h"

#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace weir::control {
namespace {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

SocketAddress socket_address(const wire::IpAddress& address, wire::Port port) {
  SocketAddress out;
  if (address.is_v4()) {
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port.value());
    std::ranges::copy(address.v4_octets(), reinterpret_cast<std::uint8_t*>(&v4.sin_addr));
    std::memcpy(&out.storage, &v4, sizeof(v4));
    out.size = sizeof(v4);
    return out;
  }
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port.value());
  std::ranges::copy(address.bytes, v6.sin6_addr.s6_addr);
  std::memcpy(&out.storage, &v6, sizeof(v6));
  out.size = sizeof(v6);
  return out;
}

int domain_of(const ProbeTarget& target) { return target.backend.is_v4() ? AF_INET : AF_INET6; }

bool set_option(const UniqueFd& socket, int level, int name, const auto& value) {
  return ::setsockopt(socket.get(), level, name, &value, sizeof(value)) == 0;
}

ProbeSocket failed(int error) { return {UniqueFd{}, error, false}; }

ProbeSocket connected(UniqueFd socket, const ProbeTarget& target, wire::Port port) {
  const auto mark = static_cast<int>(target.mark);  // the kernel's unsigned, in an int's place
  if (mark != 0 && !set_option(socket, SOL_SOCKET, SO_MARK, mark)) return failed(errno);
  const SocketAddress to = socket_address(target.backend, port);
  // sockaddr_storage is what the socket interface takes under the name of sockaddr.
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&to.storage), to.size) != 0 &&
      errno != EINPROGRESS)
    return failed(errno);
  return {std::move(socket), 0, false};
}

}  // namespace

ProbeSocket open_stream_socket(const ProbeTarget& target) {
  UniqueFd socket{::socket(domain_of(target), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  if (!socket) return failed(errno);
  // Closing resets, so that no TIME-WAIT (RFC 9293, section 3.6) keeps thousands of ports.
  constexpr linger kReset{1, 0};
  // What is sent is whole; refusals of either option cost a little and nothing else.
  constexpr int kYes = 1;
  static_cast<void>(set_option(socket, SOL_SOCKET, SO_LINGER, kReset));
  static_cast<void>(set_option(socket, IPPROTO_TCP, TCP_NODELAY, kYes));
  return connected(std::move(socket), target, target.port);
}

ProbeSocket open_datagram_socket(const ProbeTarget& target) {
  UniqueFd socket{::socket(domain_of(target), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  if (!socket) return failed(errno);
  return connected(std::move(socket), target, target.port);
}

ProbeSocket open_echo_socket(const ProbeTarget& target) {
  constexpr int kFlags = SOCK_NONBLOCK | SOCK_CLOEXEC;
  const bool is_v4 = target.backend.is_v4();
  const int protocol = is_v4 ? int{IPPROTO_ICMP} : int{IPPROTO_ICMPV6};
  UniqueFd socket{::socket(domain_of(target), SOCK_DGRAM | kFlags, protocol)};
  bool is_raw = false;
  if (!socket && (errno == EACCES || errno == EPERM)) {
    socket.reset(::socket(domain_of(target), SOCK_RAW | kFlags, protocol));
    is_raw = true;
  }
  if (!socket) return failed(errno);
  if (is_raw) {
    // Of all ICMP that comes from the backend the replies alone; what else came would be passed
    // over.
    icmp_filter replies4{};
    replies4.data = ~(1U << ICMP_ECHOREPLY);
    icmp6_filter replies6{};
    std::ranges::fill(replies6.data, ~0U);
    replies6.data[ICMPV6_ECHO_REPLY / 32] &= ~(1U << (ICMPV6_ECHO_REPLY % 32));
    static_cast<void>(is_v4 ? set_option(socket, SOL_RAW, ICMP_FILTER, replies4)
                            : set_option(socket, IPPROTO_ICMPV6, ICMPV6_FILTER, replies6));
  }
  ProbeSocket opened = connected(std::move(socket), target, wire::Port{0});
  opened.is_raw = is_raw;
  return opened;
}

int pending_error(const UniqueFd& socket) {
  int error = 0;
  socklen_t size = sizeof(error);
  return ::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

bool is_shortage(int error) {
  switch (error) {
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOBUFS:
    case EAGAIN:
    case EADDRNOTAVAIL:  // no port is free
      return true;
    default:
      return false;
  }
}

std::string error_text(int error) {
  std::string text = std::strerror(error);
  // The C library begins with a capital, and a reason is part of a line.
  if (!text.empty() && text[0] >= 'A' && text[0] <= 'Z') text[0] |= 0x20;
  return text;
}

bool echo_needs_raw_sockets() {
  const UniqueFd socket{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_ICMP)};
  return !socket && (errno == EACCES || errno == EPERM);
}

}  // namespace weir::control
