#include "l4/control/vip_health.h"

#include <algorithm>
#include <utility>

namespace weir::control {
namespace {

/// Those that a fail-open and a slow start are about.
bool takes_traffic(const Backend& backend) {
  return backend.state == BackendState::kActive && backend.weight > 0;
}

}  // namespace

Duration VipHealth::grace() const {
  return std::chrono::milliseconds{wish_.health ? wish_.health->grace_ms : kMaintenanceGraceMs};
}

void VipHealth::set_wish(const Vip& wish, const PresenceOf& presence, Instant now) {
  wish_ = wish;
  std::map<wire::IpAddress, Entry> before = std::exchange(entries_, {});
  for (const Backend& backend : wish_.backends) {
    const auto known = before.find(backend.address);
    const bool is_new = known == before.end();
    Entry entry = is_new ? Entry{} : std::move(known->second);
    settle_entry(
        entry, backend,
        is_new || (wish_.health && !entry.health) ? presence(backend.address) : Presence::kServing,
        is_new, now);
    entries_.emplace(backend.address, std::move(entry));
  }
}

void VipHealth::settle_entry(Entry& entry, const Backend& backend, Presence presence, bool is_new,
                             Instant now) const {
  if (!wish_.health) entry.health.reset();
  if (wish_.health && !entry.health)
    entry.health.emplace(presence == Presence::kServing ? HealthState::kUp : HealthState::kChecking,
                         now);
  if (backend.state != BackendState::kMaintenance) {
    entry.moves_at.reset();
  } else if (!entry.moves_at) {
    // Found absent at a daemon's start: its flows have been spread before.
    entry.moves_at = is_new && presence == Presence::kAbsent ? now : now + grace();
  }
}

std::optional<HealthState> VipHealth::on_result(const wire::IpAddress& address,
                                                const ProbeOutcome& outcome, Instant now) {
  const auto entry = entries_.find(address);
  if (entry == entries_.end() || !entry->second.health || !wish_.health) return std::nullopt;
  if (!entry->second.health->on_result(*wish_.health, outcome, now)) return std::nullopt;
  return entry->second.health->state();
}

VipHealth::Count VipHealth::count() const {
  Count count;
  for (const Backend& backend : wish_.backends) {
    if (!takes_traffic(backend)) continue;
    ++count.all;
    const BackendHealth* health = health_of(backend.address);
    if (health == nullptr || health->state() == HealthState::kChecking) continue;
    ++count.known;
    if (health->state() == HealthState::kUp) ++count.up;
  }
  return count;
}

bool VipHealth::fails_open() const {
  if (!wish_.health || wish_.health->fail_open_percent == 0) return false;
  const Count counted = count();
  return counted.up * 100 < counted.known * wish_.health->fail_open_percent;
}

std::optional<Backend> VipHealth::effective_backend(const Backend& backend, const Entry& entry,
                                                    bool is_open, Instant now) const {
  if (entry.moves_at && now >= *entry.moves_at) return std::nullopt;
  Backend effective = backend;
  if (!entry.health || (is_open && takes_traffic(backend))) return effective;
  if (!entry.health->keeps_flows(*wish_.health, now)) return std::nullopt;
  if (backend.state == BackendState::kActive && entry.health->state() != HealthState::kUp)
    effective.state = BackendState::kDraining;
  return effective;
}

Vip VipHealth::effective(Instant now) const {
  Vip vip = wish_;
  vip.backends.clear();
  const bool is_open = fails_open();
  for (const Backend& backend : wish_.backends) {
    std::optional<Backend> kept =
        effective_backend(backend, entries_.at(backend.address), is_open, now);
    if (kept) vip.backends.push_back(*std::move(kept));
  }
  // The table has the size that all its backends want: of another one flows could not stay.
  if (vip.slots() != wish_.slots()) vip.table_size = wish_.slots();
  if (wish_.health) scale_weights(vip, is_open, now);
  return vip;
}

/// A tenth of weight 1 needs the others at 10. Weights of the VIP stay as they are while none of
/// its backends starts slowly.
void VipHealth::scale_weights(Vip& vip, bool is_open, Instant now) const {
  const auto share_of = [&](const Backend& backend) {
    const BackendHealth& health = *entries_.at(backend.address).health;
    const std::uint32_t share = health.share(*wish_.health, now);
    return is_open || share == 0 ? BackendHealth::kFullShare : share;
  };
  const bool all_full = std::ranges::all_of(vip.backends, [&](const Backend& backend) {
    return !takes_traffic(backend) || share_of(backend) == BackendHealth::kFullShare;
  });
  if (all_full) return;
  std::uint32_t heaviest = 1;
  for (const Backend& backend : vip.backends)
    heaviest = std::max(heaviest, backend.weight);
  const std::uint32_t factor =
      std::clamp<std::uint32_t>(kWeightMax / heaviest, 1, BackendHealth::kFullShare);
  for (Backend& backend : vip.backends) {
    if (backend.weight == 0) continue;
    backend.weight =
        std::max(1U, backend.weight * factor * share_of(backend) / BackendHealth::kFullShare);
  }
}

Instant VipHealth::next_event(Instant now) const {
  Instant next = kNever;
  for (const auto& [address, entry] : entries_) {
    if (entry.health) next = std::min(next, entry.health->next_event(*wish_.health, now));
    if (entry.moves_at && *entry.moves_at > now) next = std::min(next, *entry.moves_at);
  }
  return next;
}

const BackendHealth* VipHealth::health_of(const wire::IpAddress& address) const {
  const auto entry = entries_.find(address);
  return entry != entries_.end() && entry->second.health ? &*entry->second.health : nullptr;
}

std::optional<Instant> VipHealth::moves_at(const wire::IpAddress& address) const {
  const auto entry = entries_.find(address);
  return entry != entries_.end() ? entry->second.moves_at : std::nullopt;
}

}  // namespace weir::control
