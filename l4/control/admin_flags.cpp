#include "l4/control/admin_flags.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <limits>

#include "l4/base/log.h"
#include "l4/control/units.h"

namespace weir::control {
namespace {

constexpr unsigned kOwnerAlone = 0600;
constexpr unsigned kGroupToo = 0660;

Result<unsigned> mode_of(const AdminFlags& flags) {
  if (flags.socket_mode.empty()) return flags.socket_group.empty() ? kOwnerAlone : kGroupToo;
  const std::string& text = flags.socket_mode;
  unsigned mode = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), mode, 8);
  const bool is_number = parsed.ec == std::errc{} && parsed.ptr == text.data() + text.size();
  if (is_number && mode <= 0777 && (mode & kOwnerAlone) == kOwnerAlone) return mode;
  return Error{ErrorCode::kInvalid, fmt::format("--socket-mode {} is no mode of a socket", text),
               "write it in octal, with the owner's rights in it: 0600, 0660 or 0666"};
}

}  // namespace

Result<wire::Endpoint> parse_metrics_address(std::string_view text) {
  const Error wrong{ErrorCode::kInvalid, fmt::format("'{}' is no place to serve metrics on", text),
                    "give a port, which is then on 127.0.0.1, or ADDRESS:PORT"};
  if (const auto port = decimal(text)) {
    if (*port == 0 || *port > std::numeric_limits<std::uint16_t>::max()) return wrong;
    return wire::Endpoint{wire::IpAddress::v4(127, 0, 0, 1),
                          wire::Port{static_cast<std::uint16_t>(*port)}};
  }
  const Result<wire::Endpoint> endpoint = wire::Endpoint::parse(text);
  if (!endpoint || endpoint->port == wire::Port{0}) return wrong;
  return *endpoint;
}

void log_doors(const AdminServerOptions& options) {
  if (options.tls)
    log_line(LogLevel::kInfo, "the API is served to clients with a certificate",
             std::array{LogField{"address", options.tls->listen.text()}});
  if (options.metrics)
    log_line(LogLevel::kInfo, "metrics are served without authentication",
             std::array{LogField{"address", options.metrics->text()}});
}

Result<AdminServerOptions> take_admin_flags(const AdminFlags& flags) {
  const Result<unsigned> mode = mode_of(flags);
  if (!mode) return mode.error();
  AdminServerOptions options{flags.socket, *mode, flags.socket_group};
  const bool some = !flags.listen.empty() || !flags.tls_cert.empty() || !flags.tls_key.empty() ||
                    !flags.tls_client_ca.empty() || !flags.tls_allow.empty();
  const bool all = !flags.listen.empty() && !flags.tls_cert.empty() && !flags.tls_key.empty() &&
                   !flags.tls_client_ca.empty();
  if (some && !all) {
    return Error{ErrorCode::kInvalid, "TCP is served only where both sides show certificates",
                 "give --listen, --tls-cert, --tls-key and --tls-client-ca, all four or none"};
  }
  if (all) {
    const Result<wire::Endpoint> listen = wire::Endpoint::parse(flags.listen);
    if (!listen) {
      return Error{ErrorCode::kInvalid,
                   fmt::format("--listen {}: {}", flags.listen, listen.error().message()),
                   "write an address and a port, as in 192.0.2.1:9443 or [2001:db8::1]:9443"};
    }
    options.tls = {*listen, flags.tls_cert, flags.tls_key, flags.tls_client_ca, flags.tls_allow};
  }
  if (!flags.metrics.empty()) {
    const Result<wire::Endpoint> metrics = parse_metrics_address(flags.metrics);
    if (!metrics) return metrics.error();
    options.metrics = *metrics;
  }
  if (!flags.socket_group.empty()) {
    if (Result<void> joined = join_socket_group(flags.socket_group); !joined)
      return std::move(joined).error();
  }
  return options;
}

}  // namespace weir::control
