#include "l4/kernel_tables.h"

#include <algorithm>
#include <numeric>

#include "l4/programmer.h"

namespace weir::l4 {
namespace {

/// Every read of a whole flow table ends, even while the program adds entries.
constexpr std::size_t kFlowsReadMax = 1U << 26;

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

}  // namespace

Result<KernelTables> KernelTables::open(const std::string& directory) {
  KernelTables tables;
  Result<void> opened;
  const auto take = [&](auto& map, const char* name) {
    if (opened) opened = open_map(map, directory, name);
  };
  take(tables.vips_, "weir_vips");
  take(tables.tables_, "weir_tables");
  take(tables.backends_, "weir_backends");
  take(tables.owners_, kOwnersMap);
  take(tables.flows_, "weir_flows");
  take(tables.workers_, "weir_l7_workers");
  take(tables.l7_addresses_, "weir_l7_addresses");
  take(tables.devices_, "weir_devices");
  take(tables.return_device_, "weir_return_device");
  take(tables.counters_, "weir_counters");
  take(tables.return_counters_, "weir_return_counters");
  take(tables.vip_counters_, "weir_vip_counters");
  take(tables.backend_counters_, "weir_backend_counters");
  if (!opened) return std::move(opened).error();
  return tables;
}

Result<std::vector<Tables::VipEntry>> KernelTables::read_vips() {
  return vips_.entries(2 * WEIR_VIPS_MAX);
}

Result<void> KernelTables::write_vip(const weir_vip_key& key, const weir_vip& vip) {
  return vips_.set(key, vip);
}

Result<void> KernelTables::erase_vip(const weir_vip_key& key) { return vips_.erase(key); }

Result<std::optional<UniqueFd>> KernelTables::inner_table(VipId vip) {
  Result<std::optional<std::uint32_t>> map_id = tables_.get(vip.value());
  if (!map_id) return std::move(map_id).error();
  if (!map_id->has_value()) return std::optional<UniqueFd>{};
  UniqueFd fd{::bpf_map_get_fd_by_id(**map_id)};
  if (!fd) return Error::from_errno(fmt::format("opening the table of VIP id {}", vip.value()));
  return std::optional<UniqueFd>{std::move(fd)};
}

Result<std::vector<BackendId>> KernelTables::read_table(VipId vip, std::uint32_t size) {
  Result<std::optional<UniqueFd>> inner = inner_table(vip);
  if (!inner) return std::move(inner).error();
  std::vector<BackendId> slots;
  if (!inner->has_value()) return slots;
  const Map<std::uint32_t, std::uint32_t> table{std::move(**inner), "weir_table"};
  auto entries = table.entries(size);
  if (!entries) return std::move(entries).error();
  slots.resize(entries->size());
  for (const auto& [slot, id] : *entries)
    slots[slot] = BackendId{id};
  return slots;
}

Result<std::vector<VipId>> KernelTables::list_tables() {
  std::vector<VipId> ids;
  for (std::uint32_t id = 1; id < WEIR_VIPS_MAX; ++id) {
    auto map_id = tables_.get(id);
    if (!map_id) return std::move(map_id).error();
    if (map_id->has_value()) ids.emplace_back(id);
  }
  return ids;
}

Result<void> KernelTables::publish_table(VipId vip, std::span<const BackendId> slots) {
  LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_INNER_MAP);
  const auto size = static_cast<std::uint32_t>(slots.size());
  const UniqueFd inner{::bpf_map_create(BPF_MAP_TYPE_ARRAY, "weir_table", sizeof(std::uint32_t),
                                        sizeof(std::uint32_t), size, &options)};
  if (!inner) return Error::from_errno("creating a Maglev table");
  std::vector<std::uint32_t> keys(size);
  std::iota(keys.begin(), keys.end(), 0U);
  std::vector<std::uint32_t> values(size);
  std::ranges::transform(slots, values.begin(), &BackendId::value);
  std::uint32_t count = size;
  if (::bpf_map_update_batch(inner.get(), keys.data(), values.data(), &count, nullptr) != 0)
    return Error::from_errno("filling a Maglev table");
  // One swap: a packet meets the old table or the new one, never a mixture. The kernel returns
  // when no program can be using the old one any more.
  return tables_.set(vip.value(), static_cast<std::uint32_t>(inner.get()));
}

Result<void> KernelTables::erase_table(VipId vip) { return tables_.erase(vip.value()); }

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

Result<std::vector<VipId>> KernelTables::read_owners() {
  auto entries = owners_.entries(WEIR_BACKENDS_MAX);
  if (!entries) return std::move(entries).error();
  std::vector<VipId> owners(WEIR_BACKENDS_MAX);
  for (const auto& [id, owner] : *entries)
    owners[id] = VipId{owner};
  return owners;
}

Result<void> KernelTables::write_owner(BackendId id, VipId owner) {
  return owners_.set(id.value(), owner.value());
}

Result<void> KernelTables::clear_vip_counters(VipId id) { return vip_counters_.clear(id.value()); }

Result<void> KernelTables::clear_backend_counters(BackendId id) {
  return backend_counters_.clear(id.value());
}

Result<void> KernelTables::forget_void_flows() {
  Result<std::vector<weir_backend>> backends = read_backends();
  if (!backends) return std::move(backends).error();
  auto flows = flows_.entries(kFlowsReadMax);
  if (!flows) return std::move(flows).error();
  for (const auto& [key, flow] : *flows) {
    const bool in_use = flow.backend_id < backends->size() &&
                        ((*backends)[flow.backend_id].flags & WEIR_BACKEND_IN_USE) != 0;
    if (in_use) continue;
    if (Result<void> erased = flows_.erase(key); !erased) return erased;
  }
  return {};
}

Result<void> KernelTables::allow_device(std::uint32_t ifindex) {
  return devices_.set(ifindex, ifindex);
}

Result<void> KernelTables::set_worker(std::uint32_t worker, std::uint32_t ifindex) {
  return workers_.set(worker, ifindex);
}

Result<void> KernelTables::set_return_device(std::uint32_t ifindex) {
  return return_device_.set(0, ifindex);
}

Result<void> KernelTables::set_l7_addresses(const std::vector<wire::IpAddress>& addresses) {
  for (const wire::IpAddress& address : addresses) {
    if (Result<void> added = l7_addresses_.set(abi_address(address), 1); !added) return added;
  }
  auto entries = l7_addresses_.entries(WEIR_L7_ADDRESSES_MAX);
  if (!entries) return std::move(entries).error();
  for (const auto& [key, value] : *entries) {
    if (std::ranges::find(addresses, address_of(key)) != addresses.end()) continue;
    if (Result<void> erased = l7_addresses_.erase(key); !erased) return erased;
  }
  return {};
}

}  // namespace weir::l4
