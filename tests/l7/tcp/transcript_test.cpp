#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "tests/support/tcp_script.h"

namespace weir::tcp {
namespace {

/// Every transcript holds in both families and wherever the sequence numbers start.
void expect_transcript(std::string_view script, const StackOptions& options = {}) {
  testing::ScriptSetting setting;
  setting.options = options;
  EXPECT_EQ(testing::play_tcp_script(script, setting), "");
  setting.family = wire::Family::kIpv6;
  setting.stack_isn = 0x7ffffff0;
  setting.peer_isn = 0x00001000;
  EXPECT_EQ(testing::play_tcp_script(script, setting), "");
}

TEST(TcpTranscript, APassiveOpenReportsTheConnectionOnceTheHandshakeIsDone) {
  expect_transcript(R"(
   0 listen
   0 in  S 0:0 mss 1000 ws 7 sackok
   0 out S. 0:0 ack 1 win 65535 ws 3 sackok
   0 count half_open 1
  10 news none
  10 in  . 1:1 ack 1 win 100
  10 news accepted
  10 count half_open 0
  10 count connections 1
)");
}

TEST(TcpTranscript, AnActiveOpenCompletesWithTheThirdSegment) {
  expect_transcript(R"(
   0 connect
   0 out S 0:0 ws 3 sackok
   5 in  S. 0:0 ack 1 mss 1000 ws 7
   5 out . 1:1 ack 1
   5 news connected
   5 count connected 1
)");
}

TEST(TcpTranscript, DataBothWaysAndAnOrderlyClose) {
  expect_transcript(R"(
   0 listen
   0 in  S 0:0 mss 1000 
   0 out S. 0:0 ack 1
  10 in  . 1:1 ack 1
  10 news accepted
  20 in  P. 1:101 ack 1
  20 news readable
  20 read
  20 write 300
  20 out P. 1:301 ack 101
  30 in  . 101:101 ack 301
  40 in  F. 101:101 ack 301
  40 out . 301:301 ack 102
  40 news readable
  40 eof
  50 close
  50 out F. 301:301 ack 102
  60 in  . 102:102 ack 302
  60 news closed
  60 release
  60 gone
  60 count connections 0
)");
}

TEST(TcpTranscript, UnacknowledgedDataIsRepeatedWithADoublingTimeOut) {
  expect_transcript(R"(
   0 listen
   0 in  S 0:0 mss 1000
   0 out S. 0:0 ack 1
  10 in  . 1:1 ack 1
  10 news accepted
  10 write 100
  10 out P. 1:101 ack 1
 210 out P. 1:101 ack 1
 610 out P. 1:101 ack 1
1410 out P. 1:101 ack 1
1500 in  . 1:1 ack 101
1500 count retransmission_timeouts 3
9000 news none
)");
}

}  // namespace
}  // namespace weir::tcp
