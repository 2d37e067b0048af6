#include "l7/worker_set.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>

#include <algorithm>
#include <utility>

#include "l4/base/log.h"
#include "l4/base/random.h"
#include "l7/admin_api.h"
#include "l7/take_over.h"

namespace weir::l7 {
namespace {

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

}  // namespace

Result<std::unique_ptr<WorkerSet>> WorkerSet::open(const std::string& device_prefix, Lane lane,
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
    const std::string device = device_of(device_prefix, lane, i);
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
    auto worker = proxy::Worker::create(*set->seats_[i].port, interface_config(model, i),
                                        stack_options(lane), Random::from_system(), monotonic_now(),
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

}  // namespace weir::l7
