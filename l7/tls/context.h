#pragma once

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
  std::vector<std::string> protocols;  ///< ALPN, in order of preference: {"http/1.1"}
};

/// Certificates and settings of one TLS listener on one core: its own OpenSSL library context, so
/// that cores share no locks (OpenSSL 3.0 takes some in shared contexts). Chosen per connection by
/// SNI among the subject alternative names of the certificates, exact before wildcard, then the
/// default. Must outlive its sessions.
class ServerContext {
 public:
  /// Reads and checks every file: readable, a certificate chain, a key that fits it, not expired.
  [[nodiscard]] static Result<ServerContext> create(const ServerOptions& options);
  ServerContext(ServerContext&&) noexcept;
  ServerContext& operator=(ServerContext&&) noexcept;
  ~ServerContext();

  struct State;
  [[nodiscard]] State& state() { return *state_; }

 private:
  explicit ServerContext(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace weir::tls
