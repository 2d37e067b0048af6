/// weir-l7: the L7 plane of one node. Opens the workers' ends of the carrier with DPDK, runs a
/// worker on each, and serves the admin API. SIGTERM drains and ends it; take_over.h says how
/// another process takes over.

#include <fmt/format.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdint>
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
#include "l4/control/config_watch.h"
#include "l7/admin_api.h"
#include "l7/config_follower.h"
#include "l7/log_writer.h"
#include "l7/proxy/worker.h"
#include "l7/take_over.h"
#include "l7/tls/ticket_keys.h"
#include "l7/worker_set.h"
#include "tools/man/page.h"

namespace weir::l7 {
namespace {

constexpr const char* kLaneFile = "l7-lane";  // in the state directory

struct Options {
  std::string config;  ///< absolute; empty: what was applied last
  bool watch = false;
  control::AdminFlags admin{.socket = std::string{control::kL7SocketDefault}};
  std::string state_dir = "/var/lib/weir";
  std::string access_log = "/var/log/weir/access.log";
  std::string device = "weir-w";
  std::uint32_t drain_timeout_s = 30;
  bool take_over = false;
  std::uint32_t old_connections_s = 600;
  std::string l4_socket{control::kL4SocketDefault};
  std::string log_format = "text";
};

Result<control::ConfigSubmission> first_submission(const Options& options, const AdminApi& api) {
  if (!options.config.empty()) {
    Result<std::string> text = control::read_config_file(options.config);
    if (!text) return std::move(text).error();
    return control::ConfigSubmission{options.config, std::move(*text)};
  }
  auto kept = api.read_state();
  if (!kept) return std::move(kept).error();
  if (!*kept)
    return Error{ErrorCode::kNotFound, "no configuration: nothing was applied here yet",
                 "start with --config FILE"};
  return std::move(**kept);
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

/// What the control thread does again and again.
class Caretaker {
 public:
  Caretaker(std::vector<proxy::Worker*> workers, LogWriter& log, Tickets& tickets, AdminApi& api)
      : workers_{std::move(workers)}, log_{log}, tickets_{tickets}, api_{api} {}

  /// How long the next one may wait.
  Duration round() {
    std::size_t logged = 0;
    for (proxy::Worker* worker : workers_) {
      logged = std::max(logged, log_.drain(worker->access_log()));
      worker->destroy_retired();
    }
    // Whoever has taken over makes the keys.
    if (!is_retired_) tickets_.rotate_if_due(workers_);
    api_.follow_names(monotonic_now());
    api_.health().advance(monotonic_now());
    if (predecessor_ && predecessor_->has_ended()) {
      log_info("the weir-l7 before this one, process {}, has ended", predecessor_->pid());
      set_predecessor(false);
      predecessor_.reset();
    }
    return logged < proxy::AccessLog::kRingBytes / 16 ? kPause : kShortPause;
  }
  [[nodiscard]] bool has_predecessor() const { return predecessor_.has_value(); }
  void follow(Predecessor predecessor) { predecessor_.emplace(std::move(predecessor)); }
  /// False while a worker hangs.
  bool set_predecessor(bool exists) {
    bool all = true;
    for (proxy::Worker* worker : workers_)
      all = worker->set_predecessor(exists) && all;
    return all;
  }
  void retire() { is_retired_ = true; }
  void reopen_log() {
    if (auto opened = log_.reopen(); !opened) log_error("{}", opened.error().text());
  }

  /// Connections, of the proxy or of TCP; TIME-WAIT does not count: nobody is kept waiting by it.
  [[nodiscard]] std::uint64_t connections() const {
    std::uint64_t sum = 0;
    for (proxy::Worker* worker : workers_) {
      const auto report = worker->report(std::chrono::milliseconds{500});
      // One that does not answer has something left.
      sum += report ? report->core.connections + report->tcp.connections : 1;
    }
    return sum;
  }
  void begin_drain(proxy::DrainKind kind) {
    for (proxy::Worker* worker : workers_)
      if (!worker->begin_drain(kind)) log_error("a worker that hangs is not drained");
  }

 private:
  static constexpr Duration kPause = std::chrono::milliseconds{50};
  /// While so much is logged that the ring could be full after a pause.
  static constexpr Duration kShortPause = std::chrono::milliseconds{5};
  std::vector<proxy::Worker*> workers_;
  LogWriter& log_;
  Tickets& tickets_;
  AdminApi& api_;
  std::optional<Predecessor> predecessor_;
  bool is_retired_ = false;
};

/// The next signal that is there, but for SIGHUP, which is dealt with here.
std::optional<std::uint32_t> next_signal(int signals, Caretaker& caretaker) {
  signalfd_siginfo info;
  while (::read(signals, &info, sizeof(info)) == sizeof(info)) {
    if (info.ssi_signo != SIGHUP) return info.ssi_signo;
    caretaker.reopen_log();
  }
  return std::nullopt;
}

/// The API's doors.
class Doors {
 public:
  Doors(const control::AdminServerOptions& options, AdminApi& api) : options_{options}, api_{api} {}

  Result<void> open() {
    std::error_code ignored;  // starting the server tells what is wrong with the place
    std::filesystem::create_directories(std::filesystem::path{options_.socket_path}.parent_path(),
                                        ignored);
    auto server = control::AdminServer::start(
        options_, [&](const control::AdminRequest& request) { return api_.handle(request); });
    if (!server) return std::move(server).error();
    server_.emplace(std::move(*server));
    control::log_doors(options_);
    return {};
  }

  /// Those of the process that was here before close first; and whatever else stands in the way,
  /// traffic goes on. Call it again and again.
  void open_when_possible(Instant now) {
    if (server_ || now < next_try_) return;
    next_try_ = now + kPause;
    const Result<void> opened = open();
    if (opened) return;
    if (complain_at_ == Instant{}) complain_at_ = now + kPatience;
    if (now < complain_at_) return;
    complain_at_ = now + kSilence;
    log_error("traffic is served, but not the API: {}", opened.error().text());
  }

  void close() {
    if (server_) server_->stop();
  }
  /// To the process that takes over.
  void hand_over() {
    if (server_) server_->hand_over();
  }

 private:
  static constexpr Duration kPause = std::chrono::milliseconds{100};
  static constexpr Duration kPatience = std::chrono::seconds{10};
  static constexpr Duration kSilence = std::chrono::minutes{1};
  const control::AdminServerOptions& options_;
  AdminApi& api_;
  std::optional<control::AdminServer> server_;
  Instant next_try_{};
  Instant complain_at_{};
};

/// The control thread's life, until a signal, or another process, ends it: how long connections may
/// last then.
std::optional<Duration> supervise(int signals, Caretaker& caretaker, AdminApi& api, Doors& doors,
                                  std::optional<control::ConfigWatch> watch) {
  std::optional<ConfigFollower> follower;
  if (watch) follower.emplace(*std::move(watch), api);
  while (true) {
    if (const auto signal = next_signal(signals, caretaker)) {
      log_info("stopping on signal {}", *signal);
      return std::nullopt;
    }
    if (const auto longest = api.retirement()) return longest;
    doors.open_when_possible(monotonic_now());
    std::this_thread::sleep_for(caretaker.round());
  }
}

/// Lets connections end with the request that they carry, for at most so long; a signal ends the
/// wait.
void drain(int signals, Caretaker& caretaker, proxy::DrainKind kind, Duration longest) {
  caretaker.begin_drain(kind);
  const Instant deadline = monotonic_now() + longest;
  std::uint64_t left = 0;
  while (monotonic_now() < deadline) {
    if (next_signal(signals, caretaker)) break;
    caretaker.round();
    left = caretaker.connections();
    // What belongs to the process before this one comes through it.
    if (left == 0 && !caretaker.has_predecessor()) {
      log_info("all connections have ended");
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
  }
  log_warning("ending with {} connections open", left);
}

/// After another process has taken over. Handshakes that have begun here are ended here, so it is
/// a while before new connections are refused.
void retire(int signals, Caretaker& caretaker, Duration longest) {
  constexpr Duration kHandshakes = std::chrono::seconds{3};
  log_info("another weir-l7 has taken over; connections may last {} s",
           std::chrono::duration_cast<std::chrono::seconds>(longest).count());
  caretaker.retire();
  const Instant begin = monotonic_now() + std::min(longest, kHandshakes);
  while (monotonic_now() < begin) {
    if (next_signal(signals, caretaker)) return;
    std::this_thread::sleep_for(caretaker.round());
  }
  drain(signals, caretaker, proxy::DrainKind::kPatient, longest);
}

/// Where packets come from now on: here. Before that, the old process goes on as if nothing were.
Result<void> take_lane(const Options& options, Lane lane, Caretaker& caretaker,
                       std::optional<Predecessor> predecessor) {
  const control::AdminClient balancer{"weir-l4", options.l4_socket};
  if (predecessor) {
    if (!caretaker.set_predecessor(true))
      return Error{ErrorCode::kInternal, "a worker hangs before it has begun"};
    if (Result<void> used = use_lane(balancer, lane); !used) return used;
    log_info("took over from process {}", predecessor->pid());
    predecessor->retire(std::chrono::seconds{options.old_connections_s});
    caretaker.follow(*std::move(predecessor));
  } else if (Result<void> used = use_lane(balancer, lane); !used) {
    // There may be none on this host, or it is down: the kernel's tables then stand as they did.
    log_info("packets are expected in the {} lane: {}", control::text_of(lane),
             used.error().text());
  }
  const auto file = std::filesystem::path{options.state_dir} / kLaneFile;
  if (Result<void> kept = remember_lane(file, lane); !kept) log_error("{}", kept.error().text());
  return {};
}

/// Whom to take over from; from now on nothing is changed there.
Result<std::optional<Predecessor>> find_predecessor(const Options& options) {
  if (!options.take_over) return std::optional<Predecessor>{};
  auto found = Predecessor::find(options.admin.socket);
  if (!found) return found;
  if (!*found) {
    log_info("there is no weir-l7 to take over from");
    return found;
  }
  if (Result<void> held = (*found)->hold(); !held)
    log_warning("what is applied before this process has taken over may be lost: {}",
                held.error().text());
  return found;
}

Result<void> run(const Options& options) {
  Result<UniqueFd> signals = take_signals({SIGTERM, SIGINT, SIGHUP});
  if (!signals) return std::move(signals).error();
  Result<control::AdminServerOptions> admin = control::take_admin_flags(options.admin);
  if (!admin) return std::move(admin).error();

  // Before the file is read: nothing is missed.
  auto watch = control::ConfigWatch::open_if(options.watch, options.config);
  if (!watch) return std::move(watch).error();
  auto found = find_predecessor(options);
  if (!found) return std::move(found).error();
  std::optional<Predecessor>& predecessor = *found;
  const std::filesystem::path state_dir{options.state_dir};
  const Lane lane = predecessor ? control::other(predecessor->lane())
                                : find_lane({"weir-l4", options.l4_socket}, state_dir / kLaneFile);

  AdminApi api{state_dir / "l7.json", fmt::format("{}{}", options.device, control::mark_of(lane)),
               lane};
  Result<control::ConfigSubmission> first = first_submission(options, api);
  if (!first) return std::move(first).error();
  auto outcome = api.prepare(*first, AdminApi::Names::kLookUp);
  if (const auto* refused = std::get_if<AdminApi::Refused>(&outcome))
    return Error{ErrorCode::kInvalid, refused->text()};
  auto& prepared = std::get<AdminApi::Prepared>(outcome);
  if (predecessor)
    if (auto same = predecessor->check_addresses(prepared.model.node.l7.addresses); !same)
      return same;

  Result<Tickets> tickets = Tickets::open(options.state_dir);
  if (!tickets) return std::move(tickets).error();
  Result<LogWriter> log = LogWriter::open(options.access_log);
  if (!log) return std::move(log).error();
  auto opened = WorkerSet::open(options.device, lane, prepared.model);
  if (!opened) return std::move(opened).error();
  WorkerSet& workers = **opened;
  tickets->give_to(workers.all());
  if (auto started = api.start(std::move(prepared), *first, workers.all()); !started)
    return started;
  // Until it has been taken over from, the file is the other process's.
  if (!predecessor)
    if (auto kept = api.keep_state(); !kept) return kept;

  // From here on bytes from outside are parsed. Only taking the driver's programs off the devices
  // at the end still needs a right.
  if (auto dropped = keep_only_capabilities({CAP_NET_ADMIN}); !dropped) return dropped;

  workers.start();
  const bool has_predecessor = predecessor.has_value();
  Caretaker caretaker{workers.all(), *log, *tickets, api};
  Result<void> ended = take_lane(options, lane, caretaker, std::move(predecessor));
  if (ended && has_predecessor)
    if (auto kept = api.keep_state(); !kept) log_error("{}", kept.error().text());
  Doors doors{*admin, api};
  // Who has taken over serves traffic already, and opens them as soon as the other one lets go.
  if (ended && !has_predecessor) ended = doors.open();
  if (ended) {
    const auto longest = supervise(signals->get(), caretaker, api, doors, *std::move(watch));
    if (longest) doors.hand_over();
    if (longest) retire(signals->get(), caretaker, *longest);
    if (!longest)
      drain(signals->get(), caretaker, proxy::DrainKind::kPrompt,
            std::chrono::seconds{options.drain_timeout_s});
    doors.close();
  }
  workers.stop();
  for (proxy::Worker* worker : workers.all())
    log->drain(worker->access_log());
  return ended;
}

}  // namespace
}  // namespace weir::l7

int main(int argc, char** argv) {
  weir::l7::Options options;
  CLI::App app{"weir-l7: terminates TLS and HTTP for the gateways of this node"};
  CLI::Option* config = app.add_option(
      "--config", options.config, "configuration file; without it, the one that was applied last");
  app.add_flag("--watch", options.watch, "apply the file again whenever it is replaced")
      ->needs(config);
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
  app.add_flag(
      "--take-over", options.take_over,
      "start beside the weir-l7 that serves --socket, then have all that is new come here");
  app.add_option("--old-connections", options.old_connections_s,
                 "seconds that the connections of a process that was taken over from may last")
      ->check(CLI::Range(0U, 604'800U))
      ->capture_default_str();
  app.add_option("--l4-socket", options.l4_socket, "where weir-l4 is asked to send packets here")
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
  if (!options.config.empty())
    options.config = std::filesystem::absolute(options.config).lexically_normal();
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
