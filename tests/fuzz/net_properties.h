#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "l7/net/interface.h"

namespace weir::testing {

/// What became of an input.
struct NetOutcome {
  std::string violation;  ///< which property was broken, or nothing
  net::InterfaceCounters counters;
};

/// Reads bytes as frames for one net::Interface with a transport that writes down what it is given:
/// a byte that chooses the configuration, and then of each frame a control byte (bits 0 to 2: how
/// much time passes first; 3: tunnels are taken from their balancers; 4: the transport answers; 5:
/// no buffer is free; 6: the port refuses frames until time passes; 7: checksums are repaired), its
/// length in two bytes, and itself. The first byte's bit 4 has the end waited for, when all
/// neighbours are forgotten. What must hold:
///
/// - a segment that is handed on lies in its frame, byte for byte, where an own reader of headers
///   finds one of whole datagrams with right checksums, from one host and to an address of ours;
///   one that came in a tunnel was from a balancer, to an own address, and is for a VIP
/// - an error that is handed on is about one family, from an address of ours, and names no MTU
/// below
///   the family's floor; what is known of a path is then not more than before, nor below that
/// - a frame that leaves is well-formed (net_frames.h), from our station and an address of ours, to
///   one host that may be answered, or to the group that the protocol names; what it quotes
///   somebody has sent
/// - a frame is answered at most once, and makes us ask for one neighbour at most; for a packet of
///   ours there are three questions at most
/// - of the counters that say what became of a frame one moves, and only for what is learnt from
///   none; what was made has left, was counted where it was dropped, or waits
/// - what waits has its limits, and all buffers come back when time passes
///
/// The neighbours' table asserts its own limit. Packets come from the heap in exact size, so that a
/// sanitizer sees what reads or writes beyond.
[[nodiscard]] NetOutcome check_net_properties(std::span<const std::uint8_t> input);

}  // namespace weir::testing
