#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "l4/base/bytes.h"
#include "l7/http/proxy_protocol.h"
#include "tests/l7/proxy/core_fixture.h"
#include "tests/support/h2_peer.h"

/// What the gateway takes of its clients, and whom it believes about who they are.
namespace weir::proxy {
namespace {

using testing::H2Client;

constexpr std::string_view kNamed = "PROXY TCP4 192.0.2.7 198.51.100.9 4321 443\r\n";
constexpr std::string_view kHead =
    ":scheme: http | :authority: shop.example | :path: /app | :method:";

std::string v2_header() {
  const auto mapped = [](std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d) {
    return wire::IpAddress::v4(a, b, c, d).bytes;
  };
  std::vector<std::byte> bytes;
  http::append_proxy_v2(bytes, {{mapped(192, 0, 2, 7), 4321}, {mapped(198, 51, 100, 9), 443}});
  return std::string{as_text(bytes)};
}

/// What a backend is told about a client that is not who has connected.
std::string described(std::string_view client, std::string_view hops = "",
                      std::string_view forwarded_hops = "") {
  return fmt::format(
      "Via: 1.1 weir\r\nX-Forwarded-For: {0}{1}\r\nX-Forwarded-Proto: http\r\n"
      "X-Forwarded-Host: shop.example\r\n"
      "Forwarded: for={0};host=\"shop.example\";proto=http{2}\r\n",
      client, hops, forwarded_hops);
}

std::string get_described(std::string_view fields) {
  return fmt::format("GET /app HTTP/1.1\r\nHost: shop.example\r\n{}\r\n", fields);
}

/// One backend behind one gateway, whose settings a test edits before they are applied.
class ClientEdge : public ProxyCore {
 protected:
  Backend& serve_with(const std::function<void(control::Gateway&, control::Service&)>& edit,
                      testing::Handler handler = answering(std::string{kOk})) {
    Backend& app = world_.add_backend(8001, std::move(handler));
    control::Model model = ProxyWorld::model_for({app.endpoint});
    edit(model.gateways[0], model.services[0]);
    world_.install(model);
    return app;
  }
  Backend& serve_limited(const std::function<void(control::GatewayLimits&)>& edit,
                         testing::Handler handler = answering(std::string{kOk})) {
    return serve_with([&](control::Gateway& gateway, control::Service&) { edit(gateway.limits); },
                      std::move(handler));
  }
  /// Clients of the world are proxies.
  Backend& serve_behind_proxies() {
    return serve_with([](control::Gateway& gateway, control::Service&) {
      gateway.listeners[0].proxy_protocol_from = {clients()};
    });
  }
  static wire::Prefix clients() {
    return {*wire::IpAddress::parse(ProxyWorld::kClientAddress), 32};
  }
  H2Client& connect_h2() {
    return *h2_clients_.emplace_back(std::make_unique<H2Client>(world_.connect(), ""));
  }
  [[nodiscard]] CoreCounters counters() const { return world_.report().core; }

