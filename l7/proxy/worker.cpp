#include "l7/proxy/worker.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

namespace weir::proxy {
namespace {

constexpr std::size_t kBurst = 64;
/// Bursts per turn: enough to drain a full receive ring in a few turns, few enough that timers and
/// replies are not kept waiting.
constexpr int kBurstsPerTurn = 4;
/// Readiness reports per turn, for the same reason.
constexpr int kReadyPerTurn = 1024;

/// How long an idle worker polls before it sleeps: round trips of busy neighbours are shorter, and
/// waking costs about 30 µs.
constexpr Duration kSpin = std::chrono::microseconds{50};
/// Not worth sleeping for.
constexpr Duration kSleepMin = std::chrono::microseconds{100};
constexpr Duration kSleepMax = std::chrono::seconds{1};

constexpr std::size_t kMailboxSlots = 64;

std::vector<wire::IpAddress> own_addresses(const net::InterfaceConfig& config) {
  std::vector<wire::IpAddress> addresses;
  for (const wire::Prefix& prefix : config.addresses)
    addresses.push_back(prefix.address);
  return addresses;
}

}  // namespace

Result<std::unique_ptr<Worker>> Worker::create(port::PacketPort& port,
                                               const net::InterfaceConfig& config,
                                               const tcp::StackOptions& options, Random random,
                                               Instant start) {
  UniqueFd wake_fd{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  if (!wake_fd) return Error::from_errno("making the worker's wake-up descriptor");
  return std::unique_ptr<Worker>{
      new Worker{port, config, options, random, start, std::move(wake_fd)}};
}

Worker::Worker(port::PacketPort& port, const net::InterfaceConfig& config,
               const tcp::StackOptions& options, Random random, Instant start, UniqueFd wake_fd)
    : port_{port},
      interface_{config, port, Random{random.next()}, start},
      stack_{options, interface_, Random{random.next()}, start},
      core_{stack_, Random{random.next()}, start},
      wake_fd_{std::move(wake_fd)},
      burst_(kBurst),
      commands_{kMailboxSlots},
      reports_{kMailboxSlots},
      retired_{kMailboxSlots} {
  core_.set_sources(own_addresses(config));
}

Worker::~Worker() = default;

bool Worker::turn(Instant now) {
  ++turns_;
  bool busy = take_commands();
  busy = receive(now) || busy;
  while (const auto error = interface_.poll_error())
    stack_.error(*error, now);
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
  if (std::unique_ptr<Generation> retired = core_.take_retired())
    static_cast<void>(retired_.push(std::move(retired)));
  if (busy) ++busy_turns_;
  return busy;
}

bool Worker::receive(Instant now) {
  bool received = false;
  for (int i = 0; i < kBurstsPerTurn; ++i) {
    const std::size_t count = port_.receive(burst_);
    for (std::size_t k = 0; k < count; ++k)
      if (auto segment = interface_.input(std::move(burst_[k]), now))
        stack_.input(std::move(*segment), now);
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
  while (!stop.load(std::memory_order_relaxed)) {
    const Instant now = monotonic_now();
    if (turn(now)) {
      last_busy = now;
      continue;
    }
    if (now - last_busy < kSpin) continue;
    const Duration sleep = std::min<Duration>(next_deadline() - now, kSleepMax);
    if (sleep < kSleepMin) continue;
    port_.reap();
    ++sleeps_;
    port_.wait(sleep, wake_fd_.get());
    clear_wake();
    last_busy = monotonic_now();
  }
}

// ---- control -----------------------------------------------------------------------------------

bool Worker::take_commands() {
  bool taken = false;
  while (auto command = commands_.pop()) {
    taken = true;
    if (!command->generation) {
      // Full only if nobody reads them; the reader has given up waiting then.
      static_cast<void>(reports_.push(make_report()));
      continue;
    }
    interface_.configure(command->config);
    core_.set_sources(own_addresses(command->config));
    revision_ = command->generation->snapshot().revision;
    core_.install(std::move(command->generation));
  }
  return taken;
}

std::unique_ptr<WorkerReport> Worker::make_report() const {
  auto report = std::make_unique<WorkerReport>();
  report->port = port_.counters();
  report->network = interface_.counters();
  report->tcp = stack_.counters();
  report->core = core_.counters();
  report->upstream = core_.upstream_counters();
  report->services = core_.service_counters();
  report->log_dropped = core_.log_dropped();
  report->turns = turns_;
  report->busy_turns = busy_turns_;
  report->sleeps = sleeps_;
  report->revision = revision_;
  return report;
}

bool Worker::install(const net::InterfaceConfig& config, std::unique_ptr<Generation> generation) {
  if (!commands_.push({config, std::move(generation)})) return false;
  wake();
  return true;
}

std::optional<WorkerReport> Worker::report(Duration longest) {
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
