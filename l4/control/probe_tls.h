#pragma once

#include <memory>
#include <string>

#include "l4/base/result.h"
#include "l4/control/probe_exchange.h"

namespace weir::control {

struct TlsProbeOptions {
  std::string name;    ///< of the certificate and for SNI (RFC 6066, section 3); or an address
  bool verify = true;  ///< the certificate's chain and name
  std::string ca_file = {};  ///< empty: the system's
};

/// The certificates that probes trust, read once for each file and again when it changes. Belongs
/// to one thread; must outlive the exchanges that it makes.
class TlsProbes {
 public:
  TlsProbes();
  ~TlsProbes();

  /// `inner` within TLS 1.2 or 1.3. Fails where the file of trusted certificates cannot be read.
  Result<std::unique_ptr<ProbeExchange>> wrap(const TlsProbeOptions& options,
                                              std::unique_ptr<ProbeExchange> inner);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace weir::control
