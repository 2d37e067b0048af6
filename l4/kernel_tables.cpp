#include "l4/kernel_tables.h"

#include <utility>

#include "l4/inner_map.h"
#include "l4/vip_entries.h"

namespace weir::l4 {
namespace {

Result<UniqueFd> open_pin(const std::string& directory, const std::string& name) {
  const std::string path = directory + "/" + name;
  UniqueFd fd{::bpf_obj_get(path.c_str())};
  if (!fd) return Error::from_errno(fmt::format("opening the pinned map {}", path));
  return fd;
}

template <typename MapType>
Result<void> open_map(MapType& map, const std::string& directory, const std::string& name) {
  Result<UniqueFd> fd = open_pin(directory, name);
  if (!fd) return std::move(fd).error();
  map = MapType{*std::move(fd), name};
  return {};
}

template <typename Key>
Result<Tables::Entries<Key, VipId>> read_ids(const Map<Key, std::uint32_t>& map,
                                             std::size_t limit) {
  auto found = map.entries(limit);
  if (!found) return std::move(found).error();
  Tables::Entries<Key, VipId> entries;
  for (const auto& [key, id] : *found)
    entries.emplace_back(key, id);
  return entries;
}

KeyRecord record_of(const control::VipKey& key) {
  return {.address = abi_address(key.address),
          .prefix_length = key.prefix_length,
          .is_udp = static_cast<std::uint8_t>(key.protocol == control::Protocol::kUdp ? 1 : 0),
          .first_port = key.ports.first.value(),
          .last_port = key.ports.last.value(),
          .reserved = 0};
}

control::VipKey key_of(const KeyRecord& record) {
  return {.address = address_of(record.address),
          .ports = {wire::Port{record.first_port}, wire::Port{record.last_port}},
          .protocol = record.is_udp != 0 ? control::Protocol::kUdp : control::Protocol::kTcp,
          .prefix_length = record.prefix_length};
}

}  // namespace

Result<KernelTables> KernelTables::open(const std::string& directory) {
  KernelTables tables;
  Result<void> opened;
  const auto take = [&](auto& map, const char* name) {
    if (opened) opened = open_map(map, directory, name);
  };
  const auto outer = [&](PerVip kind) -> OuterMap& {
    return tables.outer_[static_cast<std::size_t>(kind)];
  };
  take(tables.vips_, "weir_vips");
  take(tables.services_, "weir_services");
  take(tables.ranges_, "weir_ranges");
  take(tables.addresses_, "weir_addresses");
  take(tables.prefixes_, "weir_prefixes");
  take(tables.filter_, "weir_filter");
  take(tables.keys_, kKeysMap);
  take(tables.members_, "weir_members");
  take(outer(PerVip::kTable), "weir_tables");
  take(outer(PerVip::kList), "weir_lists");
  take(outer(PerVip::kSources), "weir_source_limits");
  take(outer(PerVip::kQuic), "weir_quic");
  take(tables.backends_, "weir_backends");
  take(tables.flows_, "weir_flows");
  take(tables.nat_flows_, "weir_nat_flows");
  take(tables.workers_, "weir_l7_workers");
  take(tables.devices_, "weir_devices");
  take(tables.return_device_, "weir_return_device");
  take(tables.other_lane_, "weir_other_lane");
  take(tables.monitor_, "weir_monitor");
  take(tables.monitor_filter_, "weir_monitor_filter");
  take(tables.flow_counters_, "weir_flow_counters");
  take(tables.nat_counters_, "weir_nat_counters");
  take(tables.counters_, "weir_counters");
  take(tables.return_counters_, "weir_return_counters");
  take(tables.vip_counters_, "weir_vip_counters");
  take(tables.backend_counters_, "weir_backend_counters");
  if (!opened) return std::move(opened).error();
  return tables;
}

// ----------------------------------------------------------------------- services, addresses

Result<std::vector<weir_vip>> KernelTables::read_vips() {
  auto entries = vips_.entries(WEIR_VIPS_MAX);
  if (!entries) return std::move(entries).error();
  std::vector<weir_vip> vips(WEIR_VIPS_MAX);
  for (const auto& [id, vip] : *entries)
    vips[id] = vip;
  return vips;
}

Result<void> KernelTables::write_vip(VipId id, const weir_vip& vip) {
  return vips_.set(id.value(), vip);
}

Result<std::vector<control::VipKey>> KernelTables::read_keys() {
  auto records = keys_.entries(WEIR_VIPS_MAX);
  if (!records) return std::move(records).error();
  std::vector<control::VipKey> keys(WEIR_VIPS_MAX);
  for (const auto& [id, record] : *records)
    keys[id] = key_of(record);
  return keys;
}

Result<void> KernelTables::write_key(VipId id, const control::VipKey& key) {
  return keys_.set(id.value(), record_of(key));
}

Result<Tables::Entries<weir_vip_key, VipId>> KernelTables::read_services() {
  return read_ids(services_, WEIR_VIPS_MAX);
}

Result<void> KernelTables::write_service(const weir_vip_key& key, VipId id) {
  return services_.set(key, id.value());
}

Result<void> KernelTables::erase_service(const weir_vip_key& key) { return services_.erase(key); }

Result<Tables::Entries<weir_range_key, VipId>> KernelTables::read_ranges() {
  return read_ids(ranges_, WEIR_RANGES_MAX);
}

Result<void> KernelTables::write_range(const weir_range_key& key, VipId id) {
  return ranges_.set(key, id.value());
}

Result<void> KernelTables::erase_range(const weir_range_key& key) { return ranges_.erase(key); }

Result<Tables::Entries<weir_address, std::uint32_t>> KernelTables::read_addresses() {
  return addresses_.entries(WEIR_ADDRESSES_MAX);
}

Result<void> KernelTables::write_address(const weir_address& address, std::uint32_t flags) {
  return addresses_.set(address, flags);
}

Result<void> KernelTables::erase_address(const weir_address& address) {
  return addresses_.erase(address);
}

Result<Tables::Entries<weir_prefix_key, weir_address>> KernelTables::read_prefixes() {
  return prefixes_.entries(WEIR_VIPS_MAX);
}

Result<void> KernelTables::write_prefix(const weir_prefix_key& key, const weir_address& first) {
  return prefixes_.set(key, first);
}

Result<void> KernelTables::erase_prefix(const weir_prefix_key& key) { return prefixes_.erase(key); }

Result<AddressFilter> KernelTables::read_filter() {
  auto words = filter_.entries(AddressFilter{}.size());
  if (!words) return std::move(words).error();
  AddressFilter filter{};
  for (const auto& [index, word] : *words)
    filter[index] = word;
  return filter;
}

Result<void> KernelTables::write_filter_word(std::uint32_t index, std::uint64_t word) {
  return filter_.set(index, word);
}

// ------------------------------------------------------------- what VIPs have for themselves

Result<std::optional<UniqueFd>> KernelTables::inner(PerVip kind, VipId vip) const {
  Result<std::optional<std::uint32_t>> map_id = outer(kind).get(vip.value());
  if (!map_id) return std::move(map_id).error();
  if (!map_id->has_value()) return std::optional<UniqueFd>{};
  UniqueFd fd{::bpf_map_get_fd_by_id(**map_id)};
  if (!fd) return Error::from_errno(fmt::format("opening a map of VIP id {}", vip.value()));
  return std::optional<UniqueFd>{std::move(fd)};
}

/// Staged maps are held by descriptors, of which a process has a limited number.
Result<void> KernelTables::stage(PerVip kind, VipId vip, TableStore::SharedFd map) {
  constexpr std::size_t kStagedMax = 512;
  staged_[static_cast<std::size_t>(kind)].push_back({vip, std::move(map)});
  std::size_t count = 0;
  for (const std::vector<Staged>& staged : staged_)
    count += staged.size();
  return count < kStagedMax ? Result<void>{} : publish();
}

Result<void> KernelTables::stage_erasure(PerVip kind, VipId id) {
  if (kind != PerVip::kTable) return stage(kind, id, TableStore::SharedFd{});
  // The kernel takes maps out of their slots one by one, and waits for packets after each. So
  // tables, which every VIP has, give way to one that leads nowhere.
  auto none = table_store_.none();
  if (!none) return std::move(none).error();
  table_store_.forget(id);
  return stage(kind, id, *std::move(none));
}

Result<void> KernelTables::publish() {
  for (const PerVip kind : kPerVip) {
    if (Result<void> done = publish(kind); !done) return done;
  }
  return {};
}

/// One swap for each VIP: a packet meets the old map or the new one, never a mixture. The kernel
/// returns when no program can be using an old one any more.
Result<void> KernelTables::publish(PerVip kind) {
  const std::vector<Staged> staged = std::exchange(staged_[static_cast<std::size_t>(kind)], {});
  std::vector<std::uint32_t> keys;
  std::vector<std::uint32_t> fds;
  for (const Staged& change : staged) {
    if (!change.map) {
      if (Result<void> erased = outer(kind).erase(change.vip.value()); !erased) return erased;
      continue;
    }
    keys.push_back(change.vip.value());
    fds.push_back(static_cast<std::uint32_t>(change.map->get()));
  }
  return outer(kind).set_all(keys, fds);
}

Result<std::vector<VipId>> KernelTables::list(PerVip kind) {
  Result<std::vector<control::VipKey>> keys = read_keys();
  if (!keys) return std::move(keys).error();
  std::vector<VipId> ids;
  for (std::uint32_t id = 0; id < keys->size(); ++id) {
    // An id's key is written before its maps. Not all are asked for: before Linux 6.8 each question
    // waits until all CPUs are done with their packets, some milliseconds.
    if (id != kNode.value() && (*keys)[id].address == wire::IpAddress{}) continue;
    auto map_id = outer(kind).get(id);
    if (!map_id) return std::move(map_id).error();
    if (map_id->has_value() &&
        !(kind == PerVip::kTable && table_store_.is_none(VipId{id}, **map_id)))
      ids.emplace_back(id);
  }
  return ids;
}

Result<Table> KernelTables::read_table(VipId vip) {
  Result<std::optional<std::uint32_t>> map_id = outer(PerVip::kTable).get(vip.value());
  if (!map_id) return std::move(map_id).error();
  return map_id->has_value() ? table_store_.read(vip, **map_id) : Table{};
}

Result<void> KernelTables::stage_table(VipId vip, const Table& table) {
  auto map = table_store_.make(vip, table);
  return map ? stage(PerVip::kTable, vip, *std::move(map)) : std::move(map).error();
}

Result<std::vector<ListEntry>> KernelTables::read_list(VipId vip) {
  Result<std::optional<UniqueFd>> fd = inner(PerVip::kList, vip);
  if (!fd) return std::move(fd).error();
  std::vector<ListEntry> list;
  if (!fd->has_value()) return list;
  const Map<weir_prefix_key, std::uint32_t> map{std::move(**fd), "weir_list"};
  auto entries = map.entries(WEIR_LIST_PREFIXES_MAX);
  if (!entries) return std::move(entries).error();
  for (const auto& [prefix, answer] : *entries)
    list.push_back({prefix, answer});
  return list;
}

Result<void> KernelTables::stage_list(VipId vip, std::span<const ListEntry> entries) {
  Result<UniqueFd> fd = create_inner_map({.type = BPF_MAP_TYPE_LPM_TRIE,
                                          .name = "weir_list",
                                          .key_bytes = sizeof(weir_prefix_key),
                                          .value_bytes = sizeof(std::uint32_t),
                                          .entries = WEIR_LIST_PREFIXES_MAX,
                                          .flags = BPF_F_NO_PREALLOC});
  if (!fd) return std::move(fd).error();
  Map<weir_prefix_key, std::uint32_t> list{*std::move(fd), "weir_list"};
  std::vector<weir_prefix_key> keys;
  std::vector<std::uint32_t> answers;
  for (const ListEntry& entry : entries) {
    keys.push_back(entry.prefix);
    answers.push_back(entry.answer);
  }
  if (Result<void> filled = list.set_all(keys, answers); !filled) return filled;
  return stage(PerVip::kList, vip, std::move(list).release());
}

Result<std::vector<QuicEntry>> KernelTables::read_quic(VipId vip) {
  Result<std::optional<UniqueFd>> fd = inner(PerVip::kQuic, vip);
  if (!fd) return std::move(fd).error();
  std::vector<QuicEntry> ids;
  if (!fd->has_value()) return ids;
  const Map<weir_quic_key, std::uint32_t> map{std::move(**fd), "weir_quic_ids"};
  auto entries = map.entries(WEIR_BACKENDS_MAX);
  if (!entries) return std::move(entries).error();
  for (const auto& [server_id, backend] : *entries)
    ids.push_back({server_id, backend});
  return ids;
}

Result<void> KernelTables::stage_quic(VipId vip, std::span<const QuicEntry> entries) {
  Result<UniqueFd> fd = create_inner_map({.type = BPF_MAP_TYPE_HASH,
                                          .name = "weir_quic_ids",
                                          .key_bytes = sizeof(weir_quic_key),
                                          .value_bytes = sizeof(std::uint32_t),
                                          .entries = WEIR_BACKENDS_MAX,
                                          .flags = BPF_F_NO_PREALLOC});
  if (!fd) return std::move(fd).error();
  Map<weir_quic_key, std::uint32_t> ids{*std::move(fd), "weir_quic_ids"};
  for (const QuicEntry& entry : entries) {
    if (Result<void> written = ids.set(entry.server_id, entry.backend); !written) return written;
  }
  return stage(PerVip::kQuic, vip, std::move(ids).release());
}

Result<UniqueFd> KernelTables::make_sources() {
  return create_inner_map({.type = BPF_MAP_TYPE_ARRAY,
                           .name = "weir_sources",
                           .key_bytes = sizeof(std::uint32_t),
                           .value_bytes = sizeof(weir_source_set),
                           .entries = WEIR_SOURCE_SETS,
                           .flags = 0});
}

Result<void> KernelTables::stage_sources(VipId vip) {
  Result<UniqueFd> fd = make_sources();
  if (!fd) return std::move(fd).error();
  return stage(PerVip::kSources, vip, *std::move(fd));
}

// --------------------------------------------------------------------------- backends and flows

Result<std::vector<BackendId>> KernelTables::read_members() {
  auto entries = members_.entries(WEIR_MEMBERS_MAX);
  if (!entries) return std::move(entries).error();
  std::vector<BackendId> members(WEIR_MEMBERS_MAX);
  for (const auto& [index, id] : *entries)
    members[index] = BackendId{id};
  return members;
}

Result<void> KernelTables::write_member(std::uint32_t index, BackendId backend) {
  return members_.set(index, backend.value());
}

Result<std::vector<weir_backend>> KernelTables::read_backends() {
  auto entries = backends_.entries(WEIR_BACKENDS_MAX);
  if (!entries) return std::move(entries).error();
  std::vector<weir_backend> backends(WEIR_BACKENDS_MAX);
  for (const auto& [id, backend] : *entries)
    backends[id] = backend;
  return backends;
}

Result<void> KernelTables::write_backend(BackendId id, const weir_backend& backend) {
  return backends_.set(id.value(), backend);
}

Result<void> KernelTables::clear_vip_counters(VipId id) { return vip_counters_.clear(id.value()); }

Result<void> KernelTables::clear_backend_counters(BackendId id) {
  return backend_counters_.clear(id.value());
}

/// NAT records need no sweep: each is held against its backend's address and its VIP.
Result<void> KernelTables::forget_void_flows() {
  Result<std::vector<weir_backend>> backends = read_backends();
  if (!backends) return std::move(backends).error();
  return forget_flows(flows_.fd(), [&](std::uint32_t id) {
    return id < backends->size() && ((*backends)[id].flags & WEIR_BACKEND_IN_USE) != 0;
  });
}

Result<FlowCount> KernelTables::count_flows() const { return l4::count_flows(flows_.fd()); }

Result<NatCount> KernelTables::count_nat_flows(std::uint32_t stamp) const {
  return l4::count_nat_flows(nat_flows_.fd(), stamp);
}

Result<BackendFlows> KernelTables::count_flows_of(BackendId id, bool is_tcp,
                                                  std::uint32_t stamp) const {
  return l4::count_flows_of(flows_.fd(), id.value(), is_tcp, stamp);
}

Result<BackendFlows> KernelTables::count_nat_flows_of(BackendId id, std::uint32_t stamp) const {
  return l4::count_nat_flows_of(nat_flows_.fd(), id.value(), stamp);
}

Result<void> KernelTables::reopen_nat_flows(const std::string& directory) {
  return open_map(nat_flows_, directory, "weir_nat_flows");
}

// -------------------------------------------------------------------------------------- devices

Result<void> KernelTables::allow_device(std::uint32_t ifindex) {
  return devices_.set(ifindex, ifindex);
}

Result<void> KernelTables::set_worker(std::uint32_t worker, std::uint32_t ifindex) {
  return workers_.set(worker, ifindex);
}

Result<std::optional<std::uint32_t>> KernelTables::worker(std::uint32_t worker) {
  return workers_.get(worker);
}

Result<void> KernelTables::set_other_lane(std::uint32_t ifindex, std::uint32_t other) {
  return other_lane_.set(ifindex, other);
}

Result<void> KernelTables::set_return_device(std::uint32_t ifindex) {
  return return_device_.set(0, ifindex);
}

}  // namespace weir::l4
