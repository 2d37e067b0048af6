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

/// What a hundred calls of `ask` make the worker allocate, once another hundred have been made.
template <typename Ask>
std::size_t allocations_of_a_hundred(ProxyWorld& world, Ask&& ask) {
  for (int i = 0; i < 100; ++i)
    ask();
  AllocationCounter counter;
  world.observe(&counter);
  for (int i = 0; i < 100; ++i)
    ask();
  world.observe(nullptr);
  return counter.allocations;
}

}  // namespace weir::testing
