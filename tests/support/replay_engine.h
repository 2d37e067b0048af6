#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tests/support/bpf_runner.h"
#include "tests/support/replay_map.h"

struct xdp_md;

namespace weir::testing {

/// How one frame ended.
struct ReplayResult {
  int action = 0;                     ///< XDP_*
  std::uint32_t verdict = 0;          ///< the counter that moved
  std::uint32_t verdict_count = 0;    ///< how often any of them did; 1 is right
  std::uint64_t counted_bytes = 0;    ///< what was added to its bytes
  std::span<const std::byte> output;  ///< of the engine, until the next frame
};

/// The balancer on the host, for millions of inputs: reset() brings its tables back to what user
/// space wrote, at the price of what was touched since. The host engine of BpfRunner keeps maps in
/// the plainest way, compares all counters around each frame, and cannot go back.
///
/// Write the world, seal() it, then run() frames and reset() between inputs. As there, frames and
/// values are allocations of their exact size, so that the address sanitizer sees every byte too
/// far. One engine of a process runs at a time.
class ReplayEngine final : public MapWriter {
 public:
  explicit ReplayEngine(const BpfSettings& settings);

  Result<void> write_bytes(std::string_view map, std::span<const std::byte> key,
                           std::span<const std::byte> value) override;
  Result<void> publish_map(std::string_view outer, std::uint32_t index,
                           const InnerMap& inner) override;
  /// From here on what is written is the program's, and is undone by reset().
  void seal();

  void set_ticks(std::uint64_t ticks) { ticks_ = ticks; }
  ReplayResult run(std::span<const std::byte> frame, std::uint32_t ingress_ifindex);
  void reset();
  /// What the program has broken of user space's maps since the last reset(), or before a frame;
  /// empty: nothing.
  [[nodiscard]] std::string broken() const;

  // What the helpers need while a program runs.
  static ReplayEngine* running;
  ReplayMap* map_of(const void* identity);
  void* find(const void* identity, const void* key);
  long resize(xdp_md* ctx, int head, int tail);
  [[nodiscard]] std::span<std::byte> frame() const { return {frame_.get() + kOffset, size_}; }
  [[nodiscard]] std::uint64_t ticks() const { return ticks_; }
  weir_event* event() { return &event_; }

 private:
  /// Frames start two bytes off an aligned address, so that IP headers are aligned as the kernel's
  /// are. The two bytes hold a mark, which is looked at afterwards.
  static constexpr std::size_t kOffset = 2;
  static constexpr std::size_t kHeadroom = 256;  ///< as XDP drivers keep it

  void take_over();
  void set_frame(std::span<const std::byte> bytes);
  [[nodiscard]] bool is_mark_whole() const;
  void read_verdict(ReplayResult& result);

  BpfSettings settings_;
  std::deque<ReplayMap> maps_;  ///< stay where they are
  std::unordered_map<const void*, ReplayMap*> by_identity_;
  std::map<std::string, ReplayMap*, std::less<>> by_name_;
  std::unique_ptr<std::byte[]> frame_;
  std::size_t size_ = 0;
  std::size_t headroom_ = 0;
  bool is_mark_broken_ = false;
  std::uint64_t ticks_ = 0;
  weir_event event_{};
};

}  // namespace weir::testing
