// A programmer that starts over what an earlier one left, be it whole or stopped between two
// writes.

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

#include "l4/programmer.h"

namespace weir::l4 {
namespace {

bool is_active(const control::Backend& backend) {
  return backend.state == control::BackendState::kActive;
}

/// What an adopted entry says about its next hop.
NextHop next_hop_of(const weir_backend& entry) {
  NextHop hop;
  std::memcpy(hop.mac.bytes.data(), entry.macs.next_hop, sizeof(entry.macs.next_hop));
  std::memcpy(hop.source_mac.bytes.data(), entry.macs.source, sizeof(entry.macs.source));
  hop.ifindex = entry.egress_ifindex;
  hop.mtu = entry.egress_mtu;
  hop.vlan = entry.vlan;
  hop.source = address_of(entry.outer_source);
  if (hop.ifindex != 0 && !hop.mac.is_zero()) hop.state = NextHopState::kResolved;
  return hop;
}

std::string server_id_of(const std::vector<QuicEntry>& entries, BackendId backend,
                         std::size_t bytes) {
  const auto found = std::ranges::find(entries, backend.value(), &QuicEntry::backend);
  if (found == entries.end()) return {};
  std::string id(bytes, '\0');
  std::memcpy(id.data(), found->server_id.server_id, bytes);
  return id;
}

}  // namespace

Result<Programmer> Programmer::adopt(Tables& tables, const ProgrammerSettings& settings,
                                     Resolve resolve) {
  Result<ServiceMaps> services = ServiceMaps::read(tables);
  if (!services) return std::move(services).error();
  Programmer programmer{tables, settings, std::move(resolve), *std::move(services)};
  for (const auto step :
       {&Programmer::adopt_vips, &Programmer::adopt_backends, &Programmer::adopt_members,
        &Programmer::adopt_own_maps, &Programmer::adopt_tables, &Programmer::adopt_node,
        &Programmer::adopt_nat, &Programmer::settle_all_addresses, &Programmer::erase_strays}) {
    if (Result<void> done = (programmer.*step)(); !done) return std::move(done).error();
  }
  if (Result<void> settled = programmer.services_.settle_filter(); !settled)
    return std::move(settled).error();
  return programmer;
}

Result<void> Programmer::adopt_vips() {
  Result<std::vector<control::VipKey>> keys = tables_->read_keys();
  if (!keys) return std::move(keys).error();
  Result<std::vector<weir_vip>> entries = tables_->read_vips();
  if (!entries) return std::move(entries).error();
  const auto adopt_one = [&](VipId id) {
    const std::uint32_t index = id.value();
    return index < keys->size()
               ? adopt_vip((*keys)[index], id, (*entries)[index])
               : Error{ErrorCode::kUnsupported,
                       fmt::format("a pinned service has the impossible VIP id {}", index)};
  };
  for (const auto& [address, services] : services_.present()) {
    for (const auto& [key, id] : services.ports) {
      if (Result<void> adopted = adopt_one(id); !adopted) return adopted;
    }
    for (const auto& [key, id] : services.ranges) {
      if (Result<void> adopted = adopt_one(id); !adopted) return adopted;
    }
  }
  return {};
}

/// A range has several entries. If the last daemon was amid giving them another id, the first one
/// is the newest, and the others follow it when the address is settled.
Result<void> Programmer::adopt_vip(const control::VipKey& key, VipId id, const weir_vip& entry) {
  if (vips_.contains(key)) return {};
  std::optional<control::Vip> vip = vip_of(key, entry, settings_.ticks);
  if (!vip)
    return Error{ErrorCode::kUnsupported,
                 fmt::format("VIP {} is pinned with the unknown mode {}", control::vip_text(key),
                             entry.mode),
                 "take the old datapath down with 'weir unload', then load again"};
  InstalledVip installed;
  installed.vip = *std::move(vip);
  installed.id = id;
  installed.entry = entry;
  installed.first_member = entry.first_member;
  installed.member_room = entry.member_room;
  // Only what its entry says it has: the rest was about to come or to go, and is a stray.
  installed.has_sources = has_limits_per_source(installed.vip.limits);
  if ((entry.flags & WEIR_VIP_SOURCE_LIST) != 0) {
    Result<std::vector<ListEntry>> list = tables_->read_list(installed.id);
    if (!list) return std::move(list).error();
    std::ranges::sort(*list, BytesLess{});
    installed.vip.sources = source_rules(*list);
    installed.list = *std::move(list);
  }
  last_vip_id_ = std::max(last_vip_id_, installed.id);
  vip_ids_[id.value()] = true;
  vips_[key] = std::move(installed);
  return {};
}

Result<void> Programmer::adopt_backends() {
  Result<std::vector<weir_backend>> backends = tables_->read_backends();
  if (!backends) return std::move(backends).error();
  std::map<std::uint32_t, InstalledVip*> by_id;
  for (auto& [key, installed] : vips_)
    by_id[installed.id.value()] = &installed;
  for (std::uint32_t index = 1; index < backends->size(); ++index) {
    const weir_backend& entry = (*backends)[index];
    const BackendId id{index};
    const wire::IpAddress address = address_of(entry.address);
    // A freed entry keeps its address, which tells it from one that was never given out.
    if (address == wire::IpAddress{}) {
      fresh_ids_.push_back(id);
      continue;
    }
    InstalledBackend installed{.backend = {.name = {}, .address = address, .port = {}},
                               .id = id,
                               .next_hop = next_hop_of(entry),
                               .entry = entry};
    if ((entry.flags & WEIR_BACKEND_DRAINING) != 0)
      installed.backend.state = control::BackendState::kDraining;
    if (entry.port_be != 0) installed.backend.port = wire::Port{ntohs(entry.port_be)};
    const auto owner = by_id.find(entry.vip_id);
    if ((entry.flags & WEIR_BACKEND_IN_USE) == 0) {
      freed_ids_.push_back(id);
    } else if (owner == by_id.end()) {
      // Its VIP was being added or removed when the last daemon ended. An entry may still lead to
      // it, until that is settled.
      strays_.push_back(std::move(installed));
    } else {
      owner->second->backends.push_back(std::move(installed));
    }
  }
  return {};
}

/// A backend without a number was about to come or to go when the last daemon ended.
Result<void> Programmer::adopt_members() {
  Result<std::vector<BackendId>> members = tables_->read_members();
  if (!members) return std::move(members).error();
  members_ = *std::move(members);
  for (auto& [key, installed] : vips_) {
    const std::uint32_t end = installed.first_member + installed.member_room + 1;
    if (end > members_.size() ||
        !member_ranges_.take_at(installed.first_member, installed.member_room))
      return Error{ErrorCode::kUnsupported,
                   fmt::format("VIP {} is pinned with an impossible range of members",
                               control::vip_text(key)),
                   "take the old datapath down with 'weir unload', then load again"};
    std::map<BackendId, InstalledBackend*> by_id;
    for (InstalledBackend& entry : installed.backends)
      by_id[entry.id] = &entry;
    for (std::uint16_t number = 1; number <= installed.member_room; ++number) {
      const auto found = by_id.find(members_[installed.first_member + number]);
      if (found != by_id.end()) found->second->number = MemberNumber{number};
    }
  }
  return {};
}

Result<void> Programmer::adopt_own_maps() {
  for (auto& [key, installed] : vips_) {
    const std::size_t id_bytes = installed.vip.quic.server_id_bytes;
    if (id_bytes == 0) continue;
    Result<std::vector<QuicEntry>> quic = tables_->read_quic(installed.id);
    if (!quic) return std::move(quic).error();
    for (InstalledBackend& entry : installed.backends)
      entry.backend.server_id = server_id_of(*quic, entry.id, id_bytes);
    std::ranges::sort(*quic, BytesLess{});
    installed.quic = *std::move(quic);
  }
  return {};
}

Result<void> Programmer::adopt_tables() {
  for (auto& [key, installed] : vips_) {
    if (installed.vip.mode == control::ForwardMode::kL7) continue;
    Result<Table> table = tables_->read_table(installed.id);
    if (!table) return std::move(table).error();
    if (!count_slots(installed, table->current))
      return Error{ErrorCode::kUnsupported,
                   fmt::format("the pinned table of VIP {} has numbers of no backend",
                               control::vip_text(key)),
                   "take the old datapath down with 'weir unload', then load again"};
    installed.vip.table_size = static_cast<std::uint32_t>(table->current.size());
    for (InstalledBackend& entry : installed.backends) {
      entry.backend.weight = entry.slots > 0 || !is_active(entry.backend) ? 1 : 0;
      installed.vip.backends.push_back(entry.backend);
    }
    installed.table_digest = maglev_digest(table->current, members_of(installed));
  }
  return {};
}

Result<void> Programmer::adopt_node() {
  bool has_vips = false;
  bool answers_echo = false;
  for (const auto& [address, entries] : services_.present()) {
    has_vips = has_vips || (entries.flags & WEIR_ADDRESS_VIP) != 0;
    answers_echo = answers_echo || (entries.flags & WEIR_ADDRESS_ECHO) != 0;
    if ((entries.flags & WEIR_ADDRESS_L7_OWN) != 0) node_.l7_addresses.push_back(address);
  }
  node_.answers_echo = answers_echo || !has_vips;
  // Amid setting or clearing the flag some VIPs have it: the list is there in both cases.
  const bool has_list = std::ranges::any_of(
      vips_, [](const auto& item) { return (item.second.entry.flags & WEIR_VIP_BLOCK_LIST) != 0; });
  if (!has_list) return {};
  Result<std::vector<ListEntry>> list = tables_->read_list(kNode);
  if (!list) return std::move(list).error();
  std::ranges::sort(*list, BytesLess{});
  node_.block_list = source_rules(*list).deny;
  block_list_ = *std::move(list);
  return {};
}

/// Maps and backends that no entry speaks of.
Result<void> Programmer::erase_strays() {
  std::map<VipId, const InstalledVip*> by_id;
  for (const auto& [key, installed] : vips_)
    by_id[installed.id] = &installed;
  const auto is_used = [&](PerVip kind, VipId id) {
    if (id == kNode) return kind == PerVip::kList && !block_list_.empty();
    const auto found = by_id.find(id);
    if (found == by_id.end()) return false;
    switch (kind) {
      case PerVip::kTable:
        return found->second->vip.mode != control::ForwardMode::kL7;
      case PerVip::kList:
        return !found->second->list.empty();
      case PerVip::kSources:
        return found->second->has_sources;
      case PerVip::kQuic:
        return !found->second->quic.empty();
    }
    return false;
  };
  for (const PerVip kind : kPerVip) {
    Result<std::vector<VipId>> ids = tables_->list(kind);
    if (!ids) return std::move(ids).error();
    for (const VipId id : *ids) {
      if (is_used(kind, id)) continue;
      if (Result<void> staged = tables_->stage_erasure(kind, id); !staged) return staged;
    }
  }
  if (Result<void> published = tables_->publish(); !published) return published;
  for (InstalledBackend& stray : strays_) {
    if (Result<void> freed = free_backend(stray); !freed) return freed;
  }
  strays_.clear();
  return {};
}

}  // namespace weir::l4
