#pragma once

#include <atomic>
#include <cstdint>

#include "l4/base/clock.h"
#include "l4/base/fd.h"
#include "l4/base/result.h"
#include "l4/wire/address.h"

namespace weir::bench {

/// What runs on a KernelLoop. Events are edge-triggered and of both directions, so that a
/// descriptor is registered once.
class KernelApplication {
 public:
  virtual ~KernelApplication() = default;
  virtual void on_event(std::uint64_t user, std::uint32_t events, Instant now) = 0;
  virtual void advance(Instant now) { static_cast<void>(now); }
  [[nodiscard]] virtual Instant next_deadline() const { return kNever; }
  [[nodiscard]] virtual bool is_finished() const { return false; }
};

/// One thread, one epoll descriptor: how a well-made server uses the kernel's stack.
class KernelLoop {
 public:
  [[nodiscard]] static Result<KernelLoop> create();

  /// Registers a descriptor for good: closing it takes it out.
  Result<void> add(int fd, std::uint64_t user);
  /// Until the application has finished, or `stop` and a signal. `poll` never sleeps.
  void run(KernelApplication& application, const std::atomic<bool>& stop, bool poll);

 private:
  explicit KernelLoop(UniqueFd epoll) : epoll_{std::move(epoll)} {}
  UniqueFd epoll_;
};

/// A TCP socket, non-blocking and without Nagle's delay.
[[nodiscard]] Result<UniqueFd> make_socket(wire::Family family);
[[nodiscard]] Result<UniqueFd> listen_on(const wire::Endpoint& local);
/// Begins to connect; nothing when no local port is left.
[[nodiscard]] UniqueFd begin_connect(const wire::Endpoint& peer);
void set_no_delay(int fd);

}  // namespace weir::bench
