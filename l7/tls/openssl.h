#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "l7/tls/context.h"

/// Inside of l7/tls only: owners of OpenSSL's handles, and what a session needs of its context.
namespace weir::tls {

template <auto kFree>
struct FreeWith {
  template <typename T>
  void operator()(T* object) const noexcept {
    kFree(object);
  }
};
using UniqueLibrary = std::unique_ptr<OSSL_LIB_CTX, FreeWith<&OSSL_LIB_CTX_free>>;
using UniqueContext = std::unique_ptr<SSL_CTX, FreeWith<&SSL_CTX_free>>;
using UniqueSsl = std::unique_ptr<SSL, FreeWith<&SSL_free>>;
using UniqueBio = std::unique_ptr<BIO, FreeWith<&BIO_free_all>>;
using UniqueBioMethod = std::unique_ptr<BIO_METHOD, FreeWith<&BIO_meth_free>>;
using UniqueCertificate = std::unique_ptr<X509, FreeWith<&X509_free>>;
using UniqueKey = std::unique_ptr<EVP_PKEY, FreeWith<&EVP_PKEY_free>>;

/// The newest reason in OpenSSL's queue of this thread; empties the queue, so that a later call
/// does not report this failure as its own.
std::string take_openssl_reason();

/// Certificates for the same set of names that differ in the kind of key: OpenSSL picks among
/// those of one SSL_CTX by what the client can verify.
struct CertificateGroup {
  UniqueContext context;
  std::vector<std::string> names;  // sorted, lower case
};

struct LoadedCertificate {
  UniqueCertificate certificate;  // the one that SSL_get_certificate() returns
  std::string display_name;
};

struct ServerContext::State {
  UniqueLibrary library;  // first: everything below was made in it
  std::vector<CertificateGroup> groups;
  std::vector<LoadedCertificate> loaded;
  std::vector<CertificateSummary> summaries;
  std::map<std::string, std::size_t, std::less<>> exact;      // "a.example" to group
  std::map<std::string, std::size_t, std::less<>> wildcards;  // ".example" to group
  std::string protocols;  // ALPN wire format (RFC 7301, section 3.1), in our order

  /// The group for a name from a ClientHello: exact, then wildcard, then the default.
  [[nodiscard]] SSL_CTX* context_for(std::string_view server_name) const;
  [[nodiscard]] std::string_view display_name_of(const X509* certificate) const;
};

}  // namespace weir::tls
