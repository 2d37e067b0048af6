#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "l4/base/result.h"
#include "l4/control/lane.h"
#include "l4/control/model.h"
#include "l7/port/dpdk_port.h"
#include "l7/proxy/mail.h"
#include "l7/proxy/worker.h"

namespace weir::l7 {

/// The workers, each with its port, and their threads while they run.
class WorkerSet {
 public:
  /// Opens the devices and makes the workers, on this thread.
  static Result<std::unique_ptr<WorkerSet>> open(const std::string& device_prefix,
                                                 control::Lane lane, const control::Model& model);
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

}  // namespace weir::l7
