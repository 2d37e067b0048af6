#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "bpf/abi.h"
#include "l4/base/result.h"
#include "l4/bpf_map.h"
#include "l4/kernel_tables.h"

struct ring_buffer;

namespace weir::l4 {

/// Somebody watching packets: owns the ring that the programs write events to, which exists for as
/// long as this object. One at a time: the program has one ring and one filter.
class Monitor {
 public:
  /// Takes the place of whatever ring is there: that nobody reads that one is the caller's to know.
  static Result<Monitor> start(const KernelTables& tables, weir_monitor_filter filter);

  Monitor(Monitor&&) noexcept;
  Monitor& operator=(Monitor&&) = delete;
  Monitor(const Monitor&) = delete;
  ~Monitor();

  /// Waits for events, and returns those that are there, at most kBatchMax; none after `patience`.
  Result<std::vector<weir_event>> wait(std::chrono::milliseconds patience);

  /// Watches this VIP from now on. Of the events that are lost in this moment the count may miss
  /// some.
  Result<void> watch_only(std::uint32_t vip_id);

  /// Events that found the ring full, since start().
  [[nodiscard]] Result<std::uint64_t> lost() const;

  /// Whether these are the tables that it watches: the balancer may have been taken down, and
  /// loaded anew, meanwhile.
  [[nodiscard]] bool watches(const KernelTables& tables) const;

  static constexpr std::size_t kBatchMax = 256;

 private:
  struct FreeRing {
    void operator()(ring_buffer* ring) const;
  };
  using Events = std::vector<weir_event>;

  Monitor() = default;

  // Descriptors of its own: the tables go with an unload, while a watcher is still there.
  Map<std::uint32_t, std::uint32_t> slot_;
  Map<std::uint32_t, weir_monitor_filter> filter_;
  UniqueFd ring_map_;
  std::unique_ptr<Events> events_;  // where the ring's callback puts them: a stable address
  std::unique_ptr<ring_buffer, FreeRing> ring_;
};

/// Takes away the ring of a daemon that was killed while somebody watched.
Result<void> remove_stale_ring(const KernelTables& tables);

}  // namespace weir::l4
