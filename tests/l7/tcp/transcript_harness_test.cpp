#include "tests/l7/tcp/transcript.h"

namespace weir::tcp {
namespace {

struct Broken {
  const char* script;
  const char* complaint;
};

TEST(TcpScript, ABrokenExpectationIsNoticed) {
  const Broken cases[] = {
      {"0 listen\n0 in S 0:0\n", "unexpected at 0.0 ms: S. 0:0 ack 1"},
      {"0 listen\n0 in S 0:0\n0 out S. 0:0 ack 2\n", "another ack"},
      {"0 listen\n0 in S 0:0\n0 out S 0:0\n", "other flags"},
      {"0 listen\n0 in S 0:0\n0 out S. 1:1\n", "another range"},
      {"0 listen\n0 in S 0:0\n0 out S. 0:0 win 1\n", "another window"},
      {"0 listen\n0 in S 0:0\n0 out S. 0:0\n900 out S. 0:0\n", "nothing was sent"},
      {"0 listen\n0 in S 0:0\n0 out S. 0:0\n1200 news none\n", "unexpected at 1000"},
      {"0 listen\n0 news accepted\n", "news: none"},
      {"0 listen\n0 count accepted 1\n", "accepted is 0"},
      {"0 listen\n0 frobnicate\n", "unknown verb"},
      {"5 listen\n0 listen\n", "time runs backwards"},
      {"0 in Q 0:0\n", "not a segment"},
      {"0 listen\n0 in S 0:0 ts 5\n", "not a segment"},
      {"0 listen\n0 in S 0:0 ts 0:-\n0 out S. 0:0 ts 5:0\n", "other time stamps"},
      {"0 listen\n0 in S 0:0 ts 0:-\n0 out S. 0:0 ts 0:1\n", "other time stamps"},
      {"0 listen\n0 in S 0:0\n0 out S. 0:0 ts *:*\n", "no time stamps"},
      {"0 listen\n0 in S 0:0 ts 0:-\n0 out S. 0:0 nots\n", "unexpected time stamps"},
      {"0 listen\n0 in S 0:0 sackok\n0 out S. 0:0 nosackok\n", "unexpected sackok"},
      {"0 listen\n0 in SEW 0:0\n0 out SE. 0:0 ecn ect0\n", "other ECN bits"},
      {"0 listen\n0 in SEW 0:0\n0 out S. 0:0\n", "other flags"},
      {"0 listen\n0 in S 0:0\n0 may . 0:0\n1 news none\n", "unexpected at 0.0 ms"},
      {"0 listen\n0 in S 0:0\n0 skip 5\n", "no text of fewer bytes"},
      {"0 listen\n0 in S 0:0\n0 out S. 0:0\n900-990 out S. 0:0\n", "nothing was sent"},
      {"set no_such_thing 1\n0 listen\n", "does not take the settings"},
      {"set rack 2\n0 listen\n", "does not take the settings"},
      {"0 listen\n0 icmp nothing 0\n", "unknown ICMP error"},
  };
  for (const Broken& broken : cases) {
    testing::ScriptSetting setting;
    EXPECT_NE(testing::play_tcp_script(broken.script, setting).find(broken.complaint),
              std::string::npos)
        << broken.script << testing::play_tcp_script(broken.script, setting);
  }
}

}  // namespace
}  // namespace weir::tcp
