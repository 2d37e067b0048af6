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
};
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
