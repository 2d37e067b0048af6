#include "l4/programmer.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <set>
#include <utility>

#include "l4/base/log.h"

namespace weir::l4 {
namespace {

bool is_l7(const control::Vip& vip) { return vip.mode == control::ForwardMode::kL7; }

bool takes_new_flows(const control::Backend& backend) {
  return !backend.draining && backend.weight > 0;
}

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

/// The generation before is the table that this one takes the place of, and no older one.
std::vector<TableSlot> slots_after(std::span<const TableSlot> before,
                                   std::span<const BackendId> now) {
  std::vector<TableSlot> slots(now.size());
  for (std::size_t i = 0; i < now.size(); ++i) {
    slots[i].current = static_cast<std::uint16_t>(now[i].value());
    if (before.size() == now.size()) slots[i].previous = before[i].current;
  }
  return slots;
}

std::vector<BackendId> current_of(std::span<const TableSlot> slots) {
  std::vector<BackendId> table;
  table.reserve(slots.size());
  for (const TableSlot& slot : slots)
    table.emplace_back(slot.current);
  return table;
}

std::vector<QuicEntry> quic_entries(const InstalledVip& installed) {
  std::vector<QuicEntry> entries;
  if (!installed.vip.quic.on()) return entries;
  for (const InstalledBackend& entry : installed.backends) {
    if (!entry.backend.server_id.empty())
      entries.push_back({quic_key(entry.backend.server_id), entry.id.value()});
  }
  std::ranges::sort(entries, BytesLess{});
  return entries;
}

/// The source of what is sent to a backend: of an outer header, or of full NAT. Where the node has
/// several addresses for that, each backend has one of them, so that it sees no flow from two.
wire::IpAddress source_towards(const control::Vip& vip, const InstalledBackend& installed,
                               const NodeRules& node) {
  if (!rewrites_source(vip)) return installed.next_hop.source;
  std::vector<wire::IpAddress> usable;
  for (const wire::IpAddress& address : node.snat_addresses)
    if (address.family() == installed.backend.address.family()) usable.push_back(address);
  if (usable.empty()) return installed.next_hop.source;
  return usable[installed.id.value() % usable.size()];
}

weir_backend backend_entry(const control::Vip& vip, VipId owner, const InstalledBackend& installed,
                           const NodeRules& node) {
  weir_backend entry{};
  entry.address = abi_address(installed.backend.address);
  entry.vip_id = owner.value();
  entry.vlan = WEIR_VLAN_KEEP;
  entry.flags = WEIR_BACKEND_IN_USE;
  if (!takes_new_flows(installed.backend)) entry.flags |= WEIR_BACKEND_DRAINING;
  if (vip.mode == control::ForwardMode::kNat && installed.backend.port)
    entry.port_be = htons(installed.backend.port->value());
  const NextHop& hop = installed.next_hop;
  if (hop.state != NextHopState::kResolved) return entry;
  constexpr std::uint32_t kMtuMax = std::numeric_limits<std::uint16_t>::max();
  entry.outer_source = abi_address(source_towards(vip, installed, node));
  entry.egress_ifindex = hop.ifindex;
  entry.egress_mtu = static_cast<std::uint16_t>(std::min(hop.mtu, kMtuMax));
  entry.vlan = hop.vlan;
  std::memcpy(entry.macs.next_hop, hop.mac.bytes.data(), sizeof(entry.macs.next_hop));
  std::memcpy(entry.macs.source, hop.source_mac.bytes.data(), sizeof(entry.macs.source));
  return entry;
}

/// Two VIPs whose prefixes begin with the same address would share its entries.
Result<void> check_first_addresses(const std::vector<control::Vip>& want) {
  std::map<wire::IpAddress, control::VipKey> firsts;
  for (const control::Vip& vip : want) {
    const auto [first, is_new] = firsts.emplace(vip.address, vip.key());
    if (is_new || first->second.prefix_length == vip.prefix_length) continue;
    return Error{ErrorCode::kInvalid,
                 fmt::format("VIPs {} and {} begin with the same address but are not of the same "
                             "length",
                             control::vip_text(first->second), control::vip_text(vip.key())),
                 "split the larger prefix, or give both the same length"};
  }
  return {};
}

Result<void> check_count(std::size_t count, std::size_t most, std::string_view what) {
  if (count <= most) return {};
  return Error{ErrorCode::kInvalid,
               fmt::format("{} {} are more than the {} that one node can hold", count, what, most)};
}

}  // namespace

std::vector<control::Vip> Programmer::installed() const {
  std::vector<control::Vip> vips;
  for (const auto& [key, installed] : vips_)
    vips.push_back(installed.vip);
  return vips;
}

Result<void> Programmer::check_capacity(const std::vector<control::Vip>& want) {
  std::size_t backends = 0;
  std::size_t ranges = 0;
  for (const control::Vip& vip : want) {
    backends += vip.backends.size();
    if (!vip.ports.is_exact()) ranges += range_keys(vip.key()).size();
  }
  // One less than the maps: 0 is no id. Half of what is left, because a backend that is replaced
  // and its successor are in use at the same time; and one VIP id for the same reason.
  constexpr std::size_t kBackendsMax = (WEIR_BACKENDS_MAX - 1) / 2;
  constexpr std::size_t kVipsMax = WEIR_VIPS_MAX - 2;
  if (Result<void> fits = check_count(want.size(), kVipsMax, "VIPs"); !fits) return fits;
  if (Result<void> fits = check_count(backends, kBackendsMax, "backends of all VIPs"); !fits)
    return fits;
  Result<void> fits =
      check_count(ranges, WEIR_RANGES_MAX, "blocks that all ranges of ports are divided into");
  return fits ? check_first_addresses(want) : fits;
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
  return settle_nat();
}

Result<void> Programmer::set_node(const NodeRules& rules) {
  std::vector<ListEntry> list = list_entries(rules.block_list);
  if (!list.empty() && !same_bytes(list, block_list_)) {
    if (Result<void> published = tables_->publish_list(kNode, list); !published) return published;
  }
  const bool was_there = !block_list_.empty();
  block_list_ = std::move(list);
  node_ = rules;
  // The list before the flags that say there is one, and after them where it goes.
  if (Result<void> settled = settle_all_vips(); !settled) return settled;
  if (Result<void> settled = settle_all_addresses(); !settled) return settled;
  if (Result<void> written = rewrite_nat_backends(); !written) return written;
  if (was_there && block_list_.empty()) return tables_->erase(PerVip::kList, kNode);
  return {};
}

Result<void> Programmer::add(const control::Vip& vip) {
  WEIR_ASSERT(!vips_.contains(vip.key()));  // diff_vips() adds only what is not installed
  Result<InstalledVip> built = build(vip);
  if (!built) return std::move(built).error();
  vips_[vip.key()] = *std::move(built);
  return settle_address(vip.address);
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
  // Backends that may take new flows again are told so before the table names them, and those that
  // may not any more after it does not.
  for (InstalledBackend& entry : installed.backends) {
    if (!takes_new_flows(entry.backend)) continue;
    if (Result<void> step = write_backend(vip, installed.id, entry); !step) return step;
  }
  if (Result<void> step = publish_own_maps(installed); !step) return step;
  if (Result<void> step = publish_table(installed); !step) return step;
  if (Result<void> step = settle_vip(installed); !step) return step;
  if (Result<void> step = settle_address(vip.address); !step) return step;
  if (Result<void> step = erase_unused_maps(installed); !step) return step;
  for (InstalledBackend& entry : installed.backends) {
    if (Result<void> step = write_backend(vip, installed.id, entry); !step) return step;
  }
  for (const InstalledBackend& gone : old) {
    if (Result<void> freed = free_backend(gone); !freed) return freed;
  }
  return {};
}

Result<void> Programmer::replace(const control::Vip& vip) {
  // A new id with a table of its own, then one write of the service: a packet meets the old VIP or
  // the new one. Flows of the old one end with its backends, which are not the new one's.
  Result<InstalledVip> built = build(vip);
  if (!built) return std::move(built).error();
  const InstalledVip old = std::exchange(vips_.at(vip.key()), *std::move(built));
  if (Result<void> settled = settle_address(vip.address); !settled) return settled;
  return tear_down(old);
}

Result<void> Programmer::remove(const control::VipKey& key) {
  const auto node = vips_.extract(key);
  if (node.empty())
    return Error{ErrorCode::kNotFound,
                 fmt::format("VIP {} is not installed", control::vip_text(key))};
  if (Result<void> settled = settle_address(key.address); !settled) return settled;
  return tear_down(node.mapped());
}

Result<InstalledVip> Programmer::build(const control::Vip& vip) {
  Result<VipId> id = allocate_vip();
  if (!id) return std::move(id).error();
  InstalledVip installed;
  installed.vip = vip;
  installed.id = *id;
  if (Result<void> step = tables_->write_key(*id, vip.key()); !step) return std::move(step).error();
  if (Result<void> step = tables_->clear_vip_counters(*id); !step) return std::move(step).error();
  for (const control::Backend& backend : vip.backends) {
    Result<InstalledBackend> added = install(vip, *id, backend);
    if (!added) return std::move(added).error();
    installed.backends.push_back(*std::move(added));
  }
  if (Result<void> step = publish_table(installed); !step) return std::move(step).error();
  if (Result<void> step = publish_own_maps(installed); !step) return std::move(step).error();
  if (Result<void> step = settle_vip(installed); !step) return std::move(step).error();
  return installed;
}

Result<void> Programmer::tear_down(const InstalledVip& installed) {
  if (!installed.list.empty()) {
    if (Result<void> step = tables_->erase(PerVip::kList, installed.id); !step) return step;
  }
  if (!installed.quic.empty()) {
    if (Result<void> step = tables_->erase(PerVip::kQuic, installed.id); !step) return step;
  }
  if (installed.has_sources) {
    if (Result<void> step = tables_->erase(PerVip::kSources, installed.id); !step) return step;
  }
  if (!is_l7(installed.vip)) {
    if (Result<void> step = tables_->erase(PerVip::kTable, installed.id); !step) return step;
  }
  for (const InstalledBackend& entry : installed.backends) {
    if (Result<void> freed = free_backend(entry); !freed) return freed;
  }
  return {};
}

Result<void> Programmer::publish_table(InstalledVip& installed) {
  if (is_l7(installed.vip)) return {};
  const std::vector<MaglevMember> members = members_of(installed);
  const std::uint32_t size = installed.vip.table_size;
  const std::vector<BackendId> table = build_maglev_table(members, size, settings_.seed);
  Result<std::vector<TableSlot>> present = tables_->read_table(installed.id, size);
  if (!present) return std::move(present).error();
  // After a restart everything is updated to what it is already: packets need not notice, and the
  // table before must not be pushed out by its own copy.
  if (current_of(*present) != table) {
    Result<void> done = tables_->publish_table(installed.id, slots_after(*present, table));
    if (!done) return done;
  }
  std::map<BackendId, std::uint32_t> slots;
  for (const BackendId id : table)
    ++slots[id];
  for (InstalledBackend& entry : installed.backends)
    entry.slots = slots[entry.id];
  installed.table_digest = maglev_digest(table, members);
  return {};
}

Result<void> Programmer::publish_own_maps(InstalledVip& installed) {
  std::vector<ListEntry> list = list_entries(installed.vip.sources);
  if (!list.empty() && !same_bytes(list, installed.list)) {
    if (Result<void> step = tables_->publish_list(installed.id, list); !step) return step;
    installed.list = std::move(list);
  }
  std::vector<QuicEntry> quic = quic_entries(installed);
  if (!quic.empty() && !same_bytes(quic, installed.quic)) {
    if (Result<void> step = tables_->publish_quic(installed.id, quic); !step) return step;
    installed.quic = std::move(quic);
  }
  if (has_limits_per_source(installed.vip.limits) && !installed.has_sources) {
    if (Result<void> step = tables_->create_sources(installed.id); !step) return step;
    installed.has_sources = true;
  }
  return {};
}

Result<void> Programmer::erase_unused_maps(InstalledVip& installed) {
  if (installed.vip.sources.empty() && !installed.list.empty()) {
    if (Result<void> step = tables_->erase(PerVip::kList, installed.id); !step) return step;
    installed.list.clear();
  }
  if (quic_entries(installed).empty() && !installed.quic.empty()) {
    if (Result<void> step = tables_->erase(PerVip::kQuic, installed.id); !step) return step;
    installed.quic.clear();
  }
  if (!has_limits_per_source(installed.vip.limits) && installed.has_sources) {
    if (Result<void> step = tables_->erase(PerVip::kSources, installed.id); !step) return step;
    installed.has_sources = false;
  }
  return {};
}

Result<void> Programmer::settle_vip(InstalledVip& installed) {
  const weir_vip entry =
      vip_entry(installed.vip, installed.id, settings_.ticks, !block_list_.empty());
  if (same_bytes(entry, installed.entry)) return {};
  if (Result<void> written = tables_->write_vip(installed.id, entry); !written) return written;
  installed.entry = entry;
  return {};
}

Result<void> Programmer::settle_all_vips() {
  for (auto& [key, installed] : vips_) {
    if (Result<void> settled = settle_vip(installed); !settled) return settled;
  }
  return {};
}

Result<void> Programmer::settle_address(const wire::IpAddress& address) {
  return services_.settle(address, wanted_at(address));
}

Result<void> Programmer::settle_all_addresses() {
  std::set<wire::IpAddress> addresses = nat_sources_;
  addresses.insert(node_.l7_addresses.begin(), node_.l7_addresses.end());
  for (const auto& [key, installed] : vips_)
    addresses.insert(key.address);
  for (const auto& [address, entries] : services_.present())
    addresses.insert(address);
  for (const wire::IpAddress& address : addresses) {
    if (Result<void> settled = settle_address(address); !settled) return settled;
  }
  return {};
}

AddressEntries Programmer::wanted_at(const wire::IpAddress& address) const {
  AddressEntries want;
  std::vector<const InstalledVip*> with_ranges;
  bool refuses = true;
  const control::VipKey first{
      .address = address, .ports = control::PortRange::only(wire::Port{0}), .prefix_length = 0};
  for (auto found = vips_.lower_bound(first);
       found != vips_.end() && found->first.address == address; ++found) {
    const auto& [key, installed] = *found;
    want.flags |= WEIR_ADDRESS_VIP;
    // L7 answers echo and takes errors for the whole address once any of its ports is L7's.
    if (is_l7(installed.vip)) want.flags |= WEIR_ADDRESS_L7;
    if (installed.vip.mode == control::ForwardMode::kNat) want.flags |= WEIR_ADDRESS_NAT;
    refuses = refuses && installed.vip.when_empty == control::WhenEmpty::kRefuse;
    if (!key.is_single_address()) want.prefixes.insert(key.prefix_length);
    if (key.ports.is_exact()) {
      want.ports[abi_key(key)] = installed.id;
    } else {
      with_ranges.push_back(&installed);
    }
  }
  if (want.flags != 0 && refuses) want.flags |= WEIR_ADDRESS_REFUSE;
  if (want.flags != 0 && node_.answers_echo) want.flags |= WEIR_ADDRESS_ECHO;
  if (!with_ranges.empty()) want.flags |= WEIR_ADDRESS_RANGES;
  if (std::ranges::find(node_.l7_addresses, address) != node_.l7_addresses.end())
    want.flags |= WEIR_ADDRESS_L7_OWN;
  if (nat_sources_.contains(address)) want.flags |= WEIR_ADDRESS_SNAT;
  // A block of a narrower range may be one of a wider range's too: the narrower one comes last.
  std::ranges::stable_sort(with_ranges, std::greater{}, [](const InstalledVip* installed) {
    return installed->vip.ports.last.value() - installed->vip.ports.first.value();
  });
  for (const InstalledVip* installed : with_ranges) {
    for (const weir_range_key& key : range_keys(installed->vip.key()))
      want.ranges[key] = installed->id;
  }
  return want;
}

Result<InstalledBackend> Programmer::install(const control::Vip& vip, VipId owner,
                                             const control::Backend& backend) {
  Result<BackendId> id = allocate_backend();
  if (!id) return std::move(id).error();
  InstalledBackend installed{.backend = backend, .id = *id, .slots = 0, .next_hop = {}};
  if (Result<void> step = tables_->clear_backend_counters(*id); !step)
    return std::move(step).error();
  Result<NextHop> hop = resolve_(backend.address, vip.mode);
  if (!hop) return std::move(hop).error();
  installed.next_hop = *std::move(hop);
  if (Result<void> step = write_backend(vip, owner, installed); !step)
    return std::move(step).error();
  return installed;
}

Result<void> Programmer::write_backend(const control::Vip& vip, VipId owner,
                                       InstalledBackend& installed) {
  const weir_backend entry = backend_entry(vip, owner, installed, node_);
  if (Result<void> raised = raise_nat(vip, entry); !raised) return raised;
  if (same_bytes(entry, installed.entry)) return {};
  // The device before the backend that sends packets to it.
  if (entry.egress_ifindex != 0) {
    if (Result<void> allowed = tables_->allow_device(entry.egress_ifindex); !allowed)
      return allowed;
  }
  if (Result<void> written = tables_->write_backend(installed.id, entry); !written) return written;
  installed.entry = entry;
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
      const NextHopState before = entry.next_hop.state;
      const bool asking_again = hop->state == NextHopState::kResolving &&
                                before == NextHopState::kResolved &&
                                hop->ifindex == entry.next_hop.ifindex;
      if (asking_again) {
        entry.next_hop.device = hop->device;  // unknown after adopt()
        entry.next_hop.gateway = hop->gateway;
        continue;
      }
      const bool changed =
          (before == NextHopState::kResolved) != (hop->state == NextHopState::kResolved);
      entry.next_hop = *std::move(hop);
      if (Result<void> written = write_backend(installed.vip, installed.id, entry); !written)
        return written;
      if (changed)
        log_info("backend {} of {}: next hop {} {}", entry.backend.address.text(),
                 control::vip_text(key), text_of(entry.next_hop.state), entry.next_hop.reason);
    }
  }
  return settle_nat();
}

