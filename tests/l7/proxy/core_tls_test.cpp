#include <gtest/gtest.h>

#include <array>
#include <map>
#include <memory>
#include <optional>

#include "l4/base/bytes.h"
#include "l7/tls/pem.h"
#include "l7/tls/ticket_keys.h"
#include "tests/l7/proxy/core_fixture.h"
#include "tests/l7/proxy/tls_peers.h"
#include "tests/l7/tls/certificates.h"
#include "tests/support/allocation_counter.h"

namespace weir::proxy {
namespace {

/// HTTPS for shop.example on 443, and on 80 a redirect to it.
class ProxyCoreTls : public ProxyCore {
 protected:
  Backend& serve_tls(testing::Handler handler, std::optional<wire::Prefix> proxies = {},
                     const control::HeaderEdits& request_headers = {}) {
    Backend& app = world_.add_backend(8001, std::move(handler));
    control::Model model = ProxyWorld::model_for({app.endpoint});
    control::Gateway& gateway = model.gateways[0];
    gateway.listeners[0].redirect_to = "https";
    gateway.listeners.push_back(
        {"https",
         wire::Port{443},
         control::ListenerProtocol::kHttps,
         "shop.example",
         {files_.pair("shop.pem", {.common_name = "shop.example", .names = {"shop.example"}})},
         {},
         std::nullopt});
    if (proxies) gateway.listeners[1].proxy_protocol_from = {*proxies};
    model.http_routes[0].rules[0].request_headers = request_headers;
    world_.install(model);
    return app;
  }

  tls::testing::TestFiles files_;
};

TEST_F(ProxyCoreTls, BehindAProxyHeaderTlsIsSpoken) {
  Backend& app = serve_tls(answering(std::string{kOk}),
                           wire::Prefix{*wire::IpAddress::parse("10.0.0.100"), 32});
  const std::string header = "PROXY TCP4 192.0.2.7 198.51.100.9 4321 443\r\n";
  TlsClient client{world_, "shop.example"};
  client.peer().send(header);  // before, and in one segment with, what the client says first
  client.run_for(10ms);
  ASSERT_TRUE(client.send(request()));
  client.run_for(10ms);
  EXPECT_EQ(client.received, kOk);
  EXPECT_TRUE(app.received().find("X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n") !=
              std::string::npos);
  EXPECT_EQ(world_.report().core.proxy_headers, 1U);
  EXPECT_EQ(log()[0]["client"], "192.0.2.7:4321");
  TlsClient silent{world_, "shop.example"};
  silent.run_for(10ms);
  EXPECT_TRUE(silent.peer().was_reset()) << "a record is no header";
  EXPECT_EQ(world_.report().core.proxy_header_failures, 1U);
  EXPECT_EQ(world_.report().core.tls_failures, 0U);
}

TEST_F(ProxyCoreTls, FromAnybodyElseAProxyHeaderIsNoTls) {
  serve_tls(answering(std::string{kOk}));
  TlsClient client{world_, "shop.example"};
  client.peer().send("PROXY TCP4 192.0.2.7 198.51.100.9 4321 443\r\n");
  client.run_for(10ms);
  EXPECT_FALSE(client.handshake_done());
  EXPECT_EQ(world_.report().core.tls_failures, 1U);
  EXPECT_EQ(world_.report().core.proxy_headers, 0U);
}

TEST_F(ProxyCoreTls, ARequestOverTlsIsForwardedInTheClear) {
  Backend& app = serve_tls(answering(std::string{kOk}));
  TlsClient client{world_, "shop.example"};
  client.run_for(10ms);
  ASSERT_TRUE(client.handshake_done());
  ASSERT_TRUE(client.send(request()));
  client.run_for(10ms);
  EXPECT_EQ(client.received, kOk);
  EXPECT_EQ(app.received(),
            fmt::format("GET /app HTTP/1.1\r\nHost: shop.example\r\n{}\r\n", forwarded("https")));
  const auto lines = log();
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0]["tls"], "TLSv1.3");
  EXPECT_EQ(lines[0]["sni"], "shop.example");
  EXPECT_EQ(lines[0]["listener"], "edge/https");
  EXPECT_EQ(world_.report().core.tls_handshakes, 1U);
  client.close();
  client.run_for(10ms);
  EXPECT_TRUE(client.peer().ended());
}