  std::vector<std::unique_ptr<H2Client>> h2_clients_;
};

/// So many bytes of a body each second.
void trickle(ProxyWorld& world, Peer& client, std::size_t bytes, int seconds) {
  for (int i = 0; i < seconds && !client.gone(); ++i) {
    client.send(std::string(bytes, 'x'));
    world.run_for(1s);
  }
}

// ---- PROXY headers of clients -------------------------------------------------------------------

TEST_F(ClientEdge, AProxyNamesTheClientInALine) {
  Backend& app = serve_behind_proxies();
  Peer& client = connect_and_send(std::string{kNamed} + request() + request());
  world_.run_for(10ms);
  EXPECT_EQ(client.received, std::string{kOk} + std::string{kOk});
  EXPECT_EQ(app.received(),
            get_described(described("192.0.2.7")) + get_described(described("192.0.2.7")));
  const auto lines = log();
  ASSERT_EQ(lines.size(), 2U);
  for (const auto& line : lines) {
    EXPECT_EQ(line["client"], "192.0.2.7:4321");
    EXPECT_TRUE(line["proxy"].get<std::string>().starts_with("10.0.0.100:"));
    EXPECT_EQ(line["vip"], "203.0.113.10:80");
    EXPECT_FALSE(line.contains("forwarded_for"));
  }
  EXPECT_EQ(counters().proxy_headers, 1U);
  EXPECT_EQ(counters().proxy_header_failures, 0U);
}

TEST_F(ClientEdge, AProxyNamesTheClientInABinaryHeaderByteByByte) {
  Backend& app = serve_behind_proxies();
  Peer& client = world_.connect();
  for (const char c : v2_header() + request()) {
    client.send({&c, 1});
    world_.turn();
    world_.turn();
  }
  world_.run_for(10ms);
  EXPECT_EQ(client.received, kOk);
  EXPECT_EQ(app.received(), get_described(described("192.0.2.7")));
  EXPECT_EQ(log()[0]["client"], "192.0.2.7:4321");
}

TEST_F(ClientEdge, BehindTheHeaderHttp2IsSpokenToo) {
  Backend& app = serve_behind_proxies();
  Peer& peer = world_.connect();
  peer.send(v2_header());
  H2Client client{peer};
  client.send(fmt::format("headers 1 end | {} GET", kHead));
  world_.run_for(10ms);
  EXPECT_EQ(client.status(1), "200");
  EXPECT_TRUE(app.received().find("X-Forwarded-For: 192.0.2.7\r\n") != std::string::npos);
  EXPECT_EQ(log()[0]["client"], "192.0.2.7:4321");
}

TEST_F(ClientEdge, AProxyThatSpeaksForItselfIsTheClient) {
  Backend& app = serve_behind_proxies();
  const std::string local = v2_header().replace(12, 1, "\x20");
  for (const std::string& header : {std::string{"PROXY UNKNOWN\r\n"}, local}) {
    connect_and_send(header + request());
    world_.run_for(10ms);
    const auto lines = log();
    ASSERT_EQ(lines.size(), 1U);
    EXPECT_TRUE(lines[0]["client"].get<std::string>().starts_with("10.0.0.100:"));
    EXPECT_FALSE(lines[0].contains("proxy"));
  }
  EXPECT_EQ(app.received(), at_backend() + at_backend());
  EXPECT_EQ(counters().proxy_headers, 2U);
}

TEST_F(ClientEdge, AProxyWithoutAHeaderIsClosedWithoutAnAnswer) {
  Backend& app = serve_behind_proxies();
  Peer& plain = connect_and_send(request());
  Peer& broken = connect_and_send("PROXY TCP4 192.0.2.7 198.51.100.9 4321\r\n" + request());
  Peer& cut = connect_and_send("PROXY TCP4 192.0.2.7");
  cut.finish();
  world_.run_for(100ms);
  for (Peer* const client : {&plain, &broken, &cut}) {
    EXPECT_TRUE(client->was_reset());
    EXPECT_EQ(client->received, "");
  }
  EXPECT_EQ(counters().proxy_header_failures, 3U);
  EXPECT_EQ(counters().proxy_headers, 0U);
  EXPECT_EQ(counters().connections_accepted, 0U);
  EXPECT_EQ(app.received(), "");
  EXPECT_EQ(outcomes(), "");
}

TEST_F(ClientEdge, AHeaderHasTheTimeOfAHead) {
  serve_with([](control::Gateway& gateway, control::Service&) {
    gateway.listeners[0].proxy_protocol_from = {clients()};
    gateway.limits.header_timeout_ms = 3000;
  });
  Peer& silent = world_.connect();
  Peer& slow = connect_and_send("PROXY TCP4 ");
  world_.run_for(2900ms);
  EXPECT_FALSE(silent.was_reset() || slow.was_reset());
  world_.run_for(200ms);
  EXPECT_TRUE(silent.was_reset() && slow.was_reset());
  EXPECT_EQ(counters().proxy_header_failures, 2U);
}

TEST_F(ClientEdge, AProxyThatOnlyLooksWhetherWeAreHereHasNotFailed) {
  serve_behind_proxies();
  Peer& check = world_.connect();
  world_.run_for(10ms);
  check.finish();
  world_.run_for(10ms);
  EXPECT_TRUE(check.ended());
  EXPECT_FALSE(check.was_reset());
  EXPECT_EQ(counters().proxy_header_failures, 0U);
}

TEST_F(ClientEdge, FromAnybodyElseAHeaderIsABadRequest) {
  Backend& app = serve_with([](control::Gateway& gateway, control::Service&) {
    gateway.listeners[0].proxy_protocol_from = {{*wire::IpAddress::parse("10.0.0.101"), 32}};
  });
  for (const std::string& header : {std::string{kNamed}, v2_header()}) {
    Peer& client = connect_and_send(header + request());
    world_.run_for(10ms);
    EXPECT_EQ(client.received, last_answer("400 Bad Request"));
  }
  connect_and_send(request());
  world_.run_for(10ms);
  EXPECT_EQ(app.received(), at_backend());
  EXPECT_EQ(outcomes(), "400 bad_request, 400 bad_request, 200 ok");
  EXPECT_EQ(counters().proxy_headers, 0U);
  EXPECT_EQ(counters().proxy_header_failures, 0U);
}

TEST_F(ClientEdge, ASecondHeaderIsABadRequest) {
  serve_behind_proxies();
  Peer& client = connect_and_send(std::string{kNamed} + std::string{kNamed} + request());
  world_.run_for(10ms);
  EXPECT_EQ(client.received, last_answer("400 Bad Request"));
  EXPECT_EQ(log()[0]["client"], "192.0.2.7:4321");
}

// ---- PROXY headers for endpoints ----------------------------------------------------------------

TEST_F(ClientEdge, EndpointsAreToldWhoseRequestAConnectionCarries) {
  Backend& app = serve_with([](control::Gateway&, control::Service& service) {
    service.proxy_protocol = control::ProxyProtocol::kV1;
  });
  Peer& client = connect_and_send(request());
  world_.run_for(10ms);
  const std::string_view said = app.connections[0]->received;
  EXPECT_TRUE(said.starts_with("PROXY TCP4 10.0.0.100 203.0.113.10 ")) << said;
  EXPECT_TRUE(said.ends_with(" 80\r\n" + at_backend())) << said;
  client.send(request());
  connect_and_send(request());
  world_.run_for(10ms);
  EXPECT_EQ(client.received, std::string{kOk} + std::string{kOk});
  EXPECT_EQ(app.connections.size(), 3U) << "each request has one of its own";
  const UpstreamCounters upstream = world_.report().upstream;
  EXPECT_EQ(upstream.opened, 3U);
  EXPECT_EQ(upstream.reused, 0U);
  EXPECT_EQ(upstream.open, 0U);
  for (const Peer* const connection : app.connections) {
    EXPECT_TRUE(connection->ended());
    EXPECT_FALSE(connection->was_reset());
  }
}

TEST_F(ClientEdge, WhatOneHeaderSaysTheNextOneRepeats) {
  Backend& app = serve_with([](control::Gateway& gateway, control::Service& service) {
    gateway.listeners[0].proxy_protocol_from = {clients()};
    service.proxy_protocol = control::ProxyProtocol::kV2;
  });
  connect_and_send(std::string{kNamed} + request());
  world_.run_for(10ms);
  EXPECT_EQ(app.received(), v2_header() + get_described(described("192.0.2.7")));
}

TEST_F(ClientEdge, AHeaderNamesWhomTrustedProxiesName) {
  Backend& app = serve_with([](control::Gateway& gateway, control::Service& service) {
    gateway.forwarded.hops = 1;
    service.proxy_protocol = control::ProxyProtocol::kV1;
  });
  connect_and_send(request("GET", "X-Forwarded-For: 192.0.2.7\r\n"));
  world_.run_for(10ms);
  EXPECT_TRUE(app.received().starts_with("PROXY TCP4 192.0.2.7 203.0.113.10 0 80\r\n"));
}

TEST_F(ClientEdge, AnotherAttemptAnnouncesItsClientToo) {
  Backend& app = world_.add_backend(8001, answering(std::string{kOk}));
  control::Model model = ProxyWorld::model_for({ProxyWorld::backend_endpoint(8009), app.endpoint});
  model.services[0].proxy_protocol = control::ProxyProtocol::kV1;
  world_.install(model);
  Peer& client = connect_and_send(request() + request());
  world_.run_for(100ms);
  EXPECT_EQ(client.received, std::string{kOk} + std::string{kOk});
  EXPECT_GE(world_.report().core.retries, 1U);
  for (const Peer* const connection : app.connections)
    EXPECT_TRUE(connection->received.starts_with("PROXY TCP4 10.0.0.100 203.0.113.10 "));
}

// ---- who the client is --------------------------------------------------------------------------

TEST_F(ClientEdge, TrustedProxiesSayWhoTheClientIs) {
  Backend& app = serve_with([](control::Gateway& gateway, control::Service&) {
    gateway.forwarded.proxies = {clients(), {*wire::IpAddress::parse("198.51.100.0"), 24}};
  });
  const std::string_view chain = "X-Forwarded-For: 203.0.113.66, 192.0.2.7, 198.51.100.1\r\n";
  connect_and_send(request("GET", chain));
  world_.run_for(10ms);
  const std::string told =
      described("192.0.2.7", ", 198.51.100.1, 10.0.0.100", ", for=198.51.100.1, for=10.0.0.100");
  EXPECT_TRUE(app.received().find("X-Forwarded-For: 192.0.2.7, 198.51.100.1, 10.0.0.100\r\n") !=
              std::string::npos)
      << app.received();
  EXPECT_TRUE(app.received().find(told.substr(told.find("Forwarded: for="))) != std::string::npos)
      << app.received();
  H2Client& client = connect_h2();
  client.send(fmt::format("headers 1 end | {} GET | x-forwarded-for: 192.0.2.7", kHead));
  world_.run_for(10ms);
  EXPECT_EQ(client.status(1), "200");
  const auto lines = log();
  ASSERT_EQ(lines.size(), 2U);
  for (const auto& line : lines) {
    EXPECT_TRUE(line["client"].get<std::string>().starts_with("10.0.0.100:"));
    EXPECT_EQ(line["forwarded_for"], "192.0.2.7");
    EXPECT_FALSE(line.contains("proxy"));
  }
}

TEST_F(ClientEdge, ConnectionCannotTakeTheClientsNameAway) {
  Backend& app =
      serve_with([](control::Gateway& gateway, control::Service&) { gateway.forwarded.hops = 1; });
  connect_and_send(request("GET",
                           "Connection: X-Forwarded-For, X-Forwarded-Proto\r\n"
                           "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n"));
  world_.run_for(10ms);
  EXPECT_TRUE(app.received().find("X-Forwarded-For: 192.0.2.7, 10.0.0.100\r\n"
                                  "X-Forwarded-Proto: https\r\n") != std::string::npos)
      << app.received();
}

TEST_F(ClientEdge, ARequestThatNobodyServesIsLoggedWithItsClientToo) {
  Backend& app = world_.add_backend(8001, answering(std::string{kOk}));
  control::Model model = ProxyWorld::model_for({app.endpoint});
  model.gateways[0].forwarded.hops = 1;
  model.http_routes[0].rules[0].matches[0].method = "PUT";
  world_.install(model);
  connect_and_send(request("GET", "X-Forwarded-For: 2001:db8::7\r\n"));
  world_.run_for(10ms);
  const auto lines = log();
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0]["status"], 404);
  EXPECT_EQ(lines[0]["forwarded_for"], "2001:db8::7");
}

