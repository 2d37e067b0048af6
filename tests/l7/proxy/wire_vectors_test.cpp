#include "tests/l7/http/wire_vectors.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/l7/proxy/core_fixture.h"

/// Every vector through a whole worker: what the client gets, and every byte that a backend does.
/// What is not in the vector was smuggled.
namespace weir::proxy {
namespace {

using http::testing::load_vectors;
using http::testing::WireVector;

/// Head and body of each complete message, whatever its chunks; what follows is left in `bytes`.
std::vector<std::pair<std::string, std::string>> take_messages(std::string_view& bytes) {
  std::vector<std::pair<std::string, std::string>> messages;
  while (const auto message = first_message(bytes)) {
    messages.emplace_back(message->head, message->body);
    bytes.remove_prefix(message->size);
  }
  return messages;
}

/// "100 200": the statuses of all answers.
std::string statuses_of(std::string_view bytes) {
  std::string statuses;
  while (const auto message = first_message(bytes)) {
    statuses += fmt::format("{}{}", statuses.empty() ? "" : " ", message->status());
    bytes.remove_prefix(message->size);
  }
  return bytes.empty() ? statuses : statuses + " and more: " + std::string{bytes};
}

bool is_refused(const WireVector& vector) {
  return vector.expect != "ok" && vector.expect != "incomplete";
}

class RequestVectors : public CoreFixture, public ::testing::TestWithParam<WireVector> {};

TEST_P(RequestVectors, ReachABackendAsTheyAreReadAndNotOtherwise) {
  const WireVector& vector = GetParam();
  Backend& app = serve(answering(std::string{kOk}));
  Peer& client = connect_and_send(vector.sends);
  world_.run_for(50ms);
  EXPECT_EQ(app.received(), vector.upstream);
  EXPECT_EQ(statuses_of(client.received), vector.client);
  if (is_refused(vector)) {
    EXPECT_TRUE(client.ended());
    EXPECT_EQ(world_.report().core.responses[2], 0U);
  }
}

TEST_P(RequestVectors, MeanTheSameByteByByte) {
  const WireVector& vector = GetParam();
  if (vector.sends.size() > 400) return;  // for time; the parser's own test has them all
  Backend& app = serve(answering(std::string{kOk}));
  Peer& client = world_.connect();
  world_.run_for(1ms);
  for (const char c : vector.sends) {
    client.send({&c, 1});
    world_.turn();
    world_.turn();
  }
  world_.run_for(50ms);
  std::string_view expected = vector.upstream;
  const std::string received = app.received();
  std::string_view rest = received;
  EXPECT_EQ(take_messages(rest), take_messages(expected));
  EXPECT_EQ(statuses_of(client.received), vector.client);
  // The beginning of a request that went wrong may have got through; its end may not.
  if (is_refused(vector) && !rest.empty()) {
    EXPECT_TRUE(app.connections.back()->was_reset());
  }
}

INSTANTIATE_TEST_SUITE_P(, RequestVectors, ::testing::ValuesIn(load_vectors("requests.txt")),
                         [](const auto& test) { return test.param.name; });

constexpr std::string_view kSecond = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond";

class AnswerVectors : public CoreFixture, public ::testing::TestWithParam<WireVector> {};

TEST_P(AnswerVectors, ReachTheClientAndNeverTheNextOne) {
  const WireVector& vector = GetParam();
  std::size_t requests = 0;
  Backend& app = serve([&](Peer& peer) {
    while (const auto seen = first_message(std::string_view{peer.received}.substr(peer.handled))) {
      peer.handled += seen->size;
      const bool is_first = requests++ == 0;
      peer.send(is_first ? std::string_view{vector.answers} : kSecond);
      if (is_first && vector.closes) peer.finish();
    }
  });
  Peer& client = connect_and_send(request(vector.method));
  world_.run_for(50ms);
  if (vector.expect == "broken") {
    EXPECT_TRUE(client.was_reset());
    EXPECT_FALSE(client.received.ends_with("0\r\n\r\n"));
  } else if (vector.expect == "502") {
    EXPECT_TRUE(client.received.ends_with(own_answer("502 Bad Gateway"))) << client.received;
  } else {
    EXPECT_EQ(client.received, vector.client);
    EXPECT_FALSE(client.was_reset());
  }
  EXPECT_FALSE(client.ended());
  Peer& next = connect_and_send(request());
  world_.run_for(50ms);
  EXPECT_EQ(next.received, kSecond);
  EXPECT_EQ(app.connections.size(), vector.upstream == "kept" ? 1U : 2U);
}

INSTANTIATE_TEST_SUITE_P(, AnswerVectors, ::testing::ValuesIn(load_vectors("responses.txt")),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace weir::proxy
