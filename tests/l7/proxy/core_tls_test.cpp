#include <gtest/gtest.h>
#include <openssl/bio.h>

#include <array>

#include "tests/l7/proxy/core_fixture.h"
#include "tests/l7/tls/certificates.h"
#include "tests/l7/tls/memory_client.h"

namespace weir::proxy {
namespace {

/// OpenSSL's client on a connection of the world.
class TlsClient {
 public:
  TlsClient(ProxyWorld& world, std::string server_name)
      : world_{world},
        peer_{world.connect(443)},
        client_{tls::testing::ClientOptions{.server_name = std::move(server_name)}} {}

  /// Lets time pass and carries records both ways meanwhile.
  void run_for(Duration duration) {
    for (const Instant end = world_.now() + duration; world_.now() < end;) {
      carry();
      world_.run_for(1ms);
    }
    carry();
  }
  [[nodiscard]] bool send(std::string_view text) { return client_.write(text); }
  void close() { client_.close(); }
  [[nodiscard]] Peer& peer() { return peer_; }
  [[nodiscard]] bool handshake_done() const { return SSL_is_init_finished(client_.ssl()) == 1; }
  [[nodiscard]] bool saw_close() const { return client_.saw_close(); }
  std::string received;

 private:
  void carry() {
    const std::string_view arrived = std::string_view{peer_.received}.substr(peer_.handled);
    if (!arrived.empty())
      BIO_write(SSL_get_rbio(client_.ssl()), arrived.data(), static_cast<int>(arrived.size()));
    peer_.handled = peer_.received.size();
    received += client_.read();  // goes on with the handshake, too
    std::array<char, 4096> records{};
    BIO* const out = SSL_get_wbio(client_.ssl());
    for (int count = 0; (count = BIO_read(out, records.data(), records.size())) > 0;)
      peer_.send({records.data(), static_cast<std::size_t>(count)});
  }

  ProxyWorld& world_;
  Peer& peer_;
  tls::testing::MemoryClient client_;
};

/// HTTPS for shop.example on 443, and on 80 a redirect to it.
class ProxyCoreTls : public ProxyCore {
 protected:
  Backend& serve_tls(testing::Handler handler) {
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
    world_.install(model);
    return app;
  }

  tls::testing::TestFiles files_;
};

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

}  // namespace
}  // namespace weir::proxy
