#pragma once

#include <algorithm>
#include <cstdint>

namespace weir::tcp {

/// Proportional rate reduction (RFC 6937): during recovery, what leaves is a share of what arrives,
/// so that the window ends at the threshold without a pause and without a burst. In bytes.
class Prr {
 public:
  void start(std::uint32_t in_flight) {
    in_flight_at_start_ = std::max(in_flight, 1U);
    delivered_ = sent_ = 0;
  }
  void on_sent(std::uint32_t bytes) { sent_ += bytes; }

  struct Ack {
    std::uint32_t delivered = 0;  ///< left the network by this ACK
    std::uint32_t in_flight = 0;  ///< after it
    std::uint32_t threshold = 0;
    std::uint32_t mss = 0;
    bool safe = false;  ///< SND.UNA has moved and no further loss was found: the path is working
  };

  /// The congestion window after this ACK. Slow start with its bound: conservative after a loss
  /// that emptied the path, and a segment more for an ACK that promises something.
  [[nodiscard]] std::uint32_t window(const Ack& ack) {
    delivered_ += ack.delivered;
    std::uint32_t more = 0;
    if (ack.in_flight > ack.threshold) {
      const std::uint64_t share =
          (std::uint64_t{delivered_} * ack.threshold + in_flight_at_start_ - 1) /
          in_flight_at_start_;
      more = static_cast<std::uint32_t>(share > sent_ ? share - sent_ : 0);
    } else {
      const std::uint32_t owed = delivered_ > sent_ ? delivered_ - sent_ : 0;
      const std::uint64_t bound =
          std::uint64_t{std::max(owed, ack.delivered)} + (ack.safe ? ack.mss : 0);
      more =
          static_cast<std::uint32_t>(std::min<std::uint64_t>(ack.threshold - ack.in_flight, bound));
    }
    // The first retransmission leaves whatever the sums say.
    if (sent_ == 0) more = std::max(more, ack.mss);
    return ack.in_flight + more;
  }

 private:
  // Of one recovery, which is over after a window or two: 32 bits are plenty.
  std::uint32_t in_flight_at_start_ = 1;  // RecoverFS
  std::uint32_t delivered_ = 0;
  std::uint32_t sent_ = 0;
};

}  // namespace weir::tcp
