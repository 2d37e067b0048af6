#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "l4/wire/address.h"

namespace weir::testing {

/// Where a transcript is played: the same text must hold for both families and wherever the
/// sequence numbers and time stamps start.
struct ScriptSetting {
  wire::Family family = wire::Family::kIpv4;
  std::uint32_t stack_isn = 0xfffffe00;  ///< of a connection opened at time 0
  std::uint32_t peer_isn = 0xffffff38;
  std::uint32_t peer_clock = 0xfffffff0;  ///< the peer's time stamps at time 0
};

/// Plays a transcript against one whole stack on virtual time, through the C functions of
/// stack_entry.h and its extras, and returns an empty text, or what went wrong, with the line and
/// everything that was sent and received before it.
///
/// A transcript is lines of `<milliseconds> <verb> …`; `#` begins a comment. Sequence numbers count
/// from 0, which is the SYN, so the first byte of text has number 1; each side in its own numbers,
/// which may be negative.
///
///   set <name> <value>           without a time: a flag of stack_entry.h, for all the script.
///                                Pacing is off unless it is set: transcripts are about what is
///                                sent, and would have to say when for every segment
///   in  <flags> <seq>:<end> …    the peer sends that segment
///   out <flags> <seq>:<end> …    the stack sends that, now or within a millisecond
///   may <flags> <seq>:<end> …    the stack sends that or nothing; where an RFC leaves a choice
///                                `<from>-<until>` before out or may: anywhen between
///   skip [n]                     whatever the stack has sent until now is not looked at, but for
///                                that some text of it has fewer than n bytes
///   listen | unlisten | connect | write n | read [n] | close | release | abort
///                                close: the stack's direction; release: close(); abort: with RST
///   option <name> n              setsockopt(): nodelay, keepalive, …; must be taken
///   news <flag>… | news none     what Stack::poll() reports: accepted, connected, readable, …
///   wrote n                      how much the last write took
///   eof | failure <kind> | gone  what recv() and SO_ERROR say; whether the connection exists
///   count <counter> n            a field of StackCounters
///   icmp <what> <seq> [mtu]      an error that quotes that sequence number: unreachable (host),
///   net,
///                                protocol, port, admin, exceeded, toobig
///   peer n                       the lines below are about the peer's port n (first: 40000)
///   buffers on|off               whether packet buffers can be had
///
/// flags are those of tcpdump: S F R P U, E and W for ECE and CWR, `.` for ACK. P is compared only
/// when it is written. Behind the range of a segment may stand, in any order,
///
///   ack n | win n | mss n | ws n | sackok | sack a-b … | nots | nows | nosackok
///   ts v:e        time stamps in ms since time 0, each side's on its own clock; `*` in an `out` is
///                 any, `-` is zero on the wire. The stack's may be a millisecond ahead: its clock
///                 ticks between ours.
///   ecn x         none, ect0, ect1 or ce in the IP header
///   urg n | opt <hex> | dup   in an `in`: the urgent pointer; options as they are; sent twice
///
/// The options of a sent segment are compared when they are written, SACK blocks and text always.
///
/// What the user does without a line of another kind between is one turn of the loop, whose output
/// leaves at its end. Whatever the stack sends must be announced by an `out` line, in order, before
/// the next line that does something or expects something later: silence is part of the transcript.
[[nodiscard]] std::string play_tcp_script(std::string_view script,
                                          const ScriptSetting& setting = {});

}  // namespace weir::testing
