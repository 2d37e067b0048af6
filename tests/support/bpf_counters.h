#pragma once

#include <span>
#include <vector>

#include "tests/support/bpf_runner.h"

/// What the two engines of bpf_runner.h share about counters.
namespace weir::testing {

using CounterValues = std::map<std::string, CounterDelta>;

/// All of them, in an order of their own: they are read twice a packet, so that names are left to
/// moved_between().
Result<std::vector<CounterDelta>> read_counters(BpfRunner& runner, BpfProgram program);
CounterValues moved_between(BpfProgram program, std::span<const CounterDelta> before,
                            std::span<const CounterDelta> after);

}  // namespace weir::testing
