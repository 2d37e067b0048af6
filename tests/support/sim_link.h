#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "l4/base/clock.h"
#include "l7/port/heap_pool.h"
#include "l7/port/impair.h"
#include "l7/port/port.h"

namespace weir::testing {

/// The two ends of a link, and the directions named after where they start.
enum class Side : std::uint8_t { kA, kB };

/// How one direction of a link treats frames. May be changed at any time through
/// SimLink::direction(); frames that are under way keep what was decided for them. What happens by
/// chance is l7/port/impair.h's; what is lost on purpose is decided here.
struct LinkOptions : port::ImpairOptions {
  LinkOptions() { delay = std::chrono::microseconds{50}; }
  /// Frames to lose by number, counted from 0 in this direction.
  std::vector<std::uint64_t> lose_numbers{};
  /// Frames to lose by content: called with number and bytes for each. See link_losses.h.
  std::function<bool(std::uint64_t, std::span<const std::byte>)> lose_if{};
};

/// What became of the frames of one direction. offered = the sum of lost_* + delivered - duplicated
/// - inserted + those under way.
struct LinkCounters : port::ImpairCounters {
  std::uint64_t delivered = 0;
  std::uint64_t lost_by_choice = 0;  ///< lose_numbers and lose_if
  std::uint64_t lost_receiver = 0;   ///< no buffer, or its ring was full

  [[nodiscard]] std::uint64_t lost() const {
    return lost_by_chance + lost_in_burst + lost_queue + lost_mtu + lost_in_flight_max +
           lost_by_choice + lost_receiver;
  }
};

/// A frame as the link saw it, for captures and transcripts.
struct CapturedFrame {
  Instant at;
  Side from = Side::kA;
  std::uint64_t number = 0;
  bool lost = false;
  bool corrupted = false;            ///< arrives, but not as it was
  std::span<const std::byte> bytes;  ///< as they were
};

/// A frame as it reaches a port, perhaps to be dropped there for want of a buffer.
struct DeliveredFrame {
  Instant at;
  Side to = Side::kB;
  bool corrupted = false;
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
    std::array<std::uint32_t, 2> buffers = {16384, 16384};  ///< packet buffers of each port
  };

  SimLink(const Options& options, Instant start);
  SimLink(const SimLink&) = delete;
  SimLink& operator=(const SimLink&) = delete;

  [[nodiscard]] port::PacketPort& port(Side side) { return end(side).port; }
  [[nodiscard]] port::HeapPool& pool(Side side) { return end(side).pool; }
  [[nodiscard]] LinkOptions& direction(Side from) { return end(from).options; }
  [[nodiscard]] LinkCounters counters(Side from);

  void on_frame(std::function<void(const CapturedFrame&)> capture) {
    capture_ = std::move(capture);
  }
  void on_delivery(std::function<void(const DeliveredFrame&)> capture) {
    delivery_ = std::move(capture);
  }

  /// The next `frames` that the port is asked to send are refused, as by a full ring.
  void refuse_sends(Side side, std::size_t frames) { end(side).refuse = frames; }

  /// Buffers of sent frames come back only so much later, and then with a send() or a reap(), as
  /// with a real driver.
  void delay_completions(Side side, Duration delay) { end(side).completion_delay = delay; }
  /// Nothing leaves in this direction for so long; frames queue.
  void stall(Side from, Duration length) { end(from).impairment.stall_until(now_ + length); }
  /// A frame that reaches the port after the direction's delay, as if the other end had sent it.
  void inject(Side to, std::span<const std::byte> frame);

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
    void reap() override { link_.complete(link_.end(side_)); }
    void wait(Duration, int) override {}  // time is the simulation's

   private:
    SimLink& link_;
    Side side_;
  };

  /// One port, and the direction that starts at it.
  struct End {
    End(SimLink& link, Side side, const LinkOptions& direction, std::uint32_t buffers,
        std::uint64_t seed);
    Port port;
    port::HeapPool pool;
    LinkOptions options;
    port::Impairment impairment;
    port::PortCapabilities capabilities;
    port::PortCounters port_counters;
    std::uint64_t offered = 0;
    std::uint64_t delivered = 0;
    std::uint64_t lost_by_choice = 0;
    std::uint64_t lost_receiver = 0;
    std::deque<port::Packet> inbox;  // arrived, not yet received
    Duration completion_delay{};
    std::deque<std::pair<Instant, port::Packet>> completing;  // sent; the driver has the buffers
    std::size_t refuse = 0;
  };

  End& end(Side side) { return ends_[static_cast<std::size_t>(side)]; }
  void offer(Side from, std::span<const std::byte> frame);
  void answer_too_big(Side from, std::span<const std::byte> frame);
  void arrive(Side to, const port::Impairment::Released& frame);
  void complete(End& end);

  Instant now_;
  std::array<End, 2> ends_;
  std::function<void(const DeliveredFrame&)> delivery_;
  std::function<void(const CapturedFrame&)> capture_;
};

}  // namespace weir::testing
