#pragma once

#include <initializer_list>

#include "l4/base/fd.h"
#include "l4/base/result.h"

namespace weir {

/// Blocks the signals for this thread and those it starts, and returns a non-blocking signalfd that
/// delivers them instead. Called before any other thread exists.
Result<UniqueFd> take_signals(std::initializer_list<int> signals);

}  // namespace weir