// ---- how much of it -----------------------------------------------------------------------------

TEST_F(ClientEdge, ASourceHasNoMoreConnectionsThanItMay) {
  serve_limited([](control::GatewayLimits& limits) { limits.connections_per_source = 2; });
  Peer& one = world_.connect();
  Peer& two = world_.connect();
  world_.run_for(10ms);
  Peer& three = connect_and_send(request());
  world_.run_for(10ms);
  EXPECT_TRUE(three.was_reset());
  EXPECT_EQ(three.received, "");
  EXPECT_FALSE(one.was_reset() || two.was_reset());
  EXPECT_EQ(counters().connections_over_limit, 1U);
  EXPECT_EQ(counters().connections_accepted, 2U);
  one.finish();
  world_.run_for(3s);
  Peer& four = connect_and_send(request());
  world_.run_for(10ms);
  EXPECT_EQ(four.received, kOk);
  EXPECT_EQ(counters().connections_over_limit, 1U);
}

TEST_F(ClientEdge, BehindAProxyEachOfItsClientsIsASource) {
  serve_with([](control::Gateway& gateway, control::Service&) {
    gateway.listeners[0].proxy_protocol_from = {clients()};
    gateway.limits.connections_per_source = 1;
  });
  const auto from = [](std::string_view client) {
    return fmt::format("PROXY TCP4 {} 198.51.100.9 4321 443\r\n{}", client, request());
  };
  Peer& one = connect_and_send(from("192.0.2.1"));
  Peer& two = connect_and_send(from("192.0.2.2"));
  Peer& again = connect_and_send(from("192.0.2.1"));
  world_.run_for(10ms);
  EXPECT_EQ(one.received, kOk);
  EXPECT_EQ(two.received, kOk);
  EXPECT_TRUE(again.was_reset());
  EXPECT_EQ(counters().connections_over_limit, 1U);
}

