// What does it cost when a segment is with the wrong worker? PostAndOpen: the sender's and the
// addressee's work on one core, about a hundred nanoseconds, most of it two copies. WakeASleeper:
// from post() to the addressee's first look, when it sleeps in poll() as a worker does; tens of
// microseconds, nearly all of it the kernel's. The aim is a median of 50 µs on a quiet machine.

#include <benchmark/benchmark.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#include "l4/base/clock.h"
#include "l4/base/fd.h"
#include "l7/proxy/mail.h"

namespace weir::proxy {
namespace {

constexpr std::size_t kFrameBytes = 1514;
constexpr std::size_t kSegmentBytes = 1480;

void post_and_open(benchmark::State& state) {
  Postbox box{kFrameBytes};
  const std::vector<std::byte> segment(kSegmentBytes);
  std::vector<std::byte> packet(kSegmentBytes);
  for (auto _ : state) {
    benchmark::DoNotOptimize(box.post(SegmentLetter{}, segment));
    std::memcpy(packet.data(), box.front_bytes().data(), box.front_bytes().size());
    benchmark::DoNotOptimize(packet.data());
    box.drop_front();
  }
}
BENCHMARK(post_and_open)->Name("PostAndOpen");

/// Worker 1 of two, of which worker 0 is the benchmark's thread.
class Sleeper {
 public:
  Sleeper() {
    room_.attach(1, wake_fd_.get());
    thread_ = std::thread{[this] { run(); }};
  }
  ~Sleeper() {
    stop_.store(true);
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(wake_fd_.get(), &one, sizeof(one));
    thread_.join();
  }
  Sleeper(const Sleeper&) = delete;
  Sleeper& operator=(const Sleeper&) = delete;

  /// Posts once the other has been asleep for a while; the time until it has seen the letter.
  Duration wake() {
    seen_.store(false);
    std::this_thread::sleep_for(std::chrono::microseconds{200});
    const Instant posted = monotonic_now();
    [[maybe_unused]] const bool fits = room_.box(0, 1).post(NeighborLetter{}, {});
    room_.ring(1);
    while (!seen_.load())
      std::this_thread::yield();  // it may need this very core
    return opened_ - posted;
  }

 private:
  void run() {
    Postbox& box = room_.box(0, 1);
    while (!stop_.load()) {
      while (!box.empty()) {
        opened_ = monotonic_now();
        box.drop_front();
        seen_.store(true);
      }
      if (!room_.may_sleep(1)) continue;
      pollfd awaited{wake_fd_.get(), POLLIN, 0};
      ::poll(&awaited, 1, -1);
      room_.woke(1);
      std::uint64_t count = 0;
      [[maybe_unused]] const auto taken = ::read(wake_fd_.get(), &count, sizeof(count));
    }
  }

  UniqueFd wake_fd_{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  MailRoom room_{2, kFrameBytes};
  Instant opened_{};  // handed over by seen_
  std::atomic<bool> seen_{false};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

void wake_a_sleeper(benchmark::State& state) {
  Sleeper sleeper;
  std::vector<double> times_us;
  for (auto _ : state) {
    const Duration time = sleeper.wake();
    times_us.push_back(std::chrono::duration<double, std::micro>(time).count());
    state.SetIterationTime(std::chrono::duration<double>(time).count());
  }
  std::ranges::sort(times_us);
  const auto at = [&](double share) {
    return times_us[static_cast<std::size_t>(share * static_cast<double>(times_us.size() - 1))];
  };
  state.counters["p50_us"] = at(0.5);
  state.counters["p99_us"] = at(0.99);
}
BENCHMARK(wake_a_sleeper)->Name("WakeASleeper")->UseManualTime()->Iterations(2000);

}  // namespace
}  // namespace weir::proxy

BENCHMARK_MAIN();
