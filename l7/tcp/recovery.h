#pragma once

#include <cstdint>
#include <optional>

#include "l7/tcp/seq.h"

namespace weir::tcp {

/// Which segments are thought lost, without SACK: duplicate-ACK counting, fast retransmit and
/// NewReno's recovery point (RFC 5681, section 3.2; RFC 6582). Decides; the connection sends.
class Recovery {
 public:
  static constexpr unsigned kDuplicateThreshold = 3;

  enum class Action : std::uint8_t {
    kNone,
    kSendNew,     ///< a new segment may leave: limited transmit (RFC 3042) or inflation
    kRetransmit,  ///< enter recovery and send the first unacknowledged segment again
  };

  [[nodiscard]] bool active() const { return active_; }

  /// Segments beyond the congestion window that limited transmit allows now.
  [[nodiscard]] unsigned extra_segments() const { return active_ ? 0 : limited_; }

  Action on_duplicate_ack(Seq una, Seq max_sent) {
    if (active_) return Action::kSendNew;
    if (duplicates_ < kDuplicateThreshold) ++duplicates_;
    // Duplicates below the recovery point come from our own retransmissions of data that had
    // arrived (RFC 6582, section 3.2, step 1).
    if (point_ && una <= *point_) return Action::kNone;
    if (duplicates_ < kDuplicateThreshold) {
      limited_ = duplicates_;
      return Action::kSendNew;
    }
    limited_ = 0;
    active_ = true;
    first_partial_ = true;
    point_ = max_sent;
    return Action::kRetransmit;
  }

  enum class Progress : std::uint8_t {
    kNormal,        ///< was not in recovery
    kFirstPartial,  ///< the next hole is lost too; the timer is restarted this once
    kPartial,
    kFinished,
  };

  Progress on_new_ack(Seq ack) {
    duplicates_ = 0;
    limited_ = 0;
    const bool passed = point_ && ack >= *point_;
    if (point_ && ack > *point_) point_.reset();
    if (!active_) return Progress::kNormal;
    if (passed) {
      active_ = false;
      return Progress::kFinished;
    }
    // "Impatient": only the first partial ACK restarts the timer, so that a window with very many
    // losses falls back to slow start instead of repairing one loss per round trip (section 4).
    const bool first = first_partial_;
    first_partial_ = false;
    return first ? Progress::kFirstPartial : Progress::kPartial;
  }

  void on_timeout(Seq max_sent) {
    active_ = false;
    duplicates_ = 0;
    limited_ = 0;
    point_ = max_sent;
  }

 private:
  // The end of what had been sent when the last loss was noticed. Dropped once passed: a point
  // further back than 2^31 would look like the future.
  std::optional<Seq> point_;
  unsigned duplicates_ = 0;
  unsigned limited_ = 0;
  bool active_ = false;
  bool first_partial_ = false;
};

}  // namespace weir::tcp
