#pragma once

#include <chrono>
#include <string>

#include "tools/weir/commands.h"

namespace weir::cli {

struct TopOptions {
  std::chrono::milliseconds interval{1000};
  std::string sort = "packets";  ///< address, packets, bits, flows or drops
  std::string filter;
  std::string vip;  ///< its backends instead of VIPs; empty: VIPs
  bool is_once = false;
};

/// Full screen until the person quits or a signal ends it; the terminal is as before then. With
/// is_once, one frame as text.
Outcome top(const Daemons& daemons, const TopOptions& options);

}  // namespace weir::cli
