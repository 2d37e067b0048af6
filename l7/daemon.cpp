/// weir-l7: the L7 plane of one node. Opens the workers' ends of the carrier with DPDK, runs a
/// worker on each, and serves the admin API. SIGTERM drains and ends it.

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

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
#include "l7/proxy/mail.h"
#include "l7/proxy/worker.h"
#include "l7/tls/ticket_keys.h"
#include "tools/man/page.h"

namespace weir::l7 {
namespace {

struct Options {
  std::string config;
  control::AdminFlags admin{.socket = std::string{control::kL7SocketDefault}};
  std::string state_dir = "/var/lib/weir";
  std::string access_log = "/var/log/weir/access.log";
  std::string device = "weir-w";
  std::uint32_t drain_timeout_s = 30;
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

std::vector<int> allowed_cpus() {
  cpu_set_t set{};
  std::vector<int> cpus;
  if (::sched_getaffinity(0, sizeof(set), &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(static_cast<unsigned>(cpu), &set)) cpus.push_back(cpu);
  return cpus;
}

void pin_this_thread(int cpu) {
  cpu_set_t set{};
  CPU_SET(static_cast<unsigned>(cpu), &set);
  // It may have been taken away since it was listed; the worker then runs where it is put.
  static_cast<void>(::pthread_setaffinity_np(::pthread_self(), sizeof(set), &set));
}

/// The workers, each with its port, and their threads while they run.
class WorkerSet {
 public:
  /// Opens the devices and makes the workers, on this thread.
  static Result<std::unique_ptr<WorkerSet>> open(const std::string& device_prefix,
                                                 const control::Model& model);
  ~WorkerSet() { stop(); }
  WorkerSet(const WorkerSet&) = delete;
  WorkerSet& operator=(const WorkerSet&) = delete;

  /// A thread for each. While the process may use as many CPUs as there are workers, each gets one
  /// of the last of them to itself, as far as we are concerned; the rest of us runs anywhere.
  void start();
  /// Ends all threads before any worker is destroyed: until then they speak to each other.
  void stop();

  [[nodiscard]] std::vector<proxy::Worker*> all() const {
    std::vector<proxy::Worker*> workers;
    for (const Seat& seat : seats_)
      workers.push_back(seat.worker.get());
    return workers;
  }

 private:
  struct Seat {  // in this order: packets and letters that a worker holds go back first
    std::unique_ptr<port::DpdkPort> port;
    std::unique_ptr<proxy::Worker> worker;
    std::thread thread;
  };
  WorkerSet() = default;

  std::unique_ptr<proxy::MailRoom> room_;  // none for a single worker
  std::vector<Seat> seats_;
  std::atomic<bool> stop_{false};
};

Result<std::unique_ptr<WorkerSet>> WorkerSet::open(const std::string& device_prefix,
                                                   const control::Model& model) {
  const std::uint32_t count = model.node.l7.workers;
  // What a port takes with the largest MTU, and some room.
  constexpr std::uint32_t kMegabytesPerPort = 96;
  constexpr std::uint32_t kMegabytes = 160;
  if (auto started = port::start_dpdk({.memory_mb = kMegabytes + count * kMegabytesPerPort});
      !started)
    return std::move(started).error();
  std::unique_ptr<WorkerSet> set{new WorkerSet};
  std::size_t frame_bytes_max = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::string device = fmt::format("{}{}", device_prefix, i);
    auto port = port::DpdkPort::open({.device = device});
    if (!port) {
      Error error = std::move(port).error().while_doing(fmt::format("opening {}", device));
      if (i == 0) return error;
      return std::move(error).while_doing(fmt::format("starting {} workers", count));
    }
    const std::size_t frame_bytes = (*port)->capabilities().mtu + sizeof(wire::EthernetHeader);
    frame_bytes_max = std::max(frame_bytes_max, frame_bytes);
    set->seats_.push_back({std::move(*port), nullptr, {}});
  }
  if (count > 1) set->room_ = std::make_unique<proxy::MailRoom>(count, frame_bytes_max);
  for (std::uint32_t i = 0; i < count; ++i) {
    auto worker = proxy::Worker::create(*set->seats_[i].port, interface_config(model, i), {},
                                        Random::from_system(), monotonic_now(),
                                        {.room = set->room_.get(), .index = i});
    if (!worker) return std::move(worker).error();
    set->seats_[i].worker = std::move(*worker);
  }
  return set;
}

void WorkerSet::start() {
  const std::vector<int> cpus = allowed_cpus();
  const bool pinned = cpus.size() >= seats_.size();
  if (pinned)
    log_info("workers are pinned to CPUs: {}",
             fmt::join(cpus.end() - static_cast<std::ptrdiff_t>(seats_.size()), cpus.end(), ", "));
  else
    log_warning("{} workers share {} CPUs, so they delay each other", seats_.size(), cpus.size());
  for (std::size_t i = 0; i < seats_.size(); ++i) {
    const int cpu = pinned ? cpus[cpus.size() - seats_.size() + i] : -1;
    seats_[i].thread = std::thread{[this, i, cpu] {
      ::prctl(PR_SET_NAME, fmt::format("weir-worker-{}", i).c_str());
      if (cpu >= 0) pin_this_thread(cpu);
      seats_[i].worker->run(stop_);
    }};
  }
}

void WorkerSet::stop() {
  stop_.store(true);
  for (Seat& seat : seats_)
    if (seat.worker) seat.worker->wake();
  for (Seat& seat : seats_)
    if (seat.thread.joinable()) seat.thread.join();
}

std::int64_t seconds_since_1970() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

/// The keys of TLS tickets: on disk, and with all workers.
class Tickets {
 public:
  static Result<Tickets> open(const std::filesystem::path& state_dir) {
    std::error_code error;
    std::filesystem::create_directories(state_dir, error);
    auto file =
        tls::TicketKeyFile::open((state_dir / "ticket-keys").string(), seconds_since_1970());
    if (!file) return std::move(file).error();
    return Tickets{std::move(*file)};
  }

