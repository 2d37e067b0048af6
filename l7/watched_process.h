#pragma once

#include <sys/types.h>

#include <utility>

#include "l4/base/fd.h"
#include "l4/base/result.h"

namespace weir::l7 {

/// Another process, by a descriptor that remains its own when its number is another's
/// (pidfd_open(2)).
class WatchedProcess {
 public:
  [[nodiscard]] static Result<WatchedProcess> open(pid_t pid);

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] bool has_ended() const;
  [[nodiscard]] Result<void> send(int signal) const;

 private:
  WatchedProcess(pid_t pid, UniqueFd fd) : pid_{pid}, fd_{std::move(fd)} {}

  pid_t pid_;
  UniqueFd fd_;  // readable when it has ended
};

}  // namespace weir::l7
