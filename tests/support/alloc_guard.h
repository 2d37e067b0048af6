#pragma once

#include <cstddef>

namespace weir::testing {

/// Counts the calls of the global operator new and delete of this thread while it lives. Linking
/// it replaces these operators for the whole test program.
///
///   AllocationGuard guard;
///   … the hot path …
///   EXPECT_EQ(guard.allocations(), 0U);
class AllocationGuard {
 public:
  AllocationGuard();
  [[nodiscard]] std::size_t allocations() const;
  [[nodiscard]] std::size_t deallocations() const;

 private:
  std::size_t allocations_before_;
  std::size_t deallocations_before_;
};

}  // namespace weir::testing