TEST_F(ClientEdge, MoreFieldsThanThereMayBeAre431) {
  Backend& app = serve_limited([](control::GatewayLimits& limits) { limits.header_count = 8; });
  std::string fields;
  std::string h2_fields;
  for (int i = 0; i < 7; ++i) {
    fields += fmt::format("X-{}: 1\r\n", i);
    h2_fields += fmt::format(" | x-{}: 1", i);
  }
  Peer& fits = connect_and_send(request("GET", fields));
  Peer& too_many = connect_and_send(request("GET", fields + "X-More: 1\r\n"));
  H2Client& client = connect_h2();
  client.send(fmt::format("headers 1 end | {} GET{} | x-more: 1", kHead, h2_fields));
  client.send(fmt::format("headers 3 end | {} GET{}", kHead, h2_fields));
  world_.run_for(10ms);
  EXPECT_EQ(fits.received, kOk);
  EXPECT_EQ(too_many.received, last_answer("431 Request Header Fields Too Large"));
  EXPECT_EQ(client.status(1), "431");
  EXPECT_EQ(client.status(3), "200");
  EXPECT_EQ(app.connections.size(), 2U);
  EXPECT_EQ(count(Reason::kHeaderTooLarge), 2U);
}

TEST_F(ClientEdge, ListenersOfOnePortTakeWhatTheWidestOfThemTakes) {
  serve_with([](control::Gateway& gateway, control::Service&) {
    control::Listener narrow = gateway.listeners[0];
    narrow.name = "narrow";
    narrow.hostname = "narrow.example";
    narrow.limits = gateway.limits;
    narrow.limits->header_count = 8;
    gateway.listeners.insert(gateway.listeners.begin(), narrow);
  });
  std::string fields;
  for (int i = 0; i < 20; ++i)
    fields += fmt::format("X-{}: 1\r\n", i);
  Peer& client = connect_and_send(request("GET", fields));
  world_.run_for(10ms);
  EXPECT_EQ(client.received, kOk);
}

