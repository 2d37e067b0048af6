#include "l7/watched_process.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace weir::l7 {

Result<WatchedProcess> WatchedProcess::open(pid_t pid) {
  UniqueFd fd{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))};
  if (!fd) return Error::from_errno(fmt::format("watching process {}", pid));
  return WatchedProcess{pid, std::move(fd)};
}

bool WatchedProcess::has_ended() const {
  pollfd entry{.fd = fd_.get(), .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, 0) == 1;
}

Result<void> WatchedProcess::send(int signal) const {
  if (::syscall(SYS_pidfd_send_signal, fd_.get(), signal, nullptr, 0) == 0) return {};
  return Error::from_errno(fmt::format("sending signal {} to process {}", signal, pid_));
}

}  // namespace weir::l7
