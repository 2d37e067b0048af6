#pragma once

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "l4/control/model.h"
#include "l7/tls/openssl.h"

namespace weir::tls::testing {

enum class KeyKind { kRsa, kEc };

/// Keys take long to make, so each index of each kind is made once per process.
EVP_PKEY* test_key(KeyKind kind, int index = 0);

struct CertificateOptions {
  std::string common_name = "test";
  std::vector<std::string> names{};  ///< DNS alternatives, byte for byte
  KeyKind kind = KeyKind::kEc;
  int key_index = 0;
  long valid_from_s = -3600;  ///< relative to now
  long valid_to_s = 3600;
  long serial = 1;
  const struct Authority* issuer = nullptr;  ///< none: self-signed
  std::string address{};                     ///< an IP alternative
};
/// A certificate with which others are signed, and the index of its key (of kind kEc).
struct Authority {
  UniqueCertificate certificate;
  int key_index;
};
Authority make_authority(std::string_view name, int key_index);

/// An OCSP response in DER about a certificate of the authority.
struct OcspOptions {
  bool good = true;
  long next_update_s = 3600;  ///< relative to now
  int signer_index = -1;      ///< key of another than the authority
};
std::string make_ocsp_response(X509* certificate, const Authority& authority,
                               const OcspOptions& options = {});

UniqueCertificate make_certificate(const CertificateOptions& options);

std::string pem_of(X509* certificate);
std::string pem_of(EVP_PKEY* key);
std::string encrypted_pem_of(EVP_PKEY* key);

/// Files that vanish with their owner.
class TestFiles {
 public:
  TestFiles();
  TestFiles(const TestFiles&) = delete;
  TestFiles& operator=(const TestFiles&) = delete;
  ~TestFiles();

  /// Writes a file and returns its path.
  std::string write(std::string_view name, std::string_view content) const;
  [[nodiscard]] std::string path(std::string_view name) const;
  /// A certificate and its key in one file.
  control::CertificateRef pair(std::string_view name, const CertificateOptions& options) const;

 private:
  std::filesystem::path directory_;
};

}  // namespace weir::tls::testing
