#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "l4/base/result.h"
#include "l4/control/model.h"

namespace weir::tls {

struct ServerOptions {
  std::vector<control::CertificateRef> certificates;  ///< the first is the default
  control::TlsVersion min_version{};
  std::vector<std::string> protocols{};  ///< ALPN, in order of preference: {"http/1.1"}
};

/// One certificate as a person knows it, for status output.
struct CertificateSummary {
  std::string file;
  std::string subject;             ///< "CN=shop.example,O=Shop"
  std::vector<std::string> names;  ///< DNS names it is chosen for, lower case
  std::string key_type;            ///< "RSA", "EC", "ED25519"
  std::int64_t not_after = 0;      ///< seconds since 1970; the last moment of its life
};

/// Certificates and settings of one TLS listener on one core: its own OpenSSL library context, so
/// that cores share no locks (OpenSSL 3.0 takes some in shared contexts). Chosen per connection by
/// SNI among the subject alternative names of the certificates, exact before wildcard, then the
/// default. Must outlive its sessions.
class ServerContext {
 public:
  /// Reads and checks every file: readable, a certificate chain, a key that fits it, not expired.
  /// An encrypted key is refused: nobody is there to type its passphrase.
  [[nodiscard]] static Result<ServerContext> create(const ServerOptions& options);
  ServerContext(ServerContext&&) noexcept;
  ServerContext& operator=(ServerContext&&) noexcept;
  ~ServerContext();

  /// The calling thread has used it and will not again. To be called before another thread destroys
  /// it: the library keeps clean-up work for each thread, which would meet freed memory when the
  /// thread ends (OPENSSL_thread_stop_ex(3)).
  void leave_thread();

  /// In the order of ServerOptions::certificates.
  [[nodiscard]] const std::vector<CertificateSummary>& certificates() const;

  struct State;
  [[nodiscard]] State& state() { return *state_; }

 private:
  explicit ServerContext(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace weir::tls
