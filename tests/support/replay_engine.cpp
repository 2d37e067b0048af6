#include "tests/support/replay_engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "tests/support/host_bpf/host_helpers.h"
#include "tests/support/host_engine.h"
#include "tests/support/host_settings.h"

namespace weir::testing {
namespace {

constexpr long kEthernetBytes = 14;
constexpr std::array kMark{std::byte{0x5a}, std::byte{0xc3}};

}  // namespace

ReplayEngine* ReplayEngine::running = nullptr;

ReplayEngine::ReplayEngine(const BpfSettings& settings) : settings_{settings} {
  for (const weir_host_map* map = weir_lb_maps; map->identity != nullptr; ++map) {
    ReplayMap::Shape shape{map->name, map->type, map->key_bytes, map->value_bytes,
                           map->max_entries};
    const std::string_view name = map->name;
    if (name == "weir_nat_flows") shape.max_entries = std::max(settings.nat_records, 1U);
    if (name == "weir_nat_index") shape.max_entries = std::max(2 * settings.nat_records, 2U);
    by_name_[std::string{name}] = by_identity_[map->identity] = &maps_.emplace_back(shape);
  }
}

Result<void> ReplayEngine::write_bytes(std::string_view name, std::span<const std::byte> key,
                                       std::span<const std::byte> value) {
  const auto found = by_name_.find(name);
  WEIR_ASSERT(found != by_name_.end());  // tests name maps of the balancer
  const ReplayMap::Shape& shape = found->second->shape();
  WEIR_ASSERT(key.size() == shape.key_bytes && value.size() == shape.value_bytes);
  const long status = found->second->update(key.data(), value.data(), BPF_ANY);
  if (status != 0) return Error::from_errno(fmt::format("writing {}", name), -int(status));
  return {};
}

Result<void> ReplayEngine::publish_map(std::string_view outer, std::uint32_t index,
                                       const InnerMap& inner) {
  const auto found = by_name_.find(outer);
  WEIR_ASSERT(found != by_name_.end());  // as above
  ReplayMap& map = maps_.emplace_back(
      ReplayMap::Shape{found->second->shape().name, inner.type, inner.key_bytes, inner.value_bytes,
                       std::max(inner.max_entries, std::uint32_t{1})});
  for (const auto& [key, value] : inner.entries)
    map.update(key.data(), value.data(), BPF_ANY);
  by_identity_[&map] = &map;
  found->second->set_inner(index, &map);
  return {};
}

void ReplayEngine::seal() {
  for (ReplayMap& map : maps_)
    map.seal();
}

void ReplayEngine::reset() {
  for (ReplayMap& map : maps_)
    map.reset();
  is_mark_broken_ = false;
}

std::string ReplayEngine::broken() const {
  if (is_mark_broken_) return "bytes before the frame were written";
  for (const ReplayMap& map : maps_)
    if (map.is_broken())
      return fmt::format("{}, which is user space's, was written", map.shape().name);
  return {};
}

void ReplayEngine::set_frame(std::span<const std::byte> bytes) {
  if (frame_ && !is_mark_whole()) is_mark_broken_ = true;
  auto made = std::make_unique<std::byte[]>(kOffset + bytes.size());
  std::ranges::copy(kMark, made.get());
  std::ranges::copy(bytes, made.get() + kOffset);
  frame_ = std::move(made);
  size_ = bytes.size();
}

bool ReplayEngine::is_mark_whole() const {
  return std::equal(kMark.begin(), kMark.end(), frame_.get());
}

/// Settings are the process's, and deriving keys from the seed takes as long as a packet does.
void ReplayEngine::take_over() {
  static const ReplayEngine* holder = nullptr;
  if (holder == this) return;
  set_host_balancer(settings_);
  holder = this;
}

ReplayResult ReplayEngine::run(std::span<const std::byte> frame, std::uint32_t ingress_ifindex) {
  take_over();
  set_frame(frame);
  headroom_ = kHeadroom;
  xdp_md ctx{};
  ctx.ingress_ifindex = ingress_ifindex;
  // The program's own view of a packet is a pair of integers that it turns back.
  ctx.data = reinterpret_cast<std::uintptr_t>(this->frame().data());
  ctx.data_end = ctx.data + size_;
  running = this;
  ReplayResult result;
  result.action = weir_lb(&ctx);
  running = nullptr;
  if (!is_mark_whole()) is_mark_broken_ = true;
  result.output = this->frame();
  read_verdict(result);
  return result;
}

/// Counts and clears, so that the next frame's counter is the only one that moves.
void ReplayEngine::read_verdict(ReplayResult& result) {
  ReplayMap& counters = *by_name_.find("weir_counters")->second;
  for (const std::uint32_t index : counters.touched()) {
    weir_counter counter;
    std::memcpy(&counter, counters.find(&index), sizeof(counter));
    result.verdict = index;
    result.verdict_count += static_cast<std::uint32_t>(counter.packets);
    result.counted_bytes += counter.bytes;
  }
  counters.reset();
}

ReplayMap* ReplayEngine::map_of(const void* identity) {
  const auto found = by_identity_.find(identity);
  WEIR_ASSERT(found != by_identity_.end());  // a program names only its own maps
  return found->second;
}

void* ReplayEngine::find(const void* identity, const void* key) {
  ReplayMap* map = map_of(identity);
  if (!map->is_outer()) return map->find(key);
  std::uint32_t index = 0;
  std::memcpy(&index, key, sizeof(index));
  return map->inner(index);
}

/// The old frame is freed at once: a pointer kept over an adjustment is a use after free.
long ReplayEngine::resize(xdp_md* ctx, int head, int tail) {
  const long size = static_cast<long>(size_) - head + tail;
  if (size < kEthernetBytes || -head > static_cast<long>(headroom_)) return -EINVAL;
  headroom_ = static_cast<std::size_t>(static_cast<long>(headroom_) + head);
  std::vector<std::byte> bytes(static_cast<std::size_t>(size));
  const std::span<const std::byte> old = frame();
  const std::size_t to = head < 0 ? static_cast<std::size_t>(-head) : 0;
  const std::size_t from = head > 0 ? static_cast<std::size_t>(head) : 0;
  const std::size_t count = std::min(old.size() - from, bytes.size() - to);
  std::ranges::copy(old.subspan(from, count), bytes.begin() + static_cast<std::ptrdiff_t>(to));
  set_frame(bytes);
  ctx->data = reinterpret_cast<std::uintptr_t>(frame().data());
  ctx->data_end = ctx->data + size_;
  return 0;
}

}  // namespace weir::testing

