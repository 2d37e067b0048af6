#pragma once

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "l4/base/assert.h"
#include "l4/base/fd.h"
#include "l4/base/result.h"

namespace weir::l4 {

/// Owns the descriptor of a kernel map of keys K and values V. The map itself lives as long as a
/// pin, a program or a descriptor holds it.
template <typename K, typename V>
class Map {
  static_assert(std::has_unique_object_representations_v<K>, "padding would make keys differ");
  static_assert(std::is_trivially_copyable_v<V>);

 public:
  Map() = default;
  Map(UniqueFd fd, std::string name) : fd_{std::move(fd)}, name_{std::move(name)} {}

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] UniqueFd release() && { return std::move(fd_); }

  [[nodiscard]] Result<std::optional<V>> get(const K& key) const {
    V value{};
    if (::bpf_map_lookup_elem(fd_.get(), &key, &value) == 0) return std::optional<V>{value};
    if (errno == ENOENT) return std::optional<V>{};
    return Error::from_errno("reading map " + name_);
  }

  [[nodiscard]] Result<void> set(const K& key, const V& value) const {
    if (::bpf_map_update_elem(fd_.get(), &key, &value, BPF_ANY) == 0) return {};
    return Error::from_errno("writing map " + name_);
  }

  /// As many entries as there are keys, in as few calls as the kernel takes.
  [[nodiscard]] Result<void> set_all(std::span<const K> keys, std::span<const V> values) const {
    WEIR_ASSERT(keys.size() == values.size());  // the caller makes both from one list
    for (std::size_t done = 0; done < keys.size();) {
      auto count =
          static_cast<std::uint32_t>(std::min<std::size_t>(keys.size() - done, kBatchWritten));
      if (::bpf_map_update_batch(fd_.get(), keys.data() + done, values.data() + done, &count,
                                 nullptr) != 0)
        return Error::from_errno("filling map " + name_);
      done += count;
    }
    return {};
  }

  /// Removing what is not there is success.
  [[nodiscard]] Result<void> erase(const K& key) const {
    if (::bpf_map_delete_elem(fd_.get(), &key) == 0 || errno == ENOENT) return {};
    return Error::from_errno("deleting from map " + name_);
  }

  /// All entries, in the kernel's order. Entries that others add or remove meanwhile may be
  /// missing; at most `limit` are returned.
  [[nodiscard]] Result<std::vector<std::pair<K, V>>> entries(std::size_t limit) const {
    std::vector<std::pair<K, V>> found;
    std::vector<K> keys(kBatch);
    std::vector<V> values(kBatch);
    // The kernel's cursor is a key for arrays and a bucket number for hashes.
    union {
      K key;
      std::uint64_t bucket;
    } cursor{};
    for (bool first = true; found.size() < limit; first = false) {
      std::uint32_t count = kBatch;
      const int outcome = ::bpf_map_lookup_batch(fd_.get(), first ? nullptr : &cursor, &cursor,
                                                 keys.data(), values.data(), &count, nullptr);
      if (outcome != 0 && errno != ENOENT) return Error::from_errno("reading map " + name_);
      for (std::uint32_t i = 0; i < count; ++i)
        found.emplace_back(keys[i], values[i]);
      if (outcome != 0) return found;  // ENOENT: this batch was the last
    }
    return found;
  }

 private:
  static constexpr std::size_t kBatchWritten = 1U << 20;
  static constexpr std::uint32_t kBatch = 4096;  // must hold the fullest bucket of a hash
  UniqueFd fd_;
  std::string name_;
};

/// The same for a map that has one value per CPU.
template <typename K, typename V>
class PerCpuMap {
  static_assert(std::has_unique_object_representations_v<K>);
  static_assert(std::is_trivially_copyable_v<V> && sizeof(V) % 8 == 0,
                "the kernel rounds each CPU's value up to 8 bytes");

 public:
  PerCpuMap() = default;
  PerCpuMap(UniqueFd fd, std::string name) : fd_{std::move(fd)}, name_{std::move(name)} {}

  [[nodiscard]] int fd() const { return fd_.get(); }

  /// One value per possible CPU.
  [[nodiscard]] Result<std::vector<V>> get(const K& key) const {
    const int cpus = ::libbpf_num_possible_cpus();
    if (cpus <= 0) return Error::from_errno("counting CPUs", -cpus);
    std::vector<V> values(static_cast<std::size_t>(cpus));
    if (::bpf_map_lookup_elem(fd_.get(), &key, values.data()) != 0)
      return Error::from_errno("reading map " + name_);
    return values;
  }

  /// Of an array: calls take(key, one value per possible CPU) for the keys 0 … count - 1, in order,
  /// with a system call for thousands of them. Before Linux 5.13 with one for each.
  template <typename Take>
  [[nodiscard]] Result<void> for_each(std::uint32_t count, const Take& take) const {
    const int possible = ::libbpf_num_possible_cpus();
    if (possible <= 0) return Error::from_errno("counting CPUs", -possible);
    const auto cpus = static_cast<std::size_t>(possible);
    std::vector<K> keys(kBatch);
    std::vector<V> values(kBatch * cpus);
    K cursor{};
    for (std::uint32_t done = 0; done < count;) {
      std::uint32_t read = std::min(count - done, kBatch);
      const int outcome = ::bpf_map_lookup_batch(fd_.get(), done == 0 ? nullptr : &cursor, &cursor,
                                                 keys.data(), values.data(), &read, nullptr);
      if (outcome != 0 && done == 0 && read == 0) return for_each_singly(count, take);
      if (outcome != 0 && errno != ENOENT) return Error::from_errno("reading map " + name_);
      for (std::uint32_t i = 0; i < read; ++i)
        take(keys[i], std::span<const V>{values}.subspan(i * cpus, cpus));
      if (outcome != 0) return {};  // ENOENT: the array ends here
      done += read;
    }
    return {};
  }

  /// Sets every CPU's value to zero.
  [[nodiscard]] Result<void> clear(const K& key) const {
    const int cpus = ::libbpf_num_possible_cpus();
    if (cpus <= 0) return Error::from_errno("counting CPUs", -cpus);
    const std::vector<V> zeros(static_cast<std::size_t>(cpus));
    if (::bpf_map_update_elem(fd_.get(), &key, zeros.data(), BPF_ANY) != 0)
      return Error::from_errno("clearing map " + name_);
    return {};
  }

 private:
  static constexpr std::uint32_t kBatch = 1024;

  template <typename Take>
  Result<void> for_each_singly(std::uint32_t count, const Take& take) const {
    for (std::uint32_t key = 0; key < count; ++key) {
      const Result<std::vector<V>> values = get(key);
      if (!values) return values.error();
      take(K{key}, std::span<const V>{*values});
    }
    return {};
  }

  UniqueFd fd_;
  std::string name_;
};

}  // namespace weir::l4