TEST_F(ClientEdge, ABodyThatStopsIsGivenUp) {
  serve_limited([](control::GatewayLimits& limits) { limits.body_timeout_ms = 5000; });
  Peer& client = connect_and_send(request("POST", "Content-Length: 9\r\n", "12345"));
  H2Client& h2 = connect_h2();
  h2.send(fmt::format("headers 1 | {} POST", kHead));
  h2.send("data 1 | 12345");
  world_.run_for(4900ms);
  EXPECT_EQ(client.received, "");
  EXPECT_EQ(h2.status(1), "");
  world_.run_for(200ms);
  EXPECT_EQ(client.received, last_answer("408 Request Timeout"));
  EXPECT_EQ(h2.status(1), "408");
  EXPECT_EQ(outcomes(), "408 body_too_slow, 408 body_too_slow");
}

TEST_F(ClientEdge, ABodyHasItsTimeAnewWithEachByte) {
  serve_limited([](control::GatewayLimits& limits) {
    limits.body_timeout_ms = 5000;
    limits.body_min_rate = 0;
  });
  Peer& client = connect_and_send(request("POST", "Content-Length: 20\r\n"));
  for (int i = 0; i < 20; ++i) {
    world_.run_for(4s);
    client.send("x");
  }
  world_.run_for(10ms);
  EXPECT_EQ(client.received, kOk);
  EXPECT_EQ(outcomes(), "200 ok");
}

TEST_F(ClientEdge, ABodyMayBeAllowedToWaitLongerThanAnythingElse) {
  serve_limited([](control::GatewayLimits& limits) {
    limits.body_timeout_ms = 120'000;
    limits.body_min_rate = 0;
  });
  Peer& client = connect_and_send(request("POST", "Content-Length: 5\r\n"));
  world_.run_for(110s);
  client.send("12345");
  world_.run_for(10ms);
  EXPECT_EQ(client.received, kOk);
}

