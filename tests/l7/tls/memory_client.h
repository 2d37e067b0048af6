#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "l7/tls/openssl.h"
#include "l7/tls/session.h"

namespace weir::tls::testing {

struct ClientOptions {
  std::string server_name{};
  int min_version = TLS1_2_VERSION;
  int max_version = TLS1_3_VERSION;
  std::string protocols{};             ///< ALPN wire format
  std::string signature_algorithms{};  ///< as for SSL_CTX_set1_sigalgs_list; empty: the default
  std::string ciphers{};               ///< TLS 1.2
  SSL_SESSION* resume = nullptr;       ///< from an earlier client
  X509* certificate = nullptr;         ///< shown when asked for, with its key
  EVP_PKEY* key = nullptr;
  bool wants_status = false;  ///< asks for an OCSP response
};

/// OpenSSL's client over memory: the other end of a Session.
class MemoryClient {
 public:
  explicit MemoryClient(const ClientOptions& options = {});

  /// Carries bytes both ways, at most `piece` at a time, until neither side makes progress.
  /// Whether both have finished the handshake.
  bool shake_hands(Session& server, std::size_t piece = 1 << 20);
  /// One exchange of what both sides have for each other; false when that was nothing.
  bool carry(Session& server, std::size_t piece = 1 << 20);

  bool write(std::string_view text);
  /// What can be decrypted now.
  std::string read();
  void close() { SSL_shutdown(ssl_.get()); }
  /// Whether the server has said close_notify.
  [[nodiscard]] bool saw_close() const;

  [[nodiscard]] SSL* ssl() const { return ssl_.get(); }
  [[nodiscard]] const std::string& failure() const { return failure_; }
  /// The OCSP response that came; empty: none.
  [[nodiscard]] std::string status() const;
  /// With a ticket in it once the server has sent one.
  [[nodiscard]] SSL_SESSION* session() const { return SSL_get1_session(ssl_.get()); }

 private:
  void advance();

  UniqueContext context_;
  UniqueSsl ssl_;
  std::string failure_;
};

}  // namespace weir::tls::testing
