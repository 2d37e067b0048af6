#pragma once

#include <string>
#include <vector>

#include "l4/base/result.h"
#include "l4/decap.h"

/// What of the host decides whether decapsulation works on it.
namespace weir::l4 {

/// Packets of other devices do not begin with an Ethernet header.
Result<void> check_is_ethernet(const std::string& device);

/// Settings of the host that will drop what has been decapsulated, each with its remedy.
std::vector<std::string> decap_host_warnings(const std::string& device,
                                             const DecapSettings& settings);

}  // namespace weir::l4
