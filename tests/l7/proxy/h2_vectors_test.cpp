#include "tests/l7/http/h2_vectors.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "tests/l7/proxy/core_fixture.h"
#include "tests/support/h2_peer.h"

/// Every HTTP/2 vector through a whole worker, with a backend of either version behind it: what the
/// backend reads is the request that was meant, once, or nothing.
namespace weir::proxy {
namespace {

using http::testing::H2Vector;
using http::testing::load_h2_vectors;
using testing::H2Backend;
using testing::H2Request;

/// "name: value" in lower case before the colon.
std::string lower_name(std::string field) {
  for (char& c : field) {
    if (c == ':') break;
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c | 0x20);
  }
  return field;
}

/// All that a vector says about its request's fields, and what the proxy adds.
std::vector<std::string> expected_fields(const H2Vector& vector) {
  std::vector<std::string> fields;
  for (const std::string& field : vector.fields)
    fields.push_back(lower_name(field));
  return fields;
}

class H2RequestVectors : public CoreFixture, public ::testing::TestWithParam<H2Vector> {
 protected:
  /// With the limit that the vectors are written for.
  void install(control::Model model) {
    model.gateways[0].limits.h2_streams = 4;
    world_.install(model);
  }
  void run() {
    const H2Vector& vector = GetParam();
    client_ = &connect_and_send(vector.bytes(true));
    world_.run_for(50ms);
  }
  void check_client() {
    const H2Vector& vector = GetParam();
    if (vector.expect.starts_with("goaway")) {
      EXPECT_TRUE(client_->ended());
    }
    client_->finish();
    check_nothing_is_left();
    EXPECT_EQ(world_.report().core.h2.streams, 0U);
    EXPECT_EQ(world_.report().core.h2.memory_bytes, 0U);
    EXPECT_EQ(world_.report().core.exchanges, 0U);
  }
  /// Tunnels as well, since no rule names them.
  [[nodiscard]] bool is_refused_here() const {
    const std::string& expect = GetParam().expect;
    return expect.starts_with("reset 1") || expect.starts_with("refuse") ||
           expect.starts_with("connect");
  }
  [[nodiscard]] bool is_accepted() const { return GetParam().expect.starts_with("accept "); }

