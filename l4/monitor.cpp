#include "l4/monitor.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>

#include <cstring>
#include <utility>

namespace weir::l4 {
namespace {

/// Some 14,500 events: a burst of a few milliseconds. It exists only while somebody watches.
constexpr std::uint32_t kRingBytes = 4U << 20;

constexpr int kBatchFull = -E2BIG;  // any negative value ends a round; it is no failure

Result<UniqueFd> duplicate(int fd) {
  UniqueFd copy{::fcntl(fd, F_DUPFD_CLOEXEC, 0)};
  if (!copy) return Error::from_errno("duplicating a map's descriptor");
  return copy;
}

int keep_event(void* context, void* data, std::size_t size) {
  auto& events = *static_cast<std::vector<weir_event>*>(context);
  if (size < sizeof(weir_event)) return 0;  // only our programs write here, and whole events
  weir_event& event = events.emplace_back();
  std::memcpy(&event, data, sizeof(event));
  return events.size() < Monitor::kBatchMax ? 0 : kBatchFull;
}

std::uint32_t map_id(int fd) {
  bpf_map_info info{};
  std::uint32_t size = sizeof(info);
  return ::bpf_obj_get_info_by_fd(fd, &info, &size) == 0 ? info.id : 0;
}

}  // namespace

void Monitor::FreeRing::operator()(ring_buffer* ring) const { ::ring_buffer__free(ring); }

Result<Monitor> Monitor::start(const KernelTables& tables, weir_monitor_filter filter) {
  Monitor monitor;
  Result<UniqueFd> slot = duplicate(tables.monitor().fd());
  if (!slot) return std::move(slot).error();
  Result<UniqueFd> filter_fd = duplicate(tables.monitor_filter().fd());
  if (!filter_fd) return std::move(filter_fd).error();
  UniqueFd ring{::bpf_map_create(BPF_MAP_TYPE_RINGBUF, "weir_ring", 0, 0, kRingBytes, nullptr)};
  if (!ring) return Error::from_errno("creating the ring for events");
  monitor.events_ = std::make_unique<Events>();
  monitor.ring_.reset(::ring_buffer__new(ring.get(), keep_event, monitor.events_.get(), nullptr));
  if (!monitor.ring_) return Error::from_errno("mapping the ring for events");
  filter.lost = 0;
  filter.is_on = 1;
  if (Result<void> set = tables.monitor_filter().set(0, filter); !set)
    return std::move(set).error();
  // From here on the destructor has something to take away.
  monitor.slot_ = {*std::move(slot), "weir_monitor"};
  monitor.filter_ = {*std::move(filter_fd), "weir_monitor_filter"};
  monitor.ring_map_ = std::move(ring);
  Result<void> begun = monitor.slot_.set(0, static_cast<std::uint32_t>(monitor.ring_map_.get()));
  if (!begun) return std::move(begun).error();
  return monitor;
}

Monitor::Monitor(Monitor&&) noexcept = default;

Monitor::~Monitor() {
  if (!ring_map_) return;
  // A failure leaves the ring in its place until a daemon starts: the slot is this object's alone.
  static_cast<void>(slot_.erase(0));
  static_cast<void>(filter_.set(0, {}));
}

Result<std::vector<weir_event>> Monitor::wait(std::chrono::milliseconds patience) {
  events_->clear();
  const int outcome = ::ring_buffer__poll(ring_.get(), static_cast<int>(patience.count()));
  if (outcome < 0 && outcome != kBatchFull && outcome != -EINTR)
    return Error::from_errno("reading events", -outcome);
  return std::exchange(*events_, {});
}

Result<void> Monitor::watch_only(std::uint32_t vip_id) {
  Result<std::optional<weir_monitor_filter>> filter = filter_.get(0);
  if (!filter) return std::move(filter).error();
  weir_monitor_filter changed = filter->value_or(weir_monitor_filter{});
  changed.vip_id = vip_id;
  return filter_.set(0, changed);
}

Result<std::uint64_t> Monitor::lost() const {
  Result<std::optional<weir_monitor_filter>> filter = filter_.get(0);
  if (!filter) return std::move(filter).error();
  return filter->value_or(weir_monitor_filter{}).lost;
}

bool Monitor::watches(const KernelTables& tables) const {
  return map_id(slot_.fd()) == map_id(tables.monitor().fd());
}

Result<void> remove_stale_ring(const KernelTables& tables) {
  if (Result<void> removed = tables.monitor().erase(0); !removed) return removed;
  return tables.monitor_filter().set(0, {});
}

}  // namespace weir::l4
