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
  return backend.state == control::BackendState::kActive && backend.weight > 0;
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
Result<void> check_first_addresses(std::span<const control::Vip* const> want) {
  std::map<wire::IpAddress, control::VipKey> firsts;
  for (const control::Vip* item : want) {
    const control::Vip& vip = *item;
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

Result<void> Programmer::check_capacity(std::span<const control::Vip* const> want) {
  std::size_t backends = 0;
  std::size_t ranges = 0;
  for (const control::Vip* item : want) {
    const control::Vip& vip = *item;
    backends += vip.backends.size();
    if (!vip.ports.is_exact()) ranges += range_keys(vip.key()).size();
  }
  // An eighth of the maps is left for changes, in which a backend that goes and its successor are
  // in use at the same time, and so are a VIP and what replaces it.
  static_assert(control::kVipsMax == WEIR_VIPS_MAX / 8 * 7);
  static_assert(control::kBackendsMax == WEIR_BACKENDS_MAX / 8 * 7);
  if (Result<void> fits = check_count(want.size(), control::kVipsMax, "VIPs"); !fits) return fits;
  if (Result<void> fits = check_count(backends, control::kBackendsMax, "backends of all VIPs");
      !fits)
    return fits;
  Result<void> fits =
      check_count(ranges, WEIR_RANGES_MAX, "blocks that all ranges of ports are divided into");
  return fits ? check_first_addresses(want) : fits;
}

Result<void> Programmer::apply(std::span<const control::Operation> operations) {
  std::vector<InstalledVip> gone;
  for (const control::Operation& operation : operations) {
    if (operation.kind != control::OperationKind::kRemoveVip) continue;
    if (Result<void> removed = remove(operation.key(), gone); !removed)
      return std::move(removed).error().while_doing(operation.text());
  }
  if (Result<void> done = tear_down(gone); !done) return done;
  std::vector<Change> changes;
  for (const control::Operation& operation : operations) {
    if (operation.kind == control::OperationKind::kRemoveVip) continue;
    Result<Change> begun = begin(operation);
    if (!begun) return std::move(begun).error().while_doing(operation.text());
    changes.push_back(*std::move(begun));
  }
  if (Result<void> published = tables_->publish(); !published) return published;
  for (Change& change : changes) {
    if (Result<void> settled = settle_change(change); !settled) return settled;
  }
  // An address stands for all of its VIPs, which by now are ready.
  for (const Change& change : changes) {
    InstalledVip& installed = *change.installed;
    if (Result<void> settled = settle_address(installed.vip.address); !settled) return settled;
    if (Result<void> staged = stage_unused_maps(installed); !staged) return staged;
  }
  if (Result<void> published = tables_->publish(); !published) return published;
  for (Change& change : changes) {
    if (Result<void> done = finish(change); !done) return done;
    if (change.before) gone.push_back(*std::move(change.before));
  }
  return tear_down(gone);
}

Result<void> Programmer::set_node(const NodeRules& rules) {
  std::vector<ListEntry> list = list_entries(rules.block_list);
  if (!list.empty() && !same_bytes(list, block_list_)) {
    if (Result<void> staged = tables_->stage_list(kNode, list); !staged) return staged;
    if (Result<void> published = tables_->publish(); !published) return published;
  }
  const bool was_there = !block_list_.empty();
  block_list_ = std::move(list);
  node_ = rules;
  // The list before the flags that say there is one, and after them where it goes.
  if (Result<void> settled = settle_all_vips(); !settled) return settled;
  if (Result<void> settled = settle_all_addresses(); !settled) return settled;
  if (Result<void> written = rewrite_nat_backends(); !written) return written;
  if (!was_there || !block_list_.empty()) return {};
  if (Result<void> staged = tables_->stage_erasure(PerVip::kList, kNode); !staged) return staged;
  return tables_->publish();
}

Result<Programmer::Change> Programmer::begin(const control::Operation& operation) {
  const control::Vip& vip = operation.after;
  if (operation.kind == control::OperationKind::kUpdateVip) {
    Change change{.installed = &vips_.at(vip.key())};
    if (Result<void> step = begin_update(vip, change); !step) return std::move(step).error();
    return change;
  }
  // Of a VIP that is replaced: a new id with a table of its own, then one write of the service, so
  // that a packet meets the old VIP or the new one. Flows of the old one end with its backends,
  // which are not the new one's.
  Result<InstalledVip> built = build(vip);
  if (!built) return std::move(built).error();
  return Change{.installed = nullptr, .built = *std::move(built)};
}

Result<void> Programmer::begin_update(const control::Vip& vip, Change& change) {
  InstalledVip& installed = *change.installed;
  std::vector<InstalledBackend>& old = change.gone;
  old = std::exchange(installed.backends, {});
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
  if (Result<void> step = number_backends(change); !step) return step;
  if (Result<void> step = stage_own_maps(installed); !step) return step;
  return stage_table(installed);
}

Result<void> Programmer::settle_change(Change& change) {
  if (!change.built) return settle_vip(*change.installed);
  if (Result<void> settled = settle_vip(*change.built); !settled) return settled;
  InstalledVip& installed = vips_[change.built->vip.key()];
  if (installed.id != VipId{}) change.before = std::move(installed);
  installed = *std::exchange(change.built, std::nullopt);
  change.installed = &installed;
  return {};
}

Result<void> Programmer::finish(Change& change) {
  InstalledVip& installed = *change.installed;
  for (InstalledBackend& entry : installed.backends) {
    if (Result<void> step = write_backend(installed.vip, installed.id, entry); !step) return step;
    if (Result<void> step = lower_old_source(entry); !step) return step;
  }
  for (InstalledBackend& gone : change.gone) {
    const std::uint32_t member = installed.first_member + gone.number.value();
    if (Result<void> step = write_member(member, BackendId{}); !step) return step;
    if (Result<void> freed = free_backend(gone); !freed) return freed;
  }
  member_ranges_.give_back(change.old_range, change.old_room);
  return {};
}

Result<void> Programmer::remove(const control::VipKey& key, std::vector<InstalledVip>& gone) {
  auto node = vips_.extract(key);
  if (node.empty())
    return Error{ErrorCode::kNotFound,
                 fmt::format("VIP {} is not installed", control::vip_text(key))};
  gone.push_back(std::move(node.mapped()));
  return settle_address(key.address);
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
  Change change{.installed = &installed};
  if (Result<void> step = number_backends(change); !step) return std::move(step).error();
  if (Result<void> step = stage_table(installed); !step) return std::move(step).error();
  if (Result<void> step = stage_own_maps(installed); !step) return std::move(step).error();
  return installed;
}

/// Maps first: all at once, after which no packet leads to a backend of these VIPs.
Result<void> Programmer::tear_down(std::vector<InstalledVip>& gone) {
  for (const InstalledVip& installed : gone) {
    const auto stage = [&](bool is_there, PerVip kind) {
      return is_there ? tables_->stage_erasure(kind, installed.id) : Result<void>{};
    };
    if (Result<void> step = stage(!installed.list.empty(), PerVip::kList); !step) return step;
    if (Result<void> step = stage(!installed.quic.empty(), PerVip::kQuic); !step) return step;
    if (Result<void> step = stage(installed.has_sources, PerVip::kSources); !step) return step;
    if (Result<void> step = stage(!is_l7(installed.vip), PerVip::kTable); !step) return step;
  }
  if (Result<void> published = tables_->publish(); !published) return published;
  for (InstalledVip& installed : gone) {
    for (InstalledBackend& entry : installed.backends) {
      if (Result<void> freed = free_backend(entry); !freed) return freed;
    }
    member_ranges_.give_back(installed.first_member, installed.member_room);
    vip_ids_[installed.id.value()] = false;
  }
  gone.clear();
  return {};
}

Result<void> Programmer::stage_table(InstalledVip& installed) {
  if (is_l7(installed.vip)) return {};
  const std::vector<MaglevMember> members = members_of(installed);
  Table table{.current = build_maglev_table(members, installed.vip.slots(), settings_.seed),
              .previous = {}};
  const bool is_new = installed.entry.id == 0;
  Result<Table> present = is_new ? Table{} : tables_->read_table(installed.id);
  if (!present) return std::move(present).error();
  // After a restart everything is updated to what it is already: packets need not notice, and the
  // table before must not be pushed out by its own copy.
  if (present->current != table.current) {
    // The generation before is the table that this one takes the place of, and no older one.
    table.previous = std::move(present->current);
    if (Result<void> staged = tables_->stage_table(installed.id, table); !staged) return staged;
  }
  const bool counted = count_slots(installed, table.current);
  WEIR_ASSERT(counted);  // its numbers are those of members
  installed.table_digest = maglev_digest(table.current, members);
  return {};
}

Result<void> Programmer::stage_own_maps(InstalledVip& installed) {
  std::vector<ListEntry> list = list_entries(installed.vip.sources);
  if (!list.empty() && !same_bytes(list, installed.list)) {
    if (Result<void> step = tables_->stage_list(installed.id, list); !step) return step;
    installed.list = std::move(list);
  }
  std::vector<QuicEntry> quic = quic_entries(installed);
  if (!quic.empty() && !same_bytes(quic, installed.quic)) {
    if (Result<void> step = tables_->stage_quic(installed.id, quic); !step) return step;
    installed.quic = std::move(quic);
  }
  if (has_limits_per_source(installed.vip.limits) && !installed.has_sources) {
    if (Result<void> step = tables_->stage_sources(installed.id); !step) return step;
    installed.has_sources = true;
  }
  return {};
}

Result<void> Programmer::stage_unused_maps(InstalledVip& installed) {
  if (installed.vip.sources.empty() && !installed.list.empty()) {
    if (Result<void> step = tables_->stage_erasure(PerVip::kList, installed.id); !step) return step;
    installed.list.clear();
  }
  if (quic_entries(installed).empty() && !installed.quic.empty()) {
    if (Result<void> step = tables_->stage_erasure(PerVip::kQuic, installed.id); !step) return step;
    installed.quic.clear();
  }
  if (!has_limits_per_source(installed.vip.limits) && installed.has_sources) {
    if (Result<void> step = tables_->stage_erasure(PerVip::kSources, installed.id); !step)
      return step;
    installed.has_sources = false;
  }
  return {};
}

Result<void> Programmer::settle_vip(InstalledVip& installed) {
  weir_vip entry = vip_entry(installed.vip, installed.id, settings_.ticks, !block_list_.empty());
  entry.first_member = installed.first_member;
  entry.member_room = installed.member_room;
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
  std::set<wire::IpAddress> addresses{node_.l7_addresses.begin(), node_.l7_addresses.end()};
  for (const auto& [address, backends] : nat_sources_)
    addresses.insert(address);
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
  InstalledBackend installed{.backend = backend, .id = *id, .next_hop = {}};
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
  if (Result<void> raised = raise_nat(vip, entry, installed); !raised) return raised;
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

Result<void> Programmer::free_backend(InstalledBackend& installed) {
  weir_backend entry{};
  entry.address = abi_address(installed.backend.address);
  if (Result<void> written = tables_->write_backend(installed.id, entry); !written) return written;
  freed_ids_.push_back(installed.id);
  return lower_nat(installed);
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
      if (Result<void> lowered = lower_old_source(entry); !lowered) return lowered;
      if (changed)
        log_info("backend {} of {}: next hop {} {}", entry.backend.address.text(),
                 control::vip_text(key), text_of(entry.next_hop.state), entry.next_hop.reason);
    }
  }
  return {};
}

Result<VipId> Programmer::allocate_vip() {
  // Round robin, so that an id rests as long as possible. Flow entries need no sweep here: they
  // name backends, and a backend is never another VIP's.
  for (std::uint32_t tried = 0; tried < WEIR_VIPS_MAX - 1; ++tried) {
    last_vip_id_ = VipId{last_vip_id_.value() % (WEIR_VIPS_MAX - 1) + 1};
    if (vip_ids_[last_vip_id_.value()]) continue;
    vip_ids_[last_vip_id_.value()] = true;
    return last_vip_id_;
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
  if (Result<void> swept = tables_->forget_void_flows(); !swept) return swept;
  for (const BackendId id : freed_ids_) {  // in the order in which they were freed
    if (Result<void> written = tables_->write_backend(id, weir_backend{}); !written) return written;
    fresh_ids_.push_back(id);
  }
  freed_ids_.clear();
  return {};
}

}  // namespace weir::l4
