#include "l4/programmer.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "l4/base/log.h"

namespace weir::l4 {
namespace {

std::uint8_t ip_protocol(control::Protocol protocol) {
  switch (protocol) {
    case control::Protocol::kTcp:
      return IPPROTO_TCP;
    case control::Protocol::kUdp:
      return IPPROTO_UDP;
  }
  return 0;
}

std::uint8_t abi_mode(control::ForwardMode mode) {
  switch (mode) {
    case control::ForwardMode::kIpip:
      return WEIR_MODE_IPIP;
    case control::ForwardMode::kL2:
      return WEIR_MODE_L2;
    case control::ForwardMode::kL7:
      return WEIR_MODE_L7;
    case control::ForwardMode::kGue:
    case control::ForwardMode::kNat:
      break;
  }
  return WEIR_MODE_NONE;
}

std::optional<control::ForwardMode> mode_of(std::uint8_t mode) {
  switch (mode) {
    case WEIR_MODE_IPIP:
      return control::ForwardMode::kIpip;
    case WEIR_MODE_L2:
      return control::ForwardMode::kL2;
    case WEIR_MODE_L7:
      return control::ForwardMode::kL7;
    default:
      return std::nullopt;
  }
}

/// An address-only entry says that the address is a VIP's; it has neither port nor protocol.
bool is_address_entry(const weir_vip_key& key) { return key.port_be == 0 && key.protocol == 0; }

control::VipKey key_of(const weir_vip_key& key) {
  return {
      .address = address_of(key.address),
      .ports = control::PortRange::only(wire::Port{ntohs(key.port_be)}),
      .protocol = key.protocol == IPPROTO_UDP ? control::Protocol::kUdp : control::Protocol::kTcp};
}

/// What an adopted entry says about its next hop.
NextHop next_hop_of(const weir_backend& entry) {
  NextHop hop;
  std::memcpy(hop.mac.bytes.data(), entry.next_hop_mac, sizeof(entry.next_hop_mac));
  std::memcpy(hop.source_mac.bytes.data(), entry.source_mac, sizeof(entry.source_mac));
  hop.ifindex = entry.egress_ifindex;
  hop.mtu = entry.egress_mtu;
  hop.source = address_of(entry.outer_source);
  if (hop.ifindex != 0 && !hop.mac.is_zero()) hop.state = NextHopState::kResolved;
  return hop;
}

bool is_l7(const control::Vip& vip) { return vip.mode == control::ForwardMode::kL7; }

std::vector<MaglevMember> members_of(const InstalledVip& installed) {
  std::vector<MaglevMember> members;
  for (const InstalledBackend& entry : installed.backends) {
    members.push_back({.address = entry.backend.address,
                       .port = entry.backend.port.value_or(installed.vip.ports.first),
                       .weight = entry.backend.draining ? 0 : entry.backend.weight,
                       .id = entry.id});
  }
  return members;
}

void count_slots(InstalledVip& installed, std::span<const BackendId> table) {
  std::map<BackendId, std::uint32_t> slots;
  for (const BackendId id : table)
    ++slots[id];
  for (InstalledBackend& entry : installed.backends)
    entry.slots = slots[entry.id];
}

}  // namespace

weir_address abi_address(const wire::IpAddress& address) {
  weir_address out{};
  std::memcpy(out.bytes, address.bytes.data(), sizeof(out.bytes));
  return out;
}

wire::IpAddress address_of(const weir_address& address) {
  wire::IpAddress out;
  std::memcpy(out.bytes.data(), address.bytes, sizeof(address.bytes));
  return out;
}

weir_vip_key abi_key(const control::VipKey& key) {
  weir_vip_key out{};
  out.address = abi_address(key.address);
  out.port_be = htons(key.port().value());
  out.protocol = ip_protocol(key.protocol);
  return out;
}

Result<Programmer> Programmer::adopt(Tables& tables, const SipKey& seed, Resolve resolve) {
  Programmer programmer{tables, seed, std::move(resolve)};
  if (Result<void> step = programmer.adopt_vips(); !step) return std::move(step).error();
  if (Result<void> step = programmer.adopt_backends(); !step) return std::move(step).error();
  if (Result<void> step = programmer.adopt_tables(); !step) return std::move(step).error();
  if (Result<void> step = programmer.repair_address_entries(); !step)
    return std::move(step).error();
  return programmer;
}

Result<void> Programmer::adopt_vips() {
  Result<std::vector<Tables::VipEntry>> entries = tables_->read_vips();
  if (!entries) return std::move(entries).error();
  for (const auto& [key, value] : *entries) {
    if (is_address_entry(key)) continue;
    const auto mode = mode_of(value.mode);
    if (!mode)
      return Error{ErrorCode::kUnsupported,
                   fmt::format("VIP {} is pinned with the unknown mode {}",
                               control::vip_text(key_of(key)), value.mode),
                   "take the old datapath down with 'weir unload', then load again"};
    InstalledVip installed;
    installed.vip.address = address_of(key.address);
    installed.vip.ports = key_of(key).ports;
    installed.vip.protocol = key_of(key).protocol;
    installed.vip.mode = *mode;
    if (*mode != control::ForwardMode::kL7) installed.vip.table_size = value.table_size;
    installed.id = VipId{value.id};
    last_vip_id_ = std::max(last_vip_id_, installed.id);
    vips_[installed.vip.key()] = std::move(installed);
  }
  return {};
}

Result<void> Programmer::adopt_backends() {
  Result<std::vector<weir_backend>> backends = tables_->read_backends();
  if (!backends) return std::move(backends).error();
  Result<std::vector<VipId>> owners = tables_->read_owners();
  if (!owners) return std::move(owners).error();
  std::map<VipId, InstalledVip*> by_id;
  for (auto& [key, installed] : vips_)
    by_id[installed.id] = &installed;
  for (std::uint32_t index = 1; index < backends->size(); ++index) {
    const weir_backend& entry = (*backends)[index];
    const BackendId id{index};
    const wire::IpAddress address = address_of(entry.address);
    // A freed entry keeps its address, which tells it from one that was never given out.
    if (address == wire::IpAddress{}) {
      fresh_ids_.push_back(id);
      continue;
    }
    const auto owner = by_id.find((*owners)[index]);
    InstalledBackend installed{.backend = {.name = {}, .address = address, .port = {}},
                               .id = id,
                               .slots = 0,
                               .next_hop = next_hop_of(entry)};
    if ((entry.flags & WEIR_BACKEND_IN_USE) == 0) {
      freed_ids_.push_back(id);
    } else if (owner == by_id.end()) {
      // Its VIP was being added or removed when the last daemon ended.
      if (Result<void> freed = free_backend(installed); !freed) return freed;
    } else {
      owner->second->backends.push_back(std::move(installed));
    }
  }
  return {};
}

Result<void> Programmer::adopt_tables() {
  for (auto& [key, installed] : vips_) {
    if (is_l7(installed.vip)) continue;
    Result<std::vector<BackendId>> table =
        tables_->read_table(installed.id, installed.vip.table_size);
    if (!table) return std::move(table).error();
    count_slots(installed, *table);
    for (InstalledBackend& entry : installed.backends) {
      entry.backend.weight = entry.slots > 0 ? 1 : 0;
      installed.vip.backends.push_back(entry.backend);
    }
    installed.table_digest = maglev_digest(*table, members_of(installed));
  }
  Result<std::vector<VipId>> existing = tables_->list_tables();
  if (!existing) return std::move(existing).error();
  for (const VipId id : *existing) {
    if (vip_id_in_use(id)) continue;
    if (Result<void> erased = tables_->erase_table(id); !erased) return erased;
  }
  return {};
}

Result<void> Programmer::repair_address_entries() {
  Result<std::vector<Tables::VipEntry>> entries = tables_->read_vips();
  if (!entries) return std::move(entries).error();
  std::set<wire::IpAddress> addresses;
  for (const auto& [key, value] : *entries)
    addresses.insert(address_of(key.address));
  for (const wire::IpAddress& address : addresses) {
    if (Result<void> settled = settle_address_entry(address); !settled) return settled;
  }
  return {};
}

std::vector<control::Vip> Programmer::installed() const {
  std::vector<control::Vip> vips;
  for (const auto& [key, installed] : vips_)
    vips.push_back(installed.vip);
  return vips;
}

Result<void> Programmer::check_capacity(const std::vector<control::Vip>& want) {
  std::size_t backends = 0;
  for (const control::Vip& vip : want)
    backends += vip.backends.size();
  // One less than the maps: 0 is no id. Half of what is left, because a backend that is replaced
  // and its successor are in use at the same time.
  constexpr std::size_t kBackendsMax = (WEIR_BACKENDS_MAX - 1) / 2;
  constexpr std::size_t kVipsMax = WEIR_VIPS_MAX - 2;
  if (want.size() > kVipsMax)
    return Error{
        ErrorCode::kInvalid,
        fmt::format("{} VIPs are more than the {} that one node can hold", want.size(), kVipsMax)};
  if (backends > kBackendsMax)
    return Error{ErrorCode::kInvalid,
                 fmt::format("{} backends of all VIPs are more than the {} that one node can hold",
                             backends, kBackendsMax)};
  return {};
}

Result<void> Programmer::apply(std::span<const control::Operation> operations) {
  for (const control::Operation& operation : operations) {
    Result<void> done;
    switch (operation.kind) {
      case control::OperationKind::kRemoveVip:
        done = remove(operation.before.key());
        break;
      case control::OperationKind::kAddVip:
        done = add(operation.after);
        break;
      case control::OperationKind::kReplaceVip:
        done = replace(operation.after);
        break;
      case control::OperationKind::kUpdateVip:
        done = update(operation.after);
        break;
    }
    if (!done) return std::move(done).error().while_doing(operation.text());
  }
  return {};
}

Result<void> Programmer::add(const control::Vip& vip) {
  WEIR_ASSERT(!vips_.contains(vip.key()));  // diff_vips() adds only what is not installed
  Result<InstalledVip> built = build(vip);
  if (!built) return std::move(built).error();
  if (Result<void> published = publish_vip_entry(*built); !published) return published;
  vips_[vip.key()] = *std::move(built);
  return settle_address_entry(vip.address);
}

Result<void> Programmer::update(const control::Vip& vip) {
  InstalledVip& installed = vips_.at(vip.key());
  std::vector<InstalledBackend> old = std::exchange(installed.backends, {});
  for (const control::Backend& backend : vip.backends) {
    const auto same = std::ranges::find(
        old, backend.address, [](const InstalledBackend& entry) { return entry.backend.address; });
    if (same != old.end()) {
      same->backend = backend;
      installed.backends.push_back(std::move(*same));
      old.erase(same);
      continue;
    }
    Result<InstalledBackend> added = install(vip, installed.id, backend);
    if (!added) return std::move(added).error();
    installed.backends.push_back(*std::move(added));
  }
  installed.vip = vip;
  if (Result<void> published = publish_table(installed); !published) return published;
  for (const InstalledBackend& gone : old) {
    if (Result<void> freed = free_backend(gone); !freed) return freed;
  }
  return {};
}

Result<void> Programmer::replace(const control::Vip& vip) {
  // A new id with a table of its own, then one write of the VIP entry: a packet meets the old VIP
  // or the new one. Flows of the old one do not carry over, because they name its id.
  Result<InstalledVip> built = build(vip);
  if (!built) return std::move(built).error();
  if (Result<void> published = publish_vip_entry(*built); !published) return published;
  const InstalledVip old = std::exchange(vips_.at(vip.key()), *std::move(built));
  if (Result<void> settled = settle_address_entry(vip.address); !settled) return settled;
  return tear_down(old);
}

Result<void> Programmer::remove(const control::VipKey& key) {
  const auto node = vips_.extract(key);
  if (node.empty())
    return Error{ErrorCode::kNotFound,
                 fmt::format("VIP {} is not installed", control::vip_text(key))};
  if (Result<void> settled = settle_address_entry(key.address); !settled) return settled;
  if (Result<void> erased = tables_->erase_vip(abi_key(key)); !erased) return erased;
  return tear_down(node.mapped());
}

Result<InstalledVip> Programmer::build(const control::Vip& vip) {
  Result<VipId> id = allocate_vip();
  if (!id) return std::move(id).error();
  InstalledVip installed;
  installed.vip = vip;
  installed.id = *id;
  if (Result<void> cleared = tables_->clear_vip_counters(*id); !cleared)
    return std::move(cleared).error();
  for (const control::Backend& backend : vip.backends) {
    Result<InstalledBackend> added = install(vip, *id, backend);
    if (!added) return std::move(added).error();
    installed.backends.push_back(*std::move(added));
  }
  if (Result<void> published = publish_table(installed); !published)
    return std::move(published).error();
  return installed;
}

Result<void> Programmer::tear_down(const InstalledVip& installed) {
  if (Result<void> erased = tables_->erase_table(installed.id); !erased) return erased;
  for (const InstalledBackend& entry : installed.backends) {
    if (Result<void> freed = free_backend(entry); !freed) return freed;
  }
  return {};
}

Result<void> Programmer::publish_vip_entry(const InstalledVip& installed) {
  weir_vip entry{};
  entry.id = installed.id.value();
  entry.mode = abi_mode(installed.vip.mode);
  entry.table_size = is_l7(installed.vip) ? 0 : installed.vip.table_size;
  return tables_->write_vip(abi_key(installed.vip.key()), entry);
}

Result<void> Programmer::settle_address_entry(const wire::IpAddress& address) {
  weir_vip_key key{};
  key.address = abi_address(address);
  weir_vip entry{};
  for (const auto& [vip_key, installed] : vips_) {
    if (vip_key.address != address) continue;
    // L7 answers echo and takes errors for the whole address once any of its ports is L7's.
    if (is_l7(installed.vip) || entry.mode == WEIR_MODE_NONE)
      entry.mode = abi_mode(installed.vip.mode);
  }
  if (entry.mode == WEIR_MODE_NONE) return tables_->erase_vip(key);
  return tables_->write_vip(key, entry);
}

Result<void> Programmer::publish_table(InstalledVip& installed) {
  if (is_l7(installed.vip)) return {};
  const std::vector<MaglevMember> members = members_of(installed);
  const std::uint32_t size = installed.vip.table_size;
  const std::vector<BackendId> table = build_maglev_table(members, size, seed_);
  Result<std::vector<BackendId>> current = tables_->read_table(installed.id, size);
  if (!current) return std::move(current).error();
  // After a restart everything is updated to what it is already: packets need not notice.
  if (*current != table) {
    if (Result<void> done = tables_->publish_table(installed.id, table); !done) return done;
  }
  count_slots(installed, table);
  installed.table_digest = maglev_digest(table, members);
  return {};
}

Result<InstalledBackend> Programmer::install(const control::Vip& vip, VipId owner,
                                             const control::Backend& backend) {
  Result<BackendId> id = allocate_backend();
  if (!id) return std::move(id).error();
  InstalledBackend installed{.backend = backend, .id = *id, .slots = 0, .next_hop = {}};
  // The owner first: an id in use whose owner is unknown would be taken for another VIP's.
  if (Result<void> step = tables_->write_owner(*id, owner); !step) return std::move(step).error();
  if (Result<void> step = tables_->clear_backend_counters(*id); !step)
    return std::move(step).error();
  Result<NextHop> hop = resolve_(backend.address, vip.mode);
  if (!hop) return std::move(hop).error();
  if (Result<void> step = write_next_hop(installed, *std::move(hop)); !step)
    return std::move(step).error();
  return installed;
}

Result<void> Programmer::write_next_hop(InstalledBackend& installed, NextHop hop) {
  weir_backend entry{};
  entry.address = abi_address(installed.backend.address);
  entry.flags = WEIR_BACKEND_IN_USE;
  if (hop.state == NextHopState::kResolved) {
    // The device before the backend that sends packets to it.
    if (Result<void> allowed = tables_->allow_device(hop.ifindex); !allowed) return allowed;
    entry.outer_source = abi_address(hop.source);
    entry.egress_ifindex = hop.ifindex;
    entry.egress_mtu = hop.mtu;
    std::memcpy(entry.next_hop_mac, hop.mac.bytes.data(), sizeof(entry.next_hop_mac));
    std::memcpy(entry.source_mac, hop.source_mac.bytes.data(), sizeof(entry.source_mac));
  }
  if (Result<void> written = tables_->write_backend(installed.id, entry); !written) return written;
  installed.next_hop = std::move(hop);
  return {};
}

Result<void> Programmer::free_backend(const InstalledBackend& installed) {
  weir_backend entry{};
  entry.address = abi_address(installed.backend.address);
  if (Result<void> written = tables_->write_backend(installed.id, entry); !written) return written;
  freed_ids_.push_back(installed.id);
  return {};
}

Result<void> Programmer::refresh_next_hops() {
  for (auto& [key, installed] : vips_) {
    for (InstalledBackend& entry : installed.backends) {
      Result<NextHop> hop = resolve_(entry.backend.address, installed.vip.mode);
      if (!hop) return std::move(hop).error();
      const NextHop& before = entry.next_hop;
      const bool asking_again = hop->state == NextHopState::kResolving &&
                                before.state == NextHopState::kResolved &&
                                hop->ifindex == before.ifindex;
      if (asking_again) {
        entry.next_hop.device = hop->device;  // unknown after adopt()
        entry.next_hop.gateway = hop->gateway;
        continue;
      }
      if (*hop == before) continue;
      const bool changed =
          (before.state == NextHopState::kResolved) != (hop->state == NextHopState::kResolved);
      if (Result<void> written = write_next_hop(entry, *std::move(hop)); !written) return written;
      if (changed)
        log_info("backend {} of {}: next hop {} {}", entry.backend.address.text(),
                 control::vip_text(key), text_of(entry.next_hop.state), entry.next_hop.reason);
    }
  }
  return {};
}

bool Programmer::vip_id_in_use(VipId id) const {
  return std::ranges::any_of(vips_, [id](const auto& entry) { return entry.second.id == id; });
}

Result<VipId> Programmer::allocate_vip() {
  // Round robin, so that an id rests as long as possible. Flow entries need no sweep here: they
  // are keyed by the VIP's own address and port, and are void without their backend.
  for (std::uint32_t tried = 0; tried < WEIR_VIPS_MAX - 1; ++tried) {
    last_vip_id_ = VipId{last_vip_id_.value() % (WEIR_VIPS_MAX - 1) + 1};
    if (!vip_id_in_use(last_vip_id_)) return last_vip_id_;
  }
  return Error{ErrorCode::kUnavailable,
               fmt::format("all {} VIP ids are in use", WEIR_VIPS_MAX - 1)};
}

Result<BackendId> Programmer::allocate_backend() {
  if (fresh_ids_.empty() && !freed_ids_.empty()) {
    if (Result<void> swept = tables_->forget_void_flows(); !swept) return std::move(swept).error();
    // In the order in which they were freed.
    for (const BackendId id : freed_ids_) {
      if (Result<void> written = tables_->write_backend(id, weir_backend{}); !written)
        return std::move(written).error();
      fresh_ids_.push_back(id);
    }
    freed_ids_.clear();
  }
  if (fresh_ids_.empty())
    return Error{ErrorCode::kUnavailable,
                 fmt::format("all {} backend ids are in use", WEIR_BACKENDS_MAX - 1)};
  const BackendId id = fresh_ids_.front();
  fresh_ids_.pop_front();
  return id;
}

}  // namespace weir::l4
