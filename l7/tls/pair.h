#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "l4/base/result.h"
#include "l4/control/model.h"
#include "l7/tls/openssl.h"
#include "l7/tls/pem.h"

/// Inside of l7/tls only: a certificate with its key, out of their files.
namespace weir::tls {

/// OpenSSL picks among certificates of different kinds by what the client can verify.
enum class KeyKind : std::uint8_t { kRsa, kRsaPss, kEc, kEd25519, kEd448 };
inline constexpr std::size_t kKeyKinds = 5;

/// What a pair of files holds, and what it says about itself.
struct Pair {
  std::string leaf;                  ///< DER
  std::vector<std::string> issuers;  ///< DER
  SecretBytes key;                   ///< DER, as d2i_AutoPrivateKey() takes it
  KeyKind kind{};
  std::string key_type;                ///< "RSA", "EC", "ED25519"
  std::vector<std::string> names;      ///< as dns_names()
  std::vector<std::string> addresses;  ///< as address_names()
  std::string subject;
  std::string common_name;
  std::int64_t not_after = 0;  ///< seconds since 1970
  OcspResponse ocsp;           ///< empty: none
};

/// Reads a pair and has OpenSSL try it out in `trial`, which knows what a server may not use. Says
/// what is wrong with it. Takes about 1 ms, nearly all of it in the decoders of OpenSSL 3.0, which
/// look for their providers again for every key.
Result<Pair> read_pair(const control::CertificateRef& ref, SSL_CTX* trial);

/// The same in 30 us, for what nearly everybody has: an RSA key of 2048 bits or more or an EC key
/// on P-256 or P-384, a certificate signed with SHA-2, no OCSP response. Nothing for all else and
/// for everything that is wrong: then read_pair() decides, and says why. What stands in the issuers
/// is not looked at.
std::optional<Pair> read_plain_pair(const control::CertificateRef& ref, std::int64_t now_s);

}  // namespace weir::tls
