// By what the replies to mode nat are recognised: the backends' addresses, which have a bit in the
// filter, and those of full NAT, which have an entry too.

#include "l4/programmer.h"

namespace weir::l4 {

Result<void> Programmer::raise_nat(const control::Vip& vip, const weir_backend& entry,
                                   InstalledBackend& backend) {
  if (vip.mode != control::ForwardMode::kNat) return {};
  if (!backend.is_watched) {
    if (Result<void> watched = services_.watch(backend.backend.address); !watched) return watched;
    backend.is_watched = true;
  }
  // A backend that is out of reach for now keeps its source: its flows may go on.
  if (rewrites_source(vip) && entry.egress_ifindex == 0) return {};
  std::optional<wire::IpAddress> source;
  if (rewrites_source(vip)) source = address_of(entry.outer_source);
  if (source == backend.nat_source) return {};
  if (Result<void> lowered = lower_old_source(backend); !lowered) return lowered;
  backend.old_nat_source = std::exchange(backend.nat_source, source);
  if (!source || ++nat_sources_[*source] != 1) return {};
  return settle_address(*source);
}

/// Flows from a source that goes still end well: their replies come from a backend that is watched.
Result<void> Programmer::lower_old_source(InstalledBackend& backend) {
  const std::optional<wire::IpAddress> old = std::exchange(backend.old_nat_source, std::nullopt);
  if (!old || --nat_sources_.at(*old) != 0) return {};
  nat_sources_.erase(*old);
  return settle_address(*old);
}

Result<void> Programmer::lower_nat(InstalledBackend& backend) {
  if (Result<void> done = lower_old_source(backend); !done) return done;
  backend.old_nat_source = std::exchange(backend.nat_source, std::nullopt);
  if (Result<void> done = lower_old_source(backend); !done) return done;
  if (!std::exchange(backend.is_watched, false)) return {};
  return services_.unwatch(backend.backend.address);
}

/// After a change of the addresses of full NAT.
Result<void> Programmer::rewrite_nat_backends() {
  for (auto& [key, installed] : vips_) {
    if (!rewrites_source(installed.vip)) continue;
    for (InstalledBackend& entry : installed.backends) {
      Result<void> written = write_backend(installed.vip, installed.id, entry);
      if (!written) return written;
      if (Result<void> lowered = lower_old_source(entry); !lowered) return lowered;
    }
  }
  return {};
}

Result<void> Programmer::adopt_nat() {
  for (auto& [key, installed] : vips_) {
    for (InstalledBackend& entry : installed.backends) {
      Result<void> raised = raise_nat(installed.vip, entry.entry, entry);
      if (!raised) return raised;
    }
  }
  return {};
}

}  // namespace weir::l4
