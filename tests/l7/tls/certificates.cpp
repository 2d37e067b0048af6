#include "tests/l7/tls/certificates.h"

#include <openssl/ec.h>
#include <openssl/ocsp.h>
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

void add_names(X509* certificate, const std::vector<std::string>& names,
               const std::string& address) {
  GENERAL_NAMES* const alternatives = sk_GENERAL_NAME_new_null();
  for (const std::string& name : names) {
    ASN1_IA5STRING* const text = ASN1_IA5STRING_new();
    // With its length, so that a NUL goes in as a forger would put it.
    ASN1_STRING_set(text, name.data(), static_cast<int>(name.size()));
    GENERAL_NAME* const alternative = GENERAL_NAME_new();
    GENERAL_NAME_set0_value(alternative, GEN_DNS, text);
    sk_GENERAL_NAME_push(alternatives, alternative);
  }
  if (!address.empty()) {
    GENERAL_NAME* const alternative = GENERAL_NAME_new();
    GENERAL_NAME_set0_value(alternative, GEN_IPADD, a2i_IPADDRESS(address.c_str()));
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
  ASN1_INTEGER_set(X509_get_serialNumber(x509), options.serial);
  X509_gmtime_adj(X509_getm_notBefore(x509), options.valid_from_s);
  X509_gmtime_adj(X509_getm_notAfter(x509), options.valid_to_s);
  X509_NAME* const subject = X509_get_subject_name(x509);
  if (!options.common_name.empty())
    X509_NAME_add_entry_by_NID(
        subject, NID_commonName, MBSTRING_UTF8,
        reinterpret_cast<const unsigned char*>(options.common_name.data()),  // chars as bytes
        static_cast<int>(options.common_name.size()), -1, 0);
  const Authority* const issuer = options.issuer;
  X509_set_issuer_name(
      x509, issuer != nullptr ? X509_get_subject_name(issuer->certificate.get()) : subject);
  EVP_PKEY* const key = test_key(options.kind, options.key_index);
  X509_set_pubkey(x509, key);
  if (!options.names.empty() || !options.address.empty())
    add_names(x509, options.names, options.address);
  EVP_PKEY* const signer = issuer != nullptr ? test_key(KeyKind::kEc, issuer->key_index) : key;
  WEIR_ASSERT(X509_sign(x509, signer, EVP_sha256()) > 0);  // all parts were set above
  return certificate;
}

Authority make_authority(std::string_view name, int key_index) {
  UniqueCertificate certificate =
      make_certificate({.common_name = std::string{name}, .key_index = key_index});
  BASIC_CONSTRAINTS* const constraints = BASIC_CONSTRAINTS_new();
  constraints->ca = 0xff;
  X509_add1_ext_i2d(certificate.get(), NID_basic_constraints, constraints, 1, 0);
  BASIC_CONSTRAINTS_free(constraints);
  X509_sign(certificate.get(), test_key(KeyKind::kEc, key_index), EVP_sha256());
  return {std::move(certificate), key_index};
}

std::string make_ocsp_response(X509* certificate, const Authority& authority,
                               const OcspOptions& options) {
  X509* const issuer = authority.certificate.get();
  OCSP_BASICRESP* const basic = OCSP_BASICRESP_new();
  OCSP_CERTID* const id = OCSP_cert_to_id(nullptr, certificate, issuer);
  ASN1_TIME* const now = X509_gmtime_adj(nullptr, 0);
  ASN1_TIME* const next = X509_gmtime_adj(nullptr, options.next_update_s);
  OCSP_basic_add1_status(basic, id,
                         options.good ? V_OCSP_CERTSTATUS_GOOD : V_OCSP_CERTSTATUS_REVOKED,
                         OCSP_REVOKED_STATUS_UNSPECIFIED, now, now, next);
  const int key = options.signer_index < 0 ? authority.key_index : options.signer_index;
  // A signer's certificate must have its key, so that a stranger signs with one of his own.
  const Authority stranger = make_authority("stranger", key);
  X509* const signer = options.signer_index < 0 ? issuer : stranger.certificate.get();
  WEIR_ASSERT(OCSP_basic_sign(basic, signer, test_key(KeyKind::kEc, key), EVP_sha256(), nullptr,
                              0) == 1);  // all parts were set above
  OCSP_RESPONSE* const response = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic);
  const UniqueBio out{BIO_new(BIO_s_mem())};
  i2d_OCSP_RESPONSE_bio(out.get(), response);
  OCSP_RESPONSE_free(response);
  OCSP_BASICRESP_free(basic);
  OCSP_CERTID_free(id);
  ASN1_TIME_free(now);
  ASN1_TIME_free(next);
  return text_of(out.get());
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
