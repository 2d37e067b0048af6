#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "l4/base/clock.h"
#include "l4/base/random.h"

namespace weir::port {

/// Losses that come together (Gilbert 1960, Elliott 1963): a link is good or bad, changes its mind
/// once per frame, and loses frames only while it is bad.
struct BurstLoss {
  double begin = 0;  ///< probability per frame that a good link turns bad
  double end = 0.3;  ///< and back; a burst lasts 1 / end frames on average
  double loss = 1;   ///< probability per frame while it is bad
};

/// How one direction of a link treats frames. All probabilities are per frame.
struct ImpairOptions {
  Duration delay{};                     ///< propagation
  std::uint64_t rate_bits_per_s = 0;    ///< 0: frames take no time to leave
  std::size_t queue_frames_max = 1000;  ///< waiting to leave; more are dropped
  std::uint16_t mtu = 1500;             ///< longer packets are dropped
  bool answer_too_big = false;          ///< with an ICMP error to their sender; without, in silence
  double loss = 0;
  BurstLoss burst{};
  double reorder = 0;  ///< delayed by reorder_delay on top
  Duration reorder_delay = std::chrono::milliseconds{1};
  double duplicate = 0;
  double corrupt = 0;  ///< one bit behind the Ethernet header is flipped
};

/// What became of the frames. offered = the sum of lost_* + those that were let through; released =
/// let through + duplicated + inserted - those under way.
struct ImpairCounters {
  std::uint64_t offered = 0;
  std::uint64_t released = 0;
  std::uint64_t inserted = 0;
  std::uint64_t lost_by_chance = 0;
  std::uint64_t lost_in_burst = 0;
  std::uint64_t lost_queue = 0;
  std::uint64_t lost_mtu = 0;
  std::uint64_t lost_in_flight_max = 0;  ///< the store was full: a limit of ours, not of the link
  std::uint64_t reordered = 0;
  std::uint64_t duplicated = 0;
  std::uint64_t corrupted = 0;
  std::uint64_t too_big_answers = 0;
};

enum class Fate : std::uint8_t {
  kPasses,
  kCorrupted,  ///< passes with a bit flipped
  kLostByChance,
  kLostInBurst,
  kLostQueue,
  kTooBig,
  kStoreFull,
};

/// One direction of a bad link: frames and the time go in, frames come out when they are due.
/// Performs no I/O, reads no clock, and draws from its seed alone, so that the same calls give the
/// same frames at the same times; the simulated link and the relay on the real clock share it.
///
/// Options come with every frame and may differ each time; frames under way keep what was decided
/// for them. Bytes are copied into a store that grows to its limit and never shrinks: once it is
/// as large as it gets, nothing is allocated. One thread owns an Impairment.
class Impairment {
 public:
  struct Limits {
    std::size_t frames_max = 65536;  ///< waiting and under way
    std::size_t frame_bytes_max = 1514;
  };

  Impairment(const Limits& limits, std::uint64_t seed);

  /// A frame enters the link.
  Fate offer(const ImpairOptions& options, std::span<const std::byte> frame, Instant now);
  /// Counts a frame that the caller has lost by a rule of his own, so that what happens to the
  /// frames after it does not depend on the rule.
  void pass_over(const ImpairOptions& options);
  /// A frame that comes from nowhere and is not impaired. False when the store is full.
  bool insert(std::span<const std::byte> frame, Instant release_at);
  /// Nothing leaves until then; frames queue, and those that have left travel on.
  void stall_until(Instant end) { stalled_until_ = end; }

  struct Released {
    Instant at;
    bool corrupted = false;
    std::span<const std::byte> bytes;  ///< valid until the next call
  };
  /// When the next frame comes out; kNever when none is under way.
  [[nodiscard]] Instant next_release() const;
  /// The next frame that is due by `now`: in the order of their times, and of entry among equals.
  std::optional<Released> release(Instant now);

  [[nodiscard]] const ImpairCounters& counters() const { return counters_; }
  [[nodiscard]] std::size_t under_way() const { return flights_.size(); }
  void count_too_big_answer() { ++counters_.too_big_answers; }

 private:
  /// What chance says about one frame. Everything is drawn for every frame, so that changing one
  /// probability does not move the others.
  struct Draw {
    bool lost;
    bool reorder;
    bool duplicate;
    bool corrupt;
    std::uint64_t where;
    bool burst_lost;
  };
  struct Flight {
    Instant at;
    std::uint64_t order = 0;
    std::uint32_t slot = 0;
    std::uint32_t length = 0;
    bool corrupted = false;
  };
  /// Departures that lie ahead, oldest first: a ring that grows with the queue's limit.
  class Departures {
   public:
    [[nodiscard]] std::size_t size() const { return size_; }
    void push(Instant departure);
    void drop_until(Instant now);

   private:
    std::vector<Instant> ring_;
    std::size_t first_ = 0;
    std::size_t size_ = 0;
  };

  Draw draw(const ImpairOptions& options);
  [[nodiscard]] Fate judge(const ImpairOptions& options, const Draw& drawn,
                           std::size_t bytes) const;
  void count(Fate fate);
  Instant depart(const ImpairOptions& options, std::size_t bytes, Instant now);
  std::optional<std::uint32_t> store(std::span<const std::byte> frame);
  [[nodiscard]] std::span<std::byte> slot(std::uint32_t index);
  void launch(Flight flight, Instant at);
  static bool is_later(const Flight& a, const Flight& b);

  Limits limits_;
  Random random_;
  Random burst_random_;  // apart, so that bursts do not move the rest either
  bool in_burst_ = false;
  Instant busy_until_{};
  Instant stalled_until_{};
  Departures departures_;
  std::vector<std::unique_ptr<std::byte[]>> blocks_;
  std::vector<std::uint32_t> free_slots_;
  std::vector<Flight> flights_;  // a heap; the front is due next
  std::uint64_t launched_ = 0;
  std::optional<std::uint32_t> released_slot_;  // lent to the caller of release()
  ImpairCounters counters_;
};

/// What a router answers to a packet that is too big for its next link: ICMP "fragmentation needed"
/// (RFC 792; RFC 1191, section 4) or ICMPv6 "packet too big" (RFC 4443, section 3.2), quoting it.
/// The source is the packet's destination: the link has no address of its own, and hosts must not
/// care (RFC 1122, section 3.2.2.1). Writes into `out` and returns the length; 0 when there is to
/// be no answer: not IP, "don't fragment" not set, or an ICMP error itself (RFC 1122,
/// section 3.2.2).
[[nodiscard]] std::size_t write_too_big(std::span<const std::byte> frame, std::uint16_t mtu,
                                        std::span<std::byte> out);
/// Room that write_too_big() needs at most: a quote up to the minimum MTU of IPv6.
inline constexpr std::size_t kTooBigBytesMax = 14 + 1280;

}  // namespace weir::port