TEST_F(ProxyCoreTls, VariablesTellWhatIsSpokenAndWithWhom) {
  Backend& app = serve_tls(
      answering(std::string{kOk}), {},
      {.set = {{"X-Tls", "${request.scheme} ${tls.version} ${tls.serverName}"}}, .add = {}});
  TlsClient client{world_, "shop.example"};
  client.run_for(10ms);
  ASSERT_TRUE(client.send(request()));
  client.run_for(10ms);
  EXPECT_NE(app.received().find("\r\nX-Tls: https TLSv1.3 shop.example\r\n"), std::string::npos);
  client.close();
}

TEST_F(ProxyCoreTls, ALargeAnswerToASlowReaderArrivesWholeAndEndsInOrder) {
  const std::string body = pattern_text(1 << 20);
  serve_tls(
      answering(fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", body.size(), body)));
  TlsClient client{world_, "shop.example"};
  client.run_for(10ms);
  ASSERT_TRUE(client.send(request("GET", "Connection: close\r\n")));
  client.peer().read_limit = 100'000;
  client.run_for(1s);
  EXPECT_FALSE(first_message(client.received));
  client.peer().read_limit = SIZE_MAX;
  client.run_for(1s);
  const auto answer = first_message(client.received);
  ASSERT_TRUE(answer);
  EXPECT_TRUE(answer->body == body);
  EXPECT_EQ(answer->size, client.received.size());
  EXPECT_TRUE(client.saw_close());
  EXPECT_TRUE(client.peer().ended());
  EXPECT_EQ(outcomes(), "200 ok");
}

TEST_F(ProxyCoreTls, ABrokenAnswerEndsWithoutCloseNotify) {
  Backend& app = serve_tls([](Peer& peer) {
    if (peer.requests++ == 0) peer.send("HTTP/1.1 200 OK\r\n\r\nhello");
  });
  TlsClient client{world_, "shop.example"};
  client.run_for(10ms);
  ASSERT_TRUE(client.send(request()));
  client.run_for(10ms);
  app.connections[0]->reset(world_.now());
  client.run_for(10ms);
  EXPECT_TRUE(client.peer().was_reset());
  EXPECT_FALSE(client.saw_close());
  EXPECT_EQ(outcomes(), "200 upstream_reset");
}

TEST_F(ProxyCoreTls, AHostThatTheCertificateMayNotCoverIsMisdirected) {
  serve_tls(answering(std::string{kOk}));
  TlsClient client{world_, "shop.example"};
  client.run_for(10ms);
  ASSERT_TRUE(client.send("GET / HTTP/1.1\r\nHost: other.example\r\n\r\n"));
  client.run_for(10ms);
  EXPECT_EQ(client.received, own_answer("421 Misdirected Request"));
  EXPECT_EQ(outcomes(), "421 no_route");
}

TEST_F(ProxyCoreTls, WhatIsNoTlsIsClosedAndCounted) {
  serve_tls(answering(std::string{kOk}));
  Peer& client = world_.connect(443);
  client.send(request());
  world_.run_for(10ms);
  EXPECT_TRUE(client.ended());
  EXPECT_EQ(world_.report().core.tls_failures, 1U);
  EXPECT_EQ(outcomes(), "");
}

TEST_F(ProxyCoreTls, AHandshakeThatDoesNotEndInTimeIsReset) {
  serve_tls(answering(std::string{kOk}));
  Peer& client = world_.connect(443);
  client.send("\x16\x03\x01");
  world_.run_for(4900ms);
  EXPECT_FALSE(client.was_reset());
  world_.run_for(200ms);
  EXPECT_TRUE(client.was_reset());
  EXPECT_EQ(world_.report().core.handshake_timeouts, 1U);
}

TEST_F(ProxyCoreTls, ARedirectNamesTheSameTargetAndKeepsTheMethodOfAPost) {
  Backend& app = serve_tls(answering(std::string{kOk}));
  Peer& client = world_.connect(80);
  client.send("GET /app?x=1 HTTP/1.1\r\nHost: shop.example:80\r\n\r\n");
  client.send(request("POST"));
  world_.run_for(10ms);
  EXPECT_EQ(client.received,
            own_answer("301 Moved Permanently", "Location: https://shop.example/app?x=1\r\n") +
                own_answer("308 Permanent Redirect", "Location: https://shop.example/app\r\n"));
  EXPECT_EQ(outcomes(), "301 redirect, 308 redirect");
  EXPECT_TRUE(app.connections.empty());
}

// ---- who may ask for what -----------------------------------------------------------------------

/// A listener on 443 for each name, with the certificate that is given for it.
class ProxyCoreListeners : public ProxyCoreTls {
 protected:
  struct Wanted {
    std::string name;
    control::CertificateRef certificate;
    control::ClientValidation validation{};
  };
  [[nodiscard]] control::Model model_of(const std::vector<Wanted>& listeners,
                                        const wire::Endpoint& endpoint) const {
    control::Model model = ProxyWorld::model_for({endpoint});
    for (const Wanted& wanted : listeners)
      model.gateways[0].listeners.push_back({.name = wanted.name,
                                             .port = wire::Port{443},
                                             .protocol = control::ListenerProtocol::kHttps,
                                             .hostname = wanted.name,
                                             .certificates = {wanted.certificate},
                                             .redirect_to = std::nullopt,
                                             .client_validation = wanted.validation});
    return model;
  }
  [[nodiscard]] control::CertificateRef certificate_for(std::vector<std::string> names) const {
    const std::string first = names.front();
    return files_.pair(first + ".pem", {.common_name = first, .names = std::move(names)});
  }
  static std::string request_to(std::string_view host, std::string_view fields = "") {
    return fmt::format("GET /app HTTP/1.1\r\nHost: {}\r\n{}\r\n", host, fields);
  }
};

TEST_F(ProxyCoreListeners, AHostOfAnotherCertificateIsMisdirected) {
  Backend& app = world_.add_backend(8001, answering(std::string{kOk}));
  world_.install(model_of({{"a.example", certificate_for({"a.example", "*.c.example"})},
                           {"b.example", certificate_for({"b.example"})},
                           {"*.c.example", certificate_for({"only.c.example"})}},
                          app.endpoint));
  TlsClient client{world_, "a.example"};
  client.run_for(10ms);
  ASSERT_TRUE(client.send(request_to("a.example") + request_to("b.example") +
                          request_to("x.c.example") + request_to("x.y.c.example")));
  client.run_for(10ms);
  EXPECT_EQ(outcomes(), "200 ok, 421 misdirected, 200 ok, 421 misdirected");
  EXPECT_EQ(client.received, std::string{kOk} + own_answer("421 Misdirected Request") +
                                 std::string{kOk} + own_answer("421 Misdirected Request"));
}

TEST_F(ProxyCoreListeners, AHostThatWantsAClientCertificateIsNotReachedWithoutOne) {
  const tls::testing::Authority authority = tls::testing::make_authority("ca", 5);
  const std::string ca = files_.write("ca.pem", tls::testing::pem_of(authority.certificate.get()));
  Backend& app = world_.add_backend(8001, answering(std::string{kOk}));
  const control::CertificateRef both = certificate_for({"open.example", "closed.example"});
  const control::CertificateRef rsa = files_.pair(
      "rsa.pem",
      {.common_name = "closed", .names = {"closed.example"}, .kind = tls::testing::KeyKind::kRsa});
  const control::ClientValidation required{control::ClientCertificates::kRequired, ca};
  world_.install(
      model_of({{"open.example", both, {}}, {"closed.example", rsa, required}}, app.endpoint));
  TlsClient client{world_, "open.example"};
  client.run_for(10ms);
  ASSERT_TRUE(client.send(request_to("open.example") + request_to("closed.example")));
  client.run_for(10ms);
  const auto lines = log();
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0]["status"], 200);
  EXPECT_EQ(lines[1]["status"], 421);
  EXPECT_EQ(lines[1]["reason"], "misdirected");
  EXPECT_EQ(lines[1]["detail"], "the host asks for client certificates in another way");
  EXPECT_EQ(app.received().find("closed.example"), std::string::npos);

  // A connection that began before certificates were asked for does not go on without one.
  world_.install(model_of({{"open.example", both, required}, {"closed.example", rsa, required}},
                          app.endpoint));
  ASSERT_TRUE(client.send(request_to("open.example")));
  client.run_for(10ms);
  EXPECT_EQ(outcomes(), "421 misdirected");
}

