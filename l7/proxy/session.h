#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "l4/base/siphash.h"
#include "l4/control/model.h"
#include "l7/proxy/snapshot_index.h"

namespace weir::proxy {

/// Where a client that has been here before belongs.
struct SessionTarget {
  ServiceIndex service = 0;
  EndpointIndex endpoint = 0;
};

/// Session persistence of one rule (Gateway API, GEP-1619) by a cookie that we give. Its value is a
/// keyed hash of the service and the endpoint: every gateway with the same seed understands it,
/// nobody reads an address in it, and a configuration with more endpoints changes none.
class SessionTable {
 public:
  SessionTable(control::SessionPersistence policy, const SipKey& key);

  void add(const SessionTarget& target, std::string_view service, const wire::Endpoint& endpoint);
  /// By the value of the client's cookie.
  [[nodiscard]] std::optional<SessionTarget> find(std::string_view cookie) const;
  [[nodiscard]] const std::string& cookie() const { return policy_.cookie; }
  /// The value of Set-Cookie that sends a client to an endpoint from now on.
  [[nodiscard]] std::string set_cookie(std::string_view service, const wire::Endpoint& endpoint,
                                       bool secure) const;

 private:
  [[nodiscard]] std::string value_of(std::string_view service,
                                     const wire::Endpoint& endpoint) const;

  control::SessionPersistence policy_;
  SipKey key_;
  std::map<std::string, SessionTarget, std::less<>> targets_;
};

}  // namespace weir::proxy
