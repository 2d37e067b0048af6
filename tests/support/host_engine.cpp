// The packet path compiled for the host: maps as plain containers, each value in an allocation of
// its exact size, and each frame too, so that the address sanitizer sees every byte too far.

#include "tests/support/host_engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <utility>

#include "tests/support/bpf_counters.h"
#include "tests/support/bpf_runner.h"
#include "tests/support/host_bpf/host_helpers.h"
#include "tests/support/host_settings.h"

namespace weir::testing {
namespace {

using Bytes = std::vector<std::byte>;

/// Frames start two bytes off an aligned address, so that IP headers are aligned as the kernel's
/// are; nothing lies behind their end.
class HostFrame {
 public:
  explicit HostFrame(std::span<const std::byte> bytes)
      : memory_{new std::byte[kOffset + bytes.size()]}, size_{bytes.size()} {
    std::ranges::copy(bytes, data());
  }

  [[nodiscard]] std::byte* data() const { return memory_.get() + kOffset; }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::span<const std::byte> bytes() const { return {data(), size_}; }

 private:
  static constexpr std::size_t kOffset = 2;
  std::unique_ptr<std::byte[]> memory_;
  std::size_t size_;
};

class HostMap {
 public:
  HostMap(std::uint32_t type, std::uint32_t key_bytes, std::uint32_t value_bytes,
          std::uint32_t max_entries)
      : type_{type}, key_bytes_{key_bytes}, value_bytes_{value_bytes}, max_entries_{max_entries} {}

  /// NULL like the kernel's lookup: no such key, or an array index out of range.
  void* find(const void* key) {
    const Bytes bytes = key_of(key);
    if (type_ == BPF_MAP_TYPE_LPM_TRIE) return find_longest(bytes);
    const auto found = values_.find(bytes);
    if (found != values_.end()) return found->second.get();
    if (!is_array() || index_of(bytes) >= max_entries_) return nullptr;
    return insert(bytes);
  }

  long update(const void* key, const void* value, std::uint64_t flags = BPF_ANY) {
    const Bytes bytes = key_of(key);
    if (flags == BPF_NOEXIST && values_.contains(bytes)) return -EEXIST;
    if (is_indexed() && index_of(bytes) >= max_entries_) return -E2BIG;
    const auto found = values_.find(bytes);
    if (found == values_.end() && values_.size() >= max_entries_) {
      if (type_ != BPF_MAP_TYPE_LRU_HASH) return -E2BIG;
      values_.erase(values_.begin());  // which entry goes is not part of the contract
    }
    std::memcpy(found == values_.end() ? insert(bytes) : found->second.get(), value, value_bytes_);
    return 0;
  }

  long erase(const void* key) { return values_.erase(key_of(key)) == 1 ? 0 : -ENOENT; }

  /// As user space does before load.
  void set_max_entries(std::uint32_t count) { max_entries_ = count; }
  [[nodiscard]] bool is_outer() const { return type_ == BPF_MAP_TYPE_ARRAY_OF_MAPS; }
  [[nodiscard]] bool contains(const void* key) const { return values_.contains(key_of(key)); }
  [[nodiscard]] std::uint32_t key_bytes() const { return key_bytes_; }
  [[nodiscard]] std::uint32_t value_bytes() const { return value_bytes_; }

 private:
  [[nodiscard]] bool is_array() const {
    return type_ == BPF_MAP_TYPE_ARRAY || type_ == BPF_MAP_TYPE_PERCPU_ARRAY;
  }
  [[nodiscard]] bool is_indexed() const {
    return is_array() || type_ == BPF_MAP_TYPE_DEVMAP || type_ == BPF_MAP_TYPE_ARRAY_OF_MAPS;
  }
  [[nodiscard]] Bytes key_of(const void* key) const {
    const auto* bytes = static_cast<const std::byte*>(key);
    return {bytes, bytes + key_bytes_};
  }
  /// A trie's key is the length of a prefix in bits, then its bytes.
  void* find_longest(const Bytes& key) {
    void* longest = nullptr;
    std::uint32_t longest_bits = 0;
    for (const auto& [prefix, value] : values_) {
      const std::uint32_t bits = index_of(prefix);
      if (bits > index_of(key) || (longest != nullptr && bits <= longest_bits)) continue;
      if (!is_prefix(prefix, key, bits)) continue;
      longest = value.get();
      longest_bits = bits;
    }
    return longest;
  }
  static bool is_prefix(const Bytes& prefix, const Bytes& key, std::uint32_t bits) {
    for (std::uint32_t bit = 0; bit < bits; ++bit) {
      const std::size_t at = sizeof(std::uint32_t) + bit / 8;
      if (((prefix[at] ^ key[at]) & std::byte(0x80U >> bit % 8)) != std::byte{0}) return false;
    }
    return true;
  }
  static std::uint32_t index_of(const Bytes& key) {
    std::uint32_t index = 0;
    std::memcpy(&index, key.data(), sizeof(index));
    return index;
  }
  void* insert(const Bytes& key) {
    auto& value = values_[key] = std::make_unique<std::byte[]>(value_bytes_);
    return value.get();
  }

