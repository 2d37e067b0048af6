#include <gtest/gtest.h>

#include <list>

#include "tests/l7/proxy/core_fixture.h"
#include "tests/l7/proxy/tls_peers.h"
#include "tests/l7/tls/certificates.h"

namespace weir::proxy {
namespace {

using tls::testing::MemoryClient;

/// Fatal alerts as a client reads them (RFC 8446, sections 5.1 and 6).
constexpr std::string_view kUnrecognizedName{"\x15\x03\x03\x00\x02\x02\x70", 7};
constexpr std::string_view kInternalError{"\x15\x03\x03\x00\x02\x02\x50", 7};

/// TLS on 443, passed through.
class Passthrough : public ProxyCore {
 protected:
  struct Route {
    std::string hostname;
    std::vector<wire::Endpoint> endpoints;
  };
  /// A service and a route for each name; on port 80 the first service is spoken to in the clear.
  static control::Model model_of(const std::vector<Route>& routes) {
    control::Model model = ProxyWorld::model_for(routes.front().endpoints);
    model.gateways[0].listeners.push_back({.name = "tls",
                                           .port = wire::Port{443},
                                           .protocol = control::ListenerProtocol::kTls,
                                           .hostname = {},
                                           .certificates = {},
                                           .redirect_to = std::nullopt});
    for (const Route& route : routes) {
      const std::string name = "to " + route.hostname;
      model.services.push_back({.name = name});
      for (const wire::Endpoint& endpoint : route.endpoints)
        model.services.back().endpoints.push_back({endpoint});
      model.tls_routes.push_back({.name = name,
                                  .parents = {{"edge", "tls"}},
                                  .hostnames = {route.hostname},
                                  .backends = {{name, 1}}});
    }
    return model;
  }
  /// What a client says first.
  static std::string hello_for(std::string_view name) {
    MemoryClient client{{.server_name = std::string{name}}};
    static_cast<void>(client.read());  // begins the handshake
    std::array<char, 4096> bytes{};
    const int count = BIO_read(SSL_get_wbio(client.ssl()), bytes.data(), bytes.size());
    return {bytes.data(), static_cast<std::size_t>(count)};
  }
  [[nodiscard]] control::CertificateRef certificate_for(const std::string& name) const {
    return files_.pair(name + ".pem", {.common_name = name, .names = {name}});
  }

  tls::testing::TestFiles files_;
  std::list<TlsBackend> backends_;  // the world speaks with them until it has ended
};

TEST_F(Passthrough, TheNameChoosesTheEndpointWhoseCertificateTheClientSees) {
  TlsBackend& a = backends_.emplace_back(certificate_for("a.example"));
  TlsBackend& b = backends_.emplace_back(certificate_for("b.example"));
  world_.install(model_of({{"a.example", {world_.add_backend(8001, a.handler()).endpoint}},
                           {"*.b.example", {world_.add_backend(8002, b.handler()).endpoint}}}));
  TlsClient first{world_, "a.example"};
  TlsClient second{world_, "x.B.example"};
  first.run_for(10ms);
  second.run_for(10ms);
  EXPECT_EQ(first.presented(), "a.example");
  EXPECT_EQ(second.presented(), "b.example");
  ASSERT_TRUE(second.send(request()));
  second.run_for(10ms);
  EXPECT_EQ(second.received, kOk);
  EXPECT_EQ(b.requests, request());  // untouched
  EXPECT_EQ(a.requests, "");
  second.close();
  second.peer().finish();
  second.run_for(100ms);
  const auto lines = log();
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0]["sni"], "x.b.example");
  EXPECT_EQ(lines[0]["listener"], "edge/tls");
  EXPECT_EQ(lines[0]["route"], "to *.b.example");
  EXPECT_EQ(lines[0]["service"], "to *.b.example");
  EXPECT_EQ(lines[0]["status"], 0);
  EXPECT_EQ(lines[0]["reason"], "ok");
  EXPECT_EQ(lines[0]["response_bytes"], second.peer().received.size());
  EXPECT_EQ(world_.report().core.passed_through, 1U);
  EXPECT_EQ(world_.report().core.requests, 0U);
  EXPECT_EQ(world_.report().core.tls_handshakes, 0U);
}

