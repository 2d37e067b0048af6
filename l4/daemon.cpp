// weir-l4: the daemon of the XDP plane. It ends on SIGTERM or SIGINT and leaves traffic flowing.

#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <filesystem>
#include <mutex>

#include "l4/base/capabilities.h"
#include "l4/base/log.h"
#include "l4/base/signals.h"
#include "l4/control/admin.h"
#include "l4/control/prober.h"
#include "l4/plane.h"
#include "l4/routes.h"
#include "l4/watch.h"
#include "tools/man/page.h"

namespace weir::l4 {
namespace {

constexpr int kTickMs = 1000;

/// Neighbours and routes can change thousands of times a second; one round of resolving takes them
/// all in.
constexpr int kSettleMs = 50;

/// The rights that loading, attaching and making devices take.
Result<void> check_rights() {
  std::string missing;
  if (!has_capability(CAP_BPF) && !has_capability(CAP_SYS_ADMIN)) missing += " CAP_BPF";
  if (!has_capability(CAP_NET_ADMIN)) missing += " CAP_NET_ADMIN";
  if (missing.empty()) return {};
  return Error{ErrorCode::kDenied, fmt::format("weir-l4 lacks the right{}", missing),
               "start it as root, or from its systemd unit"};
}

/// What it goes on needing: devices, programs and maps, objects by their id, and the counters of
/// programs. Everything else that root can do is given up.
Result<void> drop_rights() {
  // Before Linux 5.11 maps count as locked memory, and only CAP_SYS_RESOURCE, which goes now, may
  // raise the limit. A refusal matters on those kernels alone; loading then says so.
  constexpr rlimit kUnlimited{RLIM_INFINITY, RLIM_INFINITY};
  static_cast<void>(::setrlimit(RLIMIT_MEMLOCK, &kUnlimited));
  // Health checks by echo need a right of their own where ping sockets are not allowed.
  if (control::echo_needs_raw_sockets())
    return keep_only_capabilities(
        {CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN, CAP_NET_RAW});
  return keep_only_capabilities({CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN});
}

/// Until the next tick, or until health changes something by time alone.
int wait_ms(const Plane& plane, std::mutex& mutex) {
  const std::lock_guard lock{mutex};
  const Instant event = plane.next_health_event();
  if (event == kNever) return kTickMs;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(event - monotonic_now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, kTickMs));
}

Result<void> run_loop(Plane& plane, std::mutex& mutex, const UniqueFd& signals) {
  const int network = plane.network_fd();
  for (;;) {
    std::array<pollfd, 3> watched{pollfd{signals.get(), POLLIN, 0}, pollfd{network, POLLIN, 0},
                                  pollfd{plane.prober_fd(), POLLIN, 0}};
    const int ready = ::poll(watched.data(), watched.size(), wait_ms(plane, mutex));
    if (ready < 0 && errno != EINTR) return Error::from_errno("waiting for events");
    if (watched[0].revents != 0) return {};
    if (ready > 0 && watched[1].revents != 0) {
      // Let a burst of changes come in whole, but keep listening for the signal to end.
      ::poll(watched.data(), 1, kSettleMs);
      const std::lock_guard lock{mutex};
      plane.on_network_change();
    }
    const std::lock_guard lock{mutex};
    plane.on_tick(monotonic_now());
    plane.on_health(monotonic_now());
  }
}

Result<void> run(const std::string& socket, const PlaneOptions& options) {
  if (Result<void> allowed = check_rights(); !allowed) return allowed;
  if (Result<void> dropped = drop_rights(); !dropped) return dropped;
  Result<UniqueFd> signals = take_signals({SIGTERM, SIGINT});
  if (!signals) return std::move(signals).error();
  const Instant started = monotonic_now();
  Result<std::unique_ptr<Plane>> plane = Plane::open(options);
  if (!plane) return std::move(plane).error();
  std::error_code ignored;  // starting the server tells what is wrong with the place
  std::filesystem::create_directories(std::filesystem::path{socket}.parent_path(), ignored);
  std::mutex mutex;
  Result<control::AdminServer> server =
      control::AdminServer::start({.socket_path = socket, .socket_mode = S_IRUSR | S_IWUSR},
                                  [&](const control::AdminRequest& request) {
                                    const std::lock_guard lock{mutex};
                                    if (is_watch(request))
                                      return watch_packets(**plane, mutex, request);
                                    return handle_request(**plane, request, started);
                                  });
  if (!server) return std::move(server).error();
  log_info("weir-l4 serves {}, revision {}", socket, (*plane)->desired().revision);
  Result<void> ended = run_loop(**plane, mutex, *signals);
  server->stop();
  log_info("weir-l4 ends; traffic keeps flowing until 'weir unload'");
  return ended;
}

}  // namespace
}  // namespace weir::l4

int main(int argc, char** argv) {
  CLI::App app{"weir-l4: the daemon of Weir's XDP plane"};
  std::string socket{weir::control::kL4SocketDefault};
  weir::l4::PlaneOptions options;
  app.add_option("--socket", socket, "Admin API, a unix socket")->capture_default_str();
  app.add_option("--state-dir", options.state_directory, "Where the desired state is kept")
      ->capture_default_str();
  app.add_option("--pin-dir", options.pin_directory, "Where kernel objects are pinned")
      ->capture_default_str();
  weir::man::add_man_option(app, "weir-l4");
  CLI11_PARSE(app, argc, argv);
  const weir::Result<void> ended = weir::l4::run(socket, options);
  if (ended) return 0;
  weir::log_error("{}", ended.error().text());
  return 1;
}
