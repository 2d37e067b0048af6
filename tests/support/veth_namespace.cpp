#include "tests/support/veth_namespace.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>

#include <cstdlib>

/// What the leak sanitizer asks a program. DPDK's driver gives a device's memory back, but not the
/// 80 bytes that libxdp keeps of it.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:xsk_umem__create\n"; }

namespace weir::testing {

Result<VethNamespace> VethNamespace::create() {
  UniqueFd original{::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)};
  if (!original) return Error::from_errno("opening this thread's network namespace");
  if (::unshare(CLONE_NEWNET) != 0) return Error::from_errno("making a network namespace");
  VethNamespace made{std::move(original)};
  // Without IPv6 autoconfiguration: router solicitations would be frames that no test expects.
  const int status =
      run("ip link set lo up && ip link add host type veth peer name worker && "
          "echo 1 > /proc/sys/net/ipv6/conf/host/disable_ipv6 && "
          "echo 1 > /proc/sys/net/ipv6/conf/worker/disable_ipv6 && "
          "ip link set host up && ip link set worker up");
  if (status != 0)
    return Error{ErrorCode::kUnavailable, "making a veth pair failed", "install iproute2"};
  return made;
}

VethNamespace::~VethNamespace() {
  if (original_) static_cast<void>(::setns(original_.get(), CLONE_NEWNET));
}

bool VethNamespace::ip(std::string_view arguments) {
  return run("ip " + std::string{arguments}) == 0;
}

int VethNamespace::run(const std::string& command) {
  // A child inherits the namespace of the thread that forks it.
  const int status = std::system(command.c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace weir::testing
