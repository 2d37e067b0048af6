#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "l4/base/result.h"
#include "tests/sim/tcp_simulation.h"

// weir-sim: runs seeds of the TCP simulation, as many as one likes, on all cores.

namespace weir::testing {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr unsigned kJobsMax = 256;
constexpr std::size_t kFailuresShown = 50;

std::atomic<bool> interrupted{false};
extern "C" void on_interrupt(int) { interrupted.store(true, std::memory_order_relaxed); }

struct Arguments {
  std::uint64_t first = 1;
  std::uint64_t last = 1000;
  unsigned jobs = std::max(1U, std::thread::hardware_concurrency());
  bool print = false;
  bool help = false;
  std::vector<AppliedSetting> settings;
};

struct Failure {
  std::uint64_t seed = 0;
  std::string violation;
};

struct Totals {
  std::uint64_t seeds = 0;
  std::array<std::uint64_t, kPlots> plots{};
  std::uint64_t segments = 0;
  std::uint64_t retransmissions = 0;
  std::uint64_t lost = 0;
  std::uint64_t completed = 0;
  double virtual_seconds = 0;
  double share_of_bound = 0;
  std::uint64_t slowest_seed = 0;
  double share_of_segments = 0;
  std::uint64_t busiest_seed = 0;
  std::vector<Failure> failures;

  void add(std::uint64_t seed, TcpSimulation run);
};

void Totals::add(std::uint64_t seed, TcpSimulation run) {
  ++seeds;
  ++plots[static_cast<std::size_t>(run.plot)];
  segments += run.segments;
  retransmissions += run.retransmissions;
  lost += run.lost;
  completed += run.completed;
  virtual_seconds += run.virtual_seconds;
  if (run.share_of_bound > share_of_bound) {
    share_of_bound = run.share_of_bound;
    slowest_seed = seed;
  }
  if (run.share_of_segments > share_of_segments) {
    share_of_segments = run.share_of_segments;
    busiest_seed = seed;
  }
  if (!run.violation.empty()) failures.push_back({seed, std::move(run.violation)});
}

// ---- arguments ----------------------------------------------------------------------------------

void print_help() {
  fmt::print(
      "weir-sim: two TCP stacks on a simulated bad link, one run for each seed\n\n"
      "  --seeds A..B     which seeds to run (1..1000); A alone is one seed\n"
      "  --jobs N         how many at a time (one for each core)\n"
      "  --set NAME=VALUE something about every run, whatever its seed says; may be repeated\n"
      "  --print          show every segment; only for a few seeds, one at a time\n"
      "  --help           this text\n\n"
      "Exits with 1 when a run breaks a rule, and says how to repeat it.\n\nSettings:\n");
  for (const TcpSetting& setting : tcp_settings())
    fmt::print("  {:16} {}\n", setting.name, setting.help);
}

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Result<void> take_seeds(std::string_view text, Arguments& arguments) {
  const std::size_t dots = text.find("..");
  const auto first = number(text.substr(0, dots));
  const auto last = dots == std::string_view::npos ? first : number(text.substr(dots + 2));
  if (!first || !last || *first > *last || *last == UINT64_MAX)
    return Error{ErrorCode::kInvalid, fmt::format("--seeds: '{}' is no range", text),
                 "write --seeds 1..1000, the smaller first, or --seeds 17"};
  arguments.first = *first;
  arguments.last = *last;
  return {};
}

Result<void> take_option(std::string_view name, std::string_view value, Arguments& arguments) {
  if (name == "--seeds") return take_seeds(value, arguments);
  if (name == "--set") {
    const auto applied = parse_tcp_setting(value);
    if (!applied) return Error{applied.error()}.while_doing("--set");
    arguments.settings.push_back(*applied);
    return {};
  }
  const auto jobs = number(value);
  if (!jobs || *jobs == 0 || *jobs > kJobsMax)
    return Error{ErrorCode::kInvalid, fmt::format("--jobs: '{}' is no number of threads", value),
                 fmt::format("write a number from 1 to {}", kJobsMax)};
  arguments.jobs = static_cast<unsigned>(*jobs);
  return {};
}

Result<Arguments> parse_arguments(std::span<char* const> words) {
  Arguments arguments;
  for (std::size_t i = 0; i < words.size(); ++i) {
    std::string_view name = words[i];
    if (name == "--print") {
      arguments.print = true;
    } else if (name == "--help" || name == "-h") {
      arguments.help = true;
    } else if (name == "--seeds" || name == "--jobs" || name == "--set") {
      if (i + 1 == words.size())
        return Error{ErrorCode::kInvalid, fmt::format("{} needs a value", name),
                     "weir-sim --help shows which"};
      const auto taken = take_option(name, words[++i], arguments);
      if (!taken) return taken.error();
    } else {
      return Error{ErrorCode::kInvalid, fmt::format("'{}' is no option", name),
                   "weir-sim --help lists them"};
    }
  }
  if (arguments.print) arguments.jobs = 1;  // or their lines would mix
  return arguments;
}

// ---- running ------------------------------------------------------------------------------------

/// Runs all seeds; the first thread to come takes the next. What was found so far is in totals()
/// at any time.
class Runner {
 public:
  explicit Runner(const Arguments& arguments) : arguments_{arguments}, next_{arguments.first} {}

