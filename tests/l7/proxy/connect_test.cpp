#include <string>
#include <string_view>

#include "tests/l7/proxy/core_fixture.h"
#include "tests/support/h2_peer.h"

/// CONNECT: a tunnel for whoever a rule lets have one, to that rule's endpoints and nowhere else.
namespace weir::proxy {
namespace {

constexpr std::string_view kEstablished = "HTTP/1.1 200 Connection Established\r\n\r\n";

std::string connect(std::string_view authority = "db.example:5432", std::string_view fields = "") {
  return fmt::format("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n{1}\r\n", authority, fields);
}

/// Sends back what comes, from the first byte on.
void echo(Peer& peer) {
  peer.send(std::string_view{peer.received}.substr(peer.handled));
  peer.handled = peer.received.size();
}

class Connect : public ProxyCore {
 protected:
  Backend& serve_tunnels(testing::Handler handler = echo) {
    return serve_with(
        [](control::Model& model) {
          model.http_routes[0].hostnames = {"db.example"};
          model.http_routes[0].rules[0].matches[0].method = "CONNECT";
        },
        std::move(handler));
  }
};

TEST_F(Connect, ATunnelCarriesBytesBothWaysAndItsEndpointHearsNothingElse) {
  Backend& app = serve_tunnels();
  Peer& client = connect_and_send(connect());
  world_.run_for(10ms);
  EXPECT_EQ(client.received, kEstablished);
  const std::string message = pattern_text(200'000);
  client.send(message);
  ASSERT_TRUE(world_.run_until(
      [&] { return client.received.size() == kEstablished.size() + message.size(); }));
  EXPECT_TRUE(client.received.ends_with(message));
  EXPECT_TRUE(app.received() == message);
  client.finish();
  world_.run_for(1s);
  EXPECT_TRUE(app.connections[0]->ended());
  EXPECT_FALSE(app.connections[0]->was_reset());
  EXPECT_TRUE(client.ended());
  const auto lines = log();
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0]["method"], "CONNECT");
  EXPECT_EQ(lines[0]["target"], "db.example:5432");
  EXPECT_EQ(lines[0]["status"], 200);
  EXPECT_EQ(lines[0]["reason"], "ok");
  EXPECT_EQ(lines[0]["request_bytes"], message.size());
}

TEST_F(Connect, AnEndpointMayBeTheFirstToSpeak) {
  Backend& app = serve_tunnels();
  Peer& client = connect_and_send(connect());
  world_.run_for(10ms);
  ASSERT_EQ(app.connections.size(), 1U);
  app.connections[0]->send("220 mail.example\r\n");
  world_.run_for(10ms);
  EXPECT_EQ(client.received, std::string{kEstablished} + "220 mail.example\r\n");
}

TEST_F(Connect, ARuleThatDoesNotNameItLetsNobodyThrough) {
  Backend& app = serve(answering(std::string{kOk}));
  Peer& client = connect_and_send(connect());
  world_.run_for(10ms);
  EXPECT_EQ(client.received, last_answer("501 Not Implemented"));
  EXPECT_TRUE(app.connections.empty());
  EXPECT_EQ(outcomes(), "501 not_supported");
}

TEST_F(Connect, OnlyTheNamesOfItsRouteAreATarget) {
  Backend& app = serve_tunnels();
  for (const std::string_view target : {"other.example:5432", "10.0.0.1:22", "[2001:db8::1]:22"}) {
    Peer& client = connect_and_send(connect(target));
    world_.run_for(10ms);
    EXPECT_EQ(client.received, last_answer("501 Not Implemented")) << target;
  }
  EXPECT_TRUE(app.connections.empty());
}

TEST_F(Connect, ATargetIsAHostWithAPort) {
  Backend& app = serve_tunnels();
  for (const std::string_view target :
       {"db.example", "db.example:", "db.example:0", "db.example:65536", "/db.example:5432",
        "http://db.example:5432/", "u@db.example:5432"}) {
    Peer& client = connect_and_send(connect(target));
    world_.run_for(10ms);
    EXPECT_EQ(client.received, last_answer("400 Bad Request")) << target;
  }
  EXPECT_TRUE(app.connections.empty());
}

TEST_F(Connect, BytesBeforeTheAnswerAreNobodys) {
  Backend& app = serve_tunnels();
  Peer& client = connect_and_send(connect() + request());
  world_.run_for(10ms);
  EXPECT_EQ(client.received, last_answer("400 Bad Request"));
  EXPECT_EQ(app.received(), "");
  EXPECT_EQ(outcomes(), "400 bad_request");
}

TEST_F(Connect, ABodyHasNoMeaning) {
  Backend& app = serve_tunnels();
  for (const std::string_view fields :
       {"Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"}) {
    Peer& client = connect_and_send(connect("db.example:5432", fields));
    world_.run_for(10ms);
    EXPECT_EQ(client.received, last_answer("400 Bad Request")) << fields;
  }
  EXPECT_TRUE(app.connections.empty());
}

TEST_F(Connect, ALengthHasNoMeaningInHttp2Either) {
  Backend& app = serve_tunnels();
  testing::H2Client client{world_.connect()};
  client.send(
      "headers 1 | :method: CONNECT | :authority: db.example:5432 | content-length: 999999999999");
  world_.run_for(10ms);
  EXPECT_EQ(client.status(1), "400");
  EXPECT_TRUE(app.connections.empty());
}

TEST_F(Connect, AnEndpointThatIsAwayIsAnAnswer) {
  control::Model model = ProxyWorld::model_for({ProxyWorld::backend_endpoint(9)});
  model.http_routes[0].rules[0].matches[0].method = "CONNECT";
  world_.install(model);
  Peer& client = connect_and_send(connect());
  world_.run_for(1s);
  EXPECT_TRUE(client.received.starts_with("HTTP/1.1 503 ")) << client.received;
  EXPECT_EQ(outcomes(), "503 connect_failed");
}

TEST_F(Connect, NoConnectionThatHasServedHttpIsUsed) {
  Backend& app = serve_with(
      [](control::Model& model) {
        model.http_routes[0].rules[0].matches.push_back({.method = "CONNECT"});
      },
      [](Peer& peer) {
        if (peer.received.starts_with("GET"))
          answering(std::string{kOk})(peer);
        else
          echo(peer);
      });
  connect_and_send(request());
  world_.run_for(10ms);
  Peer& client = connect_and_send(connect("shop.example:80"));
  world_.run_for(10ms);
  client.send("ping");
  world_.run_for(10ms);
  EXPECT_EQ(client.received, std::string{kEstablished} + "ping");
  ASSERT_EQ(app.connections.size(), 2U);
  EXPECT_EQ(app.connections[1]->received, "ping");
}

TEST_F(Connect, AStreamOfHttp2IsATunnelToo) {
  Backend& app = serve_tunnels();
  testing::H2Client client{world_.connect()};
  client.send("headers 1 | :method: CONNECT | :authority: db.example:5432");
  world_.run_for(10ms);
  EXPECT_EQ(client.read().heads(1), ":status: 200\n");
  client.send("data 1 | ping");
  world_.run_for(10ms);
  EXPECT_EQ(client.read().body(1), "ping");
  client.send("data 1 end");
  world_.run_for(1s);
  EXPECT_TRUE(client.read().ended(1));
  EXPECT_TRUE(app.connections[0]->ended());
  EXPECT_EQ(outcomes(), "200 ok");
}

TEST_F(Connect, WhateverElseIsAnsweredTheConnectionEndsWithIt) {
  // A client that did not wait would have what it sent into its tunnel read as requests.
  for (const std::uint16_t status : {403, 200}) {
    Backend& app = serve_with([&](control::Model& model) {
      control::RouteRule& rule = model.http_routes[0].rules[0];
      rule.matches[0].method = "CONNECT";
      rule.backends.clear();
      rule.respond =
          control::FixedResponse{.status = status, .content_type = "text/plain", .body = "no"};
    });
    Peer& client = connect_and_send(connect());
    world_.run_for(10ms);
    client.send(request());
    world_.run_for(10ms);
    EXPECT_TRUE(client.received.starts_with(status == 403 ? "HTTP/1.1 403 " : "HTTP/1.1 501 "))
        << client.received;
    EXPECT_EQ(first_message(client.received)->size, client.received.size());
    EXPECT_NE(client.received.find("Connection: close\r\n"), std::string::npos);
    EXPECT_TRUE(app.connections.empty());
  }
}

TEST_F(Connect, AnEndpointThatIsAwayEndsTheConnectionToo) {
  control::Model model = ProxyWorld::model_for({ProxyWorld::backend_endpoint(9)});
  model.http_routes[0].rules[0].matches[0].method = "CONNECT";
  world_.install(model);
  Peer& client = connect_and_send(connect() + request());
  world_.run_for(1s);
  EXPECT_EQ(first_message(client.received)->size, client.received.size()) << client.received;
  EXPECT_TRUE(client.received.starts_with("HTTP/1.1 503 ")) << client.received;
  EXPECT_TRUE(client.ended());
}

TEST_F(Connect, ATunnelThatNobodyReadsHoldsNoBuffer) {
  const std::string text = pattern_text(200'000);
  Backend& app = serve_tunnels();
  testing::H2Client client{world_.connect(), "4=0"};
  for (const int stream : {1, 3, 5})
    client.send(fmt::format("headers {} | :method: CONNECT | :authority: db.example:5432", stream));
  world_.run_for(10ms);
  ASSERT_EQ(app.connections.size(), 3U);
  for (Peer* connection : app.connections)
    connection->send(text);
  world_.run_for(1s);
  EXPECT_EQ(world_.report().core.buffers, 0U);
  client.send("window 0 1000000");
  client.send("window 3 1000000");
  world_.run_for(1s);
  EXPECT_TRUE(client.read().body(3) == text);
  EXPECT_EQ(client.read().body(1), "");
}

TEST_F(Connect, InATunnelOfHttp2ThereIsNothingButData) {
  // RFC 9113, section 8.5.
  Backend& app = serve_tunnels();
  testing::H2Client client{world_.connect()};
  client.send("headers 1 | :method: CONNECT | :authority: db.example:5432");
  world_.run_for(10ms);
  client.send("headers 1 end | x-sum: 1");
  world_.run_for(10ms);
  EXPECT_EQ(client.read().first(3, 1), "RST_STREAM 1 PROTOCOL_ERROR");
  ASSERT_EQ(app.connections.size(), 1U);
  EXPECT_TRUE(app.connections[0]->was_reset());
}

TEST_F(Connect, AStreamOfHttp2HearsThatItsTunnelsOtherEndHasBroken) {
  // RFC 9113, section 8.5.
  Backend& app = serve_tunnels();
  testing::H2Client client{world_.connect()};
  client.send("headers 1 | :method: CONNECT | :authority: db.example:5432");
  world_.run_for(10ms);
  app.connections[0]->reset(world_.now());
  world_.run_for(10ms);
  EXPECT_EQ(client.read().first(3, 1), "RST_STREAM 1 CONNECT_ERROR");
  EXPECT_EQ(outcomes(), "200 upstream_reset");
}

TEST_F(Connect, AnEndpointOfHttp2IsNoPlainConnection) {
  Backend& app = serve_with([](control::Model& model) {
    model.services[0].protocol = control::ServiceProtocol::kH2c;
    model.http_routes[0].rules[0].matches[0].method = "CONNECT";
  });
  Peer& client = connect_and_send(connect());
  world_.run_for(10ms);
  EXPECT_TRUE(client.received.starts_with("HTTP/1.1 501 ")) << client.received;
  EXPECT_TRUE(app.connections.empty());
}

}  // namespace
}  // namespace weir::proxy
