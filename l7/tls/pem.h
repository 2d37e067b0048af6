#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "l4/base/result.h"
#include "l7/tls/openssl.h"

/// Inside of l7/tls only: what files hold, read and checked, and what certificates say.
namespace weir::tls {

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
/// Sorted, without doubles, lower case; only those that can be compared with a host name.
std::vector<std::string> dns_names(const X509* certificate);
/// Addresses as text, as wire::IpAddress writes them, sorted.
std::vector<std::string> address_names(const X509* certificate);
std::string subject_text(const X509* certificate);
std::string common_name(const X509* certificate);
std::string der_of(const X509* certificate);
/// The certificate in a library; nothing when it cannot be read.
UniqueCertificate certificate_from(OSSL_LIB_CTX* library, std::string_view der);

}  // namespace weir::tls
