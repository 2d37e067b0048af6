#include "tests/l7/tls/certificates.h"

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <utility>

#include "l4/base/assert.h"

namespace weir::tls::testing {

namespace {

/// What a writer of OpenSSL has put into a memory BIO.
std::string text_of(BIO* bio) {
  const char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return {data, static_cast<std::size_t>(size)};
}

void add_names(X509* certificate, const std::vector<std::string>& names) {
  GENERAL_NAMES* const alternatives = sk_GENERAL_NAME_new_null();
  for (const std::string& name : names) {
    ASN1_IA5STRING* const text = ASN1_IA5STRING_new();
    // With its length, so that a NUL goes in as a forger would put it.
    ASN1_STRING_set(text, name.data(), static_cast<int>(name.size()));
    GENERAL_NAME* const alternative = GENERAL_NAME_new();
    GENERAL_NAME_set0_value(alternative, GEN_DNS, text);
    sk_GENERAL_NAME_push(alternatives, alternative);
  }
  X509_add1_ext_i2d(certificate, NID_subject_alt_name, alternatives, 0, 0);
  GENERAL_NAMES_free(alternatives);
}

}  // namespace

EVP_PKEY* test_key(KeyKind kind, int index) {
  static std::map<std::pair<KeyKind, int>, UniqueKey> keys;
  UniqueKey& key = keys[{kind, index}];
  if (!key) key.reset(kind == KeyKind::kRsa ? EVP_RSA_gen(2048U) : EVP_EC_gen("P-256"));
  WEIR_ASSERT(key);  // generating needs nothing but memory
  return key.get();
}

UniqueCertificate make_certificate(const CertificateOptions& options) {
  UniqueCertificate certificate{X509_new()};
  X509* const x509 = certificate.get();
  X509_set_version(x509, X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(x509), 1);
  X509_gmtime_adj(X509_getm_notBefore(x509), options.valid_from_s);
  X509_gmtime_adj(X509_getm_notAfter(x509), options.valid_to_s);
  X509_NAME* const subject = X509_get_subject_name(x509);
  if (!options.common_name.empty())
    X509_NAME_add_entry_by_NID(
        subject, NID_commonName, MBSTRING_UTF8,
        reinterpret_cast<const unsigned char*>(options.common_name.data()),  // chars as bytes
        static_cast<int>(options.common_name.size()), -1, 0);
  X509_set_issuer_name(x509, subject);
  EVP_PKEY* const key = test_key(options.kind, options.key_index);
  X509_set_pubkey(x509, key);
  if (!options.names.empty()) add_names(x509, options.names);
  WEIR_ASSERT(X509_sign(x509, key, EVP_sha256()) > 0);  // all parts were set above
  return certificate;
}

std::string pem_of(X509* certificate) {
  const UniqueBio out{BIO_new(BIO_s_mem())};
  PEM_write_bio_X509(out.get(), certificate);
  return text_of(out.get());
}

std::string pem_of(EVP_PKEY* key) {
  const UniqueBio out{BIO_new(BIO_s_mem())};
  PEM_write_bio_PrivateKey(out.get(), key, nullptr, nullptr, 0, nullptr, nullptr);
  return text_of(out.get());
}

std::string encrypted_pem_of(EVP_PKEY* key) {
  const UniqueBio out{BIO_new(BIO_s_mem())};
  const unsigned char passphrase[] = {'s', 'e', 's', 'a', 'm', 'e'};
  PEM_write_bio_PrivateKey(out.get(), key, EVP_aes_128_cbc(), passphrase, sizeof passphrase,
                           nullptr, nullptr);
  return text_of(out.get());
}

TestFiles::TestFiles() {
  std::string pattern = (std::filesystem::temp_directory_path() / "weir-tls-XXXXXX").string();
  WEIR_ASSERT(mkdtemp(pattern.data()) != nullptr);  // without files there is no test
  directory_ = pattern;
}

TestFiles::~TestFiles() {
  std::error_code ignored;  // a file left behind fails no test
  std::filesystem::remove_all(directory_, ignored);
}

std::string TestFiles::write(std::string_view name, std::string_view content) const {
  std::ofstream{directory_ / name, std::ios::binary} << content;
  return path(name);
}

std::string TestFiles::path(std::string_view name) const { return (directory_ / name).string(); }

control::CertificateRef TestFiles::pair(std::string_view name,
                                        const CertificateOptions& options) const {
  const UniqueCertificate certificate = make_certificate(options);
  const std::string file =
      write(name, pem_of(certificate.get()) + pem_of(test_key(options.kind, options.key_index)));
  return {file, file};
}

}  // namespace weir::tls::testing