TEST_F(ProxyCoreListeners, AClientCertificateIsToldToTheBackendAndAForgedOneIsNot) {
  const tls::testing::Authority authority = tls::testing::make_authority("ca", 5);
  const std::string ca = files_.write("ca.pem", tls::testing::pem_of(authority.certificate.get()));
  Backend& app = world_.add_backend(8001, answering(std::string{kOk}));
  world_.install(model_of(
      {{"a.example", certificate_for({"a.example"}), {control::ClientCertificates::kOptional, ca}}},
      app.endpoint));
  const std::string forged =
      "Client-Cert: :Zm9yZ2Vk:\r\nclient-cert-chain: :Zm9yZ2Vk:\r\n"
      "X-Client-Cert-Subject: CN=forged\r\nX-Forwarded-Client-Cert: forged\r\n"
      "X-SSL-Cert: forged\r\nX-Client-Verify: forged\r\n"
      "Connection: Client-Cert, X-Client-Cert-Subject\r\n";
  const tls::UniqueCertificate user =
      tls::testing::make_certificate({.common_name = "user", .key_index = 7, .issuer = &authority});
  TlsClient known{world_, tls::testing::ClientOptions{
                              .server_name = "a.example",
                              .certificate = user.get(),
                              .key = tls::testing::test_key(tls::testing::KeyKind::kEc, 7)}};
  known.run_for(10ms);
  ASSERT_TRUE(known.send(request_to("a.example", forged)));
  known.run_for(10ms);
  EXPECT_EQ(outcomes(), "200 ok");
  const auto told = first_message(app.received());
  ASSERT_TRUE(told);
  EXPECT_EQ(told->field("X-Client-Cert-Subject"), "CN=user");
  const auto certificate = told->field("Client-Cert");
  ASSERT_TRUE(certificate);
  EXPECT_GT(certificate->size(), 300U);
  EXPECT_TRUE(certificate->starts_with(":MII")) << *certificate;
  EXPECT_EQ(app.received().find("orged"), std::string::npos);
  EXPECT_EQ(app.received().find("Zm9yZ2Vk"), std::string::npos);

  const std::size_t before = app.received().size();
  TlsClient anonymous{world_, "a.example"};
  anonymous.run_for(10ms);
  ASSERT_TRUE(anonymous.send(request_to("a.example", forged)));
  Peer& plain = connect_and_send(request_to("a.example", forged));
  anonymous.run_for(10ms);
  EXPECT_EQ(plain.received, kOk);
  EXPECT_EQ(outcomes(), "200 ok, 200 ok");
  const std::string rest = app.received().substr(before);
  EXPECT_EQ(rest.find("ert"), std::string::npos) << rest;
}

