#include "l7/tcp/congestion.h"

#include <algorithm>

namespace weir::tcp {
namespace {

constexpr std::uint32_t kWindowMax = std::uint32_t{1} << 30;  // the largest window TCP can offer

}  // namespace

std::uint32_t Congestion::initial_window() const {
  // RFC 6928, section 2.
  return std::min(10 * mss_, std::max(2 * mss_, std::uint32_t{14600}));
}

std::uint32_t Congestion::reduced(std::uint32_t in_flight) const {
  return std::max(in_flight / 2, 2 * mss_);  // RFC 5681, equation (4)
}

void Congestion::start(std::uint32_t mss, unsigned syn_retransmissions) {
  mss_ = mss;
  window_ = syn_retransmissions > 1 ? mss : initial_window();
}

void Congestion::on_ack(std::uint32_t acked, std::uint32_t in_flight) {
  // A window that was not used has not been tried; it must not grow (RFC 7661's concern).
  if (in_flight < window_ / 2) return;
  if (window_ < threshold_) {
    // Byte counting with L = 2 makes up for delayed ACKs; after a time-out one ACK may cover what
    // had arrived long before, so L = 1 (RFC 3465, section 2.3).
    window_ += std::min(acked, after_timeout_ ? mss_ : 2 * mss_);
  } else {
    after_timeout_ = false;
    acked_in_round_ += std::min(acked, window_);
    if (acked_in_round_ >= window_) {
      acked_in_round_ -= window_;
      window_ += mss_;
    }
  }
  window_ = std::min(window_, kWindowMax);
}

void Congestion::enter_recovery(std::uint32_t in_flight) {
  threshold_ = reduced(in_flight);
  // Three segments have left the network: their duplicates told us (RFC 6582, section 3.2, step 2).
  window_ = threshold_ + 3 * mss_;
  acked_in_round_ = 0;
  after_timeout_ = false;
}

void Congestion::on_duplicate_in_recovery() { window_ = std::min(window_ + mss_, kWindowMax); }

void Congestion::on_partial_ack(std::uint32_t acked) {
  // RFC 6582, section 3.2, step 3: deflate by what was acknowledged, add back one segment.
  window_ = window_ > acked ? window_ - acked : 0;
  if (acked >= mss_) window_ += mss_;
  window_ = std::max(window_, mss_);
}

void Congestion::leave_recovery(std::uint32_t in_flight) {
  // RFC 6582, section 3.2, step 3, option 1: no burst when little is in flight.
  window_ = std::min(threshold_, std::max(in_flight, mss_) + mss_);
}

void Congestion::on_timeout(std::uint32_t in_flight, bool first) {
  // Only the first of a row of time-outs says something new (RFC 5681, section 3.1).
  if (first) threshold_ = reduced(in_flight);
  window_ = mss_;
  acked_in_round_ = 0;
  after_timeout_ = true;
}

void Congestion::on_idle() { window_ = std::min(window_, initial_window()); }

}  // namespace weir::tcp