  void work() {
    while (!interrupted.load(std::memory_order_relaxed)) {
      const std::uint64_t seed = next_.fetch_add(1, std::memory_order_relaxed);
      if (seed > arguments_.last) return;
      if (arguments_.print) fmt::print("seed {}\n", seed);
      TcpSimulation run = simulate_tcp(
          {.seed = seed, .print_segments = arguments_.print, .settings = arguments_.settings});
      const std::lock_guard lock{mutex_};
      totals_.add(seed, std::move(run));
    }
  }
  [[nodiscard]] Totals totals() {
    const std::lock_guard lock{mutex_};
    return totals_;
  }

 private:
  const Arguments& arguments_;
  std::atomic<std::uint64_t> next_;
  std::mutex mutex_;
  Totals totals_;
};

std::string repeat_command(const Arguments& arguments, std::uint64_t seed) {
  std::string command = fmt::format("weir-sim --seeds {} --print", seed);
  for (const AppliedSetting& applied : arguments.settings)
    command += " --set " + text_of(applied);
  return command;
}

void print_summary(const Arguments& arguments, Totals totals, double wall_seconds) {
  std::ranges::sort(totals.failures, {}, &Failure::seed);
  const std::size_t shown = std::min(totals.failures.size(), kFailuresShown);
  for (const Failure& failure : std::span{totals.failures}.first(shown))
    fmt::print("FAILED seed {}: {}\n  repeat with: {}\n", failure.seed, failure.violation,
               repeat_command(arguments, failure.seed));
  if (shown < totals.failures.size()) fmt::print("and {} more\n", totals.failures.size() - shown);
  fmt::print("{} of {} seeds{}, {} failed (", totals.seeds, arguments.last - arguments.first + 1,
             interrupted ? " (interrupted)" : "", totals.failures.size());
  for (std::size_t plot = 0; plot < kPlots; ++plot)
    fmt::print("{}{} {}", plot == 0 ? "" : ", ", totals.plots[plot],
               name_of(Plot{static_cast<std::uint8_t>(plot)}));
  fmt::print(
      ")\n{} streams completed, {} segments, {} retransmissions, {} frames lost\n"
      "{:.1f} virtual hours in {:.1f} s\n",
      totals.completed, totals.segments, totals.retransmissions, totals.lost,
      totals.virtual_seconds / 3600, wall_seconds);
  if (totals.seeds > 0)
    fmt::print("slowest: seed {} took {:.0f} % of its bound; busiest: seed {} sent {:.0f} %\n",
               totals.slowest_seed, 100 * totals.share_of_bound, totals.busiest_seed,
               100 * totals.share_of_segments);
}

void show_progress(const Arguments& arguments, const Totals& totals, double wall_seconds) {
  fmt::print(stderr, "\r{} of {} seeds, {} failed, {:.0f} s", totals.seeds,
             arguments.last - arguments.first + 1, totals.failures.size(), wall_seconds);
  std::fflush(stderr);
}

int run(const Arguments& arguments) {
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);

  const auto start = SteadyClock::now();
  const auto elapsed = [&] {
    return std::chrono::duration<double>(SteadyClock::now() - start).count();
  };
  Runner runner{arguments};
  std::mutex mutex;
  std::condition_variable ended;
  unsigned working = arguments.jobs;
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < arguments.jobs; ++i)
    threads.emplace_back([&] {
      runner.work();
      const std::lock_guard lock{mutex};
      if (--working == 0) ended.notify_all();
    });
  const bool watched = ::isatty(STDERR_FILENO) == 1 && !arguments.print;
  const auto all_ended = [&] { return working == 0; };
  for (std::unique_lock lock{mutex}; !ended.wait_for(lock, std::chrono::seconds{1}, all_ended);) {
    if (watched) show_progress(arguments, runner.totals(), elapsed());
  }
  if (watched) {
    show_progress(arguments, runner.totals(), elapsed());
    fmt::print(stderr, "\n");
  }
  for (std::thread& thread : threads)
    thread.join();
  const Totals totals = runner.totals();
  print_summary(arguments, totals, elapsed());
  if (interrupted) return 130;
  return totals.failures.empty() ? 0 : 1;
}

}  // namespace
}  // namespace weir::testing

int main(int argc, char** argv) {
  using namespace weir::testing;
  const auto arguments =
      parse_arguments(std::span{argv, static_cast<std::size_t>(argc)}.subspan(1));
  if (!arguments) {
    fmt::print(stderr, "weir-sim: {}\n", arguments.error().text());
    return 2;
  }
  if (arguments->help) {
    print_help();
    return 0;
  }
  return run(*arguments);
}