TEST_F(ProxyCoreListeners, ANewCertificateIsThereAtOnceAndOpenConnectionsGoOn) {
  Backend& app = world_.add_backend(8001, answering(std::string{kOk}));
  const auto with = [&](std::string name) {
    return model_of(
        {{"a.example", files_.pair(name + ".pem", {.common_name = name, .names = {"a.example"}})}},
        app.endpoint);
  };
  world_.install(with("old"));
  TlsClient before{world_, "a.example"};
  before.run_for(10ms);
  EXPECT_EQ(before.presented(), "old");
  world_.install(with("new"));
  TlsClient after{world_, "a.example"};
  after.run_for(10ms);
  EXPECT_EQ(after.presented(), "new");
  for (TlsClient* client : {&before, &after}) {
    ASSERT_TRUE(client->send(request_to("a.example")));
    client->run_for(10ms);
    EXPECT_EQ(client->received, kOk);
  }
  EXPECT_FALSE(before.peer().was_reset());
}

TEST_F(ProxyCoreListeners, TicketKeysOutliveConfigurationsAndChangeWithoutOne) {
  Backend& app = world_.add_backend(8001, answering(std::string{kOk}));
  const control::Model model =
      model_of({{"a.example", certificate_for({"a.example"})}}, app.endpoint);
  const auto keys = [&](const std::string& file) {
    return tls::TicketKeyFile::open(files_.path(file), 1000)->keys();
  };
  ASSERT_TRUE(world_.worker().install(keys("one")));
  world_.install(model);
  TlsClient first{world_, "a.example"};
  first.run_for(10ms);
  ASSERT_TRUE(first.handshake_done());
  const std::unique_ptr<SSL_SESSION, void (*)(SSL_SESSION*)> ticket{first.session(),
                                                                    SSL_SESSION_free};
  const auto resumes = [&] {
    TlsClient client{
        world_, tls::testing::ClientOptions{.server_name = "a.example", .resume = ticket.get()}};
    client.run_for(10ms);
    client.close();  // OpenSSL does not resume what was cut off
    client.run_for(10ms);
    return client.resumed();
  };
  EXPECT_TRUE(resumes());
  world_.install(model);
  EXPECT_TRUE(resumes());
  ASSERT_TRUE(world_.worker().install(keys("other")));
  world_.run_for(1ms);
  EXPECT_FALSE(resumes());
}