  void give_to(const std::vector<proxy::Worker*>& workers) {
    // A worker whose mailbox is full hangs; it goes on with the keys that it has.
    for (proxy::Worker* worker : workers)
      static_cast<void>(worker->install(file_.keys()));
  }

  void rotate_if_due(const std::vector<proxy::Worker*>& workers) {
    const std::int64_t now_s = seconds_since_1970();
    if (now_s < not_before_s_ || !file_.is_due(now_s)) return;
    if (auto rotated = file_.rotate(now_s); !rotated) {
      log_error("TLS ticket keys stay as they are: {}", rotated.error().text());
      not_before_s_ = now_s + kRetryS;
      return;
    }
    give_to(workers);
  }

 private:
  static constexpr std::int64_t kRetryS = 60;
  explicit Tickets(tls::TicketKeyFile file) : file_{std::move(file)} {}
  tls::TicketKeyFile file_;
  std::int64_t not_before_s_ = 0;  // after a failure
};

/// The control thread: logs, retired configurations, ticket keys and signals, until told to stop.
void supervise(int signals, const std::vector<proxy::Worker*>& workers, LogWriter& log,
               Tickets& tickets, EndpointHealth& health) {
  while (true) {
    signalfd_siginfo info;
    while (::read(signals, &info, sizeof(info)) == sizeof(info)) {
      if (info.ssi_signo != SIGHUP) {
        log_info("stopping on signal {}", info.ssi_signo);
        return;
      }
      if (auto opened = log.reopen(); !opened) log_error("{}", opened.error().text());
    }
    for (proxy::Worker* worker : workers) {
      log.drain(worker->access_log());
      worker->destroy_retired();
    }
    tickets.rotate_if_due(workers);
    health.advance(monotonic_now());
    std::this_thread::sleep_for(std::chrono::milliseconds{50});
  }
}

/// Lets connections end with the request that they carry, for at most so long; another signal ends
/// the wait. TIME-WAIT is not waited for: nobody is kept waiting by it.
void drain(int signals, const std::vector<proxy::Worker*>& workers, LogWriter& log,
           Duration longest) {
  for (proxy::Worker* worker : workers)
    if (!worker->begin_drain()) log_error("a worker that hangs is not drained");
  const Instant deadline = monotonic_now() + longest;
  std::uint64_t left = 0;
  while (monotonic_now() < deadline) {
    signalfd_siginfo info;
    if (::read(signals, &info, sizeof(info)) == sizeof(info) && info.ssi_signo != SIGHUP) break;
    left = 0;
    for (proxy::Worker* worker : workers) {
      log.drain(worker->access_log());
      worker->destroy_retired();
      const auto report = worker->report(std::chrono::milliseconds{500});
      // One that does not answer has something left.
      left += report ? report->core.connections + report->tcp.connections : 1;
    }
    if (left == 0) {
      log_info("all connections have ended");
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
  }
  log_warning("ending with {} connections open", left);
}

Result<void> run(const Options& options) {
  Result<UniqueFd> signals = take_signals({SIGTERM, SIGINT, SIGHUP});
  if (!signals) return std::move(signals).error();
  Result<control::AdminServerOptions> admin = control::take_admin_flags(options.admin);
  if (!admin) return std::move(admin).error();
  AdminApi api{std::filesystem::path{options.state_dir} / "l7.json", options.device};
  Result<control::ConfigSubmission> first = first_submission(options, api);
  if (!first) return std::move(first).error();
  auto outcome = api.prepare(*first);
  if (const auto* refused = std::get_if<AdminApi::Refused>(&outcome))
    return Error{ErrorCode::kInvalid, refused->text()};
  auto& prepared = std::get<AdminApi::Prepared>(outcome);

  Result<Tickets> tickets = Tickets::open(options.state_dir);
  if (!tickets) return std::move(tickets).error();
  Result<LogWriter> log = LogWriter::open(options.access_log);
  if (!log) return std::move(log).error();
  auto opened = WorkerSet::open(options.device, prepared.model);
  if (!opened) return std::move(opened).error();
  WorkerSet& workers = **opened;
  tickets->give_to(workers.all());
  if (auto started = api.start(std::move(prepared), *first, workers.all()); !started)
    return started;

  // From here on bytes from outside are parsed. Only taking the driver's programs off the devices
  // at the end still needs a right.
  if (auto dropped = keep_only_capabilities({CAP_NET_ADMIN}); !dropped) return dropped;

  workers.start();
  std::error_code ignored;  // starting the server tells what is wrong with the place
  std::filesystem::create_directories(std::filesystem::path{options.admin.socket}.parent_path(),
                                      ignored);
  auto server = control::AdminServer::start(
      *admin, [&](const control::AdminRequest& request) { return api.handle(request); });
  if (server) control::log_doors(*admin);
  if (server) {
    supervise(signals->get(), workers.all(), *log, *tickets, api.health());
    drain(signals->get(), workers.all(), *log, std::chrono::seconds{options.drain_timeout_s});
  }
  if (server) server->stop();
  workers.stop();
  for (proxy::Worker* worker : workers.all())
    log->drain(worker->access_log());
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
  app.add_option("--access-log", options.access_log, "one line per request; - for stdout")
      ->capture_default_str();
  app.add_option("--device", options.device,
                 "what the workers' ends of the carrier that weir-l4 makes are called, without "
                 "their number: worker 0 opens weir-w0")
      ->capture_default_str();
  app.add_option("--drain-timeout", options.drain_timeout_s,
                 "seconds that SIGTERM gives connections to end with what they carry; 0: none")
      ->check(CLI::Range(0U, 86'400U))
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
