#include "l7/tls/pair.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "l4/base/bytes.h"
#include "l7/tls/context.h"
#include "l7/tls/state.h"
#include "tests/l7/tls/certificates.h"

namespace weir::tls::testing {
namespace {

using TestKey = testing::KeyKind;

std::string text_of(const std::string& path) {
  std::ifstream file{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{file}, {}};
}

class PlainPair : public ::testing::Test {
 protected:
  [[nodiscard]] Result<Pair> thorough(const control::CertificateRef& ref) const {
    return read_pair(ref, trial_.get());
  }
  [[nodiscard]] static std::optional<Pair> plain(const control::CertificateRef& ref,
                                                 std::int64_t later_s = 0) {
    return read_plain_pair(ref, std::time(nullptr) + later_s);
  }
  /// Both readers say the same about it.
  void expect_agreement(const control::CertificateRef& ref, const std::string& what) const {
    const auto quick = plain(ref);
    const auto slow = thorough(ref);
    ASSERT_TRUE(quick) << what;
    ASSERT_TRUE(slow) << what << ": " << slow.error().text();
    EXPECT_EQ(quick->leaf, slow->leaf) << what;
    EXPECT_EQ(quick->issuers, slow->issuers) << what;
    EXPECT_EQ(quick->kind, slow->kind) << what;
    EXPECT_EQ(quick->key_type, slow->key_type) << what;
    EXPECT_EQ(quick->names, slow->names) << what;
    EXPECT_EQ(quick->addresses, slow->addresses) << what;
    EXPECT_EQ(quick->subject, slow->subject) << what;
    EXPECT_EQ(quick->common_name, slow->common_name) << what;
    EXPECT_EQ(quick->not_after, slow->not_after) << what;
    // In another form, the same key.
    const auto bytes = quick->key.bytes();
    const unsigned char* at = bytes.data();
    const UniqueKey key{d2i_AutoPrivateKey(nullptr, &at, static_cast<long>(bytes.size()))};
    const UniqueCertificate leaf = certificate_from(nullptr, quick->leaf);
    ASSERT_TRUE(key && leaf) << what;
    EXPECT_EQ(X509_check_private_key(leaf.get(), key.get()), 1) << what;
  }
  /// A pair whose key is written as OpenSSL did it before PKCS #8.
  control::CertificateRef traditional(const CertificateOptions& options) const {
    const UniqueCertificate certificate = make_certificate(options);
    const UniqueBio out{BIO_new(BIO_s_mem())};
    PEM_write_bio_PrivateKey_traditional(out.get(), test_key(options.kind, options.key_index),
                                         nullptr, nullptr, 0, nullptr, nullptr);
    const char* data = nullptr;
    const long size = BIO_get_mem_data(out.get(), &data);
    const std::string key{data, static_cast<std::size_t>(size)};
    const std::string file = files_.write("old.pem", pem_of(certificate.get()) + key);
    return {file, file};
  }

