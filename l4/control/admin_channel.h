#pragma once

#include <sys/types.h>

#include <span>
#include <string_view>

#include "l4/base/clock.h"
#include "l4/base/fd.h"

/// One client's bytes, both ways, with a deadline on every wait.
namespace weir::control {

class AdminChannel {
 public:
  virtual ~AdminChannel() = default;
  AdminChannel() = default;
  AdminChannel(const AdminChannel&) = delete;
  AdminChannel& operator=(const AdminChannel&) = delete;

  /// At least one byte; 0 where no more will come, -1 on failure and at the deadline.
  virtual ssize_t read_some(std::span<char> into, Instant deadline) = 0;
  /// False when the client is gone, or takes nothing until the deadline.
  virtual bool write_all(std::string_view bytes, Instant deadline) = 0;
  /// Says that no more will be written.
  virtual void end_writing(Instant deadline) = 0;
};

/// Waits until the socket is ready for `events` of poll(2). False at the deadline.
bool wait_for_socket(int fd, short events, Instant deadline);

/// In the clear, over a socket of the caller's that does not block.
class PlainChannel : public AdminChannel {
 public:
  explicit PlainChannel(int fd) : fd_{fd} {}
  ssize_t read_some(std::span<char> into, Instant deadline) override;
  bool write_all(std::string_view bytes, Instant deadline) override;
  void end_writing(Instant deadline) override;

 private:
  int fd_;
};

}  // namespace weir::control
