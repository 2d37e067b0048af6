#pragma once

#include "tests/support/bpf_runner.h"

namespace weir::testing {

/// Writes the balancer's settings, which are variables on the host. They are the process's: whoever
/// runs one of several balancers sets them before each run.
void set_host_balancer(const BpfSettings& settings);

}  // namespace weir::testing
