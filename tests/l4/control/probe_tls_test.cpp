#include "l4/control/probe_tls.h"

#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <array>
#include <filesystem>

#include "l4/control/probe_http.h"
#include "tests/l4/control/probe_servers.h"
#include "tests/l7/tls/certificates.h"

namespace weir::control {
namespace {

using testing::converse;
using tls::testing::KeyKind;
using tls::testing::TestFiles;

constexpr std::size_t kWhole = 1'000'000;

/// The server's side of TLS over memory, with one answer for the first bytes of a request.
class TlsServer {
 public:
  TlsServer(X509* certificate, std::string answer)
      : context_{SSL_CTX_new(TLS_server_method())}, answer_{std::move(answer)} {
    SSL_CTX_use_certificate(context_.get(), certificate);
    SSL_CTX_use_PrivateKey(context_.get(), tls::testing::test_key(KeyKind::kEc));
    session_.reset(SSL_new(context_.get()));
    SSL_set_bio(session_.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_accept_state(session_.get());
  }

  std::string on_bytes(std::string_view bytes) {
    if (!bytes.empty())
      BIO_write(SSL_get_rbio(session_.get()), bytes.data(), static_cast<int>(bytes.size()));
    std::array<char, 4096> request;
    if (SSL_read(session_.get(), request.data(), request.size()) > 0)
      SSL_write(session_.get(), answer_.data(), static_cast<int>(answer_.size()));
    BIO* const out = SSL_get_wbio(session_.get());
    std::string reply(BIO_ctrl_pending(out), '\0');
    if (!reply.empty()) BIO_read(out, reply.data(), static_cast<int>(reply.size()));
    return reply;
  }

  [[nodiscard]] std::string server_name() const {
    const char* name = SSL_get_servername(session_.get(), TLSEXT_NAMETYPE_host_name);
    return name == nullptr ? "" : name;
  }

 private:
  tls::UniqueContext context_;
  tls::UniqueSsl session_;
  std::string answer_;
};

class TlsProbe : public ::testing::Test {
 protected:
  ProbeVerdict ask(const TlsProbeOptions& options, X509* certificate, std::size_t piece = kWhole,
                   std::string answer = "HTTP/1.1 200 OK\r\n\r\n") {
    const auto server = std::make_shared<TlsServer>(certificate, std::move(answer));
    auto exchange =
        probes_.wrap(options, make_http_exchange({.kind = ProbeKind::kHttps}, options.name));
    if (!exchange) return {false, exchange.error().text()};
    const ProbeVerdict verdict = converse(
        **exchange, [&] { return [&](std::string_view in) { return server->on_bytes(in); }; },
        piece);
    server_name_ = server->server_name();
    return verdict;
  }

  /// The certificate is its own authority.
  std::string trust(X509* certificate) {
    return files_.write("ca.pem", tls::testing::pem_of(certificate));
  }

