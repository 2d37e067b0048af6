#include "l4/control/prober.h"

#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <thread>

#include "l4/base/fd.h"
#include "l4/control/probe_engine.h"

namespace weir::control {
namespace {

/// Results that nobody took. A daemon that is busy for a minute finds all of them.
constexpr std::size_t kResultsMax = 1'000'000;
/// Sockets of probes at once; more would be of a network that answers nothing.
constexpr std::size_t kInFlightMax = 65'536;

/// Three quarters of the descriptors that the process may have: the rest is the daemon's.
Result<std::size_t> in_flight_max() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0)
    return Error::from_errno("reading the limit of open descriptors");
  limit.rlim_cur = limit.rlim_max;
  // Raising the soft limit to the hard one takes no right.
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0)
    return Error::from_errno("raising the limit of open descriptors");
  const std::size_t descriptors = limit.rlim_max;  // RLIM_INFINITY is the largest number
  return std::clamp(descriptors - descriptors / 4, std::size_t{16}, kInFlightMax);
}

void signal(const UniqueFd& event) {
  const std::uint64_t one = 1;
  // Fails only when the counter is at its end, and then it is readable already.
  static_cast<void>(!::write(event.get(), &one, sizeof(one)));
}

void drain(const UniqueFd& event) {
  std::uint64_t count = 0;
  static_cast<void>(!::read(event.get(), &count, sizeof(count)));  // empty is drained, too
}

}  // namespace

/// What both threads see is behind the mutex; the engine is the prober's thread's alone.
class Prober::Runner {
 public:
  static Result<std::unique_ptr<Runner>> start();
  ~Runner();

  void set_targets(std::vector<ProbeTarget> targets);
  std::vector<ProbeResult> take_results();
  ProberCounters counters();

  UniqueFd wake_;   // to the prober's thread: targets have come, or the end
  UniqueFd ready_;  // from it: results wait

 private:
  void run();
  void publish(std::vector<ProbeResult> results);

  std::unique_ptr<ProbeEngine> engine_;
  std::mutex mutex_;
  std::optional<std::vector<ProbeTarget>> targets_;  // that the engine has not seen yet
  std::vector<ProbeResult> results_;
  ProberCounters counters_;
  std::uint64_t results_lost_ = 0;
  bool is_ending_ = false;
  std::thread thread_;
};

Result<std::unique_ptr<Prober::Runner>> Prober::Runner::start() {
  auto runner = std::make_unique<Runner>();
  runner->wake_ = UniqueFd{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  runner->ready_ = UniqueFd{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  if (!runner->wake_ || !runner->ready_) return Error::from_errno("creating the prober's events");
  const Result<std::size_t> sockets = in_flight_max();
  if (!sockets) return Error{sockets.error()};
  auto engine = ProbeEngine::create(runner->wake_.get(), *sockets, monotonic_now());
  if (!engine) return std::move(engine).error();
  runner->engine_ = *std::move(engine);
  runner->thread_ = std::thread{[self = runner.get()] { self->run(); }};
  return runner;
}

Prober::Runner::~Runner() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock{mutex_};
    is_ending_ = true;
  }
  signal(wake_);
  thread_.join();
}

void Prober::Runner::set_targets(std::vector<ProbeTarget> targets) {
  {
    const std::lock_guard lock{mutex_};
    targets_ = std::move(targets);
  }
  signal(wake_);
}

void Prober::Runner::run() {
  for (;;) {
    std::optional<std::vector<ProbeTarget>> targets;
    drain(wake_);  // before looking: what comes after the look wakes again
    {
      const std::lock_guard lock{mutex_};
      if (is_ending_) return;
      targets.swap(targets_);
    }
    if (targets) engine_->set_targets(*std::move(targets), monotonic_now());
    publish(engine_->turn());
  }
}

void Prober::Runner::publish(std::vector<ProbeResult> results) {
  bool is_first = false;
  {
    const std::lock_guard lock{mutex_};
    const std::size_t room = kResultsMax - std::min(results_.size(), kResultsMax);
    const std::size_t kept = std::min(room, results.size());
    is_first = results_.empty() && kept > 0;
    std::move(results.begin(), results.begin() + static_cast<std::ptrdiff_t>(kept),
              std::back_inserter(results_));
    results_lost_ += results.size() - kept;
    counters_ = engine_->counters();
    counters_.results_lost = results_lost_;
  }
  if (is_first) signal(ready_);
}

std::vector<ProbeResult> Prober::Runner::take_results() {
  drain(ready_);
  const std::lock_guard lock{mutex_};
  return std::exchange(results_, {});
}

ProberCounters Prober::Runner::counters() {
  const std::lock_guard lock{mutex_};
  return counters_;
}

Prober::Prober(std::unique_ptr<Runner> runner) : runner_{std::move(runner)} {}
Prober::Prober(Prober&&) noexcept = default;
Prober& Prober::operator=(Prober&&) noexcept = default;
Prober::~Prober() = default;

Result<Prober> Prober::start() {
  Result<std::unique_ptr<Runner>> runner = Runner::start();
  if (!runner) return std::move(runner).error().while_doing("starting the prober");
  return Prober{*std::move(runner)};
}

void Prober::set_targets(std::vector<ProbeTarget> targets) {
  runner_->set_targets(std::move(targets));
}
int Prober::fd() const { return runner_->ready_.get(); }
std::vector<ProbeResult> Prober::take_results() { return runner_->take_results(); }
ProberCounters Prober::counters() const { return runner_->counters(); }

}  // namespace weir::control
