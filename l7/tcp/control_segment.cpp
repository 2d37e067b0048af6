#include "l7/tcp/control_segment.h"

#include <utility>

namespace weir::tcp {

using wire::TcpHeader;

bool send_control_segment(Context& context, const FlowKey& key, SegmentHeader header) {
  port::Packet packet = context.output.allocate();
  if (!packet) {
    ++context.counters.dropped_no_memory;
    return false;
  }
  header.source_port = key.local_port;
  header.destination_port = key.remote_port;
  build_segment(packet, header, 0);
  ++context.counters.segments_sent;
  if ((header.flags & TcpHeader::kRst) != 0) ++context.counters.resets_sent;
  context.output.send(std::move(packet), key.local_address, key.remote_address,
                      net::Ecn::kNotCapable, context.now);
  return true;
}

void answer_with_reset(Context& context, const FlowKey& key, const SegmentView& segment) {
  if (segment.rst()) return;
  SegmentHeader header;
  if (segment.has_ack()) {
    header.seq = segment.ack;
    header.flags = TcpHeader::kRst;
  } else {
    header.ack = segment.end();
    header.flags = TcpHeader::kRst | TcpHeader::kAck;
  }
  send_control_segment(context, key, header);
}

}  // namespace weir::tcp