using weir::testing::ReplayEngine;

extern "C" {

void* weir_host_map_lookup_elem(const void* map, const void* key) {
  return ReplayEngine::running->find(map, key);
}

long weir_host_map_update_elem(const void* map, const void* key, const void* value, __u64 flags) {
  return ReplayEngine::running->map_of(map)->update(key, value, flags);
}

long weir_host_map_delete_elem(const void* map, const void* key) {
  return ReplayEngine::running->map_of(map)->erase(key);
}

/// Every device carries 1,400 bytes: less than those that packets come by, so that some do not fit.
long weir_host_check_mtu(void*, __u32, __u32* mtu, __s32 difference, __u64) {
  constexpr __u32 kMtu = 1400;
  const bool is_too_big = *mtu + static_cast<__u32>(difference) > kMtu;
  *mtu = kMtu;
  return is_too_big ? BPF_MTU_CHK_RET_FRAG_NEEDED : BPF_MTU_CHK_RET_SUCCESS;
}

/// Like the kernel's: a missing slot gives the action in the low bits of `flags`.
long weir_host_redirect_map(const void* map, __u64 key, __u64 flags) {
  const auto index = static_cast<std::uint32_t>(key);
  if (ReplayEngine::running->map_of(map)->contains(&index)) return XDP_REDIRECT;
  return static_cast<long>(flags & 3);
}

long weir_host_xdp_adjust_head(xdp_md* ctx, int delta) {
  return ReplayEngine::running->resize(ctx, delta, 0);
}

long weir_host_xdp_adjust_tail(xdp_md* ctx, int delta) {
  return ReplayEngine::running->resize(ctx, 0, delta);
}

__u64 weir_host_xdp_get_buff_len(xdp_md*) { return ReplayEngine::running->frame().size(); }

long weir_host_xdp_load_bytes(xdp_md*, __u32 offset, void* to, __u32 bytes) {
  const auto frame = ReplayEngine::running->frame();
  if (offset > frame.size() || bytes > frame.size() - offset) return -EINVAL;
  std::memcpy(to, frame.data() + offset, bytes);
  return 0;
}

__u64 weir_host_jiffies64() { return ReplayEngine::running->ticks(); }

__u64 weir_host_ktime_get_ns() { return ReplayEngine::running->ticks() * 1'000'000; }

/// Samples of one in so many: here always the first.
__u32 weir_host_get_prandom_u32() { return 0; }

void* weir_host_ringbuf_reserve(void*, __u64 bytes, __u64) {
  return bytes == sizeof(weir_event) ? ReplayEngine::running->event() : nullptr;
}

void weir_host_ringbuf_submit(void*, __u64) {}

}  // extern "C"