bool Programmer::vip_id_in_use(VipId id) const {
  return std::ranges::any_of(vips_, [id](const auto& entry) { return entry.second.id == id; });
}

Result<VipId> Programmer::allocate_vip() {
  // Round robin, so that an id rests as long as possible. Flow entries need no sweep here: they
  // name backends, and a backend is never another VIP's.
  for (std::uint32_t tried = 0; tried < WEIR_VIPS_MAX - 1; ++tried) {
    last_vip_id_ = VipId{last_vip_id_.value() % (WEIR_VIPS_MAX - 1) + 1};
    if (!vip_id_in_use(last_vip_id_)) return last_vip_id_;
  }
  return Error{ErrorCode::kUnavailable,
               fmt::format("all {} VIP ids are in use", WEIR_VIPS_MAX - 1)};
}

Result<BackendId> Programmer::allocate_backend() {
  if (fresh_ids_.empty() && !freed_ids_.empty()) {
    if (Result<void> forgotten = forget_freed_ids(); !forgotten)
      return std::move(forgotten).error();
  }
  if (fresh_ids_.empty())
    return Error{ErrorCode::kUnavailable,
                 fmt::format("all {} backend ids are in use", WEIR_BACKENDS_MAX - 1)};
  const BackendId id = fresh_ids_.front();
  fresh_ids_.pop_front();
  return id;
}

Result<void> Programmer::forget_freed_ids() {
  const std::set<BackendId> freed{freed_ids_.begin(), freed_ids_.end()};
  for (const auto& [key, installed] : vips_) {
    if (is_l7(installed.vip)) continue;
    auto slots = tables_->read_table(installed.id, installed.vip.table_size);
    if (!slots) return std::move(slots).error();
    bool changed = false;
    for (TableSlot& slot : *slots) {
      if (!freed.contains(BackendId{slot.previous})) continue;
      slot.previous = 0;
      changed = true;
    }
    if (!changed) continue;
    if (Result<void> done = tables_->publish_table(installed.id, *slots); !done) return done;
  }
  if (Result<void> swept = tables_->forget_void_flows(); !swept) return swept;
  for (const BackendId id : freed_ids_) {  // in the order in which they were freed
    if (Result<void> written = tables_->write_backend(id, weir_backend{}); !written) return written;
    fresh_ids_.push_back(id);
  }
  freed_ids_.clear();
  return {};
}

}  // namespace weir::l4
