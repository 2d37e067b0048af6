#pragma once

#include <string>
#include <vector>

#include "l4/control/diff.h"

/// Changes in words with values, one line each, for dry runs and histories.
namespace weir::control {

/// "add vip 203.0.113.53:53/udp (ipip, 2 backends)", "remove vip …", and of a VIP that gets other
/// values each of them: "vip 203.0.113.53:53/udp: backend 10.0.2.11 weight 100 → 50". Values have
/// the admin API's names; those of a later version need nothing here.
std::vector<std::string> change_lines(const Operation& operation);

}  // namespace weir::control
