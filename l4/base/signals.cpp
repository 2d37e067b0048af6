#include "l4/base/signals.h"

#include <signal.h>
#include <sys/signalfd.h>

namespace weir {

Result<UniqueFd> take_signals(std::initializer_list<int> signals) {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : signals)
    ::sigaddset(&set, signal);
  if (const int error = ::pthread_sigmask(SIG_BLOCK, &set, nullptr); error != 0)
    return Error::from_errno("blocking signals", error);
  UniqueFd fd{::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)};
  if (!fd) return Error::from_errno("opening a signal descriptor");
  return fd;
}

}  // namespace weir
