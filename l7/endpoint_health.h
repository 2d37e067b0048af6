#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "l4/base/clock.h"
#include "l4/base/result.h"
#include "l4/control/health.h"
#include "l4/control/model.h"
#include "l4/control/prober.h"
#include "l7/proxy/snapshot.h"

namespace weir::l7 {

/// What checks have found out about an endpoint, for people.
struct EndpointHealthView {
  control::HealthState state = control::HealthState::kUp;
  Duration since{};
  std::string last;  ///< how the last probe ended; empty before the first
};

/// Active health checks of services: every endpoint is asked once, however many workers and routes
/// it has, over the node's own network. Workers learn of it by EndpointState::share. Any thread.
///
/// An endpoint that comes into a service that is served already must show first that it works; of a
/// service that is new here, and at the start, all are taken to work until checks say otherwise.
class EndpointHealth {
 public:
  /// From here on these; what is known of endpoints that stay is kept.
  Result<void> set_services(const control::Model& model, const proxy::Snapshot& snapshot,
                            Instant now);
  /// Takes in what probes have found, and what time alone changes.
  void advance(Instant now);

  /// Nothing where its service has no check.
  [[nodiscard]] std::optional<EndpointHealthView> find(const std::string& service,
                                                       const wire::Endpoint& endpoint,
                                                       Instant now) const;

 private:
  struct Entry {
    std::uint64_t id = 0;
    control::BackendHealth health;
    std::shared_ptr<proxy::EndpointState> state;
    std::string hostname = {};  // that has led to it
  };
  struct Service {
    control::HealthCheck check;
    std::shared_ptr<proxy::ServiceState> state;
    std::map<wire::Endpoint, Entry> endpoints;
  };
  void set_service(const control::Service& wanted, const proxy::ServiceEntry& entry, Instant now);
  Result<void> set_targets();
  static void tell_workers(Service& service, Instant now);

  mutable std::mutex mutex_;
  std::map<std::string, Service> services_;  // those that have a check
  std::map<std::uint64_t, std::pair<std::string, wire::Endpoint>> by_id_;
  std::uint64_t last_id_ = 0;
  std::optional<control::Prober> prober_;  // once there is something to ask
};

}  // namespace weir::l7