TEST_F(Passthrough, AHelloInPiecesIsPassedOnByteForByte) {
  Backend& app = world_.add_backend(8001, [](Peer&) {});
  world_.install(model_of({{"a.example", {app.endpoint}}}));
  const std::string hello = hello_for("a.example");
  Peer& client = world_.connect(443);
  for (std::size_t at = 0; at < hello.size(); at += 50) {
    EXPECT_TRUE(app.connections.empty());
    client.send(hello.substr(at, 50));
    world_.run_for(2ms);
  }
  client.send("and more");
  world_.run_for(10ms);
  EXPECT_EQ(app.received(), hello + "and more");
}

TEST_F(Passthrough, ANameThatNobodyServesIsToldSo) {
  Backend& app = world_.add_backend(8001, [](Peer&) {});
  world_.install(model_of({{"a.example", {app.endpoint}}}));
  Peer& other = world_.connect(443);
  other.send(hello_for("b.example"));
  Peer& nameless = world_.connect(443);
  nameless.send(hello_for(""));
  world_.run_for(10ms);
  EXPECT_EQ(other.received, kUnrecognizedName);
  EXPECT_EQ(nameless.received, kUnrecognizedName);
  EXPECT_TRUE(other.ended());
  EXPECT_TRUE(app.connections.empty());
  EXPECT_EQ(outcomes(), "0 no_route, 0 no_route");
}

TEST_F(Passthrough, WhatIsNoClientHelloIsClosedWithoutAWord) {
  Backend& app = world_.add_backend(8001, [](Peer&) {});
  world_.install(model_of({{"a.example", {app.endpoint}}}));
  Peer& plain = world_.connect(443);
  plain.send(request());
  Peer& cut = world_.connect(443);
  cut.send(hello_for("a.example").substr(0, 100));
  cut.finish();
  world_.run_for(10ms);
  for (const Peer* peer : {&plain, &cut}) {
    EXPECT_TRUE(peer->ended());
    EXPECT_EQ(peer->received, "");
  }
  EXPECT_TRUE(app.connections.empty());
  EXPECT_EQ(world_.report().core.tls_failures, 2U);
  EXPECT_EQ(outcomes(), "");
}

TEST_F(Passthrough, AHelloThatDoesNotComeInTimeIsReset) {
  world_.install(model_of({{"a.example", {world_.add_backend(8001, [](Peer&) {}).endpoint}}}));
  Peer& client = world_.connect(443);
  client.send("\x16\x03\x01");
  world_.run_for(4900ms);
  EXPECT_FALSE(client.was_reset());
  world_.run_for(200ms);
  EXPECT_TRUE(client.was_reset());
  EXPECT_EQ(world_.report().core.handshake_timeouts, 1U);
}

TEST_F(Passthrough, AnEndpointThatRefusesIsReplacedByAnother) {
  Backend& app = world_.add_backend(8002, [](Peer&) {});
  world_.install(model_of({{"a.example", {ProxyWorld::backend_endpoint(9), app.endpoint}}}));
  const std::string hello = hello_for("a.example");
  for (int i = 0; i < 4; ++i) {
    Peer& client = world_.connect(443);
    client.send(hello);
    world_.run_for(10ms);
    EXPECT_FALSE(client.ended());
  }
  EXPECT_EQ(app.received(), hello + hello + hello + hello);
  EXPECT_GE(world_.report().core.retries, 1U);
}

TEST_F(Passthrough, WithoutAnEndpointThatAnswersTheClientHearsAnAlert) {
  world_.install(model_of({{"a.example", {ProxyWorld::backend_endpoint(9)}}}));
  Peer& client = world_.connect(443);
  client.send(hello_for("a.example"));
  world_.run_for(200ms);  // two more attempts, after a random time each
  EXPECT_EQ(client.received, kInternalError);
  EXPECT_TRUE(client.ended());
  EXPECT_EQ(outcomes(), "0 connect_failed");
}

TEST_F(Passthrough, AConnectionThatCarriedRequestsIsNotUsed) {
  Backend& app = world_.add_backend(8001, [](Peer& peer) {
    if (peer.received.starts_with("GET") && peer.requests++ == 0) peer.send(kOk);
  });
  world_.install(model_of({{"a.example", {app.endpoint}}}));
  Peer& plain = connect_and_send(request());
  world_.run_for(10ms);
  ASSERT_EQ(plain.received, kOk);
  ASSERT_EQ(world_.report().upstream.idle, 1U);
  const std::string hello = hello_for("a.example");
  world_.connect(443).send(hello);
  world_.run_for(10ms);
  ASSERT_EQ(app.connections.size(), 2U);
  EXPECT_EQ(app.connections[1]->received, hello);
}

