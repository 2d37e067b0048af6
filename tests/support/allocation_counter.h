#pragma once

#include <cstddef>
#include <optional>

#include "tests/support/alloc_guard.h"
#include "tests/support/proxy_world.h"

namespace weir::testing {

/// What a worker's turns allocate while it observes a world.
class AllocationCounter final : public TurnObserver {
 public:
  void before_turn() override { guard_.emplace(); }
  void after_turn() override { allocations += guard_->allocations(); }
  std::size_t allocations = 0;

 private:
  std::optional<AllocationGuard> guard_;
};

}  // namespace weir::testing
