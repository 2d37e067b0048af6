#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "l4/base/result.h"
#include "l4/control/admin.h"

/// How a daemon's command line says who may use its admin API. Both daemons have these options.
namespace weir::control {

struct AdminFlags {
  std::string socket;
  std::string socket_mode = {};  ///< octal; empty is 0600, and 0660 with a group
  std::string socket_group = {};
  std::string listen = {};
  std::string tls_cert = {};
  std::string tls_key = {};
  std::string tls_client_ca = {};
  std::vector<std::string> tls_allow = {};
  std::string metrics = {};
};

/// "9177", which is on the loopback address, "192.0.2.5:9177" or "[2001:db8::5]:9177".
Result<wire::Endpoint> parse_metrics_address(std::string_view text);

/// `app` is the option parser's, which this library does without.
template <typename App>
void add_admin_flags(App& app, AdminFlags& flags) {
  app.add_option("--socket", flags.socket, "Admin API, a unix socket")->capture_default_str();
  app.add_option("--socket-mode", flags.socket_mode,
                 "Rights of the socket's file, octal; who may write it may use the API (0600, with "
                 "--socket-group 0660)");
  app.add_option("--socket-group", flags.socket_group, "Group of the socket's file");
  app.add_option("--listen", flags.listen,
                 "Admin API over TCP too, as ADDRESS:PORT; needs the three files below")
      ->group("TCP with TLS on both sides");
  app.add_option("--tls-cert", flags.tls_cert, "Certificate of this daemon, PEM")
      ->group("TCP with TLS on both sides");
  app.add_option("--tls-key", flags.tls_key, "Its key, PEM")->group("TCP with TLS on both sides");
  app.add_option("--tls-client-ca", flags.tls_client_ca,
                 "Clients must have a certificate of this authority, PEM")
      ->group("TCP with TLS on both sides");
  app.add_option("--tls-allow", flags.tls_allow,
                 "Only clients of this common or alternative name; may be given several times")
      ->group("TCP with TLS on both sides");
  app.add_option("--metrics", flags.metrics,
                 "Serve GET /metrics for Prometheus, to whoever can connect; a port alone is on "
                 "127.0.0.1")
      ->type_name("[ADDR:]PORT");
}

/// Says in the log where else than on the socket the API is served, and to whom.
void log_doors(const AdminServerOptions& options);

/// What the flags mean, and the group joined. Call it before rights are given up.
Result<AdminServerOptions> take_admin_flags(const AdminFlags& flags);

}  // namespace weir::control
