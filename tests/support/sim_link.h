#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "l4/base/clock.h"
#include "l4/base/random.h"
#include "l7/port/heap_pool.h"
#include "l7/port/port.h"

namespace weir::testing {

/// The two ends of a link, and the directions named after where they start.
enum class Side : std::uint8_t { kA, kB };

/// How one direction of a link treats frames. May be changed at any time through
/// SimLink::direction(); frames that are under way keep what was decided for them.
struct LinkOptions {
  Duration delay = std::chrono::microseconds{50};  ///< propagation
  std::uint64_t rate_bits_per_s = 0;               ///< 0: frames take no time to leave
  std::size_t queue_frames_max = 1000;             ///< waiting to leave; more are dropped
  std::uint16_t mtu = 1500;                        ///< longer packets are dropped in silence
  double loss = 0;                                 ///< these four are probabilities per frame
  double reorder = 0;                              ///< delayed by reorder_delay on top
  double duplicate = 0;
  double corrupt = 0;  ///< one bit behind the Ethernet header is flipped
  Duration reorder_delay = std::chrono::milliseconds{1};
  /// Frames to lose by number, counted from 0 in this direction.
  std::vector<std::uint64_t> lose_numbers = {};
  /// Frames to lose by content: called with number and bytes for each.
  std::function<bool(std::uint64_t, std::span<const std::byte>)> lose_if = {};
};

/// What became of the frames of one direction. offered = the sum of lost_* + delivered - duplicated
/// + those under way.
struct LinkCounters {
  std::uint64_t offered = 0;
  std::uint64_t delivered = 0;
  std::uint64_t lost_by_chance = 0;
  std::uint64_t lost_by_choice = 0;  ///< lose_numbers and lose_if
  std::uint64_t lost_queue = 0;
  std::uint64_t lost_mtu = 0;
  std::uint64_t lost_receiver = 0;  ///< no buffer, or its ring was full
  std::uint64_t reordered = 0;
  std::uint64_t duplicated = 0;
  std::uint64_t corrupted = 0;
};

/// A frame as the link saw it, for captures and transcripts.
struct CapturedFrame {
  Instant at;
  Side from = Side::kA;
  std::uint64_t number = 0;
  bool lost = false;
  std::span<const std::byte> bytes;
};

/// Two PacketPorts joined by a link on virtual time. Nothing happens by itself: the owner moves
/// time with advance_to(), which delivers what is due, and asks next_event() how far to go. The
/// same seed and the same calls give the same frames at the same times.
class SimLink {
 public:
  struct Options {
    LinkOptions a_to_b;
    LinkOptions b_to_a;
    std::uint64_t seed = 1;
    std::uint32_t buffers_per_port = 16384;
  };

  SimLink(const Options& options, Instant start);
  SimLink(const SimLink&) = delete;
  SimLink& operator=(const SimLink&) = delete;

  [[nodiscard]] port::PacketPort& port(Side side) { return end(side).port; }
  [[nodiscard]] port::HeapPool& pool(Side side) { return end(side).pool; }
  [[nodiscard]] LinkOptions& direction(Side from) { return end(from).options; }
  [[nodiscard]] const LinkCounters& counters(Side from) { return end(from).counters; }

  void on_frame(std::function<void(const CapturedFrame&)> capture) {
    capture_ = std::move(capture);
  }

  /// The next `frames` that the port is asked to send are refused, as by a full ring.
  void refuse_sends(Side side, std::size_t frames) { end(side).refuse = frames; }

  [[nodiscard]] Instant now() const { return now_; }
  void advance_to(Instant now);
  /// When the next frame arrives somewhere; kNever when none is under way.
  [[nodiscard]] Instant next_event() const;

 private:
  class Port final : public port::PacketPort {
   public:
    Port(SimLink& link, Side side) : link_{link}, side_{side} {}
    [[nodiscard]] const port::PortCapabilities& capabilities() const override;
    [[nodiscard]] port::PortCounters counters() const override;
    [[nodiscard]] std::size_t receive(std::span<port::Packet> burst) override;
    [[nodiscard]] std::size_t send(std::span<port::Packet> burst) override;
    [[nodiscard]] port::Packet allocate() override;
    void reap() override {}
    void wait(Duration, int) override {}  // time is the simulation's

   private:
    SimLink& link_;
    Side side_;
  };

  /// One port, and the direction that starts at it.
  struct End {
    End(SimLink& link, Side side, const LinkOptions& direction, std::uint32_t buffers,
        Random source);
    Port port;
    port::HeapPool pool;
    LinkOptions options;
    Random random;
    port::PortCapabilities capabilities;
    port::PortCounters port_counters;
    LinkCounters counters;
    std::deque<port::Packet> inbox;  // arrived, not yet received
    std::deque<Instant> departures;  // of frames that have not left yet
    Instant busy_until{};
    std::size_t refuse = 0;
  };
  struct Flight {
    Side to = Side::kB;
    std::vector<std::byte> bytes;
  };

  End& end(Side side) { return ends_[static_cast<std::size_t>(side)]; }
  void offer(Side from, std::span<const std::byte> frame);
  void launch(Side from, std::vector<std::byte> frame, Instant arrival);
  void arrive(const Flight& flight);

  Instant now_;
  std::array<End, 2> ends_;
  // Ordered by arrival, then by order of sending.
  std::map<std::pair<Instant, std::uint64_t>, Flight> flights_;
  std::uint64_t launched_ = 0;
  std::function<void(const CapturedFrame&)> capture_;
};

}  // namespace weir::testing
