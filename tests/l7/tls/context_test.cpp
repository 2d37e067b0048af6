#include "l7/tls/context.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <ctime>

#include "tests/l7/tls/certificates.h"
#include "tests/l7/tls/memory_client.h"

namespace weir::tls {
namespace {

using namespace std::string_literals;
using testing::CertificateOptions;
using testing::ClientOptions;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::KeyKind;
using testing::MemoryClient;
using testing::TestFiles;

std::string certificate_pem(const CertificateOptions& options = {}) {
  return testing::pem_of(testing::make_certificate(options).get());
}

std::string error_of(const control::CertificateRef& ref) {
  const auto context = ServerContext::create({.certificates = {ref}});
  EXPECT_EQ(ERR_peek_error(), 0U) << "OpenSSL's queue must be empty after " << ref.key_file;
  return context ? "accepted" : context.error().text();
}

/// Every problem is one line that says which file, what is wrong and what to do.
TEST(BadFiles, AreNamedWithTheirProblemAndItsRemedy) {
  const TestFiles files;
  const std::string key = testing::pem_of(testing::test_key(KeyKind::kEc));
  const std::string other_key = testing::pem_of(testing::test_key(KeyKind::kEc, 1));
  const std::string encrypted = testing::encrypted_pem_of(testing::test_key(KeyKind::kEc));
  const std::string good = certificate_pem();
  const std::string broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
  const std::string broken_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
  std::string many;
  for (int i = 0; i < 20; ++i)
    many += good;
  struct Case {
    std::string_view name;
    std::string certificate;
    std::string key;
    std::string_view problem;
    std::string_view remedy;
  };
  const Case cases[] = {
      {"no certificate", key, key, "no certificate in it", "BEGIN CERTIFICATE"},
      {"text", "hello\n", key, "no certificate in it", "BEGIN CERTIFICATE"},
      {"empty", "", key, "0 bytes long", "give a file of at most"},
      {"broken", broken, key, "certificate number 1 cannot be read", "write the file again"},
      {"broken issuer", good + broken, key, "certificate number 2 cannot be read", "again"},
      {"too many", many, key, "more than 16 certificates", "issuers"},
      {"no key", good, good, "no private key in it", "BEGIN PRIVATE KEY"},
      {"broken key", good, broken_key, "the private key cannot be read", "write the file again"},
      {"other key", good, other_key, "does not belong to the first certificate", "issued for"},
      {"encrypted key", good, encrypted, "the private key is encrypted", "without a passphrase"},
  };
  for (const Case& c : cases) {
    const control::CertificateRef ref{files.write("c.pem", c.certificate),
                                      files.write("k.pem", c.key)};
    const std::string text = error_of(ref);
    EXPECT_THAT(text, HasSubstr(c.problem)) << c.name;
    EXPECT_THAT(text, HasSubstr(c.remedy)) << c.name;
    EXPECT_THAT(text, ::testing::AnyOf(HasSubstr(ref.certificate_file), HasSubstr(ref.key_file)))
        << c.name;
    EXPECT_EQ(text.find('\n'), std::string::npos) << c.name;
  }
}

TEST(OldFiles, AreUsedAllTheSame) {
  const TestFiles files;
  const std::string key = testing::pem_of(testing::test_key(KeyKind::kEc));
  for (const std::string& certificate :
       {certificate_pem({.valid_to_s = -60}), certificate_pem({.valid_from_s = 60})}) {
    CertificateStore store;
    const auto loaded = ServerFiles::load(
        {.certificates = {{files.write("c.pem", certificate), files.write("k.pem", key)}}}, store);
    ASSERT_TRUE(loaded) << loaded.error().text();
    EXPECT_EQ(loaded->certificates().size(), 1U);
  }
}

TEST(BadFiles, MayBeMissingOrNoFiles) {
  const TestFiles files;
  const std::string missing = files.path("missing.pem");
  EXPECT_THAT(error_of({missing, missing}),
              ::testing::AllOf(HasSubstr("certificate file " + missing), HasSubstr("No such file"),
                               HasSubstr("give the path")));
  const std::string good = files.write("good.pem", certificate_pem());
  EXPECT_THAT(error_of({good, missing}), HasSubstr("key file " + missing));
  EXPECT_THAT(error_of({"/", good}), HasSubstr("not a regular file"));
  const std::string huge = files.write("huge.pem", std::string(2 * 1024 * 1024, 'x'));
  EXPECT_THAT(error_of({huge, good}), HasSubstr("at most 1048576 bytes"));
}

TEST(ServerContext, NeedsACertificate) {
  const auto context = ServerContext::create({.certificates = {}});
  ASSERT_FALSE(context);
  EXPECT_THAT(context.error().text(), HasSubstr("name at least one certificate file"));
}

TEST(ServerContext, RefusesTheSameNamesAndKindOfKeyTwice) {
  const TestFiles files;
  const auto first = files.pair("a.pem", {.names = {"a.example"}});
  const auto second = files.pair("b.pem", {.names = {"a.example"}, .key_index = 1});
  const auto context = ServerContext::create({.certificates = {first, second}});
  ASSERT_FALSE(context);
  EXPECT_THAT(context.error().text(), HasSubstr("b.pem: an earlier certificate"));
}

TEST(ServerContext, DescribesItsCertificates) {
  const TestFiles files;
  const auto ref = files.pair("a.pem", {.common_name = "Shop",
                                        .names = {"B.example", "a.example", "a.example"},
                                        .kind = KeyKind::kRsa});
  CertificateStore store;
  const auto loaded = ServerFiles::load({.certificates = {ref}}, store);
  ASSERT_TRUE(loaded) << loaded.error().text();
  ASSERT_EQ(loaded->certificates().size(), 1U);
  const CertificateSummary& summary = *loaded->certificates().front();
  EXPECT_EQ(summary.file, ref.certificate_file);
  EXPECT_EQ(summary.subject, "CN=Shop");
  EXPECT_THAT(summary.names, ElementsAre("a.example", "b.example"));
  EXPECT_EQ(summary.key_type, "RSA");
  EXPECT_NEAR(static_cast<double>(summary.not_after),
              static_cast<double>(std::time(nullptr) + 3600), 60.0);
}

TEST(ServerContext, IgnoresNamesThatCannotBeCompared) {
  const TestFiles files;
  const auto ref = files.pair(
      "a.pem", {.names = {"good.example", "evil.example\0.trusted.example"s, "a b", "", "*",
                          "*.com", "w*.example", "a.*.example", "*.ok.example", ".dot", "\xff"}});
  CertificateStore store;
  const auto loaded = ServerFiles::load({.certificates = {ref}}, store);
  ASSERT_TRUE(loaded) << loaded.error().text();
  EXPECT_THAT(loaded->certificates().front()->names, ElementsAre("*.ok.example", "good.example"));
}

class SniChoice : public ::testing::Test {
 protected:
  void SetUp() override {
    auto created = ServerContext::create(
        {.certificates = {
             files_.pair("default.pem", {.common_name = "default", .names = {"d"}}),
             files_.pair("exact.pem", {.common_name = "exact", .names = {"www.a.example"}}),
             files_.pair("wild.pem", {.common_name = "wild", .names = {"*.a.example"}}),
             files_.pair("nul.pem", {.common_name = "nul", .names = {"n.example\0.x"s}})}});
    ASSERT_TRUE(created) << created.error().text();
    context_.emplace(std::move(*created));
  }
  std::string presented_to(const std::string& server_name) {
    auto session = Session::accept(*context_);
    MemoryClient client{{.server_name = server_name}};
    EXPECT_TRUE(client.shake_hands(*session)) << session->failure();
    EXPECT_EQ(session->info().server_name, server_name);
    return std::string{session->info().certificate};
  }
  TestFiles files_;
  std::optional<ServerContext> context_;
};

TEST_F(SniChoice, PrefersExactThenWildcardThenTheDefault) {
  EXPECT_EQ(presented_to("www.a.example"), "exact");
  EXPECT_EQ(presented_to("WWW.A.Example"), "exact");
  EXPECT_EQ(presented_to("other.a.example"), "wild");
  EXPECT_EQ(presented_to("two.labels.a.example"), "default");
  EXPECT_EQ(presented_to("a.example"), "default");
  EXPECT_EQ(presented_to("unknown.example"), "default");
  EXPECT_EQ(presented_to(""), "default");
}

TEST_F(SniChoice, ANameDoesNotEndAtANul) { EXPECT_EQ(presented_to("n.example"), "default"); }

TEST(KeyKinds, AreChosenByWhatTheClientCanVerify) {
  const TestFiles files;
  auto context = ServerContext::create(
      {.certificates = {
           files.pair("rsa.pem",
                      {.common_name = "rsa", .names = {"a.example"}, .kind = KeyKind::kRsa}),
           files.pair("ec.pem", {.common_name = "ec", .names = {"a.example"}})}});
  ASSERT_TRUE(context) << context.error().text();
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    const auto presented = [&](const std::string& algorithms) {
      auto session = Session::accept(*context);
      MemoryClient client{{.server_name = "a.example",
                           .min_version = version,
                           .max_version = version,
                           .signature_algorithms = algorithms}};
      EXPECT_TRUE(client.shake_hands(*session)) << session->failure();
      return std::string{session->info().certificate};
    };
    EXPECT_EQ(presented("ECDSA+SHA256"), "ec") << version;
    EXPECT_EQ(presented("RSA-PSS+SHA256:RSA+SHA256"), "rsa") << version;
  }
}

}  // namespace
}  // namespace weir::tls
