#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <memory>
#include <string_view>

#include "l4/base/result.h"

/// Inside of l7/tls only: owners of OpenSSL's handles.
namespace weir::tls {

template <auto kFree>
struct FreeWith {
  template <typename T>
  void operator()(T* object) const noexcept {
    kFree(object);
  }
};
struct FreeStack {
  void operator()(STACK_OF(X509) * stack) const noexcept { sk_X509_free(stack); }
};
struct FreeNames {
  void operator()(STACK_OF(X509_NAME) * names) const noexcept {
    sk_X509_NAME_pop_free(names, X509_NAME_free);
  }
};
using UniqueLibrary = std::unique_ptr<OSSL_LIB_CTX, FreeWith<&OSSL_LIB_CTX_free>>;
using UniqueContext = std::unique_ptr<SSL_CTX, FreeWith<&SSL_CTX_free>>;
using UniqueSsl = std::unique_ptr<SSL, FreeWith<&SSL_free>>;
using UniqueBio = std::unique_ptr<BIO, FreeWith<&BIO_free_all>>;
using UniqueBioMethod = std::unique_ptr<BIO_METHOD, FreeWith<&BIO_meth_free>>;
using UniqueCertificate = std::unique_ptr<X509, FreeWith<&X509_free>>;
using UniqueKey = std::unique_ptr<EVP_PKEY, FreeWith<&EVP_PKEY_free>>;
using UniqueStore = std::unique_ptr<X509_STORE, FreeWith<&X509_STORE_free>>;
using UniqueDigest = std::unique_ptr<EVP_MD, FreeWith<&EVP_MD_free>>;
using UniqueDigestState = std::unique_ptr<EVP_MD_CTX, FreeWith<&EVP_MD_CTX_free>>;
using UniqueCipher = std::unique_ptr<EVP_CIPHER, FreeWith<&EVP_CIPHER_free>>;
using UniqueStack = std::unique_ptr<STACK_OF(X509), FreeStack>;
using UniqueNames = std::unique_ptr<STACK_OF(X509_NAME), FreeNames>;

/// The newest reason in OpenSSL's queue of this thread, a text that lives as long as the process;
/// empties the queue, so that a later call does not report this failure as its own.
std::string_view take_openssl_reason();

/// For what only a lack of memory or a broken OpenSSL can cause.
Error openssl_error(std::string_view doing);

}  // namespace weir::tls