  std::uint32_t type_;
  std::uint32_t key_bytes_;
  std::uint32_t value_bytes_;
  std::uint32_t max_entries_;
  std::map<Bytes, std::unique_ptr<std::byte[]>> values_;
};

struct HostProgram {
  int (*entry)(xdp_md*);
  const weir_host_map* maps;
};

HostProgram host_program(BpfProgram program) {
  switch (program) {
    case BpfProgram::kBalancer:
      return {weir_lb, weir_lb_maps};
    case BpfProgram::kL7Return:
      return {weir_l7_return, weir_l7_return_maps};
    case BpfProgram::kDecapsulator:
    case BpfProgram::kDecapsulatorTc:  // what both decide is one; only taking headers off differs
      return {weir_decap, weir_decap_maps};
  }
  return {};
}

class HostRunner final : public BpfRunner {
 public:
  HostRunner(BpfProgram program, const BpfSettings& settings)
      : program_{program}, settings_{settings}, host_{host_program(program)} {
    for (const weir_host_map* map = host_.maps; map->identity != nullptr; ++map) {
      auto made =
          std::make_unique<HostMap>(map->type, map->key_bytes, map->value_bytes, map->max_entries);
      by_name_[map->name] = made.get();
      by_identity_[map->identity] = std::move(made);
    }
    if (settings.nat_records == 0 || program != BpfProgram::kBalancer) return;
    by_name("weir_nat_flows")->set_max_entries(settings.nat_records);
    by_name("weir_nat_index")->set_max_entries(2 * settings.nat_records);
  }

  Result<RunResult> run(std::span<const std::byte> frame) override {
    auto before = read_counters(*this, program_);
    if (!before) return std::move(before).error();
    RunResult result = run_once(frame);
    auto after = read_counters(*this, program_);
    if (!after) return std::move(after).error();
    result.moved = moved_between(program_, *before, *after);
    return result;
  }

  Result<void> write_bytes(std::string_view name, std::span<const std::byte> key,
                           std::span<const std::byte> value) override {
    HostMap* map = by_name(name);
    WEIR_ASSERT(key.size() == map->key_bytes() && value.size() == map->value_bytes());
    const long status = map->update(key.data(), value.data());
    if (status != 0) return Error::from_errno(fmt::format("writing {}", name), -int(status));
    return {};
  }

  Result<void> erase_bytes(std::string_view name, std::span<const std::byte> key) override {
    HostMap* map = by_name(name);
    if (map->is_outer()) {
      std::uint32_t index = 0;
      std::memcpy(&index, key.data(), sizeof(index));
      inner_.erase({map, index});
      return {};
    }
    const long status = map->erase(key.data());
    if (status != 0) return Error::from_errno(fmt::format("erasing from {}", name), -int(status));
    return {};
  }

  Result<Bytes> read_bytes(std::string_view name, std::span<const std::byte> key) override {
    HostMap* map = by_name(name);
    const auto* value = static_cast<const std::byte*>(map->find(key.data()));
    if (value == nullptr) return Error::from_errno(fmt::format("reading {}", name), ENOENT);
    return Bytes{value, value + map->value_bytes()};
  }

