#pragma once

#include "l4/base/clock.h"
#include "l7/net/transport.h"
#include "l7/tcp/flow_key.h"
#include "l7/tcp/segment.h"
#include "l7/tcp/stack.h"

namespace weir::tcp {

/// What a connection is lent by its stack for the time of one call.
struct Context {
  const StackOptions& options;
  net::SegmentOutput& output;
  StackCounters& counters;
  Instant now;
};

/// Sends a segment without payload for which no connection is needed. False when no buffer was to
/// be had; counted. The ports of `header` are filled in from the key.
bool send_control_segment(Context& context, const FlowKey& key, SegmentHeader header);

/// Answers a segment that belongs to nothing (RFC 9293, section 3.10.7.1), but never a RST.
void answer_with_reset(Context& context, const FlowKey& key, const SegmentView& segment);

}  // namespace weir::tcp
