#pragma once

#include "l4/base/clock.h"
#include "l7/net/transport.h"

namespace weir::tcp {

/// Asked about a segment of a flow that a stack does not know, before the stack answers with RST:
/// somebody else may know it, another worker or the process before this one. Called from within
/// Stack::input(); it does not come back into the stack.
class UnknownFlow {
 public:
  virtual ~UnknownFlow() = default;
  /// True when it has taken care of the segment, whose packet it may move away.
  [[nodiscard]] virtual bool take(net::Segment& segment, Instant now) = 0;
};

}  // namespace weir::tcp
