#include "tests/support/alloc_guard.h"

#include <cstdlib>
#include <new>

namespace {

thread_local std::size_t allocation_count = 0;
thread_local std::size_t deallocation_count = 0;

void* allocate(std::size_t size, std::size_t alignment) {
  ++allocation_count;
  // aligned_alloc wants a multiple of the alignment; an empty object still needs an address.
  const std::size_t rounded = (size + alignment - 1) / alignment * alignment;
  void* const memory = alignment <= alignof(std::max_align_t)
                           ? std::malloc(size == 0 ? 1 : size)
                           : std::aligned_alloc(alignment, rounded);
  // A test that runs out of memory has nothing left to say.
  if (memory == nullptr) std::abort();
  return memory;
}

void deallocate(void* memory) {
  if (memory != nullptr) ++deallocation_count;
  std::free(memory);
}

}  // namespace

// Every form is named: those of a sanitizer would not come by here, and memory that one side
// allocates and the other frees is an error to it (std::stable_sort uses the nothrow form).
void* operator new(std::size_t size) { return allocate(size, 1); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return allocate(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { deallocate(memory); }
void operator delete(void* memory, std::size_t) noexcept { deallocate(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { deallocate(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { deallocate(memory); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return allocate(size, 1); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { deallocate(memory); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return allocate(size, 1); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { deallocate(memory); }
void* operator new[](std::size_t size) { return allocate(size, 1); }
void operator delete[](void* memory) noexcept { deallocate(memory); }
void operator delete[](void* memory, std::size_t) noexcept { deallocate(memory); }

namespace weir::testing {

AllocationGuard::AllocationGuard()
    : allocations_before_{allocation_count}, deallocations_before_{deallocation_count} {}

std::size_t AllocationGuard::allocations() const { return allocation_count - allocations_before_; }
std::size_t AllocationGuard::deallocations() const {
  return deallocation_count - deallocations_before_;
}

}  // namespace weir::testing
