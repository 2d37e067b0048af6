#pragma once

#include <openssl/x509v3.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "l4/base/result.h"
#include "l7/tls/openssl.h"

/// Inside of l7/tls only: what files hold, read and checked, and what certificates say.
namespace weir::tls {

/// Bytes that are wiped when they go.
class SecretBytes {
 public:
  SecretBytes() = default;
  explicit SecretBytes(std::span<const unsigned char> bytes) : bytes_(bytes.begin(), bytes.end()) {}
  SecretBytes(SecretBytes&&) = default;
  SecretBytes& operator=(SecretBytes&&) = default;
  ~SecretBytes() { OPENSSL_cleanse(bytes_.data(), bytes_.size()); }
  [[nodiscard]] std::span<const unsigned char> bytes() const { return bytes_; }

 private:
  std::vector<unsigned char> bytes_;
};

/// One block of a PEM file without headers.
struct PemBlock {
  std::string name;  ///< "CERTIFICATE"
  SecretBytes der;
};
/// All of a file, in order; nothing where it cannot be read, or has a block with headers.
std::optional<std::vector<PemBlock>> read_pem_blocks(const std::string& path);

struct Chain {
  UniqueCertificate leaf;
  std::vector<UniqueCertificate> issuers;
};

/// All certificates of the file, the first being the server's own; other blocks are skipped.
Result<Chain> read_chain(const std::string& path);
Result<UniqueKey> read_key(const std::string& path);
/// The certificates of authorities in DER, at least one.
Result<std::vector<std::string>> read_authorities(const std::string& path);

/// An OCSP response that a handshake may carry.
struct OcspResponse {
  std::string der;
  std::int64_t next_update = 0;  ///< seconds since 1970; not stapled from then on
};
/// Checked against the chain: it is about its leaf, good, and signed by its issuer. One that is out
/// of date is no error, so that a restart does not fail for it: it is just not stapled.
Result<OcspResponse> read_ocsp_response(const std::string& path, const Chain& chain);

Result<void> check_dates(const X509* certificate, const std::string& path);
std::int64_t seconds_of(const ASN1_TIME* time);
std::string to_lower(std::string_view text);

using UniqueAlternatives = std::unique_ptr<GENERAL_NAMES, FreeWith<&GENERAL_NAMES_free>>;
/// The subject alternative names; none where there is no such extension.
UniqueAlternatives alternatives_of(const X509* certificate);
/// Sorted, without doubles, lower case; only those that can be compared with a host name.
std::vector<std::string> dns_names(const GENERAL_NAMES* alternatives);
/// Addresses as text, as wire::IpAddress writes them, sorted.
std::vector<std::string> address_names(const GENERAL_NAMES* alternatives);
std::string subject_text(const X509_NAME* subject);
std::string common_name(const X509_NAME* subject);
inline std::string subject_text(const X509* certificate) {
  return subject_text(X509_get_subject_name(certificate));
}
inline std::string common_name(const X509* certificate) {
  return common_name(X509_get_subject_name(certificate));
}
std::string der_of(const X509* certificate);
/// The certificate in a library; nothing when it cannot be read.
UniqueCertificate certificate_from(OSSL_LIB_CTX* library, std::string_view der);

}  // namespace weir::tls
