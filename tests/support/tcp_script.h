#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "l4/wire/address.h"
#include "l7/tcp/stack.h"

namespace weir::testing {

/// Where a transcript is played: the same text must hold for both families and wherever the
/// sequence numbers start.
struct ScriptSetting {
  wire::Family family = wire::Family::kIpv4;
  std::uint32_t stack_isn = 0xfffffe00;  ///< of a connection opened at time 0
  std::uint32_t peer_isn = 0xffffff38;
  tcp::StackOptions options;
};

/// Plays a transcript against one tcp::Stack on virtual time and returns an empty text, or what
/// went wrong, with the line and everything that was sent and received before it.
///
/// A transcript is lines of `<milliseconds> <verb> …`; `#` begins a comment. Sequence numbers count
/// from 0, which is the SYN, so the first byte of text has number 1; each side in its own numbers.
///
///   in  <flags> <seq>:<end> [ack n] [win n] [mss n] [ws n] [sackok] [sack a-b]…   the peer sends
///   out <flags> <seq>:<end> [the same]    the stack sends that, now or within a millisecond
///   listen | unlisten | connect | write n | read [n] | close | release | abort
///   news <flag>… | news none     what poll() reports, exactly: accepted, connected, readable, …
///   wrote n                      how much the last write took
///   eof | failure <kind> | gone  what the stack says about the connection
///   count <counter> n            a field of StackCounters
///   icmp unreachable|exceeded|toobig <seq> [mtu]
///   peer n                       the lines below are about the peer's port n (first: 40000)
///   buffers on|off               whether packet buffers can be had
///
/// flags are those of tcpdump: S F R P and `.` for ACK. P is compared only when it is written. The
/// options of a sent segment are compared when they are written; the text always.
///
/// What the user does without a line of another kind between is one turn of the loop; flush() ends
/// it. Whatever the stack sends must be announced by an `out` line, in order, before the next line
/// that does something or expects something later: silence is part of the transcript.
[[nodiscard]] std::string play_tcp_script(std::string_view script,
                                          const ScriptSetting& setting = {});

}  // namespace weir::testing
