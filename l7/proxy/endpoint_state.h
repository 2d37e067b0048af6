#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "l4/base/clock.h"
#include "l4/control/model.h"
#include "l4/wire/address.h"

namespace weir::proxy {

/// What all workers know of one endpoint of one service, and the control thread's checks tell them.
/// With ServiceState the only memory that workers write together while they serve: a limit and the
/// choice of the less loaded are about the endpoint, not about one worker's share of it. Relaxed
/// throughout, since nothing else hangs on a value; on a cache line of its own.
struct alignas(64) EndpointState {
  static constexpr std::uint32_t kFullShare = 10;

  std::atomic<std::uint32_t> exchanges{0};    ///< now
  std::atomic<std::uint32_t> connections{0};  ///< now, those that were opened for this service
  /// Tenths of its share by the health check: 0 while it is down, less than all while it starts.
  std::atomic<std::uint32_t> share{kFullShare};
  std::atomic<std::uint32_t> failures_in_row{0};
  std::atomic<std::uint32_t> ejections{0};     ///< those that it was not forgiven
  std::atomic<Instant::rep> ejected_until{0};  ///< in the past: it is not
  std::atomic<std::uint64_t> requests{0};      ///< attempts, ever
  std::atomic<std::uint64_t> failures{0};      ///< of them

  [[nodiscard]] bool is_up() const { return share.load(std::memory_order_relaxed) > 0; }
  [[nodiscard]] bool is_ejected(Instant now) const {
    return ejected_until.load(std::memory_order_relaxed) > now.time_since_epoch().count();
  }
};

/// Likewise of a service.
struct alignas(64) ServiceState {
  std::atomic<std::uint32_t> exchanges{0};  ///< now, with those that wait
  std::atomic<std::uint32_t> waiting{0};    ///< now, for an endpoint that is not full
  std::atomic<std::uint32_t> retrying{0};   ///< now: exchanges in their second attempt or later
  std::atomic_flag ejecting;                ///< somebody decides about an ejection
  std::atomic<bool> fails_open{false};      ///< so few endpoints are up that all are used
};

/// Which state belongs to which endpoint, so that a new configuration goes on with what is known.
/// Used by the control thread; what nothing refers to any more is forgotten.
class EndpointBook {
 public:
  [[nodiscard]] std::shared_ptr<ServiceState> service(const std::string& name);
  [[nodiscard]] std::shared_ptr<EndpointState> endpoint(const std::string& service,
                                                        const wire::Endpoint& endpoint);
  void forget_unused();

 private:
  std::map<std::string, std::weak_ptr<ServiceState>> services_;
  std::map<std::pair<std::string, wire::Endpoint>, std::weak_ptr<EndpointState>> endpoints_;
};

}  // namespace weir::proxy
