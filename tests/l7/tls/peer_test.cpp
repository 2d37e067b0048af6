#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <optional>

#include "l4/base/bytes.h"
#include "l7/tls/context.h"
#include "l7/tls/session.h"
#include "tests/l7/tls/certificates.h"
#include "tests/l7/tls/memory_client.h"

namespace weir::tls {
namespace {

using control::ClientCertificates;
using testing::Authority;
using testing::ClientOptions;
using ::testing::HasSubstr;
using testing::KeyKind;
using testing::MemoryClient;
using testing::TestFiles;

constexpr int kVersions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
constexpr int kCaKey = 5;
constexpr int kUserKey = 7;

/// The one authority that is trusted, and certificates of it.
class Peers : public ::testing::Test {
 protected:
  static const Authority& authority() {
    static const Authority one = testing::make_authority("Root", kCaKey);
    return one;
  }
  [[nodiscard]] std::string ca_file() const {
    return files_.write("ca.pem", testing::pem_of(authority().certificate.get()));
  }
  TestFiles files_;
};

class ClientCertificate : public Peers {
 protected:
  ServerContext& server(ClientCertificates mode) {
    auto created = ServerContext::create(
        {.certificates = {files_.pair("a.pem", {.common_name = "a", .names = {"a.example"}})},
         .policies = {{"a.example", {mode, ca_file()}}, {"*.open.example", {}}}});
    EXPECT_TRUE(created) << created.error().text();
    context_.emplace(std::move(*created));
    return *context_;
  }
  static ClientOptions known(int version, X509* certificate,
                             const std::string& name = "a.example") {
    return {.server_name = name,
            .min_version = version,
            .max_version = version,
            .certificate = certificate,
            .key = testing::test_key(KeyKind::kEc, kUserKey)};
  }
  static ClientOptions unknown(int version) {
    return {.server_name = "a.example", .min_version = version, .max_version = version};
  }
  std::optional<ServerContext> context_;
};

TEST_F(ClientCertificate, OfTheAuthorityIsAcceptedAndNamed) {
  const UniqueCertificate user = testing::make_certificate(
      {.common_name = "Jör\r\nX: y", .key_index = kUserKey, .issuer = &authority()});
  for (const ClientCertificates mode :
       {ClientCertificates::kOptional, ClientCertificates::kRequired})
    for (const int version : kVersions) {
      Session session = *Session::accept(server(mode));
      MemoryClient client{known(version, user.get())};
      ASSERT_TRUE(client.shake_hands(session)) << session.failure();
      ASSERT_TRUE(session.client());
      EXPECT_EQ(session.client()->subject.find_first_of("\r\n"), std::string_view::npos);
      EXPECT_THAT(std::string{session.client()->subject}, HasSubstr("CN=J"));
      const std::string_view text = session.client()->certificate;
      ASSERT_TRUE(text.starts_with(':') && text.ends_with(':'));
      std::string decoded(text.size(), '\0');
      const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(decoded.data()),
                                       reinterpret_cast<const unsigned char*>(text.data()) + 1,
                                       static_cast<int>(text.size()) - 2);
      unsigned char* der = nullptr;
      const int der_size = i2d_X509(user.get(), &der);
      ASSERT_GE(size, der_size);
      EXPECT_EQ(std::memcmp(decoded.data(), der, static_cast<std::size_t>(der_size)), 0);
      OPENSSL_free(der);
      EXPECT_EQ(session.client_validation().mode, mode);
    }
}

TEST_F(ClientCertificate, MayBeMissingOnlyWhereItIsOptional) {
  for (const int version : kVersions) {
    Session open = *Session::accept(server(ClientCertificates::kOptional));
    MemoryClient client{unknown(version)};
    EXPECT_TRUE(client.shake_hands(open)) << open.failure();
    EXPECT_FALSE(open.client());

    Session closed = *Session::accept(server(ClientCertificates::kRequired));
    MemoryClient refused{unknown(version)};
    refused.shake_hands(closed);
    EXPECT_EQ(closed.handshake(), SessionStatus::kFailed);
    EXPECT_THAT(closed.failure(), HasSubstr("peer did not return a certificate"));
  }
}

TEST_F(ClientCertificate, OfAnybodyElseIsRefusedWithTheReason) {
  const Authority other = testing::make_authority("Other", 6);
  const UniqueCertificate stranger =
      testing::make_certificate({.common_name = "user", .key_index = kUserKey, .issuer = &other});
  const UniqueCertificate expired = testing::make_certificate(
      {.common_name = "user", .key_index = kUserKey, .valid_to_s = -60, .issuer = &authority()});
  const UniqueCertificate own =
      testing::make_certificate({.common_name = "user", .key_index = kUserKey});
  struct Case {
    X509* certificate;
    std::string_view reason;
  };
  for (const ClientCertificates mode :
       {ClientCertificates::kOptional, ClientCertificates::kRequired})
    for (const int version : kVersions)
      for (const Case& c : {Case{stranger.get(), "unable to get local issuer certificate"},
                            Case{expired.get(), "certificate has expired"},
                            Case{own.get(), "self-signed certificate"}}) {
        Session session = *Session::accept(server(mode));
        MemoryClient client{known(version, c.certificate)};
        client.shake_hands(session);
        EXPECT_EQ(session.handshake(), SessionStatus::kFailed);
        EXPECT_THAT(session.failure(), HasSubstr(std::string{c.reason}));
        EXPECT_FALSE(session.client());
      }
}

TEST_F(ClientCertificate, IsAskedForByTheMostSpecificPolicyForTheName) {
  const std::string ca = ca_file();
  auto context = ServerContext::create(
      {.certificates = {files_.pair("a.pem", {.common_name = "a", .names = {"a.example"}})},
       .policies = {{"", {ClientCertificates::kOptional, ca}},
                    {"*.example", {}},
                    {"*.b.example", {ClientCertificates::kRequired, ca}},
                    {"c.b.example", {}}}});
  ASSERT_TRUE(context) << context.error().text();
  const UniqueCertificate user = testing::make_certificate(
      {.common_name = "user", .key_index = kUserKey, .issuer = &authority()});
  const auto mode_for = [&](const std::string& name) {
    Session session = *Session::accept(*context);
    MemoryClient client{known(TLS1_3_VERSION, user.get(), name)};
    EXPECT_TRUE(client.shake_hands(session)) << session.failure();
    EXPECT_EQ(session.client().has_value(),
              session.client_validation().mode != ClientCertificates::kNone);
    return session.client_validation().mode;
  };
  EXPECT_EQ(mode_for(""), ClientCertificates::kOptional);
  EXPECT_EQ(mode_for("other"), ClientCertificates::kOptional);
  EXPECT_EQ(mode_for("a.example"), ClientCertificates::kNone);
  EXPECT_EQ(mode_for("x.b.example"), ClientCertificates::kRequired);
  EXPECT_EQ(mode_for("x.Y.B.example"), ClientCertificates::kRequired);
  EXPECT_EQ(mode_for("c.b.example"), ClientCertificates::kNone);
  EXPECT_EQ(mode_for("b.example"), ClientCertificates::kNone);
}

TEST_F(ClientCertificate, NeedsAuthoritiesThatCanBeRead) {
  const auto error_of = [&](const std::string& file) {
    const auto context =
        ServerContext::create({.certificates = {files_.pair("a.pem", {})},
                               .policies = {{"", {ClientCertificates::kRequired, file}}}});
    return context ? std::string{"accepted"} : context.error().text();
  };
  EXPECT_THAT(error_of(files_.path("none.pem")), HasSubstr("CA file " + files_.path("none.pem")));
  EXPECT_THAT(error_of(files_.write("text.pem", "hello")), HasSubstr("no certificate in it"));
}

/// What the certificate speaks for, which is what a request may ask for.
TEST_F(ClientCertificate, TheServersCoversItsNamesAndAddressesOnly) {
  auto context = ServerContext::create(
      {.certificates = {
           files_.pair("a.pem", {.names = {"a.example", "*.b.example"}, .address = "192.0.2.1"}),
           files_.pair("n.pem", {.names = {"n.example"}})}});
  ASSERT_TRUE(context) << context.error().text();
  const auto session_for = [&](const std::string& name) {
    Session session = *Session::accept(*context);
    MemoryClient client{{.server_name = name}};
    EXPECT_TRUE(client.shake_hands(session));
    return session;
  };
  const Session session = session_for("a.example");
  for (const std::string_view host : {"a.example", "x.b.example", "192.0.2.1"})
    EXPECT_TRUE(session.covers(host)) << host;
  for (const std::string_view host :
       {"n.example", "b.example", "x.y.b.example", ".b.example", "192.0.2.2", "[::1]", ""})
    EXPECT_FALSE(session.covers(host)) << host;
  EXPECT_TRUE(session_for("n.example").covers("n.example"));
  EXPECT_FALSE(session_for("n.example").covers("a.example"));
}

// ---- towards a server ---------------------------------------------------------------------------

/// Two sessions of ours, one on each side.
class Upstream : public Peers {
 protected:
  ServerContext serve(const testing::CertificateOptions& options) {
    auto context = ServerContext::create(
        {.certificates = {files_.pair("server.pem", options)}, .protocols = {"h2", "http/1.1"}});
    EXPECT_TRUE(context) << context.error().text();
    return std::move(*context);
  }
  [[nodiscard]] ClientContext trusting(const control::UpstreamTls& options) const {
    auto context = ClientContext::create(options, {"http/1.1"}, *Library::create());
    EXPECT_TRUE(context) << context.error().text();
    return std::move(*context);
  }
  static void carry(Session& from, Session& to) {
    to.feed(from.output());
    from.consume_output(from.output().size());
  }
  static SessionStatus shake_hands(Session& client, Session& server) {
    SessionStatus status = client.handshake();
    for (int i = 0; i < 10 && status == SessionStatus::kWantInput; ++i) {
      carry(client, server);
      static_cast<void>(server.handshake());
      carry(server, client);
      status = client.handshake();
    }
    carry(client, server);
    static_cast<void>(server.handshake());
    return status;
  }
};

TEST_F(Upstream, ThatProvesItsNameIsSpokenTo) {
  ServerContext server_context =
      serve({.names = {"orders.internal"}, .key_index = 3, .issuer = &authority()});
  ClientContext client_context = trusting({.ca_file = ca_file()});
  Session server = *Session::accept(server_context);
  Session client = *Session::connect(client_context, "orders.internal");
  ASSERT_EQ(shake_hands(client, server), SessionStatus::kOk) << client.failure();
  EXPECT_EQ(server.info().server_name, "orders.internal");
  EXPECT_EQ(client.info().protocol, "http/1.1");
  EXPECT_EQ(client.info().version, "TLSv1.3");
  ASSERT_EQ(client.write(as_bytes("ping")), 4U);
  carry(client, server);
  std::array<std::byte, 16> bytes;
  const auto [status, count] = server.read(bytes);
  EXPECT_EQ(status, SessionStatus::kOk);
  EXPECT_EQ(as_text(std::span{bytes}.first(count)), "ping");
}

TEST_F(Upstream, ThatDoesNotProveItsNameIsNotSpokenTo) {
  const Authority other = testing::make_authority("Other", 6);
  struct Case {
    std::string_view name;
    testing::CertificateOptions certificate;
    std::string expected;
    std::string_view reason;  // empty: accepted
  };
  const Case cases[] = {
      {"exact", {.names = {"a.internal"}, .issuer = &authority()}, "a.internal", ""},
      {"wildcard",
       {.names = {"*.internal.example"}, .issuer = &authority()},
       "a.internal.example",
       ""},
      {"address", {.issuer = &authority(), .address = "10.0.1.6"}, "10.0.1.6", ""},
      {"v6", {.issuer = &authority(), .address = "2001:db8::6"}, "2001:db8::6", ""},
      {"another name",
       {.names = {"b.internal"}, .issuer = &authority()},
       "a.internal",
       "hostname mismatch"},
      {"only a common name",
       {.common_name = "a.internal", .issuer = &authority()},
       "a.internal",
       "hostname mismatch"},
      {"another address",
       {.issuer = &authority(), .address = "10.0.1.7"},
       "10.0.1.6",
       "IP address mismatch"},
      {"another authority",
       {.names = {"a.internal"}, .issuer = &other},
       "a.internal",
       "unable to get local issuer certificate"},
      {"itself", {.names = {"a.internal"}}, "a.internal", "self-signed certificate"},
  };
  ClientContext trusting_one = trusting({.ca_file = ca_file()});
  ClientContext trusting_all = trusting({.verification = control::Verification::kOff});
  for (const Case& c : cases) {
    ServerContext server_context = serve(c.certificate);
    Session server = *Session::accept(server_context);
    Session client = *Session::connect(trusting_one, c.expected);
    const SessionStatus status = shake_hands(client, server);
    EXPECT_EQ(status, c.reason.empty() ? SessionStatus::kOk : SessionStatus::kFailed) << c.name;
    EXPECT_EQ(client.failure_reason(), c.reason) << c.name;
    EXPECT_EQ(client.write(as_bytes("secret")), c.reason.empty() ? 6U : 0U) << c.name;

    Session careless_server = *Session::accept(server_context);
    Session careless = *Session::connect(trusting_all, c.expected);
    EXPECT_EQ(shake_hands(careless, careless_server), SessionStatus::kOk) << c.name;
  }
}

TEST_F(Upstream, TrustsTheSystemsAuthoritiesByDefaultAndNobodyElse) {
  auto context = ClientContext::create({}, {}, *Library::create());
  if (!context) GTEST_SKIP() << "because " << context.error().text();
  ServerContext server_context = serve({.names = {"a.internal"}, .issuer = &authority()});
  Session server = *Session::accept(server_context);
  Session client = *Session::connect(*context, "a.internal");
  EXPECT_EQ(shake_hands(client, server), SessionStatus::kFailed);
  EXPECT_EQ(client.failure_reason(), "unable to get local issuer certificate");
}

TEST_F(Upstream, NeedsAuthoritiesThatCanBeRead) {
  const auto context =
      ClientContext::create({.ca_file = files_.path("none.pem")}, {}, *Library::create());
  ASSERT_FALSE(context);
  EXPECT_THAT(context.error().text(), HasSubstr("CA file " + files_.path("none.pem")));
}

// ---- OCSP ---------------------------------------------------------------------------------------

class Stapling : public Peers {
 protected:
  /// A chain and its key, with the response in a file.
  control::CertificateRef pair(std::string_view name, const std::string& response,
                               const testing::CertificateOptions& options) {
    certificate_ = testing::make_certificate(options);
    const std::string file = files_.write(
        name, testing::pem_of(certificate_.get()) + testing::pem_of(authority().certificate.get()) +
                  testing::pem_of(testing::test_key(options.kind, options.key_index)));
    return {file, file, response};
  }
  std::string response(const testing::OcspOptions& options = {}, long serial = 1) {
    const UniqueCertificate about =
        testing::make_certificate({.serial = serial, .issuer = &authority()});
    return testing::make_ocsp_response(about.get(), authority(), options);
  }
  UniqueCertificate certificate_;
};

TEST_F(Stapling, GivesTheResponseToWhoAsksForIt) {
  const std::string der = response();
  auto context = ServerContext::create(
      {.certificates = {
           pair("a.pem", files_.write("a.ocsp", der),
                {.names = {"a.example"}, .serial = 1, .issuer = &authority()}),
           pair("b.pem", "",
                {.names = {"a.example"}, .kind = KeyKind::kRsa, .issuer = &authority()})}});
  ASSERT_TRUE(context) << context.error().text();
  const auto stapled = [&](int version, bool wants, const std::string& algorithms) {
    Session session = *Session::accept(*context);
    MemoryClient client{{.server_name = "a.example",
                         .min_version = version,
                         .max_version = version,
                         .signature_algorithms = algorithms,
                         .wants_status = wants}};
    EXPECT_TRUE(client.shake_hands(session)) << session.failure();
    return client.status();
  };
  for (const int version : kVersions) {
    EXPECT_TRUE(stapled(version, true, "ECDSA+SHA256") == der) << version;
    EXPECT_EQ(stapled(version, false, "ECDSA+SHA256"), "") << version;
    EXPECT_EQ(stapled(version, true, "RSA-PSS+SHA256:RSA+SHA256"), "") << "that of the other";
  }
}

TEST_F(Stapling, DoesNotGiveAResponseThatIsOutOfDate) {
  const std::string file = files_.write("a.ocsp", response({.next_update_s = -60}));
  auto context = ServerContext::create(
      {.certificates = {pair("a.pem", file, {.names = {"a.example"}, .issuer = &authority()})}});
  ASSERT_TRUE(context) << "a restart must not fail for it: " << context.error().text();
  Session session = *Session::accept(*context);
  MemoryClient client{{.server_name = "a.example", .wants_status = true}};
  ASSERT_TRUE(client.shake_hands(session));
  EXPECT_EQ(client.status(), "");
}

TEST_F(Stapling, AWrongResponseIsNamedWithItsProblem) {
  struct Case {
    std::string content;
    std::string_view problem;
  };
  for (const Case& c :
       {Case{"hello", "not an OCSP response in DER"},
        Case{response({}, 2), "about another certificate"},
        Case{response({.good = false}), "says that the certificate is revoked"},
        Case{response({.signer_index = 8}), "signature is not that of the certificate's issuer"},
        Case{std::string{"\x30\x03\x0a\x01\x03", 5}, "the responder has answered \"trylater\""}}) {
    const std::string file = files_.write("a.ocsp", c.content);
    const auto context = ServerContext::create(
        {.certificates = {
             pair("a.pem", file, {.names = {"a"}, .serial = 1, .issuer = &authority()})}});
    ASSERT_FALSE(context) << c.problem;
    EXPECT_THAT(context.error().text(), HasSubstr("OCSP file " + file));
    EXPECT_THAT(context.error().text(), HasSubstr(std::string{c.problem}));
    EXPECT_THAT(context.error().text(), HasSubstr("openssl ocsp"));
    EXPECT_EQ(ERR_peek_error(), 0U);
  }
}

}  // namespace
}  // namespace weir::tls
