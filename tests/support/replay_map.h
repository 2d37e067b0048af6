#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

namespace weir::testing {

class ReplayMap;

/// A map of the packet path that goes back to what user space wrote into it. A map that user space
/// writes is never written by the program, and one that the program writes is empty before the
/// first frame; so there is nothing to copy, and that the first holds is checked.
class ReplayMap {
 public:
  struct Shape {
    const char* name;
    std::uint32_t type;
    std::uint32_t key_bytes;
    std::uint32_t value_bytes;
    std::uint32_t max_entries;
  };

  explicit ReplayMap(const Shape& shape);

  [[nodiscard]] const Shape& shape() const { return shape_; }
  [[nodiscard]] bool is_outer() const;

  /// NULL like the kernel's: no such key, or an array index out of range.
  void* find(const void* key);
  [[nodiscard]] bool contains(const void* key) const;
  long update(const void* key, const void* value, std::uint64_t flags);
  long erase(const void* key);

  /// An outer map's: NULL where the slot is empty.
  [[nodiscard]] ReplayMap* inner(std::uint32_t index) const;
  void set_inner(std::uint32_t index, ReplayMap* map);

  /// What is in it now is user space's; if nothing is, the map is the program's.
  void seal();
  /// Whether a map of user space is no longer what it was.
  [[nodiscard]] bool is_broken() const;
  void reset();
  /// Values that were handed out since the last reset; an array's, by index.
  [[nodiscard]] std::span<const std::uint32_t> touched() const { return touched_; }

 private:
  static constexpr std::size_t kKeyBytesMax = 40;
  using Key = std::array<std::uint64_t, kKeyBytesMax / 8>;  ///< zeros behind
  struct Hash {
    std::size_t operator()(const Key& key) const noexcept;
  };
  struct Value {
    std::unique_ptr<std::byte[]> now;
    std::unique_ptr<std::byte[]> sealed;  ///< of user space's maps
    bool is_touched = false;
  };

  [[nodiscard]] bool is_array() const;
  [[nodiscard]] bool is_indexed() const;
  [[nodiscard]] Key key_of(const void* key) const;
  void* find_index(std::uint32_t index);
  void* find_longest(const Key& key);
  [[nodiscard]] std::unique_ptr<std::byte[]> make_value(const void* from) const;
  [[nodiscard]] bool is_as_sealed(const Value& value) const;

  Shape shape_;
  bool is_sealed_ = false;       ///< the world is complete
  bool is_user_spaces_ = false;  ///< and wrote into this map
  bool was_changed_ = false;     ///< by the program, though it is user space's
  std::vector<Value> array_;
  std::unordered_map<Key, Value, Hash> hash_;
  std::vector<std::uint32_t> touched_;
  std::unordered_map<std::uint32_t, ReplayMap*> inner_;
};

}  // namespace weir::testing
