#pragma once

#include <memory>
#include <string>

#include "l4/base/result.h"
#include "l4/control/admin.h"
#include "l4/control/admin_channel.h"

/// TLS of the admin API's server, both sides with certificates.
namespace weir::control {

/// What is shared by all connections. Certificates are read once; a new one takes a restart, which
/// traffic does not notice.
class AdminTls {
 public:
  /// Refuses where one of the files is missing or unfit: without an authority for clients there is
  /// no server.
  static Result<AdminTls> open(const AdminTlsOptions& options);

  AdminTls(AdminTls&&) noexcept;
  AdminTls& operator=(AdminTls&&) noexcept;
  ~AdminTls();

  /// Shakes hands over a socket of the caller's that does not block. Refused there: clients without
  /// a certificate of the authority, and everything below TLS 1.2.
  Result<std::unique_ptr<AdminChannel>> accept(int fd, Instant deadline) const;

  /// Whether the list of AdminTlsOptions::allow lets the channel's client in: nothing if so, else
  /// who it says it is. `channel` is one of accept().
  [[nodiscard]] std::optional<std::string> refused_name(const AdminChannel& channel) const;

 private:
  struct Impl;
  explicit AdminTls(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace weir::control