  Result<void> publish_map(std::string_view outer, std::uint32_t index,
                           const InnerMap& inner) override {
    const std::uint32_t entries = std::max(inner.max_entries, std::uint32_t{1});
    auto made = std::make_unique<HostMap>(inner.type, inner.key_bytes, inner.value_bytes, entries);
    for (const auto& [key, value] : inner.entries)
      made->update(key.data(), value.data());
    inner_[{by_name(outer), index}] = std::move(made);
    return {};
  }

  void set_ticks(std::uint64_t ticks) override { ticks_ = ticks; }
  [[nodiscard]] std::uint64_t ticks() const { return ticks_; }
  [[nodiscard]] std::size_t frame_size() const { return frame_->size(); }
  [[nodiscard]] const std::byte* frame_data() const { return frame_->data(); }
  std::vector<weir_event> take_events() override { return std::exchange(events_, {}); }
  weir_event* reserve_event() { return &reserved_; }
  void submit_event() { events_.push_back(reserved_); }

  // What the helpers below need while a program runs.

  void* find(const void* identity, const void* key) {
    HostMap* map = by_identity(identity);
    if (!map->is_outer()) return map->find(key);
    std::uint32_t index = 0;
    std::memcpy(&index, key, sizeof(index));
    const auto inner = inner_.find({map, index});
    return inner == inner_.end() ? nullptr : inner->second.get();
  }

  HostMap* by_identity(const void* identity) {
    if (const auto found = by_identity_.find(identity); found != by_identity_.end())
      return found->second.get();
    for (const auto& [slot, map] : inner_)
      if (map.get() == identity) return map.get();
    WEIR_ASSERT(!"a program names only its own maps");
    return nullptr;
  }

  /// The old frame is freed at once: a pointer kept over an adjustment is a use after free.
  long resize(xdp_md* ctx, int head, int tail) {
    const long size = static_cast<long>(frame_->size()) - head + tail;
    if (size < kEthernetBytes) return -EINVAL;
    Bytes bytes(static_cast<std::size_t>(size));
    const auto old = frame_->bytes();
    for (long i = 0; i < size; ++i) {
      const long from = i + head;
      if (from >= 0 && from < static_cast<long>(old.size()))
        bytes[static_cast<std::size_t>(i)] = old[static_cast<std::size_t>(from)];
    }
    frame_ = std::make_unique<HostFrame>(bytes);
    point_at_frame(*ctx);
    return 0;
  }

  static HostRunner* running;

 private:
  static constexpr long kEthernetBytes = 14;

  RunResult run_once(std::span<const std::byte> frame) {
    set_host_balancer(settings_);
    weir_decap_any_source = settings_.decapsulate_any_source ? 1 : 0;
    weir_decap_any_vip = settings_.decapsulate_any_vip ? 1 : 0;
    weir_decap_drop_foreign = settings_.decapsulate_drop_foreign ? 1 : 0;

    xdp_md ctx{};
    ctx.ingress_ifindex = kAnyDevice;
    frame_ = std::make_unique<HostFrame>(frame);
    point_at_frame(ctx);
    running = this;
    RunResult result;
    result.action = static_cast<std::uint32_t>(host_.entry(&ctx));
    running = nullptr;
    result.output.assign(frame_->bytes().begin(), frame_->bytes().end());
    return result;
  }

  void point_at_frame(xdp_md& ctx) const {
    // The program's own view of a packet is a pair of integers that it turns back.
    ctx.data = reinterpret_cast<std::uintptr_t>(frame_->data());
    ctx.data_end = ctx.data + frame_->size();
  }

  HostMap* by_name_or_null(std::string_view name) {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : found->second;
  }
  HostMap* by_name(std::string_view name) {
    HostMap* map = by_name_or_null(name);
    WEIR_ASSERT(map != nullptr);  // tests name maps of the program they run
    return map;
  }

  BpfProgram program_;
  BpfSettings settings_;
  HostProgram host_;
  std::map<const void*, std::unique_ptr<HostMap>> by_identity_;
  std::map<std::string, HostMap*, std::less<>> by_name_;
  std::map<std::pair<HostMap*, std::uint32_t>, std::unique_ptr<HostMap>> inner_;
  std::uint64_t ticks_ = 1'000'000;
  weir_event reserved_{};
  std::vector<weir_event> events_;
  std::unique_ptr<HostFrame> frame_;
};

HostRunner* HostRunner::running = nullptr;

}  // namespace

Result<std::unique_ptr<BpfRunner>> make_host_runner(BpfProgram program,
                                                    const BpfSettings& settings) {
  return std::unique_ptr<BpfRunner>{std::make_unique<HostRunner>(program, settings)};
}

}  // namespace weir::testing