TEST_F(ClientEdge, ABodyThatComesTooSlowlyIsGivenUp) {
  serve_limited([](control::GatewayLimits& limits) { limits.body_min_rate = 100; });
  Peer& slow = connect_and_send(request("POST", "Content-Length: 100000\r\n"));
  trickle(world_, slow, 99, 29);
  EXPECT_EQ(slow.received, "");
  trickle(world_, slow, 99, 2);
  EXPECT_EQ(slow.received, last_answer("408 Request Timeout"));
  EXPECT_EQ(outcomes(), "408 body_too_slow");
  EXPECT_EQ(count(Reason::kBodyTooSlow), 1U);
}

TEST_F(ClientEdge, ABodyOfHttp2ThatComesTooSlowlyIsGivenUpAndNothingElse) {
  Backend& app = serve_limited([](control::GatewayLimits& limits) { limits.body_min_rate = 100; });
  H2Client& client = connect_h2();
  client.send(fmt::format("headers 1 | {} POST", kHead));
  for (int i = 0; i < 31; ++i) {
    if (i < 29) EXPECT_EQ(client.status(1), "") << i;
    if (client.status(1).empty()) client.send("data 1 | \\{99*x}");
    world_.run_for(1s);
  }
  EXPECT_EQ(client.status(1), "408");
  client.send(fmt::format("headers 3 end | {} GET", kHead));
  world_.run_for(10ms);
  EXPECT_EQ(client.status(3), "200");
  EXPECT_EQ(outcomes(), "408 body_too_slow, 200 ok");
  EXPECT_TRUE(app.connections[0]->was_reset());
}

TEST_F(ClientEdge, ABodyThatComesAsFastAsItMustIsTaken) {
  serve_limited([](control::GatewayLimits& limits) { limits.body_min_rate = 100; });
  Peer& client = connect_and_send(request("POST", "Content-Length: 12000\r\n"));
  trickle(world_, client, 100, 120);
  EXPECT_EQ(client.received, kOk);
  EXPECT_EQ(outcomes(), "200 ok");
}