// ---- TLS to endpoints ---------------------------------------------------------------------------

class ProxyCoreUpstreamTls : public ProxyCoreTls {
 protected:
  ProxyCoreUpstreamTls()
      : authority_{tls::testing::make_authority("ca", 5)},
        backend_{files_.pair("app.pem", {.names = {"app.internal"}, .issuer = &authority_})} {
    tls_.ca_file = files_.write("ca.pem", tls::testing::pem_of(authority_.certificate.get()));
    tls_.sni = "app.internal";
  }
  Backend& serve_upstream() {
    Backend& app = world_.add_backend(8001, backend_.handler());
    install(app);
    return app;
  }
  void install(const Backend& app) {
    control::Model model = ProxyWorld::model_for({app.endpoint});
    model.services[0].tls = tls_;
    world_.install(model);
  }
  tls::testing::Authority authority_;
  TlsBackend backend_;
  control::UpstreamTls tls_;
};

TEST_F(ProxyCoreUpstreamTls, ARequestGoesOnEncryptedAndTheConnectionIsKept) {
  Backend& app = serve_upstream();
  Peer& client = connect_and_send(request());
  world_.run_for(20ms);
  EXPECT_EQ(client.received, kOk);
  client.send(request());
  world_.run_for(20ms);
  EXPECT_EQ(client.received, std::string{kOk} + std::string{kOk});
  EXPECT_EQ(backend_.requests, at_backend() + at_backend());
  EXPECT_EQ(app.received().find("shop.example"), std::string::npos) << "in the clear";
  EXPECT_EQ(backend_.handshakes, 1U);
  EXPECT_EQ(world_.report().upstream.reused, 1U);
  EXPECT_EQ(outcomes(), "200 ok, 200 ok");
}

