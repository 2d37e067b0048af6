// By what the replies to mode nat are recognised: the backends' addresses, which have a bit in the
// filter, and those of full NAT, which have an entry too.

#include "l4/programmer.h"

namespace weir::l4 {

std::set<wire::IpAddress> Programmer::nat_backends() const {
  std::set<wire::IpAddress> addresses;
  for (const auto& [key, installed] : vips_) {
    if (installed.vip.mode != control::ForwardMode::kNat) continue;
    for (const InstalledBackend& entry : installed.backends)
      addresses.insert(entry.backend.address);
  }
  return addresses;
}

std::set<wire::IpAddress> Programmer::nat_sources() const {
  std::set<wire::IpAddress> addresses;
  for (const auto& [key, installed] : vips_) {
    if (!rewrites_source(installed.vip)) continue;
    for (const InstalledBackend& entry : installed.backends)
      if (entry.entry.egress_ifindex != 0) addresses.insert(address_of(entry.entry.outer_source));
  }
  return addresses;
}

Result<void> Programmer::raise_nat(const control::Vip& vip, const weir_backend& backend) {
  if (vip.mode != control::ForwardMode::kNat) return {};
  if (Result<void> watched = services_.watch(address_of(backend.address)); !watched) return watched;
  if (!rewrites_source(vip) || backend.egress_ifindex == 0) return {};
  const wire::IpAddress source = address_of(backend.outer_source);
  return nat_sources_.insert(source).second ? settle_address(source) : Result<void>{};
}

/// Flows from a source that goes still end well: their replies come from a backend that is watched.
Result<void> Programmer::settle_nat() {
  const std::set<wire::IpAddress> before = std::exchange(nat_sources_, nat_sources());
  for (const wire::IpAddress& source : before) {
    if (nat_sources_.contains(source)) continue;
    if (Result<void> settled = settle_address(source); !settled) return settled;
  }
  return services_.watch_only(nat_backends());
}

/// After a change of the addresses of full NAT.
Result<void> Programmer::rewrite_nat_backends() {
  for (auto& [key, installed] : vips_) {
    if (!rewrites_source(installed.vip)) continue;
    for (InstalledBackend& entry : installed.backends) {
      Result<void> written = write_backend(installed.vip, installed.id, entry);
      if (!written) return written;
    }
  }
  return settle_nat();
}

Result<void> Programmer::adopt_nat() {
  nat_sources_ = nat_sources();
  return services_.watch_only(nat_backends());
}

}  // namespace weir::l4
