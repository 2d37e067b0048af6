#include "tests/support/replay_map.h"

#include <linux/bpf.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "l4/base/assert.h"

namespace weir::testing {

ReplayMap::ReplayMap(const Shape& shape) : shape_{shape} {
  WEIR_ASSERT(shape.key_bytes <= kKeyBytesMax);  // the largest is a flow's
  if (is_array()) array_.resize(shape.max_entries);
}

bool ReplayMap::is_outer() const { return shape_.type == BPF_MAP_TYPE_ARRAY_OF_MAPS; }

bool ReplayMap::is_array() const {
  return shape_.type == BPF_MAP_TYPE_ARRAY || shape_.type == BPF_MAP_TYPE_PERCPU_ARRAY;
}

bool ReplayMap::is_indexed() const {
  return is_array() || is_outer() || shape_.type == BPF_MAP_TYPE_DEVMAP;
}

std::size_t ReplayMap::Hash::operator()(const Key& key) const noexcept {
  std::uint64_t hash = 0;
  for (const std::uint64_t word : key)
    hash = (hash ^ word) * 0x9e3779b97f4a7c15;
  return hash ^ hash >> 32;
}

ReplayMap::Key ReplayMap::key_of(const void* key) const {
  Key out{};
  std::memcpy(out.data(), key, shape_.key_bytes);
  return out;
}

std::unique_ptr<std::byte[]> ReplayMap::make_value(const void* from) const {
  auto value = std::make_unique<std::byte[]>(shape_.value_bytes);
  if (from != nullptr) std::memcpy(value.get(), from, shape_.value_bytes);
  return value;
}

void* ReplayMap::find_index(std::uint32_t index) {
  if (index >= array_.size()) return nullptr;
  Value& value = array_[index];
  if (!value.now) value.now = make_value(nullptr);
  if (!value.is_touched) {
    value.is_touched = true;
    touched_.push_back(index);
  }
  return value.now.get();
}

void* ReplayMap::find(const void* key) {
  if (is_array()) {
    std::uint32_t index = 0;
    std::memcpy(&index, key, sizeof(index));
    return find_index(index);
  }
  const Key wanted = key_of(key);
  if (shape_.type == BPF_MAP_TYPE_LPM_TRIE) return find_longest(wanted);
  const auto found = hash_.find(wanted);
  return found == hash_.end() ? nullptr : found->second.now.get();
}

bool ReplayMap::contains(const void* key) const { return hash_.contains(key_of(key)); }

/// A trie's key is the length of a prefix in bits, then its bytes.
void* ReplayMap::find_longest(const Key& key) {
  const auto* wanted = reinterpret_cast<const std::uint8_t*>(key.data());
  const auto bits_of = [](const Key& of) { return static_cast<std::uint32_t>(of[0]); };
  void* longest = nullptr;
  std::uint32_t longest_bits = 0;
  for (auto& [prefix, value] : hash_) {
    const std::uint32_t bits = bits_of(prefix);
    if (bits > bits_of(key) || (longest != nullptr && bits <= longest_bits)) continue;
    const auto* have = reinterpret_cast<const std::uint8_t*>(prefix.data());
    const std::size_t whole = sizeof(std::uint32_t) + bits / 8;
    if (!std::equal(have + sizeof(std::uint32_t), have + whole, wanted + sizeof(std::uint32_t)))
      continue;
    if (bits % 8 != 0 && (have[whole] ^ wanted[whole]) >> (8 - bits % 8) != 0) continue;
    longest = value.now.get();
    longest_bits = bits;
  }
  return longest;
}

long ReplayMap::update(const void* key, const void* value, std::uint64_t flags) {
  if (is_sealed_ && is_user_spaces_) was_changed_ = true;
  if (is_array()) {
    std::uint32_t index = 0;
    std::memcpy(&index, key, sizeof(index));
    void* at = find_index(index);
    if (at == nullptr) return -E2BIG;
    std::memcpy(at, value, shape_.value_bytes);
    return 0;
  }
  const Key wanted = key_of(key);
  const auto found = hash_.find(wanted);
  if (found != hash_.end()) {
    if (flags == BPF_NOEXIST) return -EEXIST;
    std::memcpy(found->second.now.get(), value, shape_.value_bytes);
    return 0;
  }
  // An LRU map would make room. No input has frames for as many entries.
  if (hash_.size() >= shape_.max_entries) return -E2BIG;
  hash_[wanted].now = make_value(value);
  return 0;
}

long ReplayMap::erase(const void* key) {
  if (is_sealed_ && is_user_spaces_) was_changed_ = true;
  return hash_.erase(key_of(key)) == 1 ? 0 : -ENOENT;
}

ReplayMap* ReplayMap::inner(std::uint32_t index) const {
  const auto found = inner_.find(index);
  return found == inner_.end() ? nullptr : found->second;
}

void ReplayMap::set_inner(std::uint32_t index, ReplayMap* map) {
  WEIR_ASSERT(index < shape_.max_entries);  // tests name slots that there are
  inner_[index] = map;
}

void ReplayMap::seal() {
  is_sealed_ = true;
  for (const std::uint32_t index : touched_) {
    array_[index].sealed = make_value(array_[index].now.get());
    array_[index].is_touched = false;
  }
  for (auto& [key, value] : hash_)
    value.sealed = make_value(value.now.get());
  is_user_spaces_ = !touched_.empty() || !hash_.empty();
  touched_.clear();
}

/// An element that user space never wrote is zero.
bool ReplayMap::is_as_sealed(const Value& value) const {
  const std::byte* now = value.now.get();
  if (value.sealed) return std::memcmp(now, value.sealed.get(), shape_.value_bytes) == 0;
  return std::all_of(now, now + shape_.value_bytes, [](std::byte b) { return b == std::byte{0}; });
}

bool ReplayMap::is_broken() const {
  if (!is_user_spaces_) return false;
  if (was_changed_) return true;
  for (const std::uint32_t index : touched_)
    if (!is_as_sealed(array_[index])) return true;
  // Of the others each is small, and not looked at by way of an index.
  return std::ranges::any_of(hash_, [&](const auto& entry) { return !is_as_sealed(entry.second); });
}

void ReplayMap::reset() {
  for (const std::uint32_t index : touched_) {
    Value& value = array_[index];
    value.is_touched = false;
    if (!is_user_spaces_) std::memset(value.now.get(), 0, shape_.value_bytes);
  }
  touched_.clear();
  if (!is_user_spaces_) hash_.clear();
}

}  // namespace weir::testing
