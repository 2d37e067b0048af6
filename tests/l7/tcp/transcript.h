#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "tests/support/tcp_script.h"

// Each transcript is one behaviour. The language is described in tests/support/tcp_script.h. Every
// one is named by what must hold and cites the rule that it is about, or that this stack bends
// (tests/tidy_test.py sees to it).

namespace weir::tcp {

/// Plays the transcript in both families and with sequence numbers and clocks that wrap in one of
/// them: a rule that holds for one must hold for the other.
inline void expect_transcript(std::string_view script) {
  testing::ScriptSetting setting;
  EXPECT_EQ(testing::play_tcp_script(script, setting), "");
  setting.family = wire::Family::kIpv6;
  setting.stack_isn = 0x7ffffff0;
  setting.peer_isn = 0x00001000;
  setting.peer_clock = 0x7ffffff0;
  EXPECT_EQ(testing::play_tcp_script(script, setting), "");
}

/// For numbers that differ with the size of the IP header.
inline void expect_transcript_v4(std::string_view script) {
  EXPECT_EQ(testing::play_tcp_script(script), "");
}
inline void expect_transcript_v6(std::string_view script) {
  testing::ScriptSetting setting;
  setting.family = wire::Family::kIpv6;
  EXPECT_EQ(testing::play_tcp_script(script, setting), "");
}

/// A connection that the peer has opened, at 10 ms, with the options of its SYN; MSS 1000, so that
/// numbers are easy to read. `set` lines may stand in `rest`.
inline std::string accepted_with(std::string_view options, std::string_view rest) {
  return "0 listen\n0 in S 0:0 mss 1000 " + std::string{options} + R"(
   0 out S. 0:0 ack 1
  10 in  . 1:1 ack 1
  10 news accepted
)" + std::string{rest};
}
inline std::string accepted(std::string_view rest) { return accepted_with("", rest); }

/// The same with selective acknowledgments.
inline std::string accepted_sack(std::string_view rest) { return accepted_with("sackok", rest); }

/// The same with time stamps, and their first exchange.
inline std::string accepted_stamped(std::string_view options, std::string_view rest) {
  return "0 listen\n0 in S 0:0 mss 1012 ts 0:- " + std::string{options} + R"(
   0 out S. 0:0 ack 1 ts 0:0
  10 in  . 1:1 ack 1 ts 10:0
  10 news accepted
)" + std::string{rest};
}

/// The first ten segments of a long write, of 1000 bytes each, which is the initial window.
inline std::string ten_segments(unsigned at_ms) {
  std::string lines;
  for (unsigned first = 1; first < 10001; first += 1000)
    lines += std::to_string(at_ms) + " out . " + std::to_string(first) + ":" +
             std::to_string(first + 1000) + "\n";
  return lines;
}

}  // namespace weir::tcp
