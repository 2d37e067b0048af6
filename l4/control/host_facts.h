#pragma once

#include <string>
#include <vector>

#include "l4/base/result.h"
#include "l4/control/config.h"
#include "l4/control/model.h"

/// What the configuration must agree with on the machine it is applied to.
namespace weir::control {

struct HostAddress {
  std::string interface;
  wire::IpAddress address;
  friend bool operator==(const HostAddress&, const HostAddress&) = default;
};

/// The devices and addresses of one network namespace at one moment.
struct HostFacts {
  std::vector<std::string> interfaces;  ///< sorted by name
  std::vector<HostAddress> addresses;   ///< without IPv6 link-local ones
  friend bool operator==(const HostFacts&, const HostFacts&) = default;
};

/// Of the network namespace of the calling thread.
Result<HostFacts> read_host_facts();

/// Devices that do not exist; VIPs and L7 addresses that the host's own stack also answers for: the
/// program would take the host's traffic away, remote logins included. `source` gives the
/// diagnostics their places; a model that came from elsewhere has an empty one.
std::vector<Diagnostic> check_against_host(const Model& model, const HostFacts& facts,
                                           const SourceMap& source = {});

}  // namespace weir::control