  TestFiles files_;
  TlsProbes probes_;
  std::string server_name_;
  const tls::UniqueCertificate made_ =
      tls::testing::make_certificate({.common_name = "shop.example", .names = {"shop.example"}});
  X509* const shop_ = made_.get();
};

TEST_F(TlsProbe, AnAnswerWithinTlsIsJudgedHoweverItIsCut) {
  for (const std::size_t piece : {std::size_t{1}, std::size_t{100}, kWhole}) {
    const auto verdict = ask({.name = "shop.example", .verify = false}, shop_, piece);
    EXPECT_EQ(verdict, (ProbeVerdict{true, "status 200"})) << piece;
    EXPECT_EQ(server_name_, "shop.example");
  }
  EXPECT_EQ(
      ask({.name = "shop.example", .verify = false}, shop_, kWhole, "HTTP/1.1 503 Busy\r\n\r\n")
          .reason,
      "status 503, expected 200-399");
}

TEST_F(TlsProbe, ATrustedCertificateOfTheNameIsTaken) {
  const auto verdict = ask({.name = "shop.example", .ca_file = trust(shop_)}, shop_);
  EXPECT_EQ(verdict, (ProbeVerdict{true, "status 200"}));
}

TEST_F(TlsProbe, AnAddressIsNoServerName) {
  const auto verdict = ask({.name = "203.0.113.5", .verify = false}, shop_);
  EXPECT_TRUE(verdict.is_success) << verdict.reason;
  EXPECT_EQ(server_name_, "");
}

TEST_F(TlsProbe, ACertificateOfAnotherNameIsAFailure) {
  const std::string ca = trust(shop_);
  EXPECT_EQ(ask({.name = "other.example", .ca_file = ca}, shop_).reason,
            "certificate: hostname mismatch");
  EXPECT_EQ(ask({.name = "203.0.113.5", .ca_file = ca}, shop_).reason,
            "certificate: IP address mismatch");
}

TEST_F(TlsProbe, AnExpiredCertificateIsAFailureUnlessItIsNotVerified) {
  const auto made = tls::testing::make_certificate(
      {.common_name = "shop.example", .names = {"shop.example"}, .valid_to_s = -60});
  X509* const expired = made.get();
  const std::string ca = trust(expired);
  EXPECT_EQ(ask({.name = "shop.example", .ca_file = ca}, expired).reason,
            "certificate has expired");
  EXPECT_TRUE(ask({.name = "shop.example", .verify = false}, expired).is_success);
}

TEST_F(TlsProbe, AnUntrustedCertificateIsAFailure) {
  const ProbeVerdict verdict = ask({.name = "shop.example"}, shop_);
  EXPECT_FALSE(verdict.is_success);
  EXPECT_EQ(verdict.reason.substr(0, 13), "certificate: ");
}

TEST_F(TlsProbe, AFileOfTrustIsReadAgainWhenItChanges) {
  const auto other = tls::testing::make_certificate({.common_name = "other", .key_index = 1});
  const std::string ca = trust(other.get());
  EXPECT_FALSE(ask({.name = "shop.example", .ca_file = ca}, shop_).is_success);
  trust(shop_);
  // Of another time than the first, however coarse the file system's clock is.
  std::filesystem::last_write_time(ca,
                                   std::filesystem::last_write_time(ca) + std::chrono::seconds{5});
  EXPECT_TRUE(ask({.name = "shop.example", .ca_file = ca}, shop_).is_success);
}

TEST_F(TlsProbe, AMissingFileOfTrustIsNamed) {
  const ProbeVerdict verdict = ask({.name = "a.example", .ca_file = "/nonexistent/ca.pem"}, shop_);
  EXPECT_FALSE(verdict.is_success);
  EXPECT_EQ(verdict.reason.substr(0, 45), "trusted certificates in /nonexistent/ca.pem: ");
}

TEST_F(TlsProbe, AServerWithoutTlsIsAFailure) {
  for (const std::string answer : {"HTTP/1.1 400 Bad Request\r\n\r\n", "SSH-2.0-x\r\n"}) {
    auto exchange = probes_.wrap({.name = "a.example"},
                                 make_http_exchange({.kind = ProbeKind::kHttps}, "a.example"));
    ASSERT_TRUE(exchange) << exchange.error().text();
    const ProbeVerdict verdict = converse(**exchange, testing::says(answer), kWhole);
    EXPECT_FALSE(verdict.is_success);
    EXPECT_EQ(verdict.reason.substr(0, 5), "TLS: ");
  }
}

TEST_F(TlsProbe, AnEndWithinTheHandshakeIsAFailure) {
  auto exchange = probes_.wrap({.name = "a.example"},
                               make_http_exchange({.kind = ProbeKind::kHttps}, "a.example"));
  ASSERT_TRUE(exchange) << exchange.error().text();
  EXPECT_EQ(converse(**exchange, testing::is_silent(), kWhole).reason,
            "the connection was closed within the TLS handshake");
}

}  // namespace
}  // namespace weir::control
