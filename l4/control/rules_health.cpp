#include <algorithm>
#include <tuple>

#include "l4/control/rules.h"
#include "l4/control/units.h"

/// What must hold for health checks.
namespace weir::control {
namespace {

bool is_visible(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c > 0x20 && c < 0x7f; });
}

std::string time_text(std::uint32_t time_ms) { return in_units(time_ms, time_units()); }

MaybeObjection object_to_range(std::string_view what, std::uint32_t value, std::uint32_t minimum,
                               std::uint32_t maximum) {
  if (value >= minimum && value <= maximum) return std::nullopt;
  return Objection{fmt::format("of {} {}", what, value), fmt::format("{} to {}", minimum, maximum)};
}

/// A port that clients' packets arrive on at every backend, so that none need be written.
bool has_one_port(const Vip& vip) {
  if (vip.ports.is_exact()) return true;
  return vip.mode == ForwardMode::kNat && !vip.backends.empty() &&
         std::ranges::all_of(vip.backends, [](const Backend& b) { return b.port.has_value(); });
}

MaybeObjection object_to_times(const HealthCheck& check) {
  struct Time {
    std::string_view what;
    std::uint32_t value;
    std::uint32_t minimum;
    std::uint32_t maximum;
  };
  for (const Time& time :
       {Time{"interval", check.interval_ms, kHealthIntervalMinMs, kHealthIntervalMaxMs},
        Time{"timeout", check.timeout_ms, kHealthTimeoutMinMs, check.interval_ms},
        Time{"grace", check.grace_ms, 0, kHealthGraceMaxMs},
        Time{"slow start", check.slow_start_ms, 0, kSlowStartMaxMs}}) {
    if (time.value >= time.minimum && time.value <= time.maximum) continue;
    return Objection{fmt::format("of {} {}", time.what, time_text(time.value)),
                     fmt::format("{} to {}{}", time_text(time.minimum), time_text(time.maximum),
                                 time.what == "timeout" ? ", its interval" : "")};
  }
  return std::nullopt;
}

}  // namespace

MaybeObjection object_to_probe_path(std::string_view path) {
  if (path.starts_with('/') && path.size() <= kProbeTextMax && is_visible(path) &&
      path.find('#') == std::string_view::npos)
    return std::nullopt;
  return Objection{fmt::format("'{}'", path.substr(0, 80)),
                   fmt::format("a path such as /healthz or /ready?full=1, of at most {} visible "
                               "characters",
                               kProbeTextMax)};
}

MaybeObjection object_to_probe_host(std::string_view host) {
  if (wire::IpAddress::parse(host)) return std::nullopt;
  if (!host.starts_with('*') && !object_to_hostname(host)) return std::nullopt;
  return Objection{fmt::format("'{}'", host.substr(0, 80)),
                   "a DNS name such as shop.example, or an address"};
}

MaybeObjection object_to_grpc_service(std::string_view service) {
  if (service.size() <= kProbeTextMax && is_visible(service)) return std::nullopt;
  return Objection{
      fmt::format("'{}'", service.substr(0, 80)),
      fmt::format("a name such as shop.v1.Cart, of at most {} visible characters", kProbeTextMax)};
}

MaybeObjection object_to_health_port(const Vip& vip) {
  const HealthCheck& check = *vip.health;
  if (check.kind == ProbeKind::kIcmp || check.port || has_one_port(vip)) return std::nullopt;
  return Objection{fmt::format("without a port, and the VIP's is {}", ports_text(vip.ports)),
                   fmt::format("the port to ask, such as {}: {{port: 80}}", text_of(check.kind))};
}

MaybeObjection object_to_health(const Vip& vip) {
  if (!vip.health) return std::nullopt;
  const HealthCheck& check = *vip.health;
  if (vip.mode == ForwardMode::kL7)
    return Objection{"given, but mode l7 has no backends of its own",
                     "no health, or mode ipip, gue, l2 or nat"};
  if (check.kind == ProbeKind::kIcmp && check.port)
    return Objection{fmt::format("of port {}, but ICMP has no ports", check.port->value()),
                     "no port"};
  if (auto o = object_to_health_port(vip)) return o;
  if (auto o = object_to_times(check)) return o;
  for (const auto& [what, value, minimum, maximum] :
       {std::tuple{"rise", check.rise, 1U, kHealthCountMax},
        std::tuple{"fall", check.fall, 1U, kHealthCountMax},
        std::tuple{"flaps", check.flaps_max, 0U, kHealthFlapsMax},
        std::tuple{"fail-open percentage", check.fail_open_percent, 0U, 100U}}) {
    if (auto o = object_to_range(what, value, minimum, maximum)) return o;
  }
  if (auto o = object_to_probe_path(check.path)) return o;
  if (!check.host.empty()) {
    if (auto o = object_to_probe_host(check.host)) return o;
  }
  if (auto o = object_to_grpc_service(check.grpc_service)) return o;
  if (check.statuses.empty() || check.statuses.size() > kHealthStatusesMax)
    return Objection{fmt::format("of {} ranges of statuses", check.statuses.size()),
                     fmt::format("1 to {}", kHealthStatusesMax)};
  if (std::max(check.send.size(), check.expect.size()) > kProbeTextMax)
    return Objection{"of a datagram that is too long",
                     fmt::format("at most {} bytes", kProbeTextMax)};
  if (!check.verify && !check.ca_file.empty())
    return Objection{"of a CA file that nothing is verified with", "verify: true, or no ca"};
  return std::nullopt;
}

}  // namespace weir::control
