#include "bench/stack_lab/stack_host.h"

#include <algorithm>
#include <utility>

namespace weir::bench {
namespace {

// As in l7/proxy/worker.cpp, which says why.
constexpr std::size_t kBurst = 64;
constexpr int kBurstsPerTurn = 4;
constexpr int kReadyPerTurn = 1024;
constexpr Duration kSpin = std::chrono::microseconds{50};
constexpr Duration kSleepMin = std::chrono::microseconds{100};
constexpr Duration kSleepMax = std::chrono::seconds{1};

}  // namespace

StackHost::StackHost(port::PacketPort& port, const net::InterfaceConfig& config,
                     const tcp::StackOptions& options, Random random, Instant start)
    : port_{port},
      interface_{config, port, Random{random.next()}, start},
      stack_{options, interface_, Random{random.next()}, start},
      burst_(kBurst) {}

bool StackHost::turn(Application& application, Instant now) {
  ++turns_;
  bool busy = receive(now);
  while (const auto error = interface_.poll_error())
    stack_.error(*error, now);
  interface_.advance(now);
  stack_.advance(now);
  application.advance(now);
  for (int i = 0; i < kReadyPerTurn; ++i) {
    const auto ready = stack_.poll();
    if (!ready) break;
    application.on_ready(*ready, now);
    busy = true;
  }
  stack_.flush(now);
  return interface_.flush(now) > 0 || busy;
}

void StackHost::input(port::Packet frame, Instant now) {
  if (auto segment = interface_.input(std::move(frame), now))
    stack_.input(std::move(*segment), now);
}

bool StackHost::receive(Instant now) {
  bool received = false;
  for (int i = 0; i < kBurstsPerTurn; ++i) {
    const std::size_t count = port_.receive(burst_);
    for (std::size_t k = 0; k < count; ++k)
      input(std::move(burst_[k]), now);
    received = received || count > 0;
    if (count < burst_.size()) break;
  }
  return received;
}

void StackHost::run(Application& application, const std::atomic<bool>& stop, Polling polling,
                    int wake_fd) {
  Instant last_busy = monotonic_now();
  while (!stop.load(std::memory_order_relaxed) && !application.is_finished()) {
    const Instant now = monotonic_now();
    if (turn(application, now)) {
      last_busy = now;
      continue;
    }
    if (polling == Polling::kAlways || now - last_busy < kSpin) continue;
    const Instant deadline =
        std::min({interface_.next_deadline(), stack_.next_deadline(), application.next_deadline()});
    const Duration sleep = std::min<Duration>(deadline - now, kSleepMax);
    if (sleep < kSleepMin) continue;
    port_.reap();
    ++sleeps_;
    port_.wait(sleep, wake_fd);
    last_busy = monotonic_now();
  }
}

}  // namespace weir::bench