  TestFiles files_;
  UniqueContext trial_ = std::move(*make_base_context(nullptr, TLS_server_method()));
};

TEST_F(PlainPair, SaysOfCommonKindsWhatTheThoroughReaderSays) {
  const Authority authority = make_authority("ca", 5);
  CertificateOptions named{.common_name = "shop \xc3\xa9, \"x\"+y",
                           .names = {"b.example", "A.example", "*.c.example", "not usable"},
                           .issuer = &authority,
                           .address = "192.0.2.1"};
  expect_agreement(files_.pair("ec.pem", named), "EC");
  expect_agreement(traditional(named), "EC, SEC 1");
  named.kind = TestKey::kRsa;
  expect_agreement(files_.pair("rsa.pem", named), "RSA");
  expect_agreement(traditional(named), "RSA, PKCS #1");
  expect_agreement(files_.pair("bare.pem", {.common_name = {}}), "nothing but a key");
  // A name of more than 127 bytes, and a certificate in one file with its issuer and remarks.
  const std::string chain =
      text_of(files_.pair("c.pem", {.names = {std::string(200, 'a')}}).certificate_file);
  const std::string file =
      files_.write("chain.pem", "a remark\r\n" + chain + pem_of(authority.certificate.get()));
  expect_agreement({file, file}, "chain");
}

TEST_F(PlainPair, TakesTheKeyFromAFileOfItsOwn) {
  const std::string chain = files_.write("chain.pem", pem_of(make_certificate({}).get()));
  const std::string key = files_.write("key.pem", pem_of(test_key(TestKey::kEc)));
  expect_agreement({chain, key}, "two files");
}

TEST_F(PlainPair, LeavesWhatIsNotCommonToTheThoroughReader) {
  const auto declined = [&](const control::CertificateRef& ref, std::string_view what) {
    EXPECT_FALSE(plain(ref)) << what;
  };
  const control::CertificateRef good = files_.pair("good.pem", {.names = {"a.example"}});
  ASSERT_TRUE(plain(good));
  EXPECT_FALSE(plain(good, 3601)) << "expired";
  EXPECT_FALSE(plain(good, -3601)) << "not yet valid";
  declined({good.certificate_file, good.key_file, good.certificate_file}, "with OCSP");
  declined({files_.path("none.pem"), files_.path("none.pem")}, "no file");
  const std::string certificate = pem_of(make_certificate({}).get());
  const auto file = [&](std::string_view name, const std::string& text) {
    const std::string path = files_.write(name, text);
    return control::CertificateRef{path, path};
  };
  declined(file("no-key.pem", certificate), "no key");
  declined(file("no-leaf.pem", pem_of(test_key(TestKey::kEc))), "no certificate");
  declined(file("other.pem", certificate + pem_of(test_key(TestKey::kEc, 3))), "another key");
  declined(file("rsa.pem", certificate + pem_of(test_key(TestKey::kRsa))), "another kind of key");
  declined(file("two.pem",
                certificate + pem_of(test_key(TestKey::kEc)) + pem_of(test_key(TestKey::kEc))),
           "two keys");
  declined(file("encrypted.pem", certificate + encrypted_pem_of(test_key(TestKey::kEc))),
           "an encrypted key");
  const auto odd_pair = [&](EVP_PKEY* key, const EVP_MD* digest) {
    const UniqueCertificate odd = make_certificate({});
    X509_set_pubkey(odd.get(), key);
    X509_sign(odd.get(), key, digest);
    return file("odd.pem", pem_of(odd.get()) + pem_of(key));
  };
  const UniqueKey p521{EVP_EC_gen("P-521")};
  const UniqueKey weak{EVP_RSA_gen(1024U)};
  declined(odd_pair(p521.get(), EVP_sha256()), "another curve");
  declined(odd_pair(test_key(TestKey::kRsa), EVP_sha1()), "SHA-1");
  const control::CertificateRef refused = odd_pair(weak.get(), EVP_sha256());
  declined(refused, "a short key");
  EXPECT_FALSE(thorough(refused)) << "and so does the other";
}

std::string pem_block(std::string_view name, std::string_view der) {
  const UniqueBio out{BIO_new(BIO_s_mem())};
  PEM_write_bio(out.get(), std::string{name}.c_str(), "",
                reinterpret_cast<const unsigned char*>(der.data()),  // chars as bytes
                static_cast<long>(der.size()));
  const char* data = nullptr;
  const long size = BIO_get_mem_data(out.get(), &data);
  return {data, static_cast<std::size_t>(size)};
}

/// Every byte of a certificate and of its key, changed: what the quick reader takes, the thorough
/// one takes as well, and says the same.
TEST_F(PlainPair, NeverTakesDamageThatTheThoroughReaderSees) {
  const auto quick = plain(files_.pair("good.pem", {.names = {"a.example"}}));
  ASSERT_TRUE(quick);
  const std::string_view key = as_text(std::as_bytes(quick->key.bytes()));
  std::size_t taken = 0;
  const auto check = [&](const std::string& leaf, const std::string& secret, std::size_t at) {
    const std::string path = files_.write(
        "damaged.pem", pem_block("CERTIFICATE", leaf) + pem_block("PRIVATE KEY", secret));
    const auto damaged = plain({path, path});
    if (!damaged) return;
    ++taken;
    const auto slow = thorough({path, path});
    ASSERT_TRUE(slow) << at << ": " << slow.error().text();
    EXPECT_EQ(damaged->names, slow->names) << at;
    EXPECT_EQ(damaged->subject, slow->subject) << at;
    EXPECT_EQ(damaged->not_after, slow->not_after) << at;
  };
  constexpr std::array<int, 3> kChanges{0x01, 0x80, 0xff};
  constexpr std::size_t kSignature = 60;  // the end of its bytes, of which nobody thinks anything
  for (std::size_t i = 0; i + kSignature < quick->leaf.size(); ++i) {
    std::string leaf = quick->leaf;
    leaf[i] = static_cast<char>(leaf[i] ^ kChanges[i % kChanges.size()]);
    check(leaf, std::string{key}, i);
  }
  for (std::size_t i = 0; i < key.size(); ++i) {
    std::string secret{key};
    secret[i] = static_cast<char>(secret[i] ^ kChanges[i % kChanges.size()]);
    check(quick->leaf, secret, 10'000 + i);
  }
  for (std::size_t i = 0; i < quick->leaf.size(); ++i)
    check(quick->leaf.substr(0, i), std::string{key}, 20'000 + i);
  EXPECT_GT(taken, 20U);  // names, the secret itself: nobody looks at those
}

TEST_F(PlainPair, LeavesAPointThatIsOnNoCurveToTheThoroughReaderWhichRefusesIt) {
  const auto quick = plain(files_.pair("good.pem", {.names = {"a.example"}}));
  ASSERT_TRUE(quick);
  std::string leaf = quick->leaf;
  std::string key{as_text(std::as_bytes(quick->key.bytes()))};
  // The end of the point, which is that of the key.
  const std::size_t at = leaf.find(key.substr(key.size() - 64));
  ASSERT_NE(at, std::string::npos);
  leaf[at + 63] = static_cast<char>(leaf[at + 63] ^ 1);
  key.back() = static_cast<char>(key.back() ^ 1);
  const std::string path =
      files_.write("off.pem", pem_block("CERTIFICATE", leaf) + pem_block("PRIVATE KEY", key));
  EXPECT_FALSE(plain({path, path}));
  EXPECT_FALSE(thorough({path, path}));
}

class ServerFilesOfMany : public ::testing::Test {
 protected:
  static constexpr std::uint32_t kCount = 20;

  ServerFilesOfMany() {
    for (std::uint32_t i = 0; i < kCount; ++i) {
      const std::string file = write(i, {});
      options_.certificates.push_back({file, file});
    }
  }
  [[nodiscard]] std::string write(std::uint32_t number, CertificateOptions made) const {
    made.common_name = fmt::format("c{}.example", number);
    made.names = {made.common_name};
    made.issuer = &authority_;
    const UniqueCertificate leaf = make_certificate(made);
    return files_.write(
        made.common_name,
        pem_of(leaf.get()) + pem_of(authority_.certificate.get()) + pem_of(test_key(TestKey::kEc)));
  }
  [[nodiscard]] ServerFiles load() {
    auto loaded = ServerFiles::load(options_, store_, now_);
    if (!loaded) throw std::runtime_error{loaded.error().text()};
    return std::move(*loaded);
  }
  /// Of the certificates that both have, those that were not read again.
  [[nodiscard]] static std::size_t shared(const ServerFiles& one, const ServerFiles& other) {
    const auto& entries = other.content()->entries;
    return static_cast<std::size_t>(std::ranges::count_if(
        one.content()->entries,
        [&](const auto& entry) { return std::ranges::find(entries, entry) != entries.end(); }));
  }

  TestFiles files_;
  Authority authority_ = make_authority("ca", 5);
  ServerOptions options_;
  CertificateStore store_;
  std::time_t now_ = std::time(nullptr) + 60;  // the files are not of just now
};

TEST_F(ServerFilesOfMany, MeetEachIssuerOnceAndServeThemAll) {
  const ServerFiles loaded = load();
  ASSERT_EQ(loaded.content()->entries.size(), kCount);
  for (const auto& entry : loaded.content()->entries)
    ASSERT_EQ(entry->issuers.size(), 1U);
  EXPECT_EQ(loaded.certificates()[7]->names, std::vector<std::string>{"c7.example"});
}

TEST_F(ServerFilesOfMany, ReadAgainWhatHasChangedAlone) {
  const ServerFiles first = load();
  static_cast<void>(write(7, {.serial = 700}));
  const ServerFiles second = load();
  EXPECT_EQ(shared(second, first), kCount - 1);
  EXPECT_NE(second.certificates()[7]->chain, first.certificates()[7]->chain);
  EXPECT_EQ(second.certificates()[8]->chain, first.certificates()[8]->chain);
  EXPECT_EQ(shared(load(), second), kCount);
}

TEST_F(ServerFilesOfMany, AreSharedByWhateverListenerShowsThem) {
  const ServerFiles first = load();
  options_.certificates.erase(options_.certificates.begin(), options_.certificates.begin() + 5);
  EXPECT_EQ(shared(load(), first), kCount - 5);
}

TEST_F(ServerFilesOfMany, ReadAgainWhatMayHaveChangedWithoutASign) {
  struct stat status {};  // the moment in which the first one was written
  ASSERT_EQ(::stat(options_.certificates.front().certificate_file.c_str(), &status), 0);
  now_ = status.st_ctim.tv_sec;
  const ServerFiles first = load();
  EXPECT_EQ(shared(load(), first), 0U);
}

TEST_F(ServerFilesOfMany, AreForgottenWithTheLastWhoShowsThem) {
  { const ServerFiles first = load(); }
  EXPECT_EQ(store_.state().entries.size(), kCount);
  store_.forget_unused();
  EXPECT_EQ(store_.state().entries.size(), 0U);
  const ServerFiles second = load();
  store_.forget_unused();
  EXPECT_EQ(store_.state().entries.size(), kCount);
}

TEST_F(ServerFilesOfMany, SayWhatHasGoneSinceTheyWereRead) {
  const ServerFiles first = load();
  std::filesystem::remove(options_.certificates[3].certificate_file);
  const auto loaded = ServerFiles::load(options_, store_, now_);
  ASSERT_FALSE(loaded);
  EXPECT_NE(loaded.error().text().find("c3.example"), std::string::npos);
}

}  // namespace
}  // namespace weir::tls::testing
