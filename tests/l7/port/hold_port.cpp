/// hold_port DEVICE: opens a DPDK port and keeps it for twenty seconds, for tests that kill whoever
/// holds one.

#include <fmt/format.h>
#include <poll.h>

#include "l7/port/dpdk_port.h"

int main(int argc, char** argv) {
  using namespace weir::port;
  if (argc != 2) return 2;
  auto started = start_dpdk({});
  auto port = DpdkPort::open({.device = argv[1], .frames = 8191});
  if (!started || !port) {
    fmt::print(stderr, "hold_port: {}\n", started ? port.error().text() : started.error().text());
    return 1;
  }
  ::poll(nullptr, 0, 20000);
  return 0;
}