TEST_F(Passthrough, AnEndIsPassedOnWhileTheOtherDirectionGoesOn) {
  Backend& app = world_.add_backend(8001, [](Peer& peer) {
    if (!peer.ended() || peer.requests++ > 0) return;
    peer.send(pattern_text(300'000));
    peer.finish();
  });
  world_.install(model_of({{"a.example", {app.endpoint}}}));
  Peer& client = world_.connect(443);
  client.send(hello_for("a.example"));
  world_.run_for(10ms);
  ASSERT_EQ(app.connections.size(), 1U);
  app.connections[0]->closes_with_peer = false;
  client.finish();
  world_.run_for(2s);
  EXPECT_TRUE(client.received == pattern_text(300'000));
  EXPECT_TRUE(client.ended());
  EXPECT_FALSE(client.was_reset());
  EXPECT_EQ(outcomes(), "0 ok");
}

TEST_F(Passthrough, AnEndBeforeTheEndpointsConnectionStandsIsPassedOnBehindTheHello) {
  Backend& app = world_.add_backend(8001, [](Peer&) {});
  world_.install(model_of({{"a.example", {app.endpoint}}}));
  const std::string hello = hello_for("a.example");
  Peer& client = world_.connect(443);
  client.send(hello);
  client.finish();
  world_.run_for(1s);
  EXPECT_EQ(app.received(), hello);
  EXPECT_TRUE(client.ended());
  EXPECT_FALSE(client.was_reset());
  EXPECT_EQ(outcomes(), "0 ok");
}

TEST_F(Passthrough, SilenceEndsItAfterAnHourAndAHalfClosedOneAfterHalfAMinute) {
  Backend& app = world_.add_backend(8001, [](Peer&) {});
  world_.install(model_of({{"a.example", {app.endpoint}}}));
  const std::string hello = hello_for("a.example");
  Peer& silent = world_.connect(443);
  silent.send(hello);
  world_.run_for(10ms);
  Peer& half = world_.connect(443);
  half.send(hello);
  world_.run_for(10ms);
  app.connections[1]->closes_with_peer = false;
  half.finish();
  world_.run_for(29s);
  EXPECT_FALSE(half.ended());
  world_.run_for(2s);
  EXPECT_EQ(half.received, kInternalError);
  EXPECT_TRUE(half.ended());
  world_.run_for(59min);
  EXPECT_FALSE(silent.ended());
  world_.run_for(2min);
  EXPECT_TRUE(silent.ended());
  EXPECT_TRUE(app.connections[0]->was_reset());
  EXPECT_EQ(outcomes(), "0 upstream_timeout, 0 client_timeout");
}

TEST_F(Passthrough, AnEndpointThatIsNotThereIsGivenUp) {
  wire::Endpoint nobody = ProxyWorld::backend_endpoint(8001);
  nobody.address.bytes[15] = 77;
  world_.install(model_of({{"a.example", {nobody}}}));
  Peer& client = world_.connect(443);
  client.send(hello_for("a.example"));
  world_.run_for(2min);
  EXPECT_EQ(client.received, kInternalError);
  EXPECT_TRUE(client.ended());
}

TEST_F(Passthrough, AResetIsPassedOnAsSuch) {
  Backend& app = world_.add_backend(8001, [](Peer& peer) {
    if (peer.requests++ == 0) peer.send("half of a record");
  });
  world_.install(model_of({{"a.example", {app.endpoint}}}));
  Peer& client = world_.connect(443);
  client.send(hello_for("a.example"));
  world_.run_for(10ms);
  app.connections[0]->reset(world_.now());
  world_.run_for(10ms);
  EXPECT_TRUE(client.was_reset());
  EXPECT_EQ(client.received, "half of a record");
  EXPECT_EQ(outcomes(), "0 upstream_reset");
}

/// The port has changed hands: what began as HTTP is not led to what passes through.
TEST_F(Passthrough, ARequestOfAConnectionThatBeganInTheClearIsNotPassedThrough) {
  Backend& app = world_.add_backend(8001, answering(std::string{kOk}));
  control::Model model = model_of({{"a.example", {app.endpoint}}});
  world_.install(model);
  Peer& client = world_.connect();
  world_.run_for(10ms);
  model.gateways[0].listeners.erase(model.gateways[0].listeners.begin());
  model.gateways[0].listeners[0].port = wire::Port{80};
  world_.install(model);
  client.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
  world_.run_for(10ms);
  EXPECT_EQ(client.received, own_answer("404 Not Found"));
  EXPECT_TRUE(app.connections.empty());
}

}  // namespace
}  // namespace weir::proxy
