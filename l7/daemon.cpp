/// weir-l7: the L7 plane of one node. Opens the worker's end of the carrier with DPDK, runs one
/// worker on it, and serves the admin API. SIGTERM ends it.

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "l4/base/capabilities.h"
#include "l4/base/fd.h"
#include "l4/base/log.h"
#include "l4/base/random.h"
#include "l4/base/signals.h"
#include "l4/control/admin.h"
#include "l4/control/admin_flags.h"
#include "l4/control/config.h"
#include "l7/admin_api.h"
#include "l7/port/dpdk_port.h"
#include "l7/proxy/worker.h"
#include "tools/man/page.h"

namespace weir::l7 {
namespace {

struct Options {
  std::string config;
  control::AdminFlags admin{.socket = std::string{control::kL7SocketDefault}};
  std::string state_dir = "/var/lib/weir";
  std::string access_log = "/var/log/weir/access.log";
  std::string device = "weir-w0";
  std::string log_format = "text";
};

/// Empties the workers' logs into a file, opened anew on request so that it can be rotated.
class LogWriter {
 public:
  static Result<LogWriter> open(const std::string& path) {
    LogWriter writer;
    writer.path_ = path;
    if (auto opened = writer.reopen(); !opened) return std::move(opened).error();
    return writer;
  }

  Result<void> reopen() {
    if (path_ == "-") return {};
    std::error_code error;
    std::filesystem::create_directories(std::filesystem::path{path_}.parent_path(), error);
    UniqueFd file{::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640)};
    if (!file)
      return Error::from_errno(fmt::format("opening the access log {}", path_))
          .with_remedy("name another one with --access-log, '-' for standard output");
    file_ = std::move(file);
    return {};
  }

  void drain(proxy::AccessLog& log) {
    buffer_.clear();
    log.drain(buffer_);
    if (buffer_.empty()) return;
    if (std::exchange(cut_, false)) buffer_.insert(0, "\n");
    const int fd = path_ == "-" ? STDOUT_FILENO : file_.get();
    std::string_view rest = buffer_;
    while (!rest.empty()) {
      const ssize_t written = ::write(fd, rest.data(), rest.size());
      if (written <= 0) {
        // A full disk must not stop traffic. What is lost is counted, and said once until it works
        // again; a line that was cut gets an end, so that the next one stands alone.
        if (!failing_) log_error("writing the access log {}: {}", path_, std::strerror(errno));
        failing_ = true;
        cut_ = cut_ || rest.size() < buffer_.size();
        lost_bytes_ += rest.size();
        return;
      }
      rest.remove_prefix(static_cast<std::size_t>(written));
    }
    if (failing_) log_info("the access log is written again; {} bytes were lost", lost_bytes_);
    failing_ = false;
  }

