#pragma once

#include "tests/support/bpf_runner.h"

/// What the two engines of bpf_runner.h share about counters.
namespace weir::testing {

using CounterValues = std::map<std::string, CounterDelta>;

Result<CounterValues> read_counters(BpfRunner& runner, BpfProgram program);
CounterValues moved_between(const CounterValues& before, const CounterValues& after);

}  // namespace weir::testing
