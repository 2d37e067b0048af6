#pragma once

#include <stop_token>
#include <thread>

#include "l4/control/config_watch.h"
#include "l7/admin_api.h"

namespace weir::l7 {

/// Applies a file again whenever it is replaced, as long as it lives. In a thread of its own: a
/// large file and names that are looked up take their time.
class ConfigFollower {
 public:
  /// The API outlives it, and serves already.
  ConfigFollower(control::ConfigWatch watch, AdminApi& api);

 private:
  void run(const std::stop_token& stop);

  control::ConfigWatch watch_;
  AdminApi& api_;
  std::jthread thread_;  // ends before the rest
};

}  // namespace weir::l7
