// weir-l4: the daemon of the XDP plane. It ends on SIGTERM or SIGINT and leaves traffic flowing.

#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "l4/base/capabilities.h"
#include "l4/base/log.h"
#include "l4/base/signals.h"
#include "l4/control/admin.h"
#include "l4/control/admin_flags.h"
#include "l4/control/config_watch.h"
#include "l4/control/prober.h"
#include "l4/metrics.h"
#include "l4/plane.h"
#include "l4/reload.h"
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

struct ReloadOptions {
  std::string config;  ///< absolute; empty: what was applied last
  bool watch = false;
};

/// What SIGHUP asks for.
void reload_now(Plane& plane, const ReloadOptions& options) {
  if (options.config.empty()) return reload_last(plane, "SIGHUP");
  reload(plane, options.config, "SIGHUP");
}

/// Whether it is a signal to end; SIGHUP is answered here.
bool ends(const UniqueFd& signals, Plane& plane, std::mutex& mutex, const ReloadOptions& options) {
  signalfd_siginfo info{};
  while (::read(signals.get(), &info, sizeof(info)) == sizeof(info)) {
    if (info.ssi_signo != SIGHUP) return true;
    const std::lock_guard lock{mutex};
    reload_now(plane, options);
  }
  return false;
}

/// Until the next tick, until health changes something by time alone, or until the configuration
/// has settled.
int wait_ms(const Plane& plane, std::mutex& mutex,
            const std::optional<control::ConfigWatch>& watch) {
  const std::lock_guard lock{mutex};
  const Instant event = std::min(plane.next_health_event(), watch ? watch->deadline() : kNever);
  if (event == kNever) return kTickMs;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(event - monotonic_now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, kTickMs));
}

Result<void> run_loop(Plane& plane, std::mutex& mutex, const UniqueFd& signals,
                      const ReloadOptions& options, std::optional<control::ConfigWatch>& watch) {
  const int network = plane.network_fd();
  const int config = watch ? watch->fd() : -1;  // poll() passes over what is negative
  for (;;) {
    std::array<pollfd, 4> watched{pollfd{signals.get(), POLLIN, 0}, pollfd{network, POLLIN, 0},
                                  pollfd{plane.prober_fd(), POLLIN, 0}, pollfd{config, POLLIN, 0}};
    const int ready = ::poll(watched.data(), watched.size(), wait_ms(plane, mutex, watch));
    if (ready < 0 && errno != EINTR) return Error::from_errno("waiting for events");
    if (watched[0].revents != 0 && ends(signals, plane, mutex, options)) return {};
    if (watched[3].revents != 0) watch->on_readable(monotonic_now());
    if (ready > 0 && watched[1].revents != 0) {
      // Let a burst of changes come in whole, but keep listening for the signal to end.
      ::poll(watched.data(), 1, kSettleMs);
      const std::lock_guard lock{mutex};
      plane.on_network_change();
    }
    const std::lock_guard lock{mutex};
    if (watch && watch->take_change(monotonic_now())) reload(plane, watch->path(), "changed");
    plane.on_tick(monotonic_now());
    plane.on_health(monotonic_now());
  }
}

struct Options {
  control::AdminFlags admin{.socket = std::string{control::kL4SocketDefault}};
  PlaneOptions plane;
  ReloadOptions reloads;
  std::string log_format = "text";
  std::size_t metrics_series_max = kSeriesMaxDefault;
};

bool is_metrics(const control::AdminRequest& request) {
  return request.method == kMetricsOperation.method && request.path == kMetricsOperation.path;
}

Result<void> run(const Options& options) {
  const std::string& socket = options.admin.socket;
  const ReloadOptions& reloads = options.reloads;
  if (Result<void> allowed = check_rights(); !allowed) return allowed;
  Result<control::AdminServerOptions> admin = control::take_admin_flags(options.admin);
  if (!admin) return std::move(admin).error();
  if (Result<void> dropped = drop_rights(); !dropped) return dropped;
  Result<UniqueFd> signals = take_signals({SIGTERM, SIGINT, SIGHUP});
  if (!signals) return std::move(signals).error();
  const Instant started = monotonic_now();
  Result<std::unique_ptr<Plane>> plane = Plane::open(options.plane);
  if (!plane) return std::move(plane).error();
  // First: nothing is missed.
  auto watch = control::ConfigWatch::open_if(reloads.watch, reloads.config);
  if (!watch) return std::move(watch).error();
  if (!reloads.config.empty()) reload(**plane, reloads.config, kAtStart);
  std::error_code ignored;  // starting the server tells what is wrong with the place
  std::filesystem::create_directories(std::filesystem::path{socket}.parent_path(), ignored);
  std::mutex mutex;
  Result<control::AdminServer> server =
      control::AdminServer::start(*admin, [&](const control::AdminRequest& request) {
        const std::lock_guard lock{mutex};
        if (is_watch(request)) return watch_packets(**plane, mutex, request);
        if (is_metrics(request)) return metrics_reply(**plane, options.metrics_series_max);
        return handle_request(**plane, request, started);
      });
  if (!server) return std::move(server).error();
  log_line(LogLevel::kInfo, "weir-l4 is up",
           std::array{LogField{"socket", socket},
                      LogField{"revision", std::to_string((*plane)->desired().revision)}});
  control::log_doors(*admin);
  Result<void> ended = run_loop(**plane, mutex, *signals, reloads, *watch);
  server->stop();
  log_info("weir-l4 ends; traffic keeps flowing until 'weir unload'");
  return ended;
}

}  // namespace
}  // namespace weir::l4

int main(int argc, char** argv) {
  CLI::App app{"weir-l4: the daemon of Weir's XDP plane"};
  weir::l4::Options options;
  weir::control::add_admin_flags(app, options.admin);
  app.add_option("--state-dir", options.plane.state_directory, "Where the desired state is kept")
      ->capture_default_str();
  app.add_option("--pin-dir", options.plane.pin_directory, "Where kernel objects are pinned")
      ->capture_default_str();
  app.add_option("--log-format", options.log_format, "text for people, json for programs")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  app.add_option(
         "--metrics-series-max", options.metrics_series_max,
         "So many series of VIPs and backends at most, three or four of each; what is left out "
         "is counted")
      ->capture_default_str();
  app.add_option("--revisions", options.plane.revisions_max, "How many revisions are kept on disk")
      ->check(CLI::Range(std::size_t{1}, std::size_t{10'000}))
      ->capture_default_str();
  CLI::Option* config = app.add_option(
      "--config", options.reloads.config,
      "Configuration file to apply at start and on SIGHUP; without it, what was applied last");
  app.add_flag("--watch", options.reloads.watch, "Apply the file again whenever it is replaced")
      ->needs(config);
  weir::man::add_man_option(app, "weir-l4");
  CLI11_PARSE(app, argc, argv);
  if (!options.reloads.config.empty())
    options.reloads.config = std::filesystem::absolute(options.reloads.config).lexically_normal();
  weir::set_log_format(*weir::parse_log_format(options.log_format), "weir-l4");
  const weir::Result<void> ended = weir::l4::run(options);
  if (ended) return 0;
  weir::log_error("{}", ended.error().text());
  return 1;
}
