#include "l7/proxy/worker.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "l4/base/assert.h"

namespace weir::proxy {
namespace {

constexpr std::size_t kBurst = 64;
/// Bursts per turn: enough to drain a full receive ring in a few turns, few enough that timers and
/// replies are not kept waiting.
constexpr int kBurstsPerTurn = 4;
/// Readiness reports per turn, for the same reason.
constexpr int kReadyPerTurn = 1024;

/// How long an idle worker polls before it sleeps, at most: round trips of busy neighbours are
/// shorter, and waking costs about 30 µs.
constexpr Duration kSpinMax = std::chrono::microseconds{50};
constexpr Duration kSpinStep = std::chrono::microseconds{5};
/// Not worth sleeping for.
constexpr Duration kSleepMin = std::chrono::microseconds{100};
constexpr Duration kSleepMax = std::chrono::seconds{1};

/// How often the time of day is looked up.
constexpr Duration kClockReading = std::chrono::seconds{1};

constexpr std::size_t kMailboxSlots = 64;

constexpr std::uint32_t kWorkersMax = 64;  // a bit for each in posted_to_

std::vector<wire::IpAddress> own_addresses(const net::InterfaceConfig& config) {
  std::vector<wire::IpAddress> addresses;
  for (const wire::Prefix& prefix : config.addresses)
    addresses.push_back(prefix.address);
  return addresses;
}

/// Polling was in vain when the worker had to sleep after all. If it did not sleep for long,
/// polling a little longer would have spared it that; if it did, nothing would have (as KVM polls
/// for a halted guest). So a worker with little to do costs little.
Duration next_spin(Duration spin, Duration slept) {
  if (slept <= kSpinMax) return std::min(std::max(2 * spin, kSpinStep), kSpinMax);
  return spin / 2 < kSpinStep ? Duration{} : spin / 2;
}

}  // namespace

Result<std::unique_ptr<Worker>> Worker::create(port::PacketPort& port,
                                               const net::InterfaceConfig& config,
                                               const tcp::StackOptions& options, Random random,
                                               Instant start, Colleagues colleagues) {
  UniqueFd wake_fd{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  if (!wake_fd) return Error::from_errno("making the worker's wake-up descriptor");
  tcp::StackOptions own = options;
  if (colleagues.room != nullptr) {
    own.worker = colleagues.index;
    own.workers = colleagues.room->workers();
  }
  return std::unique_ptr<Worker>{
      new Worker{port, config, own, random, start, colleagues, std::move(wake_fd)}};
}

Worker::Worker(port::PacketPort& port, const net::InterfaceConfig& config,
               const tcp::StackOptions& options, Random random, Instant start,
               Colleagues colleagues, UniqueFd wake_fd)
    : port_{port},
      interface_{config, port, Random{random.next()}, start},
      stack_{options, interface_, Random{random.next()}, start},
      core_{stack_, Random{random.next()}, start},
      wake_fd_{std::move(wake_fd)},
      burst_(kBurst),
      commands_{kMailboxSlots},
      reports_{kMailboxSlots},
      retired_{kMailboxSlots},
      colleagues_{colleagues},
      ports_{options.ephemeral_first, options.ephemeral_last, options.worker, options.workers},
      own_addresses_{own_addresses(config)},
      turn_began_{start} {
  core_.set_sources(own_addresses_);
  stack_.set_unknown_flow(this);
  if (is_alone()) return;
  WEIR_ASSERT(options.workers <= kWorkersMax);  // the configuration has the same limit
  colleagues_.room->attach(colleagues_.index, wake_fd_.get());
}

Worker::~Worker() = default;

bool Worker::turn(Instant now) {
  ++turns_;
  account(now);
  bool busy = take_commands(now);
  busy = receive(now) || busy;
  if (!is_alone()) busy = take_letters(now) || busy;
  while (const auto error = interface_.poll_error())
    input_error(*error, now);
  ring_colleagues();
  interface_.advance(now);
  stack_.advance(now);
  core_.advance(now);
  busy = core_.run_queued(now) || busy;
  for (int i = 0; i < kReadyPerTurn; ++i) {
    const auto ready = stack_.poll();
    if (!ready) break;
    core_.on_ready(*ready, now);
    busy = true;
  }
  stack_.flush(now);
  // Frames that the port would not take keep the worker awake: only sending frees its ring.
  busy = interface_.flush(now) > 0 || busy;
  // Handed over to be destroyed elsewhere; when nobody takes them, they are destroyed here.
  if (std::unique_ptr<Generation> retired = core_.take_retired()) {
    retired->leave_thread();
    static_cast<void>(retired_.push(std::move(retired)));
  }
  if (busy) ++busy_turns_;
  was_busy_ = busy;
  return busy;
}

void Worker::account(Instant now) {
  (was_busy_ ? busy_time_ : idle_time_) += now - turn_began_;
  turn_began_ = now;
}

bool Worker::receive(Instant now) {
  bool received = false;
  for (int i = 0; i < kBurstsPerTurn; ++i) {
    const std::size_t count = port_.receive(burst_);
    for (std::size_t k = 0; k < count; ++k) {
      if (!is_alone()) show_if_neighbor(burst_[k]);
      if (has_predecessor_) show_predecessor(burst_[k]);
      if (auto segment = interface_.input(std::move(burst_[k]), now))
        input(std::move(*segment), now);
    }
    received = received || count > 0;
    if (count < burst_.size()) break;
  }
  return received;
}

Instant Worker::next_deadline() const {
  return std::min({interface_.next_deadline(), stack_.next_deadline(), core_.next_deadline()});
}

void Worker::run(const std::atomic<bool>& stop) {
  Instant last_busy = monotonic_now();
  Instant clock_read{};
  Duration spin = kSpinMax;
  while (!stop.load(std::memory_order_relaxed)) {
    const Instant now = monotonic_now();
    // Somebody may set it: what is a second old is good enough for a Date.
    if (now - clock_read >= kClockReading) {
      set_wall_clock(std::chrono::system_clock::now().time_since_epoch() - now.time_since_epoch());
      clock_read = now;
    }
    if (turn(now)) {
      last_busy = now;
      continue;
    }
    if (now - last_busy < spin) continue;
    const Duration longest = std::min<Duration>(next_deadline() - now, kSleepMax);
    if (longest < kSleepMin) continue;
    sleep(longest);
    last_busy = monotonic_now();
    spin = next_spin(spin, last_busy - now);
  }
}

/// Nothing that comes from now on is missed: frames and the control thread's commands make their
/// descriptors readable and keep them so, and letters are looked for after colleagues have been
/// told to ring.
void Worker::sleep(Duration longest) {
  port_.reap();
  if (!is_alone() && !colleagues_.room->may_sleep(colleagues_.index)) return;
  ++sleeps_;
  port_.wait(longest, wake_fd_.get());
  if (!is_alone()) colleagues_.room->woke(colleagues_.index);
  clear_wake();
}

// ---- control -----------------------------------------------------------------------------------

bool Worker::take_commands(Instant now) {
  bool taken = false;
  while (auto command = commands_.pop()) {
    taken = true;
    if (command->ticket_keys) {
      core_.set_ticket_keys(*command->ticket_keys);
      continue;
    }
    if (command->drain) {
      core_.begin_drain(*command->drain, now);
      continue;
    }
    if (command->predecessor) {
      has_predecessor_ = *command->predecessor;
      continue;
    }
    if (!command->generation) {
      // Full only if nobody reads them; the reader has given up waiting then.
      static_cast<void>(reports_.push(make_report()));
      continue;
    }
    if (command->endpoints_only) {
      take_endpoints(std::move(command->generation));
      continue;
    }
    configure(command->config);
    revision_ = command->generation->snapshot().revision;
    core_.install(std::move(command->generation));
  }
  return taken;
}

/// Of another configuration when that one could not be handed over to all workers.
void Worker::take_endpoints(std::unique_ptr<Generation> generation) {
  if (generation->snapshot().revision == revision_)
    core_.install_endpoints(std::move(generation));
  else
    static_cast<void>(retired_.push(std::move(generation)));
}

void Worker::configure(const net::InterfaceConfig& config) {
  interface_.configure(config);
  own_addresses_ = own_addresses(config);
  core_.set_sources(own_addresses_);
}

std::unique_ptr<WorkerReport> Worker::make_report() const {
  auto report = std::make_unique<WorkerReport>();
  report->port = port_.counters();
  report->network = interface_.counters();
  report->tcp = stack_.counters();
  report->core = core_.counters();
  report->upstream = core_.upstream_counters();
  report->services = core_.service_counters();
  report->routes = core_.route_counters();
  report->mail = mail_counters_;
  report->log_dropped = core_.log_dropped();
  report->turns = turns_;
  report->busy_turns = busy_turns_;
  report->busy_time = busy_time_;
  report->idle_time = idle_time_;
  report->sleeps = sleeps_;
  report->revision = revision_;
  return report;
}

bool Worker::command(Command command) {
  const std::lock_guard lock{control_};
  if (!commands_.push(std::move(command))) return false;
  wake();
  return true;
}

bool Worker::install(const net::InterfaceConfig& config, std::unique_ptr<Generation> generation) {
  return command({.config = config, .generation = std::move(generation)});
}

bool Worker::install_endpoints(std::unique_ptr<Generation> generation) {
  return command({.config = {}, .generation = std::move(generation), .endpoints_only = true});
}

bool Worker::install(const tls::TicketKeySet& keys) {
  return command({.config = {},
                  .generation = nullptr,
                  .ticket_keys = std::make_unique<tls::TicketKeySet>(keys)});
}

bool Worker::begin_drain(DrainKind kind) {
  return command({.config = {}, .generation = nullptr, .drain = kind});
}

bool Worker::set_predecessor(bool exists) {
  return command({.config = {}, .generation = nullptr, .predecessor = exists});
}

std::optional<WorkerReport> Worker::report(Duration longest) {
  const std::lock_guard lock{control_};
  while (reports_.pop()) {
  }  // late answers to questions that nobody waits for any more
  if (!commands_.push({})) return std::nullopt;
  wake();
  const Instant deadline = monotonic_now() + longest;
  while (monotonic_now() < deadline) {
    if (auto report = reports_.pop()) return std::move(**report);
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  return std::nullopt;
}

void Worker::destroy_retired() {
  while (retired_.pop()) {
  }
}

void Worker::wake() {
  const std::uint64_t one = 1;
  // Can only fail when the counter is full, and then the worker is awake already.
  [[maybe_unused]] const auto written = ::write(wake_fd_.get(), &one, sizeof(one));
}

void Worker::clear_wake() const {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto taken = ::read(wake_fd_.get(), &count, sizeof(count));
}

}  // namespace weir::proxy
