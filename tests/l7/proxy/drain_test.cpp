#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

#include "tests/l7/proxy/core_fixture.h"

// A process that is about to end: nobody's request is cut, and nobody is kept.

namespace weir::proxy {
namespace {

using ::testing::HasSubstr;

class Drain : public ProxyCore {
 protected:
  void begin(DrainKind kind = DrainKind::kPrompt) {
    ASSERT_TRUE(world_.worker().begin_drain(kind));
    world_.turn();
  }
};

TEST_F(Drain, IdleConnectionsAreClosedInOrderAtBothSides) {
  Backend& backend = serve(answering(std::string{kOk}));
  Peer& used = connect_and_send(request());
  Peer& fresh = world_.connect();
  world_.run_for(10ms);
  begin();
  world_.run_for(10ms);
  EXPECT_TRUE(used.ended() && !used.was_reset());
  EXPECT_TRUE(fresh.ended() && !fresh.was_reset());
  EXPECT_TRUE(backend.connections[0]->ended() && !backend.connections[0]->was_reset());
  EXPECT_EQ(world_.report().core.connections, 0U);
  EXPECT_EQ(world_.report().upstream.open, 0U);
}

TEST_F(Drain, APatientOneLeavesIdleConnectionsTheirNextRequest) {
  serve(answering(std::string{kOk}));
  Peer& used = connect_and_send(request());
  world_.run_for(10ms);
  begin(DrainKind::kPatient);
  world_.run_for(1s);
  EXPECT_FALSE(used.ended());
  used.received.clear();
  used.send(request());
  world_.run_for(10ms);
  EXPECT_THAT(used.received, HasSubstr("\r\nConnection: close\r\n"));
  EXPECT_THAT(used.received, HasSubstr("hello"));
  EXPECT_TRUE(used.ended() && !used.was_reset());
  EXPECT_EQ(world_.report().core.connections, 0U);
}

TEST_F(Drain, ARequestInFlightIsAnsweredAndItsConnectionThenEnds) {
  Peer* asked = nullptr;
  serve([&](Peer& peer) { asked = &peer; });
  Peer& client = connect_and_send(request());
  world_.run_for(10ms);
  begin();
  world_.run_for(1s);
  EXPECT_FALSE(client.ended());
  asked->send(kOk);
  world_.run_for(10ms);
  EXPECT_THAT(client.received, HasSubstr("\r\nConnection: close\r\n"));
  EXPECT_THAT(client.received, HasSubstr("hello"));
  EXPECT_TRUE(client.ended());
  EXPECT_EQ(world_.report().upstream.open, 0U);
}

TEST_F(Drain, ARequestWhoseHeadHasBegunIsServed) {
  serve(answering(std::string{kOk}));
  Peer& client = connect_and_send(request().substr(0, 20));
  world_.run_for(10ms);
  begin();
  client.send(request().substr(20));
  world_.run_for(10ms);
  EXPECT_THAT(client.received, HasSubstr("hello"));
  EXPECT_EQ(outcomes(), "200 ok");
}

TEST_F(Drain, NewConnectionsAreRefused) {
  serve(answering(std::string{kOk}));
  begin();
  Peer& client = connect_and_send(request());
  world_.run_for(10ms);
  EXPECT_TRUE(client.was_reset());
  EXPECT_EQ(world_.report().core.connections_refused, 1U);
}

/// Answers the first PING that has come: its eight bytes, with ACK.
void answer_ping(Peer& client) {
  const std::string head{"\0\0\x08\x06\0\0\0\0\0", 9};
  const std::size_t at = client.received.find(head);
  ASSERT_NE(at, std::string::npos);
  std::string answer = client.received.substr(at, head.size() + 8);
  answer[4] = 1;
  client.send(answer);
}

TEST_F(Drain, AnIdleSessionOfHttp2EndsOnceItsClientHasReadTheNotice) {
  serve(answering(std::string{kOk}));
  // The preface and empty SETTINGS (RFC 9113, section 3.4).
  Peer& client = connect_and_send(std::string{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"} +
                                  std::string("\0\0\0\x04\0\0\0\0\0", 9));
  world_.run_for(10ms);
  begin();
  world_.run_for(10ms);
  // RFC 9113, section 6.8: first of all streams that may come, then of those that have.
  const std::string notice{"\0\0\x08\x07\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\0", 17};
  const std::string last{"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0", 17};
  EXPECT_THAT(client.received, HasSubstr(notice));
  answer_ping(client);
  world_.run_for(10ms);
  EXPECT_THAT(client.received, HasSubstr(last));
  EXPECT_TRUE(client.ended());
  EXPECT_EQ(world_.report().core.connections, 0U);
}

TEST_F(Drain, AnAnswerThatBeganBeforeEndsItsConnectionSoonAfter) {
  Peer* asked = nullptr;
  serve([&](Peer& peer) {
    if (std::exchange(asked, &peer) == nullptr)
      peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
  });
  Peer& client = connect_and_send(request());
  world_.run_for(10ms);
  begin();
  asked->send("llo");
  world_.run_for(2s);
  EXPECT_TRUE(client.ended() && !client.was_reset());
  EXPECT_EQ(world_.report().core.connections, 0U);
}

TEST_F(Drain, AClientThatNeverAnswersTheNoticeIsToldForGood) {
  serve(answering(std::string{kOk}));
  Peer& client = connect_and_send(std::string{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"} +
                                  std::string("\0\0\0\x04\0\0\0\0\0", 9));
  world_.run_for(10ms);
  begin();
  world_.run_for(3s);
  EXPECT_TRUE(client.ended());
}

}  // namespace
}  // namespace weir::proxy