using weir::testing::HostRunner;

extern "C" {

void* weir_host_map_lookup_elem(const void* map, const void* key) {
  return HostRunner::running->find(map, key);
}

long weir_host_map_update_elem(const void* map, const void* key, const void* value, __u64 flags) {
  return HostRunner::running->by_identity(map)->update(key, value, flags);
}

long weir_host_map_delete_elem(const void* map, const void* key) {
  return HostRunner::running->by_identity(map)->erase(key);
}

/// Of the devices that tests name, only the loopback device exists.
long weir_host_check_mtu(void*, __u32 ifindex, __u32* mtu, __s32 difference, __u64) {
  constexpr __u32 kLoopbackMtu = 65536;
  if (ifindex != HostRunner::kAnyDevice) return -ENODEV;
  const bool is_too_big = *mtu + static_cast<__u32>(difference) > kLoopbackMtu;
  *mtu = kLoopbackMtu;
  return is_too_big ? BPF_MTU_CHK_RET_FRAG_NEEDED : BPF_MTU_CHK_RET_SUCCESS;
}

/// Like the kernel's: a missing slot gives the action in the low bits of `flags`.
long weir_host_redirect_map(const void* map, __u64 key, __u64 flags) {
  const auto index = static_cast<std::uint32_t>(key);
  if (HostRunner::running->by_identity(map)->contains(&index)) return XDP_REDIRECT;
  return static_cast<long>(flags & 3);
}

/// Like the kernel's: sizes are of whole words, what is taken away is added inverted.
__s64 weir_host_csum_diff(const __be32* from, __u32 from_size, const __be32* to, __u32 to_size,
                          __u32 seed) {
  if (from_size % 4 != 0 || to_size % 4 != 0) return -EINVAL;
  std::uint64_t sum = seed;
  for (__u32 at = 0; at < from_size; at += 4) {
    std::uint32_t word = 0;
    std::memcpy(&word, reinterpret_cast<const std::byte*>(from) + at, sizeof(word));
    sum += ~word;
  }
  for (__u32 at = 0; at < to_size; at += 4) {
    std::uint32_t word = 0;
    std::memcpy(&word, reinterpret_cast<const std::byte*>(to) + at, sizeof(word));
    sum += word;
  }
  while (sum >> 32 != 0)
    sum = (sum & 0xffffffff) + (sum >> 32);
  return static_cast<__s64>(sum);
}

long weir_host_xdp_adjust_head(xdp_md* ctx, int delta) {
  return HostRunner::running->resize(ctx, delta, 0);
}

long weir_host_xdp_adjust_tail(xdp_md* ctx, int delta) {
  return HostRunner::running->resize(ctx, 0, delta);
}

__u64 weir_host_xdp_get_buff_len(xdp_md*) { return HostRunner::running->frame_size(); }

long weir_host_xdp_load_bytes(xdp_md*, __u32 offset, void* to, __u32 bytes) {
  const HostRunner& runner = *HostRunner::running;
  if (offset > runner.frame_size() || bytes > runner.frame_size() - offset) return -EINVAL;
  std::memcpy(to, runner.frame_data() + offset, bytes);
  return 0;
}

__u64 weir_host_jiffies64() { return HostRunner::running->ticks(); }

__u64 weir_host_ktime_get_ns() {
  constexpr __u64 kNanosecondsPerSecond = 1'000'000'000;
  return HostRunner::running->ticks() *
         (kNanosecondsPerSecond / weir::testing::BpfSettings::kTicksPerSecond);
}

/// Samples of one in so many: here always the first.
__u32 weir_host_get_prandom_u32() { return 0; }

void* weir_host_ringbuf_reserve(void*, __u64 bytes, __u64) {
  return bytes == sizeof(weir_event) ? HostRunner::running->reserve_event() : nullptr;
}

void weir_host_ringbuf_submit(void*, __u64) { HostRunner::running->submit_event(); }

}  // extern "C"
