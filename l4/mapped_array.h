#pragma once

#include <bpf/bpf.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <atomic>
#include <cstddef>
#include <span>
#include <string_view>
#include <utility>

#include "l4/base/result.h"

namespace weir::l4 {

/// A value, or a part of one, that the program may be writing on another CPU: never torn.
template <typename T>
T read_now(T& part) {
  return std::atomic_ref{part}.load(std::memory_order_relaxed);
}

/// Owns the mapping of an array map with BPF_F_MMAPABLE, seen as values of T, of which a value of
/// the map has a whole number. The program reads and writes the same memory meanwhile.
template <typename T>
class MappedArray {
 public:
  static Result<MappedArray> open(int map_fd, std::string_view name) {
    bpf_map_info info{};
    std::uint32_t info_bytes = sizeof(info);
    if (::bpf_obj_get_info_by_fd(map_fd, &info, &info_bytes) != 0)
      return Error::from_errno(fmt::format("examining map {}", name));
    const std::size_t bytes = std::size_t{info.max_entries} * info.value_size;
    void* start = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0);
    if (start == MAP_FAILED) return Error::from_errno(fmt::format("mapping {}", name));
    return MappedArray{start, bytes};
  }
  MappedArray(MappedArray&& other) noexcept
      : start_{std::exchange(other.start_, nullptr)}, bytes_{other.bytes_} {}
  MappedArray& operator=(MappedArray&&) = delete;
  MappedArray(const MappedArray&) = delete;
  MappedArray& operator=(const MappedArray&) = delete;
  ~MappedArray() {
    if (start_ != nullptr) ::munmap(start_, bytes_);
  }

  [[nodiscard]] std::span<T> values() const {
    return {static_cast<T*>(start_), bytes_ / sizeof(T)};
  }

 private:
  MappedArray(void* start, std::size_t bytes) : start_{start}, bytes_{bytes} {}
  void* start_;
  std::size_t bytes_;
};

}  // namespace weir::l4
