#pragma once

#include <algorithm>
#include <cstdint>

#include "l4/base/clock.h"

namespace weir::net {

/// Lets `burst` events pass at once and `rate_per_s` over time.
class TokenBucket {
 public:
  TokenBucket(std::uint32_t rate_per_s, std::uint32_t burst, Instant start)
      : interval_{Duration{std::chrono::seconds{1}} / rate_per_s},
        depth_{interval_ * burst},
        empty_{start} {
    empty_ -= depth_;
  }

  /// True when one more event may pass now. Time spent waiting is the credit: `empty_` is the
  /// moment at which none would be left.
  [[nodiscard]] bool take(Instant now) {
    empty_ = std::max(empty_, now - depth_);
    if (empty_ + interval_ > now) return false;
    empty_ += interval_;
    return true;
  }

 private:
  Duration interval_;
  Duration depth_;
  Instant empty_;
};

}  // namespace weir::net