TEST_F(ClientEdge, WhoWaitsForASlowEndpointIsNotSlow) {
  const std::size_t size = 1 << 20;
  Backend& app =
      serve_limited([](control::GatewayLimits& limits) { limits.body_min_rate = 100'000; },
                    [](Peer& peer) {
                      if (first_message(peer.received) && peer.requests++ == 0) peer.send(kOk);
                    });
  Peer& client = connect_and_send(
      request("POST", fmt::format("Content-Length: {}\r\n", size), std::string(size, 'x')));
  world_.run_for(1ms);
  ASSERT_EQ(app.connections.size(), 1U);
  for (int i = 0; i < 12; ++i) {
    app.connections[0]->read_limit = app.connections[0]->received.size() + 16'000;
    world_.run_for(10s);
  }
  EXPECT_EQ(client.received, "");
  app.connections[0]->read_limit = std::numeric_limits<std::size_t>::max();
  world_.run_for(10s);
  EXPECT_EQ(client.received, kOk);
  EXPECT_EQ(outcomes(), "200 ok");
}

TEST_F(ClientEdge, OnceTheAnswerHasBegunABodyMayComeAsItLikes) {
  serve_limited([](control::GatewayLimits& limits) { limits.body_min_rate = 100; },
                [](Peer& peer) {
                  if (peer.requests++ == 0)
                    peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n");
                  if (first_message(peer.received)) peer.send("0\r\n\r\n");
                });
  Peer& client = connect_and_send(request("POST", "Content-Length: 90\r\n"));
  trickle(world_, client, 1, 90);
  EXPECT_TRUE(client.received.ends_with("0\r\n\r\n"));
  EXPECT_EQ(outcomes(), "200 ok");
}

TEST_F(ClientEdge, CallsMaySpeakAsSlowlyAsTheyLike) {
  serve_limited([](control::GatewayLimits& limits) {
    limits.body_min_rate = 100;
    limits.body_timeout_ms = 5000;
  });
  H2Client& client = connect_h2();
  client.send(fmt::format("headers 1 | {} POST | content-type: application/grpc", kHead));
  world_.run_for(100s);
  EXPECT_EQ(client.status(1), "");
  client.send("data 1 end | hello");
  world_.run_for(10ms);
  EXPECT_EQ(client.status(1), "200");
}

// ---- how long -----------------------------------------------------------------------------------

constexpr std::string_view kOkAndClose =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    "Content-Length: 5\r\n\r\nhello";

TEST_F(ClientEdge, AConnectionEndsWithTheLastRequestThatItMayHave) {
  serve_limited([](control::GatewayLimits& limits) { limits.requests_per_connection = 3; });
  Peer& client = connect_and_send(request() + request() + request() + request());
  world_.run_for(100ms);
  EXPECT_EQ(client.received, std::string{kOk} + std::string{kOk} + std::string{kOkAndClose});
  EXPECT_TRUE(client.ended());
  EXPECT_FALSE(client.was_reset());
  EXPECT_EQ(counters().closed_after_requests, 1U);
  EXPECT_EQ(counters().closed_after_age, 0U);
  EXPECT_EQ(outcomes(), "200 ok, 200 ok, 200 ok");
}

TEST_F(ClientEdge, ASessionIsToldWithTheLastRequestThatItMayHave) {
  serve_limited([](control::GatewayLimits& limits) { limits.requests_per_connection = 2; });
  H2Client& client = connect_h2();
  client.send(fmt::format("headers 1 end | {} GET", kHead));
  world_.run_for(10ms);
  EXPECT_EQ(client.read().first(7, 0), "");
  client.send(fmt::format("headers 3 end | {} GET", kHead));
  world_.run_for(10ms);
  EXPECT_EQ(client.status(3), "200");
  EXPECT_EQ(client.read().first(7, 0), "GOAWAY 0 2147483647 NO_ERROR");
  client.send("ping ack");
  world_.run_for(50ms);
  EXPECT_TRUE(client.peer().ended());
  EXPECT_EQ(counters().closed_after_requests, 1U);
}

TEST_F(ClientEdge, WithoutALimitAConnectionHasAnyNumberOfRequests) {
  serve_limited([](control::GatewayLimits& limits) {
    limits.requests_per_connection = 0;
    limits.connection_age_ms = 0;
  });
  Peer& client = world_.connect();
  for (int i = 0; i < 200; ++i) {
    client.send(request());
    world_.run_for(50s);
  }
  EXPECT_EQ(client.received.size(), 200 * kOk.size());
  EXPECT_FALSE(client.ended());
}

TEST_F(ClientEdge, AnOldConnectionEndsWithItsNextResponse) {
  serve_limited([](control::GatewayLimits& limits) { limits.connection_age_ms = 100'000; });
  Peer& client = connect_and_send(request());
  world_.run_for(45s);
  client.send(request());
  world_.run_for(44900ms);
  client.send(request());
  world_.run_for(10s);
  EXPECT_EQ(client.received, std::string{kOk} + std::string{kOk} + std::string{kOk})
      << "not more than a tenth earlier";
  EXPECT_EQ(counters().closed_after_age, 0U);
  world_.run_for(200ms);
  client.send(request());
  world_.run_for(10ms);
  EXPECT_TRUE(client.received.ends_with(kOkAndClose));
  EXPECT_TRUE(client.ended());
  EXPECT_EQ(counters().closed_after_age, 1U);
  EXPECT_EQ(counters().closed_after_requests, 0U);
}

TEST_F(ClientEdge, AnOldSessionIsToldWithItsNextResponse) {
  serve_limited([](control::GatewayLimits& limits) { limits.connection_age_ms = 50'000; });
  H2Client& client = connect_h2();
  client.send(fmt::format("headers 1 end | {} GET", kHead));
  world_.run_for(51s);
  EXPECT_EQ(client.read().first(7, 0), "");
  client.send(fmt::format("headers 3 end | {} GET", kHead));
  world_.run_for(10ms);
  EXPECT_EQ(client.status(3), "200");
  EXPECT_EQ(client.read().first(7, 0), "GOAWAY 0 2147483647 NO_ERROR");
  EXPECT_EQ(counters().closed_after_age, 1U);
}

TEST_F(ClientEdge, AConnectionThatGrowsOldWithinAnAnswerIsNotCut) {
  Peer* endpoint = nullptr;
  serve_limited([](control::GatewayLimits& limits) { limits.connection_age_ms = 10'000; },
                [&](Peer& peer) {
                  if (!first_message(std::string_view{peer.received}.substr(peer.handled))) return;
                  peer.handled = peer.received.size();
                  endpoint = &peer;
                  peer.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n");
                });
  Peer& client = connect_and_send(request());
  world_.run_for(20s);
  endpoint->send("answer");
  world_.run_for(10ms);
  EXPECT_TRUE(client.received.ends_with("answer"));
  EXPECT_FALSE(client.ended()) << "it was not told to expect that";
  client.send(request());
  world_.run_for(10ms);
  endpoint->send("answer");
  world_.run_for(10ms);
  EXPECT_TRUE(client.received.find("Connection: close\r\n") != std::string::npos);
  EXPECT_TRUE(client.ended());
}

TEST_F(ClientEdge, ConnectionsThatBeginTogetherDoNotAllEndTogether) {
  serve_limited([](control::GatewayLimits& limits) { limits.connection_age_ms = 100'000; });
  std::vector<Peer*> peers;
  for (int i = 0; i < 50; ++i)
    peers.push_back(&world_.connect());
  world_.run_for(50s);
  for (Peer* const peer : peers)
    peer->send(request());
  world_.run_for(45s);
  for (Peer* const peer : peers)
    peer->send(request());
  world_.run_for(1s);
  const auto ended =
      std::count_if(peers.begin(), peers.end(), [](const Peer* peer) { return peer->ended(); });
  EXPECT_GT(ended, 10);
  EXPECT_LT(ended, 40);
  EXPECT_EQ(counters().closed_after_age, static_cast<std::uint64_t>(ended));
}

// ---- what time it is ----------------------------------------------------------------------------

/// Sun, 06 Nov 1994 08:49:37 GMT.
constexpr Duration kThen = std::chrono::seconds{784'111'777};

TEST_F(ClientEdge, AnswersOfOurOwnSayWhen) {
  Backend& app = world_.add_backend(8001, answering(std::string{kOk}));
  control::Model model = ProxyWorld::model_for({app.endpoint});
  model.http_routes[0].rules[0].matches[0].method = "PUT";
  world_.install(model);
  Peer& before = connect_and_send(request());
  world_.run_for(10ms);
  EXPECT_EQ(before.received, own_answer("404 Not Found")) << "nobody knows what time it is";
  world_.worker().set_wall_clock(kThen - world_.now().time_since_epoch());
  Peer& client = connect_and_send(request());
  H2Client& h2 = connect_h2();
  h2.send(fmt::format("headers 1 end | {} GET", kHead));
  h2.send(fmt::format("headers 3 end | {} POST | content-type: application/grpc", kHead));
  world_.run_for(1s);
  client.send(request());
  world_.run_for(10ms);
  const std::string_view first =
      "HTTP/1.1 404 Not Found\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
  const std::string_view second =
      "HTTP/1.1 404 Not Found\r\nDate: Sun, 06 Nov 1994 08:49:38 GMT\r\n";
  EXPECT_TRUE(client.received.starts_with(first)) << client.received;
  EXPECT_TRUE(client.received.find(second) != std::string::npos) << client.received;
  for (const std::uint32_t stream : {1U, 3U})
    EXPECT_TRUE(h2.read().heads(stream).find("date: Sun, 06 Nov 1994 08:49:37 GMT\n") !=
                std::string::npos)
        << h2.read().heads(stream);
}

TEST_F(ClientEdge, AnAnswerWithoutADateIsGivenOneAndOthersKeepTheirs) {
  const std::string_view dated =
      "HTTP/1.1 200 OK\r\nDate: Mon, 07 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n";
  serve([&](Peer& peer) {
    if (first_message(std::string_view{peer.received}.substr(peer.handled))) {
      peer.handled = peer.received.size();
      peer.send(peer.requests++ == 0 ? kOk : dated);
    }
  });
  world_.worker().set_wall_clock(kThen - world_.now().time_since_epoch());
  Peer& client = connect_and_send(request());
  world_.run_for(10ms);
  EXPECT_TRUE(client.received.find("\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n") !=
              std::string::npos)
      << client.received;
  client.received.clear();
  client.send(request());
  world_.run_for(10ms);
  EXPECT_EQ(client.received, dated);
}

}  // namespace
}  // namespace weir::proxy