TEST_F(ProxyCoreUpstreamTls, AnEndpointThatIsSomebodyElseGetsNothingAndTheLogSaysWhy) {
  tls_.sni = "other.internal";
  serve_upstream();
  Peer& client = connect_and_send(request());
  world_.run_for(20ms);
  EXPECT_EQ(client.received, own_answer("502 Bad Gateway"));
  EXPECT_EQ(backend_.requests, "");
  const auto lines = log();
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0]["reason"], "upstream_tls");
  EXPECT_EQ(lines[0]["detail"], "hostname mismatch");
  EXPECT_EQ(world_.report().upstream.open, 0U);
}

TEST_F(ProxyCoreUpstreamTls, AnEndpointThatDoesNotSpeakTlsIsABadGateway) {
  Backend& app = world_.add_backend(8001, [](Peer& peer) {
    if (!peer.received.empty() && peer.requests++ == 0)
      peer.send("HTTP/1.1 400 Bad Request\r\n\r\n");
  });
  install(app);
  Peer& client = connect_and_send(request());
  world_.run_for(20ms);
  EXPECT_EQ(client.received, own_answer("502 Bad Gateway"));
  EXPECT_EQ(outcomes(), "502 upstream_tls");
  EXPECT_EQ(app.received().find("shop.example"), std::string::npos);
}

TEST_F(ProxyCoreUpstreamTls, AnEndpointThatClosesInsteadOfShakingHandsIsABadGateway) {
  Backend& app = world_.add_backend(8001, [](Peer& peer) {
    if (!peer.received.empty()) peer.finish();
  });
  install(app);
  Peer& client = connect_and_send(request());
  world_.run_for(20ms);
  EXPECT_EQ(client.received, own_answer("502 Bad Gateway"));
  EXPECT_EQ(outcomes(), "502 upstream_tls");
}

TEST_F(ProxyCoreUpstreamTls, AnIdleConnectionKeepsNoOldConfiguration) {
  Backend& app = serve_upstream();
  connect_and_send(request()).finish();
  world_.run_for(20ms);
  EXPECT_EQ(world_.report().upstream.idle, 1U);
  install(app);
  world_.run_for(20ms);
  EXPECT_EQ(world_.report().upstream.open, 0U);
  EXPECT_EQ(world_.report().core.generations, 1U);
}

TEST_F(ProxyCoreUpstreamTls, AConnectionIsNotKeptForAConfigurationThatTrustsOthers) {
  Backend& app = serve_upstream();
  Peer& client = connect_and_send(request());
  world_.run_for(20ms);
  EXPECT_EQ(outcomes(), "200 ok");
  const tls::testing::Authority other = tls::testing::make_authority("other", 6);
  tls_.ca_file = files_.write("other.pem", tls::testing::pem_of(other.certificate.get()));
  install(app);
  client.send(request());
  world_.run_for(20ms);
  EXPECT_EQ(outcomes(), "502 upstream_tls");
  EXPECT_EQ(backend_.requests, at_backend());
}

// OpenSSL's own memory is not counted: it gives the buffers of its records back after each of them,
// so that idle connections have none.
TEST_F(ProxyCoreTls, ARequestOnAKeptConnectionAllocatesNothing) {
  serve_tls(answering(std::string{kOk}));
  TlsClient client{world_, "shop.example"};
  const auto ask = [&] {
    client.received.clear();
    ASSERT_TRUE(client.send(request("GET", "X-Long: " + pattern_text(500) + "\r\n")));
    client.run_for(3ms);
    ASSERT_EQ(client.received, kOk);
  };
  client.run_for(10ms);
  EXPECT_EQ(testing::allocations_of_a_hundred(world_, ask), 0U);
  EXPECT_EQ(log().size(), 200U);
}

}  // namespace
}  // namespace weir::proxy