 private:
  std::string path_;
  UniqueFd file_;
  std::string buffer_;
  bool failing_ = false;
  bool cut_ = false;  // the file ends in half a line
  std::uint64_t lost_bytes_ = 0;
};

Result<control::ConfigSubmission> first_submission(const Options& options, const AdminApi& api) {
  if (!options.config.empty()) {
    Result<std::string> text = control::read_config_file(options.config);
    if (!text) return std::move(text).error();
    const std::string file = std::filesystem::absolute(options.config).lexically_normal().string();
    return control::ConfigSubmission{file, std::move(*text)};
  }
  auto kept = api.read_state();
  if (!kept) return std::move(kept).error();
  if (!*kept)
    return Error{ErrorCode::kNotFound, "no configuration: nothing was applied here yet",
                 "start with --config FILE"};
  return std::move(**kept);
}

/// The control thread: logs, retired configurations and signals, until told to stop.
void supervise(int signals, proxy::Worker& worker, LogWriter& log) {
  while (true) {
    signalfd_siginfo info;
    while (::read(signals, &info, sizeof(info)) == sizeof(info)) {
      if (info.ssi_signo != SIGHUP) {
        log_info("stopping on signal {}", info.ssi_signo);
        return;
      }
      if (auto opened = log.reopen(); !opened) log_error("{}", opened.error().text());
    }
    log.drain(worker.access_log());
    worker.destroy_retired();
    std::this_thread::sleep_for(std::chrono::milliseconds{50});
  }
}

Result<void> run(const Options& options) {
  Result<UniqueFd> signals = take_signals({SIGTERM, SIGINT, SIGHUP});
  if (!signals) return std::move(signals).error();
  Result<control::AdminServerOptions> admin = control::take_admin_flags(options.admin);
  if (!admin) return std::move(admin).error();
  AdminApi api{std::filesystem::path{options.state_dir} / "l7.json", options.device};
  Result<control::ConfigSubmission> first = first_submission(options, api);
  if (!first) return std::move(first).error();
  auto outcome = api.prepare(*first, 1);
  if (const auto* refused = std::get_if<AdminApi::Refused>(&outcome))
    return Error{ErrorCode::kInvalid, refused->text()};
  auto& prepared = std::get<AdminApi::Prepared>(outcome);

  Result<LogWriter> log = LogWriter::open(options.access_log);
  if (!log) return std::move(log).error();
  if (auto started = port::start_dpdk({}); !started) return started;
  auto port = port::DpdkPort::open({.device = options.device});
  if (!port) return std::move(port).error().while_doing(fmt::format("opening {}", options.device));

  auto worker = proxy::Worker::create(**port, interface_config(prepared.model), {},
                                      Random::from_system(), monotonic_now());
  if (!worker) return std::move(worker).error();
  if (auto started = api.start(std::move(prepared), *first, **worker); !started) return started;

  // From here on bytes from outside are parsed. Only taking the driver's program off the device at
  // the end still needs a right.
  if (auto dropped = keep_only_capabilities({CAP_NET_ADMIN}); !dropped) return dropped;

  std::atomic<bool> stop{false};
  std::thread thread{[&] {
    ::prctl(PR_SET_NAME, "weir-worker-0");
    (*worker)->run(stop);
  }};
  std::error_code ignored;  // starting the server tells what is wrong with the place
  std::filesystem::create_directories(std::filesystem::path{options.admin.socket}.parent_path(),
                                      ignored);
  auto server = control::AdminServer::start(
      *admin, [&](const control::AdminRequest& request) { return api.handle(request); });
  if (server) control::log_doors(*admin);
  if (server) supervise(signals->get(), **worker, *log);
  stop.store(true);
  (*worker)->wake();
  if (server) server->stop();
  thread.join();
  log->drain((*worker)->access_log());
  if (!server) return std::move(server).error();
  return {};
}

}  // namespace
}  // namespace weir::l7

int main(int argc, char** argv) {
  weir::l7::Options options;
  CLI::App app{"weir-l7: terminates TLS and HTTP for the gateways of this node"};
  app.add_option("--config", options.config,
                 "configuration file; without it, the one that was applied last");
  weir::control::add_admin_flags(app, options.admin);
  app.add_option("--state-dir", options.state_dir, "what must survive a restart")
      ->capture_default_str();
  app.add_option("--access-log", options.access_log, "one line of JSON per request; - for stdout")
      ->capture_default_str();
  app.add_option("--device", options.device, "the worker's end of the carrier that weir-l4 makes")
      ->capture_default_str();
  app.add_option("--log-format", options.log_format, "text for people, json for programs")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  app.set_version_flag("--version", std::string{"weir-l7 "} + WEIR_VERSION);
  weir::man::add_man_option(app, "weir-l7");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  weir::set_log_format(*weir::parse_log_format(options.log_format), "weir-l7");
  if (auto result = weir::l7::run(options); !result) {
    if (options.log_format == "json") {
      weir::log_error("{}", result.error().text());
    } else {
      fmt::print(stderr, "weir-l7: {}\n", result.error().text());
    }
    return 1;
  }
  return 0;
}