  Peer* client_ = nullptr;
};

TEST_P(H2RequestVectors, ReachABackendOfHttp1AsTheyAreReadAndNotOtherwise) {
  const H2Vector& vector = GetParam();
  Backend& app = world_.add_backend(8001, answering(std::string{kOk}));
  install(ProxyWorld::model_for({app.endpoint}));
  run();
  const std::string received = app.received();
  if (is_accepted()) {
    const auto seen = first_message(received);
    ASSERT_TRUE(seen) << received;
    EXPECT_EQ(seen->size, received.size()) << received;
    EXPECT_TRUE(seen->head.starts_with(vector.expect.substr(7) + " HTTP/1.1\r\n")) << seen->head;
    EXPECT_EQ(seen->body, vector.body);
    for (const std::string& field : expected_fields(vector)) {
      const std::size_t colon = field.find(": ");
      const std::string value = field.starts_with("host: ") && field == "host: A.example"
                                    ? "a.example"
                                    : field.substr(colon + 2);
      std::string found;
      for (std::size_t at = seen->head.find("\r\n"); at != std::string::npos;
           at = seen->head.find("\r\n", at + 2)) {
        const std::string line =
            lower_name(seen->head.substr(at + 2, seen->head.find("\r\n", at + 2) - at - 2));
        if (line.starts_with(field.substr(0, colon + 2))) found = line.substr(colon + 2);
      }
      EXPECT_EQ(found, value) << field;
    }
  } else {
    // The beginning of a body that went wrong may have got through, its end may not; and never
    // another request behind one.
    const bool is_refused = is_refused_here();
    for (const Peer* connection : app.connections) {
      const auto seen = first_message(connection->received);
      if (!seen) continue;
      EXPECT_EQ(seen->size, connection->received.size()) << connection->received;
      EXPECT_FALSE(is_refused) << connection->received;
    }
  }
  check_client();
}

TEST_P(H2RequestVectors, ReachABackendOfHttp2AsTheyAreReadAndNotOtherwise) {
  const H2Vector& vector = GetParam();
  H2Backend app{[](const H2Request& request) -> std::vector<std::string> {
    if (!request.ended()) return {};
    return {"headers # end | :status: 204"};
  }};
  Backend& backend = world_.add_backend(8002, app.handler());
  control::Model model = ProxyWorld::model_for({backend.endpoint});
  model.services[0].protocol = control::ServiceProtocol::kH2c;
  install(model);
  run();
  if (is_accepted()) {
    ASSERT_EQ(app.connections(), 1U);
    const std::string heads = app.reader().heads(1);
    const std::string& expect = vector.expect;
    const std::size_t space = expect.rfind(' ');
    EXPECT_TRUE(heads.starts_with(":method: " + expect.substr(7, space - 7) + "\n")) << heads;
    EXPECT_NE(heads.find("\n:path: " + expect.substr(space + 1) + "\n"), std::string::npos);
    EXPECT_EQ(app.reader().body(1), vector.body);
    EXPECT_TRUE(app.reader().ended(1));
    for (const std::string& trailer : vector.trailers)
      EXPECT_NE(heads.find(trailer + "\n"), std::string::npos) << heads;
    for (const std::string& field : expected_fields(vector)) {
      if (field.starts_with("host: ")) continue;  // is :authority here
      EXPECT_NE(heads.find(field + "\n"), std::string::npos) << field << heads;
    }
  } else if (is_refused_here()) {
    EXPECT_TRUE(app.connections() == 0 || !app.reader().ended(1));
  }
  if (is_accepted()) {
    EXPECT_EQ(app.reader().first(1, 3), "");
  }
  check_client();
}

/// What does not begin with the preface is not HTTP/2 here; windows open since the backends read;
/// and no route leads to "*".
std::vector<H2Vector> request_vectors() {
  std::vector<H2Vector> vectors = load_h2_vectors("server.txt");
  std::erase_if(vectors, [](const H2Vector& vector) {
    return !vector.bytes(true).starts_with(http::kH2Preface) || vector.expect.ends_with('*') ||
           vector.name == "MoreThanAStreamsWindowEndsTheConnection" || vector.window != 0;
  });
  return vectors;
}

INSTANTIATE_TEST_SUITE_P(, H2RequestVectors, ::testing::ValuesIn(request_vectors()),
                         [](const auto& test) { return test.param.name; });

/// What a backend answers: the client of HTTP/1 gets that, or an error, and never what it did not
/// mean.
class H2AnswerVectors : public CoreFixture, public ::testing::TestWithParam<H2Vector> {};

TEST_P(H2AnswerVectors, ReachAClientOfHttp1OrAreABadGateway) {
  const H2Vector& vector = GetParam();
  Backend& backend = world_.add_backend(8002, [&](Peer& peer) {
    testing::H2Reader reader;
    reader.expect_preface();
    reader.feed(peer.received);
    if (peer.requests > 0 || reader.first(1, 1).empty()) return;
    ++peer.requests;
    peer.send(vector.bytes(false));
  });
  control::Model model = ProxyWorld::model_for({backend.endpoint});
  model.services[0].protocol = control::ServiceProtocol::kH2c;
  model.http_routes[0].rules[0].timeouts.request_ms = 1000;
  world_.install(model);
  Peer& client = connect_and_send(request(vector.asks, "", ""));
  world_.run_for(2s);
  const std::string& expect = vector.expect;
  const bool is_whole = expect.starts_with("accept ") && expect.find(" then ") == std::string::npos;
  const std::string status = expect.substr(expect.rfind(' ') + 1);
  std::string_view bytes = client.received;
  while (bytes.starts_with("HTTP/1.1 1"))
    bytes.remove_prefix(bytes.find("\r\n\r\n") + 4);
  const auto message = first_message(bytes, vector.asks == "HEAD" ? testing::MessageEnd::kAfterHead
                                                                  : testing::MessageEnd::kFramed);
  if (is_whole) {
    ASSERT_TRUE(message) << client.received;
    EXPECT_EQ(std::to_string(message->status()), status);
    EXPECT_EQ(message->body, vector.body);
    EXPECT_EQ(message->size, bytes.size());
    for (const std::string& field : vector.fields)
      EXPECT_NE(message->head.find(field + "\r\n"), std::string::npos) << message->head;
  } else if (message) {
    // The stream broke before anything of it was passed on, or behind an answer that was whole.
    EXPECT_TRUE(message->status() >= 500 || message->body.empty()) << client.received;
    EXPECT_EQ(message->size, bytes.size()) << client.received;
  } else {
    EXPECT_TRUE(client.was_reset());
    EXPECT_FALSE(client.received.ends_with("0\r\n\r\n"));
  }
  check_nothing_is_left();
  EXPECT_EQ(world_.report().core.h2.streams, 0U);
  EXPECT_EQ(world_.report().core.h2.memory_bytes, 0U);
}

TEST_P(H2AnswerVectors, ReachAClientOfHttp2AndTheEndpointLearnsWhatWasWrong) {
  const H2Vector& vector = GetParam();
  Peer* endpoint = nullptr;
  Backend& backend = world_.add_backend(8002, [&](Peer& peer) {
    testing::H2Reader reader;
    reader.expect_preface();
    reader.feed(peer.received);
    if (peer.requests > 0 || reader.first(1, 1).empty()) return;
    ++peer.requests;
    if (endpoint == nullptr) endpoint = &peer;
    peer.send(vector.bytes(false));
  });
  control::Model model = ProxyWorld::model_for({backend.endpoint});
  model.services[0].protocol = control::ServiceProtocol::kH2c;
  model.http_routes[0].rules[0].timeouts.request_ms = 1000;
  world_.install(model);
  testing::H2Client client{world_.connect()};
  client.send(
      fmt::format("headers 1{} | :method: {} | :scheme: http | "
                  ":authority: shop.example | :path: /app",
                  vector.asks == "POST" ? "" : " end", vector.asks));
  world_.run_for(2s);
  testing::H2Reader& reader = client.read();
  const std::string& expect = vector.expect;
  if (expect.starts_with("accept ") && expect.find(" then ") == std::string::npos) {
    const std::string heads = reader.heads(1);
    EXPECT_NE(heads.find(fmt::format(":status: {}\n", expect.substr(expect.rfind(' ') + 1))),
              std::string::npos)
        << heads;
    EXPECT_EQ(reader.body(1), vector.body);
    EXPECT_TRUE(reader.ended(1));
    for (const std::string& field : vector.fields)
      EXPECT_NE(heads.find(field + "\n"), std::string::npos) << heads;
    for (const std::string& trailer : vector.trailers)
      EXPECT_NE(heads.find(trailer + "\n"), std::string::npos) << heads;
  } else {
    // An error of ours instead of it; or behind a head that was passed on, a reset.
    const bool is_error = client.status(1).starts_with("5");
    EXPECT_TRUE(is_error || !reader.first(3, 1).empty() || reader.ended(1)) << reader.heads(1);
  }
  if (expect.starts_with("goaway") && vector.window == 0 && endpoint != nullptr &&
      vector.name != "MoreThanWeHaveRoomForEndsTheConnection") {
    testing::H2Reader heard;
    heard.expect_preface();
    heard.feed(endpoint->received);
    EXPECT_TRUE(heard.first(7, 0).ends_with(expect.substr(expect.find(' ')))) << heard.first(7, 0);
    const auto lines = log();
    ASSERT_EQ(lines.size(), 1U);
    if (vector.asks == "GET") {
      EXPECT_EQ(lines[0]["reason"], "upstream_protocol") << lines[0];
      EXPECT_EQ(lines[0]["detail"], "HTTP/2:" + expect.substr(expect.find(' '))) << lines[0];
    }
  }
  client.peer().finish();
  check_nothing_is_left();
  EXPECT_EQ(world_.report().core.h2.memory_bytes, 0U);
}

INSTANTIATE_TEST_SUITE_P(, H2AnswerVectors, ::testing::ValuesIn(load_h2_vectors("client.txt")),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace weir::proxy
