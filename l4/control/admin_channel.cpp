#include "l4/control/admin_channel.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

namespace weir::control {

bool wait_for_socket(int fd, short events, Instant deadline) {
  for (;;) {  // ends with the deadline
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - monotonic_now()).count();
    pollfd watched{fd, events, 0};
    const int ready = ::poll(&watched, 1, static_cast<int>(std::max<std::int64_t>(left, 0)));
    if (ready > 0) return true;
    if (ready == 0 || errno != EINTR) return false;
  }
}

ssize_t PlainChannel::read_some(std::span<char> into, Instant deadline) {
  for (;;) {
    if (!wait_for_socket(fd_, POLLIN, deadline)) return -1;
    const ssize_t count = ::recv(fd_, into.data(), into.size(), MSG_DONTWAIT);
    if (count >= 0) return count;
    if (errno != EAGAIN && errno != EINTR) return -1;
  }
}

bool PlainChannel::write_all(std::string_view bytes, Instant deadline) {
  while (!bytes.empty()) {
    const ssize_t count = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(count));
      continue;
    }
    if (errno != EAGAIN && errno != EINTR) return false;
    if (!wait_for_socket(fd_, POLLOUT, deadline)) return false;
  }
  return true;
}

void PlainChannel::end_writing(Instant /*deadline*/) { ::shutdown(fd_, SHUT_WR); }

}  // namespace weir::control
