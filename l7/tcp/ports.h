#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "l4/base/assert.h"

namespace weir::tcp {

/// Which of the node's workers an active connection belongs to, readable from its local port, so
/// that whoever receives a frame for one knows whose it is without a table. The balancer computes
/// the same (worker_of_local() in bpf/handoff.h, held against this by tests/bpf).
constexpr std::uint32_t owner_of_port(std::uint16_t port, std::uint32_t workers) {
  return port % workers;
}

/// The local ports that one worker opens connections from: those of the range that it owns.
struct PortShare {
  std::uint16_t first = 0;
  std::uint16_t last = 0;
  std::uint32_t worker = 0;
  std::uint32_t workers = 1;

  [[nodiscard]] constexpr std::uint32_t lowest() const {
    return first + (worker + workers - first % workers) % workers;
  }
  /// How many there are; none where the range is shorter than the number of workers.
  [[nodiscard]] constexpr std::uint32_t size() const {
    return lowest() > last ? 0 : (last - lowest()) / workers + 1;
  }
  [[nodiscard]] constexpr std::uint16_t at(std::uint32_t index) const {
    return static_cast<std::uint16_t>(lowest() + index * workers);
  }
};
static_assert(PortShare{32768, 60999, 1, 3}.at(0) == 32770);
static_assert(owner_of_port(PortShare{32768, 60999, 1, 3}.at(7), 3) == 1);

/// What a tuple of four numbers is, seen by who wants to open a connection with it.
enum class PortUse : std::uint8_t {
  kFree,
  kReusable,  ///< in TIME-WAIT, but old duplicates would be recognised (RFC 6191)
  kTaken,
};

struct ChosenPort {
  std::uint16_t port = 0;
  PortUse use = PortUse::kFree;  ///< never kTaken
};

/// Local ports for active opens of one worker (RFC 6056, section 3.3.4): a secret offset for every
/// pair of local address and destination, and a counter that all destinations of one bucket share.
/// So ports to one destination come in a row, the one that has been free for longest next; what
/// others see of it tells them neither our other destinations' ports nor how much we talk to them.
///
/// A choice asks about few ports: behind the counter all ports have been unused for a full turn
/// unless connections live that long, and a cluster of those is stepped over once per turn, since
/// the counter stays behind it. A single choice never asks about more than kAsksMax.
class PortChooser {
 public:
  /// A longer search would stall the core; who meets more taken ports in a row has next to none.
  static constexpr std::uint32_t kAsksMax = 1024;
  /// With a reusable port at hand, how many asks a free one is worth. Few: when the next ports are
  /// all in TIME-WAIT, the ones behind them, which are younger, are too.
  static constexpr std::uint32_t kAsksForFree = 4;

  explicit PortChooser(const PortShare& share) : share_{share}, size_{share.size()} {
    WEIR_ASSERT(share.workers > 0 && share.worker < share.workers);  // from code, not from a file
    WEIR_ASSERT(share.first > 0 && share.first <= share.last);
  }

  /// `destination` is a keyed hash of local address, remote address and remote port. `use_of(port)`
  /// says what the tuple with this port is. Nothing when every port that was asked about is taken.
  template <typename UseOf>
  [[nodiscard]] std::optional<ChosenPort> choose(std::uint64_t destination, UseOf&& use_of) {
    // Offset and bucket are different bits of one keyed hash, as good as two hashes.
    const auto offset = static_cast<std::uint32_t>(destination >> 32);
    std::uint32_t& counter = counters_[destination % kBuckets];
    const std::uint32_t asks_max = size_ < kAsksMax ? size_ : kAsksMax;
    std::uint32_t reusable_at = 0;  // the counter behind the first reusable port
    std::optional<ChosenPort> reusable;
    for (std::uint32_t asks = 0; asks < asks_max; ++asks) {
      if (reusable && asks >= kAsksForFree) break;
      // When the sum wraps, the row continues elsewhere once; nothing depends on it.
      const std::uint16_t port = share_.at((offset + counter++) % size_);
      switch (use_of(port)) {
        case PortUse::kFree:
          return ChosenPort{port, PortUse::kFree};
        case PortUse::kReusable:
          if (!reusable) {
            reusable = ChosenPort{port, PortUse::kReusable};
            reusable_at = counter;
          }
          break;
        case PortUse::kTaken:
          break;
      }
    }
    if (reusable) counter = reusable_at;  // the next choice begins with the next oldest
    return reusable;
  }

  [[nodiscard]] const PortShare& share() const { return share_; }

 private:
  static constexpr std::size_t kBuckets = 1024;
  PortShare share_;
  std::uint32_t size_;
  std::array<std::uint32_t, kBuckets> counters_{};
};

}  // namespace weir::tcp
